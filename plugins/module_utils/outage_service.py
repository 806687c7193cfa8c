"""A node's runtime under whichever service manager keeps it: killed with all that is its own, stopped, started again.

Keeps: what was killed stays dead until it is started; a start returns once the manager has taken it. Leaves to others: the
managers' own ways (supervisord.py, systemd.py, launchd.py), whether the node is ready (who asks it).
"""

from __future__ import annotations

import os
import signal
import xmlrpc.client
from contextlib import suppress

from ansible_collections.outlast.agents.plugins.module_utils import launchd, managers, processes, systemd
from ansible_collections.outlast.agents.plugins.module_utils.supervisord import Supervisord
from ansible_collections.outlast.agents.plugins.module_utils.waiting import wait

__all__ = ["Service"]

_NAME = "runtime"
_PATIENCE_S = 30.0
_BACKENDS: dict[str, type[managers.Backend]] = {"systemd": systemd.Manager, "launchd": launchd.Manager}


class Service:
    """The runtime of one home. Methods raise ManagerTrouble, SupervisorTrouble, xmlrpc.client.Error or OSError."""

    def __init__(self, home: str, manager: str) -> None:
        self._home = home
        self._backend = _BACKENDS[manager](_NAME) if manager in _BACKENDS else None
        self._supervisord = Supervisord(home)

    def kill(self) -> int:
        """Kill all that runs out of the home, as a power cut does; return how many processes that were."""
        killed: set[int] = set()

        def all_gone() -> bool:
            found = {one.pid for one in processes.of_home(self._home)}
            for pid in found:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            killed.update(found)
            if found and self._backend:
                # A service manager survives, and would start it again at once.
                self._backend.stop()
            return not found

        if not wait(all_gone, _PATIENCE_S):
            raise TimeoutError(f"{self._home}: what runs there does not die")
        return len(killed)

    def stop(self) -> None:
        """Stop it in an orderly way; nothing where it does not run."""
        if self._backend:
            self._backend.stop()
        elif self._supervisord.pid() is not None and self._runs():
            self._supervisord.call("stopProcess", _NAME)

    def start(self) -> None:
        """Start it; nothing where it runs."""
        if self._backend:
            # What stops a service makes some managers forget it.
            for step in managers.plan("started", self._backend.seen(), changed=False, outdated=False):
                getattr(self._backend, step)()
        elif self._supervisord.pid() is None:
            self._supervisord.start()
        elif not self._runs():
            self._supervisord.call("startProcess", _NAME)

    def restart(self) -> None:
        """Have it run with what is on the disk now."""
        self.stop()
        self.start()

    def _runs(self) -> bool:
        try:
            return self._supervisord.state(_NAME)["statename"] in {"RUNNING", "STARTING", "BACKOFF"}
        except xmlrpc.client.Fault:
            return False
