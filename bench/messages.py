"""How fast a node takes signed messages, durably, and refuses forged ones, beside Debian's webhook and a bare aiohttp server.

Rules kept here: every server runs on one and the same core and the load generator on the others; all are sent the same notes,
over connections kept open, in turns; each sender is a peer with a key and a sequence of its own, and its messages are signed
before the clock starts; a note that was acknowledged and is not in the journal is an error, not a figure.

Left to others: the generator (load.py), the peers (peers.py), the table.
"""

from __future__ import annotations

import contextlib
import hmac
import itertools
import os
import secrets
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from bench.load import Load, Outcome, generator, http, send, sending
from bench.peers import aiohttp, webhook
from bench.processes import BenchError, say
from bench.table import AtLeast, Figure, Goal, Row, median, percentile
from outlast.core.ids import message_id, new_unit
from outlast.core.webhook import Secret, sign
from outlast.messages import Note, sealed
from tests.support.live import LiveNode, free_port

__all__ = ["accepted", "forged"]

_SENDERS = 32
# What the goal says of the time each message takes holds at this rate: as fast as it goes, 32 senders only wait for each other.
_PACE = 4000.0
# Traffic that a node has, and more: it is the time of each that is looked at.
_CALM = 100.0
_FORGED = 1024
_TEXT = "the backup disk is new, it holds two terabytes and is mounted where the old one was, under /srv/backup"
_NAME = "s"
_FULL = 0.9
_QUICK = "left out of a quick run, because it has to be fetched first"


