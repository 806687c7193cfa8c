"""Where OpenClaw's things lie on a node, and what its programs are told of it.

Rules kept here: all of it is below the node's home and nothing in the home of a person; no secret is in an environment or a
command line: OpenClaw reads its tokens and the operator's secrets from files that its configuration names; its configuration
is read-only for it; it neither updates, nor restarts, nor announces itself.

The workspace of its main agent is the node's workspace. Left to others: what the files hold (roles/openclaw), starting it
(openclaw.launch).
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

from outlast.errors import ConfigError
from outlast.home import Home
from outlast.openclaw.settings import OpenClaw
from outlast.settings import Config

__all__ = ["Place", "place_of"]


@dataclass(frozen=True, slots=True)
class Place:
    """The OpenClaw of one node."""

    home: Home
    settings: OpenClaw

    @property
    def folder(self) -> Path:
        """Its configuration and its secrets: the node's user owns it, mode 0700."""
        return self.home.root / "etc" / "openclaw"

    @property
    def config(self) -> Path:
        """Its configuration, without any secret."""
        return self.folder / "openclaw.json"

    @property
    def hooks(self) -> Path:
        """What its configuration includes: the hooks with their token, which takes no reference. A secret."""
        return self.folder / "hooks.json"

    @property
    def tokens(self) -> Path:
        """``{"gateway": {"token": …}}``: the node makes it, and no one else needs it. A secret."""
        return self.folder / "tokens.json"

    @property
    def rotation(self) -> Path:
        """The old tokens and the new ones, while they are changed. A secret."""
        return self.folder / "rotation.json"

    @property
    def secrets(self) -> Path:
        """``{NAME: value}``: what the operator's configuration refers to. A secret."""
        return self.folder / "secrets.json"

    @property
    def state(self) -> Path:
        """OpenClaw's own state: ``~/.openclaw`` of the agents' home directory."""
        return self.home.agents / ".openclaw"

    @property
    def databases(self) -> list[Path]:
        """What holds OpenClaw's state: its own, there or not, and that of each agent. Any of them that is broken keeps it from
        starting."""
        agents = self.state.glob("agents/*/agent/openclaw-agent.sqlite")
        return [self.state / "state" / "openclaw.sqlite", *sorted(agents)]

    @property
    def log(self) -> Path:
        """What the gateway logs, in JSON lines."""
        return self.home.outputs / "openclaw.log"

    @property
    def printed(self) -> Path:
        """The last that the gateway printed, which tells why it ended."""
        return self.home.outputs / "gateway.log"

    @property
    def launched(self) -> Path:
        """What the gateway's launcher says of it."""
        return self.home.root / "var" / "gateway" / "launched.json"

    @property
    def wish(self) -> Path:
        """What the launcher is asked to do next, until it takes it."""
        return self.home.root / "var" / "gateway" / "wish.json"

    @property
    def known(self) -> Path:
        """What the runtime knows of the gateway, over a start of its own."""
        return self.home.root / "var" / "openclaw.json"

    @property
    def applied(self) -> Path:
        """The SHA-256 of the configuration that was applied last."""
        return self.folder / "applied"

    @property
    def proving(self) -> Path:
        """Until when something new of it is on trial, in seconds since 1970."""
        return self.folder / "proving"

    @property
    def turns(self) -> Path:
        """Messages that were handed to agents, a folder each, and what was told them otherwise: ``feed.json``."""
        return self.home.root / "var" / "openclaw"

    @property
    def snapshots(self) -> Path:
        """Copies of its state, made by itself and verified: ``openclaw-TIME.tar.gz``."""
        return self.home.root / "var" / "snapshots"

    @property
    def command(self) -> list[str]:
        """How any of its programs is called; arguments follow."""
        release = Path(self.settings.release)
        return [str(release / "node/bin/node"), str(release / "node_modules/openclaw/openclaw.mjs")]

    @property
    def url(self) -> str:
        """Where the gateway listens."""
        return f"http://127.0.0.1:{self.settings.port}"

    def environment(self) -> dict[str, str]:
        """All variables that any program of OpenClaw gets. None is a secret: agents see them."""
        release = Path(self.settings.release)
        scratch = self.home.root / "var" / "tmp"
        # Where a Mac has what its owner installed; /usr/local is there on every system.
        tools = "/opt/homebrew/bin:" if platform.system() == "Darwin" else ""
        system = f"{tools}/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
        return {
            "HOME": str(self.home.agents),
            "PATH": f"{release}/node/bin:{self.home.root}/bin:{system}",
            "LANG": "C.UTF-8",
            "TMPDIR": str(scratch),
            "NO_COLOR": "1",
            "NODE_ENV": "production",
            "OPENCLAW_STATE_DIR": str(self.state),
            "OPENCLAW_CONFIG_PATH": str(self.config),
            "OPENCLAW_CONFIG_READONLY": "1",
            "OPENCLAW_SUPERVISOR_MODE": "external",
            "OPENCLAW_SERVICE_REPAIR_POLICY": "external",
            "OPENCLAW_NO_RESPAWN": "1",
            "OPENCLAW_NO_AUTO_UPDATE": "1",
            "OPENCLAW_DISABLE_BONJOUR": "1",
        }


def place_of(home: Home, config: Config) -> Place:
    """The OpenClaw of the node that has this configuration. Raises ConfigError where it has none."""
    if config.openclaw is None:
        mend = "set openclaw_enabled: true in the inventory, then: ansible-playbook site.yml"
        raise ConfigError("openclaw", "this node has none", mend)
    return Place(home, config.openclaw)
