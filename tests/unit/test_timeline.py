"""What failed and what was done about it, from events; and the report over a stretch of time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from outlast.cli.report import report_lines
from outlast.clock import iso
from outlast.core.report import report
from outlast.core.timeline import Incident, timeline

T0 = 1_795_244_400.0


def at(second: float, name: str, /, **fields: Any) -> dict[str, Any]:
    """An event so many seconds after T0."""
    return {"at": iso(T0 + second), "node": "coz", "event": name, **fields}


def told(*events: dict[str, Any]) -> list[tuple[str, str, str, float, float | None]]:
    """Kind, name, what was done, when it began and ended, of each incident."""
    return [_row(one) for one in timeline(events)]


def _row(one: Incident) -> tuple[str, str, str, float, float | None]:
    from datetime import datetime

    def seconds(text: str) -> float:
        return round(datetime.fromisoformat(text).timestamp() - T0, 3)

    return one.kind, one.name, one.done, seconds(one.at), seconds(one.until) if one.until else None


def test_a_failure_is_told_with_its_end() -> None:
    """Each kind of failure is closed by what ends it, by name; what goes on has no end."""
    assert told(
        at(1, "service.exited", name="web", reason="killed by SIGKILL", then="backoff"),
        at(2, "service.exited", name="board", reason="exit 1", then="resting"),
        at(3, "service.started", name="web"),
        at(4, "probe.failed", name="gateway", text="HTTP 500"),
        at(5, "alert", name="disk", text="only 2 % is free"),
        at(6, "peer.gone", peer="axiom"),
        at(9, "peer.back", peer="axiom"),
        at(10, "alert.over", name="disk"),
        at(11, "probe.passed", name="other"),
    ) == [
        ("service", "web", "started again", 1, 3),
        ("service", "board", "it rests, and a person is told", 2, None),
        ("probe", "gateway", "", 4, None),
        ("alert", "disk", "over", 5, 10),
        ("peer", "axiom", "what is for it waits; back", 6, 9),
    ]


def test_the_same_again_is_one_incident() -> None:
    """A service that ends five times before it lasts, a job that fails twice, a flood of refusals: one each, counted."""
    ends = [at(number, "service.exited", name="web", reason=f"exit {number}") for number in range(5)]
    jobs = [at(10 + number, "job.ended", name="nightly", verdict="failed", detail="exit 3") for number in range(2)]
    flaps = [
        at(100 * number + part, event, peer="pi")
        for number in (10, 11, 12, 40)
        for part, event in enumerate(["peer.gone", "peer.back"])
    ]
    floods = [
        at(20 + 60 * number, "message.refused", reason="unknown: bad signature", more_since_last=99)
        for number in range(3)
    ]
    found = timeline([*ends, *jobs, at(15, "job.ended", name="nightly", verdict="done"), *floods, *flaps])
    assert [(one.kind, one.times) for one in found] == [
        ("service", 5), ("job", 2), ("message", 300), ("peer", 3), ("peer", 1),
    ]  # fmt: skip
    assert found[0].what == "exit 4" and found[1].done == "done again"


def test_a_mode_is_told_with_why_and_what_was_shed() -> None:
    """From mode to mode: each begins with its cause and what was shed, and ends with what followed."""
    found = timeline(
        [
            at(0, "mode.changed", mode="degraded", before="normal", why="disk 90 % full", shed="P3 off"),
            at(60, "mode.changed", mode="emergency", before="degraded", why="disk 96 % full", shed="all but P0"),
            at(90, "mode.changed", mode="normal", before="emergency", why="the causes are gone"),
        ]
    )
    assert [(one.name, one.what, one.done) for one in found] == [
        ("degraded", "disk 90 % full", "shed: P3 off; then emergency: disk 96 % full"),
        ("emergency", "disk 96 % full", "shed: all but P0; normal again"),
    ]


def test_what_a_person_is_told_is_known_as_told() -> None:
    """An alert that was sent says so; a sub-agent that failed was queued again, until its task goes back to the main agent."""
    found = timeline(
        [
            at(0, "alert", name="disk", text="full"),
            at(1, "alert.told", names=["disk", "other"]),
            at(2, "subagent.ended", name="sub1", verdict="failed", detail="killed at its deadline"),
            at(3, "subagent.escalated", name="sub1", why="three times"),
            at(4, "subagent.ended", name="sub2", verdict="failed", detail="exit 1"),
            at(5, "subagent.ended", name="sub2", verdict="done"),
        ]
    )
    assert [(one.name, one.done, bool(one.until)) for one in found] == [
        ("disk", "a person was told", False),
        ("sub1", "queued again; its task was given back to the main agent", True),
        ("sub2", "queued again; done again", True),
    ]


def test_a_kill_is_seen_at_the_next_start() -> None:
    """A start after no stop says that the runtime was killed, since its last sign; a start after a stop says nothing."""
    first, second = at(0, "node.started"), at(60, "node.started")
    assert told(first, at(30, "task.closed", verdict="done"), second) == [("node", "coz", "started again", 30, 60)]
    assert told(first, at(30, "node.stopped"), second) == []


@given(
    st.lists(
        st.builds(
            at,
            st.integers(0, 10**6),
            st.sampled_from(
                ["service.exited", "service.started", "alert", "alert.over", "peer.gone", "peer.back", "job.ended", "x.y",
                 "mode.changed", "node.started", "node.stopped", "message.refused", "task.closed", "message.undelivered"]
            ),
            name=st.sampled_from(["a", "b"]),
            peer=st.sampled_from(["p", None, 7]),
            verdict=st.sampled_from(["done", "failed", None]),
            mode=st.sampled_from(["normal", "degraded", "emergency"]),
            before=st.sampled_from(["normal", "degraded"]),
            why=st.sampled_from(["because", "", 3]),
            detail=st.one_of(st.none(), st.text(max_size=5), st.dictionaries(st.just("peer"), st.just("q"))),
            more_since_last=st.sampled_from([0, 5, "many"]),
        ),
        max_size=80,
    )
)  # fmt: skip
def test_whatever_is_told_makes_sense(events: list[dict[str, Any]]) -> None:
    """From any events whatever: sorted, each ends no sooner than it began, none of a name is open twice, and few are kept."""
    ordered = sorted(events, key=lambda event: event["at"])
    found = timeline(ordered, most=10)
    assert len(found) <= 20 and [one.at for one in found] == sorted(one.at for one in found)
    assert all(not one.until or one.until >= one.at for one in found)
    still = [(one.kind, one.name) for one in found if not one.until]
    assert len(still) == len(set(still))
    summed = report("coz", ordered, [], T0 + 1000, T0 + 10**6 + 1)
    assert 0 <= summed.up_s <= summed.known_s <= 10**6
    assert abs(sum(one.seconds for one in summed.modes) - summed.known_s) < 1
    assert report_lines(summed, "24h")


def lines(*seconds: float, **fields: Any) -> list[dict[str, Any]]:
    """Lines of metrics at these moments."""
    return [{"at": iso(T0 + second), "mode": "normal", "kinds": {}, **fields} for second in seconds]


def day(events: Iterable[dict[str, Any]], measured: Iterable[dict[str, Any]] = (), until: float = 3600.0) -> Any:
    """The report over the hour after T0."""
    return report("coz", list(events), list(measured), T0, T0 + until)


def test_up_means_signs_of_life() -> None:
    """Stopped for ten minutes, and killed for five as far as anybody can know: that is what is missing. What a command wrote
    meanwhile is no sign of life."""
    found = day(
        [
            at(-600, "node.started"),
            at(600, "node.stopped"),
            at(800, "clean.done"),
            at(1200, "node.started"),
            at(2000, "task.closed", verdict="done"),
            at(2250, "step.closed", verdict="done"),
            at(2400, "node.started"),
        ],
        lines(2100.0, 3500.0),
    )
    assert [(one.why, one.seconds) for one in found.down] == [("stopped", 600.0), ("killed", 300.0)]
    assert found.up_s == 2700.0 and found.starts == 2


def test_a_node_that_is_dead_now_is_down_since_its_last_sign() -> None:
    """Nothing was written for longer than a living node is silent: down since then, killed or stopped as it was."""
    assert [(one.why, one.seconds) for one in day([at(-60, "node.started")], lines(600.0)).down] == [("killed", 3000.0)]
    stopped = [at(-60, "node.started"), at(900, "node.stopped")]
    assert [(one.why, one.seconds) for one in day(stopped).down] == [("stopped", 2700.0)]
    assert day([at(-60, "node.started")], lines(3000.0)).down == []


def test_modes_fill_the_time() -> None:
    """The mode that it was before counts from the beginning; each has its why."""
    found = day(
        [
            at(-900, "mode.changed", mode="degraded", before="normal", why="disk"),
            at(600, "mode.changed", mode="normal", before="degraded", why="the causes are gone"),
        ]
    )
    assert [(one.mode, one.why, one.seconds) for one in found.modes] == [
        ("degraded", "disk", 600.0),
        ("normal", "", 3000.0),
    ]
    assert (
        day([at(600, "node.started")], lines(3500.0)).known_s
        == 3000.0
        == day([at(600, "node.started")], lines(3500.0)).up_s
    )
    by_metrics = day([], lines(-60.0, mode="maintenance"))
    assert [one.mode for one in by_metrics.modes] == ["maintenance"]


def test_what_was_done_is_counted_with_its_success() -> None:
    """Tasks, jobs by name, messages, refusals: numbers, shares and durations; nothing of before."""
    found = day(
        [
            at(-5, "task.closed", verdict="failed", seconds=9),
            *(at(number, "task.closed", verdict="done", seconds=number) for number in (1, 2, 3)),
            at(4, "task.closed", verdict="failed", seconds=40),
            at(5, "job.ended", name="nightly", verdict="done", seconds=1.5),
            at(6, "job.ended", name="nightly", verdict="failed", seconds=2.5),
            at(7, "subagent.ended", name="x", verdict="done", seconds=1),
            at(8, "result.accepted"),
            at(9, "ping.accepted"),
            *[at(10, "message.delivered")] * 3,
            at(11, "message.undelivered", reason="refused", more_since_last=0),
            at(12, "message.refused", reason="unknown: rate", more_since_last=4),
            at(13, "alert", name="disk", text="full"),
        ]
    )
    tasks = found.work["tasks"]
    assert (tasks.number, tasks.success, tasks.median_s, tasks.longest_s) == (4, 0.75, 3.0, 40.0)
    assert found.jobs["nightly"].verdicts == {"done": 1, "failed": 1} and found.work["sub-agents"].number == 1
    assert found.messages == {
        "in": 1, "out": 3, "given_up": 0, "failed_requests": 1, "success": 0.75, "refused": {"unknown: rate": 5},
    }  # fmt: skip
    assert [alert.name for alert in found.alerts] == ["disk"]
    text = "\n".join(report_lines(found, "1h"))
    for words in ("75 %", "job nightly", "5 unknown: rate", "disk (holds): full", "what failed"):
        assert words in text, text


def test_nothing_is_reported_as_nothing() -> None:
    """An empty home makes a report that claims nothing."""
    found = day([])
    assert found.work == {} and found.incidents == [] and found.messages["success"] is None and found.figures == {}
    assert "nothing failed" in "\n".join(report_lines(found, "1h"))


def test_the_processor_s_time_is_summed_over_starts() -> None:
    """What an idle node uses is a little and not nothing, also in its first minute; what it used before is not counted."""

    def used(*counts: tuple[float, float]) -> float:
        measured = [line for at, cpu_s in counts for line in lines(at, seconds=60.0, cpu=0.0, cpu_s=cpu_s)]
        return float(day([], measured).figures["cpu_s"])

    assert used((600.0, 0.4)) == 0.4
    assert used((30.0, 100.0), (90.0, 100.03)) == 0.03
    assert used((30.0, 100.0), (90.0, 100.5), (600.0, 0.2), (660.0, 0.3)) == 0.8
