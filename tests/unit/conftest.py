"""What several unit tests stand on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.doorway import Doorway


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Doorway]:
    """A node's door, with the node behind it."""
    made = Doorway(tmp_path)
    yield made
    made.close()
