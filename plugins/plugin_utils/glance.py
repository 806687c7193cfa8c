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

__all__ = ["Seen", "ask", "glance", "look"]

Seen = Mapping[str, Mapping[str, str]]

_LOOK = Path(__file__).with_name("look.py")
_CHOOSE = 'p=$1; [ -x "$p" ] || p=$2; shift 2; exec "$p" -I -S - "$@"'


def ask(action: Any, argv: Sequence[str], read: str = "") -> tuple[dict[str, Any], str]:
    """Run a command on an action's node, which may read a text from its standard input.

    Return the JSON object that it prints, or an empty one and why there is none.
    """
    done = action._low_level_execute_command(shlex.join(argv), in_data=read.encode() or None)
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


def glance(action: Any, home: str, paths: Sequence[str], root: str | None = None) -> Seen:
    """What lies at these paths or patterns below root (without it: the home), as look.py tells it.

    Nothing where the home has no release yet.
    """
    return look(action, home, _LOOK, [root or home, *paths])[0]


def look(
    action: Any, home: str, program: Path, arguments: Sequence[str], otherwise: str = ""
) -> tuple[dict[str, Any], str]:
    """Have a program of ours look at a node, in the Python of its release, or in another where there is none yet.

    Returns what ask returns. The release's Python is asked for by its path, which needs no discovery. The program goes in by
    standard input: what stands in a command line is kept in the log of sudo.
    """
    python = f"{home}/current/bin/python"
    start = ["/bin/sh", "-c", _CHOOSE, "sh", python, otherwise] if otherwise else [python, "-I", "-S", "-"]
    return ask(action, [*start, *arguments], program.read_text(encoding="utf-8"))
