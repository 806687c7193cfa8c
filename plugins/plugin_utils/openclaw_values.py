"""What is wrong with what an inventory says of OpenClaw, and what its secrets are, all of it before anything changes.

Keeps: everything that is wrong is found, not just the first; a secret is in no finding; a command is run once, whoever names
it, on this machine, by itself (no shell). Leaves to others: types (the argument specs), templating one value (the caller).
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.outlast.agents.plugins.plugin_utils import (
    node_settings,
    openclaw_render,
    openclaw_shapes,
    specs,
)

__all__ = ["check", "resolve"]

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
AGENT = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
JOB = re.compile(r"[a-z][a-z0-9-]{0,31}")
VERSION = re.compile(r"[0-9][0-9A-Za-z.+-]{0,63}")
MODEL = re.compile(r"[^/\s]+/\S+")
PATIENCE_S = 60
_SECRETS = frozenset({"apiKey", "appToken", "botToken", "clientSecret", "password", "signingSecret", "token"})
# What is wrong with such a text is told already, or by OpenClaw.
_REFERS = re.compile(r"secret:|.*(?<![\w-])secret:[A-Za-z]|\$\{", re.DOTALL)
WAYS = ("value", "env", "command")
Finding = dict[str, str]
# What came of a command: its output, or why there is none. What it complained is not for anybody else: it may hold a secret.
Said = tuple[str, str]


def check(
    values: Mapping[str, Any], node: str, inventory: str, jobs: Mapping[str, Any], home: str = ""
) -> list[Finding]:
    """All that is wrong with a host's variables openclaw_* beyond their types, its secrets' values left aside.

    home: the node's, where it is known.
    """
    # What is made of the wrong things means nothing yet.
    if found := list(openclaw_shapes.check(values)):
        return found
    version, agents = str(values.get("openclaw_version", "")), values.get("openclaw_agents") or {node: {}}
    if not VERSION.fullmatch(version):
        found.append(
            specs.finding("openclaw_version", f"{version!r} is no version", "write it whole, such as 2026.9.6")
        )
    if not 1024 <= int(values.get("openclaw_port") or 18789) < 65536:
        wrong = f"{values['openclaw_port']} is no port for it"
        found.append(specs.finding("openclaw_port", wrong, "choose one from 1024 to 65535"))
    if (folder := values.get("openclaw_dir")) and not folder.startswith("/"):
        wrong = f"{folder!r} is not an absolute path"
        found.append(specs.finding("openclaw_dir", wrong, "begin it with /, or leave it out"))
    found += _agents(agents, inventory) + _workspaces(values, node, os.path.normpath(home) if home else "")
    if values.get("openclaw_agent") and values["openclaw_agent"] not in agents:
        wrong = f"there is no agent {values['openclaw_agent']}"
        found.append(specs.finding("openclaw_agent", wrong, f"name one of openclaw_agents: {', '.join(agents)}"))
    found += _model("openclaw_model", values.get("openclaw_model"))
    schedule = values.get("openclaw_schedule") or {}
    found += _schedule(schedule, agents, jobs) + _settings(schedule, values.get("openclaw_watch") or {}, node)
    found += _reserved(values.get("openclaw_config") or {})
    return found + _references(values)


def _agents(agents: Mapping[str, Any], inventory: str) -> list[Finding]:
    found = []
    for name, agent in agents.items():
        field = f"openclaw_agents.{name}"
        if not AGENT.fullmatch(name):
            mend = "use lower-case letters, digits, dashes and underscores"
            found.append(specs.finding("openclaw_agents", f"{name!r} is no id for an agent", mend))
        for key in sorted(set(agent or {}) - {"name", "files", "model", "workspace", "config"}):
            mend = "it knows name, files, model, workspace and config, for what else OpenClaw knows of an agent"
            found.append(specs.finding(field, f"it knows no {key}", mend))
        config, reserved = (agent or {}).get("config") or {}, openclaw_render.AGENTS_OWN
        found += [
            specs.finding(field, f"config: {key}: is not said here", reserved[key]) for key in config if key in reserved
        ]
        files = (agent or {}).get("files")
        if files and not os.path.isdir(os.path.join(inventory, files)):
            wrong = f"files: there is no folder {files} in the inventory"
            found.append(
                specs.finding(field, wrong, f"make it, with AGENTS.md, SOUL.md and so on: {inventory}/{files}")
            )
        found += _model(field, (agent or {}).get("model"))
    return found


def _workspaces(values: Mapping[str, Any], node: str, home: str) -> list[Finding]:
    """Two agents in one folder would rewrite each other's files for ever; outside of the home nobody lets them write."""
    found: list[Finding] = []
    whose: dict[str, str] = {}
    for name, said in openclaw_render.workspaces(values, node, home or "/home").items():
        field, place = f"openclaw_agents.{name}", os.path.normpath(said)
        other = whose.setdefault(place, name)
        if not said.startswith("/"):
            wrong, mend = f"workspace: {said!r} is not an absolute path", "write it whole, below outlast_home"
        elif other != name:
            wrong, mend = f"workspace: {said} is where {other} works", "give it one of its own, or leave it out"
        elif home and not place.startswith(f"{home}/"):
            wrong, mend = f"workspace: {said} is not below {home}", "choose one there, or leave it out"
        else:
            continue
        found.append(specs.finding(field, wrong, mend))
    return found


