"""The drills as data and words: every failure has one, what was caused always ends, and nothing passes that was not seen to."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

COLLECTIONS = Path(__file__).resolve().parents[2] / "collections"
sys.path.insert(0, str(COLLECTIONS))

from ansible_collections.outlast.agents.plugins.module_utils import (  # noqa: E402
    drill_acts,
    drill_harm,
    drill_memory,
    managers,
    outages,
)
from ansible_collections.outlast.agents.plugins.modules import drill as module  # noqa: E402
from ansible_collections.outlast.agents.plugins.plugin_utils import drill_words, drills, specs  # noqa: E402
from ansible_collections.outlast.agents.plugins.plugin_utils.drills import SCENARIOS, Run  # noqa: E402

from outlast.home import Home  # noqa: E402
from outlast.work.drilling import read_drills  # noqa: E402

STEPS = ("arm", "prepare", "cause", "notice", "relieve", "recover", "rest", "settle")
NODES = {"first": "coz", "second": "axiom"}
ACTS = {**drill_acts.ACTS, **drill_memory.ACTS, **drill_harm.ACTS}


def passed(scenario: str) -> Run:
    """A run in which everything that this drill asks for came true, a second apart."""
    told: dict[str, list[dict[str, Any]]] = {name: [] for name in NODES.values()}
    run = Run(NODES, 1000.0, told)
    at = 1000.0
    for step in STEPS:
        for name in NODES.values():
            at += 1.0
            ends = step in drills.ENDS
            for hold in drills.holds(run, scenario, step, name):
                mark = hold.ended if ends else hold.began
                told[name].append({"scenario": scenario, "node": name, "do": hold.kind, "mark": mark, "at": at})
            for act in drills.acts(run, scenario, step, name):
                said = {"scenario": scenario, "node": name, "do": act["do"], "mark": act["mark"], "at": at}
                told[name].append(said)
    return run


def without(run: Run, mark: str) -> Run:
    """The same run, in which what this mark stands for never came true."""
    told = {name: [one for one in said if not one["mark"].startswith(mark)] for name, said in run.told.items()}
    return Run(run.nodes, run.began, told)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_drill_passes_only_when_all_of_it_came_true(scenario: str) -> None:
    """Noticed and recovered from, after what was caused; and not once either is missing, something is lost, or went wrong."""
    run = passed(scenario)
    found = drill_words.verdict(run, scenario)
    assert found.passed and found.noticed_s is not None and found.recovered_s is not None, found
    for mark in ("noticed", "recovered"):
        assert not drill_words.verdict(without(run, mark), scenario).passed
    for bad in ({"lost": ["unit 3"]}, {"wrong": "axiom: it says nothing"}, {"known": {"gaps": 4}}):
        more = {"scenario": scenario, "node": "axiom", "do": "look", "mark": "", "at": 0.0, "known": {"gaps": 3}}
        told = {**run.told, "axiom": [*run.told["axiom"], more, {**more, **bad}]}
        assert not drill_words.verdict(Run(run.nodes, run.began, told), scenario).passed, bad


def test_a_drill_of_two_parts_needs_both() -> None:
    """F4 while the node runs and while it is stopped: one of them alone is no proof."""
    for part in ("noticed:running", "noticed:stopped", "recovered:running", "recovered:stopped"):
        assert not drill_words.verdict(without(passed("F4"), part), "F4").passed, part


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_what_was_caused_ends_whatever_went_wrong(scenario: str) -> None:
    """Every failure that is held ends in a later step, exactly once, also where something went wrong; nothing more begins then,
    and of all that nodes are asked only what leaves them as they were found is asked still."""
    for name in NODES.values():
        fine = Run(NODES, 1000.0, {})
        wrong = Run(
            NODES, 1000.0, {"coz": [{"scenario": scenario, "node": "coz", "do": "look", "wrong": "it is away"}]}
        )
        begun = [
            hold.kind for step in STEPS if step not in drills.ENDS for hold in drills.holds(fine, scenario, step, name)
        ]
        for run in (fine, wrong):
            ended = [hold.kind for step in drills.ENDS for hold in drills.holds(run, scenario, step, name)]
            assert sorted(begun) == sorted(ended)
        for step in ("arm", "cause"):
            assert not drills.holds(wrong, scenario, step, name)
        for step in ("prepare", "notice", "recover"):
            assert not drills.acts(wrong, scenario, step, name)
        assert [act["do"] for act in drills.acts(wrong, scenario, "settle", name)][-1] == "settle"


def everything() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every act of every drill, as a node is asked for it."""
    for scenario in SCENARIOS:
        for step in STEPS:
            for name in NODES.values():
                for act in drills.acts(Run(NODES, 1000.0, {}), scenario, step, name):
                    yield scenario, name, act


