"""Where everything of a node lies: one folder, the same on every machine.

Rules kept here: no other module spells a path below the home. Left to others: making the folders (Ansible, the daemon).
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from outlast.errors import BadInput

__all__ = ["Home", "find_home"]


@dataclass(frozen=True, slots=True)
class Home:
    """The home of one node."""

    root: Path

    @property
    def node(self) -> str:
        """The node's name, also where the rest of its configuration is wrong; where it cannot be read, the folder's."""
        try:
            named = re.search(r"^node: *([a-z0-9-]+)", self.config.read_text(encoding="utf-8"), re.MULTILINE)
        except (OSError, UnicodeDecodeError):
            named = None
        return named[1] if named else self.root.name

    @property
    def config(self) -> Path:
        """The node's configuration."""
        return self.root / "etc" / "node.yml"

    @property
    def keys(self) -> Path:
        """One ``NAME.key`` an agent."""
        return self.root / "etc" / "keys"

    @property
    def tls(self) -> Path:
        """The node's certificates with their keys, and a ``PEER.pin`` for each peer that listens over TLS."""
        return self.keys / "tls"

    @property
    def ssh_key(self) -> Path:
        """The node's own SSH key, for files."""
        return self.root / "etc" / "ssh" / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        """The host keys of the peers' machines, by the peers' names."""
        return self.root / ".ssh" / "known_hosts"

    @property
    def workspace(self) -> Path:
        """What agents see."""
        return self.root / "workspace"

    @property
    def memory(self) -> Path:
        """The daily files: the journal."""
        return self.workspace / "memory"

    @property
    def archive(self) -> Path:
        """Daily files as they were before their records were summed up in MEMORY.md."""
        return self.memory / "archive"

    @property
    def memory_file(self) -> Path:
        """Compacted knowledge, shared with people and agents."""
        return self.workspace / "MEMORY.md"

    @property
    def shared(self) -> Path:
        """What the nodes know together: one ``AGENT.jsonl`` an agent."""
        return self.workspace / "shared"

    @property
    def queue_file(self) -> Path:
        """Work that depends on other work."""
        return self.workspace / "QUEUE.md"

    @property
    def state_file(self) -> Path:
        """The projection of the journal."""
        return self.workspace / "STATE.json"

    @property
    def heartbeat(self) -> Path:
        """Shared with people and with OpenClaw."""
        return self.workspace / "HEARTBEAT.md"

    @property
    def artifacts(self) -> Path:
        """Results of work, a folder a unit."""
        return self.workspace / "artifacts"

    @property
    def logs(self) -> Path:
        """Events, a file a day."""
        return self.workspace / "logs"

    @property
    def audits(self) -> Path:
        """Reports on what was accepted of a sender: ``DAY-AGENT-N.md``."""
        return self.workspace / "audits"

    @property
    def ledger(self) -> Path:
        """Transport bookkeeping (SQLite)."""
        return self.root / "var" / "outlast.db"

    @property
    def tasks(self) -> Path:
        """Tasks that are not closed, a folder a unit."""
        return self.root / "var" / "tasks"

    @property
    def steps(self) -> Path:
        """What steps that are not committed have staged, a folder a unit."""
        return self.root / "var" / "steps"

    @property
    def handoffs(self) -> Path:
        """Hand-offs that are not confirmed, where their INTENT is too short for their text: ``UNIT.json``."""
        return self.root / "var" / "handoffs"

    @property
    def owner(self) -> Path:
        """The name of the node that lives here."""
        return self.root / "var" / "node"

    @property
    def agents(self) -> Path:
        """The home directory of agents on a provisioned machine, for their settings and caches."""
        return self.root / "var" / "home"

    @property
    def ended(self) -> Path:
        """What is left of closed tasks: output, and the files of those that failed."""
        return self.root / "var" / "ended"

    @property
    def fetching(self) -> Path:
        """What is being fetched from a peer, until it is whole."""
        return self.root / "var" / "fetch"

    @property
    def traces(self) -> Path:
        """Spans, a file a day."""
        return self.workspace / "traces"

    @property
    def load_status(self) -> Path:
        """How the node is, for programs."""
        return self.workspace / "LOAD_STATUS.json"

    @property
    def progress(self) -> Path:
        """What agents write of how far they are."""
        return self.workspace / "PROGRESS.md"

    @property
    def skills(self) -> Path:
        """The last status of each skill: ``NAME.json``."""
        return self.workspace / "skills"

    @property
    def outputs(self) -> Path:
        """What services and jobs print: ``NAME.log``, and older parts of it."""
        return self.root / "var" / "outputs"

    @property
    def jobs(self) -> Path:
        """When each job last ran, and how."""
        return self.root / "var" / "jobs.json"

    @property
    def subagents(self) -> Path:
        """Sub-agents that are not closed, a folder each."""
        return self.root / "var" / "subagents"

    @property
    def agents_socket(self) -> Path:
        """Where the running node takes what sub-agents may ask for; nothing is done here without a token."""
        return self.root / "run" / "agents.sock"

    @property
    def capability_key(self) -> Path:
        """What the tokens of sub-agents come from. A secret."""
        return self.keys / "capability"

    @property
    def features(self) -> Path:
        """What was switched off because it failed again and again, until a person turns it on."""
        return self.root / "var" / "features.json"

    @property
    def unsent_alerts(self) -> Path:
        """Alerts that are to be sent, or are sent and hold."""
        return self.root / "var" / "alerts.json"

    @property
    def drills(self) -> Path:
        """When the last drills ran here."""
        return self.root / "var" / "drills.json"

    @property
    def alert_urls(self) -> Path:
        """Where alerts are sent to: an apprise URL a line. A secret."""
        return self.keys / "alerts"

    @property
    def dashboard_token(self) -> Path:
        """What who looks at the dashboard from beyond loopback must know."""
        return self.keys / "dashboard"

    @property
    def backups(self) -> Path:
        """Backups of this node: ``outlast-NODE-TIME.tar.gz``."""
        return self.root / "var" / "backups"

    @property
    def restoring(self) -> Path:
        """What of a backup is still to be put in its place; there only while that is done, or was cut off."""
        return self.root / "var" / "restoring.json"

    @property
    def trash(self) -> Path:
        """What was set aside."""
        return self.root / "var" / "trash"

    @property
    def old_logs(self) -> Path:
        """Logs whose time was over."""
        return self.trash / "logs"

    @property
    def days(self) -> Path:
        """What the daily files looked like when they were last read: a cache, harmless to lose."""
        return self.root / "var" / "days.json"

    @property
    def emergency(self) -> Path:
        """Why the node must start in emergency mode; there only where the journal could not be told."""
        return self.root / "var" / "emergency"

    @property
    def ballast(self) -> Path:
        """Room that is given up when the disk is full, so that making room needs none."""
        return self.root / "var" / "ballast"

    @property
    def probe(self) -> Path:
        """Written and removed again to see whether a write works."""
        return self.root / "var" / "probe"

    @property
    def socket(self) -> Path:
        """Where the running node takes orders."""
        return self.root / "run" / "control.sock"

    @property
    def loaded(self) -> Path:
        """What the runtime read at its start, for whoever must know whether that is still what lies on the disk."""
        return self.root / "run" / "loaded"

    def refused(self, peer: str) -> Path:
        """How often a peer asked for what it may not have over SSH, since that was last an event."""
        return self.root / "run" / f"refused-{peer}"

    @property
    def lock(self) -> Path:
        """Held by the one runtime that may touch this home."""
        return self.root / "run" / "daemon.lock"