def _model(field: str, model: Any) -> list[Finding]:
    return [
        specs.finding(field, f"{name!r} is no model", "write PROVIDER/MODEL, as `openclaw models list` shows it")
        for name in ([model["primary"], *(model.get("fallbacks") or [])] if model else [])
        if not MODEL.fullmatch(name)
    ]


def _schedule(schedule: Mapping[str, Any], agents: Mapping[str, Any], jobs: Mapping[str, Any]) -> list[Finding]:
    found = []
    for name, entry in schedule.items():
        field = f"openclaw_schedule.{name}"
        if not JOB.fullmatch(name):
            found.append(specs.finding(field, "is no name for a job", "use lower-case letters, digits and dashes"))
        missing = [key for key in ("cron", "message") if not (entry.get(key) or "").strip()]
        found += [specs.finding(field, f"it has no {key}", "write {cron: …, message: …}") for key in missing]
        strange = sorted(set(entry) - {"cron", "zone", "message", "agent"})
        mend = "it knows cron, zone, message and agent"
        found += [specs.finding(field, f"it knows no {key}", mend) for key in strange]
        if entry.get("agent") and entry["agent"] not in agents:
            wrong = f"there is no agent {entry['agent']}"
            found.append(specs.finding(field, wrong, f"name one of openclaw_agents: {', '.join(agents)}"))
        if name in jobs:
            found.append(specs.finding(field, "outlast_jobs has a job of that name", "call one of them otherwise"))
    return found


def _settings(schedule: Mapping[str, Any], watch: Mapping[str, Any], node: str) -> list[Finding]:
    """What the node would refuse of what it keeps itself, as it is asked about variables outlast_*."""
    jobs = {
        name: {"schedule": entry["cron"], "zone": entry.get("zone") or "", "command": ["/tell"]}
        for name, entry in schedule.items()
        if JOB.fullmatch(name) and (entry.get("cron") or "").strip()
    }
    told = {"outlast_jobs": jobs, "outlast_openclaw": {"release": "/openclaw", **watch} if watch else {}}
    found: list[Finding] = node_settings.check(node, told, [], frozenset())
    for one in found:
        field = one["field"].replace("outlast_jobs.", "openclaw_schedule.", 1)
        one["field"] = field.replace("outlast_openclaw.", "openclaw_watch.", 1).removesuffix(".schedule")
    return found


def _reserved(config: Mapping[str, Any]) -> list[Finding]:
    """What openclaw_config says and is not its to say, also by saying that a whole part of it is nothing."""
    found = {}
    for path, mend in openclaw_render.RESERVED.items():
        inner, at = config, ""
        for name in path.split("."):
            if name not in inner:
                break
            inner, at = inner[name], f"{at}.{name}".lstrip(".")
            if at == path:
                found[at] = specs.finding("openclaw_config", f"{at}: is not said here", mend)
            elif not isinstance(inner, Mapping):
                found[at] = specs.finding("openclaw_config", f"{at}: is no mapping", "leave it out, or write one")
                break
    return [*found.values()]


