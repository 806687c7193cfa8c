"""What the fault tests share: an agent that can be counted, what must hold once all has settled, and faults from strace.

Rules kept here: what is checked is read from the disk, by means of our own (hashlib, json) and not by the runtime's code;
a fault hits the daemon alone, never the agent that it runs.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook
from support.live import LiveNode, pair, until

from outlast.core.ids import new_unit

__all__ = [
    "Captured",
    "CountingAgent",
    "assert_once",
    "attached",
    "capture",
    "closed_on",
    "envelope",
    "events",
    "extras",
    "hand_over",
    "injected",
    "key",
    "read_only",
    "running_pair",
    "script",
    "settled",
    "trace_or_skip",
    "traceable",
]

# An attempt every few milliseconds, and no end of them: the tests wait for the node, not for its patience.
_IMPATIENT: dict[str, Any] = {
    "retry": {"base": "20ms", "max": "100ms", "attempts": 100_000},
    "breaker": {"failures": 100_000},
    "health": {"interval": "1s"},
}


def script(path: Path, text: str) -> Path:
    """Write an executable shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o700)
    return path


class CountingAgent:
    """An agent that leaves one file, and notes each of its runs outside, where no start of a node can lose it."""

    def __init__(self, folder: Path, *, work: str = "") -> None:
        """``work`` is shell between the note that it began and the artifact."""
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "runs"
        self.log.touch()
        lines = [f'echo "$OUTLAST_UNIT $$" >> {self.log}', work, 'echo "made for $OUTLAST_UNIT" > result.md']
        self.path = script(folder / "agent.sh", "\n".join([*lines, "echo finished"]))

    def runs(self, unit: str) -> int:
        """How often it was started for this unit."""
        return sum(line.split()[0] == unit for line in self.log.read_text().splitlines())

    def pids(self) -> list[int]:
        """The process ids of all runs."""
        return [int(line.split()[1]) for line in self.log.read_text().splitlines()]


