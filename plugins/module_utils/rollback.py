"""Changes on trial: what was before comes back by itself unless somebody logs in anew and says that it may stay.

Keeps: standard library only, for a copy of this file is what keeps watch on the node; what was before is on the disk, and
somebody watches, before anything changes; a deadline that passes and a start of the machine (which empties the folder of
the mark) both bring it back; one at a time under a lock. Leaves to others: what is changed (the role hardening), and the
login that ends a trial (plugins/action/trial.py).
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

BASE = "/etc/outlast"
# Empty after each start of the machine.
RUN = "/var/run/outlast-trial" if sys.platform == "darwin" else "/run/outlast-trial"
TICK_S = 0.5
WATCH_WITHIN_S = 30.0
COMMAND_LIMIT_S = 60.0
TRIES = 5
# After a start of the machine others may read the files while they are put back: what runs is told once more.
SETTLED_AFTER_S = 10.0


class TrialTrouble(Exception):
    """One line: field: what is wrong; mend: what to do."""


@dataclass(frozen=True)
class Change:
    """A file as it is to be; content None where it is not to be there."""

    path: str
    content: bytes | None
    mode: int = 0o600


class Trial:
    """The one trial that a machine may have; base is kept over a restart of it, run is not."""

    def __init__(self, base: str = BASE, run: str = RUN) -> None:
        self.base, self.run = base, run
        self.folder = os.path.join(base, "trial")
        self.mark = os.path.join(run, "pending.json")
        self.watched = os.path.join(run, "watched")

    def begin(self, changes: Sequence[Change], reload: Sequence[Sequence[str]], limit_s: float, trash: str) -> str:
        """Make the changes and return the token that ends the trial; raises TrialTrouble, and then nothing has changed.

        reload are commands that make what runs agree with the files, whatever they hold.
        """
        token = secrets.token_hex(16)
        with self._alone():
            self.undo()
            self._set_deadline(token, limit_s + WATCH_WITHIN_S)
            self._save(token, changes, reload, trash)
        if not wait(lambda: read(self.watched) == token.encode(), WATCH_WITHIN_S):
            with self._alone():
                self.undo()
            mend = "see why the service rollback does not run, then run the same command again"
            raise TrialTrouble(f"roll-back: nobody keeps watch, so nothing was changed; mend: {mend}")
        with self._alone():
            if self.pending() != token:
                raise TrialTrouble("roll-back: another run has begun a trial; mend: run the same command again")
            self._set_deadline(token, limit_s)
            try:
                for change in changes:
                    put(change.path, change.content, change.mode)
                for command in reload:
                    run(command)
            except (OSError, TrialTrouble) as error:
                self.undo()
                raise TrialTrouble(f"{error}; nothing was changed") from error
        return token

    def pending(self) -> str:
        """The token of the trial that is under way, empty without one."""
        return str(self._plan().get("token", ""))

    def keep(self, token: str) -> bool:
        """End the trial: what was changed stays. False where it is over already, because time was up."""
        with self._alone():
            plan = self._plan()
            if not plan or plan["token"] != token or self._due(plan):
                return False
            for file in plan["files"]:
                if file["saved"]:
                    name = f"{time.strftime('%Y-%m-%dT%H%M%S')}-{file['path'].strip('/').replace('/', '_')}"
                    put(os.path.join(plan["trash"], name), read(os.path.join(self.folder, file["saved"])), 0o600)
            self._end()
            return True

    def undo(self) -> list[list[str]]:
        """Bring back what was before the trial, if there is one; return the commands that were run."""
        plan = self._plan()
        if not plan:
            return []
        for file in plan["files"]:
            if file["saved"]:
                saved = os.path.join(self.folder, file["saved"])
                put_back(saved, file["path"], file["mode"], (file["uid"], file["gid"]))
            else:
                put(file["path"], None, 0)
        self._reload(plan["reload"])
        self._end()
        print(f"trial {plan['token'][:8]}: what was before is back", file=sys.stderr, flush=True)
        return list(plan["reload"])

    def watch(self) -> None:
        """Stay, and bring back what was before where a deadline passes or the machine was started during a trial."""
        once_more: list[list[str]] = []
        settled = 0.0
        while True:
            with self._alone():
                plan = self._plan()
                if plan and self._due(plan):
                    started_meanwhile = not os.path.exists(self.mark)
                    commands = self.undo()
                    once_more, settled = (commands if started_meanwhile else []), time.monotonic() + SETTLED_AFTER_S
                elif plan and read(self.watched) != plan["token"].encode():
                    put(self.watched, plan["token"].encode(), 0o600)
                elif once_more and time.monotonic() > settled:
                    self._reload(once_more)
                    once_more = []
            time.sleep(TICK_S)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        os.makedirs(self.base, mode=0o700, exist_ok=True)
        os.makedirs(self.run, mode=0o700, exist_ok=True)
        with open(os.path.join(self.base, "lock"), "w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _plan(self) -> Mapping[str, Any]:
        written = read(os.path.join(self.folder, "plan.json"))
        return dict(json.loads(written)) if written else {}

    def _due(self, plan: Mapping[str, Any]) -> bool:
        """Whether time is up. The mark of another trial, or none, means that the machine was started in between."""
        mark = json.loads(read(self.mark) or b"{}")
        return bool(mark.get("token") != plan["token"] or time.monotonic() > mark["deadline"])

    def _set_deadline(self, token: str, limit_s: float) -> None:
        mark = {"token": token, "deadline": time.monotonic() + limit_s}
        put(self.mark, json.dumps(mark).encode(), 0o600)

    def _save(self, token: str, changes: Sequence[Change], reload: Sequence[Sequence[str]], trash: str) -> None:
        """Keep all that is about to change; from its last step on the trial is under way."""
        new = f"{self.folder}.new"
        shutil.rmtree(new, ignore_errors=True)
        os.mkdir(new, 0o700)
        files = []
        for number, change in enumerate(changes):
            before = read(change.path)
            saved = "" if before is None else str(number)
            mode, uid, gid = 0o600, 0, 0
            if before is not None:
                put(os.path.join(new, saved), before, 0o600)
                status = os.stat(change.path)
                mode, uid, gid = status.st_mode & 0o7777, status.st_uid, status.st_gid
            files.append({"path": change.path, "saved": saved, "mode": mode, "uid": uid, "gid": gid})
        plan = {"token": token, "files": files, "reload": [list(command) for command in reload], "trash": trash}
        put(os.path.join(new, "plan.json"), json.dumps(plan).encode(), 0o600)
        os.rename(new, self.folder)
        sync(self.base)

    def _end(self) -> None:
        """From the first step on there is no trial any more."""
        over = f"{self.folder}.over"
        shutil.rmtree(over, ignore_errors=True)
        os.rename(self.folder, over)
        sync(self.base)
        shutil.rmtree(over, ignore_errors=True)
        for path in (self.mark, self.watched):
            remove(path)

    def _reload(self, commands: Sequence[Sequence[str]]) -> None:
        """Run each, however the others go: what was before must be in force, as far as it can be."""
        for command in commands:
            for left in reversed(range(TRIES)):
                try:
                    run(command)
                    break
                except TrialTrouble as error:
                    print(error, file=sys.stderr, flush=True)
                    time.sleep(TICK_S if left else 0)


def run(command: Sequence[str]) -> None:
    """Run a command to its end; raises TrialTrouble with the last line that it says unless it ends well."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=COMMAND_LIMIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TrialTrouble(f"{command[0]}: {error}") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise TrialTrouble(f"{command[0]}: {said[-1] if said else f'ended with {done.returncode}'}")