def _references(values: Mapping[str, Any]) -> list[Finding]:
    """Placeholders that no secret stands behind, and those that would not be seen as such."""
    found, known = [], values.get("openclaw_secrets") or {}
    have = f"it has {', '.join(sorted(known))}" if known else "it has none"
    for name in ("openclaw_providers", "openclaw_channels", "openclaw_config", "openclaw_agents"):
        for secret, path in openclaw_render.placeholders(values.get(name) or {}, name):
            if secret is None:
                wrong = "a text with secret:NAME in it is taken as it stands"
                mend = "make the text secret:NAME and nothing else, and the rest of it a part of the secret"
            elif not NAME.fullmatch(secret):
                wrong, mend = "what follows secret: is no name of a secret", f"name one of openclaw_secrets ({have})"
            elif secret not in known:
                wrong = f"secret:{secret} is not in openclaw_secrets"
                mend = f"add {secret} to openclaw_secrets ({have})"
            else:
                continue
            found.append(specs.finding(path, wrong, mend))
        for path in _plain(values.get(name) or {}, name):
            mend = "write secret:NAME there, and its value below openclaw_secrets"
            found.append(specs.finding(path, "is a secret that would be in the configuration as it stands", mend))
    return found


def _plain(value: Any, path: str) -> Iterator[str]:
    """Where something that is called like a secret stands as it is: OpenClaw's configuration is for everybody's eyes."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            is_plain = isinstance(inner, str) and inner and not _REFERS.match(inner)
            if key in _SECRETS and is_plain:
                yield f"{path}.{key}"
            yield from _plain(inner, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _plain(inner, f"{path}[{number}]")


def resolve(
    secrets: Mapping[str, Any], template: Callable[[Any], Any], said: dict[tuple[str, ...], Said]
) -> tuple[dict[str, str], list[Finding]]:
    """Every secret's value, and a finding for each that has none. said: what came of commands so far.

    secrets: as written, not yet templated; template raises ValueError with the reason where a value cannot be worked out.
    """
    values, found = {}, []
    for name, raw in secrets.items():
        field = f"openclaw_secrets.{name}"
        try:
            values[str(name)] = _one(str(name), template(raw), said)
        except ValueError as error:
            wrong, _, mend = str(error).partition("; mend: ")
            found.append(specs.finding(field, wrong, mend or "set what it refers to, in Ansible Vault for instance"))
    return values, found


def _one(name: str, spec: Any, said: dict[tuple[str, ...], Said]) -> str:
    """The value of one secret; raises ValueError."""
    how = "; mend: write one of {value: …}, {env: NAME}, {command: [program, argument]}"
    if not NAME.fullmatch(name):
        raise ValueError("is no name for a secret; mend: use letters, digits and underscores, a letter first")
    if not isinstance(spec, Mapping) or len(spec) != 1 or next(iter(spec)) not in WAYS:
        raise ValueError(f"it says neither value, env nor command, or more than one{how}")
    way, given = next(iter(spec.items()))
    if way == "value":
        if not isinstance(given, (str, int, float)) or isinstance(given, bool) or not str(given).strip():
            raise ValueError(
                "its value is empty, or no text; mend: set what it refers to, in Ansible Vault for instance"
            )
        return str(given)
    if way == "env":
        if not isinstance(given, str) or not VARIABLE.fullmatch(given):
            mend = "write {env: NAME}, and what is no name but the secret itself as {value: …}"
            raise ValueError(f"its env is no name of a variable; mend: {mend}")
        value = os.environ.get(given, "")
        if not value.strip():
            raise ValueError(
                f"{given} is not set in the environment of this command; mend: read -rs {given} && export {given}"
            )
        return value
    if not isinstance(given, (list, tuple)) or not given:
        raise ValueError(f"its command is no list{how}")
    return _output(name, [str(word) for word in given], said)


def _output(name: str, command: Sequence[str], said: dict[tuple[str, ...], Said]) -> str:
    key = tuple(command)
    if key not in said:
        said[key] = _run(command)
    output, why = said[key]
    # One line end is the program's, as in a shell's $(…).
    value = output[:-1] if output.endswith("\n") else output
    if why or not value.strip():
        mend = f"run the command of openclaw_secrets.{name} in a terminal here, to see why (are you signed in?)"
        raise ValueError(f"its command {why or 'printed nothing'}; mend: {mend}")
    return value


def _run(command: Sequence[str]) -> Said:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=PATIENCE_S
        )
    except subprocess.TimeoutExpired:
        return "", f"has not ended in {PATIENCE_S} s"
    except UnicodeDecodeError:
        return "", "printed what is no text"
    except (OSError, ValueError) as error:
        return "", f"could not be run: {getattr(error, 'strerror', None) or 'it is no command'}"
    return done.stdout, f"ended with {done.returncode}" if done.returncode else ""
