"""The load generator: a process of its own that says what it was given to a server on loopback, over connections kept open.

Rules kept here: what is sent was signed before the clock starts; a sender waits for each answer before it says the next, as a
node does; with a pace, a message that had to wait for the one before it has waited since it was due, so that a server that
falls behind cannot hide it; what is asked (Load) comes in on standard input, what came of it (Outcome) goes out on standard
output; SIGTERM ends it early, with what there is.

Left to others: the messages, and what their answers mean.
"""

from __future__ import annotations

import contextlib
import heapq
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from pathlib import Path

import msgspec

from bench.processes import BenchError, family, finish, read

__all__ = ["Load", "Outcome", "generator", "http", "send", "sending"]

_CHECKOUT = Path(__file__).resolve().parent.parent
_HOST = "127.0.0.1"
_SPARE_S = 60.0
# Below this the kernel would wake us too late.
_SPIN_S = 0.002


class Load(msgspec.Struct, frozen=True):
    """What to say: a list of requests for each sender, one after the other, for at most ``limit_s`` seconds.

    ``again``: each list is begun anew at its end. ``pace``: so many a second of all senders together, 0: as many as go.
    ``pid``: the server's process, whose CPU time is read meanwhile; 0: of none.
    """

    port: int
    senders: Sequence[Sequence[bytes]]
    limit_s: float
    again: bool = False
    pace: float = 0.0
    pid: int = 0


class Outcome(msgspec.Struct, frozen=True):
    """How many answers had which HTTP status, how many seconds each took, and how many it all took; CPU seconds of the server
    and of the generator meanwhile.
    """

    answers: Mapping[int, int]
    latencies: Sequence[float]
    seconds: float
    server_s: float
    own_s: float

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.latencies) / self.seconds


def http(path: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """A POST request."""
    lines = [f"POST {path} HTTP/1.1", f"host: {_HOST}", "content-type: application/json"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode() + body


def send(load: Load, wrapper: Sequence[str] = ()) -> Outcome:
    """Run a generator to its end. Raises BenchError."""
    with sending(load, wrapper) as process:
        return _outcome(process, load.limit_s + _SPARE_S)


@contextlib.contextmanager
def sending(load: Load, wrapper: Sequence[str] = ()) -> Iterator[subprocess.Popen[bytes]]:
    """A generator at work for as long as the block lasts. Raises BenchError where it has ended before."""
    command = [*wrapper, sys.executable, "-m", "bench.load"]
    process = subprocess.Popen(
        command, cwd=_CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        assert process.stdin is not None
        process.stdin.write(msgspec.msgpack.encode(load))
        process.stdin.close()
        process.stdin = None
        yield process
    except OSError as error:
        raise BenchError(f"the load generator could not be told what to send: {error}") from error
    finally:
        if process.poll() is None:
            finish(family(process.pid))
        process.wait()


def generator(process: subprocess.Popen[bytes]) -> Outcome:
    """End a generator that is at work, and see what came of it. Raises BenchError, also where it had ended by itself."""
    if process.poll() is not None:
        raise BenchError("the load generator ended before what it was meant to accompany")
    process.terminate()
    return _outcome(process, _SPARE_S)


def _outcome(process: subprocess.Popen[bytes], limit_s: float) -> Outcome:
    try:
        said, _ = process.communicate(timeout=limit_s)
        outcome = msgspec.msgpack.decode(said, type=Outcome)
    except (subprocess.TimeoutExpired, msgspec.MsgspecError) as error:
        raise BenchError(f"the load generator did not say what came of it: {error}") from error
    if not outcome.latencies:
        raise BenchError("the load generator got no answer at all")
    return outcome


class _Sender:
    """One connection, and what is said over it."""

    def __init__(self, port: int, requests: Sequence[bytes], again: bool) -> None:
        self.connection = socket.create_connection((_HOST, port), 10)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.requests = cycle(requests) if again else iter(requests)
        self.since = 0.0
        self.due = 0.0
        self._heard = b""

    def say(self, since: float) -> bool:
        """Send the next request, which waits since then; false where there is none."""
        request = next(self.requests, None)
        if request is None:
            return False
        self.since = since
        self.connection.sendall(request)
        return True

    def hear(self) -> int:
        """The status of an answer that is whole, else 0. Raises ConnectionError."""
        data = self.connection.recv(65_536)
        if not data:
            raise ConnectionResetError("the server hung up")
        self._heard += data
        end = self._heard.find(b"\r\n\r\n")
        if end < 0:
            return 0
        head = self._heard[:end].lower()
        _, found, length = head.partition(b"\r\ncontent-length:")
        if not found:
            raise ConnectionResetError("an answer without a length")
        if len(self._heard) < end + 4 + int(length.partition(b"\r\n")[0]):
            return 0
        self._heard = b""
        return int(head[9:12])


def _run(load: Load) -> Outcome:
    senders = [_Sender(load.port, requests, load.again) for requests in load.senders]
    answers: dict[int, int] = {}
    latencies: list[float] = []
    over: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: over.append(number))
    with selectors.DefaultSelector() as selector, contextlib.ExitStack() as stack:
        server, own = _cpu_s(load.pid), time.process_time()
        began = time.perf_counter()
        step = len(senders) / load.pace if load.pace else 0.0
        # When who is to say something next; of those who wait for an answer, nothing.
        due = [(began + number * step / len(senders), number) for number in range(len(senders))]
        heapq.heapify(due)
        for number, sender in enumerate(senders):
            stack.enter_context(sender.connection)
            selector.register(sender.connection, selectors.EVENT_READ, number)
        waiting = 0
        now = ended = began
        while (due or waiting) and not over and now - began < load.limit_s:
            while due and due[0][0] <= now:
                at, number = heapq.heappop(due)
                senders[number].due = at
                waiting += senders[number].say(at if step else time.perf_counter())
            idle = due[0][0] - now if due else 1.0
            for key, _ in selector.select(0 if idle < _SPIN_S else min(idle - _SPIN_S, 1.0)):
                sender = senders[key.data]
                if status := sender.hear():
                    ended = time.perf_counter()
                    latencies.append(ended - sender.since)
                    answers[status] = answers.get(status, 0) + 1
                    waiting -= 1
                    heapq.heappush(due, (sender.due + step if step else ended, key.data))
            now = time.perf_counter()
        used = _cpu_s(load.pid) - server, time.process_time() - own
    return Outcome(answers, latencies, max(ended - began, 1e-9), *used)


def _cpu_s(pid: int) -> float:
    return read(pid).cpu_s if pid else 0.0


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.msgpack.encode(_run(msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Load))))
