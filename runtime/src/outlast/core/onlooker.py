"""Where the dashboard is, and who may look at it: a request is judged by its method, its host, and the token it brings.

Rules kept here: nothing but GET and HEAD; on loopback a request must name a loopback host, because a page of somebody else's
whose name leads to 127.0.0.1 (DNS rebinding) sends its own; beyond loopback the token is asked for always, compared in constant
time, and a wrong one is told apart from none for the log alone.

Left to others: making the token, serving (net.dashboard).
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from outlast.errors import ConfigError

if TYPE_CHECKING:
    from outlast.settings import Config

__all__ = ["Verdict", "check", "cookie_name", "is_loopback", "judge", "port_of", "speaks_tls", "url_of"]

Verdict = Literal["welcome", "enter", "method", "host", "token", "no token"]
_ABOVE = 100
_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::\d{1,5})?")


def is_loopback(host: str) -> bool:
    """Can nobody but this machine's own people reach this address?"""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def port_of(config: Config) -> int:
    """The port that the dashboard is served on."""
    return config.dashboard.port or config.listen.port + _ABOVE


def speaks_tls(config: Config) -> bool:
    """Is it served over TLS? Where the node's messages are, and others can listen in."""
    return config.listen.tls is not None and not is_loopback(config.dashboard.host)


def url_of(config: Config, machine: str) -> str:
    """Where the page is; ``machine``: what this one is called, for a node that listens on all of its addresses."""
    host = config.dashboard.host
    if host in {"0.0.0.0", "::"}:  # noqa: S104 (compared, not bound)
        host = machine
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if speaks_tls(config) else 'http'}://{shown}:{port_of(config)}/"


def check(config: Config) -> None:
    """Does the dashboard have a port of its own? Raises ConfigError."""
    if not config.dashboard.enabled:
        return
    port = port_of(config)
    if port > 65535:
        raise ConfigError("dashboard.port", f"{port}, 100 above listen.port, is no port", "write another one")
    if port == config.listen.port:
        raise ConfigError("dashboard.port", "the same as listen.port", "write another one, or 0 for 100 above it")


def cookie_name(node: str) -> str:
    """Cookies know no ports: two nodes of one machine must not overwrite each other's."""
    return f"outlast-{node}"


def judge(method: str, headers: Mapping[str, str], given: str, *, listens: str, node: str, token: str) -> Verdict:
    """What a request is answered with. ``headers``: lower-case names; ``given``: the token of the address, empty for none.

    ``listens``: the address that is listened on; ``token``: what beyond loopback must be known, never empty there.
    """
    if method not in {"GET", "HEAD"}:
        return "method"
    if is_loopback(listens):
        return "welcome" if _is_ours(headers.get("host", ""), listens) else "host"
    if given:
        return "enter" if _same(given, token) else "token"
    brought = _brought(headers, node)
    if not brought:
        return "no token"
    return "welcome" if _same(brought, token) else "token"


def _is_ours(host: str, listens: str) -> bool:
    """Does a Host header name this machine by a loopback name? Any port: a tunnel has its own."""
    found = _HOST.fullmatch(host.lower())
    if found is None:
        return False
    name = found["name"].strip("[]")
    return name == listens or is_loopback(name)


def _brought(headers: Mapping[str, str], node: str) -> str:
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return bearer.strip()
    for part in headers.get("cookie", "").split(";"):
        name, _, value = part.strip().partition("=")
        if name == cookie_name(node):
            return value
    return ""


def _same(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode(), token.encode())
