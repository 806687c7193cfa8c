"""How a program that a playbook runs here answers: one line of JSON.

Rules kept here: a trouble is an answer too, as ``error``, and never a traceback; nothing else is printed.

Left to others: what is done (applying, adopting, furnishing), and what a person reads (plugins/action).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from outlast.errors import OutlastError

__all__ = ["answer"]


def answer(work: Callable[[], Mapping[str, Any]]) -> int:
    """Do it and print what came of it, or ``error`` where it could not be done. Returns the exit code."""
    try:
        told = work()
    except OutlastError as error:
        told = {"error": str(error)}
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        told = {"error": f"{place}{error.strerror or error}; mend: see that it can be written"}
    print(json.dumps(told))
    return 0
