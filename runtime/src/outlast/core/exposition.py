"""What ``/metrics`` answers: a node's status as text that Prometheus reads, format 0.0.4.

Rules kept here: names, units and types are those that ``promtool check metrics`` asks for; whatever a name holds, a label is
quoted, so that nobody writes lines of their own; what a status does not tell has no line.

Left to others: serving it (net.dashboard), what is counted (core.metrics).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from outlast.core.metrics import BOUNDS

__all__ = ["CONTENT_TYPE", "metrics_text"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_MODES = ("normal", "degraded", "emergency", "maintenance")
# Name, type, help; in the order of the answer.
_METRICS = {
    "outlast_info": ("gauge", "Which node this is, and its version."),
    "outlast_start_time_seconds": ("gauge", "When the runtime was started, in seconds since 1970."),
    "outlast_ready": ("gauge", "Whether the node takes work."),
    "outlast_mode": ("gauge", "The mode that the node is in: 1 for it, 0 for the others."),
    "outlast_operations_total": ("counter", "What was done since the start, by kind and outcome."),
    "outlast_operation_duration_seconds": ("histogram", "How long it took, by kind."),
    "outlast_messages_refused_total": ("counter", "Messages that were refused since the start, by reason."),
    "outlast_channel_sent_total": ("counter", "Messages that a peer took, over all starts."),
    "outlast_channel_received_total": ("counter", "Messages that were taken from a peer, over all starts."),
    "outlast_channel_gaps_total": ("counter", "Numbers that were skipped by a peer's messages, over all starts."),
    "outlast_channel_repeats_total": ("counter", "Messages that came again, over all starts."),
    "outlast_channel_queued": ("gauge", "Messages that wait for a peer."),
    "outlast_breaker_open": ("gauge", "Whether the circuit breaker before a peer or an external service is open."),
    "outlast_open_units": ("gauge", "Tasks and hand-offs that are open."),
    "outlast_service_up": ("gauge", "Whether a part of the node, or a service that it runs, is up."),
    "outlast_service_restarts_total": ("counter", "How often a service was started again since the start."),
    "outlast_job_ok": ("gauge", "Whether a job's last run was done."),
    "outlast_job_last_end_time_seconds": ("gauge", "When a job's last run ended, in seconds since 1970."),
    "outlast_alert": ("gauge", "1 for each alert that holds."),
    "outlast_disk_used_ratio": ("gauge", "How much of the disk is used, from 0 to 1."),
    "outlast_clock_skew_seconds": ("gauge", "How far a peer's clock is ahead."),
    "outlast_process_resident_memory_bytes": ("gauge", "Memory that the runtime holds."),
    "outlast_process_cpu_seconds_total": ("counter", "CPU time of the runtime."),
    "outlast_loop_lag_seconds": ("gauge", "How late the event loop was when it last woke up by the clock."),
    "outlast_spans_dropped_total": ("counter", "Spans that could not be written since the start."),
}
_UP = frozenset({"up", "ready", "working", "running", "starting"})
_BREAKERS = frozenset({"open"})


def metrics_text(status: Mapping[str, Any]) -> bytes:
    """All metrics of a node, from what ``outlast status --json`` prints."""
    samples: dict[str, list[str]] = {name: [] for name in _METRICS}
    for name, suffix, labels, value in _samples(status):
        quoted = ",".join(f'{key}="{_quoted(label)}"' for key, label in labels.items())
        samples[name].append(f"{name}{suffix}{f'{{{quoted}}}' if quoted else ''} {_number(value)}")
    lines = []
    for name, told in samples.items():
        if told:
            kind, text = _METRICS[name]
            lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}", *told]
    return "\n".join([*lines, ""]).encode("utf-8", "replace")


_Sample = tuple[str, str, dict[str, str], float]


def _samples(status: Mapping[str, Any]) -> Iterator[_Sample]:
    yield "outlast_info", "", {"node": status["node"], "version": status["version"]}, 1
    yield "outlast_start_time_seconds", "", {}, _moment(status["since"])
    yield "outlast_ready", "", {}, bool(status["ready"])
    for mode in _MODES:
        yield "outlast_mode", "", {"mode": mode}, status["mode"] == mode
    yield "outlast_disk_used_ratio", "", {}, round(status["disk_percent"] / 100, 5)
    for reason, count in sorted(status.get("refused", {}).items()):
        yield "outlast_messages_refused_total", "", {"reason": reason}, count
    for kind in ("tasks", "handoffs"):
        yield "outlast_open_units", "", {"kind": kind}, status[kind]["open"]
    for alert in status["alerts"]:
        yield "outlast_alert", "", {"alert": alert["name"], "urgency": alert["urgency"]}, 1
    yield from _channels(status)
    yield from _programs(status)
    yield from _observed(status.get("observer", {}))


def _channels(status: Mapping[str, Any]) -> Iterator[_Sample]:
    for peer, channel in sorted(status["channels"].items()):
        for what in ("sent", "received", "gaps", "repeats"):
            yield f"outlast_channel_{what}_total", "", {"peer": peer}, channel[what]
        yield "outlast_channel_queued", "", {"peer": peer}, channel["queued"]
        yield "outlast_breaker_open", "", {"target": peer}, channel["breaker"] in _BREAKERS
    for name, external in _told(status.get("external", {})):
        if "breaker" in external:
            yield "outlast_breaker_open", "", {"target": name}, external["breaker"] in _BREAKERS
    for peer, skew in sorted(status["skew_s"].items()):
        if skew is not None:
            yield "outlast_clock_skew_seconds", "", {"peer": peer}, skew


def _programs(status: Mapping[str, Any]) -> Iterator[_Sample]:
    supervised = status.get("supervised", {})
    states = {**status["services"], **{name: one["state"] for name, one in supervised.items()}}
    for name, state in sorted(states.items()):
        yield "outlast_service_up", "", {"service": name}, state in _UP
    for name, one in sorted(supervised.items()):
        yield "outlast_service_restarts_total", "", {"service": name}, one["restarts"]
    for name, job in _told(status.get("jobs", {})):
        if last := job.get("last"):
            yield "outlast_job_ok", "", {"job": name}, last["verdict"] == "done"
            yield "outlast_job_last_end_time_seconds", "", {"job": name}, _moment(last["ended"])


def _observed(observer: Mapping[str, Any]) -> Iterator[_Sample]:
    for kind, one in observer.get("kinds", {}).items():
        for outcome, count in (("ok", one["n"] - one["errors"]), ("error", one["errors"])):
            yield "outlast_operations_total", "", {"kind": kind, "outcome": outcome}, count
        if not one["timed"]:
            continue
        name, total = "outlast_operation_duration_seconds", 0
        for bound, count in zip([*map(str, BOUNDS), "+Inf"], one["buckets"], strict=True):
            total += count
            yield name, "_bucket", {"kind": kind, "le": bound}, total
        yield name, "_sum", {"kind": kind}, one["seconds"]
        yield name, "_count", {"kind": kind}, one["timed"]
    for key, name in (
        ("rss", "outlast_process_resident_memory_bytes"),
        ("cpu_s", "outlast_process_cpu_seconds_total"),
        ("lag_s", "outlast_loop_lag_seconds"),
        ("spans_dropped", "outlast_spans_dropped_total"),
    ):
        if key in observer:
            yield name, "", {}, observer[key]


def _told(part: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """What a part tells of each that it looks after; of one that failed there is a text instead."""
    return sorted((name, one) for name, one in part.items() if isinstance(one, Mapping))


def _moment(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
