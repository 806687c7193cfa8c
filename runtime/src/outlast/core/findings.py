"""What a check found: said the same way by a start, the doctor, the cleaner and a recovery.

Left to others: finding it, and putting it right.
"""

from __future__ import annotations

import msgspec

__all__ = ["Finding"]


class Finding(msgspec.Struct, frozen=True):
    """One thing that was not as it should be.

    ``about`` names the file or unit; ``done`` says what was done about it, empty where nothing had to be; where a person is
    needed ``ok`` is false, and ``done`` says what to do.
    """

    about: str
    found: str
    done: str = ""
    ok: bool = True

    def line(self) -> str:
        """All of it on one line."""
        return f"{self.about}: {self.found}" + (f"; {self.done}" if self.done else "")
