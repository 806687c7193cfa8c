"""The drills as data: for each failure of spec.md, section 1, what holds it, what each of two nodes does, and what is watched.

Keeps: pure; every step is carried out on all nodes before the next begins; once something went wrong in a drill nothing more
is caused, and what holds a failure is ended all the same. Nothing is remembered but in what the nodes said last. Leaves to
others: causing (the module outage), doing and watching (the module drill), words for people (drill_words).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["ENDS", "ROLES", "SCENARIOS", "Act", "Hold", "Run", "Scenario", "acts", "holds", "ill", "moments", "trouble"]

ROLES = ("first", "second")
# In these nothing is caused: what was caused ends, whatever went wrong before.
ENDS = ("relieve", "rest")
# So do these in the last step, which leave a node as it was found.
_TIDY = ("unshare", "unplant", "restore", "on", "resume", "settle")


@dataclass(frozen=True)
class Hold:
    """A failure that a process on the node's machine holds until it is told to end, or ``limit_s`` seconds are over.

    ``step``: when it begins (arm, cause); it ends in the step relieve where that was cause, else in the step rest. ``began``
    and ``ended``: what these moments are called (moments).
    """

    kind: str
    step: str = "cause"
    began: str = ""
    ended: str = ""
    limit_s: float = 90.0


@dataclass(frozen=True)
class Act:
    """One thing that a node does or waits for, and what the moment at which that was so is called (moments).

    ``needs``: the act before it, of whichever node, whose answer it is given.
    """

    do: str
    mark: str = ""
    args: Mapping[str, Any] = field(default_factory=dict)
    needs: str = ""


@dataclass(frozen=True)
class Scenario:
    """One failure. ``how``: what is caused; ``rule``: what is said where nobody was told. ``{first}``, ``{second}``: the nodes.

    ``holds`` by role, ``acts`` by step and role.
    """

    failure: str
    how: str
    rule: str
    acts: Mapping[tuple[str, str], Sequence[Act]]
    holds: Mapping[str, Sequence[Hold]] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """One run: who plays which role, when it began (Unix seconds, which names its units), what every node said until now."""

    nodes: Mapping[str, str]
    began: float
    told: Mapping[str, Sequence[Mapping[str, Any]]]

    def role(self, name: str) -> str:
        """The role of a node; empty for one that only looks on."""
        return next((role for role, node in self.nodes.items() if node == name), "")

    def of(self, scenario: str) -> Iterator[Mapping[str, Any]]:
        """All that was said of a drill."""
        for said in self.told.values():
            yield from (one for one in said if one.get("scenario") == scenario)


def acts(run: Run, scenario: str, step: str, name: str) -> list[dict[str, Any]]:
    """What a node is to do in a step, for the module drill; nothing once something went wrong, but for the last step."""
    wrong, role = trouble(run, scenario), run.role(name)
    if not role or ill(run, scenario) or (wrong and step != "settle"):
        return []
    begin = [Act("look", "began")] if step == "prepare" else []
    end = [Act("settle")] if step == "settle" else []
    mine = [*begin, *SCENARIOS[scenario].acts.get((step, role), ()), *end]
    return [_order(run, act) for act in mine if not wrong or act.do in _TIDY]


def holds(run: Run, scenario: str, step: str, name: str) -> list[Hold]:
    """What begins to hold in a step on a node, or ends in it."""
    mine = SCENARIOS[scenario].holds.get(run.role(name), ())
    if step in ENDS:
        return [hold for hold in mine if (hold.step == "cause") == (step == "relieve")]
    return [] if trouble(run, scenario) or ill(run, scenario) else [hold for hold in mine if hold.step == step]


def ill(run: Run, scenario: str) -> str:
    """The drill before this one after which a node was not well again: then nothing more is caused. Empty where none is."""
    every = (one for said in run.told.values() for one in said)
    found = {str(one["scenario"]) for one in every if one["do"] == "settle" and one.get("wrong")}
    return next((name for name in SCENARIOS if name in found and name != scenario), "")


def trouble(run: Run, scenario: str) -> list[str]:
    """What could not be done or did not come true, in one line each."""
    return [str(one["wrong"]) for one in run.of(scenario) if one.get("wrong")]


def moments(run: Run, scenario: str) -> dict[str, float]:
    """When what was marked was so, in Unix seconds: the last node counts, except that ``asked`` is the first one's."""
    found: dict[str, float] = {}
    for one in run.of(scenario):
        if mark := str(one.get("mark") or ""):
            chosen = min if mark.startswith("asked") else max
            found[mark] = chosen(found.get(mark, float(one["at"])), float(one["at"]))
    return found


