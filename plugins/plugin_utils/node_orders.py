"""Have a node's own `outlast` carry out several orders, one plain command each, and look at its keys afterwards.

Keeps: secrets travel by standard input and output, never in a command line; what goes wrong is one line that ends with the
mend, and stops no other order. Leaves to others: which orders (rotation, the roles), keeping the answer out of sight (no_log).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible_collections.outlast.agents.plugins.plugin_utils import glance, reach, table

__all__ = ["Away", "carry_out", "look", "tell"]

_LOOK = Path(__file__).with_name("look_keys.py")


class Away(Exception):
    """The machine cannot be asked; `finding` says why."""

    def __init__(self, finding: dict[str, str]) -> None:
        """With what is wrong and the mend."""
        super().__init__(finding["wrong"])
        self.finding = finding


def tell(action: Any, home: str, words: Sequence[str], reads: str = "") -> dict[str, Any]:
    """Carry out one order; return its JSON answer, or one with `error`. Raises Away.

    Where there is nothing to read it reads an empty line: a terminal in between would show what is printed, and change it.
    """
    argv = [f"{home}/current/bin/outlast", "--home", home, *words, "--json"]
    answer, why = _reached(action, lambda: glance.ask(action, argv, reads or "\n"))
    return answer or {"error": _last(home, why)}


def look(action: Any, home: str, *more: str) -> dict[str, Any]:
    """What look_keys.py tells of a node, or an answer with `error`. Raises Away."""
    answer, why = _reached(action, lambda: glance.look(action, home, _LOOK, [home, *more]))
    return answer or {"error": _last(home, why)}


def carry_out(action: Any, home: str, orders: Iterable[Any]) -> tuple[bool, list[str], list[str]]:
    """Carry out orders (rotation.Order) one after the other. Raises Away.

    Return whether anything was changed, what was done, and what went wrong.
    """
    changed, done, errors = False, [], []
    for order in orders:
        answer = tell(action, home, order.words, order.reads)
        if "error" in answer:
            errors.append(table.plain(str(answer["error"])))
            continue
        if answer.get("changed", True):
            changed = True
            done += [order.done] if order.done else []
    return changed, done, errors


def _reached(action: Any, ask: Callable[[], tuple[dict[str, Any], str]]) -> tuple[dict[str, Any], str]:
    try:
        return ask()
    except AnsibleError as error:
        way = reach.Way.of(action._play_context)
        raise Away(reach.away(str(error), way) or reach.unasked(str(error), way)) from error


def _last(home: str, why: str) -> str:
    said = [line for line in why.splitlines() if not line.startswith("Shared connection to ")]
    return f"{home}: {said[-1] if said else 'says nothing'}; mend: ansible-playbook site.yml"
