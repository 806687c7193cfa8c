"""Services under systemd: outlast-NAME.service, with a timer where it runs by the clock.

Keeps: the system's instance, by systemctl and journalctl alone. Leaves to others: what is in the unit files (roles/service),
when to do what (managers.py).
"""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence

from ansible_collections.outlast.agents.plugins.module_utils.managers import (
    Answer,
    Backend,
    ManagerTrouble,
    Seen,
    ask,
    order,
)

UNITS = "/etc/systemd/system"
PROPERTIES = "Id,LoadState,UnitFileState,ActiveState,SubState,MainPID,NeedDaemonReload"


class Manager(Backend):
    """One service under systemd."""

    def __init__(self, name: str, schedule: str = "") -> None:
        super().__init__(name, schedule)
        self.service = f"outlast-{name}.service"
        self.timer = f"outlast-{name}.timer"
        # What systemd starts at boot and keeps: the timer, or else the service itself.
        self.unit = self.service if schedule in {"", "boot"} else self.timer

    @classmethod
    def known(cls) -> list[str]:
        """See Backend."""
        names = [os.path.basename(path) for path in glob.glob(f"{UNITS}/outlast-*.service")]
        return sorted(name[len("outlast-") : -len(".service")] for name in names if not name.endswith("-rearm.service"))

    def definition_paths(self) -> list[str]:
        """See Backend."""
        return [f"{UNITS}/outlast-{self.name}{end}" for end in (".service", ".timer", "-rearm.service", "-rearm.timer")]

    def questions(self) -> list[list[str]]:
        """See Backend."""
        return [["systemctl", "show", f"--property={PROPERTIES}", *map(os.path.basename, self.definition_paths())]]

    def understand(self, answers: Sequence[Answer]) -> Seen:
        """See Backend."""
        units = {}
        for block in answers[0][1].split("\n\n"):
            told = dict(line.partition("=")[::2] for line in block.splitlines())
            units[told.get("Id", "")] = told
        unit, service = units.get(self.unit, {}), units.get(self.service, {})
        # Between two tries it does not run, though systemd calls that activating.
        at_work = unit.get("ActiveState") in {"active", "activating", "reloading"}
        return Seen(
            loaded=unit.get("LoadState") == "loaded",
            enabled=unit.get("UnitFileState") == "enabled",
            running=at_work and unit.get("SubState") != "auto-restart",
            pid=int(service.get("MainPID") or 0),
            failed="failed" in (unit.get("ActiveState"), service.get("ActiveState")),
            stale=any(told.get("NeedDaemonReload") == "yes" for told in units.values()),
        )

    def load(self) -> None:
        """See Backend."""
        self._order("daemon-reload")
        # With another schedule other units were needed: what is left of them is no longer wanted.
        gone = [os.path.basename(path) for path in self.definition_paths() if not os.path.exists(path)]
        if self.timer in gone and ask(["systemctl", "is-active", "--quiet", self.timer])[0] == 0:
            # What it began just now is a run of the old definition, and would be taken for the program itself.
            ask(["systemctl", "stop", self.timer, self.service])
        for words in (["stop"], ["--quiet", "disable"], ["reset-failed"]):
            ask(["systemctl", *words, *gone])
        self._order("--quiet", "enable", self.unit)

    def start(self) -> None:
        """See Backend."""
        self._order("start", self.unit)

    def stop(self) -> None:
        """See Backend."""
        try:
            self._order("stop", *self._there())
        except ManagerTrouble:
            # One that was just killed is being started again, and that cancels what was to stop its timer. It is over by now.
            self._order("stop", *self._there())

    def restart(self) -> None:
        """See Backend."""
        self._order("restart", self.unit)

    def forget(self) -> None:
        """See Backend."""
        if there := self._there():
            self.stop()
            self._order("--quiet", "disable", *there)
        self.rearm()

    def rearm(self) -> None:
        """See Backend."""
        # One that is not loaded has nothing to be taken back.
        ask(["systemctl", "reset-failed", *map(os.path.basename, self.definition_paths())])

    def last_words(self) -> str:
        """See Backend."""
        try:
            ask(["journalctl", "--sync"])
            said = ask(
                # Its own words only, not what systemd says about it.
                ["journalctl", "--quiet", "--boot", "--since=-5min", "--lines=20", "--output=cat"]
                + ["--no-pager", f"_SYSTEMD_UNIT={self.service}"]
            )[1]
        except ManagerTrouble:
            return ""
        lines = said.strip().splitlines()
        return lines[-1].strip() if lines else ""

    def where_to_look(self) -> str:
        """See Backend."""
        return f"journalctl -u {self.service}"

    def _there(self) -> list[str]:
        """The units that have a file; systemctl refuses the others."""
        names = [os.path.basename(path) for path in self.definition_paths() if os.path.exists(path)]
        # Timers first, so that none starts what was just stopped.
        return sorted(names, key=lambda name: not name.endswith(".timer"))

    def _order(self, *words: str) -> None:
        order(["systemctl", *words], self.unit, f"look at {self.where_to_look()}, then run the same command again")