def accepted(folder: Path, turns: int, notes: int, limit_s: float, *, fetch: bool = True) -> list[Row]:
    """Let in ``notes`` a turn, of one sender and of 32, for at most ``limit_s`` seconds each; without ``fetch`` there are no
    peers. Raises BenchError.
    """
    where = _cores()
    said: dict[str, list[Outcome]] = {}
    with _gate(folder, where) as gate, contextlib.ExitStack() as stack:
        peers = _peers(folder, stack, where) if fetch else dict.fromkeys(_PEERS, _QUICK)
        say(f"messages: {turns} turns of {notes} notes, of 1 and of {_SENDERS} senders, for at most {limit_s:g} s each")
        for _, senders in itertools.product(range(turns), (1, _SENDERS)):
            said.setdefault(f"ours {senders}", []).append(gate.load(gate.notes(senders, notes // senders), limit_s))
            for who, peer in peers.items():
                if not isinstance(peer, str):
                    said.setdefault(f"{who} {senders}", []).append(peer(gate.notes(senders, 64), limit_s, where))
        paced = gate.load(gate.notes(_SENDERS, round(_PACE * limit_s / _SENDERS)), limit_s, _PACE)

    def figure(who: str, senders: int, value: Callable[[Sequence[Outcome]], float]) -> Figure:
        outcomes = said.get(f"{who} {senders}")
        name = "" if who == "ours" else who
        return Figure(value(outcomes), name) if outcomes else Figure(None, name, str(peers[who]))

    def row(what: str, unit: str, senders: int, value: Callable[[Sequence[Outcome]], float]) -> Row:
        return Row(what, unit, figure("ours", senders, value), [figure(who, senders, value) for who in _PEERS])

    many = row(f"notes accepted durably, {_SENDERS} senders", "/s", _SENDERS, _rate)
    at = f"{_PACE:,.0f} notes a second of {_SENDERS} senders"
    return [
        row("notes accepted durably, 1 sender", "/s", 1, _rate),
        row("each of 1 sender's, p50", "ms", 1, _percentile(50)),
        row("each of 1 sender's, p99", "ms", 1, _percentile(99)),
        replace(many, goal=AtLeast(_PACE)),
        replace(many, measure="the same, beside webhook", goal=AtLeast(5, "webhook")),
        replace(many, measure="the same, beside aiohttp", goal=AtLeast(1 / 3, "aiohttp")),
        _cost(said[f"ours {_SENDERS}"]),
        row(f"each of {_SENDERS} senders', as fast as it goes, p50", "ms", _SENDERS, _percentile(50)),
        row(f"each of {_SENDERS} senders', as fast as it goes, p99", "ms", _SENDERS, _percentile(99)),
        Row(f"{at}, each, p50", "ms", Figure(_percentile(50)([paced]))),
        Row(f"{at}, each, p99", "ms", Figure(_percentile(99)([paced])), goal=Goal(5.0)),
    ]


def forged(folder: Path, seconds: float) -> list[Row]:
    """Refuse forged messages for so many seconds, and let honest ones in for as many without and with them. Raises BenchError."""
    where = _cores()
    say(f"messages: forged ones of {_SENDERS} senders, and 1 honest sender without and with them, {seconds:g} s each")
    with _gate(folder, where) as gate:
        flood = gate.asked(gate.forged(), seconds, again=True)
        refused = send(flood, where.load)
        _all(refused, 401)
        few = round(_CALM * seconds)
        calm = gate.load(gate.notes(1, few), 2 * seconds, _CALM)
        # It makes way for the honest sender where both share a core: what is to be seen is the node's time, not the generator's.
        humble = [*where.load, "nice", "-n", "19"]
        with sending(msgspec.structs.replace(flood, limit_s=10 * seconds), humble) as process:
            # It is at work before what it is to disturb begins.
            time.sleep(1)
            under = gate.load(gate.notes(1, few), 2 * seconds, _CALM)
            meanwhile = generator(process)
        _all(meanwhile, 401)
    say(f"messages: {meanwhile.rate:.0f} forged ones a second were refused beside honest ones")
    rows = [Row(f"forged notes refused, {_SENDERS} senders", "/s", Figure(refused.rate), goal=AtLeast(12_000))]
    rows.append(_cost([refused]))
    for percent, goal in ((50, None), (99, Goal(5.0))):
        without, with_them = _percentile(percent)([calm]), _percentile(percent)([under])
        beside = [Figure(without, "without them")]
        rows.append(Row(f"accepted under a flood of forged, each, p{percent}", "ms", Figure(with_them), beside, goal))
        rows.append(Row(f"the same, by how much longer, p{percent}", "×", Figure(with_them / without)))
    return rows


def _cost(outcomes: Sequence[Outcome]) -> Row:
    share = median([outcome.server_s / outcome.seconds for outcome in outcomes])
    each = median([1e6 * outcome.server_s / len(outcome.latencies) for outcome in outcomes])
    return Row(f"the same, the node's CPU time for each, at {share:.0%} of a core", "µs", Figure(each))


def _rate(outcomes: Sequence[Outcome]) -> float:
    return median([outcome.rate for outcome in outcomes])


def _percentile(percent: float) -> Callable[[Sequence[Outcome]], float]:
    """Of all turns together, in milliseconds."""
    return lambda outcomes: 1000 * percentile([one for outcome in outcomes for one in outcome.latencies], percent)


@dataclass(frozen=True, slots=True)
class _Cores:
    """What is put before a command so that it runs where servers run, and where load is made; empty where that cannot be."""

    server: Sequence[str] = ()
    load: Sequence[str] = ()


def _cores() -> _Cores:
    """The first core for the servers, all others for the load."""
    taskset = shutil.which("taskset")
    if sys.platform != "linux" or not taskset:
        say("messages: servers cannot be kept on one core here")
        return _Cores()
    first, *others = sorted(os.sched_getaffinity(0))
    if not others:
        say("messages: there is one core only, which servers and load share")
        return _Cores()
    return _Cores((taskset, "-c", str(first)), (taskset, "-c", ",".join(map(str, others))))


class _Gate:
    """A running node whose peers are senders of ours, and what these say."""

    def __init__(self, node: LiveNode, keys: Mapping[str, Secret], where: _Cores) -> None:
        self.node = node
        self._keys = keys
        self._where = where
        self._taken = 0
        self._seq = dict.fromkeys(keys, 0)
        self._made = itertools.count()

    def notes(self, senders: int, each: int) -> list[list[bytes]]:
        """So many notes of each of so many senders, signed now, never sent before."""
        return [[self._note(name, self._keys[name]) for _ in range(each)] for name in list(self._keys)[:senders]]

    def forged(self) -> list[list[bytes]]:
        """Notes of every sender that are all right but for the key, which is nobody's."""
        nobody = Secret(secrets.token_bytes(32))
        return [[self._note(name, nobody) for _ in range(_FORGED // _SENDERS)] for name in self._keys]

    def _note(self, sender: str, key: Secret) -> bytes:
        if key is self._keys[sender]:
            self._seq[sender] += 1
        now = time.time()
        # Numbered instead of drawn: of so many in one millisecond two would draw the same, and the second would be a repeat.
        msg_id = message_id(new_unit(sender, now, next(self._made)), "note")
        body = sealed(sender, self.node.name, secrets.token_hex(16), msg_id, Note(_TEXT))(self._seq[sender] or 1)
        headers = {
            "webhook-id": msg_id,
            "webhook-timestamp": str(int(now)),
            "webhook-signature": sign([key], msg_id, int(now), body),
        }
        return http(f"/inbox/{sender}", headers, body)

    def asked(self, senders: list[list[bytes]], limit_s: float, pace: float = 0.0, again: bool = False) -> Load:
        """What the generator is to say to this node."""
        assert self.node.process is not None
        return Load(self.node.port, senders, limit_s, again, pace, self.node.process.pid)

    def load(self, senders: list[list[bytes]], limit_s: float, pace: float = 0.0) -> Outcome:
        """Let these notes in. Raises BenchError where one is refused, or acknowledged and not in the journal."""
        outcome = send(self.asked(senders, limit_s, pace=pace), self._where.load)
        _all(outcome, 202)
        self._taken += len(outcome.latencies)
        if (kept := self.node.journal().count(f" NOTE {_NAME}")) < self._taken:
            raise BenchError(f"of {self._taken} notes that were acknowledged the journal has {kept}")
        return outcome


@contextlib.contextmanager
def _gate(folder: Path, where: _Cores) -> Iterator[_Gate]:
    """A node on the servers' core, with a rate that nobody reaches."""
    keys = {f"{_NAME}{number:02d}": Secret(secrets.token_bytes(32)) for number in range(_SENDERS)}
    extra = {"messages": {"rate": 1_000_000_000, "total_timeout": "1h"}, "health": {"interval": "1h"}}
    # Where the senders listen nobody answers, and nobody hangs up: what a node says to its peers is not what is measured here.
    silent = socket.create_server(("127.0.0.1", 0), backlog=4 * _SENDERS)
    node = LiveNode(folder, "axiom", free_port(), dict.fromkeys(keys, silent.getsockname()[1]), extra)
    made = node.cli("keys", "init")
    if made.returncode:
        raise BenchError(f"keys init: {made.stderr}")
    for name, key in keys.items():
        path = node.home.keys / f"{name}.key"
        path.touch(0o600)
        path.write_text(f"{key.text}\n")
    try:
        node.start(wrapper=list(where.server))
        yield _Gate(node, keys, where)
    finally:
        node.kill()
        silent.close()


_Peer = Callable[[list[list[bytes]], float, _Cores], Outcome]


def _peers(folder: Path, stack: contextlib.ExitStack, where: _Cores) -> dict[str, _Peer | str]:
    """What sends notes to each peer, or why there is none."""
    found: dict[str, _Peer | str] = {}
    for name, start in _PEERS.items():
        try:
            found[name] = start(folder / name, stack, where)
        except BenchError as error:
            found[name] = str(error)
    return found


def _webhook(folder: Path, stack: contextlib.ExitStack, where: _Cores) -> _Peer:
    port, secret = free_port(), secrets.token_hex(32)
    stack.enter_context(webhook(folder, port, where.server, secret))

    def rewritten(request: bytes) -> bytes:
        body = request.partition(b"\r\n\r\n")[2]
        mac = hmac.digest(secret.encode(), body, "sha256").hex()
        return http("/hooks/note", {"x-signature": f"sha256={mac}"}, body)

    return _sends(port, rewritten)


def _aiohttp(folder: Path, stack: contextlib.ExitStack, where: _Cores) -> _Peer:
    port = free_port()
    stack.enter_context(aiohttp(folder, port, where.server))
    return _sends(port, lambda request: request)


def _sends(port: int, rewritten: Callable[[bytes], bytes]) -> _Peer:
    def load(senders: list[list[bytes]], limit_s: float, where: _Cores) -> Outcome:
        # Peers take a message as often as it comes: a few are enough.
        requests = [[rewritten(request) for request in one] for one in senders]
        outcome = send(Load(port, requests, limit_s, again=True), where.load)
        _all(outcome, 202)
        return outcome

    return load


_PEERS: dict[str, Callable[[Path, contextlib.ExitStack, _Cores], _Peer]] = {"webhook": _webhook, "aiohttp": _aiohttp}


def _all(outcome: Outcome, status: int) -> None:
    if set(outcome.answers) != {status}:
        raise BenchError(f"the answers were {dict(outcome.answers)}, not all {status}")
    if outcome.own_s > _FULL * outcome.seconds:
        say(f"messages: at {outcome.rate:.0f} a second the load generator itself was at its limit")
