"""A node at a glance: what is told of it, in how few bytes, and that nothing odd in it stops the telling."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.core.overview import GROUPS, MOST_BYTES, Item, Overview, overview
from outlast.messages import Reply

STATUS: dict[str, Any] = {
    "node": "axiom", "version": "1.2", "since": "2026-11-21T05:09:07.123Z", "ready": False, "mode": "degraded",
    "mode_reasons": ["coz silent for 31 min"], "reasons": ["stopping"], "disk_percent": 91.5, "tasks": {"open": 2, "done": 9},
    "handoffs": {"open": 1}, "services": {"ingress": "up", "agent": "missing"},
    "supervised": {
        "gateway": {"state": "running", "restarts": 0, "last_reason": "", "since": "2026-11-21T06:00:00.000Z"},
        "board": {"state": "waiting", "restarts": 2, "last_reason": "ended with exit code 3", "since": ""},
    },
    "jobs": {"nightly": {"state": "failed", "note": "exit code 1", "why": "", "since": "", "next": "2026-11-22T03:00:00.000Z"}},
    "subagents": {
        "running": {"s1": {"state": "running", "task": "index it", "since": "2026-11-21T06:00:00.000Z"}}, "queued": {},
        "off": "failed three times", "sandbox": "bubblewrap", "sandbox_trouble": "", "day": {"done": 1},
    },
    "probes": {
        "health": {"page": {"alive": {"ok": True, "text": "runs"}, "responding": {"ok": False, "text": "HTTP 502"}}},
        "working": {"page": {"state": "up, not working", "since": "2026-11-21T06:00:00.000Z"}, "new": {"state": "not looked at"}},
        "skills": {"mail": {"ok": True, "fresh": False, "text": "read 4", "at": "2026-11-20T06:00:00.000Z"}},
    },
    "external": {"weather": {"state": "open", "note": "no answer", "since": ""}},
    "shed": [{"name": "autostudy", "priority": "P2", "kind": "duty", "how": "less often"}],
    "channels": {"coz": {"breaker": "half-open", "queued": 3, "last_error": "refused"}},
    "alerts": [{"name": "disk", "urgency": "now", "text": "only 2 % is free", "since": "2026-11-21T06:00:00.000Z"}],
    "notifier": {"trouble": "no URL is given"},
}  # fmt: skip


def named(group: tuple[Item, ...]) -> dict[str, tuple[str, str, str]]:
    """Of each item its state, level and note."""
    return {item.name: (item.state, item.level, item.note) for item in group}


def test_every_part_of_a_node_is_told_with_how_good_it_is() -> None:
    """A state is a word and a level; what failed says why; what a probe does not know yet is not told."""
    found = overview(STATUS)
    assert (found.node, found.mode, found.ready, found.reasons) == (
        "axiom",
        "degraded",
        False,
        ("coz silent for 31 min",),
    )
    assert (found.disk, found.tasks, found.handoffs, found.more) == (91.5, 2, 1, 0)
    assert named(found.services) == {
        "ingress": ("up", "ok", ""), "agent": ("missing", "bad", ""), "notifier": ("tells nobody", "warn", "no URL is given"),
        "gateway": ("running", "ok", ""), "board": ("waiting to start", "warn", "2 restarts; ended with exit code 3"),
    }  # fmt: skip
    assert found.jobs == (Item("nightly", "failed", "bad", "exit code 1", next="2026-11-22T03:00:00.000Z"),)
    assert named(found.subagents) == {
        "s1": ("running", "ok", "index it"),
        "sub-agents": ("switched off", "bad", "failed three times"),
    }
    assert named(found.probes) == {"page": ("up, not working", "bad", "responding: HTTP 502")}
    assert named(found.skills) == {"mail": ("not lately", "off", "read 4")}
    assert named(found.external) == {"weather": ("open", "bad", "no answer")}
    assert named(found.shed) == {"autostudy": ("less often", "warn", "duty P2")}
    assert named(found.channels) == {"coz": ("half-open", "warn", "3 waiting; refused")}
    assert named(found.alerts) == {"disk": ("now", "bad", "only 2 % is free")}


@pytest.mark.parametrize("part", sorted(STATUS))
@pytest.mark.parametrize(
    "odd", [None, 7, "x", ["x"], {"x": 7}, {"x": {"state": None}}, {"x": {"state": 7, "since": 7}}]
)
def test_a_part_in_another_shape_is_left_out_and_the_rest_is_told(part: str, odd: object) -> None:
    """Parts change from version to version; a status that is odd anywhere is told all the same."""
    found = overview({**STATUS, part: odd})
    assert found.node == ("axiom" if part != "node" else overview({"node": odd}).node)
    assert sum(bool(getattr(found, group)) for group in GROUPS) >= len(GROUPS) - 2


def test_what_is_wrong_is_told_first_where_there_is_no_room() -> None:
    """A thousand services fit into one answer: those that are well are left out, and counted."""
    many = {f"service-{number:04}": {"state": "running", "restarts": 0} for number in range(1000)}
    many["service-0777"] = {"state": "resting", "restarts": 9, "last_reason": "x" * 1000}
    found = overview({**STATUS, "supervised": many})
    assert len(msgspec.json.encode(found)) <= MOST_BYTES
    assert "service-0777" in named(found.services)
    left = sum(len(getattr(found, group)) for group in GROUPS)
    # Those of STATUS that are not supervised: ingress, agent, notifier, and one or two of each other group.
    assert found.more == 1000 + 3 + 9 - left


texts = st.text(max_size=600)
states = st.fixed_dictionaries(
    {"state": texts}, optional={"note": texts, "since": texts, "next": texts, "last_reason": texts}
)
parts = st.dictionaries(texts, st.one_of(states, texts), max_size=30)


@given(st.dictionaries(st.sampled_from([*STATUS, "else"]), st.one_of(parts, texts, st.integers(), st.none())))
def test_whatever_is_told_fits_and_is_taken_by_a_peer(status: dict[str, Any]) -> None:
    """The answer is within its bytes, and reads back as what was told, strictly."""
    found = overview(status)
    told = msgspec.json.encode(Reply("axiom", 200, 1.0, overview=found))
    assert len(told) < MOST_BYTES + 200
    again = msgspec.json.decode(told, type=Reply).overview
    assert again == found
    assert all(
        item.name.isprintable() and item.note.isprintable() for group in GROUPS for item in getattr(found, group)
    )


def test_a_text_that_is_no_unicode_is_told_as_such() -> None:
    """A name that was found on a disk need not be UTF-8."""
    found = overview({**STATUS, "alerts": [{"name": "a\udcff", "urgency": "soon", "text": "file \udcff", "since": ""}]})
    assert found.alerts[0].note == "file ?"
    assert isinstance(msgspec.json.decode(msgspec.json.encode(found), type=Overview), Overview)
