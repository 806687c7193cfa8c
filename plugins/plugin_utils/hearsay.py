"""What a module says that ran as the agents' user: agents may have said it in its place.

Keeps: only plain values with expected names pass, so that nobody but root changes what Ansible takes for facts, which
outweigh the inventory. Leaves to others: whether a value makes sense.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["believed"]

_FLAGS = ("changed", "failed", "skipped", "unreachable")


def believed(answer: Mapping[str, Any], *texts: str) -> dict[str, Any]:
    """Of a module's answer what every task's result has, and these texts where they are texts."""
    told: dict[str, Any] = {name: answer[name] is True for name in _FLAGS if name in answer}
    for name in ("msg", "module_stderr", *texts):
        if isinstance(answer.get(name), str | int):
            told[name] = str(answer[name])
    return told
