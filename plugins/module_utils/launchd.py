"""Services under launchd: LaunchDaemons with the label outlast.NAME, and outlast.NAME.rearm beside one that is kept running.

Keeps: the system's domain, by bootstrap, bootout and kickstart alone; an end is waited for, because bootout comes back before
it, and bootstrap then answers no more than "Input/output error". A definition carries its own digest (MARK) in the
environment that it gives, so launchd itself tells which one it has loaded. Leaves to others: what is in the definitions
(roles/service), when to do what (managers.py).
"""

from __future__ import annotations

import contextlib
import glob
import os
import plistlib
import pwd
import re
from collections.abc import Mapping, Sequence

from ansible_collections.outlast.agents.plugins.module_utils.managers import (
    Answer,
    Backend,
    ManagerTrouble,
    Seen,
    ask,
    order,
)
from ansible_collections.outlast.agents.plugins.module_utils.waiting import wait

LAUNCHCTL = "/bin/launchctl"
DAEMONS = "/Library/LaunchDaemons"
LOGS = "/var/log/outlast"
ROTATION = "/etc/newsyslog.d"
MARK = "OUTLAST_DEFINITION"
NO_PROCESS, IN_PROGRESS, NO_SERVICE = 3, 36, 113
# launchd kills what has not ended after ExitTimeOut, which is 30 s in our definitions.
GONE_S = 40.0
# What a label that is just gone still stands in the way of is refused in these words.
SETTLED_S = 10.0
LAST_BYTES = 4096


