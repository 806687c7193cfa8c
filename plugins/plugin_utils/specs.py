"""What may be set: the variables that the roles' argument specs name, and whether a host's values fit.

Keeps: the argument specs are the only list of variables; all that is wrong is found, not just the first. Leaves to
others: what depends on the machine or on other hosts.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.parsing.convert_bool import boolean

__all__ = ["PREFIX", "asked", "check", "dashboard_port", "defaults", "finding", "no_text", "options", "parted"]

PREFIX = ("outlast_", "openclaw_")
ROLES = Path(__file__).resolve().parents[2] / "roles"
# Set in shipped inventories to compute other variables from; and by preflight, which a run may execute twice (restore.yml).
HELPERS = frozenset({"outlast_port_base", "outlast_away", "outlast_had_openclaw"})
# So far above the node's port is its dashboard's, where nothing else is said (outlast.core.onlooker).
ABOVE = 100
# What a type is called by those who write inventories.
CALLED = {"int": "a whole number", "bool": "yes or no", "str": "text", "list": "a list", "dict": "a mapping"}


def finding(field: str, wrong: str, mend: str) -> dict[str, str]:
    """One thing that is wrong, and what to do about it."""
    return {"field": field, "wrong": wrong, "mend": mend}


def no_text(path: str, key: Any) -> dict[str, str]:
    """A key of a mapping that YAML takes for a number, a date, or yes and no."""
    return finding(path, f"its key {key!r} is no text", f'write it in quotes: "{key}"')


def parted(line: str) -> dict[str, str]:
    """The finding in a line that reads `field: what is wrong; mend: what to do`."""
    field, _, rest = line.partition(": ")
    wrong, _, mend = rest.partition("; mend: ")
    return finding(field, wrong, mend)


def dashboard_port(port: int, said: Any) -> int:
    """The port of a node's dashboard, from the node's own and outlast_dashboard; 0 where it has none, or what is no port."""
    page = said if isinstance(said, Mapping) else {}
    if not boolean(page.get("enabled", True), strict=False):
        return 0
    other = str(page.get("port") or port + ABOVE)
    return int(other) if other.isdigit() and int(other) < 65536 else 0


@functools.cache
def options() -> dict[str, dict[str, Any]]:
    """Every public variable of every role, name to its specification."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(ROLES.glob("*/meta/argument_specs.yml")):
        for entry in yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"].values():
            found.update((name, spec) for name, spec in entry["options"].items() if name.startswith(PREFIX))
    return found


@functools.cache
def defaults() -> dict[str, Any]:
    """Every variable's default, name to value; it may be a template."""
    found: dict[str, Any] = {}
    for path in sorted(ROLES.glob("*/defaults/main.yml")):
        found.update(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    return {name: value for name, value in found.items() if name.startswith(PREFIX)}


def check(names: list[str], values: Mapping[str, Any]) -> list[dict[str, str]]:
    """Hold the variables that a host sets (names) and their values against the specification."""
    return [*_unknown(names), *_unfit(values)]


def asked(extra: Mapping[str, Any], known: Mapping[str, Any]) -> list[dict[str, str]]:
    """Hold what was given with -e against what a playbook knows: each name's choices, `bool` or `any`.

    Of the choices under `several` one or more may be given, with commas between them.
    """
    found = []
    for name, value in extra.items():
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            found += [finding(name, "is not known here", f"did you mean {close[0]}?")] if close else []
        elif known[name] == "bool":
            try:
                boolean(value)
            except TypeError:
                found.append(finding(name, f"{value!r} is neither yes nor no", f"write {name}=yes or {name}=no"))
        elif isinstance(known[name], list):
            found += _chosen(name, [value], known[name])
        elif isinstance(known[name], dict):
            found += _chosen(name, str(value).replace(" ", "").split(","), known[name]["several"])
    return [*found, *_unknown([name for name in extra if name.startswith(PREFIX)])]


def _chosen(name: str, given: list[Any], choices: list[str]) -> list[dict[str, str]]:
    found = []
    for value in given:
        if str(value) not in choices:
            close = difflib.get_close_matches(str(value), choices, n=1) or [
                one for one in choices if one.lower() == str(value).lower()
            ]
            mend = f"did you mean {close[0]}?" if close else f"write {name}={choices[0]}"
            found.append(finding(name, f"{value!r} is none of {', '.join(choices)}", mend))
    return found


def _unknown(names: list[str]) -> list[dict[str, str]]:
    known = [*options(), *HELPERS]
    found = []
    for name in sorted(set(names) - set(known)):
        close = difflib.get_close_matches(name, known, n=1)
        mend = f"did you mean {close[0]}?" if close else "remove it; the roles' README files list what may be set"
        found.append(finding(name, "unknown variable", mend))
    return found


def _unfit(values: Mapping[str, Any]) -> list[dict[str, str]]:
    found = []
    for name, spec in options().items():
        if name not in values:
            if spec.get("required"):
                found.append(finding(name, "is not set", f"set it in the inventory: {' '.join(_words(spec))}"))
            continue
        if spec["type"] == "dict" and not isinstance(values[name], Mapping):
            # What the validator would take for one stays a text to all who use it, and it may hold secrets.
            mend = f"write a mapping: {' '.join(_words(spec))}"
            found.append(finding(name, "is no mapping", mend))
            continue
        if (
            spec["type"] == "dict"
            and "options" in spec
            and (odd := [k for k in values[name] if not isinstance(k, str)])
        ):
            found += [no_text(name, key) for key in odd]
            continue
        # One at a time: the validator's messages do not say which variable they are about.
        result = ArgumentSpecValidator({name: spec}).validate({name: values[name]})
        for message in _each(name, result.error_messages):
            close = _meant(name, spec, message, values[name])
            kind = f"write {CALLED.get(spec['type'], spec['type'])}: {' '.join(_words(spec))}"
            mend = f"did you mean {close[0]}?" if close else kind
            found.append(finding(name, _plainly(name, message, values[name]), mend))
    return found


def _each(name: str, messages: list[str]) -> list[str]:
    """The validator's messages, one for each key that a mapping does not know."""
    found = []
    for message in messages:
        keys, middle, known = message.partition(". Supported parameters include: ")
        found += [f"{key}{middle}{known}" for key in keys.split(", ")] if middle else [message]
    return found


def _meant(name: str, spec: Mapping[str, Any], message: str, value: Any) -> list[str]:
    """What is close to what was written: a key that a mapping has, or one of the choices."""
    if unknown := _unknown_key(name, message):
        return difflib.get_close_matches(unknown[1].rpartition(".")[2], unknown[2].split(", "), n=1)
    return difflib.get_close_matches(str(value), spec.get("choices", ()), n=1)


def _unknown_key(name: str, message: str) -> re.Match[str] | None:
    return re.fullmatch(rf"{name}\.(\S+)\. Supported parameters include: (.+)\.", message)


def _plainly(name: str, message: str, value: Any) -> str:
    """What the validator says, for somebody who knows the inventory and not the validator."""
    if message.startswith(f"argument '{name}' is of type ") and isinstance(value, str):
        return f"{value!r} does not fit"
    if unknown := _unknown_key(name, message):
        return f"it knows no {unknown[1]}, only {unknown[2]}"
    if refused := re.fullmatch(
        rf"value of {name} must be one (?:or more )?of: (.+)(?:, got|[.] Got no match for): (.+)", message
    ):
        return f"{refused[2]} is none of {refused[1]}"
    return message.rstrip(".")


def _words(spec: Mapping[str, Any]) -> list[str]:
    described = spec["description"]
    return [described] if isinstance(described, str) else list(described)[:1]
