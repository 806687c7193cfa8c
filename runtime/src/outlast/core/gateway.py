"""How OpenClaw's gateway is, told from what was seen of it, and what is done about it, one thing after the other.

Rules kept here:

* It works when calls through its database succeed, and not for any less: a gateway whose database is broken goes on answering
  HTTP, and calls from memory, for ever. Nor for any more: while they do, no answer by HTTP makes it broken. One bad answer is
  no verdict; one good answer is one.
* What helps is tried in this order, each once in a trouble: restart, OpenClaw's own doctor, and then a person is asked, who
  alone may replace its state. What its launcher tried by itself counts as tried, and what is known not to help is passed over.
  That it runs and is broken, and that it ends again and again, are two troubles.
* Whatever happens, a remedy is not used more often in ``within`` than its limit. A trouble is over when it worked for ``calm``;
  what comes back before that is the same trouble.
* Nothing is done while a person holds it, while it starts or is mended, and while another program has its port.

Values only: moments are seconds since 1970. Left to others: asking (openclaw.alive), doing (openclaw.launch), times between
starts (core.supervision).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

import msgspec

from outlast.core.record import one_line

__all__ = [
    "CONFIGURATION", "REMEDIES", "Answer", "Heard", "Kind", "Ladder", "Launched", "Limits", "Phase", "Remedy", "State",
    "Verdict", "doubted", "forgiven", "hear", "hopeless", "last_words", "may_pass", "step", "verdict",
]  # fmt: skip

State = Literal["working", "starting", "broken", "down", "crash-loop", "stopped"]
Phase = Literal["running", "ending", "mending", "waiting", "resting", "held", "blocked", "stopped", "ended"]
Remedy = Literal["restart", "doctor", "ask"]
Kind = Literal["", "broken", "ends"]
REMEDIES: tuple[Remedy, ...] = ("restart", "doctor", "ask")
# EX_CONFIG: OpenClaw ends with it where its configuration or its state is such that another start finds the same.
CONFIGURATION = 78

_HTTP_BAD, _RPC_BAD = 3, 4
_WORDS, _REASON_CHARS, _SHORT = 2, 400, 12
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_NOT_DOCTORS = re.compile(
    r"doctor cannot repair|not a database|database disk image is malformed|database is unreadable"
    r"|config is invalid|invalid config|JSON5 parse failed|gateway\.mode",
    re.IGNORECASE,
)
# The lease of one that was killed while it started, which runs out by itself.
_PASSES = re.compile(r"\blease \S+ is held|owns gateway-lifecycle", re.IGNORECASE)
# What it advises a person who runs it by hand, which is no reason.
_ADVICE = re.compile(r"(\S+ )?(run .?openclaw |if startup is still blocked)", re.IGNORECASE)
_FAILED = re.compile(r"failed to start:", re.IGNORECASE)
_CALM = ("trace", "debug", "info")
_OURS = re.compile(r"\[outlast ")
# What a process prints below its reason: where in its own code it was.
_TRACE = re.compile(r"at (async )?\S+( \(.*\))?|\}|Node\.js v\d.*|\^+")


class Launched(msgspec.Struct, frozen=True):
    """What the gateway's launcher says. ``launcher``, ``pid``: process ids, ``run``: the mark of what it started.

    ``due``: when it is started again, 0 where that takes an order or a change. ``reason``, ``code``: of its last end, or why
    it does not run; ``starts``: how often it was started since the launcher was. ``done``: the last order that was carried
    out, and ``said`` what came of it.
    """

    phase: Phase
    since: float
    launcher: int
    pid: int = 0
    run: str = ""
    due: float = 0.0
    reason: str = ""
    code: int | None = None
    starts: int = 0
    done: str = ""
    said: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of asking once. ``bad``: 0 where it is well, 1 where that may pass, 2 where it says itself that it is not."""

    by: Literal["http", "rpc"]
    bad: int = 0
    why: str = ""


