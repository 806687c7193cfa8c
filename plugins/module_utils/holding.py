"""Have a process beside everything hold a failure: it undoes it when it is told to end, or when its time is over.

Keeps: standard library only; whoever began it may die, be interrupted or lose the connection: the failure ends all the same;
what is undone twice is undone once. Leaves to others: the failures themselves (outages.py).
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from ansible_collections.outlast.agents.plugins.module_utils.waiting import wait

__all__ = ["begin", "end", "held"]

Failure = Callable[[], AbstractContextManager[dict[str, Any]]]
_LOOK_S = 0.02
# A runtime that is stopped may finish what it has in hand before.
_PATIENCE_S = 90.0


def begin(state: str, name: str, failure: Failure, limit_s: float) -> dict[str, Any]:
    """Cause a failure in a process of its own, which notes how it is in ``state``/``name``.json; return what it noted.

    Return ``at`` (Unix seconds) and ``facts``, or ``wrong`` in one line.
    """
    os.makedirs(state, mode=0o700, exist_ok=True)
    near, far = os.pipe()
    if os.fork() == 0:
        # Nothing of whoever waits for Ansible's answer may stay open here.
        os.setsid()
        os.close(near)
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(nothing, number)
        try:
            _hold(state, name, failure, limit_s, far)
        finally:
            os._exit(0)
    os.close(far)
    with open(near, "rb") as answer:
        said = answer.readline()
    return dict(json.loads(said)) if said else {"wrong": f"{name}: it could not be caused, and nothing says why"}


def end(state: str, name: str) -> dict[str, Any]:
    """Have a failure end; return ``at``, or ``wrong`` in one line. Nothing (no ``at``) where none is held."""
    path = os.path.join(state, f"{name}.json")
    noted = held(state).get(name)
    if noted is None:
        return {}
    if _is(noted):
        os.kill(noted["pid"], signal.SIGTERM)
        if not wait(lambda: not _is(noted), _PATIENCE_S):
            return {"wrong": f"{name}: process {noted['pid']} does not end it; mend: ansible-playbook site.yml"}
    noted = held(state).get(name, noted)
    os.unlink(path)
    return {"at": noted["ended"]} if "ended" in noted else {"wrong": noted.get("wrong", f"{name}: it was killed")}


def held(state: str) -> dict[str, dict[str, Any]]:
    """What is held, or was and was not asked for since: by name, what was noted of it, the latest begun first."""
    found = {}
    try:
        names = [name for name in os.listdir(state) if name.endswith(".json")]
    except FileNotFoundError:
        return {}
    for name in names:
        try:
            with open(os.path.join(state, name), encoding="utf-8") as file:
                found[name.removesuffix(".json")] = dict(json.load(file))
        except (OSError, ValueError):
            continue
    return dict(sorted(found.items(), key=lambda one: -float(one[1].get("at", 0.0))))


def _hold(state: str, name: str, failure: Failure, limit_s: float, far: int) -> None:
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: told.append(1))
    noted: dict[str, Any] = {"pid": os.getpid(), "born": _born(os.getpid())}

    def note(**more: Any) -> bytes:
        noted.update(more)
        text = json.dumps(noted).encode()
        temporary = os.path.join(state, f".{name}.new")
        with open(temporary, "wb") as file:
            file.write(text)
        os.replace(temporary, os.path.join(state, f"{name}.json"))
        return text

    began = False
    try:
        with failure() as facts:
            each = facts.pop("each", None)
            os.write(far, note(at=time.time(), facts=facts) + b"\n")
            os.close(far)
            began, until = True, time.monotonic() + limit_s
            while not told and time.monotonic() < until:
                if each:
                    each()
                time.sleep(_LOOK_S)
            # When the power is back, not when all runs again.
            ended = time.time()
        note(ended=ended)
    except Exception as error:  # noqa: BLE001 (whatever it is, who waits is told it in one line)
        wrong = " ".join(str(error).split()) or type(error).__name__
        text = note(wrong=wrong)
        if not began:
            os.unlink(os.path.join(state, f"{name}.json"))
            os.write(far, text + b"\n")


def _born(pid: int) -> str:
    """When a process began, by its machine's count: a number may be another's later. Empty where that is not told.

    One that is over, and that nobody waited for, is gone.
    """
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            words = file.read().rpartition(")")[2].split()
        return "" if words[0] == "Z" else words[19]
    except (OSError, IndexError):
        return ""


def _is(noted: dict[str, Any]) -> bool:
    pid = int(noted["pid"])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return _born(pid) == str(noted["born"])
