"""How soon a worker runs again, after a kill and after a hang, and what it costs to keep fifty: beside those who do only that.

Rules kept here: all keep the same worker, told to restart it at once, and take turns, so that drift falls on all of them; a
worker runs when it says so itself. A hang is SIGSTOP; counted is the time from the order to restart it, for who finds a hang,
and how often it looks, is not the keeper's merit.

Left to others: the keepers (supervisors).
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from pathlib import Path

from bench.idle import Idler, watch
from bench.processes import BenchError, say
from bench.supervisors import KEEPERS, Keeper, Worker
from bench.table import Figure, Goal, Row, percentile

__all__ = ["fifty_idle", "restarts"]

# runit starts one that did not last a second a second later, and others count that as a failed start.
_LASTS_S = 1.3
_FIRST_RUN_S = 60.0
_RUNS_AGAIN_S = 30.0
_MANY = 50


def restarts(root: Path, kills: int, hangs: int, *, fetch: bool) -> list[Row]:
    """Kill the worker of each so many times, then hang it; ``fetch``: also with those who must be installed first."""
    missing: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        kept = _kept(root, stack, 1, missing, fetch=fetch)
        say(f"supervision: {kills} kills and {hangs} hangs each of the worker of {', '.join(kept)}")
        killed = {name: list[float]() for name in kept}
        hung = {name: list[float]() for name in kept}
        for turn in range(kills + hangs):
            time.sleep(_LASTS_S)
            for name, (keeper, worker, pids) in kept.items():
                try:
                    if turn < kills:
                        killed[name].append(_killed(worker, pids))
                    else:
                        hung[name].append(_hung(keeper, worker, pids))
                except BenchError as error:
                    raise BenchError(f"{name}: {error}") from error
    return [
        _row(f"killed worker to running again, p50 of {kills}", killed, missing),
        _row(f"hung worker, from the order to running again, p50 of {hangs}", hung, missing),
    ]


def fifty_idle(root: Path, seconds: float, *, fetch: bool) -> list[Row]:
    """What each takes that keeps fifty workers which sleep, the workers not counted."""
    missing: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        kept = _kept(root, stack, _MANY, missing, fetch=fetch)
        idlers = [
            Idler("node" if name == "outlast" else "peer", name, one.pids, one.folder)
            for name, (one, _, _) in kept.items()
        ]
        # What a start takes is not idling.
        time.sleep(min(10.0, seconds))
        costs = watch(idlers, seconds)
    beside = "supervisord" if "supervisord" in costs else ""

    def row(measure: str, unit: str, values: dict[str, float | None], limit: float) -> Row:
        peers = [
            Figure(value, name, "this system does not tell") for name, value in values.items() if name != "outlast"
        ]
        peers += [Figure(None, name, why) for name, why in missing.items()]
        goal = Goal(limit, strict=False, beside=beside)
        return Row(f"{_MANY} idle workers, {measure}", unit, Figure(values["outlast"]), peers, goal)

    def all_of(pick: str) -> dict[str, float | None]:
        return {name: getattr(cost, pick) for name, cost in costs.items()}

    # The node itself, which does more than that, is within 32 MiB and 0.3 % (bench.idle).
    return [
        row("resident", "MiB", all_of("rss"), 40),
        row("proportional", "MiB", all_of("pss"), 40),
        row(f"CPU over {seconds:g} s", "%", all_of("cpu"), 0.5),
    ]


def _kept(
    root: Path, stack: contextlib.ExitStack, count: int, missing: dict[str, str], *, fetch: bool
) -> dict[str, tuple[Keeper, Worker, list[int]]]:
    """Every keeper that can be had, once its first worker runs; the list holds that worker's process id."""
    kept = {}
    for name, keep in KEEPERS.items():
        folder = root / name
        folder.mkdir()
        try:
            if name in ("pm2", "runit") and not fetch:
                raise BenchError("left out of a quick run, because it has to be installed first")
            worker = Worker(folder)
            stack.callback(worker.close)
            keeper = stack.enter_context(keep(folder, worker, count))
            kept[name] = keeper, worker, [worker.runs(_FIRST_RUN_S)]
        except (BenchError, OSError, AssertionError) as error:
            if name == "outlast":
                raise
            missing[name] = " ".join(str(error).split())
    return kept


def _killed(worker: Worker, pids: list[int]) -> float:
    """Milliseconds from the kill to its running again."""
    began = time.perf_counter()
    os.kill(pids[-1], signal.SIGKILL)
    pids.append(worker.runs(_RUNS_AGAIN_S))
    return (time.perf_counter() - began) * 1e3


def _hung(keeper: Keeper, worker: Worker, pids: list[int]) -> float:
    """Milliseconds from the order to its running again; the order may take longer to be answered."""
    os.kill(pids[-1], signal.SIGSTOP)
    teller = threading.Thread(target=keeper.restart)
    began = time.perf_counter()
    teller.start()
    pids.append(worker.runs(_RUNS_AGAIN_S))
    passed = (time.perf_counter() - began) * 1e3
    teller.join()
    return passed


def _row(measure: str, taken: dict[str, list[float]], missing: dict[str, str]) -> Row:
    peers = [Figure(percentile(values, 50), name) for name, values in taken.items() if name != "outlast"]
    peers += [Figure(None, name, why) for name, why in missing.items()]
    return Row(measure, "ms", Figure(percentile(taken["outlast"], 50)), peers, Goal(10, strict=False))
