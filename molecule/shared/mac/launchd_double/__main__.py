"""`python -m launchd_double daemon`, or the arguments of launchctl. LAUNCHD_ROOT is the root that both look below."""

from __future__ import annotations

import json
import os
import socket
import sys

# Below the root.
SOCKET = "var/run/launchd.sock"
# Failures in a row before KeepAlive is not honoured any more. Apple's launchd tells no number.
PATIENCE = 8


def main(argv: list[str]) -> int:
    """Be launchd, or ask it; returns the exit code."""
    root = os.environ.get("LAUNCHD_ROOT", "/")
    if argv == ["daemon"]:
        # launchctl is asked often, and starts in half the time without these.
        import asyncio

        from launchd_double import daemon

        patience = int(os.environ.get("LAUNCHD_PATIENCE", PATIENCE))
        asyncio.run(daemon.Launchd(root, os.path.join(root, SOCKET), patience).run())
        return 0
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        try:
            line.connect(os.path.join(root, SOCKET))
            line.sendall(json.dumps(argv).encode() + b"\n")
            answer = json.loads(line.makefile().read())
        except (OSError, ValueError) as error:
            print(f"launchd does not answer: {error}", file=sys.stderr)
            return 1
    sys.stdout.write(answer["out"])
    sys.stderr.write(answer["err"])
    return int(answer["code"])


sys.exit(main(sys.argv[1:]))
