"""Who may reach what: the operator is let in wherever he is, peers alone reach the node, and what closes is said before."""

from __future__ import annotations

import pytest

from plugins.plugin_utils import firewall

PRIVATE = ["10.0.0.0/8", "192.168.0.0/16", "fc00::/7"]
PEERS = {"coz": ["192.0.2.7", "2001:db8::7"], "witness": ["10.1.2.3"]}


def made(**changed: object) -> list[firewall.Rule]:
    """The rules of a node that is well configured but for what a test changes."""
    values = {
        "node": ("axiom", 18801),
        "ssh_ports": [22],
        "ssh_from": PRIVATE,
        "operator": "",
        "peers": PEERS,
        "open_ports": [],
    }
    return firewall.rules(**{**values, **changed})  # type: ignore[arg-type]


def test_peers_alone_reach_the_node_and_may_log_in() -> None:
    """The node's port is open to the addresses of its peers, of both families and of the witness too, and to nobody else."""
    ssh, node = made()
    assert (node.port, node.from4, node.from6) == (18801, ("10.1.2.3", "192.0.2.7"), ("2001:db8::7",))
    assert not node.everyone
    assert ssh.from4 == ("10.0.0.0/8", "192.0.2.7", "192.168.0.0/16")
    assert ssh.from6 == ("2001:db8::7", "fc00::/7")


def test_a_node_without_peers_is_open_to_nobody() -> None:
    """No peer is not the same as everyone."""
    node = made(peers={"coz": []})[-1]
    assert (node.from4, node.from6, node.everyone) == ((), (), False)
    assert not node.admits("tcp", 18801)


@pytest.mark.parametrize(("operator", "listed"), [("198.51.100.9", True), ("10.9.9.9", False), ("", False)])
def test_the_operator_is_let_in_from_where_he_is(operator: str, listed: bool) -> None:
    """An address outside of the networks is added; one that is inside changes nothing, so that a new lease changes nothing."""
    assert (operator in made(operator=operator)[0].from4) is listed


def test_every_port_that_sshd_listens_on_is_open() -> None:
    """A port beside 22, or instead of it, is not forgotten."""
    assert [rule.port for rule in made(ssh_ports=[2222, 22, 22])[:2]] == [22, 2222]


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        (8888, "8888/tcp (outlast_open_ports) from everyone"),
        ("8888", "8888/tcp (outlast_open_ports) from everyone"),
        ({"port": 4405, "from": ["192.168.1.7/24"]}, "4405/tcp (outlast_open_ports) from 192.168.1.0/24"),
        ({"port": 4405, "from": "fd00::/8"}, "4405/tcp (outlast_open_ports) from fd00::/8"),
        ({"port": 51820, "protocol": "udp"}, "51820/udp (outlast_open_ports) from everyone"),
        ({"port": 4405, "from": []}, "4405/tcp (outlast_open_ports) from nobody"),
    ],
)
def test_the_operator_opens_ports(entry: object, told: str) -> None:
    """A port alone is open to everybody; with `from` to nobody else, and an empty list is nobody."""
    assert made(open_ports=[entry])[-1].told() == told


@pytest.mark.parametrize(
    "entry", [0, 65536, "http", {"from": []}, {"port": 1, "form": []}, {"port": 1, "protocol": "sctp"}]
)
def test_what_is_no_port_is_refused(entry: object) -> None:
    """One line names the variable, the entry, and how it is written."""
    with pytest.raises(ValueError, match=r"^outlast_open_ports: .* is no port to open; mend: write") as refused:
        made(open_ports=[entry])
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("field", "changed"), [("outlast_ssh_from", {"ssh_from": ["home"]}), ("outlast_open_ports", {"open_ports": [{"port": 1, "from": ["10.0.0.0/99"]}]})])  # fmt: skip
def test_what_is_no_network_is_refused(field: str, changed: dict[str, object]) -> None:
    """One line names the variable and the entry."""
    with pytest.raises(ValueError, match=rf"^{field}: '.*' is no network; mend: write"):
        made(**changed)


def test_a_peer_that_sleeps_keeps_its_place() -> None:
    """Where a name cannot be resolved now, the addresses of before count; what leads back to the machine itself never does."""
    resolved = {"coz": ["192.0.2.8", "127.0.1.1"]}
    before = {"coz": ["192.0.2.7"], "witness": ["10.1.2.3"], "gone": ["10.6.6.6"]}
    found = firewall.known(resolved, before, ["coz", "witness", "new"])
    assert found == {"coz": ["192.0.2.8"], "witness": ["10.1.2.3"], "new": []}


def test_what_will_be_closed_is_said() -> None:
    """Programs that others reach now and cannot then are named with the line that keeps them; all others are not."""
    sockets = [
        ["tcp", "0.0.0.0", "22", "sshd"],
        ["tcp", "0.0.0.0", "18801", "python"],
        ["tcp", "127.0.0.1", "18789", "openclaw"],
        ["tcp", "::1", "631", "cupsd"],
        ["tcp", "0.0.0.0", "3300", "node"],
        ["tcp", "::", "8888", "searx"],
        ["tcp", "0.0.0.0", "8080", "docker-proxy"],
        ["udp", "0.0.0.0", "5353", "avahi-daemon"],
        ["udp", "0.0.0.0", "41111", "avahi-daemon"],
        ["udp", "10.0.0.5", "123", "ntpd"],
    ]
    assert firewall.closing(sockets, made(open_ports=[8888])) == [
        "0.0.0.0:3300/tcp (node) is open now and will be closed; keep it with outlast_open_ports: [3300]",
        "0.0.0.0:8080/tcp (docker-proxy) is published by a container engine: this firewall does not see it, and it stays open",
        "10.0.0.5:123/udp (ntpd) is open now and will be closed; keep it with outlast_open_ports: [{port: 123, protocol: udp}]",
    ]
