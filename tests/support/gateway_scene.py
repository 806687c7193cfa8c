"""A node with the real gateway of OpenClaw: its launcher and its runtime, as a service manager would run them.

Rules kept here: whoever makes one ends it (``end``, and the node's ``kill``); what it started is asked by process id.

Left to others: what is done to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import psutil

from outlast.core.gateway import Launched
from outlast.errors import GatewayError
from outlast.openclaw import hooks, rpc, tokens, wishes

from .live import LiveNode, free_port, until
from .openclaw import Gateway

__all__ = ["MOST", "START_S", "Scene", "gone"]

MOST = 3
# What a start may take where other tests load the machine.
START_S = 240.0
# No room is set by: a test fills the disk, and frees it.
_QUICK = {"health": {"interval": "1s"}, "clean": {"ballast": "4KiB", "least_free": 1}}


class Scene:
    """A node with its gateway, in ``root/axiom``; its model is that of a provider that answers on ``provider``."""

    def __init__(self, root: Path, provider: int = 9) -> None:
        short = {"alive_every": "2s", "truth_every": "10s", "stop_within": "8s", "most": MOST, "snapshot_every": "1d"}
        self.gateway = Gateway(root, settings=short, providers={"one": provider})
        self.place, self.home = self.gateway.place, self.gateway.home
        told = msgspec.to_builtins(self.place.settings)
        self.node = LiveNode(root, "axiom", free_port(), {}, {"openclaw": told, **_QUICK})
        self.launcher: subprocess.Popen[bytes] | None = None
        self.out = root / "launcher.out"

    def launch(self) -> None:
        """Start the launcher."""
        with self.out.open("ab") as out:
            self.launcher = subprocess.Popen(
                [sys.executable, "-m", "outlast.openclaw.launch", "--home", str(self.home.root)],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            )  # fmt: skip

    def end(self) -> int:
        """SIGTERM to the launcher; its exit code."""
        launcher, self.launcher = self.launcher, None
        if launcher is None:
            return 0
        launcher.terminate()
        return launcher.wait(60)

    def status(self) -> dict[str, Any]:
        """What the node says of it."""
        found: dict[str, Any] = self.node.status().get("openclaw", {})
        return found

    def said(self) -> Launched:
        """What the launcher says."""
        found = wishes.launched(self.place, dead=True)
        assert found is not None
        return found

    def alert(self, *words: str) -> str:
        """The alert about it that has these words; empty where there is none."""
        texts = [one["text"] for one in self.node.status().get("alerts", []) if one["name"] == "openclaw"]
        return next((text for text in texts if all(word in text for word in words)), "")

    def until_working(self) -> None:
        """Wait until it truly works."""
        until(
            lambda: self.status().get("state") == "working",
            limit=START_S,
            what=f"a gateway that works: {self.status()}",
        )

    def outlast(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command, as a person types it."""
        return self.node.cli("openclaw", *words)

    def family(self) -> list[psutil.Process]:
        """The gateway and all that it started."""
        with contextlib.suppress(psutil.Error):
            leader = psutil.Process(self.said().pid)
            return [leader, *leader.children(recursive=True)]
        return []

    def listens(self) -> bool:
        """Does anybody have its port?"""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.place.settings.port)) == 0

    def both(self) -> tuple[str, str]:
        """The gateway's token and the hooks'."""
        return tokens.gateway(self.place), tokens.hooks(self.place)

    def opens(self, gateway: str, hook: str) -> tuple[bool, bool]:
        """Whether the gateway, and its hooks, let these in."""

        async def ask() -> tuple[bool, bool]:
            try:
                await rpc.call(self.place, "status", token=gateway)
                let_in = True
            except GatewayError as error:
                assert error.kind == "refused"
                let_in = False
            return let_in, await hooks.opens(self.place, hook)

        return asyncio.run(ask())


def gone(processes: list[psutil.Process]) -> bool:
    """Is none of them alive?"""
    return not [one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
