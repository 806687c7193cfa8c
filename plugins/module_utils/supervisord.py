"""Talk to a home's supervisord over its Unix socket, start it, and end it.

Keeps: standard library only, because a node's own Python has no supervisor in it; every wait has a limit. Leaves to
others: the configuration files (roles/service) and when to restart what (plugins/modules/supervised.py).
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import xmlrpc.client
from typing import Any

from ansible_collections.outlast.agents.plugins.module_utils import local_http
from ansible_collections.outlast.agents.plugins.module_utils.waiting import wait

PASSED_ON = ("HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "SHELL", "TMPDIR", "TZ", "USER")
# Its programs end one after the other, each in its own time.
PATIENCE_S = 90.0


class SupervisorTrouble(Exception):
    """One line that says what is wrong with supervisord and the mend."""


class Supervisord:
    """The supervisord of one home."""

    def __init__(self, home: str) -> None:
        self.home = home
        self.config = os.path.join(home, "etc", "supervisord.conf")
        self._socket = os.path.join(home, "run", "supervisor.sock")

    def call(self, method: str, *arguments: Any) -> Any:
        """Call `supervisor.METHOD`; raises OSError when nobody answers, xmlrpc.client.Fault when it refuses."""
        transport = local_http.UnixTransport(self._socket, PATIENCE_S)
        with xmlrpc.client.ServerProxy("http://supervisor", transport=transport, allow_none=True) as proxy:
            return getattr(proxy.supervisor, method)(*arguments)

    def pid(self) -> int | None:
        """Its process id, or None when it does not run."""
        try:
            return int(self.call("getPID"))
        except (OSError, xmlrpc.client.Error):
            return None

    def start(self) -> None:
        """Start it and wait until it answers; raises SupervisorTrouble."""
        environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        program = os.path.join(self.home, "current", "bin", "supervisord")
        try:
            done = subprocess.run(
                [program, "-c", self.config],
                cwd=self.home,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                timeout=PATIENCE_S,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise SupervisorTrouble(f"supervisord: {error}; mend: run the same command again") from error
        said = (done.stderr or done.stdout).strip().splitlines()
        if done.returncode:
            raise SupervisorTrouble(
                f"supervisord: {said[-1] if said else 'did not start'}; mend: see {self.home}/var/log"
            )
        if not wait(lambda: self.pid() is not None, PATIENCE_S):
            raise SupervisorTrouble(f"supervisord: does not answer; mend: see {self.home}/var/log/supervisord.log")

    def stop(self) -> bool:
        """Have it stop its programs and end; return whether it ran. Raises SupervisorTrouble when it does not end."""
        pid = self.pid()
        if pid is None:
            return False
        with contextlib.suppress(OSError):
            self.call("shutdown")
        if not wait(lambda: not runs(pid), PATIENCE_S):
            raise SupervisorTrouble(f"supervisord: process {pid} does not end; mend: kill {pid}, then run this again")
        return True

    def load(self, name: str) -> bool:
        """Take over what changed in the configuration files; return whether the program was (re)started by it."""
        added, changed, removed = self.call("reloadConfig")[0]
        for group in [*removed, *changed]:
            self.call("stopProcessGroup", group)
            self.call("removeProcessGroup", group)
        for group in [*added, *changed]:
            self.call("addProcessGroup", group)
        return name in added or name in changed

    def state(self, name: str) -> dict[str, Any]:
        """What supervisord knows of a program: statename, pid, spawnerr, exitstatus and more."""
        return dict(self.call("getProcessInfo", name))


def runs(pid: int) -> bool:
    """Whether a process of that id is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
