"""What node.yml may say: every section with its fields, types and defaults.

Rules kept here: a field's type tells its unit (``Duration``, ``Size``), its bounds and its choices; an unknown field is
refused; defaults are those of spec.md.

Left to others: reading the file, what must fit together, and how an error is put (config).
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from outlast.fields import Duration, Name, Percent, Positive, Size
from outlast.openclaw.settings import OpenClaw

# fmt: off
__all__ = [
    "Agent", "AlertRules", "Breaker", "Clean", "Config", "Dashboard", "Duration", "External", "Files",
    "Health", "Job", "Keys", "Listen", "Memory", "Messages", "Name", "Observe", "OpenClaw", "Peer",
    "Priority", "Probe", "Retry", "Service", "Shared", "Size", "Ssh", "Stop", "SubAgents",
    "Tls",
]
# fmt: on

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
    timeout: Duration = "30m"
    after_crash: Literal["rerun", "report"] = "report"
    attempts: Positive = 3
    stdout_limit: Size = "1MiB"
    artifact_limit: Size = "64MiB"
    environment: dict[str, str] = {}


class Messages(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is taken from peers, and how fast."""

    body_limit: Size = "256KiB"
    tolerance: Duration = "5m"
    rate: Positive = 10
    control_rate: Positive = 60
    rate_window: Duration = "1m"
    connect_timeout: Duration = "5s"
    total_timeout: Duration = "20s"
    keep: Duration = "7d"
    busy_for: Duration = "5s"
    outbox_limit: Size = "64MiB"
    audit_keep: Duration = "180d"
    audit_most: Positive = 200_000


class Keys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What signs: HMAC (shared secrets) or Ed25519 (peers hold the public half), and how old the own key may become."""

    kind: Literal["hmac", "ed25519"] = "hmac"
    rotate_after: Duration = "90d"


class Retry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Exponential backoff with full jitter."""

    base: Duration = "1s"
    max: Duration = "60s"
    attempts: Positive = 5


