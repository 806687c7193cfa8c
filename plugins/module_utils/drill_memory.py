"""What a node does in drills of memory: STATE.json spoilt, records of the journal lost, and both put right.

Keeps: only what the drill itself wrote is taken out of the journal, and it is put back as it was, also when the run that took
it out was cut off. Leaves to others: stopping the node meanwhile (the module outage).
"""

from __future__ import annotations

import json
import os
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

from ansible_collections.outlast.agents.plugins.module_utils.drill_node import DrillTrouble, Node, moment

from outlast.errors import CorruptError
from outlast.store import durable
from outlast.store.statefile import read_state

__all__ = ["ACTS", "tidy"]

Facts = dict[str, Any]
_LOOK_S = 30.0
# Bytes in the middle of STATE.json, as a dying card leaves them.
_SPOILT = b"\0" * 64


def known(node: Node) -> Facts:
    """How much the node knows."""
    status = node.order("status")
    return {"known": {kind: {name: n for name, n in status[kind].items() if n} for kind in ("tasks", "handoffs")}}


def spoil(node: Node) -> Facts:
    """Overwrite bytes of STATE.json."""
    path = node.home.state_file
    with open(path, "r+b") as file:
        file.seek(max(0, path.stat().st_size // 2 - len(_SPOILT)))
        file.write(_SPOILT)
    try:
        read_state(path, node.name)
    except CorruptError:
        return {"spoilt": sha256(path.read_bytes()).hexdigest()}
    raise DrillTrouble("STATE.json: what was spoilt was not noticed by a read")


def doctor(node: Node, about: str) -> Facts:
    """An examination finds it, and puts it right."""
    findings = node.order("doctor", {"deep": False})["findings"]
    found = [one for one in findings if about in one["about"]]
    if not found:
        raise DrillTrouble(f"outlast doctor: nothing is found about {about}")
    return {"at": time.time(), "found": f"{found[0]['found']}; {found[0]['done']}"}


def mended(node: Node) -> Facts:
    """Records that the running node wrote were put back: by an examination, or by the node before it."""
    findings = node.order("doctor", {"deep": False})["findings"]
    if any(one["about"] == "memory/" for one in findings):
        return {"at": time.time()}
    return {"at": moment(node.event("journal.mended", _LOOK_S)["at"])}


def found(node: Node, about: str, told: bool = False) -> Facts:
    """The last start found it, and put it right or noted it; ``told``: which is what a person reads of it."""
    status = node.until(node.status, _LOOK_S, "an answer")
    node.since = max(node.since, moment(status["since"]))
    event = node.event("doctor.finding", _LOOK_S, about=about)
    line = f"{event['about']}: {event['found']}; {event['done']}"
    return {"at": moment(event["at"]), "found": line, "alerts": [line] if told else []}


def whole(node: Node) -> Facts:
    """STATE.json is right, and what was there before is in the trash."""
    path = node.home.state_file
    try:
        state = read_state(path, node.name)
    except CorruptError as error:
        return {"lost": [f"STATE.json: {error}"]}
    kept = [one for one in node.home.trash.glob("*STATE.json*") if _SPOILT in one.read_bytes()]
    lost = [] if state else ["STATE.json: it is not there"]
    return {"at": time.time(), "lost": lost if kept else [*lost, "the spoilt STATE.json: it was not kept"]}


def remember(node: Node, to: str, label: str, count: int) -> Facts:
    """Put records into the journal that a drill may take out again."""
    for number, unit in enumerate(node.units(label, count)):
        node.order("note", {"unit": unit, "peer": to, "text": f"a drill wrote this to lose it: {number}"})
    return {}


def cut(node: Node, label: str, count: int) -> Facts:
    """Take these records out of the daily file."""
    taken = _lines(node, label, count)
    if len(taken) < count:
        raise DrillTrouble(f"{node.home.memory}: only {len(taken)} of {count} records are there")
    path = taken[-1][0]
    lines = [line for at, line in taken if at == path]
    before = path.read_text(encoding="utf-8").splitlines()
    follows = "".join(before[before.index(lines[-1]) + 1 :][:1])
    durable.replace(_taken(node), json.dumps({"path": path.name, "lines": lines, "before": follows}).encode())
    _rewrite(path, [line for line in before if line not in lines])
    return {"at": time.time()}


def held(node: Node, label: str, count: int) -> Facts:
    """The records are in the daily file, each once."""
    there = [line for _, line in _lines(node, label, count)]
    lost = [] if len(there) == len(set(there)) == count else [f"{label}: {len(there)} of {count} records are there"]
    _taken(node).unlink(missing_ok=True)
    return {"at": time.time(), "lost": lost}


def restore(node: Node) -> Facts:
    """Put back what was taken out, and have it noted as back."""
    if tidy(node.home.root):
        node.order("doctor", {"deep": False})
    return {}


def tidy(home: Path) -> bool:
    """Put back what a drill took out of a journal, where it did; return whether there was something."""
    note = home / "run" / _TAKEN
    try:
        taken = json.loads(note.read_bytes())
    except FileNotFoundError:
        return False
    path = home / "workspace" / "memory" / os.path.basename(taken["path"])
    lines = path.read_text(encoding="utf-8").splitlines()
    missing = [line for line in taken["lines"] if line not in lines]
    at = lines.index(taken["before"]) if taken["before"] in lines else len(lines)
    if missing:
        _rewrite(path, [*lines[:at], *missing, *lines[at:]])
    note.unlink()
    return bool(missing)


_TAKEN = "drill.json"


def _taken(node: Node) -> Path:
    return Path(node.home.root, "run", _TAKEN)


def _lines(node: Node, label: str, count: int) -> list[tuple[Path, str]]:
    units = tuple(f" NOTE {unit} " for unit in node.units(label, count))
    return [
        (path, line)
        for path in sorted(node.home.memory.glob("????-??-??.md"))[-2:]
        for line in path.read_text(encoding="utf-8").splitlines()
        if any(unit in line for unit in units) and f"[{node.name}:" in line
    ]


def _rewrite(path: Path, lines: list[str]) -> None:
    """As an editor does it: what others may do with the file stays as it was."""
    durable.replace(path, "".join(f"{line}\n" for line in lines).encode(), mode=path.stat().st_mode & 0o777)


ACTS = {
    "known": known,
    "spoil": spoil,
    "doctor": doctor,
    "mended": mended,
    "found": found,
    "whole": whole,
    "remember": remember,
    "cut": cut,
    "held": held,
    "restore": restore,
}
