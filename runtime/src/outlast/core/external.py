"""What the answer of somebody else's service says, and when it is asked again.

Rules kept here: whatever it answers, below 500, shows that it is there; 429, and a Retry-After with any error, show that it
limits us, which is no failure of it; it is asked again no sooner than it says, up to a day.

Values only: moments are seconds since 1970. Left to others: the breaker (core.breaker), asking (work.external).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from outlast.errors import ConfigError
from outlast.settings import Config

__all__ = ["Judged", "Place", "check", "judge", "place", "retry_after"]

_LONGEST_S = 86400.0
_TOO_MANY = 429
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<target>/[!-\"$-~]*)?"
)
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Judged:
    """What an answer says; ``wait``: seconds that it asks us to wait, 0 where it does not."""

    well: bool
    limited: bool
    wait: float = 0.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where a service is asked. ``host`` has its brackets where it is an IPv6 address; ``target`` its query."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def endpoint(self) -> str:
        """Scheme, host and port, which hold no secret."""
        return f"{self.scheme}://{self.host}:{self.port}"

    @property
    def shown(self) -> str:
        """For people: without the query, where keys may stand."""
        port = "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{self.host}{port}{self.target.partition('?')[0]}"


def check(config: Config) -> None:
    """Refuse services that cannot be asked. Raises ConfigError."""
    for name, service in config.external.items():
        if place(service.url) is None:
            # Not repeated: it may hold a password.
            mend = "write http://HOST/PATH or https://HOST/PATH, without user and password"
            raise ConfigError(f"external.{name}.url", "not a URL that is asked here", mend)


def place(url: str) -> Place | None:
    """Where a URL leads; None for one that cannot be asked."""
    match = _URL.fullmatch(url)
    if match is None:
        return None
    port = int(match["port"] or _PORTS[match["scheme"]])
    return Place(match["scheme"], match["host"], port, match["target"] or "/") if 1 <= port <= 65535 else None


def judge(status: int, header: str | None, now: float) -> Judged:
    """Judge an answer by its status and its Retry-After, at ``now``."""
    wait = retry_after(header, now)
    limited = status == _TOO_MANY or (wait is not None and status >= 400)
    return Judged(limited or status < 500, limited, (wait or 0.0) if limited else 0.0)


def retry_after(header: str | None, now: float) -> float | None:
    """Seconds to wait, as a Retry-After has them (a number, or a date); None where it says nothing that can be read."""
    text = (header or "").strip()
    if re.fullmatch("[0-9]{1,18}", text):
        return min(float(text), _LONGEST_S)
    try:
        moment = datetime.strptime(text, "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
    return min(max(0.0, moment - now), _LONGEST_S)