def extras(command: Path, **sections: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a node under test: this agent, an impatient outbox, and ``sections`` laid over it."""
    laid: dict[str, Any] = {"agent": {"command": [str(command)]}, **_IMPATIENT}
    for name, fields in sections.items():
        laid[name] = {**laid.get(name, {}), **fields}
    return laid


@contextlib.contextmanager
def running_pair(root: Path, command: Path, **sections: dict[str, Any]) -> Iterator[tuple[LiveNode, LiveNode]]:
    """coz and axiom, started, both with ``extras``."""
    with pair(root, extras(command, **sections), extras(command, **sections)) as (coz, axiom):
        for node in (coz, axiom):
            node.start()
        yield coz, axiom


def closed_on(node: LiveNode, unit: str) -> str:
    """How the unit ended according to STATE.json, which is read without asking the node; empty while it has not."""
    found = node.state()["units"].get(unit, {}).get("status", "open") if node.home.state_file.exists() else "open"
    return "" if found == "open" else str(found)


def hand_over(coz: LiveNode) -> str:
    """Hand axiom a unit, as ``outlast handoff --no-wait`` does; its name. Raises OutlastError if that is refused."""
    unit = new_unit("coz", time.time(), secrets.randbits(18))
    coz.order("handoff", {"unit": unit, "peer": "axiom", "task": "host report"})
    return unit


def events(node: LiveNode, event: str, about: str = "") -> list[dict[str, Any]]:
    """The node's events of this kind, of those the ones whose line holds ``about``."""
    lines = [line for path in sorted(node.home.logs.glob("*.jsonl")) for line in path.read_text().splitlines()]
    found = [json.loads(line) for line in lines if about in line]
    return [entry for entry in found if entry.get("event") == event]


def _left(node: LiveNode) -> list[str]:
    return sorted(path.name for path in node.home.tasks.iterdir())


def settled(coz: LiveNode, axiom: LiveNode, *, limit: float = 60.0) -> None:
    """Wait until both nodes answer, every unit is closed on both, and nothing waits to be sent."""

    def quiet() -> bool:
        both = coz.status(), axiom.status()
        return all(
            found
            and not found["tasks"]["open"]
            and not found["handoffs"]["open"]
            and not any(channel["queued"] for channel in found["channels"].values())
            for found in both
        )

    try:
        until(quiet, limit=limit, what="both nodes are done")
        until(lambda: _left(axiom) == [], limit=10, what="var/tasks is empty")
    except AssertionError:
        raise AssertionError(f"not done:\n{coz.status()}\n{axiom.status()}\n{axiom.log()}\n{coz.log()}") from None


def assert_once(
    coz: LiveNode, axiom: LiveNode, units: Sequence[str], *, verdicts: Sequence[str] = ("done",), strict: bool = True
) -> None:
    """Every unit is done exactly once or reported, and both nodes tell the same; nothing is left over.

    ``strict``: one record of each step. A record whose write was reported as failed may be there twice.
    """
    for unit in units:
        verdict = closed_on(coz, unit)
        assert verdict in verdicts, f"{unit} is {verdict or 'open'} on coz"
        assert closed_on(axiom, unit) == verdict, f"{unit} is {verdict} on coz, and on axiom {closed_on(axiom, unit)}"
        for node in (coz, axiom):
            for step in ("INTENT", "CONFIRM"):
                records = node.records(step, unit)
                assert records, f"{node.name} has no {step} of {unit}"
                assert len(records) == 1 or not strict, f"{node.name} has {records}"
            assert all(f" CONFIRM {unit} {verdict}" in line for line in node.records("CONFIRM", unit))
        _assert_artifact(axiom, unit, verdict)
    assert _left(axiom) == [], "a task is left in var/tasks"
    strangers = {path.name for path in axiom.home.artifacts.iterdir()} - set(axiom.state()["units"])
    assert not strangers, f"artifacts of no known unit: {strangers}"
    for node in (coz, axiom):
        rest = [path for path in node.home.workspace.rglob("*.tmp") if path.name.startswith(".")]
        # What the node itself is just writing gets its name with the next look.
        gone = f"half-written files, which a start takes away: {rest}"
        until(lambda rest=rest: not any(path.exists() for path in rest), limit=10.0, what=gone)  # type: ignore[misc]


def _assert_artifact(axiom: LiveNode, unit: str, verdict: str) -> None:
    artifact = axiom.home.artifacts / unit
    assert artifact.exists() == (verdict == "done"), f"{unit} is {verdict}, its artifact {artifact.exists()}"
    if verdict == "done":
        manifest = json.loads((artifact / ".outlast.json").read_text())
        assert manifest["unit"] == unit and manifest["verdict"] == "done"
        told = {file["path"]: (file["size"], file["sha256"]) for file in manifest["files"]}
        there = {path.name: path.read_bytes() for path in artifact.iterdir() if path.name != ".outlast.json"}
        assert told == {name: (len(data), sha256(data).hexdigest()) for name, data in there.items()}
        assert there == {"result.md": f"made for {unit}\n".encode()}


def trace_or_skip() -> None:
    """Skip where strace cannot inject faults into a process of ours."""
    if sys.platform != "linux" or shutil.which("strace") is None:
        pytest.skip("strace is not installed: faults cannot be injected at a system call")
    tried = subprocess.run(
        ["strace", "-qq", "-o", "/dev/null", "-e", "inject=fsync:error=EIO", "true"], capture_output=True, check=False
    )
    if tried.returncode != 0:
        pytest.skip(f"strace may not trace here: {tried.stderr.decode().strip()}")


# Where only ancestors may trace (Yama), a process may name others: PR_SET_PTRACER, PR_SET_PTRACER_ANY.
_MAY_BE_TRACED = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(0x59616D61, ctypes.c_ulong(-1), 0, 0, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


def traceable() -> list[str]:
    """A wrapper for ``LiveNode.start`` that lets strace attach to the node."""
    return [sys.executable, "-S", "-E", "-c", _MAY_BE_TRACED]


@contextlib.contextmanager
def attached(node: LiveNode, *expressions: str, output: Path | str = os.devnull) -> Iterator[None]:
    """Trace the node's daemon (its main thread, where every write is made; not the agents), then let go of it."""
    assert node.process is not None
    words = [word for expression in expressions for word in ("-e", expression)]
    tracer = subprocess.Popen(
        ["strace", "-qq", "-o", str(output), *words, "-p", str(node.process.pid)], stderr=subprocess.PIPE
    )
    status = Path(f"/proc/{node.process.pid}/status")
    try:
        until(
            lambda: tracer.poll() is not None or node.ended() or f"TracerPid:\t{tracer.pid}\n" in status.read_text(),
            what="strace is attached",
        )
        # It may be hit at once, by what it still had to write.
        if tracer.poll() is not None and not node.ended():
            said = tracer.stderr.read().decode().strip() if tracer.stderr else ""
            assert "not permitted" in said, f"strace: {said}; {node.name}: {node.log()}"
            pytest.skip(f"strace may not attach here: {said}")
        yield
    finally:
        tracer.terminate()
        tracer.communicate(timeout=30)


def injected(call: str, what: str) -> tuple[str, str]:
    """The expressions for ``attached`` that make a system call fail, or kill at it (see strace -e inject)."""
    return f"trace={call}", f"inject={call}:{what}"


def key(node: LiveNode, name: str) -> str:
    """The first secret of ``NAME.key``, as the node holds it."""
    path: Path = node.home.keys / f"{name}.key"
    return path.read_text().split()[0]


def envelope(unit: str, **changes: Any) -> str:
    """The body of a task message from coz to axiom; ``changes`` replace fields, and ``...`` takes one away."""
    fields = {
        "v": 1,
        "from": "coz",
        "to": "axiom",
        "channel": "main",
        "seq": 1,
        "trace_id": "0" * 32,
        "span_id": "0" * 16,
        "correlation_id": unit,
        "message": {"type": "task", "unit": unit, "task": "host report"},
    }
    return json.dumps({name: value for name, value in (fields | changes).items() if value is not ...})


@dataclass(frozen=True)
class Captured:
    """A signed request, as somebody on the wire sees it."""

    path: str
    body: str
    headers: dict[str, str]

    def send(self, node: LiveNode) -> tuple[int, dict[str, str], bytes]:
        """Post it to the node: status, headers (lower-case names) and body of its answer."""
        connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=30)
        try:
            connection.request("POST", self.path, self.body.encode(), self.headers)
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()


def capture(secret: str, msg_id: str, body: str, *, at: float | None = None, sender: str = "coz") -> Captured:
    """Sign a message by the reference implementation of Standard Webhooks, which is not ours. ``at``: seconds since 1970."""
    moment = datetime.fromtimestamp(int(time.time() if at is None else at), UTC)
    headers = {
        "content-type": "application/json",
        "webhook-id": msg_id,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": Webhook(secret).sign(msg_id, moment, body),
    }
    return Captured(f"/inbox/{sender}", body, headers)


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Let nobody write below ``folder``, not even root."""
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    if os.geteuid() != 0:
        modes = {path: path.stat().st_mode for path in folders}
        for path in folders:
            path.chmod(0o500)
        try:
            yield
        finally:
            for path in folders:
                path.chmod(modes[path])
        return
    command = ["chattr", "-R"]
    try:
        made = subprocess.run([*command, "+i", str(folder)], capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("as root, chattr is needed to make a folder read-only")
    try:
        if made.returncode != 0:
            pytest.skip(f"nothing can be made immutable here: {made.stderr.decode().strip()}")
        yield
    finally:
        subprocess.run([*command, "-i", str(folder)], capture_output=True, check=False)
