"""What the tests of sub-agents share: a node that spawns, a Python text as sub-agent, and what it found.

Rules kept here: a sub-agent tells what it found in ``found.json`` in its own folder, so that what a test sees is what came out of
the sandbox; whoever starts a node stops it.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from support.live import LiveNode, free_port, share_keys, until
from support.needs import missing

__all__ = ["closed", "found", "lone_node", "name", "needs_sandbox", "spawn", "spawned", "ticket"]

_COUNT = itertools.count()
_TELL = """
import json, os, pathlib, signal, socket, subprocess, sys, time
found = {}
def tried(name, what):
    try:
        found[name] = what()
    except BaseException as error:
        found[name] = f"{type(error).__name__}: {error}"
    pathlib.Path("found.json").write_text(json.dumps(found, default=str))
def outlast(*words):
    done = subprocess.run(["outlast", *words], capture_output=True, text=True)
    return [done.returncode, done.stdout.strip() + done.stderr.strip()]
"""


def needs_sandbox() -> None:
    """Skip where there is no bubblewrap, or none that may make namespaces."""
    if sys.platform != "linux" or shutil.which("bwrap") is None:
        missing("bubblewrap")
    if not _namespaces():
        missing("user namespaces")


@functools.cache
def _namespaces() -> bool:
    tried = subprocess.run(["bwrap", "--unshare-all", "--ro-bind", "/", "/", "true"], capture_output=True, check=False)
    return tried.returncode == 0


@contextlib.contextmanager
def lone_node(extra: dict[str, Any] | None = None, *, start: bool = True) -> Iterator[LiveNode]:
    """A node without peers that are there; its home is short enough for a socket's name. Killed and removed at the end."""
    root = Path(tempfile.mkdtemp(prefix="outlast-sub-"))
    node = LiveNode(root, "coz", free_port(), {"axiom": free_port()}, extra)
    share_keys(node)
    try:
        if start:
            node.start()
        yield node
    finally:
        node.kill()
        # Python's own removal ends in folders that are too deep for it.
        subprocess.run(["rm", "-rf", str(root)], check=False)


def name() -> str:
    """A name for a sub-agent that no other has."""
    return f"sub{next(_COUNT):012d}".replace("l", "0")


def spawn(node: LiveNode, script: str, **fields: Any) -> str:
    """Spawn a sub-agent that runs this Python text, or ``command``; its name."""
    command = fields.pop("command", [sys.executable, "-c", _TELL + script])
    order = {"id": name(), "task": "try it", "command": command, **fields}
    return str(node.order("subagents/spawn", order)["id"])


def ticket(node: LiveNode, agent: str) -> dict[str, Any]:
    """How it is now."""
    return node.order("subagents/show", {"id": agent})


def closed(node: LiveNode, agent: str, *, limit: float = 60.0) -> dict[str, Any]:
    """Wait for its end; how that was."""
    until(
        lambda: node.order("subagents/wait", {"id": agent, "seconds": 1})["ended"], limit=limit, what=f"{agent} ended"
    )
    return ticket(node, agent)


def spawned(node: LiveNode, script: str, **fields: Any) -> dict[str, Any]:
    """The same with its end awaited, and what it found as ``found``."""
    told = closed(node, spawn(node, script, **fields))
    return {**told, "found": found(node, told["id"])}


def found(node: LiveNode, agent: str) -> dict[str, Any]:
    """What a sub-agent that is closed told."""
    for folder in (node.home.ended / agent / "work", node.home.artifacts / agent):
        if (path := folder / "found.json").exists():
            loaded: dict[str, Any] = json.loads(path.read_text())
            return loaded
    return {}
