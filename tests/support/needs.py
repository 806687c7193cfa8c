"""What a test needs of the machine: where it is not to be had the test is skipped, unless the machine was said to have it."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

__all__ = ["missing"]


def missing(what: str) -> NoReturn:
    """Skip, because ``what`` is not here. With OUTLAST_NEEDS_ROOT=1, as .ci/run sets it, fail instead."""
    if os.environ.get("OUTLAST_NEEDS_ROOT"):
        pytest.fail(f"OUTLAST_NEEDS_ROOT is set, and this machine lacks {what}", pytrace=False)
    pytest.skip(f"this machine lacks {what}")
