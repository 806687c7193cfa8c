"""Properties of what a node knows of its work: projection, rebuilding, and joining, for every history."""

from __future__ import annotations

from itertools import pairwise

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from outlast.core.gaps import RESTORED, Gap, gap_phrase
from outlast.core.record import Record, Step, one_line
from outlast.core.recovery import Evidence, StagedStep, agreeing, correct, plan_step, rebuild, reflected
from outlast.core.state import (
    KEEP,
    Present,
    State,
    close_unit,
    fold,
    fold_all,
    intent_phrase,
    is_whole,
    join,
    phrase,
    tells,
    with_names,
    without,
)
from outlast.store.statefile import decode, encode

TAILS = [f"coz-{number:012d}" for number in range(8)]
UNITS = st.sampled_from([*TAILS, "8", "notes"])
NAMES = st.sampled_from(["notes.md", "a/b.md", "report"])
VERDICTS = st.sampled_from(["done", "failed", "in doubt", "returned"])
KINDS = st.sampled_from(["task", "handoff", "step"])
TEXTS = st.text(max_size=40)


@st.composite
def whats(draw: st.DrawFn) -> tuple[Step, str, str]:
    """A record's step, unit and what: any of the fixed phrases, or anything at all."""
    step = draw(st.sampled_from(list(Step)))
    unit = draw(UNITS)
    if step is Step.INTENT:
        return step, unit, intent_phrase(draw(KINDS), "coz", draw(TEXTS), (draw(NAMES),))
    if step is Step.CONFIRM:
        return step, unit, phrase(draw(VERDICTS), one_line(draw(TEXTS)))
    if step is Step.NOTE and draw(st.booleans()):
        first = draw(st.integers(1, 50))
        return (
            step,
            "gap",
            gap_phrase(
                first, first + draw(st.integers(0, 5)), "from 2026-11-20", draw(st.sampled_from(["", "1a2b3c4"]))
            ),
        )
    if step is Step.RECOVER and draw(st.booleans()):
        return (
            step,
            unit,
            f"its artifact shows {draw(VERDICTS)}; {intent_phrase('step', '', draw(TEXTS), (draw(NAMES),))}",
        )
    return step, draw(st.sampled_from(["mode", "artifacts", unit])), one_line(draw(TEXTS)) or "-"


def numbered(found: list[tuple[Step, str, str]]) -> list[Record]:
    return [
        Record("2026-11-21", f"12:00:{number % 60:02d}", step, unit, one_line(what) or "-", "axiom", number)
        for number, (step, unit, what) in enumerate(found, 1)
    ]


HISTORIES = st.lists(whats(), max_size=60).map(numbered)


def evidence(name: str, ended: int, kind: str = "task") -> Evidence:
    sender, makes = ("axiom", ("notes.md",)) if kind == "step" else ("coz", ())
    moment = f"2026-11-21T12:{ended // 60:02d}:{ended % 60:02d}.000Z"
    return Evidence(name, "host report", sender, "done", moment, kind, makes)  # type: ignore[arg-type]


@given(HISTORIES, st.data())
def test_folding_at_once_or_in_any_parts_is_the_same(history: list[Record], data: st.DataObject) -> None:
    """A start that finds any older STATE and folds the rest ends where one that reads everything does."""
    whole = fold_all(State(node="axiom"), history)
    one_by_one = State(node="axiom")
    for record in history:
        one_by_one = fold(one_by_one, record)
    assert one_by_one == whole
    cut = data.draw(st.integers(0, len(history)))
    older = fold_all(State(node="axiom"), history[:cut])
    assert fold_all(older, history) == whole
    assert decode(encode({"axiom": whole}), "axiom") == {"axiom": whole}


@given(st.lists(st.tuples(st.integers(0, 260), st.booleans()), max_size=80))
def test_closed_units_are_dropped_alike(found: list[tuple[int, bool]]) -> None:
    """Beyond KEEP the same closed units are dropped, however many records are folded at once."""
    steps = [(number, True) for number in range(KEEP)] + found
    said = []
    for number, end in steps:
        said.append((Step.INTENT, f"coz-{number:012d}", "makes a: x"))
        if end:
            said.append((Step.CONFIRM, f"coz-{number:012d}", "failed: x"))
    history = numbered(said)
    one_by_one = State(node="axiom")
    for record in history:
        one_by_one = fold(one_by_one, record)
    whole = fold_all(State(node="axiom"), history)
    assert list(one_by_one.units.items()) == list(whole.units.items())
    assert one_by_one == whole
    assert sum(unit.status != "open" for unit in whole.units.values()) <= KEEP


