"""node.yml: read, validated, and turned into values in base units.

Rules kept here: an unknown field, a wrong unit, a missing key or an impossible value is one ConfigError that names the
field, what is wrong, and the mend; nothing is guessed, and no figure that an operator may want to change is fixed in code.
Defaults are those of spec.md.

Left to others: whether the ports are free and the peers exist (Ansible's preflight).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, get_type_hints

import msgspec
import yaml

from outlast.errors import ConfigError
from outlast.quantity import duration, size

__all__ = [
    "Agent",
    "Breaker",
    "Clean",
    "Config",
    "Files",
    "Health",
    "Keys",
    "Listen",
    "Memory",
    "Messages",
    "Peer",
    "Retry",
    "Shared",
    "Ssh",
    "Stop",
    "Tls",
    "load_config",
]

Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9-]{0,31}\Z")]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Percent = Annotated[int, msgspec.Meta(ge=1, le=100)]


_FileName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")]
_Pin = Annotated[str, msgspec.Meta(pattern=r"^(file|sha256:[0-9a-f]{64})\Z")]


class Tls(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the node shows over TLS: files in ``etc/keys/tls``, the same one for both where `outlast keys tls` makes it."""

    certificate: _FileName = "node.pem"
    key: _FileName = "node.pem"


class Listen(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where this node takes messages; with ``tls``, over TLS only."""

    host: Annotated[str, msgspec.Meta(min_length=1)]
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    tls: Tls | None = None


class Ssh(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where another node's files are asked for. Who answers there is known by its host key, not by this."""

    host: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9:][A-Za-z0-9.:_%-]{0,253}\Z")]
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 22
    user: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z_][A-Za-z0-9._-]{0,63}\Z")] = "outlast"


class Peer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where another node takes messages.

    ``pin``, with https only: the SHA-256 of the certificates it may show, or ``file``: ``etc/keys/tls/PEER.pin`` has them.
    """

    url: Annotated[str, msgspec.Meta(pattern=r"^https?://(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}\Z")]
    ssh: Ssh | None = None
    pin: _Pin | Annotated[list[_Pin], msgspec.Meta(min_length=1)] | None = None


class Agent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What runs when a task comes in."""

    command: Annotated[list[str], msgspec.Meta(min_length=1)]
    timeout: str = "30m"
    after_crash: Literal["rerun", "report"] = "report"
    attempts: Positive = 3
    stdout_limit: str = "1MiB"
    artifact_limit: str = "64MiB"
    environment: dict[str, str] = {}


