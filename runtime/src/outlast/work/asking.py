"""Asks one probe once: over HTTP, by a command, or by a file's age.

Rules kept here: every way ends within the probe's time and reads a bounded answer; whatever goes wrong is an answer that is
not well, in words for a person, and never an error; that something answered at all is told apart from a good answer. What a
command prints is in no answer, for answers go into events, alerts, the journal and to peers, and a program may print a secret:
the last line of one that failed is in ``var/outputs/probe.NAME.log``, for its owner alone.

Left to others: what an answer leads to (core.probes), when it is asked (work.probes).
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from outlast.clock import iso
from outlast.core.probes import Answer
from outlast.core.record import one_line
from outlast.errors import AgentError, HttpError, PeerError
from outlast.home import Home
from outlast.net import client
from outlast.quantity import spoken
from outlast.settings import Probe
from outlast.work.declared import Declared, url_parts
from outlast.work.process import Guard, Output, Process, Program

__all__ = ["ask_command", "ask_file", "ask_http"]

_ANSWER_BYTES = 1 << 20
_SAID_BYTES, _SAID_CHARS, _LOG_BYTES = 4096, 500, 64 << 10
_GRACE_S = 1.0


async def ask_http(probe: Probe, timeout: float) -> Answer:
    """Is the answer the one that is expected? ``timeout``: seconds."""
    parts = url_parts(probe.http)
    if parts is None:
        return Answer(False, "not a URL that is asked here")
    began = time.monotonic()
    try:
        # Many a small server closes the connection and says no length (HTTP/1.0).
        response = await client.request(
            parts[0],
            "GET",
            parts[1],
            connect_s=timeout,
            total_s=timeout,
            response_bytes=_ANSWER_BYTES,
            until_close=True,
        )
    except PeerError as error:
        return Answer(False, one_line(str(error)), up=False)
    except HttpError as error:
        return Answer(False, one_line(str(error)), up=True)
    if response.status != probe.status:
        return Answer(False, f"HTTP {response.status} instead of {probe.status}", up=True)
    if probe.contains and probe.contains.encode() not in response.body:
        return Answer(False, f"HTTP {response.status}, and {probe.contains!r} is not in the answer", up=True)
    return Answer(True, f"HTTP {response.status} in {(time.monotonic() - began) * 1000:.0f} ms", up=True)


async def ask_command(
    one: Declared, command: Sequence[str], home: Home, guard: Guard, more: Mapping[str, str] | None = None
) -> Answer:
    """Does the command end with 0 in time? What it printed last is kept where it did not. ``more``: of its environment."""
    said, environment = _Said(), {**one.environment, **(more or {})}
    program = Program(one.label, command, home.workspace, environment, grace_s=_GRACE_S)
    answer = await _asked(program, said, guard, one.timeout)
    if not answer.ok:
        last = said.last_line() or "it printed nothing"
        kept = Output(home.outputs / f"{one.log}.log", _LOG_BYTES)
        kept.write(f"{iso(time.time())} {answer.text}: {last}\n".encode())
        kept.close()
    return answer


async def _asked(program: Program, said: Output, guard: Guard, timeout: float) -> Answer:
    try:
        process = await Process.start(program, said, guard)
    except AgentError as error:
        return Answer(False, one_line(str(error)))
    waiting = asyncio.create_task(process.wait())
    try:
        await asyncio.wait({waiting}, timeout=timeout)
    finally:
        if not waiting.done():
            waiting.cancel()
            await process.end()
    if waiting.cancelled() or not waiting.done():
        return Answer(False, f"not done after {timeout:g} s, so it was ended")
    code = waiting.result()
    return Answer(code == 0, f"exit {code}" if code >= 0 else f"ended by signal {-code}")


def ask_file(path: Path, name: str, fresh: float, now: float, since: float = 0.0) -> Answer:
    """Was the file changed within ``fresh`` seconds before ``now``, or at least after ``since`` (seconds since 1970)?"""
    try:
        changed = os.stat(path).st_mtime
    except FileNotFoundError:
        return Answer(False, f"{name} is not there")
    except OSError as error:
        return Answer(False, f"{name}: {error.strerror}")
    age = max(0.0, now - max(changed, since))
    return Answer(age <= fresh, f"{name} changed {spoken(now - changed)} ago")


class _Said(Output):
    """The last of what a probe's command prints, in memory: nobody wants a file of it."""

    def __init__(self) -> None:
        super().__init__(Path(os.devnull), _SAID_BYTES)
        self._data = b""

    def write(self, data: bytes) -> None:
        """Keep the end of it."""
        self._data = (self._data + data)[-_SAID_BYTES:]

    def last_line(self) -> str:
        """The last line that says something."""
        lines = [one_line(line, _SAID_CHARS) for line in self._data.decode("utf-8", "replace").splitlines()]
        return next((line for line in reversed(lines) if line), "")
