"""Goes through folders that a program wrote, to look and to remove, however deep they are and whatever lies in them.

Rules kept here: two folders are open at most and nothing is named by its path, so that neither depth nor the length of names
ends it; no link is followed; a folder that its writer took from itself the right to is opened again; where folders are moved
meanwhile it stops, and does not go on elsewhere.

Left to others: where such folders are, and who waits for it (work.leavings).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

__all__ = ["remove", "through"]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def through(
    folder: Path, enter: Callable[[int], list[str] | None], leave: Callable[[int, str], None] = lambda *_: None
) -> None:
    """Go through ``folder`` and all below it.

    ``enter(fd)`` says which folders in it to go to, and None to stop; ``leave(fd, name)`` is told once the folder ``name`` in
    the folder ``fd`` is done with. Raises OSError where ``folder`` cannot be opened, or its way back is gone.
    """
    here = _opened(os.fspath(folder), None)
    above: list[tuple[str, tuple[int, int], list[str]]] = []
    name = ""
    try:
        while (inside := enter(here)) is not None:
            above.append((name, _identity(here), inside))
            while (below := _next(here, inside)) is None:
                # Up, to the next folder that has another in it.
                name, _, _ = above.pop()
                if not above:
                    return
                up = os.open("..", _FOLDER, dir_fd=here)
                os.close(here)
                here = up
                if _identity(here) != above[-1][1]:
                    return
                leave(here, name)
                inside = above[-1][2]
            os.close(here)
            name, here = below
    finally:
        os.close(here)


def remove(folder: Path, going: Callable[[], bool] = lambda: True) -> bool:
    """Remove ``folder``, or a file or link of that name, for as long as ``going()``. What resists stays; returns whether all
    is gone. Raises nothing."""

    def enter(here: int) -> list[str] | None:
        inside: list[str] = []
        with contextlib.suppress(OSError):
            os.fchmod(here, 0o700)
        removed = True
        # Once more where something was removed: not every file system lists all while it changes.
        while removed:
            removed, inside = False, []
            with contextlib.suppress(OSError), os.scandir(here) as entries:
                for entry in entries:
                    if not going():
                        return None
                    with contextlib.suppress(OSError):
                        if entry.is_dir(follow_symlinks=False):
                            inside.append(entry.name)
                        else:
                            os.unlink(entry.name, dir_fd=here)
                            removed = True
        return inside

    def leave(here: int, name: str) -> None:
        with contextlib.suppress(OSError):
            os.rmdir(name, dir_fd=here)

    with contextlib.suppress(OSError):
        through(folder, enter, leave)
    with contextlib.suppress(OSError):
        if folder.is_dir() and not folder.is_symlink():
            folder.rmdir()
        else:
            folder.unlink()
    return not os.path.lexists(folder)


def _next(here: int, inside: list[str]) -> tuple[str, int] | None:
    """The next of these folders that can be opened."""
    while inside:
        name = inside.pop()
        with contextlib.suppress(OSError):
            return name, _opened(name, here)
    return None


def _opened(name: str, here: int | None) -> int:
    """Open a folder, with the right to look in it. Raises OSError."""
    try:
        fd = os.open(name, _FOLDER, dir_fd=here)
    except PermissionError:
        # Of a link this would have been another error.
        os.chmod(name, 0o700, dir_fd=here)
        fd = os.open(name, _FOLDER, dir_fd=here)
    try:
        if os.fstat(fd).st_mode & 0o500 != 0o500:
            os.fchmod(fd, 0o700)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _identity(here: int) -> tuple[int, int]:
    status = os.fstat(here)
    return status.st_dev, status.st_ino