class Messages(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is taken from peers, and how fast."""

    body_limit: str = "256KiB"
    tolerance: str = "5m"
    rate: Positive = 10
    control_rate: Positive = 60
    rate_window: str = "1m"
    connect_timeout: str = "5s"
    total_timeout: str = "20s"
    keep: str = "7d"
    busy_for: str = "5s"
    outbox_limit: str = "64MiB"
    audit_keep: str = "180d"
    audit_most: Positive = 200_000


class Keys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What signs: HMAC (shared secrets) or Ed25519 (peers hold the public half), and how old the own key may become."""

    kind: Literal["hmac", "ed25519"] = "hmac"
    rotate_after: str = "90d"


class Retry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Exponential backoff with full jitter."""

    base: str = "1s"
    max: str = "60s"
    attempts: Positive = 5


class Breaker(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The circuit breaker before each peer."""

    failures: Positive = 3
    cooldown: str = "5m"


class Health(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the node watches, and when it sheds."""

    interval: str = "30s"
    disk_degraded: Percent = 85
    disk_emergency: Percent = 95
    sibling_silent: str = "30m"
    clock_skew: str = "30s"


class Files(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much one artifact that goes from node to node over SSH may hold, and how long that may take."""

    size_limit: str = "1GiB"
    timeout: str = "30m"


class Stop(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long a stop waits for work in hand."""

    grace: str = "10s"


class Memory(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From which size on a daily file's records are summed up in MEMORY.md."""

    daily_limit: str = "100KiB"


class Shared(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the nodes know together: who wins a tie (first in the list), and how many exchanges a peer may send."""

    priority: list[Name] = []
    rate: Positive = 60


class Clean(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What makes room on the disk: ages and sizes, and patterns below the workspace that are never touched."""

    logs_after: str = "7d"
    artifacts_after: str = "90d"
    artifacts_budget: str = "5GiB"
    trash_keep: str = "30d"
    ballast: str = "32MiB"
    least_free: Percent = 5
    protected: list[str] = []


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of node.yml."""

    node: Name
    listen: Listen
    agent: Agent
    peers: dict[Name, Peer] = {}
    messages: Messages = Messages()
    keys: Keys = Keys()
    retry: Retry = Retry()
    breaker: Breaker = Breaker()
    health: Health = Health()
    files: Files = Files()
    memory: Memory = Memory()
    shared: Shared = Shared()
    clean: Clean = Clean()
    stop: Stop = Stop()


_SIZES = {
    ("agent", "stdout_limit"),
    ("agent", "artifact_limit"),
    ("messages", "body_limit"),
    ("messages", "outbox_limit"),
    ("files", "size_limit"),
    ("memory", "daily_limit"),
    ("clean", "artifacts_budget"),
    ("clean", "ballast"),
}
_DURATIONS = {
    ("agent", "timeout"),
    ("messages", "tolerance"),
    ("messages", "rate_window"),
    ("messages", "connect_timeout"),
    ("messages", "total_timeout"),
    ("messages", "keep"),
    ("messages", "busy_for"),
    ("messages", "audit_keep"),
    ("keys", "rotate_after"),
    ("retry", "base"),
    ("retry", "max"),
    ("breaker", "cooldown"),
    ("health", "interval"),
    ("health", "sibling_silent"),
    ("health", "clock_skew"),
    ("files", "timeout"),
    ("clean", "logs_after"),
    ("clean", "artifacts_after"),
    ("clean", "trash_keep"),
    ("stop", "grace"),
}


# The longest task, every character of it escaped, or a result with as many files as an artifact may have.
_LARGEST_MESSAGE = 128 << 10


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
    try:
        config = msgspec.convert(raw, Config)
    except msgspec.ValidationError as error:
        raise _explain(str(error)) from error
    _check_units(config)
    _check_sense(config)
    return config


def _check_units(config: Config) -> None:
    for section, field in sorted(_SIZES | _DURATIONS):
        parse = size if (section, field) in _SIZES else duration
        try:
            parse(getattr(getattr(config, section), field))
        except ValueError as error:
            raise ConfigError(f"{section}.{field}", *str(error).split("; ", 1)) from error


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


def _fields(path: str) -> tuple[str, ...]:
    """What a section of node.yml may hold, for who misspelt it."""
    hints = {**get_type_hints(Config), "listen.tls": Tls, "peers": Peer, "peers.ssh": Ssh}
    section: type[msgspec.Struct] = hints.get(path) or hints.get(path.split(".")[0]) or Config
    return section.__struct_fields__


def _explain(text: str) -> ConfigError:
    """Turn msgspec's message (``Expected `int`, got `str` - at `$.listen.port```) into field, wrong, and mend."""
    wrong, _, where = text.partition(" - at ")
    path = where.strip("`").removeprefix("$").replace("[...]", "").strip(".")
    if unknown := re.search(r"unknown field `(.+?)`", wrong):
        import difflib

        close = difflib.get_close_matches(unknown[1], _fields(path), 1)
        mend = f"did you mean {close[0]}?" if close else f"known here: {', '.join(_fields(path))}"
        return ConfigError(".".join(p for p in (path, unknown[1]) if p), "unknown field", mend)
    if missing := re.search(r"missing required field `(.+?)`", wrong):
        return ConfigError(".".join(p for p in (path, missing[1]) if p), "it is missing", "add it")
    if "matching regex" in wrong and path.startswith("peers") and "http" in wrong:
        return ConfigError(path, "not where a node listens", "write http://HOST:PORT, or https://HOST:PORT and pin")
    if "matching regex" in wrong and path.startswith("peers.pin"):
        return ConfigError(path, "not the SHA-256 of a certificate", "write sha256: and 64 hex digits, or file")
    if "matching regex" in wrong and path.startswith("listen.tls"):
        return ConfigError(path, "not the name of a file in etc/keys/tls", "write a plain name, without folders")
    if "matching regex" in wrong and path.startswith("peers.ssh"):
        return ConfigError(path, "not a host or user that ssh takes", "write a plain name or address")
    if "matching regex" in wrong:
        return ConfigError(
            path or "node.yml", "not a node's name", "use lower-case letters, digits and -, a letter first"
        )
    return ConfigError(
        path or "node.yml", wrong[0].lower() + wrong[1:], "see README.md, roles/runtime, for what it takes"
    )
