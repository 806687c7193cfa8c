"""What a spawn order must be before it is taken, and what its artifact is said to be made of.

Rules kept here: what cannot work is refused when it is asked for, in one line with the mend, and not after three attempts: an
action that is not known or not to be had, a time beyond what is allowed, a program that the sub-agent would not see.

Left to others: the actions (core.capability), what a sub-agent sees (work.sandbox), running it (work.subagents).
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from outlast.core.capability import check_actions
from outlast.core.promises import check_names
from outlast.core.state import intent_phrase
from outlast.errors import AgentError, BadInput
from outlast.quantity import duration
from outlast.settings import SubAgents
from outlast.work.process import find
from outlast.work.spawned import Spawn, Ticket

__all__ = ["accepted", "promised", "search_path"]


def search_path() -> str:
    """Where a sub-agent finds programs: `outlast` first, then where the node does."""
    return os.pathsep.join((str(Path(sys.prefix) / "bin"), os.environ.get("PATH", os.defpath)))


def accepted(order: Spawn, ours: SubAgents, seen: Sequence[Path], now: str) -> Ticket:
    """The ticket of an order. ``seen``: what the sub-agent will see, where it is shut in. Raises BadInput."""
    actions = check_actions(order.allow)
    if "use:network" in actions and not ours.network:
        raise BadInput("--allow", "use:network is not to be had here", "set network: true in outlast_subagents")
    if order.expect:
        try:
            check_names(list(order.expect))
        except BadInput as error:
            raise BadInput("--expect", error.wrong, error.mend) from error
    try:
        program = find(order.command, search_path(), "sub-agent's command", "correct what follows --")
    except AgentError as error:
        raise BadInput("COMMAND", *str(error).split("; ", 1)) from error
    if seen and not any(Path(program).resolve().is_relative_to(folder.resolve()) for folder in seen):
        mend = "put it in the workspace and add --allow read:workspace, or name its folder in subagents.readable"
        raise BadInput("COMMAND", f"a sub-agent does not see {program}", mend)
    return Ticket(
        id=order.id,
        task=order.task,
        command=order.command,
        allow=sorted(actions),
        timeout_s=_at_most("--timeout", order.timeout, "subagents.timeout", ours.timeout),
        heartbeat_s=_at_most("--heartbeat", order.heartbeat, "subagents.heartbeat", ours.heartbeat),
        expect=order.expect,
        accepted=now,
    )


def promised(files: Sequence[str], expected: Collection[str]) -> list[str]:
    """The files that an INTENT names: those that were expected, and as many others as a record has room for."""
    names: list[str] = []
    for name in sorted(files, key=lambda name: (name not in expected, name)):
        with contextlib.suppress(BadInput):
            intent_phrase("step", "", "-", (*names, name))
            names.append(name)
    return names


def _at_most(option: str, asked: str, field: str, most: str) -> float:
    if not asked:
        return duration(most)
    try:
        seconds = duration(asked)
    except ValueError as error:
        raise BadInput(option, *str(error).split("; ", 1)) from error
    if seconds > duration(most):
        raise BadInput(option, f"{asked} is more than {field}, {most}", "ask for less, or raise that in the inventory")
    return seconds
