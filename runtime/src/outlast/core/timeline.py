"""What failed, and what was done about it: incidents, from events.

Rules kept here: an event that says that something is wrong opens an incident, the one that says that it is well again closes
it and says how; the same thing failing again while it is open, or minutes later, is the same incident; what is one thing done
is an incident that begins and ends with it. However many there are, the newest are kept.

Left to others: reading events (store.history), showing (core.report, the dashboard).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

import msgspec

__all__ = ["Incident", "timeline"]

_TEXT = 300
_Event = Mapping[str, Any]


class Incident(msgspec.Struct):
    """Something that failed: since when, of what kind, whose, what, and what was done about it.

    ``until`` is empty while it holds; ``times`` is how often it was seen.
    """

    at: str
    kind: str
    name: str
    what: str
    done: str = ""
    until: str = ""
    times: int = 1


def timeline(events: Iterable[_Event], most: int = 200) -> list[Incident]:
    """The incidents of these events (oldest first), by when they began; of more than ``most`` the newest."""
    told = _Timeline(most)
    for event in events:
        told.hear(event)
    return sorted(told.incidents, key=lambda one: one.at)


def _said(event: _Event, *keys: str) -> str:
    for key in keys:
        value = event.get(key)
        if isinstance(value, str) and value:
            return value[:_TEXT]
        if isinstance(value, list) and value:
            return ", ".join(map(str, value))[:_TEXT]
    return ""


# What opens an incident: its kind, what names it, what it says, and what is done meanwhile.
_OPENS: dict[str, tuple[str, str, Callable[[_Event], str], Callable[[_Event], str]]] = {
    "service.exited": ("service", "name", lambda e: _said(e, "reason"), lambda e: _then(e)),
    "probe.failed": ("probe", "name", lambda e: f"fails: {_said(e, 'text')}", lambda e: ""),
    "alert": ("alert", "name", lambda e: _said(e, "text"), lambda e: ""),
    "peer.gone": ("peer", "peer", lambda e: "cannot be reached", lambda e: "what is for it waits"),
    "external.opened": (
        "external",
        "name",
        lambda e: f"fails: {_said(e, 'detail')}",
        lambda e: "left alone for a while",
    ),
    "external.limited": (
        "external",
        "name",
        lambda e: f"limits us: {_said(e, 'detail')}",
        lambda e: "asked less often",
    ),
    "feature.off": (
        "feature",
        "name",
        lambda e: f"switched off: {_said(e, 'why')}",
        lambda e: "a person must turn it on",
    ),
    "message.undelivered": ("message", "peer", lambda e: _said(e, "reason"), lambda e: "it waits and is tried again"),
    "job.taken_over": ("job", "name", lambda e: f"{_said(e, 'owner')} does not run it", lambda e: "taken over"),
}
# What closes it, and how that is told.
_CLOSES: dict[str, tuple[str, str, str]] = {
    "service.started": ("service", "name", "started again"),
    "probe.passed": ("probe", "name", "well again"),
    "alert.over": ("alert", "name", "over"),
    "peer.back": ("peer", "peer", "back"),
    "external.closed": ("external", "name", "answers again"),
    "external.unlimited": ("external", "name", "asked as before"),
    "feature.on": ("feature", "name", "turned on by a person"),
    "message.delivered": ("message", "peer", "delivered"),
    "job.given_back": ("job", "name", "given back"),
    "subagent.escalated": ("subagent", "name", "its task was given back to the main agent"),
}
# What is told as one thing: its kind, what names it, what it says, and what was done.
_POINTS: dict[str, tuple[str, str, Callable[[_Event], str], Callable[[_Event], str]]] = {
    "node.crashed": (
        "node",
        "node",
        lambda e: f"a defect: {_said(e, 'error')}",
        lambda e: "the service manager starts it",
    ),
    "task.recovered": (
        "task",
        "correlation_id",
        lambda e: "was cut off by a stop",
        lambda e: _said(e, "told", "action"),
    ),
    "task.stuck": (
        "task",
        "correlation_id",
        lambda e: _said(e, "error"),
        lambda e: "tried again until the disk takes it",
    ),
    "message.given_up": ("message", "id", lambda e: f"given up: {_said(e, 'why')}", lambda e: "its unit was closed"),
    "message.refused": ("message", "reason", lambda e: _said(e, "detail", "reason"), lambda e: "refused"),
    "subagent.killed": ("subagent", "name", lambda e: _said(e, "reason", "detail"), lambda e: "ended"),
    "journal.mended": ("journal", "node", lambda e: "records were missing", lambda e: "put back"),
    "doctor.finding": ("state", "about", lambda e: _said(e, "found"), lambda e: _said(e, "done")),
    "log.full": ("logs", "node", lambda e: "the day's log is full", lambda e: "what happens is still counted"),
    "feed.dropped": (
        "feed",
        "last",
        lambda e: f"messages for the agent were dropped, {e.get('first')} to {e.get('last')}",
        lambda e: "the journal has them",
    ),
    "artifact.invalid": ("artifact", "correlation_id", lambda e: _said(e, "text"), lambda e: "noted in the journal"),
}
# What comes and goes: within so many seconds it is one incident.
_FLAPS, _FLAP_S = ("service", "probe", "peer", "message", "external"), 300.0
# What comes again and again in floods.
_REPEATED = ("message.refused", "task.stuck")
_UNITS = {"task.closed": "task", "handoff.closed": "handoff", "step.closed": "step", "agent.ended": "agent"}


def _seconds(since: str, until: str) -> float:
    try:
        return (datetime.fromisoformat(until) - datetime.fromisoformat(since)).total_seconds()
    except (ValueError, TypeError):
        return _FLAP_S


def _then(event: _Event) -> str:
    return {"resting": "it rests, and a person is told", "stopped": "it stays so"}.get(str(event.get("then")), "")


class _Timeline:
    def __init__(self, most: int) -> None:
        self.incidents: list[Incident] = []
        self._open: dict[tuple[str, str], Incident] = {}
        self._closed: dict[tuple[str, str], Incident] = {}
        self._again: dict[tuple[str, str], Incident] = {}
        self._most = most
        self._stopped = True
        self._last = ""

    def hear(self, event: _Event) -> None:
        name, at = str(event.get("event", "")), str(event.get("at", ""))
        if opens := _OPENS.get(name):
            kind, by, what, done = opens
            detail = event.get("detail")
            named = detail if isinstance(detail, Mapping) and by in detail else event
            self._begin(at, kind, str(named.get(by, "")), what(event), done(event))
        elif closes := _CLOSES.get(name):
            kind, by, how = closes
            self._close(at, kind, str(event.get(by, "")), how)
        elif points := _POINTS.get(name):
            kind, by, what, done = points
            self._point(at, kind, str(event.get(by, "")), what(event), done(event), event)
        elif name == "alert.told":
            self._told(event)
        elif name in ("job.ended", "subagent.ended"):
            self._run(at, name.partition(".")[0], event)
        elif name in _UNITS and event.get("verdict") not in ("done", None):
            said = _said(event, "detail", "reason")
            self._point(
                at, _UNITS[name], str(event.get("correlation_id", "")), f"{event['verdict']}: {said}", "", event
            )
        elif name == "mode.changed":
            self._mode(at, event)
        elif name.startswith("node."):
            self._node(at, name, event)
        self._last = at or self._last

    def _begin(self, at: str, kind: str, name: str, what: str, done: str = "") -> None:
        if known := self._open.get((kind, name)):
            known.times += 1
            known.what, known.done = what, done or known.done
            return
        before = self._closed.pop((kind, name), None)
        if before and kind in _FLAPS and _seconds(before.until, at) < _FLAP_S:
            before.times, before.what, before.done, before.until = before.times + 1, what, done, ""
            self._open[kind, name] = before
            return
        one = self._open[kind, name] = Incident(at, kind, name, what, done)
        self._add(one)

    def _close(self, at: str, kind: str, name: str, how: str) -> None:
        if one := self._open.pop((kind, name), None):
            one.until, one.done = at, "; ".join(filter(None, (one.done, how)))
            self._closed[kind, name] = one

    def _point(self, at: str, kind: str, name: str, what: str, done: str, event: _Event) -> None:
        more = event.get("more_since_last", 0)
        times = 1 + (more if isinstance(more, int) else 0)
        if event["event"] in _REPEATED and (known := self._again.get((kind, name))) and known.until[:13] == at[:13]:
            # Within the hour it is the same.
            known.times, known.until = known.times + times, at
            return
        self._again[kind, name] = one = Incident(at, kind, name, what, done, at, times)
        self._add(one)

    def _run(self, at: str, kind: str, event: _Event) -> None:
        name = str(event.get("name", ""))
        if event.get("verdict") in ("done", None):
            self._close(at, kind, name, "done again")
        else:
            done = "queued again" if kind == "subagent" else ""
            self._begin(at, kind, name, f"{event['verdict']}: {_said(event, 'detail', 'reason')}", done)

    def _told(self, event: _Event) -> None:
        names = event.get("names")
        for name in names if isinstance(names, list) else ():
            if one := self._open.get(("alert", str(name))):
                one.done = "a person was told"

    def _mode(self, at: str, event: _Event) -> None:
        mode, before = str(event.get("mode")), str(event.get("before"))
        if before != "normal":
            self._close(
                at, "mode", before, f"then {mode}: {_said(event, 'why')}" if mode != "normal" else "normal again"
            )
        if mode != "normal":
            shed = _said(event, "shed")
            self._begin(at, "mode", mode, _said(event, "why"), f"shed: {shed}" if shed else "")

    def _node(self, at: str, name: str, event: _Event) -> None:
        if name == "node.started":
            if not self._stopped:
                self._add(Incident(self._last, "node", str(event.get("node", "")), "was killed", "started again", at))
            # What held then is found anew, or is over.
            for kind, held in list(self._open):
                if kind in ("peer", "service", "alert", "probe"):
                    self._close(at, kind, held, "the runtime was started again")
        self._stopped = name == "node.stopped"

    def _add(self, one: Incident) -> None:
        self.incidents.append(one)
        if len(self.incidents) > 2 * self._most:
            gone, self.incidents = self.incidents[: -self._most], self.incidents[-self._most :]
            dropped = {id(old) for old in gone}
            self._open = {key: held for key, held in self._open.items() if id(held) not in dropped}
            self._closed = {key: held for key, held in self._closed.items() if id(held) not in dropped}
            self._again = {key: held for key, held in self._again.items() if id(held) not in dropped}
