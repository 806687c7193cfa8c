"""node.yml: read, validated, and refused in words that a person can act on.

Rules kept here: an unknown field, a wrong unit, a missing key or an impossible value is one ConfigError that names the
field, what is wrong, and the mend; nothing is guessed.

Left to others: the fields and their defaults (settings), whether the ports are free and the peers exist (Ansible's preflight).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec
import yaml

from outlast.core.alerting import check as check_alerts
from outlast.core.external import check as check_external
from outlast.core.onlooker import check as check_dashboard
from outlast.core.subagents import check as check_subagents
from outlast.errors import ConfigError
from outlast.quantity import duration, size
from outlast.settings import Config
from outlast.worded import as_words
from outlast.work.declared import check as check_probes
from outlast.work.roster import check as check_services

__all__ = ["load_config", "parse"]


# The longest task, every character of it escaped, or a result with as many files as an artifact may have.
_LARGEST_MESSAGE = 128 << 10
_LEAST_BUDGET = 1 << 20


def load_config(path: Path) -> Config:
    """Read and validate a node.yml. Raises ConfigError."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(str(path), "there is no such file", "run ansible-playbook site.yml") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), f"it cannot be read ({error})", "make it a readable UTF-8 text file") from error
    try:
        raw = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "somewhere"
        raise ConfigError(f"{path.name} {where}", f"not YAML: {error.problem}", "mend that line") from error
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(path.name, f"not YAML: {' '.join(str(error).split())}", "mend the file") from error
    if not isinstance(raw, dict):
        raise ConfigError(path.name, "it is not a mapping of fields", "begin with `node: NAME`")
    return parse(raw)


def parse(raw: dict[str, Any]) -> Config:
    """Validate what a node.yml holds; nothing of this machine is looked at but its time zones. Raises ConfigError."""
    raw = as_words(raw)
    try:
        config = msgspec.convert(raw, Config)
    except msgspec.ValidationError as error:
        raise _explain(*_blame(Config, raw, "")) from error
    _check_units(config)
    _check_sense(config)
    return config


def _check_units(config: Config) -> None:
    for section in config.__struct_fields__:
        _check_units_of(section, getattr(config, section))


def _check_units_of(path: str, value: Any) -> None:
    """Every duration and size of a section, and of what is in it by name."""
    if isinstance(value, dict):
        for name, one in value.items():
            _check_units_of(f"{path}.{name}", one)
    if not isinstance(value, msgspec.Struct):
        return
    for field in msgspec.structs.fields(type(value)):
        held = getattr(value, field.name)
        parse = _UNITS.get(_unit(field.type))
        if parse is None:
            _check_units_of(f"{path}.{field.name}", held)
        elif held is not None:
            try:
                parse(held)
            except ValueError as error:
                raise ConfigError(f"{path}.{field.name}", *str(error).split("; ", 1)) from error


_UNITS: dict[str, Callable[[str], float]] = {"duration": duration, "size": size}


def _unit(kind: Any) -> str:
    """What a field's type says of its unit; empty where it has none."""
    for one in (kind, *get_args(kind)):
        for meta in getattr(one, "__metadata__", ()):
            if isinstance(meta, msgspec.Meta) and meta.extra:
                return str(meta.extra.get("unit", ""))
    return ""


def _check_sense(config: Config) -> None:
    if config.node in config.peers:
        raise ConfigError(f"peers.{config.node}", "a node cannot be its own peer", "remove it")
    if not config.agent.command[0].startswith("/"):
        raise ConfigError("agent.command", f"{config.agent.command[0]!r} is not an absolute path", "begin it with /")
    if config.health.disk_degraded >= config.health.disk_emergency:
        raise ConfigError(
            "health.disk_degraded", "not below health.disk_emergency", "make degraded the lower of the two percentages"
        )
    if size(config.messages.body_limit) < _LARGEST_MESSAGE:
        raise ConfigError("messages.body_limit", "smaller than a message may be", "make it 128KiB or more")
    if size(config.observe.budget) < _LEAST_BUDGET:
        raise ConfigError("observe.budget", "too small for the logs of a day", "make it 1MiB or more")
    if duration(config.files.timeout) > duration("1d"):
        raise ConfigError("files.timeout", "longer than a day", "make it 1d or less")
    for name, peer in config.peers.items():
        if not 1 <= int(peer.url.rpartition(":")[2]) <= 65535:
            raise ConfigError(f"peers.{name}.url", "no such port", "write a port from 1 to 65535")
        if peer.url.startswith("https:") and not peer.pin:
            mend = "write its sha256:… (there: outlast keys tls), or file"
            raise ConfigError(f"peers.{name}.pin", "no certificate is pinned for https", mend)
        if peer.pin and not peer.url.startswith("https:"):
            raise ConfigError(f"peers.{name}.url", "a pinned certificate and no TLS", "write https://, or remove pin")
    if duration(config.retry.base) > duration(config.retry.max):
        raise ConfigError("retry.base", "longer than retry.max", "make base the shorter of the two")
    check_alerts(config)
    check_services(config)
    check_dashboard(config)
    check_probes(config)
    check_external(config)
    check_subagents(config)
    if config.jobs:
        from outlast.work.timetable import check as check_jobs

        check_jobs(config)


