"""Ask a node by one plain command, which costs a tenth of a module, so that modules run only where something differs.

Keeps: a question changes nothing, and neither holds nor brings back a secret. Leaves to others: acting on the answer; a
node that cannot answer yet says nothing, and then the modules look for themselves.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["Seen", "ask", "glance"]

Seen = Mapping[str, Mapping[str, str]]

_LOOK = Path(__file__).with_name("look.py")


def ask(action: Any, argv: Sequence[str]) -> tuple[dict[str, Any], str]:
    """Run a command on an action's node. Return the JSON object that it prints, or an empty one and why there is none."""
    done = action._low_level_execute_command(shlex.join(argv))
    # With a terminal in between, which Ansible takes for sudo, other lines may stand before and after.
    for line in done["stdout"].splitlines():
        if line.startswith("{"):
            try:
                return dict(json.loads(line)), ""
            except ValueError:
                continue
    # What the shell says of a program that is not there.
    missing = done["rc"] in {126, 127}
    return {}, "not installed" if missing else done["stderr"].strip() or f"ended with {done['rc']}"


def glance(action: Any, home: str, paths: Sequence[str]) -> Seen:
    """What lies at these paths or patterns below a node's home, as look.py tells it; nothing where there is no release."""
    source = _LOOK.read_text(encoding="utf-8")
    # The release's own Python: where it is needs no discovery, and without one there is nothing to compare.
    answer, _ = ask(action, [f"{home}/current/bin/python", "-I", "-S", "-c", source, home, *paths])
    return answer
