"""The pure parts of ``make bench``: what the table says follows from the figures, and a missing figure is never a success."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.live import until

from bench.idle import Written, grown
from bench.journal import appends
from bench.load import Load, generator, http, send, sending
from bench.messages import accepted, forged
from bench.play import changed
from bench.processes import BenchError
from bench.shared import merges
from bench.state import populate, rebuilds
from bench.table import AtLeast, Figure, Goal, Row, median, met, per_day, percentile, render
from bench.wire import wire


def row(ours: float | None, peer: float | None = None, goal: Goal | None = None) -> Row:
    return Row("second make up", "s", Figure(ours, why="no make"), [Figure(peer, "mitogen", "no mitogen")], goal)


@pytest.mark.parametrize(
    ("ours", "peer", "goal", "expected"),
    [
        (7.9, None, Goal(8), "yes"),
        (8.0, None, Goal(8), "NO"),
        (8.0, None, Goal(8, strict=False), "yes"),
        (8.1, None, Goal(8, strict=False), "NO"),
        (5.0, 5.0, Goal(8, beside="mitogen"), "yes"),
        (5.1, 5.0, Goal(8, beside="mitogen"), "NO"),
        (9.0, 10.0, Goal(8, beside="mitogen"), "NO"),
        (5.0, None, Goal(8, beside="mitogen"), "not known"),
        (None, 5.0, Goal(8, beside="mitogen"), "not known"),
        (5.0, 5.0, None, "-"),
    ],
)
def test_met(ours: float | None, peer: float | None, goal: Goal | None, expected: str) -> None:
    """A goal is met only by a figure within it, and beside a peer only if the peer was measured and is not better."""
    assert met(row(ours, peer, goal)) == expected


@pytest.mark.parametrize(
    ("ours", "peer", "expected"),
    [(3000.0, 1000.0, "yes"), (2999.0, 1000.0, "NO"), (3000.0, None, "not known"), (None, 1000.0, "not known")],
)
def test_met_by_a_multiple_of_the_peer(ours: float | None, peer: float | None, expected: str) -> None:
    """Where the goal is so many times the peer, less is a NO, and without the peer nothing is known."""
    rate = Row(
        "journal", "/s", Figure(ours), [Figure(peer, "bare write"), Figure(9e9, "another")], AtLeast(3, "bare write")
    )
    assert met(rate) == expected
    assert "| ≥ 3 × bare write |" in render([rate])


@pytest.mark.parametrize(("ours", "expected"), [(4000.0, "yes"), (3999.0, "NO"), (None, "not known")])
def test_met_by_so_many(ours: float | None, expected: str) -> None:
    """Where no peer is named, the goal is the figure itself, in the row's unit."""
    rate = Row("notes accepted", "/s", Figure(ours), goal=AtLeast(4000))
    assert met(rate) == expected
    assert "| ≥ 4000 /s |" in render([rate])


def test_table_is_aligned_and_names_what_is_missing() -> None:
    """Every line of the table is as wide as the others, and a figure that is missing is explained once below it."""
    text = render([row(5.0, 6.25, Goal(8, beside="mitogen")), row(None, None), row(None, None)])
    table, _, notes = text.partition("\n\n")
    assert len({len(line) for line in table.splitlines()}) == 1
    assert "| second make up | 5.00 s       | mitogen 6.25 s       | < 8 s, ≤ mitogen | yes  |" in table
    assert notes.splitlines() == [
        "- second make up not measured: no make",
        "- mitogen not measured: no mitogen",
    ]


def test_a_table_without_gaps_has_no_notes() -> None:
    """Nothing is said below the table when every figure is there."""
    assert "\n\n" not in render([row(1.0, 2.0)])


def test_extrapolation() -> None:
    """A day is 86,400 seconds at the pace of the window."""
    assert per_day(1000, 60) == pytest.approx(1_440_000)


