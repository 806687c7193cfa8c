"""Runs on a node as root: print as JSON what of a provisioned machine may trouble its node later.

Keeps: standard library only; changes nothing; runs no program. Leaves to others: what follows from it
(plugins/action/closer.py).
"""

from __future__ import annotations

import ctypes
import json
import os
import sys

TIME_ERROR = 5
# Room for the kernel's answer, whatever its layout.
ANSWER_BYTES = 512


def is_container() -> bool:
    """Whether the kernel, and so the clock, is somebody else's."""
    return any(map(os.path.exists, ("/run/.containerenv", "/.dockerenv", "/run/systemd/container")))


def is_clock_free() -> bool:
    """Whether nothing holds the clock to the network's time, as the kernel was told. A Mac's kernel is not told."""
    if sys.platform != "linux" or is_container():
        return False
    return bool(ctypes.CDLL(None).ntp_gettime(ctypes.create_string_buffer(ANSWER_BYTES)) == TIME_ERROR)


def waits_for_restart() -> bool:
    """Whether an update, or the kernel that replaced the running one, asks for a restart of the machine."""
    if os.path.exists("/var/run/reboot-required"):
        return True
    modules = f"/lib/modules/{os.uname().release}"
    return (
        sys.platform == "linux" and not is_container() and os.path.isdir("/lib/modules") and not os.path.isdir(modules)
    )


print(json.dumps({"clock_free": is_clock_free(), "restart": waits_for_restart(), "trial": os.path.exists(sys.argv[1])}))