class Breaker(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The circuit breaker before each peer."""

    failures: Positive = 3
    cooldown: Duration = "5m"


class Health(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the node watches, and when it sheds.

    ``alive``, ``responding``, ``progress``: how often a probe of that level is asked that does not say so itself; ``skills``:
    how long a skill's last status counts as one that runs.
    """

    interval: Duration = "30s"
    alive: Duration = "30s"
    responding: Duration = "60s"
    progress: Duration = "30m"
    skills: Duration = "30m"
    disk_degraded: Percent = 85
    disk_emergency: Percent = 95
    sibling_silent: Duration = "30m"
    clock_skew: Duration = "30s"


class Files(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much one artifact that goes from node to node over SSH may hold, and how long that may take."""

    size_limit: Size = "1GiB"
    timeout: Duration = "30m"


class Stop(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long a stop waits for work in hand. ``within``: how long the service manager waits for all of it."""

    grace: Duration = "10s"
    within: Duration = "30s"


class Memory(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From which size on a daily file's records are summed up in MEMORY.md."""

    daily_limit: Size = "100KiB"


class Shared(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the nodes know together: who wins a tie (first in the list), and how many exchanges a peer may send."""

    priority: list[Name] = []
    rate: Positive = 60


class Clean(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What makes room on the disk: ages and sizes, and patterns below the workspace that are never touched.

    ``backups``: how many of the newest stay in ``var/backups``.
    """

    logs_after: Duration = "7d"
    artifacts_after: Duration = "90d"
    artifacts_budget: Size = "5GiB"
    trash_keep: Duration = "30d"
    backups: Positive = 7
    ballast: Size = "32MiB"
    least_free: Percent = 5
    protected: list[str] = []


Priority = Literal["P0", "P1", "P2", "P3"]
_Command = Annotated[list[str], msgspec.Meta(min_length=1)]


class Probe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One way to see how something is: exactly one of ``http``, ``command``, ``file`` and ``artifacts``.

    ``level``: 1 alive, 2 responding, 3 making progress, 4 producing quality (spec.md, section 5); else 2, of a file 3, of
    artifacts 4. It gives ``every`` its default (health); artifacts are looked at on completion. ``http``: a URL, whose answer
    must have ``status`` and hold ``contains``. ``command``: exit code 0. ``file``: in the workspace, changed within ``fresh``.
    ``artifacts``: a command that is given the folder of each artifact that was completed. ``failures`` in a row (else 3, of
    artifacts 1), and then ``then`` is done.
    """

    level: Annotated[int, msgspec.Meta(ge=1, le=4)] | None = None
    http: str = ""
    status: Annotated[int, msgspec.Meta(ge=100, le=599)] = 200
    contains: str = ""
    command: list[str] = []
    file: str = ""
    fresh: Duration = "30m"
    artifacts: list[str] = []
    every: Duration | None = None
    timeout: Duration = "5s"
    failures: Positive | None = None
    then: Literal["restart", "degrade", "alert"] = "alert"


class Service(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A program that is to run always. ``directory``: below the workspace.

    ``most`` restarts ``within`` a time, and it is left alone for ``rest`` at least. Between restarts: backoff with full jitter
    from ``base`` to ``max``; 1ms for both restarts at once.
    """

    command: _Command
    directory: str = ""
    environment: dict[str, str] = {}
    priority: Priority = "P1"
    restart: Literal["always", "on-failure", "never"] = "always"
    base: Duration = "1s"
    max: Duration = "60s"
    most: Positive = 5
    within: Duration = "5m"
    rest: Duration = "5m"
    stop_signal: Literal["TERM", "INT", "QUIT", "HUP", "USR1", "USR2"] = "TERM"
    grace: Duration = "10s"
    log_limit: Size = "1MiB"
    probes: dict[Name, Probe] = {}


class Job(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A program that runs by the clock. ``schedule``: a cron line, in ``zone`` (the machine's own where it is empty).

    ``owner``: the node whose job it is, this one where it is empty; another's is taken over while it is silent, and only
    where ``takeover`` says that this is safe. ``failures`` in a row, and a person is told. ``directory``: below the workspace.
    """

    schedule: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    command: _Command
    zone: str = ""
    directory: str = ""
    environment: dict[str, str] = {}
    priority: Priority = "P2"
    timeout: Duration = "30m"
    owner: Name | Literal[""] = ""
    takeover: bool = False
    failures: Positive = 3
    log_limit: Size = "1MiB"


class External(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A service of somebody else's that work here depends on: asked ``every`` so often, behind a circuit breaker."""

    url: str
    every: Duration = "5m"
    timeout: Duration = "10s"
    failures: Positive = 3
    cooldown: Duration = "5m"


class SubAgents(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What sub-agents may use, each, and how many may run at once. ``attempts``: then the main agent is told.

    ``timeout``: the longest that one may ask for; ``heartbeat``: silence after which one is taken for hung. ``environment`` and
    ``readable``: variables that all of them have, and folders that they see beside the system's. ``off_after`` escalations
    within a day switch the feature off until a person turns it on. ``sandbox: none`` is for machines that have no other way.
    ``files``: files and folders that one may make, of those to keep and of temporary ones each.
    """

    most: Positive = 4
    queue: Positive = 64
    attempts: Positive = 3
    off_after: Positive = 3
    timeout: Duration = "30m"
    heartbeat: Duration = "30m"
    memory: Size = "512MiB"
    cpu: Duration = "10m"
    processes: Positive = 64
    file_size: Size = "64MiB"
    output_limit: Size = "64MiB"
    files: Positive = 10_000
    environment: dict[str, str] = {}
    readable: list[str] = []
    network: bool = False
    sandbox: Literal["required", "none"] = "required"


class AlertRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a person is told. Where to is a secret, and lies in ``etc/keys/alerts``, an apprise URL a line.

    ``quiet``: hours of the node's own zone in which only what is urgent is sent, none where both ends are the same; ``work``:
    the hours of F3; ``most``: messages an hour, what is beyond that is summed up; ``again``: what still holds is told again
    after this; ``calm``: how long something must stay away before it is told as over; ``keep``: for how long that is tried.
    """

    quiet: Annotated[str, msgspec.Meta(pattern=r"^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d\Z")] = "22:00-07:00"
    work: Annotated[str, msgspec.Meta(pattern=r"^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d\Z")] = "08:00-18:00"
    most: Positive = 6
    again: Duration = "1d"
    calm: Duration = "10m"
    keep: Duration = "7d"
    partition_after: Duration = "1h"
    power_after: Duration = "1d"
    sleeps: list[Name] = []
    webhook_success: Percent = 80
    subagent_success: Percent = 70
    heartbeat_within: Duration = "60s"
    study_units: Annotated[int, msgspec.Meta(ge=0)] = 2


class Observe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is written down about the node itself, and how much of it is kept."""

    metrics_every: Duration = "1m"
    spans: bool = True
    keep: Duration = "30d"
    budget: Size = "256MiB"


class Dashboard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The page that shows the nodes. ``port`` 0: 100 above the node's own. Beyond loopback only with the token."""

    enabled: bool = True
    host: Annotated[str, msgspec.Meta(min_length=1)] = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0


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
    services: dict[Name, Service] = {}
    jobs: dict[Name, Job] = {}
    probes: dict[Name, Probe] = {}
    external: dict[Name, External] = {}
    subagents: SubAgents = SubAgents()
    alerts: AlertRules = AlertRules()
    observe: Observe = Observe()
    dashboard: Dashboard = Dashboard()
    openclaw: OpenClaw | None = None