def test_percentiles_are_values_that_were_measured() -> None:
    """A percentile is one of the values; the median of an even number lies between the two in the middle."""
    values = [float(value) for value in range(100, 0, -1)]
    assert (percentile(values, 50), percentile(values, 99), percentile(values, 100)) == (50, 99, 100)
    assert percentile([3.0], 1) == 3
    assert median([1.0, 2.0, 4.0]) == 2
    assert median([4.0, 1.0, 2.0, 3.0]) == 2.5
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


def test_growth_of_files() -> None:
    """A file that grew counts its growth, one that was written anew all of it, one that was left alone or removed nothing."""
    before = {"log": (100, 1), "state": (50, 1), "same": (70, 1), "gone": (9, 1)}
    after = {"log": (130, 2), "state": (40, 2), "same": (70, 1), "new": (5, 2)}
    assert grown(before, after) == 30 + 40 + 5


def test_the_larger_of_two_accounts_is_believed() -> None:
    """What the kernel counted and what the files show are two witnesses; the one that says more is taken."""
    assert Written(counted=10, shown=4096).bytes == 4096
    assert Written(counted=8192, shown=1).bytes == 8192
    assert Written(counted=None, shown=7).bytes == 7


def test_changed_is_read_from_the_recap() -> None:
    """What Ansible changed is the sum over its recap's hosts; without a recap there is nothing to believe."""
    recap = "coz : ok=9  changed=0 unreachable=0 failed=0\naxiom : ok=9 changed=2  unreachable=0 failed=0\n"
    assert changed(recap) == 2
    assert changed("no recap") is None


def test_every_way_of_appending_is_measured(tmp_path: Path) -> None:
    """The journal's rates stand beside those of both peers, and every record that was counted is in the daily files."""
    rows = appends(tmp_path, turns=2, records=32)
    assert all(row.ours.value and row.ours.value > 0 for row in rows)
    assert [figure.who for figure in rows[0].peers] == ["write+fdatasync", "SQLite WAL FULL"]
    days = "".join(path.read_text() for path in (tmp_path / "memory").glob("*.md"))
    # Three ways that go through the journal: 32 to begin with, and two turns of as many.
    assert days.count(" INTENT coz-") == 3 * 3 * 32


