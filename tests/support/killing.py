"""kill -9 of what a process does to the disk, at the step that is asked for: between two of them nothing that lasts happens."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

__all__ = ["killed_at"]

# Whatever changes names, and whatever waits for the disk.
STEPS = ("rename", "unlink", "mkdir", "symlink", "fsync", "rmdir", "chmod")


def killed_at(step: int, act: Callable[[], object]) -> bool:
    """Do it in a process of its own that is killed before the step of that number, with all that it started; False where it
    ended before. What it starts counts on by itself."""
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        left = step

        def counted(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **more: Any) -> Any:
                nonlocal left
                left -= 1
                if left < 0:
                    os.killpg(0, signal.SIGKILL)
                return real(*args, **more)

            return call

        for name in STEPS:
            setattr(os, name, counted(getattr(os, name)))
        code = 1
        try:
            act()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return True
    assert os.waitstatus_to_exitcode(status) == 0
    return False