class Manager(Backend):
    """One service under launchd."""

    def __init__(self, name: str, schedule: str = "") -> None:
        super().__init__(name, schedule)
        self.label = f"outlast.{name}"
        self._labels = [self.label, f"{self.label}.rearm"]
        self._fresh = False

    @classmethod
    def known(cls) -> list[str]:
        """See Backend."""
        labels = [os.path.basename(path)[: -len(".plist")] for path in glob.glob(f"{DAEMONS}/outlast.*.plist")]
        return sorted(label[len("outlast.") :] for label in labels if not label.endswith(".rearm"))

    def definition_paths(self) -> list[str]:
        """See Backend."""
        return [*(_definition(label) for label in self._labels), f"{ROTATION}/{self.label}.conf"]

    def questions(self) -> list[list[str]]:
        """See Backend."""
        return [
            *([LAUNCHCTL, "print", f"system/{label}"] for label in self._labels),
            [LAUNCHCTL, "print-disabled", "system"],
            ["grep", "-H", "-s", "-A1", MARK, *(_definition(label) for label in self._labels)],
        ]

    def understand(self, answers: Sequence[Answer]) -> Seen:
        """See Backend."""
        *told, (_, overrides), (_, marks) = answers
        loaded = {label: text for label, (code, text) in zip(self._labels, told, strict=True) if code == 0}
        on_disk = {label: mark for label in self._labels if (mark := _mark_on_disk(_definition(label), marks))}
        own = _top_level(loaded.get(self.label, ""))
        pid = int(own.get("pid", 0))
        well, ended = own.get("last exit code") == "0", own.get("last exit code") != "(never exited)"
        runs = {"": pid > 0, "boot": pid > 0 or well}.get(self.schedule, True)
        complete = self.label in loaded and loaded.keys() >= on_disk.keys()
        return Seen(
            loaded=complete,
            enabled=complete and not any(re.search(_overridden(label), overrides) for label in self._labels),
            running=self.label in loaded and runs,
            pid=pid,
            failed=self.label in loaded and not pid and ended and not well,
            # A definition that somebody loaded without our mark is put right by the role, which then says that it changed.
            stale=any(_mark_loaded(text) not in ("", on_disk.get(label, "")) for label, text in loaded.items()),
        )

    def load(self) -> None:
        """See Backend. What is loaded with RunAtLoad runs from then on."""
        # A label that was taken back a moment ago may not be free yet, although nobody finds it any more.
        patience_s = SETTLED_S if self._unload() else 0.0
        for label in self._labels:
            if os.path.exists(_definition(label)):
                _make_log(_definition(label))
                self._order("enable", f"system/{label}")
                self._bootstrap(label, patience_s)
        self._fresh = True

    def start(self) -> None:
        """See Backend."""
        if not self.seen().running:
            self._order("kickstart", f"system/{self.label}")

    def stop(self) -> None:
        """See Backend. What is not loaded is loaded again at the next start of the machine."""
        self._unload()

    def restart(self) -> None:
        """See Backend."""
        # What was just loaded runs what was loaded.
        if not self._fresh:
            self.load()

    def forget(self) -> None:
        """See Backend."""
        self._unload()

    def rearm(self) -> None:
        """See Backend."""
        self._order("kickstart", f"system/{self.label}")

    def last_words(self) -> str:
        """See Backend."""
        try:
            # Nobody but root writes in that directory, so the name leads nowhere else.
            with open(self.where_to_look(), "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - LAST_BYTES))
                lines = file.read(LAST_BYTES).decode("utf-8", "replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1].strip() if lines else ""

    def where_to_look(self) -> str:
        """See Backend."""
        return f"{LOGS}/{self.name}.log"

    def _bootstrap(self, label: str, patience_s: float) -> None:
        command = [LAUNCHCTL, "bootstrap", "system", _definition(label)]
        if not wait(lambda: ask(command)[0] == 0 or _is_there(label), patience_s):
            self._order(*command[1:])

    def _unload(self) -> bool:
        """Have none of it loaded, and wait until that is so; return whether some was."""
        # The one that starts the other first.
        there = [label for label in reversed(self._labels) if _is_there(label)]
        for label in there:
            self._bootout(label)
        return bool(there)

    def _bootout(self, label: str) -> None:
        self._order("bootout", f"system/{label}", good=(0, NO_PROCESS, IN_PROGRESS, NO_SERVICE))
        if not wait(lambda: not _is_there(label), GONE_S):
            raise ManagerTrouble(f"{label}: does not end; mend: see `launchctl print system/{label}`")

    def _order(self, *words: str, good: Sequence[int] = (0,)) -> None:
        order([LAUNCHCTL, *words], self.label, f"look at {self.where_to_look()}, then run the same command again", good)


def _definition(label: str) -> str:
    return f"{DAEMONS}/{label}.plist"


def _is_there(label: str) -> bool:
    return bool(ask([LAUNCHCTL, "print", f"system/{label}"])[0] == 0)


def _top_level(printed: str) -> Mapping[str, str]:
    """The values of `launchctl print` that stand outside of inner braces."""
    pairs = re.findall(r"^\t(\S[^=\n]*) = ([^{\n]+)$", printed, re.MULTILINE)
    return dict(pairs)


def _overridden(label: str) -> str:
    """What print-disabled says of a label that is disabled; `true` is how older systems say it."""
    return rf'"{re.escape(label)}" => (disabled|true)\b'


def _mark_loaded(printed: str) -> str:
    found = re.search(rf"^\t\t{MARK} => (\w+)$", printed, re.MULTILINE)
    return found[1] if found else ""


def _mark_on_disk(path: str, found: str) -> str:
    """The mark in a definition, out of what grep found in all of them."""
    value = re.search(rf"^{re.escape(path)}-\s*<string>(\w+)</string>", found, re.MULTILINE)
    return value[1] if value else ""


def _make_log(definition: str) -> None:
    """Make a service's log in its user's name: he may write to it, but not make files in a directory that is root's."""
    try:
        with open(definition, "rb") as file:
            values = plistlib.load(file)
        path, user = values.get("StandardErrorPath", ""), values.get("UserName", "")
        owner = pwd.getpwnam(user) if user else None
    except (OSError, ValueError, KeyError) as error:
        raise ManagerTrouble(f"{definition}: {error}; mend: run the whole of site.yml") from error
    if path:
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            if owner:
                os.fchown(descriptor, owner.pw_uid, owner.pw_gid)
            os.close(descriptor)
