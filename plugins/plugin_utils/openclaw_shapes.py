"""Whether what an inventory says of OpenClaw is made of what it should be, before anything is said of what it means.

Keeps: everything that is of a wrong kind is found; a value is in no finding, it may be a secret. Leaves to others: the types of
whole variables (the argument specs), what the values mean (openclaw_values).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.outlast.agents.plugins.plugin_utils import specs

__all__ = ["check"]

Finding = dict[str, str]
AGENT = "{} or its name, files, model, workspace, config"
ENTRY = "{cron: …, message: …}"


def check(values: Mapping[str, Any]) -> Iterator[Finding]:
    """All that is of a wrong kind in a host's variables openclaw_*."""
    for name, value in values.items():
        yield from _keys(name, value)
        # What is no number at all the argument specs say.
        if _kind(name) == "int" and str(value).lstrip("-").isdecimal() and int(value) < 1:
            yield specs.finding(name, f"{value} is not above 0", "write a whole number from 1 up")
    yield from _texts("", values, ("openclaw_agent", "openclaw_dir"))
    yield from _model("openclaw_model", values.get("openclaw_model"))
    for name, agent in (values.get("openclaw_agents") or {}).items():
        field = f"openclaw_agents.{name}"
        if not isinstance(agent or {}, Mapping):
            yield specs.finding(field, "is no mapping", f"write {AGENT}")
            continue
        yield from _texts(field, agent or {}, ("name", "files", "workspace"))
        yield from _model(field, (agent or {}).get("model"))
        if not isinstance((agent or {}).get("config") or {}, Mapping):
            yield specs.finding(f"{field}.config", "is no mapping", "write it as OpenClaw has it")
    for name, entry in (values.get("openclaw_schedule") or {}).items():
        field = f"openclaw_schedule.{name}"
        if isinstance(entry, Mapping):
            yield from _texts(field, entry, ("cron", "zone", "message", "agent"))
        else:
            yield specs.finding(field, "is no mapping", f"write {ENTRY}")


def _kind(name: str) -> str:
    return str(specs.options().get(name, {}).get("type"))


def _keys(path: str, value: Any) -> Iterator[Finding]:
    """What YAML takes for a number, a date, or yes and no, and would be a name."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if not isinstance(name, str):
                yield specs.no_text(path, name)
            yield from _keys(f"{path}.{name}", inner)
    elif isinstance(value, (list, tuple)):
        for at, inner in enumerate(value):
            yield from _keys(f"{path}[{at}]", inner)


def _texts(field: str, said: Mapping[str, Any], names: Sequence[str]) -> Iterator[Finding]:
    for name in names:
        if not isinstance(said.get(name) or "", str):
            path = f"{field}.{name}" if field else name
            yield specs.finding(path, "is no text", "write one text, in quotes where it looks like something else")


def _model(field: str, model: Any) -> Iterator[Finding]:
    """A model as {primary: provider/model, fallbacks: [provider/model]}."""
    if not model:
        return
    named = model if isinstance(model, Mapping) else {}
    fallbacks = named.get("fallbacks") or []
    all_of = [named.get("primary"), *fallbacks] if isinstance(fallbacks, list) else [None]
    if not all(isinstance(name, str) and name for name in all_of):
        mend = "write {primary: PROVIDER/MODEL, fallbacks: [PROVIDER/MODEL, …]}"
        yield specs.finding(field, "it names no primary model, or fallbacks that are no list of texts", mend)