def _order(run: Run, act: Act) -> dict[str, Any]:
    args = {key: run.nodes.get(str(value), value) for key, value in act.args.items()}
    return {"do": act.do, "mark": act.mark, "args": args, "needs": act.needs}


def _hand(to: str, label: str, count: int, *, wait: bool = False, mark: str = "") -> Act:
    return Act("hand", mark, {"to": to, "label": label, "count": count, "wait": wait})


def _settled(label: str, count: int, mark: str = "") -> Act:
    return Act("settled", mark, {"label": label, "count": count})


def _check(label: str, count: int, by: str) -> Act:
    return Act("check", "", {"label": label, "count": count, "by": by})


def _both(*given: Act) -> dict[str, Sequence[Act]]:
    return dict.fromkeys(ROLES, given)


_F1 = Scenario(
    "{second} loses power",
    "kill -9 of all of {second}, with work open; {first} goes on and hands over more; then power is back",
    "that is told after alerts.power_after, a day",
    {
        ("prepare", "first"): [_hand("second", "before", 1, wait=True)],
        ("prepare", "second"): [Act("open")],
        ("notice", "first"): [
            _hand("second", "during", 3, mark="asked"),
            Act("unreached", "noticed", {"peer": "second"}),
        ],
        ("recover", "first"): [_settled("during", 3, "recovered")],
        ("recover", "second"): [Act("ready"), Act("finish")],
        ("settle", "first"): [_check("before", 1, "first"), _check("during", 3, "first")],
        ("settle", "second"): [_check("before", 1, "first"), _check("during", 3, "first")],
    },
    {"second": [Hold("power", began="cause", ended="relief")]},
)

_F2 = Scenario(
    "{first} sleeps",
    "SIGSTOP of all of {first}, while {second} hands it work; then it wakes up",
    "that is never told: normal at night",
    {
        ("notice", "second"): [
            _hand("first", "during", 3, mark="asked"),
            Act("unreached", "noticed", {"peer": "first"}),
        ],
        ("recover", "second"): [_settled("during", 3, "recovered")],
        ("settle", "first"): [_check("during", 3, "second")],
        ("settle", "second"): [_check("during", 3, "second")],
    },
    # Shorter than what a service manager takes for hung.
    {"first": [Hold("sleep", began="cause", ended="relief", limit_s=50.0)]},
)

_F3 = Scenario(
    "the network between them is cut",
    "nothing passes between the two; both work and write to the same shared set; then they meet again",
    "that is told after alerts.partition_after, an hour, in work hours",
    {
        ("prepare", "first"): [Act("ready")],
        ("prepare", "second"): [Act("ready")],
        ("notice", "first"): [
            _hand("second", "east", 2, mark="asked"),
            Act("share"),
            Act("unreached", "noticed", {"peer": "second"}),
        ],
        ("notice", "second"): [
            _hand("first", "west", 2, mark="asked"),
            Act("share"),
            Act("unreached", "noticed", {"peer": "first"}),
        ],
        ("recover", "first"): [_settled("east", 2, "recovered"), Act("shared", "recovered")],
        ("recover", "second"): [_settled("west", 2, "recovered"), Act("shared", "recovered")],
        **{
            ("settle", role): [_check("east", 2, "first"), _check("west", 2, "second"), Act("unshare")]
            for role in ROLES
        },
    },
    {role: [Hold("wire", "arm", limit_s=300.0), Hold("cut", began="cause", ended="relief")] for role in ROLES},
)

