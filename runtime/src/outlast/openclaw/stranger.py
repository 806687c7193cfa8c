"""Who has the gateway's port, before it is started: told in words that name the program.

Left to others: what to do about it (openclaw.launch).
"""

from __future__ import annotations

import contextlib
import socket

__all__ = ["is_taken", "who"]

_PATIENCE_S = 1.0
_PLACES = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))


def is_taken(port: int) -> bool:
    """Does anybody listen on this port of loopback, where the gateway listens?"""
    for family, host in _PLACES:
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.settimeout(_PATIENCE_S)
            if probe.connect_ex((host, port)) == 0:
                return True
    return False


def who(port: int) -> str:
    """Process id and program; another user's may not be known to us."""
    import psutil

    with contextlib.suppress(psutil.Error, OSError):
        for found in psutil.net_connections("tcp"):
            if found.status == psutil.CONN_LISTEN and found.laddr and found.laddr.port == port and found.pid:
                with contextlib.suppress(psutil.Error):
                    return f"process {found.pid} ({psutil.Process(found.pid).name()})"
    return "a program of another user"
