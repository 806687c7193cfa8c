"""How a node is, at a glance: what its dashboard shows, and what it tells its peers when a person looks at theirs.

Rules kept here: every text is one bounded line, and the whole fits into one signed answer (``MOST_BYTES``): where something
must be left out, what is well goes first, and ``more`` says how much; nothing is taken but what ``outlast status`` shows, which
holds no secret; what a part does not say, or says in another shape, is left out and never guessed.

Left to others: what the parts know (account.status), carrying it (messages, net.neighbours), showing it (page/page.js).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec

from outlast.core.record import one_line

__all__ = ["GROUPS", "MOST_BYTES", "Item", "Level", "Overview", "overview"]

Level = Literal["ok", "busy", "off", "warn", "bad"]
GROUPS = ("services", "jobs", "subagents", "probes", "skills", "external", "shed", "channels", "alerts")
# A signed answer may have 16 KiB (net.courier), and carries more than this.
MOST_BYTES = 12_000
_MOST_ITEMS, _MOST_REASONS = 100, 8
_NAME, _STATE, _NOTE = 64, 32, 400

# What parts call their states; what is not here is shown as it is, and is neither good nor bad.
_LEVELS: dict[str, Level] = {
    **dict.fromkeys(("up", "ready", "ok", "running", "closed", "done", "working"), "ok"),
    **dict.fromkeys(("queued",), "busy"),
    **dict.fromkeys(("waiting to start", "half-open", "limited", "in doubt", "less often", "soon", "tells nobody"), "warn"),
    **dict.fromkeys(("open", "down", "failed", "missing", "resting", "not working", "up, not working", "now"), "bad"),
    **dict.fromkeys(("switched off", "unknown"), "bad"),
}  # fmt: skip


class Item(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One thing that is looked after: how it is in a word, how good that is, and what is to be said of it.

    ``since`` that is so, and when it is due ``next``: ISO 8601, UTC.
    """

    name: Annotated[str, msgspec.Meta(max_length=_NAME)]
    state: Annotated[str, msgspec.Meta(max_length=_STATE)]
    level: Level = "ok"
    note: Annotated[str, msgspec.Meta(max_length=_NOTE)] = ""
    since: Annotated[str, msgspec.Meta(max_length=32)] = ""
    next: Annotated[str, msgspec.Meta(max_length=32)] = ""


_Items = Annotated[tuple[Item, ...], msgspec.Meta(max_length=_MOST_ITEMS)]
_Line = Annotated[str, msgspec.Meta(max_length=_NOTE)]
_Lines = Annotated[tuple[_Line, ...], msgspec.Meta(max_length=_MOST_REASONS)]
_Moment = Annotated[str, msgspec.Meta(max_length=32)]
_Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]


