"""Spans, as OTLP has them in JSON, from events: an event that says how long something took is the end of a span.

Rules kept here:

* an event with ``trace_id``, ``span_id`` and ``seconds`` is a span that ends then, below ``parent_id`` where it has one; a
  message with work in it that is taken (``X.accepted``) is a span without length below that of its sender. Nothing is
  remembered between a beginning and an end, so that a kill in between costs no span;
* one line is one ExportTraceServiceRequest as OTLP's JSON encoding has it: ids in hexadecimal, where protobuf's own JSON has
  base64, kinds and states by number, and 64-bit figures as strings;
* an attribute is short, however long what the event says is.

Left to others: writing them (store.spans); which events there are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from outlast.core.ids import span_of
from outlast.core.plainjson import to_json
from outlast.core.ratelimit import lane

__all__ = ["is_bad", "request", "span"]

_FIXED = {"at", "node", "event", "trace_id", "span_id", "parent_id", "seconds"}
_TRACE, _SPAN = re.compile(r"[0-9a-f]{32}"), re.compile(r"[0-9a-f]{16}")
_TEXT, _ATTRIBUTES = 200, 16
_INTERNAL, _PRODUCER, _CONSUMER = 1, 4, 5
_OK, _ERROR = 1, 2
_GOOD = {"done", "ok", "taken"}


def is_bad(event: Mapping[str, object]) -> bool:
    """Does the event say that something did not go as it should?"""
    verdict = event.get("verdict")
    if verdict is not None:
        return verdict not in _GOOD
    name = str(event.get("event", ""))
    if event.get("ok") is False or name.endswith((".failed", ".refused", ".undelivered", ".given_up")):
        return True
    return event.get("exit_code", 0) not in (0, None)


def span(event: Mapping[str, Any]) -> dict[str, Any] | None:
    """The span that ends with this event, as OTLP's JSON has it; None where it is the end of none."""
    trace, own = event.get("trace_id"), event.get("span_id")
    if not (isinstance(trace, str) and isinstance(own, str) and _TRACE.fullmatch(trace) and _SPAN.fullmatch(own)):
        return None
    name = str(event.get("event", ""))
    seconds, parent = event.get("seconds"), str(event.get("parent_id") or "")
    kind = _PRODUCER if name.startswith("message.") else _INTERNAL
    if name.endswith(".accepted"):
        if lane(name.removesuffix(".accepted")) != "work":
            return None
        seconds, parent, kind = 0.0, own, _CONSUMER
        own = span_of(str(event.get("id", "")), "accepted")
    elif isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return None
    try:
        end = round(datetime.fromisoformat(event["at"]).timestamp() * 1000) * 1_000_000
        start = max(0, end - max(0, round(seconds * 1_000_000)) * 1000)
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    attributes = [(key, value) for key, value in event.items() if key not in _FIXED and value not in ("", None)]
    made: dict[str, Any] = {
        "traceId": trace,
        "spanId": own,
        "name": _named(name, event),
        "kind": kind,
        "startTimeUnixNano": str(start),
        "endTimeUnixNano": str(end),
        "attributes": [{"key": f"outlast.{key}", "value": _value(value)} for key, value in attributes[:_ATTRIBUTES]],
        "status": {"code": _ERROR, "message": _why(event)} if is_bad(event) else {"code": _OK},
    }
    if _SPAN.fullmatch(parent) and parent != own:
        made["parentSpanId"] = parent
    return made


def request(node: str, version: str, spans: Sequence[Mapping[str, Any]]) -> bytes:
    """One line of a file of spans, without its end: an ExportTraceServiceRequest."""
    about = {"service.name": "outlast", "service.instance.id": node, "service.version": version}
    resource = {"attributes": [{"key": key, "value": {"stringValue": value}} for key, value in about.items()]}
    scope = {"scope": {"name": "outlast", "version": version}, "spans": spans}
    return to_json({"resourceSpans": [{"resource": resource, "scopeSpans": [scope]}]})


def _named(name: str, event: Mapping[str, Any]) -> str:
    what, _, how = name.partition(".")
    if how == "accepted":
        return f"{what} accepted"
    if what == "message":
        return f"{str(event.get('id', '')).partition('_')[0]} sent"
    named = event.get("name")
    # A unit's own name would make a name of its own of every span.
    return f"{what} {named}"[:_TEXT] if isinstance(named, str) and named != event.get("correlation_id") else what


def _why(event: Mapping[str, Any]) -> str:
    told = (event.get(key) for key in ("detail", "reason", "why", "verdict"))
    return next((text[:_TEXT] for text in told if isinstance(text, str) and text), "")


def _value(value: object) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)} if abs(value) < 1 << 63 else {"stringValue": str(value)[:_TEXT]}
    if isinstance(value, float):
        return {"doubleValue": value}
    text = value if isinstance(value, str) else to_json(value).decode(errors="replace")
    return {"stringValue": text[:_TEXT]}
