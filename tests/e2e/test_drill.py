"""playbooks/drill.yml on the embedded nodes: every failure of F1 to F8 for real, and the nodes as they were found afterwards."""

from __future__ import annotations

import re
import shutil
import sys

import pytest
from support.needs import missing

from .conftest import NODES, Clone, until

DRILL = "playbooks/drill.yml"
SCENARIOS = tuple(f"F{number}" for number in range(1, 9))


def settings(clone: Clone) -> dict[str, str]:
    """What the nodes are configured with."""
    return {node: (clone.home(node) / "etc/node.yml").read_text() for node in NODES}


def leftovers(clone: Clone) -> list[str]:
    """What a drill leaves nowhere: holders and their notes, work that is open, a mode, an old log, a feature that is off."""
    found = [line for line in clone.processes() if "/run/drill" in line]
    for node in NODES:
        home, status = clone.home(node), clone.status(node)
        found += [str(path) for path in (home / "run").glob("drill*/*")] + [
            str(path) for path in home.glob("run/drill.json")
        ]
        found += [
            str(path) for path in home.glob("workspace/logs/*.jsonl*") if b'"event":"drill"' in path.read_bytes()[:20]
        ]
        found += [f"{node}: {one['unit']} is open" for one in status["open"]]
        if status["mode"] != "normal" or not status["ready"] or status["subagents"]["off"]:
            found.append(f"{node}: {status['mode']}, {status['reasons']}, {status['subagents']['off']}")
    return found


def rows(text: str) -> dict[str, str]:
    """The lines of the table by drill."""
    return {line[:2]: line for line in text.splitlines() if re.match(r"F[1-8]  .*  (nothing|not known|\S.*)  ", line)}


def test_every_failure_is_survived(up: Clone) -> None:
    """All eight are noticed and recovered from, nothing is lost, who must be told is told, and the nodes are as before."""
    if sys.platform == "linux" and not shutil.which("bwrap"):
        missing("bubblewrap, in which sub-agents run")
    before = settings(up)
    done = up.play(DRILL)
    assert done.code == 0, done.text
    assert f"{len(SCENARIOS)} of {len(SCENARIOS)} drills passed" in done.text
    table = rows(done.text[done.text.index("noticed after  recovered after") :])
    assert tuple(table) == SCENARIOS, done.text
    assert all(re.search(r" (ms|s) +\S+ (ms|s) +nothing ", line) for line in table.values()), table
    for name, told in {"F5": "switched off", "F6": "is free", "F7": "are lost from", "F8": "emergency"}.items():
        assert told in table[name], table[name]
    assert settings(up) == before and leftovers(up) == []
    for node in NODES:
        assert up.outlast("--node", node, "doctor").code == 0
    again = up.play("playbooks/recover-state.yml")
    assert (again.code, again.changed()) == (0, 0), again.text


def test_a_look_at_the_plan_causes_nothing(up: Clone) -> None:
    """`--check` says what would be done, and touches no node."""
    pids = {node: up.status(node)["pid"] for node in NODES}
    done = up.play(DRILL, "--check", "-e", "scenario=F1,F4")
    assert (done.code, done.changed()) == (0, 0), done.text
    assert (
        "F1  axiom loses power: kill -9 of all of axiom" in done.text
        and "F4  " in done.text
        and "F2  " not in done.text
    )
    assert {node: up.status(node)["pid"] for node in NODES} == pids


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("scenario=F9",), "'F9' is none of F1, F2"),
        (("scenarios=F1",), "did you mean scenario?"),
        (("outlast_manage_machine=yes",), "add -e drill_real_hosts=yes -e sure=yes"),
        (("outlast_manage_machine=yes", "drill_real_hosts=yes"), "add -e drill_real_hosts=yes -e sure=yes"),
    ],
)
def test_what_is_mistyped_or_not_meant_is_refused(up: Clone, asked: tuple[str, ...], said: str) -> None:
    """Before anything is caused: drills that nobody knows, and real machines unless that was said twice."""
    done = up.play(DRILL, *(word for one in asked for word in ("-e", one)))
    assert done.code == 2 and said in " ".join(done.text.split()), done.text
    assert "Traceback" not in done.text and leftovers(up) == []


def test_a_node_that_is_not_well_is_not_drilled(up: Clone) -> None:
    """One in an emergency is left alone, with the line that says what is wrong, and so is its sibling."""
    assert up.outlast("--node", "axiom", "emergency", "--reason", "a person wants it so").code == 0
    try:
        pids = {node: up.status(node)["pid"] for node in NODES}
        done = up.play(DRILL, "-e", "scenario=F1")
        assert done.code == 2 and "1 of 2 nodes are well" in done.text, done.text
        assert "drills passed" not in done.text and {node: up.status(node)["pid"] for node in NODES} == pids
    finally:
        assert up.outlast("--node", "axiom", "resume", "--reason", "the test is over").code == 0


def test_a_run_that_is_cut_off_is_tidied_up_by_the_next(up: Clone) -> None:
    """Ctrl-C while the wire is cut: the failure is held by nobody for long, the next run ends it first, and all is as before."""
    before = settings(up)
    cut = up.interrupt("cut begins", str(up.root / ".venv/bin/ansible-playbook"), DRILL, "-e", "scenario=F3")
    assert cut.code != 0 and settings(up) != before
    done = up.play(DRILL, "-e", "scenario=F4")
    assert done.code == 0 and "1 of 1 drills passed" in done.text, done.text
    assert settings(up) == before
    until(lambda: leftovers(up) == [])