def _is_home(path: Path) -> bool:
    # A folder that others closed, such as somebody's home that sudo was called in, holds no node for us.
    return os.path.isfile(path / "etc" / "node.yml")


def find_home(home: str | None, node: str | None) -> Home:
    """Find the home that is meant: by path, by OUTLAST_HOME, by a node's name, or that of this very installation.

    A node's name is looked up in ``.outlast/NAME`` of this folder and the ones above it, then beside the running virtual
    environment; that of this very installation is known as well. Raises BadInput.
    """
    if home is not None:
        if not _is_home(Path(home)):
            raise BadInput("--home", f"no node lives in {home}", "name the folder that holds etc/node.yml")
        return Home(Path(home).resolve())
    installed = Path(sys.prefix).resolve()
    # A node's own environment is HOME/releases/DIGEST.
    mine = Home(installed.parent.parent)
    is_mine = installed.parent.name == "releases" and _is_home(mine.root)
    places = [*(folder / ".outlast" for folder in (Path.cwd(), *Path.cwd().parents)), installed.parent / ".outlast"]
    if node is not None:
        for place in places:
            if _is_home(place / node):
                return Home((place / node).resolve())
        if is_mine and mine.node == node:
            return mine
        known = sorted(
            {child.name for place in places for child in place.glob("*") if _is_home(child)}
            | ({mine.node} if is_mine else set())
        )
        mend = f"one of: {', '.join(known)}" if known else "run `make up` first, or give --home"
        raise BadInput("--node", f"no node {node} here", mend)
    if named := os.environ.get("OUTLAST_HOME"):
        if not _is_home(Path(named)):
            raise BadInput("OUTLAST_HOME", f"no node lives in {named}", "name the folder that holds etc/node.yml")
        return Home(Path(named).resolve())
    if is_mine:
        return mine
    raise BadInput("--node", "which node is meant is not clear", "say --node NAME, --home PATH, or set OUTLAST_HOME")
