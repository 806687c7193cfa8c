"""What is counted, written and read again of what happens on a node: events, metrics, LOAD_STATUS.json."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest
from support.clock import FixedClock

from outlast.config import load_config
from outlast.core.ids import age, new_unit, trace_of
from outlast.core.load import in_short, is_news, stopped
from outlast.core.metrics import Counts
from outlast.errors import ConfigError
from outlast.store import history, lines, metrics
from outlast.store.events import EventLog
from outlast.work import observer

NOW = 1_795_244_947.0
DAY = 86400.0


def log(folder: Path, **other: Any) -> EventLog:
    """An event log whose clock stands still."""
    return EventLog(folder, "coz", FixedClock(NOW), **other)


def read(path: Path) -> list[dict[str, Any]]:
    """Every line, none of which may be damaged."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_what_is_about_a_unit_leads_to_its_trace(tmp_path: Path) -> None:
    """Every entry has the three ids; one that names a unit and no trace has the unit's, one that names another keeps it."""
    events, unit = log(tmp_path), new_unit("coz", NOW, 7)
    events.emit("task.stuck", correlation_id=unit)
    events.emit("task.closed", correlation_id=unit, trace_id="ab" * 16, span_id="cd" * 8)
    events.emit("node.started")
    events.burst("message.refused", "why")
    first, second, *others = read(tmp_path / "2026-11-21.jsonl")
    assert first["trace_id"] == trace_of(unit) and second["trace_id"] == "ab" * 16
    assert all({"trace_id", "span_id", "correlation_id"} <= entry.keys() for entry in (first, second, *others))


def test_what_comes_in_floods_is_counted_and_written_once(tmp_path: Path) -> None:
    """A burst is one line, and heard as often as it came."""
    events, heard = log(tmp_path), []
    events.heard = heard.append
    for _ in range(50):
        events.burst("message.refused", "bad signature")
    events.tell("probe.ended", ok=True)
    assert len(read(tmp_path / "2026-11-21.jsonl")) == 1
    assert [event["event"] for event in heard] == ["message.refused"] * 50 + ["probe.ended"]


def test_a_day_of_events_ends_at_its_limit_and_says_so(tmp_path: Path) -> None:
    """The last line of a full day tells that it is full; what comes after is heard; the next day has room again."""
    clock = FixedClock(NOW)
    events, heard = EventLog(tmp_path, "coz", clock, 2000), []
    events.heard = heard.append
    for number in range(100):
        events.emit("x", number=number)
    found = read(tmp_path / "2026-11-21.jsonl")
    assert found[-1]["event"] == "log.full" and len(heard) == 100 > len(found)
    assert (tmp_path / "2026-11-21.jsonl").stat().st_size < 2000 + 200
    clock.now += DAY
    events.emit("y")
    assert [entry["event"] for entry in read(tmp_path / "2026-11-22.jsonl")] == ["y"]


def test_half_a_line_spoils_no_other(tmp_path: Path) -> None:
    """After a power cut left half a line, the next begins on its own, and reading passes over the half."""
    path = tmp_path / "2026-11-21.jsonl"
    path.write_bytes(b'{"at":"2026-11-21T05:00:00.000Z","event":"a"}\n{"at":"2026-11-2')
    assert lines.append(path, b'{"at":"2026-11-21T05:00:01.000Z","event":"b"}\n')
    assert [entry["event"] for entry in history.events(tmp_path, NOW - DAY)] == ["a", "b"]


