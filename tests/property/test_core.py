"""Properties of the pure core: what holds for every input."""

from __future__ import annotations

import ast
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import outlast.core
from outlast import messages
from outlast.core import breaker
from outlast.core.backoff import delay
from outlast.core.ids import new_unit, valid_unit
from outlast.core.modes import Observed, Standing, Thresholds, decide, resume
from outlast.core.ratelimit import Bucket, take
from outlast.core.record import Damaged, Record, Step, format_record, one_line, parse_day, parse_line
from outlast.core.recovery import Task, plan_task
from outlast.core.state import KEEP, State, close_unit, fold, phrase
from outlast.quantity import duration, size

UNITS = st.integers(0, 5).map(lambda n: f"coz-00000000000{n}")
WHATS = st.one_of(
    st.sampled_from(["from axiom: a", "to axiom: b", "done", "failed: exit 1", "in doubt: x", "returned"]), st.text()
)


@st.composite
def records(draw: st.DrawFn) -> Record:
    return Record(
        "2026-11-21",
        "12:00:00",
        draw(st.sampled_from(list(Step))),
        draw(UNITS),
        one_line(draw(WHATS)) or "-",
        "coz",
        draw(st.integers(1, 30)),
    )


_PURE = ("outlast.core", "outlast.errors", "outlast.quantity", "outlast.settings")


