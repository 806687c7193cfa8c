"""The probes that node.yml declares and those that every node has, and what cannot be meant.

Rules kept here: a probe asks in exactly one way, and what belongs to another way is refused; restarting needs a service; no
probe sheds the service that it asks; two subjects never have one name.

Left to others: the fields (settings), asking and judging (work.asking, core.probes). Imported with the configuration: nothing
heavy here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from outlast.core.modes import pace
from outlast.core.probes import ALIVE, PROGRESS, QUALITY, RESPONDING, Rule
from outlast.errors import ConfigError
from outlast.quantity import duration
from outlast.settings import Config, Health, Priority, Probe

__all__ = ["NODE", "PROGRESS_FILE", "Declared", "check", "declared", "url_parts"]

NODE = "node"
"""The subject of what is about the node as a whole."""
_WAYS = ("http", "command", "file", "artifacts")
PROGRESS_FILE = "PROGRESS.md"
_FAILURES, _FAILURES_OF_ARTIFACTS = 3, 1
# A restart in between is none; a machine that slept is no agent that stands still.
_FAILURES_OF_PROCESSES, _FAILURES_OF_PROGRESS = 2, 2
_URL = re.compile(
    r"http://(?P<host>[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::(?P<port>[0-9]{1,5}))?(?P<path>/[!-~]*)?"
)


@dataclass(frozen=True, slots=True)
class Declared:
    """One probe. ``service`` is empty where it is about none; times in seconds."""

    subject: str
    name: str
    way: str
    probe: Probe
    rule: Rule
    timeout: float
    service: str = ""
    priority: Priority = "P1"
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What it is called in events."""
        return self.subject if self.name == self.subject else f"{self.subject} {self.name}"

    @property
    def key(self) -> str:
        """What its cause and its alert are called."""
        return f"probe {self.label}"

    @property
    def log(self) -> str:
        """What the log is called that has what its command printed; no service or job can be called so."""
        return f"probe.{self.label.replace(' ', '.')}"

    @property
    def mend(self) -> str:
        """What a person types when it fails."""
        if self.way in {"command", "artifacts"}:
            return f"outlast logs {self.log}"
        return f"outlast logs {self.service}" if self.service else "outlast health --now"


def declared(config: Config) -> list[Declared]:
    """Every probe of the services, then those of their own, with every default filled in.

    Undeclared: a look at each service's process (``process``), which nothing follows from because it has a supervisor, and
    one whether PROGRESS.md moves while work is open (``progress``), unless another probe looks at that file.
    """
    found = list(_declared(config))
    if not any(one.probe.file == PROGRESS_FILE for one in found):
        rule = Rule(PROGRESS, _FAILURES_OF_PROGRESS, "alert", duration(config.health.progress))
        found.append(Declared(NODE, "progress", "progress", Probe(), rule, 1.0))
    return found


def _declared(config: Config) -> Iterator[Declared]:
    for service, settings in config.services.items():
        rule = Rule(ALIVE, _FAILURES_OF_PROCESSES, "alert", duration(config.health.alive))
        yield Declared(service, "process", "process", Probe(), rule, 1.0, service, settings.priority)
        for name, probe in settings.probes.items():
            yield _one(config.health, service, name, probe, service, settings.priority, settings.environment)
    for name, probe in config.probes.items():
        yield _one(config.health, name, name, probe)


def _one(
    health: Health,
    subject: str,
    name: str,
    probe: Probe,
    service: str = "",
    # The order in which duties are shed (spec.md, section 6) has the monitoring at P1.
    priority: Priority = "P1",
    environment: Mapping[str, str] | None = None,
) -> Declared:
    way = _way(probe)
    level = probe.level or {"file": PROGRESS, "artifacts": QUALITY}.get(way, RESPONDING)
    failures = probe.failures or (_FAILURES_OF_ARTIFACTS if way == "artifacts" else _FAILURES)
    rule = Rule(level, failures, probe.then, None if way == "artifacts" else _every(health, probe, level))
    return Declared(subject, name, way, probe, rule, duration(probe.timeout), service, priority, environment or {})


def _way(probe: Probe) -> str:
    return next((way for way in _WAYS if getattr(probe, way)), "")


def _every(health: Health, probe: Probe, level: int) -> float:
    usual = {ALIVE: health.alive, RESPONDING: health.responding}
    return duration(probe.every or usual.get(level, health.progress))


def url_parts(url: str) -> tuple[str, str] | None:
    """Where a probe's URL is asked, ``http://host:port`` and the path; None for one that cannot be asked."""
    match = _URL.fullmatch(url)
    if match is None or not 1 <= int(match["port"] or 80) <= 65535:
        return None
    return f"http://{match['host']}:{int(match['port'] or 80)}", match["path"] or "/"


def check(config: Config) -> None:
    """Refuse probes that cannot be meant. Raises ConfigError."""
    for service, settings in config.services.items():
        if service == NODE and settings.probes:
            raise ConfigError(f"services.{NODE}.probes", "that name stands for the node itself", "rename the service")
        for name, probe in settings.probes.items():
            path = f"services.{service}.probes.{name}"
            _check(path, probe)
            if probe.then == "degrade" and pace("degraded", settings.priority) == 0:
                wrong = f"{settings.priority} is off in mode degraded, so that the service would go by its own probe"
                raise ConfigError(f"{path}.then", wrong, "write restart or alert, or give the service another priority")
    for name, probe in config.probes.items():
        path = f"probes.{name}"
        if name in config.services:
            raise ConfigError(path, "a service has that name", f"put it under services.{name}.probes")
        if name == NODE:
            raise ConfigError(path, "that name stands for the node itself", "give it another one")
        if probe.then == "restart":
            raise ConfigError(f"{path}.then", "there is nothing to restart", "put it under services.NAME.probes")
        _check(path, probe)


def _check(path: str, probe: Probe) -> None:
    ways = [way for way in _WAYS if getattr(probe, way)]
    if len(ways) != 1:
        given = f"{' and '.join(ways)} at once" if ways else "nothing to ask"
        raise ConfigError(path, given, f"write one of {', '.join(_WAYS)}")
    way = ways[0]
    if probe.contains and way != "http":
        raise ConfigError(f"{path}.contains", f"a {way} probe has no answer to look into", "remove it, or write http")
    if way == "http" and url_parts(probe.http) is None:
        mend = "write http://HOST:PORT/PATH; for https use command, with curl --fail"
        raise ConfigError(f"{path}.http", "not a URL that is asked here", mend)
    if way == "file" and (probe.file.startswith("/") or ".." in probe.file.split("/") or "\0" in probe.file):
        raise ConfigError(f"{path}.file", "not below the workspace", "write a path without / before and .. in it")
    if way == "artifacts" and probe.every:
        raise ConfigError(f"{path}.every", "artifacts are looked at when they are completed", "remove it")
    if way == "artifacts" and probe.level not in {None, QUALITY}:
        raise ConfigError(f"{path}.level", "what artifacts are worth is level 4", "remove it")
