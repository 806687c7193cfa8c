"""Numbers that stand in node.yml where words are meant: ``command: [sleep, 5]``, ``environment: {PORT: 8080}``.

Rules kept here: a whole number is taken as its digits, as everybody means it; a fraction, yes and no, a date and nothing are
refused with the exact place, because YAML does not keep how they were written (3.10 has become 3.1, and off False). What
stands there is never repeated: it may be a secret.

Left to others: whatever else is wrong with these fields (config).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime
from typing import Any

from outlast.errors import ConfigError

__all__ = ["as_words"]

_LISTS = ("command", "artifacts")
_BITS = 64
_CALLED = {
    int: "a very large number",
    float: "a number with a fraction",
    bool: "yes or no",
    type(None): "nothing",
    date: "a date",
    datetime: "a date",
}
_MEND = 'write it in quotes, as in "3.10", and behind {{ … }} add | string'


def as_words(raw: dict[str, Any]) -> dict[str, Any]:
    """The same with numbers as words in each command and environment. Raises ConfigError."""
    found = dict(raw)
    for name in ("agent", "subagents"):
        found.update({name: _section(name, raw[name])} if name in raw else {})
    for name in ("services", "jobs", "probes"):
        found.update({name: _named(name, raw[name])} if name in raw else {})
    for name, service in _items(found.get("services")):
        if isinstance(service, dict) and "probes" in service:
            service["probes"] = _named(f"services.{name}.probes", service["probes"])
    return found


def _items(named: Any) -> Iterable[tuple[Any, Any]]:
    return named.items() if isinstance(named, dict) else ()


def _named(path: str, sections: Any) -> Any:
    """Each of what has a name."""
    if not isinstance(sections, dict):
        return sections
    return {name: _section(f"{path}.{name}", one) for name, one in sections.items()}


def _section(path: str, section: Any) -> Any:
    if not isinstance(section, dict):
        return section
    found = dict(section)
    for name in _LISTS:
        if isinstance(section.get(name), list):
            found[name] = [_word(f"{path}.{name}[{at}]", one) for at, one in enumerate(section[name])]
    for name, one in _items(section.get("environment")):
        found["environment"] = {**found["environment"], name: _word(f"{path}.environment.{name}", one)}
    return found


def _word(field: str, value: Any) -> Any:
    kind = type(value)
    if kind is int and value.bit_length() <= _BITS:
        return str(value)
    if (called := _CALLED.get(kind)) is not None:
        raise ConfigError(field, f"it is {called} to YAML, which does not keep how it was written", _MEND)
    return value
