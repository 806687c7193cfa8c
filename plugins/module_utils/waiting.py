"""Wait for a condition, with a limit."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait(condition: Callable[[], object], patience_s: float) -> bool:
    """Wait until condition() is true, at most patience_s seconds; return whether it became true."""
    deadline = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
