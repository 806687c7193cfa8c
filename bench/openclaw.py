"""A node with the real OpenClaw beside it, as site.yml makes it, what it is asked, and a gateway that supervisord keeps alone.

Rules kept here: the node is axiom of a `make up` in a copy of this checkout, with what a user gets where nothing is said; its
model is a double on loopback, and nothing asks the network but the installation. Without Outlast means the same release and
the same configuration. What is started here is ended with the block.

Left to others: breaking it (breaks.py), putting it back (restored.py), the figures (gateway.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import psutil

from bench.caches import npm_cache, wheelhouse
from bench.play import Clone, clone
from bench.processes import BenchError, family, read, run, running, say
from outlast.cli.talk import NotRunning, order
from outlast.config import load_config
from outlast.core.gateway import Launched
from outlast.home import Home
from outlast.openclaw import alive, wishes
from outlast.openclaw.place import Place
from tests.support.live import free_port
from tests.support.provider import MODEL, Provider

__all__ = ["Bare", "Beside", "Kept", "Memory", "bare", "beside", "memory", "passed", "truth", "turn"]

_CHECKOUT = Path(__file__).resolve().parent.parent
_NODE = "axiom"
_LOOK_S, _TURN_S, _ORDER_S = 0.2, 180.0, 900.0
START_S = 300.0
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Memory:
    """MiB of some processes together: resident, and their proportional share (None where the system does not tell)."""

    rss: float
    pss: float | None


class Kept:
    """A gateway that a node keeps, by the node's home. What is typed is typed with the command of this environment."""

    def __init__(self, home: Home) -> None:
        settings = load_config(home.config).openclaw
        if settings is None:
            raise BenchError(f"{home.root} has no OpenClaw")
        self.home, self.place = home, Place(home, settings)

    def status(self) -> dict[str, Any]:
        """What the node says of itself without looking anew; empty while it does not answer."""
        try:
            return order(self.home, "status")
        except NotRunning:
            return {}

    def seen(self) -> dict[str, Any]:
        """What of that is about the gateway."""
        found: dict[str, Any] = self.status().get("openclaw", {})
        return found

    def alert(self, *words: str, name: str = "openclaw") -> str:
        """The alert of that name that has these words; empty where there is none."""
        texts = [one["text"] for one in self.status().get("alerts", []) if one["name"] == name]
        return next((text for text in texts if all(word in text for word in words)), "")

    def said(self) -> Launched:
        """What the launcher says, or said last."""
        found = wishes.launched(self.place, dead=True)
        if found is None:
            raise BenchError("the gateway's launcher says nothing")
        return found

    def is_well(self, pid: int) -> bool:
        """Does the node say that this process works?"""
        found = self.seen()
        return found.get("state") == "working" and found["pid"] == pid

    def works(self, but: int = 0) -> bool:
        """Does the node say that it works, as the process that runs now and another than ``but``?"""
        pid = self.said().pid
        return pid not in (0, but) and self.is_well(pid)

    def type(self, *words: str) -> str:
        """An ``outlast`` command, and what it prints. Raises BenchError where it fails."""
        command = [str(Path(sys.executable).parent / "outlast"), "--home", str(self.home.root), *words]
        return run(command, self.home.root, {}, _ORDER_S)[1]

    def fresh(self) -> None:
        """Let the node begin with no trouble behind it, which it else remembers for an hour, and wait until all is well.

        It has looked right now: what happens next happens at the worst moment.
        """
        self.passed(time.monotonic(), self.works, "a gateway that works")
        control = [
            str(Path(sys.executable).parent / "supervisorctl"),
            "-c",
            str(self.home.root / "etc/supervisord.conf"),
        ]
        run([*control, "stop", "runtime"], self.home.root, {}, 60)
        known = json.loads(self.place.known.read_bytes())
        known.pop("ladder", None)
        self.place.known.write_text(json.dumps(known))
        run([*control, "start", "runtime"], self.home.root, {}, 60)
        self.passed(time.monotonic(), lambda: self._has_looked() and not self.alert(), "a calm node")

    def _has_looked(self) -> bool:
        """Has the node, since its own start, seen the gateway answer?"""
        found = self.seen()
        return self.works() and bool(found["alive"] and found["true"])

    def passed(self, began: float, condition: Callable[[], object], what: str) -> float:
        """Seconds from ``began`` until this is so. Raises BenchError, with what the node says of the gateway."""
        try:
            return passed(began, condition, what)
        except BenchError as error:
            raise BenchError(f"{error}: {json.dumps(self.seen())}") from error


def passed(began: float, condition: Callable[[], object], what: str, limit_s: float = START_S) -> float:
    """Seconds from ``began`` (monotonic) until this is so. Raises BenchError where it is not within the limit."""
    while not condition():
        if time.monotonic() - began > limit_s:
            raise BenchError(f"{what} was not there after {limit_s:g} s")
        time.sleep(_LOOK_S)
    return time.monotonic() - began


def truth(place: Place) -> bool:
    """Do the calls that read its databases succeed?"""
    return not asyncio.run(alive.truth(place)).bad


