"""``outlast health``: what is up, what works, and since when."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import click

from outlast.cli.common import Where, as_json, emit
from outlast.cli.show import ago, table, tell
from outlast.cli.talk import order
from outlast.core.probes import LEVELS
from outlast.core.record import one_line

__all__ = ["health"]

_WORDS = {True: "yes", False: "NO", None: "?"}
# Every probe in turn may take all of its time.
_PATIENCE_S = 600.0


@click.command()
@click.option("--now", is_flag=True, help="Ask every probe first, instead of showing the last answers.")
@as_json
@click.pass_obj
def health(where: Where, now: bool, as_json: bool) -> int:
    """Show what is up and what works: services, probes, and skills.

    Four levels: alive, responding, making progress, producing quality. What is up may still not work: the last answer says
    why. Exit code 1 when something does not work.
    """
    found = order(where.home, "health", {"now": now}, seconds=_PATIENCE_S)
    if as_json:
        emit(found)
    else:
        logs = sorted(path.stem for path in where.home.outputs.glob("probe.*.log") if not path.stem.endswith(".1"))
        tell("\n".join(health_lines(found, time.time(), logs)))
    return 0 if found["ok"] else 1


def health_lines(found: dict[str, Any], now: float, logs: Sequence[str] = ()) -> list[str]:
    """The answer, for people. ``logs``: those of probes' commands that failed once."""
    lines = [f"{found['node']}: mode {found['mode']}{_why(found['mode_reasons'])}"]
    if not found["health"]:
        return [
            *lines,
            "  nothing is probed: outlast_services and outlast_probes say what is",
            *_skills(found, now),
        ]
    rows = [["subject", "is", "since", *LEVELS.values(), "last answer"]]
    for subject, levels in found["health"].items():
        standing = found["working"][subject]
        since = ago(standing["since"], now) if standing["since"] else "-"
        marks = [_WORDS[levels[name]["ok"]] if name in levels else "-" for name in LEVELS.values()]
        rows.append([subject, standing["state"], since, *marks, one_line(standing["text"], 60)])
    return [*lines, *(f"  {line}" for line in table(rows)), *_printed(found, logs), *_skills(found, now)]


def _printed(found: dict[str, Any], logs: Sequence[str]) -> list[str]:
    """Where it stands what the commands of those that do not work printed: in no answer, because it may be a secret."""
    bad = [name for name, one in found["working"].items() if one["state"] not in {"working", "not looked at"}]
    mine = [log for log in logs if any(f"{log}.".startswith(f"probe.{name}.") for name in bad)]
    return [f"  what its command printed: outlast logs {log}" for log in mine]


def _why(reasons: list[str]) -> str:
    return f" ({'; '.join(reasons)})" if reasons else ""


def _skills(found: dict[str, Any], now: float) -> list[str]:
    if not found["skills"]:
        return []
    rows = [["skill", "last run", "is", "says"]]
    for name, skill in found["skills"].items():
        rows.append([name, ago(skill["at"], now), "well" if skill["ok"] else "NOT WELL", one_line(skill["text"], 60)])
    return ["", *(f"  {line}" for line in table(rows))]