def test_nodes_can_do_what_they_are_asked_for() -> None:
    """Every act and failure is one that the modules know; nodes are called by their names; who needs an answer has had it."""
    asked: dict[str, list[str]] = {}
    for scenario, name, act in everything():
        assert act["do"] in ACTS, (scenario, act)
        assert not {"first", "second"} & set(map(str, act["args"].values())), (scenario, name, act)
        assert not act["needs"] or act["needs"] in asked[scenario], (scenario, act)
        asked.setdefault(scenario, []).append(act["do"])
    kinds = {hold.kind for one in SCENARIOS.values() for holds in one.holds.values() for hold in holds}
    assert kinds == set(outages.OUTAGES)


@pytest.mark.parametrize("failure", ["power", "down"])
def test_one_that_fails_as_it_begins_is_undone_as_well(failure: str) -> None:
    """A node that was killed, or is half stopped, is started again, though its service manager said that it could not."""
    started: list[bool] = []

    class Refuses:
        """A service whose manager does what it is told, and then says that it did not."""

        def stop(self) -> None:
            raise managers.ManagerTrouble("Job canceled")

        def start(self) -> None:
            started.append(True)

        kill = stop

    place: Any = SimpleNamespace(service=Refuses())
    with pytest.raises(managers.ManagerTrouble, match="canceled"), outages.OUTAGES[failure](place):
        pass
    assert started


def test_a_node_beside_the_two_is_left_alone() -> None:
    """A third node of the inventory neither fails nor is asked for anything."""
    run = Run(NODES, 1000.0, {})
    for scenario in SCENARIOS:
        for step in STEPS:
            assert not drills.acts(run, scenario, step, "witness") and not drills.holds(run, scenario, step, "witness")


@pytest.mark.parametrize(
    ("nodes", "real", "sure", "said"),
    [
        (["coz", "axiom"], [], False, ""),
        (["coz", "axiom"], ["axiom"], False, "drill_real_hosts: axiom: a real machine"),
        (["coz", "axiom"], ["axiom"], True, ""),
        (["axiom"], [], False, "nodes: axiom alone cannot be drilled"),
        (["coz", "witness"], [], False, "outlast_peers: coz and witness do not talk to each other"),
    ],
)
def test_who_may_be_drilled(nodes: list[str], real: list[str], sure: bool, said: str) -> None:
    """Real machines only where that was said twice; two nodes that talk to each other; each refusal ends with its mend."""
    talks = {"coz": ["axiom"], "axiom": ["coz"]}
    wrong = drill_words.findings(["F1"], nodes, talks, real, sure=sure)
    assert [line.startswith(said) and "; mend: " in line for line in wrong] == ([True] if said else []), wrong


def test_several_are_asked_for_with_commas() -> None:
    """Each word is held against what is known, with the one that was probably meant."""
    known = {"scenario": {"several": list(SCENARIOS)}, "sure": "bool"}
    assert not specs.asked({"scenario": "F1, F8"}, known)
    (found,) = specs.asked({"scenario": "F1,f4"}, known)
    assert found["field"] == "scenario" and "'f4' is none of" in found["wrong"] and found["mend"] == "did you mean F4?"


def test_after_a_drill_that_left_a_node_ill_nothing_more_is_caused() -> None:
    """The drills after it begin nothing and do not pass, and say why; the one that did it still ends all that it caused."""
    ill = {"scenario": "F1", "node": "axiom", "do": "settle", "mark": "", "at": 0.0, "wrong": "axiom: not ready"}
    run = Run(NODES, 1000.0, {"axiom": [ill]})
    for step in STEPS:
        for name in NODES.values():
            assert not drills.acts(run, "F3", step, name)
            assert step in drills.ENDS or not drills.holds(run, "F3", step, name)
    found = drill_words.verdict(run, "F3")
    assert not found.passed and "not well after F1" in found.wrong[0]
    assert drills.holds(run, "F1", "relieve", "axiom")


def test_the_node_knows_when_it_is_drilled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the first act of a drill to its last: what begins then is told to a person as a drill; also where an act fails."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/node.yml").write_text("node: coz\n")
    (tmp_path / "var").mkdir()
    home, seen = Home(tmp_path), []

    def look(_: object) -> dict[str, Any]:
        seen.append(read_drills(home)[-1].until > time.time() + 60)
        raise RuntimeError("an act that fails")

    monkeypatch.setattr(module, "ACTS", {"look": look, "settle": lambda _: {}})
    values = {"home": str(tmp_path), "scenario": "F1", "run": 1.0, "since": 0, "given": {}}
    module.carry_out({**values, "acts": [{"do": "look"}, {"do": "settle"}]})
    assert seen == [True] and read_drills(home)[-1].until > time.time()
    module.carry_out({**values, "acts": [{"do": "settle"}]})
    [drill] = read_drills(home)
    assert drill.began <= drill.until <= time.time()