def read(path: str) -> bytes | None:
    """A file's content, None where there is none."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def put(path: str, content: bytes | None, mode: int, owner: tuple[int, int] = (-1, -1)) -> None:
    """Replace a file in one step that a power cut cannot halve, or take it away."""
    if content is None:
        remove(path)
    else:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        temporary = f"{path}.new.{os.getpid()}"
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            os.fchown(file.fileno(), *owner)
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, path)
    sync(os.path.dirname(path))


def put_back(saved: str, path: str, mode: int, owner: tuple[int, int]) -> None:
    """Replace a file in one step by the one that was saved, which stays; without writing, as the disk may be full by now."""
    temporary = f"{path}.old.{os.getpid()}"
    os.chown(saved, *owner)
    os.chmod(saved, mode)
    remove(temporary)
    try:
        os.link(saved, temporary)
    except OSError:
        # On another file system, or its directory is gone.
        put(path, read(saved), mode, owner)
        return
    os.rename(temporary, path)
    # A second try meets the same file there, and then a rename does nothing.
    remove(temporary)
    sync(os.path.dirname(path))


def remove(path: str) -> None:
    """Take a file away, if it is there."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def sync(folder: str) -> None:
    """Bring a folder's entries to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def wait(condition: Any, limit_s: float) -> bool:
    """Whether a condition came true in time."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(TICK_S / 5)
    return True


def changes_of(files: Sequence[Mapping[str, Any]]) -> list[Change]:
    """The changes that a task names: path, content in base64 (none: take it away), mode."""
    return [
        Change(
            file["path"],
            None if file.get("content") is None else base64.b64decode(file["content"]),
            int(str(file.get("mode") or "0600"), 8),
        )
        for file in files
    ]


def main(words: Sequence[str]) -> int:
    """`watch`, or `keep TOKEN`, which answers in JSON."""
    trial = Trial()
    if words[:1] == ["watch"]:
        trial.watch()
    elif words[:1] == ["keep"] and len(words) == 2:
        print(json.dumps({"kept": trial.keep(words[1]), "pending": bool(trial.pending())}))
    else:
        print("usage: rollback.py watch | keep TOKEN", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