def test_the_core_is_pure() -> None:
    """No module of the core imports what reaches out: the system, sockets, time, randomness, or the shell's own modules."""
    for path in Path(outlast.core.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert name.split(".")[0] not in {"os", "socket", "time", "random", "secrets", "asyncio", "pathlib"}, (
                    path
                )
                ours = name.startswith("outlast.") and not name.startswith(_PURE)
                assert not ours, path


@given(records())
def test_a_record_comes_back_as_it_was_written(record: Record) -> None:
    """Whatever a record says, its line is one line, and parses to the same record, also where it ends with CR LF."""
    line = format_record(record)
    assert list(parse_day(record.day, f"#\r\n{line}\r\n{line}\n")) == [parse_line(record.day, line)] * 2
    assert "\n" not in line and "\r" not in line
    assert parse_line("2026-11-21", line) == record


@given(records(), st.data())
def test_a_changed_record_is_never_taken_for_another(record: Record, data: st.DataObject) -> None:
    """A line with one character changed, cut or moved to another day is damaged or no record, never a different one."""
    line = format_record(record)
    at = data.draw(st.integers(0, len(line) - 1))
    other = data.draw(st.characters(min_codepoint=32, max_codepoint=126).filter(lambda c: c != line[at]))
    for changed in (line[:at] + other + line[at + 1 :], line[:at] + line[at + 1 :], line[:at]):
        if changed != line:
            parsed = parse_line("2026-11-21", changed)
            assert parsed is None or isinstance(parsed, Damaged)
    assert isinstance(parse_line("2026-11-22", line), Damaged)


@given(st.text())
def test_any_text_is_read_without_error(text: str) -> None:
    """People may write what they like: reading a line never fails, and free text is never a record."""
    assert parse_line("2026-11-21", text) is None or "[" in text


@given(st.lists(records(), max_size=40))
def test_folding_again_changes_nothing(found: list[Record]) -> None:
    """The projection of a journal is the same when parts of it are folded twice, as after a crash."""
    once = State(node="coz")
    for record in found:
        once = fold(once, record)
    again = once
    for record in found:
        again = fold(again, record)
    assert again == once
    assert msgspec.json.decode(msgspec.json.encode(once), type=State) == once


@given(st.lists(st.tuples(st.integers(0, 400), st.booleans()), max_size=60))
def test_open_units_are_never_dropped(found: list[tuple[int, bool]]) -> None:
    """However many units are closed, every open one stays, and no more than KEEP closed ones do."""
    state, seq = State(node="coz"), 0
    still_open = set()
    closed = set()
    for number, end in [*((n, True) for n in range(500, 500 + KEEP)), *found]:
        unit = f"coz-{number:012d}"
        seq += 1
        state = fold(state, Record("2026-11-21", "12:00:00", Step.INTENT, unit, "to axiom: x", "coz", seq))
        if unit not in closed:
            still_open.add(unit)
        if end:
            state = close_unit(state, unit, "done", "", "now")
            still_open.discard(unit)
            closed.add(unit)
    assert still_open <= set(state.open("handoff")) | closed
    assert sum(unit.status != "open" for unit in state.units.values()) <= KEEP


@given(UNITS, st.sampled_from(["done", "failed", "in doubt", "returned"]), st.text(max_size=80))
def test_a_verdict_survives_the_journal(unit: str, verdict: str, detail: str) -> None:
    """What CONFIRM says can be read back from the journal alone."""
    opened = fold(State(node="coz"), Record("2026-11-21", "12:00:00", Step.INTENT, unit, "to axiom: x", "coz", 1))
    said = one_line(phrase(verdict, one_line(detail)))  # type: ignore[arg-type]
    closed = fold(opened, Record("2026-11-21", "12:00:01", Step.CONFIRM, unit, said, "coz", 2))
    assert closed.units[unit].status == verdict
    assert closed.units[unit].confirmed


@given(st.integers(0, 200), st.floats(0.001, 10), st.floats(10, 1000))
def test_backoff_stays_within_its_bounds(attempt: int, base: float, limit: float) -> None:
    """A delay lies between 0 and min(base · 2^attempt, max), both ends included, whatever the attempt."""
    assert delay(attempt, base, limit, lambda low, high: low) == 0.0
    highest = delay(attempt, base, limit, lambda low, high: high)
    assert highest == min(base * 2.0 ** min(attempt, 60), limit)


@given(st.lists(st.sampled_from(["ok", "fail", "wait", "heard"]), max_size=60))
def test_the_breaker_opens_after_failures_and_lets_one_trial_through(steps: list[str]) -> None:
    """Three failures in a row open the breaker; open, nothing passes before the cooldown or a sign of life; then one does."""
    state, now, row = breaker.BreakerState(), 1000.0, 0
    for step in steps:
        if step == "wait":
            now += 300.0
        elif step == "heard":
            state = breaker.heard(state, now, 300.0)
        elif breaker.allows(state, now, 300.0):
            state = breaker.started(state)
            assert state.status != "half-open" or not breaker.allows(state, now, 300.0)
            row = 0 if step == "ok" else row + 1
            state = breaker.succeeded(state) if step == "ok" else breaker.failed(state, now, 3)
            assert (state.status == "open") == (row >= 3)
        else:
            assert state.status == "open"
            assert breaker.opens_in(state, now, 300.0) > 0


@given(st.lists(st.floats(0, 20), min_size=1, max_size=80), st.integers(1, 20))
def test_no_window_lets_more_than_twice_the_rate_through(pauses: list[float], rate: int) -> None:
    """A bucket of N a window passes at most N at once, and never more than N plus what the time since allows."""
    bucket: Bucket | None = None
    now, passed = 0.0, 0
    for pause in pauses:
        now += pause
        bucket, wait = take(bucket, now, rate, 60.0)
        passed += wait == 0.0
        assert passed <= rate + now * rate / 60.0 + 1e-6
        if wait:
            _, later = take(bucket, now + wait + 1e-6, rate, 60.0)
            assert later == 0.0


OBSERVED = st.builds(
    Observed, st.floats(0, 100), st.dictionaries(st.just("axiom"), st.floats(0, 10_000)), st.booleans()
)
LIMITS = Thresholds(85, 95, 1800.0)


@given(st.lists(OBSERVED, max_size=30))
def test_every_mode_is_explained_and_left_by_rule(checks: list[Observed]) -> None:
    """A mode other than normal names its reasons; an emergency stays until a person ends it; degraded needs two calm checks."""
    standing = Standing()
    for seen in checks:
        before, standing = standing, decide(standing, seen, LIMITS)
        assert (standing.mode == "normal") == (not standing.reasons)
        if before.emergency:
            assert standing.emergency
        if seen.maintenance:
            assert standing.mode == "maintenance"
        elif standing.emergency:
            assert standing.mode == "emergency"
        if before.mode == "degraded" and standing.mode == "normal":
            assert standing.calm == 2
    calm = Observed(10.0, {}, maintenance=False)
    ended = decide(decide(resume(standing), calm, LIMITS), calm, LIMITS)
    assert ended.mode == "normal"


@given(st.booleans(), st.booleans(), st.integers(0, 9), st.booleans(), st.integers(1, 5))
def test_an_agent_never_runs_again_without_leave(
    accepted: bool, result: bool, attempts: int, rerun: bool, limit: int
) -> None:
    """A verdict that is on the disk is kept; an agent that was begun runs again only if it may, and not for ever."""
    plan = plan_task(Task(accepted, result, attempts), rerun=rerun, attempts=limit)
    if result:
        assert plan.action == "finish"
    if plan.action == "run":
        assert accepted and not result
        assert attempts == 0 or (rerun and attempts < limit)
    if plan.action == "close" and accepted:
        assert plan.verdict == "in doubt"
    assert plan.told


@given(st.floats(0, 4e9), st.integers(0, (1 << 18) - 1), st.floats(0.001, 1e6))
def test_units_are_valid_and_sort_by_time(now: float, random18: int, later: float) -> None:
    """A unit's name is a safe folder name, and a later one sorts after an earlier one of the same node."""
    first, second = new_unit("coz", now, random18), new_unit("coz", now + later, random18)
    assert valid_unit(first)
    if int((now + later) * 1000) > int(now * 1000):
        assert first < second


@given(st.text())
def test_quantities_are_read_or_refused(text: str) -> None:
    """Any text is a quantity above zero, or is refused with what is wrong and the mend."""
    for read in (duration, size):
        try:
            assert read(text) > 0
        except ValueError as error:
            assert "; " in str(error)


def test_close_is_final() -> None:
    """A closed unit is not closed again as something else."""
    state = fold(State(node="coz"), Record("2026-11-21", "12:00:00", Step.INTENT, "coz-1", "to axiom: x", "coz", 1))
    once = close_unit(state, "coz-1", "done", "", "now")
    assert close_unit(once, "coz-1", "failed", "no", "later") == once


def test_a_unit_is_one_line() -> None:
    """A unit that ends in a line's end is refused from the wire: it names a folder and stands in the journal."""
    fields = {"type": "task", "unit": "coz-0123456789ab", "task": "x"}
    assert msgspec.convert(fields, messages.Task).unit == fields["unit"]
    with pytest.raises(msgspec.ValidationError, match="unit"):
        msgspec.convert({**fields, "unit": fields["unit"] + "\n"}, messages.Task)