@given(HISTORIES, st.lists(st.tuples(UNITS, VERDICTS), max_size=5), st.sets(UNITS))
def test_a_rebuild_is_the_projection_and_the_artifacts(
    history: list[Record], updates: list[tuple[str, str]], there: set[str]
) -> None:
    """Whatever STATE was lost: the journal gives it back, and what only an artifact tells is added once; open work stays
    open; doing it again changes nothing."""
    state, correction = rebuild("axiom", history, sorted(there), lambda name: evidence(name, 1, "step"))
    assert state == fold_all(State(node="axiom"), history)
    rebuilt = correction.apply(state, "2026-11-22", "12:00:00")
    known = {record.unit for record in history if tells(record)}
    added = {owed.unit for owed in correction.owed}
    assert added == there - known
    assert all(rebuilt.units[name].status == "done" for name in added)
    assert all(rebuilt.units[name] == unit for name, unit in state.units.items())
    assert rebuilt.artifacts == reflected(rebuilt, there)
    later = [
        Record("2026-11-22", "12:00:00", owed.step, owed.unit, owed.what, "axiom", number)
        for number, owed in enumerate(correction.owed, state.seq + 1)
    ]
    again, nothing = rebuild("axiom", [*history, *later], sorted(there), lambda name: evidence(name, 1, "step"))
    assert not nothing.owed and not nothing.findings
    assert nothing.apply(again, "2026-11-23", "12:00:00") == rebuilt
    # STATE may know more than the journal: what both say is kept in STATE's words.
    old = rebuilt
    for name, verdict in updates:
        old = close_unit(old, name, verdict, "in so many more words", "now")  # type: ignore[arg-type]
    mixed = agreeing(rebuilt, old)
    assert {name: unit.status for name, unit in mixed.units.items()} == {
        name: unit.status for name, unit in rebuilt.units.items()
    }


def test_many_artifacts_and_nothing_else_are_counted_once() -> None:
    """With the journal and STATE lost, the newest artifacts come back as units and the rest is counted; a second rebuild from
    what was noted then finds nothing new."""
    names = [f"coz-{number:012d}" for number in range(KEEP + 50)]

    def read(name: str) -> Evidence:
        return evidence(name, int(name[4:]))

    state, correction = rebuild("axiom", [], names, read)
    rebuilt = correction.apply(state, "2026-11-22", "12:00:00")
    assert len(rebuilt.units) == KEEP and set(rebuilt.units) == set(names[50:])
    assert rebuilt.artifacts == with_names(Present(), names)
    assert any("50 " in finding.found for finding in correction.findings)
    records = [
        Record("2026-11-22", "12:00:00", owed.step, owed.unit, one_line(owed.what), "axiom", number)
        for number, owed in enumerate(correction.owed, 1)
    ]
    _, again = rebuild("axiom", records, names, read)
    assert not again.owed and not again.findings
    (newer,) = correct(rebuilt, set(names), [*names, "coz-zzzzzzzzzzzz"], lambda name: evidence(name, 3000)).owed
    assert newer.unit == "coz-zzzzzzzzzzzz"


@given(st.sets(st.text(min_size=1)), st.data())
def test_names_are_counted_in_any_order(names: set[str], data: st.DataObject) -> None:
    """The value of the names does not depend on their order, changes with each of them, and taking one out undoes it."""
    listed = data.draw(st.permutations(sorted(names)))
    whole = with_names(Present(), names)
    assert with_names(Present(), listed) == whole
    for shorter, longer in pairwise([listed[:count] for count in range(len(listed) + 1)]):
        assert with_names(Present(), shorter) != with_names(Present(), longer)
    cut = data.draw(st.integers(0, len(listed)))
    assert without(whole, listed[cut:]) == with_names(Present(), listed[:cut])


STATES = st.dictionaries(
    st.sampled_from(["coz", "axiom", "witness"]),
    HISTORIES.map(lambda history: fold_all(State(node=""), history)),
).map(lambda found: {node: msgspec.structs.replace(state, node=node) for node, state in found.items()})


@given(STATES, STATES, STATES)
def test_joining_is_commutative_associative_and_idempotent(
    a: dict[str, State], b: dict[str, State], c: dict[str, State]
) -> None:
    """In whichever order git merges STATE.json, all ends the same, byte for byte, and no node's own state goes back."""
    assert encode(join(a, b)) == encode(join(b, a))
    assert encode(join(join(a, b), c)) == encode(join(a, join(b, c)))
    assert encode(join(a, a)) == encode(a)
    for node, state in join(a, b).items():
        assert state.seq == max(side[node].seq for side in (a, b) if node in side)


@given(KINDS, st.text(max_size=300))
def test_an_intent_never_passes_a_part_for_the_whole(kind: str, text: str) -> None:
    """A text that an INTENT does not hold to the letter can be told from one that it does."""
    said = one_line(intent_phrase(kind, "coz", text, ("notes.md",)))  # type: ignore[arg-type]
    state = fold(State(node="axiom"), Record("2026-11-21", "12:00:00", Step.INTENT, "coz-1", said, "axiom", 1))
    unit = state.units["coz-1"]
    assert unit.kind == kind
    if is_whole(unit.what):
        assert unit.what == text


@given(
    st.integers(1, 10**9),
    st.integers(0, 10**6),
    st.sampled_from(["", "1a2b3c4d5e6f"]),
    st.sampled_from(["from 2026-11-20", RESTORED]),
)
def test_a_gap_is_read_back(first: int, many: int, git: str, where: str) -> None:
    """What is noted of a gap can be read back from the journal."""
    said = gap_phrase(first, first + many, where, git)
    state = fold(State(node="coz"), Record("2026-11-21", "12:00:00", Step.NOTE, "gap", said, "coz", 1))
    assert state.gaps == (Gap(first, first + many, git, where == RESTORED),)


def test_only_what_is_published_is_carried_through() -> None:
    """A step whose artifact is there is finished; one without it waits for whoever began it."""
    assert plan_step("8", StagedStep(artifact=True, staged=True)).action == "finish"
    assert "abandon" in plan_step("8", StagedStep(artifact=False, staged=True)).told
    assert "run again" in plan_step("8", StagedStep(artifact=False, staged=False)).told