_F4 = Scenario(
    "STATE.json is corrupt",
    "bytes of {second}'s STATE.json are overwritten, first while it runs, then while it is stopped",
    "that is told if it cannot be rebuilt",
    {
        ("prepare", "second"): [
            _hand("first", "known", 1, wait=True),
            Act("known"),
            Act("spoil", "cause:running"),
            Act("doctor", "noticed:running", {"about": "STATE.json"}),
            Act("whole", "recovered:running"),
        ],
        ("notice", "second"): [Act("spoil")],
        ("recover", "second"): [
            Act("found", "noticed:stopped", {"about": "STATE.json"}),
            Act("ready", "recovered:stopped"),
            Act("whole"),
            Act("known"),
        ],
        ("settle", "first"): [_check("known", 1, "second")],
        ("settle", "second"): [_check("known", 1, "second")],
    },
    {"second": [Hold("down", ended="cause:stopped")]},
)

_F5 = Scenario(
    "sub-agents on {second} run away",
    "sub-agents that never end are given 1 s a run, until their feature is switched off; then it is turned on again",
    "that is told the third time",
    {
        ("prepare", "second"): [Act("runaway", "cause")],
        ("notice", "second"): [Act("killed", "noticed", needs="runaway"), Act("off", needs="runaway")],
        ("recover", "second"): [Act("on", "relief"), Act("again", "recovered")],
        ("settle", "second"): [Act("on")],
    },
)

_F6 = Scenario(
    "{second}'s disk is full",
    "room is taken until {second} is over its threshold, which is put 1 % above what is used now; then it is given back",
    "that is told if less than clean.least_free is left",
    {
        ("prepare", "first"): [Act("ready")],
        ("prepare", "second"): [Act("ready"), Act("plant")],
        ("notice", "first"): [_hand("second", "during", 1, wait=True)],
        ("notice", "second"): [
            Act("mode", "noticed", {"mode": "degraded"}),
            Act("cleaned"),
            Act("alert", "", {"name": "disk"}),
        ],
        ("recover", "second"): [Act("mode", "recovered", {"mode": "normal"})],
        ("settle", "first"): [_check("during", 1, "first")],
        ("settle", "second"): [_check("during", 1, "first"), Act("unplant")],
    },
    {"second": [Hold("tight", "arm", limit_s=300.0), Hold("fill", began="cause", ended="relief")]},
)

_F7 = Scenario(
    "{second} loses memory",
    "records are taken out of {second}'s daily file, while it runs and while it is stopped; at the end they are put back",
    "outlast doctor tells it, with the commit that still has them",
    {
        ("prepare", "second"): [
            Act("remember", "", {"to": "first", "label": "memory", "count": 2}),
            Act("cut", "cause:running", {"label": "memory", "count": 2}),
            Act("mended", "noticed:running"),
            Act("held", "recovered:running", {"label": "memory", "count": 2}),
        ],
        ("notice", "first"): [_hand("second", "during", 1)],
        ("notice", "second"): [Act("cut", "", {"label": "memory", "count": 2})],
        ("recover", "first"): [_settled("during", 1, "recovered:stopped")],
        ("recover", "second"): [
            Act("found", "noticed:stopped", {"about": "record", "told": True}),
            Act("restore"),
            Act("held", "", {"label": "memory", "count": 2}),
        ],
        ("settle", "first"): [_check("during", 1, "first")],
        ("settle", "second"): [_check("during", 1, "first"), Act("restore")],
    },
    {"second": [Hold("down", ended="cause:stopped")]},
)

_F8 = Scenario(
    "{second}'s key leaks",
    "notes are forged with {second}'s key; rotate-keys.yml -e leaked={second}; the emergency is ended by outlast resume",
    "the audit tells it",
    {
        ("prepare", "first"): [_hand("second", "during", 1)],
        ("prepare", "second"): [Act("forge", "cause", {"to": "first", "count": 3})],
        ("notice", "first"): [Act("audited", "noticed", {"agent": "second"}, needs="forge")],
        ("recover", "first"): [Act("refused", "recovered", needs="forge"), Act("resume")],
        ("recover", "second"): [Act("resume", "recovered")],
        ("settle", "first"): [_settled("during", 1), _check("during", 1, "first"), Act("resume")],
        ("settle", "second"): [_check("during", 1, "first"), Act("resume")],
    },
)

SCENARIOS: Mapping[str, Scenario] = {
    "F1": _F1,
    "F2": _F2,
    "F3": _F3,
    "F4": _F4,
    "F5": _F5,
    "F6": _F6,
    "F7": _F7,
    "F8": _F8,
}