@dataclass(frozen=True, slots=True)
class Heard:
    """What the answers of one process came to. ``http``, ``rpc``: bad ones in a row, by weight; ``alive``, ``true``: was there
    ever a good one?"""

    pid: int = 0
    http: int = 0
    rpc: int = 0
    alive: bool = False
    true: bool = False
    why: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How it is, and why, in words. ``mendable``: what is on the ladder may help."""

    state: State
    why: str = ""
    mendable: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """``restarts`` and ``doctors`` at most ``within`` (seconds) as remedies; ``calm``: for so long it must work, ``mended``:
    where a person was asked; ``pause`` between two remedies; after ``again`` what they were asked about is tried anew."""

    restarts: int = 3
    doctors: int = 1
    within: float = 3600.0
    calm: float = 300.0
    mended: float = 60.0
    pause: float = 10.0
    again: float = 3600.0


class Ladder(msgspec.Struct, frozen=True):
    """Where we stand in a trouble of this ``kind``. ``rung``: the next of REMEDIES; ``since``: 0 where there is no trouble;
    ``calm``: since when it works again; ``taken``: the remedies that still count, with their moments; ``asked``: since when a
    person is."""

    rung: int = 0
    since: float = 0.0
    calm: float = 0.0
    taken: tuple[tuple[Remedy, float], ...] = ()
    asked: float = 0.0
    kind: Kind = ""


def hear(before: Heard, pid: int, answer: Answer) -> Heard:
    """What one more answer makes of it; another process begins anew."""
    if before.pid != pid:
        before = Heard(pid)
    if answer.by == "http":
        heard = replace(
            before, http=before.http + answer.bad if answer.bad else 0, alive=before.alive or not answer.bad
        )
    else:
        # That it is not there yet, or starts, is no bad answer of one that never gave a good one.
        counts = answer.bad if before.true or answer.bad > 1 else 0
        heard = replace(before, rpc=before.rpc + counts if answer.bad else 0, true=before.true or not answer.bad)
    return replace(heard, why=answer.why if answer.bad else heard.why if heard.http or heard.rpc else "")


def forgiven(heard: Heard) -> Heard:
    """As if no answer had been bad: for one that could not know better, on a disk without room."""
    return replace(heard, http=0, rpc=0, why="")


def doubted(heard: Heard) -> bool:
    """Are the calls to be asked soon? HTTP alone says nothing, for better or worse."""
    return not heard.true or heard.rpc > 0 or heard.http >= _HTTP_BAD


def verdict(launched: Launched | None, heard: Heard, now: float, start_within: float) -> Verdict:
    """How it is. ``launched``: None where no launcher runs; ``start_within``: seconds that a start may take."""
    if launched is None:
        return Verdict("down", "its service does not run")
    phase, why = launched.phase, launched.reason
    if phase in ("stopped", "ended"):
        return Verdict("stopped", why or "its service was stopped")
    if phase in ("ending", "mending"):
        return Verdict("starting", why)
    if phase == "resting":
        return Verdict("crash-loop", why, mendable=True)
    if phase in ("held", "blocked", "waiting"):
        return Verdict("down", why, mendable=phase == "held")
    if heard.pid != launched.pid:
        heard = Heard(launched.pid)
    # One that hangs answers neither, so the first call that fails says enough.
    enough = 1 if heard.true and heard.http >= _HTTP_BAD else _RPC_BAD
    if heard.rpc >= enough and (heard.true or heard.alive):
        return Verdict("broken", heard.why, mendable=True)
    if heard.true:
        return Verdict("working")
    if now - launched.since > start_within:
        return Verdict("broken", heard.why or f"it is not ready after {start_within:.0f} s", mendable=True)
    return Verdict("starting", heard.why)


def step(
    before: Ladder, found: Verdict, limits: Limits, now: float, *, tried: bool, useless: frozenset[Remedy], held: bool
) -> tuple[Ladder, Remedy | None]:
    """The next remedy, if one is due. ``tried``: its launcher has restarted it, in vain; ``useless``: what cannot help;
    ``held``: a person holds it, or an order is not carried out yet."""
    # A clock that was put back must not make a remedy count for ever.
    taken = tuple((one, min(at, now)) for one, at in before.taken if min(at, now) > now - limits.within)
    ladder = msgspec.structs.replace(before, taken=taken)
    if found.state == "working":
        calm = min(ladder.calm, now) or now
        # Who was asked has mended it: what comes next is another trouble.
        if now - calm >= (limits.mended if ladder.asked else limits.calm):
            return Ladder(taken=taken), None
        return msgspec.structs.replace(ladder, calm=calm), None
    ladder = msgspec.structs.replace(ladder, calm=0.0)
    if not found.mendable or held or any(now - at < limits.pause for _, at in taken):
        return ladder, None
    # That it ends is another trouble than that it runs and is broken, where nobody has restarted it yet.
    kind: Kind = "broken" if found.state == "broken" else "ends"
    rung = ladder.rung if ladder.kind in ("", kind) else 0
    ladder = msgspec.structs.replace(ladder, since=ladder.since or now, kind=kind, rung=rung)
    anew = bool(ladder.asked)
    if ladder.rung >= len(REMEDIES):
        if now - min(ladder.asked, now) < limits.again:
            return ladder, None
        ladder = msgspec.structs.replace(ladder, rung=0, asked=now)
    for rung in range(ladder.rung, len(REMEDIES)):
        remedy = REMEDIES[rung]
        # A person who was asked is not asked again, and what happened since may have made a start worth while.
        if remedy in useless or (remedy == "restart" and tried and not anew) or _is_used_up(remedy, taken, limits):
            continue
        ladder = msgspec.structs.replace(ladder, rung=rung + 1)
        if remedy == "ask":
            return msgspec.structs.replace(ladder, asked=now), None if anew else remedy
        return msgspec.structs.replace(ladder, taken=(*taken, (remedy, now))), remedy
    return ladder, None


def hopeless(reason: str) -> frozenset[Remedy]:
    """What cannot help where it ended for this reason: its doctor mends neither a file that is no database, nor what the
    inventory says."""
    return frozenset({"doctor"}) if _NOT_DOCTORS.search(reason) else frozenset()


def may_pass(reason: str) -> bool:
    """Is what it ended for over in a minute, though it says that another start finds the same?"""
    return bool(_PASSES.search(reason))


def last_words(printed: bytes, most: int = _WORDS) -> str:
    """Why it ended, as far as what it printed tells: from where it says that it failed to start, or else its last lines.

    Lines of JSON, or plain ones; of the former, what is no trouble is left out where there is any.
    """
    lines = [line for line in printed.decode("utf-8", "replace").splitlines() if not _OURS.match(line)]
    told = [_message(line) for line in lines]
    return _joined([text for text, calm in told if not calm], most) or _joined([text for text, _ in told], most)


def _joined(lines: list[str], most: int) -> str:
    failed = max((at for at, line in enumerate(lines) if _FAILED.search(line)), default=None)
    if failed is None:
        return one_line(" | ".join(_different(lines)[-most:]), _REASON_CHARS)
    said = _different([_FAILED.split(lines[failed], maxsplit=1)[1], *lines[failed + 1 :]])
    return one_line(" | ".join(said[:most]), _REASON_CHARS)


def _different(lines: list[str]) -> list[str]:
    """What says something, each thing once."""
    said: list[str] = []
    for line in lines:
        text = one_line(_ANSI.sub("", line), _REASON_CHARS).strip()
        if not text or _TRACE.fullmatch(text) or _ADVICE.match(text):
            continue
        # What comes later says the same again, with words around it.
        if not any(text == earlier or (len(earlier) > _SHORT and earlier.rstrip("…") in text) for earlier in said):
            said.append(text)
    return said


def _message(line: str) -> tuple[str, bool]:
    """What a line says to a person, and whether it says itself that it is no trouble."""
    try:
        found = msgspec.json.decode(line)
    except (ValueError, RecursionError):
        return line, False
    if not isinstance(found, dict):
        return line, False
    told = (found.get(name) for name in ("message", "msg", "0", "1"))
    return " ".join(one for one in told if isinstance(one, str)) or line, found.get("level") in _CALM


def _is_used_up(remedy: Remedy, taken: Iterable[tuple[Remedy, float]], limits: Limits) -> bool:
    most = {"restart": limits.restarts, "doctor": limits.doctors}.get(remedy)
    return most is not None and sum(one == remedy for one, _ in taken) >= most
