"""Spans: which events are one, and that OpenTelemetry reads them."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from google.protobuf.json_format import Parse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from support.clock import FixedClock

from outlast.core.ids import span_of, trace_of
from outlast.core.spans import request, span
from outlast.store.spans import Spans

TRACE, SPAN, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "00f067aa0ba902b7"
ENDED = {
    "at": "2026-11-21T05:09:07.500Z",
    "node": "coz",
    "event": "task.closed",
    "trace_id": TRACE,
    "span_id": SPAN,
    "parent_id": PARENT,
    "correlation_id": "coz-d1zkffdmvrmx",
    "seconds": 2.25,
    "verdict": "done",
}


def parse(line: bytes) -> ExportTraceServiceRequest:
    """What a collector makes of a line, once ids are base64, as protobuf's own JSON has them (docs/architecture.md)."""
    found = json.loads(line)
    for resource in found["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for one in scope["spans"]:
                for key in {"traceId", "spanId", "parentSpanId"} & one.keys():
                    one[key] = base64.b64encode(bytes.fromhex(one[key])).decode()
    return Parse(json.dumps(found), ExportTraceServiceRequest())


def made(**other: Any) -> dict[str, Any]:
    """The span of ENDED with other fields."""
    found = span({**ENDED, **other})
    assert found is not None
    return found


def test_opentelemetry_reads_a_line() -> None:
    """A line is an ExportTraceServiceRequest with resource, ids, parent, times, attributes and status."""
    read = parse(request("coz", "1.0", [made(attempt=3, share=0.5, good=True, detail="two files")]))
    (resource,) = read.resource_spans
    about = {one.key: one.value.string_value for one in resource.resource.attributes}
    assert about == {"service.name": "outlast", "service.instance.id": "coz", "service.version": "1.0"}
    (one,) = resource.scope_spans[0].spans
    assert (one.trace_id.hex(), one.span_id.hex(), one.parent_span_id.hex()) == (TRACE, SPAN, PARENT)
    assert one.end_time_unix_nano - one.start_time_unix_nano == 2_250_000_000
    assert one.end_time_unix_nano == 1_795_237_747_500_000_000
    assert (one.name, one.status.code) == ("task", one.status.STATUS_CODE_OK)
    told = {item.key: item.value for item in one.attributes}
    assert told["outlast.attempt"].int_value == 3 and told["outlast.share"].double_value == 0.5
    assert told["outlast.good"].bool_value and told["outlast.detail"].string_value == "two files"


def test_what_failed_is_marked_as_an_error_with_its_reason() -> None:
    """A verdict but done, an exit code but 0, and messages that were given up are errors."""
    assert made(verdict="failed", detail="exit 3")["status"] == {"code": 2, "message": "exit 3"}
    assert made(verdict=None, exit_code=1)["status"]["code"] == 2
    assert made(verdict=None, event="message.given_up", why="it is refused")["status"]["message"] == "it is refused"


def test_a_message_that_is_taken_hangs_below_its_sender() -> None:
    """The span of who sent it is the parent, also of the second of two messages; what keeps nodes in touch is none."""
    taken = {**ENDED, "event": "task.accepted", "id": "task_coz-d1zkffdmvrmx", "seconds": None}
    found = span(taken)
    assert found is not None and found["parentSpanId"] == SPAN and found["spanId"] != SPAN
    assert found["startTimeUnixNano"] == found["endTimeUnixNano"]
    for kind in ("ping", "share", "trace", "status"):
        assert span({**taken, "event": f"{kind}.accepted"}) is None


def test_what_is_no_end_is_no_span() -> None:
    """Events without ids, without a duration, or with what is neither, make no span and raise nothing."""
    for other in (
        {"trace_id": ""}, {"span_id": "xyz"}, {"trace_id": None}, {"seconds": None}, {"seconds": "2"}, {"seconds": True},
        {"at": "yesterday"}, {"at": None}, {"seconds": float("inf")}, {"seconds": float("nan")},
    ):  # fmt: skip
        assert span({**ENDED, **other}) is None


def test_a_span_is_bounded() -> None:
    """However much an event says, its span has few attributes, each short; what is no text is told as JSON."""
    found = made(**{f"field{number}": "x" * 5000 for number in range(100)})
    assert len(found["attributes"]) <= 16 and len(json.dumps(found)) < 8000
    assert made(names=["a", "b"])["attributes"][-1]["value"] == {"stringValue": '["a","b"]'}


def test_ids_need_no_memory() -> None:
    """The ids of a unit follow from its name, are shaped as W3C has them, and differ by part and unit."""
    assert trace_of("coz-d1zkffdmvrmx") == trace_of("coz-d1zkffdmvrmx") != trace_of("coz-d1zkffdmvrmy")
    assert len(trace_of("x")) == 32 and len(span_of("x", "task")) == 16
    assert len({span_of(unit, part) for unit in ("a", "b") for part in ("task", "handoff", "agent 1")}) == 6


def test_spans_are_written_together_and_at_most_a_batch_waits(tmp_path: Path) -> None:
    """Without a loop they wait; a full batch is one line at once; the folder is made when it is needed."""
    folder = tmp_path / "traces"
    spans = Spans(folder, "coz", FixedClock(1_795_244_947.0), 1 << 20)
    for _ in range(127):
        spans.hear(ENDED)
    assert not folder.exists()
    spans.hear(ENDED)
    (file,) = folder.iterdir()
    assert (
        file.name == "2026-11-21.jsonl" and len(parse(file.read_bytes()).resource_spans[0].scope_spans[0].spans) == 128
    )
    spans.hear(ENDED)
    spans.flush()
    assert len(file.read_bytes().splitlines()) == 2


def test_a_day_of_spans_ends_at_its_limit(tmp_path: Path) -> None:
    """What there is no room for is counted and left out; what is there stays whole."""
    spans = Spans(tmp_path, "coz", FixedClock(1_795_244_947.0), 3000)
    spans.hurry = True
    for _ in range(10):
        spans.hear(ENDED)
    (file,) = tmp_path.iterdir()
    lines = file.read_bytes().splitlines()
    assert file.stat().st_size <= 3000 and len(lines) + spans.dropped == 10 and spans.dropped > 0
    assert all(parse(line) for line in lines)
