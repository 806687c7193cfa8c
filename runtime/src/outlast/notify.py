"""Tells the service manager how the process is, as sd_notify(3) says: one datagram of ``NAME=value`` lines.

Rules kept here: nothing happens where no manager asked for it; a manager that cannot be reached is no reason to fail; the
variables are taken out of the environment, so that no agent speaks for its node.

Left to others: when there is something to tell (node).
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import MutableMapping

__all__ = ["Manager"]


class Manager:
    """The service manager, as far as it wants to be told."""

    def __init__(self, environment: MutableMapping[str, str] | None = None) -> None:
        """Without an environment, nobody is told anything."""
        told = environment if environment is not None else {}
        address = told.pop("NOTIFY_SOCKET", "")
        within_us = told.pop("WATCHDOG_USEC", "")
        meant = told.pop("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        # A leading @ stands for the zero byte of a name in the abstract namespace.
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self.beat_s = 0.0
        """How often, in seconds, a sign of life is due; 0 where nobody waits for one."""
        if self._address and meant and within_us.isdecimal():
            # Half of the time, so that a late one is not the last.
            self.beat_s = int(within_us) / 2e6

    def ready(self, status: str) -> None:
        """The process serves; ``status`` is one line for a person."""
        self._tell("READY=1", f"STATUS={status}")

    def alive(self, status: str) -> None:
        """A sign of life."""
        self._tell("WATCHDOG=1", f"STATUS={status}")

    def stopping(self, status: str) -> None:
        """The process is about to end; no sign of life is due any more."""
        self._tell("STOPPING=1", f"STATUS={status}")

    def _tell(self, *lines: str) -> None:
        if not self._address:
            return
        # A manager that is being restarted has no ear for a moment, and the next sign of life finds it again.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.sendto("\n".join(lines).encode(), self._address)