def test_a_full_disk_leaves_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written by half is taken back, and the caller is told; nothing is raised."""
    path, write = tmp_path / "x.jsonl", os.write
    assert lines.append(path, b"first\n")
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:3]))
    assert not lines.append(path, b"second\n")
    monkeypatch.setattr(os, "write", write)
    assert lines.append(path, b"third\n") and path.read_bytes() == b"first\nthird\n"
    path.unlink()
    os.mkfifo(path)
    assert not lines.append(path, b"nobody reads it\n")


def test_reading_finds_packed_days_and_the_newest_of_much(tmp_path: Path) -> None:
    """Of several days, packed or not, the events since a moment come in order; of too much, the last whole lines."""
    for day, packed in (("19", True), ("20", True), ("21", False)):
        data = b"".join(b'{"at":"2026-11-%sT%02d:00:00.000Z"}\n' % (day.encode(), hour) for hour in range(24))
        path = tmp_path / f"2026-11-{day}.jsonl"
        (tmp_path / f"{path.name}.gz").write_bytes(gzip.compress(data)) if packed else path.write_bytes(data)
    (tmp_path / "metrics-2026-11-21.jsonl").write_text("{}\n")
    (tmp_path / "2026-11-18.jsonl.gz").write_bytes(b"no gzip")
    found = [entry["at"] for entry in history.events(tmp_path, 1_795_132_800.0 - 3600)]
    assert found == sorted(found) and found[0] == "2026-11-19T23:00:00.000Z" and len(found) == 49
    few = [entry["at"] for entry in history.events(tmp_path, 0.0, 100)]
    assert few == ["2026-11-21T22:00:00.000Z", "2026-11-21T23:00:00.000Z"]


def test_how_often_how_badly_and_how_long() -> None:
    """Kinds are counted with errors and seconds; what was told is not told again, what is since the start stays."""
    counts = Counts()
    for event in (
        {"event": "task.accepted"}, {"event": "ping.accepted"}, {"event": "message.refused"},
        {"event": "message.delivered", "seconds": 0.2}, {"event": "task.closed", "verdict": "done", "seconds": 2},
        {"event": "task.closed", "verdict": "failed", "seconds": 40.5}, {"event": "job.ended", "verdict": "failed"},
        {"event": "job.skipped"}, {"event": "service.exited", "exit_code": -9}, {"event": "peer.gone"}, {"event": "alert"},
        {"event": "handoff.made"}, {"event": "message.undelivered"},
    ):  # fmt: skip
        counts.hear(event)
    told = counts.since_last()
    figures = {kind: (one["n"], one["errors"]) for kind, one in told.items()}
    assert figures == {
        "message_in": (2, 1), "control_in": (1, 0), "message_out": (2, 1), "task": (2, 1), "job": (1, 1),
        "service": (1, 1), "peer": (1, 1), "alert": (1, 0),
    }  # fmt: skip
    assert told["task"]["seconds"] == 42.5 and told["task"]["max"] == 40.5
    assert counts.since_last() == {} and counts.report()["task"]["buckets"] == [0, 0, 0, 0, 1, 0, 1, 0, 0, 0]


def test_kinds_are_few() -> None:
    """Whoever invents names of events fills no memory."""
    counts = Counts()
    for number in range(1000):
        counts.hear({"event": f"kind{number}.ended"})
    assert len(counts.report()) <= 33 and sum(one["n"] for one in counts.report().values()) == 1000


def test_what_is_routine_is_no_news() -> None:
    """A sibling that sleeps, and probes that pass, are worth no line of their own; a probe that fails is."""
    counts = Counts()
    for event in ({"event": "share.undelivered"}, {"event": "ping.accepted"}, {"event": "probe.ended", "ok": True}):
        counts.hear(event)
    assert not counts.is_news
    counts.hear({"event": "probe.failed"})
    assert counts.is_news


def test_metrics_are_a_line_each_up_to_a_limit(tmp_path: Path) -> None:
    """A line says when and where; over the limit there is none."""
    assert metrics.write(tmp_path, "coz", NOW, {"rss": 1}, 1000)
    assert read(tmp_path / "metrics-2026-11-21.jsonl") == [{"at": "2026-11-21T07:09:07.000Z", "node": "coz", "rss": 1}]
    assert not metrics.write(tmp_path, "coz", NOW, {"rss": 2}, 80)
    assert [line["rss"] for line in history.metrics(tmp_path, NOW - 1)] == [1]


def test_how_old_a_unit_is_only_its_name_tells() -> None:
    """The age of a unit is that of its name; a name that somebody chose says nothing, and raises nothing."""
    assert age(new_unit("coz", NOW, 1), NOW + 2.5) == pytest.approx(2.5, abs=0.002)
    assert (
        age(new_unit("coz", NOW, 1), NOW - 10)
        == age("nightly", NOW)
        == age("", NOW)
        == age("coz-000000000001", NOW)
        == 0.0
    )


def test_a_budget_that_no_day_fits_into_is_refused(tmp_path: Path) -> None:
    """One line says which field, what is wrong, and the mend."""
    path = tmp_path / "node.yml"
    node = "node: coz\nlisten: {host: 127.0.0.1, port: 1}\nagent: {command: [/bin/true]}\nobserve: {budget: 512KiB}\n"
    path.write_text(node)
    with pytest.raises(ConfigError, match=r"observe\.budget.*1MiB"):
        load_config(path)


STATUS: dict[str, Any] = {
    "node": "coz", "version": "1", "pid": 7, "since": "2026-11-21T05:09:07.123Z", "ready": True, "reasons": [],
    "mode": "normal", "mode_reasons": [], "services": {"ingress": "up"}, "supervised": {"web": {"state": "running"}},
    "jobs": {"nightly": {"state": "waiting"}}, "channels": {"axiom": {"breaker": "closed", "queued": 2}},
    "tasks": {"open": 1}, "handoffs": {"open": 0}, "alerts": [{"name": "disk", "urgency": "now", "text": "…"}],
    "disk_percent": 40.0,
}  # fmt: skip
FIGURES = {"cpu_percent": 1.0, "load_1m": 0.5, "cpus": 2, "rss_bytes": 30 << 20}


def test_programs_are_told_what_they_need() -> None:
    """LOAD_STATUS.json names mode, services, jobs, queue, alerts, load and memory; at the end, that it is over."""
    short = in_short(STATUS, FIGURES)
    assert short["services"] == {"ingress": "up", "web": "running"} and short["jobs"] == {"nightly": "waiting"}
    assert short["queue"] == {"tasks": 1, "handoffs": 0, "messages": 2}
    assert short["alerts"] == [{"name": "disk", "urgency": "now"}] and short["memory"] == {"rss_bytes": 30 << 20}
    last = stopped(short)
    assert not last["ready"] and last["reasons"] == ["stopped"] and set(last["services"].values()) == {"stopped"}


def test_words_are_news_at_once_and_figures_seldom() -> None:
    """A mode, a service or a queue that changes is told at the next check; figures only when they are much different and the
    last was told a quarter of an hour ago."""
    before = in_short(STATUS, FIGURES)
    assert is_news({}, before, 0.0)
    for other in (
        {"mode": "degraded"},
        {"supervised": {"web": {"state": "resting"}}},
        {"tasks": {"open": 2}},
        {"alerts": []},
    ):
        assert is_news(before, in_short({**STATUS, **other}, FIGURES), 1.0)
    much = in_short({**STATUS, "disk_percent": 45.0}, FIGURES | {"rss_bytes": 60 << 20})
    little = in_short({**STATUS, "disk_percent": 40.4}, FIGURES | {"rss_bytes": 31 << 20, "cpu_percent": 5.0})
    assert not is_news(before, much, 60.0) and is_news(before, much, 901.0) and not is_news(before, little, 1e9)


def test_what_a_hardened_unit_hides_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the machine's load cannot be read (ProcSubset=pid) it is 0, and everything else is still told."""

    def hidden() -> tuple[float, float, float]:
        raise OSError("Load averages are unobtainable")

    monkeypatch.setattr(os, "getloadavg", hidden)
    assert observer._load() == 0.0 and observer._rss() > 1 << 20