def _blame(section: type[msgspec.Struct], value: Any, path: str) -> tuple[str, type[msgspec.Struct], str]:
    """The section that does not fit: its path, with the names that people gave; its type; what msgspec says.

    Sections alone are tried: msgspec 0.22 crashes where it is asked for some other types by themselves.
    """
    for name, kind in get_type_hints(section).items():
        held = value.get(name) if isinstance(value, dict) else None
        inner = _struct(get_args(kind)[1]) if get_origin(kind) is dict else None
        if inner is None or not isinstance(held, dict):
            continue
        for called, one in held.items():
            try:
                msgspec.convert(one, inner)
            except msgspec.ValidationError:
                return _blame(inner, one, f"{path}.{name}.{called}".strip("."))
    try:
        msgspec.convert(value, section)
    except msgspec.ValidationError as error:
        return path, section, str(error)
    raise AssertionError("nothing is to blame")


def _struct(kind: Any) -> type[msgspec.Struct] | None:
    """The section that a type speaks of, where there may be one; of what is held by name, none."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return kind
    found = (_struct(one) for one in get_args(kind)) if get_origin(kind) is not dict else iter(())
    return next(filter(None, found), None)


def _type_at(section: Any, inside: str) -> Any:
    """The type of what lies at a path like ``$.listen.port`` inside a section."""
    for name in re.findall(r"\.(\w+)", inside):
        if (struct := _struct(section)) is None or name not in struct.__struct_fields__:
            return section
        section = get_type_hints(struct)[name]
    return section


def _choices(kind: Any) -> list[str]:
    """The words that a type allows."""
    if get_origin(kind) is Literal:
        return [str(one) for one in get_args(kind)]
    return [word for one in get_args(kind) for word in _choices(one)]


def _close(word: str, known: Sequence[str], otherwise: str) -> str:
    import difflib

    close = difflib.get_close_matches(word, known, 1)
    return f"did you mean {close[0]}?" if close else f"{otherwise} {', '.join(known)}"


# What stands in a field that must look in a certain way; the first that fits, by how its path begins and what is in it.
_LOOKS = {
    ("peers", ".url"): ("not where a node listens", "write http://HOST:PORT, or https://HOST:PORT and pin"),
    ("peers", ".pin"): ("not the SHA-256 of a certificate", "write sha256: and 64 hex digits, or file"),
    ("listen.tls", ""): ("not the name of a file in etc/keys/tls", "write a plain name, without folders"),
    ("peers", ".host"): ("not a host that ssh takes", "write a plain name or address"),
    ("peers", ".user"): ("not a user that ssh takes", "write a plain name"),
    ("alerts", ""): ("not hours of a day", "write HH:MM-HH:MM, such as 22:00-07:00"),
}


def _explain(path: str, section: type[msgspec.Struct], said: str) -> ConfigError:
    """Turn what msgspec says (``Expected `int`, got `str` - at `$.listen.port```) into field, wrong, and mend."""
    wrong, _, where = said.partition(" - at ")
    inside = where.rpartition("`$")[2].strip("`").replace("[...]", "")
    field, kind = f"{path}{inside}".strip("."), _type_at(section, inside)
    if unknown := re.search(r"unknown field `(.+?)`", wrong):
        known = _struct(kind)
        return ConfigError(
            f"{field}.{unknown[1]}".strip("."),
            "unknown field",
            _close(unknown[1], known.__struct_fields__ if known else (), "known here:"),
        )
    if missing := re.search(r"missing required field `(.+?)`", wrong):
        return ConfigError(f"{field}.{missing[1]}".strip("."), "it is missing", "add it")
    if chosen := re.search(r"Invalid enum value '(.*)'", wrong):
        known_words = _choices(kind)
        mend = _close(chosen[1], known_words, "write one of")
        return ConfigError(field, f"{chosen[1]!r} is none of {', '.join(known_words)}", mend)
    if where.startswith("`key`"):
        mend = "use lower-case letters, digits and -, a letter first, 32 at most"
        return ConfigError(field, "it holds a name that is none", mend)
    if "matching regex" in wrong:
        for (begin, name), look in _LOOKS.items():
            if field.startswith(begin) and name in field:
                return ConfigError(field, *look)
        return ConfigError(field or "node.yml", "not a name", "use lower-case letters, digits and -, a letter first")
    mend = "see README.md, roles/runtime, for what it takes"
    if wrong.startswith("Expected `str`, got `int`"):
        mend = 'write it as text, in quotes ("8080"), and behind {{ … }} add | string'
    if wrong.startswith("Expected `int`, got `str`"):
        mend = "write it as a number, without quotes, and behind {{ … }} add | int"
    if wrong.startswith("Expected `bool`"):
        mend = "write true or false, without quotes"
    return ConfigError(field or "node.yml", wrong[0].lower() + wrong[1:], mend)