class Overview(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A node at a glance. ``since``: ISO 8601, UTC; ``disk``: percent in use; ``tasks`` and ``handoffs`` are open ones."""

    node: Annotated[str, msgspec.Meta(max_length=32)]
    version: Annotated[str, msgspec.Meta(max_length=32)]
    since: _Moment
    ready: bool
    mode: Annotated[str, msgspec.Meta(max_length=32)]
    disk: Annotated[float, msgspec.Meta(ge=0, le=100)] = 0.0
    reasons: _Lines = ()
    tasks: _Count = 0
    handoffs: _Count = 0
    services: _Items = ()
    jobs: _Items = ()
    subagents: _Items = ()
    probes: _Items = ()
    skills: _Items = ()
    external: _Items = ()
    shed: _Items = ()
    channels: _Items = ()
    alerts: _Items = ()
    more: _Count = 0


def overview(status: Mapping[str, Any], most_bytes: int = MOST_BYTES) -> Overview:
    """What ``outlast status`` says, at a glance, in at most ``most_bytes`` bytes of JSON."""
    items = {
        "services": list(_services(status)),
        "jobs": list(_jobs(status)),
        "subagents": list(_subagents(status)),
        "probes": list(_probes(status)),
        "skills": list(_skills(status)),
        "external": list(_external(status)),
        "shed": list(_shed(status)),
        "channels": list(_channels(status)),
        "alerts": list(_alerts(status)),
    }
    reasons = _list(status.get("mode_reasons")) or _list(status.get("reasons"))
    disk = status.get("disk_percent")
    found = Overview(
        node=_text(status.get("node"), 32),
        version=_text(status.get("version"), 32),
        since=_text(status.get("since"), 32),
        ready=bool(status.get("ready")),
        mode=_text(status.get("mode"), 32),
        disk=min(100.0, max(0.0, float(disk))) if isinstance(disk, int | float) else 0.0,
        reasons=tuple(_text(reason, _NOTE) for reason in reasons[:_MOST_REASONS]),
        tasks=_open(status, "tasks"),
        handoffs=_open(status, "handoffs"),
    )
    return _fit(found, items, most_bytes)


def _fit(found: Overview, items: dict[str, list[Item]], most_bytes: int) -> Overview:
    """As many items as there is room for: of what is wrong more than of what is well."""
    limit = _MOST_ITEMS
    whole = sum(map(len, items.values()))
    while True:
        kept = {name: _worst(group, limit) for name, group in items.items()}
        more = whole - sum(map(len, kept.values()))
        made = msgspec.structs.replace(found, more=more, **{name: tuple(group) for name, group in kept.items()})
        if limit == 0 or len(msgspec.json.encode(made)) <= most_bytes:
            return made
        # The longest group gives way first: what is short stays whole.
        limit = min(limit, max(map(len, kept.values()))) * 3 // 4


def _worst(group: list[Item], limit: int) -> list[Item]:
    """So many of them, in their order; those that are well are left out first."""
    if len(group) <= limit:
        return group
    rank = {"bad": 0, "warn": 1, "busy": 2, "off": 3, "ok": 4}
    chosen = sorted(range(len(group)), key=lambda at: (rank[group[at].level], at))[:limit]
    return [group[at] for at in sorted(chosen)]


def _services(status: Mapping[str, Any]) -> Iterator[Item]:
    """The parts of the runtime, and the programs that it keeps running."""
    for name, state in _mapping(status.get("services")).items():
        yield _item(name, state)
    if trouble := _mapping(status.get("notifier")).get("trouble"):
        yield _item("notifier", "tells nobody", trouble)
    for name, one in _mappings(status.get("supervised")):
        restarts = one.get("restarts")
        notes = [f"{restarts} restarts" if restarts != 1 else "1 restart"] if restarts else []
        # What waits there waits to be started again.
        state = "waiting to start" if one.get("state") == "waiting" else one.get("state")
        yield _item(name, state, *notes, one.get("last_reason") if notes else "", since=one.get("since"))


def _jobs(status: Mapping[str, Any]) -> Iterator[Item]:
    for name, one in _mappings(status.get("jobs")):
        yield _item(
            name, one.get("state"), one.get("why") or one.get("note"), since=one.get("since"), next=one.get("next")
        )


def _subagents(status: Mapping[str, Any]) -> Iterator[Item]:
    told = _mapping(status.get("subagents"))
    for state in ("running", "queued"):
        for name, one in _mapping(told.get(state)).items():
            about = _mapping(one)
            yield _item(name, state, about.get("task"), since=about.get("since"))
    if why := told.get("off"):
        yield _item("sub-agents", "switched off", why)
    if trouble := told.get("sandbox_trouble"):
        yield _item("sandbox", "missing", trouble)


def _probes(status: Mapping[str, Any]) -> Iterator[Item]:
    """Each subject: does it work, and if not, which level says so."""
    told = _mapping(status.get("probes"))
    levels = _mapping(told.get("health"))
    for subject, one in _mappings(told.get("working")):
        if one.get("state") == "not looked at":
            continue
        failed = [
            f"{level}: {seen.get('text')}" for level, seen in _mappings(levels.get(subject)) if seen.get("ok") is False
        ]
        yield _item(subject, one.get("state"), *failed, since=one.get("since"))


def _skills(status: Mapping[str, Any]) -> Iterator[Item]:
    """What each skill left in its file."""
    for name, one in _mappings(_mapping(status.get("probes")).get("skills")):
        state = "failed" if not one.get("ok") else "ok" if one.get("fresh") else "not lately"
        yield _item(name, state, one.get("text") if state != "ok" else "", since=one.get("at"))


def _external(status: Mapping[str, Any]) -> Iterator[Item]:
    for name, one in _mappings(status.get("external")):
        yield _item(name, one.get("state"), one.get("note"), since=one.get("since"))


def _shed(status: Mapping[str, Any]) -> Iterator[Item]:
    """What does not run in this mode, or less often."""
    for about in map(_mapping, _list(status.get("shed"))):
        yield _item(
            about.get("name"), about.get("how"), " ".join(filter(None, (about.get("kind"), about.get("priority"))))
        )


def _channels(status: Mapping[str, Any]) -> Iterator[Item]:
    """The circuit breaker before each peer."""
    for peer, one in _mappings(status.get("channels")):
        waiting = f"{one['queued']} waiting" if one.get("queued") else ""
        yield _item(peer, one.get("breaker"), waiting, one.get("last_error"))


def _alerts(status: Mapping[str, Any]) -> Iterator[Item]:
    for about in map(_mapping, _list(status.get("alerts"))):
        yield _item(about.get("name"), about.get("urgency"), about.get("text"), since=about.get("since"))


def _item(name: object, state: object, *notes: object, since: object = "", next: object = "") -> Item:
    word = _text(state, _STATE) or "unknown"
    note = "; ".join(str(note) for note in notes if note)
    return Item(
        _text(name, _NAME), word, _LEVELS.get(word, "off"), _text(note, _NOTE), _moment(since), _moment(next)
    )  # fmt: skip


def _moment(value: object) -> str:
    return _text(value, 32) if isinstance(value, str) else ""


def _open(status: Mapping[str, Any], kind: str) -> int:
    count = _mapping(status.get(kind)).get("open", 0)
    return count if isinstance(count, int) and 0 <= count < 1 << 53 else 0


def _list(value: object) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _mappings(value: object) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """What is told by name, of it what is in the shape that is known."""
    return ((name, one) for name, one in _mapping(value).items() if isinstance(one, Mapping))


def _text(value: object, limit: int) -> str:
    """One line that is UTF-8, whatever was found on the disk."""
    text = "" if value is None else str(value)
    return one_line(text.encode("utf-8", "replace").decode("utf-8"), limit)
