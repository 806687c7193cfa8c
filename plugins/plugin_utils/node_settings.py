"""What a node would refuse of its settings, asked of the runtime's own check on this machine, before any node is changed.

Keeps: the rules are the runtime's (outlast.config), and none is written twice; nothing of this machine decides, neither its
time zones nor its paths; several mistakes are found in one run; nothing of an alert's URL is repeated. Where the runtime's
libraries are missing here the settings are left to the node, which looks at them before it takes them.

Leaves to others: names and types of variables (specs), what needs the node (its time zones).
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

from ansible_collections.outlast.agents.plugins.plugin_utils import specs

__all__ = ["alert_urls", "check"]

SOURCE = Path(__file__).resolve().parents[2] / "runtime" / "src"
# What belongs to other checks, or is made of several variables.
_OTHERS = {"node", "listen", "peers"}
_BY_NAME = {"services", "jobs", "probes", "external", "openclaw"}
# The variables that are sections of node.yml; what becomes one of OpenClaw's variables is brought here (openclaw_values).
PREFIX = "outlast_"
_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
_URL = re.compile(r"[A-Za-z0-9][A-Za-z0-9+.-]*://\S.*")


def check(host: str, values: Mapping[str, Any], peers: Sequence[str], skip: AbstractSet[str]) -> list[dict[str, str]]:
    """What is wrong in the sections of a node's settings. ``skip``: variables that have a finding already."""
    sections = {
        name.removeprefix(PREFIX): value
        for name, value in values.items()
        if name.startswith(PREFIX) and name not in skip and value and isinstance(value, Mapping)
    }
    # Most inventories set little, and the import takes a tenth of a second for each node.
    if not sections or (runtime := _runtime()) is None:
        return []
    parse, known, refused = runtime
    sections = {name: value for name, value in sections.items() if name in known - _OTHERS}
    try:
        raw: dict[str, Any] = json.loads(json.dumps(sections, default=str))
    except (TypeError, ValueError):
        return []
    port = str(values.get("outlast_port", ""))
    _leave_zones(raw.get("jobs"))
    raw |= {
        "node": host if _NAME.fullmatch(host) else "node",
        "listen": {"host": "127.0.0.1", "port": int(port) if port.isdigit() and 0 < int(port) < 65536 else 1024},
        "peers": {name: {"url": "http://127.0.0.1:1024"} for name in peers if _NAME.fullmatch(name) and name != host},
        "agent": {"command": ["/agent"], **raw.get("agent", {})},
    }
    return list(_mistakes(parse, raw, refused))


def _mistakes(parse: Any, raw: dict[str, Any], refused: type[Exception]) -> Iterator[dict[str, str]]:
    """One after the other: what is wrong is taken out, so that what else is wrong shows."""
    while True:
        try:
            parse(raw)
        except refused as error:
            field = str(getattr(error, "field", ""))
            section, name = (*field.split("."), "", "")[:2]
            if section not in raw or section in _OTHERS:
                return
            yield specs.finding(PREFIX + field, str(getattr(error, "wrong", "")), str(getattr(error, "mend", "")))
            # How long a stop may take is compared with all services.
            if section == "stop":
                return
            if section in _BY_NAME and isinstance(raw[section], dict) and name in raw[section]:
                del raw[section][name]
            elif section == "agent" and raw["agent"] != {"command": ["/agent"]}:
                raw["agent"] = {"command": ["/agent"]}
            else:
                del raw[section]
        except ImportError:
            # A library that only some sections need.
            return
        else:
            return


def _leave_zones(jobs: Any) -> None:
    """Which time zones there are is the node's to say."""
    for job in jobs.values() if isinstance(jobs, dict) else ():
        if isinstance(job, dict) and isinstance(job.get("zone"), str) and job["zone"]:
            job["zone"] = "UTC"


def _runtime() -> tuple[Any, AbstractSet[str], type[Exception]] | None:
    """The runtime's check, its sections and its error, of the source that goes to the nodes; None where it cannot be had."""
    if "outlast" not in sys.modules:
        sys.path.insert(0, str(SOURCE))
    try:
        from outlast.config import parse
        from outlast.errors import ConfigError
        from outlast.settings import Config
    except ImportError:
        return None
    return parse, set(Config.__struct_fields__), ConfigError


def alert_urls(said: Any) -> list[dict[str, str]]:
    """Findings about outlast_alert_urls, each by its place: what stands there is a secret."""
    found = []
    entries = said if isinstance(said, list) else str(said or "").splitlines()
    for place, entry in enumerate(entries, 1):
        lines = entry.splitlines() if isinstance(entry, str) else []
        if not lines or not all(_URL.fullmatch(line.strip()) for line in lines):
            wrong = f"entry {place} does not begin like a URL (NAME://)" if lines else f"entry {place} is no text"
            mend = "write it as apprise takes it, in quotes, such as 'ntfys://HOST/TOPIC' or 'mailtos://USER:PASSWORD@HOST'"
            found.append(specs.finding("outlast_alert_urls", wrong, mend))
    return found
