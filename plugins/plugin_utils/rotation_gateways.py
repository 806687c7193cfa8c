"""What a person reads of the tokens of OpenClaw's gateways when keys are rotated: which nodes have one, and how it ended there.

Keeps: pure; no token is in it. Leaves to others: changing them (the node's own `outlast openclaw tokens --rotate`), asking for
that (the role rotation).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.outlast.agents.plugins.plugin_utils.rotation_words import Left

__all__ = ["ended", "intent"]


def intent(names: Sequence[str]) -> list[str]:
    """The line of the plan about them."""
    return [f"  {', '.join(names)}: both tokens of OpenClaw's gateway are changed as well"] if names else []


def ended(told: Mapping[str, Mapping[str, Any]], again: str) -> tuple[list[str], list[Left]]:
    """What was done, and what is left. told: what came of asking each node (the action `ask`); again: the command of this."""
    lines, left = [], []
    for name, said in told.items():
        answer, away = said.get("answer") or {}, said.get("away") or {}
        if answer:
            proof = (
                "the gateway refuses the old ones"
                if answer.get("proved")
                else "the gateway does not run, and starts with these"
            )
            lines.append(f"{name}: OpenClaw's tokens are new; {proof}")
            left += [
                Left(name, f"an old token of OpenClaw's is still held by {who}", "end it, or delete it there")
                for who in answer.get("held") or ()
            ]
        elif away:
            wrong = f"OpenClaw's tokens are as they were: {away['field']}: {away['wrong']}"
            left.append(Left(name, wrong, f"{away['mend']}; when it is back: {again}", fails=False))
        else:
            wrong, _, mend = str(said.get("msg") or "it was not asked").partition("; mend: ")
            more = f"; then: {again}" if mend else again
            left.append(Left(name, f"OpenClaw's tokens may be as they were: {wrong}", f"{mend}{more}"))
    return lines, left
