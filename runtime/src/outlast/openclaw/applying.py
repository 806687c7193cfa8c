"""A new configuration of OpenClaw: looked at by OpenClaw itself, put in place, proven by a start, or taken back.

``python -m outlast.openclaw.applying --home HOME apply|prove|back|resume``: what Ansible calls, as the node's user.

Rules kept here: nothing that OpenClaw refuses, or only warns of, takes the place of what runs; both files are on trial until
the gateway, started with them, answers truly, and go back together; what is replaced is kept, but for secrets, which come
from the inventory; no secret is in an argument, an answer or an error. Before another release gets OpenClaw's state, it is
copied, and comes back only where the release before works with nothing else. An interrupted trial is still one.

Left to others: what the configuration says (plugins/plugin_utils/openclaw_render.py), whether it works (openclaw.proving),
which release of OpenClaw runs (plugins/modules/openclaw_release.py), and node.yml (roles/openclaw).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from outlast.clock import SystemClock, stamp
from outlast.config import load_config
from outlast.core.record import one_line
from outlast.errors import ConfigError
from outlast.home import Home
from outlast.openclaw import proving, snapshots, tokens, wishes
from outlast.openclaw.answering import answer
from outlast.openclaw.place import Place, place_of
from outlast.store import durable, regular

__all__ = ["Applying", "main"]

_VALIDATE_S, _TOLD = 180.0, 4
# Of what was replaced, so many stay where they are; older ones go to the part of the trash that empties itself.
_KEPT = 20
_ORDERS = ("apply", "prove", "back", "resume")
# What node.yml says that must be as the configuration has it.
_GO_BACK = ("port", "agent")
# Where a part of the configuration comes from.
_SAID_BY = {
    "models.providers": "openclaw_providers",
    "channels": "openclaw_channels",
    "bindings": "openclaw_bindings",
    "agents.entries": "openclaw_agents",
    "agents.defaults.model": "openclaw_model",
}


class Applying:
    """The configuration of one node's OpenClaw."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._before = place.folder / "before"
        self._settings = place.folder / "settings.json"
        self._release = place.folder / "release"

    def apply(self, config: str, secrets: dict[str, str], *, dry_run: bool) -> dict[str, Any]:
        """Put it in place where it is another, or where OpenClaw is another release by now, on trial.

        Returns ``changed``, ``trial``, and ``edited``: where that is kept which somebody wrote over the last one. Raises
        OutlastError.
        """
        place, text = self._place, config.encode()
        kept = json.dumps(secrets, indent=2, sort_keys=True).encode() + b"\n"
        settings = msgspec.json.format(msgspec.json.encode(place.settings)) + b"\n"
        held, new = _held(place.config), not place.config.exists()
        differs = held != text or _held(place.secrets) != kept
        # By what this node started last: another node may have switched the release that both have.
        was, now = (_held(self._release) or b"").decode().strip(), self._now()
        release = was if was != now else ""
        changed = differs or _held(self._settings) != settings or bool(release)
        if dry_run:
            return {"changed": changed, "trial": differs or bool(release), "edited": ""}
        made = self._make()
        edited = ""
        if differs or release:
            self._look(text)
            copy = self._copied(release) if release and not self._is_tried(release) else ""
            edited = self._keep(held, text, new=new, release=was, copy=copy)
            durable.replace(place.secrets, kept)
            durable.replace(place.config, text)
        # Also where it was killed right after that: what differs from it then is an edit by hand for everybody else.
        if _held(place.applied) != (applied := f"{hashlib.sha256(text).hexdigest()}\n".encode()):
            durable.replace(place.applied, applied)
        # The hooks take messages for the agents that are configured.
        tokens.ensure(place)
        if release:
            # Of each release it is kept by path, some 40 MB, and nobody else ever removes it.
            shutil.rmtree(place.home.root / "var" / "tmp" / "node-compile-cache", ignore_errors=True)
        for path, content in ((self._settings, settings), (self._release, f"{now}\n".encode())):
            if _held(path) != content:
                durable.replace(path, content)
        return {"changed": changed or made, "trial": self._before.is_dir(), "edited": edited}

    async def prove(self, within: float) -> dict[str, Any]:
        """See that the gateway truly works with what is on trial.

        Returns ``ok``, ``why`` not, and whether it was ``stopped`` by a person: then nothing is proven, and the trial goes on.
        """
        if not self._before.is_dir():
            # Nothing could be taken back: whoever looks at the node says what is wrong with it.
            return {"ok": True, "why": await proving.truth(self._place, 0.0, within), "stopped": False}
        since = (self._before / "since").stat().st_mtime
        proving.begin(self._place, within)
        why = await proving.truth(self._place, since, within)
        if stopped := not why and proving.is_stopped(self._place):
            proving.end(self._place)
        elif not why:
            self._over()
        return {"ok": not why, "why": why, "stopped": stopped}

    def back(self, within: float) -> dict[str, Any]:
        """Put the files back that were there before what is on trial; the release and node.yml are the caller's.

        Returns ``changed``, ``why`` not, and what belongs to these files: the ``settings`` of node.yml, and the ``release`` of
        OpenClaw, empty where it is this one.
        """
        config = _held(self._before / "openclaw.json")
        if config is None:
            return {"changed": False, "why": "there is nothing before it", "settings": {}, "release": ""}
        place = self._place
        release = (_held(self._before / "release") or b"").decode()
        proving.begin(place, within)
        if (held := _held(place.config) or b"") != config:
            self._aside(held, "refused")
        for name, path in (("secrets.json", place.secrets), ("settings.json", self._settings)):
            if (kept := _held(self._before / name)) is not None:
                durable.replace(path, kept)
        durable.replace(place.config, config)
        durable.replace(place.applied, f"{hashlib.sha256(config).hexdigest()}\n".encode())
        durable.replace(self._release, f"{release or self._now()}\n".encode())
        durable.replace(self._before / "since", b"")
        settings = json.loads(_held(self._settings) or b"{}")
        settings = {name: settings[name] for name in _GO_BACK if name in settings}
        return {"changed": True, "why": "", "settings": settings, "release": release if release != self._now() else ""}

    async def resume(self, within: float) -> dict[str, Any]:
        """See that the gateway works with what was put back; where its state is none that the release before takes any more,
        put the copy back that was made of it before. Returns ``why`` it does not work, and where the ``state`` is from.
        """
        place, state = self._place, ""
        # Made for the agent that is fed, which was another one.
        tokens.ensure(place)
        proving.begin(place, 2 * within)
        why = await proving.truth(place, (self._before / "since").stat().st_mtime, within)
        copy = (_held(self._before / "copy") or b"").decode()
        if why and copy and (place.snapshots / copy).is_file():
            since = time.time()
            with wishes.stopped(place, "its state is put back"):
                aside = snapshots.restore_into(place, place.snapshots / copy)
            state = f"its state is that of {copy}, and what the new release made of it is in {aside}"
            why = await proving.truth(place, since, within)
        self._over()
        return {"changed": True, "why": why, "state": state}

    def _is_tried(self, release: str) -> bool:
        """Is something on trial that changed the state of this release already? Its configuration alone did not."""
        good = (_held(self._before / "release") or b"").decode()
        return self._before.is_dir() and (release != good or bool(_held(self._before / "copy")))

    def _over(self) -> None:
        self._forget()
        proving.end(self._place)

    def _forget(self) -> None:
        """What was on trial is so no longer, by one rename: whatever ends this, it is whole or gone."""
        half = self._place.folder / "before.new"
        shutil.rmtree(half, ignore_errors=True)
        if self._before.is_dir():
            durable.move(self._before, half)
            shutil.rmtree(half, ignore_errors=True)

    def _now(self) -> str:
        """Which release of OpenClaw is the current one."""
        return os.path.basename(os.path.realpath(self._place.settings.release))

    def _make(self) -> bool:
        """The folders and tokens that OpenClaw needs; whether anything was missing."""
        place, home = self._place, self._place.home
        made = bool(tokens.ensure(place))
        if not (self._before / "since").exists():
            # Something that is half there was over, or had not begun.
            self._forget()
        if home.restoring.exists() or (place.snapshots / "restore.json").exists():
            # Of one that was cut off its folders may be missing now, and are not to be made anew.
            with wishes.stopped(place, "its state is put back"):
                snapshots.finish(place)
        for folder in (place.state, home.root / "var" / "tmp", place.snapshots, home.outputs):
            made = made or not folder.is_dir()
            durable.make_dir(folder)
        link = place.state / "workspace"
        if not link.is_symlink() or link.readlink() != home.workspace:
            # One of its own, from before: it is not ours to mix with the node's.
            if os.path.lexists(link):
                durable.set_aside(link, home.trash, stamp(time.time()))
            link.symlink_to(home.workspace)
            made = True
        return made

    def _look(self, text: bytes) -> None:
        """Have OpenClaw look at it. Raises ConfigError with all that it says against it."""
        candidate = self._place.folder / "candidate.json"
        durable.replace(candidate, text)
        told = {**self._place.environment(), "OPENCLAW_CONFIG_PATH": str(candidate)}
        try:
            done = subprocess.run(
                [*self._place.command, "config", "validate", "--json"],
                cwd="/",
                env=told,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                timeout=_VALIDATE_S,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            why = getattr(error, "strerror", None) or f"it has not looked at its configuration in {_VALIDATE_S:.0f} s"
            raise ConfigError("openclaw", str(why), "run the same command again") from None
        finally:
            candidate.unlink(missing_ok=True)
        if found := list(_objections(done.stdout, done.returncode)):
            field, wrong = found[0]
            more = "; ".join(f"{name}: {what}" for name, what in found[1:_TOLD])
            raise ConfigError(field, one_line(f"{wrong}{more and '; '}{more}", 500), "correct that in the inventory")

    def _copied(self, release: str) -> str:
        """Copy OpenClaw's state before another release may change it, by the one that made it; the name of the copy."""
        before = Path(self._place.settings.release).parent / "releases" / release
        made = None
        if before.is_dir() and (self._place.state / "state").is_dir():
            settings = msgspec.structs.replace(self._place.settings, release=str(before))
            with contextlib.suppress(snapshots.SnapshotError):
                made = snapshots.make(Place(self._place.home, settings), SystemClock())
        # What cannot be copied may be what the new release is to mend.
        made = made or snapshots.newest(self._place)
        return made.name if made else ""

    def _keep(self, held: bytes | None, text: bytes, *, new: bool, release: str, copy: str) -> str:
        """Put what runs now where it is found again; what runs on trial is not kept as what was good."""
        place, edited = self._place, ""
        known = (_held(place.applied) or b"").decode().strip()
        if held is not None and held != text:
            by_hand = bool(known) and hashlib.sha256(held).hexdigest() != known
            where = self._aside(held, "edited" if by_hand else "replaced")
            edited = str(where) if by_hand else ""
        if not self._before.is_dir():
            half = place.folder / "before.new"
            durable.make_dir(half)
            for path in () if new else (place.config, place.secrets, self._settings):
                if (content := _held(path)) is not None:
                    durable.replace(half / path.name, content)
            for name, said in (("release", release), ("copy", copy), ("since", "")):
                durable.replace(half / name, said.encode())
            durable.move(half, self._before)
        else:
            # What is tried now is not what was tried before.
            durable.replace(self._before / "since", b"")
            if copy:
                durable.replace(self._before / "copy", copy.encode())
        return edited

    def _aside(self, content: bytes, why: str) -> Path:
        folder = self._place.folder / "replaced"
        durable.make_dir(folder)
        name = f"{stamp(time.time())}-{why}-openclaw"
        names = (folder / f"{name}{f'-{number}' if number else ''}.json" for number in itertools.count())
        where = next(path for path in names if not path.exists())
        older = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
        durable.replace(where, content)
        for path in older[_KEPT - 1 :]:
            durable.set_aside(path, self._place.home.old_logs, stamp(time.time()))
        return where


def _held(path: Path) -> bytes | None:
    try:
        return regular.read(path)
    except FileNotFoundError:
        return None


def _objections(output: str, code: int) -> Iterable[tuple[str, str]]:
    """What OpenClaw has against a configuration: the variable that says it, and what it says. Warnings are errors."""
    start = output.find("{")
    try:
        said = json.loads(output[start:]) if start >= 0 else {}
    except ValueError:
        said = {}
    for issue in [*said.get("issues", []), *said.get("warnings", [])]:
        path = str(issue.get("path", ""))
        by = next((name for part, name in _SAID_BY.items() if path == part or path.startswith(f"{part}.")), "")
        yield by or "openclaw_config", f"{path}: {issue.get('message', 'refused')}".removeprefix("<root>: ")
    if code and not said.get("issues"):
        error = said.get("error") or {}
        last = next((line for line in reversed(output.splitlines()) if line.strip()), "refused without a word")
        yield "openclaw_config", str(error.get("message") or last)


def _carried_out(home: Home, order: str, read: dict[str, Any]) -> dict[str, Any]:
    config = load_config(home.config)
    if config.openclaw is None and read.get("dry_run"):
        # Nothing was written, node.yml neither: all of it would be new.
        return {"changed": True, "trial": True, "edited": ""}
    applying = Applying(place_of(home, config))
    if order == "apply":
        return applying.apply(read["config"], read["secrets"], dry_run=read["dry_run"])
    done = getattr(applying, order)(float(read["within"]))
    told: dict[str, Any] = asyncio.run(done) if asyncio.iscoroutine(done) else done
    return told


def main(arguments: list[str] | None = None) -> int:
    """Carry out one order; print one JSON object, with ``error`` where it could not be done."""
    given = sys.argv[1:] if arguments is None else arguments
    if len(given) < 3 or given[0] != "--home" or given[2] not in _ORDERS:
        print(f"usage: python -m outlast.openclaw.applying --home HOME {'|'.join(_ORDERS)}", file=sys.stderr)
        return 2
    os.umask(0o077)
    read = json.loads(sys.stdin.readline())
    return answer(lambda: _carried_out(Home(Path(given[1])), given[2], read))


if __name__ == "__main__":
    sys.exit(main())