def test_rebuilding_is_measured_only_where_nothing_is_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Times are told for each number of artifacts, with the goals at the largest; a rebuild that misses one is an error."""
    rows = rebuilds(tmp_path, (5, 10), times=1)
    goals = {row.measure: row.goal for row in rows if row.goal is not None}
    assert goals["STATE rebuilt, journal there, 10 artifacts"] == Goal(10.0)
    assert goals["start-up check, nothing changed, 10 artifacts"] == Goal(1.0)
    assert goals["STATE rebuilt from artifacts alone, time each, 10 to 5"] == Goal(1.5, strict=False)
    monkeypatch.setattr("bench.state.populate", lambda home, count: populate(home, count - 1))
    with pytest.raises(BenchError, match="of 5 artifacts 4"):
        rebuilds(tmp_path / "few", (5, 10), times=1)


def test_merging_without_the_peer_says_so(tmp_path: Path) -> None:
    """Where pycrdt is not installed, our own merge is measured all the same, and the table says why the other is missing."""
    text = render(merges(tmp_path, 40, 2, install=False))
    assert text.count("pycrdt not measured |") == 2
    assert "has to be installed first" in text


def test_the_generator_says_each_request_once_and_waits_for_its_answer() -> None:
    """Every request of every sender is answered, in its order; what a server took of time and what it answered is told."""
    with server(b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok") as (port, heard):
        senders = [[http(f"/{name}", {}, f"{name}{number}".encode()) for number in range(20)] for name in "ab"]
        outcome = send(Load(port, senders, 30.0))
    assert outcome.answers == {202: 40} and len(outcome.latencies) == 40
    assert 0 < min(outcome.latencies) <= outcome.seconds and outcome.rate > 0
    assert [b"".join(said) for said in sorted(heard)] == [b"".join(requests) for requests in senders]


def test_with_a_pace_the_time_counts_from_when_a_message_was_due() -> None:
    """A server that needs 20 ms for each of 20 messages that are due within 20 ms lets the last one wait for all others."""
    with server(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n", delay_s=0.02) as (port, _):
        outcome = send(Load(port, [[http("/", {}, b"x")] * 20], 30.0, pace=1000.0))
    assert max(outcome.latencies) > 0.35


def test_a_generator_that_goes_on_is_ended() -> None:
    """It says its list again and again until it is told to end, and then what came of it; one that had ended is an error."""
    with server(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n") as (port, heard):
        load = Load(port, [[http("/", {}, b"x")]], 60.0, again=True)
        with sending(load) as process:
            until(lambda: sum(map(len, heard)) > 5)
            outcome = generator(process)
        assert outcome.answers.keys() == {401} and outcome.answers[401] >= 5
        with sending(Load(port, [[http("/", {}, b"x")]], 60.0)) as process:
            process.wait(30)
            with pytest.raises(BenchError, match="ended before"):
                generator(process)


def test_a_server_that_says_nothing_is_an_error() -> None:
    """No answer at all is no figure."""
    with server(b"") as (port, _), pytest.raises(BenchError, match="no answer at all"):
        send(Load(port, [[http("/", {}, b"x")]], 0.2))


def test_the_door_is_measured(tmp_path: Path) -> None:
    """Notes of 1 and of 32 senders come in, forged ones do not; peers that were not fetched are missing with the reason."""
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    rows = accepted(tmp_path / "in", 1, 64, 0.5, fetch=False) + forged(tmp_path / "out", 0.5)
    assert all(row.ours.value and row.ours.value > 0 for row in rows)
    text = render(rows)
    assert "- webhook not measured: left out of a quick run" in text and "- aiohttp not measured" in text


def test_what_the_door_does_not_take_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A note that is refused, or acknowledged and not kept, is an error and no figure."""
    monkeypatch.setattr("bench.messages.LiveNode.journal", lambda node: "")
    with pytest.raises(BenchError, match="the journal has 0"):
        accepted(tmp_path, 1, 32, 0.5, fetch=False)


def test_a_wire_counts_what_passes_and_passes_nothing_when_cut() -> None:
    """Bytes are counted both ways; a wire that is cut lets go of what was open and takes nothing."""
    with echo() as port, wire(port) as laid:
        with socket.create_connection(("127.0.0.1", laid.port), 10) as connection:
            connection.sendall(b"12345")
            assert connection.recv(5, socket.MSG_WAITALL) == b"12345"
            assert laid.passed == 10
            laid.cut = True
            connection.sendall(b"678")
            assert closed(connection)
        with socket.create_connection(("127.0.0.1", laid.port), 10) as connection:
            assert closed(connection)
        assert laid.passed == 10


def closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


@contextlib.contextmanager
def echo() -> Iterator[int]:
    """The port of a server that gives back what its first caller sends."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                caller, _ = server.accept()
                with caller:
                    while data := caller.recv(100):
                        caller.sendall(data)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join(10)


@contextlib.contextmanager
def server(answer: bytes, delay_s: float = 0.0) -> Iterator[tuple[int, list[list[bytes]]]]:
    """The port of a server that gives the same answer to whatever comes, and what each connection said."""
    heard: list[list[bytes]] = []

    class Talk(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            heard.append(said := [])
            with contextlib.suppress(ConnectionError):
                while data := self.request.recv(65_536):
                    said.append(data)
                    time.sleep(delay_s)
                    self.request.sendall(answer)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Talk) as serving:
        serving.daemon_threads = True
        thread = threading.Thread(target=serving.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield serving.server_address[1], heard
        finally:
            serving.shutdown()
            thread.join(10)