def turn(place: Place, text: str) -> str:
    """Let the agent take a turn in its main session; what it said. Raises BenchError."""
    words = ["agent", "--agent", place.settings.agent, "--message", text, "--json"]
    try:
        done = subprocess.run(
            [*place.command, *words],
            env=place.environment(), cwd="/", capture_output=True, text=True, timeout=_TURN_S, check=False,
        )  # fmt: skip
        said = json.loads(done.stdout[done.stdout.index("{") :])
        return "\n".join(part.get("text", "") for part in said["result"]["payloads"])
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"a turn was not done after {_TURN_S:g} s") from error
    except (ValueError, LookupError, TypeError) as error:
        raise BenchError(f"a turn failed: {' '.join((done.stderr or done.stdout).split())[-300:]}") from error


def memory(processes: Sequence[psutil.Process]) -> Memory:
    """What these take now. Raises BenchError."""
    found = []
    for process in processes:
        with contextlib.suppress(BenchError):
            found.append(read(process.pid))
    if not found:
        raise BenchError("what was to be measured does not run")
    shares = [one.pss for one in found]
    known = [share for share in shares if share is not None]
    return Memory(sum(one.rss for one in found) / _MIB, sum(known) / _MIB if len(known) == len(found) else None)


@dataclass
class Beside:
    """A node with OpenClaw, the copy of the checkout that it was made by, and the model."""

    copy: Clone
    kept: Kept
    provider: Provider

    def forget_caches(self) -> None:
        """From now on it is installed as where nobody names a wheelhouse and a cache."""
        settings = json.loads(self.copy.settings.read_bytes())
        self.copy.settings.write_text(json.dumps({name: settings[name] for name in settings.keys() - _caches().keys()}))

    def gateway(self) -> list[psutil.Process]:
        """The gateway, and all that it started."""
        return family(self.kept.said().pid)

    def keeper(self) -> list[psutil.Process]:
        """The node and the gateway's launcher, without what runs in them, and without supervisord."""
        pid = int((self.kept.home.root / "run" / "supervisord.pid").read_text())
        gateway = {one.pid for one in self.gateway()}
        return [one for one in family(pid)[1:] if one.pid not in gateway]


@contextlib.contextmanager
def beside(folder: Path) -> Iterator[Beside]:
    """Make it, and wait until it works and its state was copied. Raises BenchError."""
    say("openclaw: installing it; what another run left is not fetched again")
    with Provider() as provider, clone(_CHECKOUT, folder / "c", _settings(provider)) as copy:
        kept = Kept(Home(copy.home(_NODE)))
        kept.passed(time.monotonic(), kept.works, "a gateway that works")
        kept.passed(time.monotonic(), lambda: kept.seen().get("snapshot_at"), "a copy of its state")
        yield Beside(copy, kept, provider)


def _caches() -> dict[str, str]:
    return {"openclaw_npm_cache": str(npm_cache()), "outlast_wheelhouse": str(wheelhouse())}


def _settings(provider: Provider) -> dict[str, object]:
    return {
        "openclaw_enabled": f"{{{{ inventory_hostname == '{_NODE}' }}}}",
        **_caches(),
        "openclaw_model": {"primary": f"{provider.name}/{MODEL}"},
        "openclaw_providers": {provider.name: provider.settings("secret:KEY")},
        "openclaw_secrets": {"KEY": {"value": "sk-double"}},
        "openclaw_config": {"models": {"catalogRefresh": {"enabled": False}}},
    }


@dataclass(frozen=True)
class Bare:
    """A gateway that supervisord keeps, whose process id is ``pid``."""

    place: Place
    pid: int

    def gateway(self) -> list[psutil.Process]:
        """The gateway, and all that it started."""
        return family(self.pid)[1:]

    def keeper(self) -> list[psutil.Process]:
        """supervisord."""
        return family(self.pid)[:1]


@contextlib.contextmanager
def bare(root: Path, like: Place) -> Iterator[Bare]:
    """The release and the configuration of ``like`` in a home of its own, with nobody but supervisord to look after it: once it
    works. Raises BenchError."""
    program = Path(sys.executable).parent / "supervisord"
    if not program.exists():
        raise BenchError(f"{program} does not exist")
    home = Home(root / _NODE)
    place = Place(home, msgspec.structs.replace(like.settings, port=free_port()))
    for folder in (place.folder, place.state, home.workspace, home.outputs, home.root / "var/tmp"):
        folder.mkdir(mode=0o700, parents=True)
    for path in (like.config, like.hooks, like.tokens, like.secrets):
        text = path.read_text().replace(str(like.home.root), str(home.root))
        (place.folder / path.name).touch(mode=0o600)
        (place.folder / path.name).write_text(text)
    config = json.loads(place.config.read_bytes())
    config["gateway"]["port"] = place.settings.port
    place.config.write_text(json.dumps(config))
    (root / "supervisord.conf").write_text(
        f"[supervisord]\nlogfile={root}/log\npidfile={root}/pid\nchildlogdir={root}\n"
        f"[program:gateway]\ncommand={' '.join(place.command)} gateway run\ndirectory=/\nautorestart=true\nstartsecs=0\n"
        "stopwaitsecs=5\nstopasgroup=true\nkillasgroup=true\n"
    )
    said = [f"{name}={value}" for name, value in place.environment().items()]
    command = ["env", "-i", *said, str(program), "-n", "-c", str(root / "supervisord.conf")]
    with running(command, root / "out.log") as process:
        passed(time.monotonic(), lambda: truth(place), "a bare gateway that works")
        yield Bare(place, process.pid)
