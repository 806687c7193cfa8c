"""Who may reach what on a machine, as rules that a template writes down; and what that means for what is open now.

Keeps: pure, no name is resolved here; a mistake in the inventory raises ValueError with one line (field: wrong; mend).
Leaves to others: the languages of nftables and pf (templates of the role hardening), and what every machine lets in.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Rule", "closing", "known", "networks", "rules"]

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
# Published ports are redirected before they come to the firewall of the machine itself.
PUBLISHERS = ("docker-proxy",)
# What is let in for everybody's sake: DHCP, DHCPv6, mDNS.
STANDING = {("udp", 68), ("udp", 546), ("udp", 5353)}
# Above, programs take ports for their own questions; the answers are let in.
EPHEMERAL = 32768


@dataclass(frozen=True)
class Rule:
    """One port that is open: to everyone where there is no source at all, else to these networks."""

    protocol: str
    port: int
    from4: tuple[str, ...]
    from6: tuple[str, ...]
    everyone: bool
    why: str

    def admits(self, protocol: str, port: int) -> bool:
        """Whether anybody is let in there."""
        return (self.protocol, self.port) == (protocol, port) and bool(self.everyone or self.from4 or self.from6)

    def told(self) -> str:
        """For a person: the port, and who gets in."""
        sources = "everyone" if self.everyone else ", ".join([*self.from4, *self.from6]) or "nobody"
        return f"{self.port}/{self.protocol} ({self.why}) from {sources}"

    def values(self) -> dict[str, Any]:
        """For a template."""
        return asdict(self)


def networks(field: str, values: Iterable[Any]) -> list[Network]:
    """Networks or single addresses as the inventory has them; raises ValueError."""
    found: list[Network] = []
    for value in values:
        try:
            found.append(ipaddress.ip_network(str(value), strict=False))
        except ValueError:
            mend = "write it like 192.168.1.0/24, fd00::/8 or 192.0.2.7"
            raise ValueError(f"{field}: {value!r} is no network; mend: {mend}") from None
    return found


def known(
    resolved: Mapping[str, Sequence[str]], remembered: Mapping[str, Sequence[str]], peers: Iterable[str]
) -> dict[str, list[str]]:
    """Each peer's addresses: those of now, or those of before for one that cannot be found now; none that lead back here."""
    found = {}
    for peer in peers:
        listed = resolved.get(peer) or remembered.get(peer) or []
        parsed = [ipaddress.ip_address(address) for address in listed]
        found[peer] = [str(address) for address in sorted(parsed, key=_order) if _is_elsewhere(address)]
    return found


def rules(
    *,
    node: tuple[str, int],
    ssh_ports: Iterable[int],
    ssh_from: Iterable[Any],
    operator: str,
    peers: Mapping[str, Sequence[str]],
    open_ports: Iterable[Any],
) -> list[Rule]:
    """All that is open: SSH, the node's own port (name, port), and what the operator wants; raises ValueError."""
    of_peers = [address for listed in peers.values() for address in listed]
    sources = [*networks("outlast_ssh_from", ssh_from), *networks("peers", of_peers)]
    # Laptops change their address, so the one of now is not added where a whole network is let in already.
    here = networks("operator", [operator] if operator else [])
    sources += [one for one in here if not any(_within(one, other) for other in sources)]
    made = [_rule("tcp", port, sources, "SSH") for port in sorted(set(ssh_ports))]
    made.append(_rule("tcp", node[1], networks("peers", of_peers), node[0]))
    return made + [_opened(entry) for entry in open_ports]


def closing(sockets: Iterable[Sequence[str]], made: Sequence[Rule]) -> list[str]:
    """One line for each program that others can reach now (protocol, address, port, program) and cannot then."""
    lines = {}
    for protocol, address, port, program in sockets:
        place = ipaddress.ip_address(address)
        needless = place.is_loopback or (protocol == "udp" and int(port) >= EPHEMERAL)
        if needless or (protocol, int(port)) in STANDING or any(one.admits(protocol, int(port)) for one in made):
            continue
        shown = f"{address if place.version == 4 else f'[{address}]'}:{port}/{protocol} ({program})"
        wanted = port if protocol == "tcp" else f"{{port: {port}, protocol: {protocol}}}"
        if program in PUBLISHERS:
            lines[shown] = (
                f"{shown} is published by a container engine: this firewall does not see it, and it stays open"
            )
        else:
            lines[shown] = f"{shown} is open now and will be closed; keep it with outlast_open_ports: [{wanted}]"
    return list(lines.values())


def _opened(entry: Any) -> Rule:
    """One of outlast_open_ports; raises ValueError."""
    asked = entry if isinstance(entry, Mapping) else {"port": entry}
    port, protocol = str(asked.get("port", "")), str(asked.get("protocol", "tcp"))
    odd = set(asked) - {"port", "from", "protocol"}
    if odd or not port.isdigit() or not 0 < int(port) < 65536 or protocol not in {"tcp", "udp"}:
        mend = "write a port, or {port: 4405, from: [192.168.1.0/24], protocol: tcp}"
        raise ValueError(f"outlast_open_ports: {entry!r} is no port to open; mend: {mend}")
    if "from" not in asked:
        return Rule(protocol, int(port), (), (), True, "outlast_open_ports")
    sources = [asked["from"]] if isinstance(asked["from"], str) else asked["from"]
    return _rule(protocol, int(port), networks("outlast_open_ports", sources), "outlast_open_ports")


def _rule(protocol: str, port: int, sources: Iterable[Network], why: str) -> Rule:
    listed = list(sources)
    four = ipaddress.collapse_addresses(one for one in listed if isinstance(one, ipaddress.IPv4Network))
    six = ipaddress.collapse_addresses(one for one in listed if isinstance(one, ipaddress.IPv6Network))
    return Rule(protocol, port, tuple(map(_short, four)), tuple(map(_short, six)), False, why)


def _short(network: Network) -> str:
    """A network of one address as that address."""
    return str(network.network_address if network.num_addresses == 1 else network)


def _within(one: Network, other: Network) -> bool:
    if isinstance(one, ipaddress.IPv4Network):
        return isinstance(other, ipaddress.IPv4Network) and one.subnet_of(other)
    return isinstance(other, ipaddress.IPv6Network) and one.subnet_of(other)


def _is_elsewhere(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return not (address.is_loopback or address.is_unspecified)


def _order(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> tuple[int, int]:
    return address.version, int(address)
