"""Before anything is changed: are the ports free that a node and its dashboard need, and is none of them claimed twice?"""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.live import LiveNode, free_port, until

sys.path.append(str(Path(__file__).parents[2] / "collections"))

from ansible_collections.outlast.agents.plugins.action.findings import ActionModule  # noqa: E402
from ansible_collections.outlast.agents.plugins.modules.preflight import check_ports  # noqa: E402
from ansible_collections.outlast.agents.plugins.plugin_utils import specs  # noqa: E402


@contextlib.contextmanager
def listening() -> Iterator[int]:
    """A port that somebody else has."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def looked(home: Path, port: int, page: int) -> tuple[dict[str, str], list[int]]:
    """What is wrong with the ports of coz, by variable, and by how much both could be shifted."""
    places = {"outlast_port": ("127.0.0.1", port), "outlast_dashboard": ("127.0.0.1", page)}
    found, free = check_ports(str(home), "coz", places, "")
    return {one["field"]: one["wrong"] for one in found}, free


def test_free_ports_are_no_finding(tmp_path: Path) -> None:
    """And nothing is to be shifted."""
    assert looked(tmp_path, free_port(), free_port()) == ({}, [])


def test_a_port_that_another_program_has_is_named_with_where_both_could_go(tmp_path: Path) -> None:
    """Whichever of the two it is; a shift is offered only where the node and its dashboard fit."""
    with listening() as taken:
        wrong, free = looked(tmp_path, free_port(), taken)
        assert wrong == {"outlast_dashboard": f"127.0.0.1:{taken} is taken by another program"} and free
        wrong, free = looked(tmp_path, taken, 65_500)
        assert list(wrong) == ["outlast_port"] and free == []
    assert all(shift % 100 == 0 for shift in free)


def test_the_nodes_own_dashboard_is_no_stranger(tmp_path: Path) -> None:
    """A second `make up` meets the running node's two ports, and knows them for its own; another's it does not."""
    node = LiveNode(tmp_path, "coz", free_port(), {})
    node.cli("keys", "init")
    try:
        node.start()
        until(lambda: node.status()["dashboard"]["state"] == "up")
        assert looked(node.home.root, node.port, node.port + 100) == ({}, [])
        # As if the inventory now said another port, which somebody else has.
        with listening() as taken:
            assert list(looked(node.home.root, node.port, taken)[0]) == ["outlast_dashboard"]
    finally:
        node.kill()


@pytest.mark.parametrize(
    ("said", "port"),
    [(None, 18901), ({}, 18901), ({"port": 0}, 18901), ({"port": 9000}, 9000), ({"port": "9000"}, 9000), ({"enabled": False}, 0),
     ({"enabled": "no", "port": 9000}, 0), ({"port": "x"}, 0), ({"port": 70000}, 0), ("x", 18901)],
)  # fmt: skip
def test_the_dashboards_port_is_what_the_node_itself_would_take(said: Any, port: int) -> None:
    """What is odd is the business of who checks types."""
    assert specs.dashboard_port(18801, said) == port
    assert specs.dashboard_port(65_500, {}) == 0


def test_a_port_that_two_nodes_of_one_machine_claim_is_said_once() -> None:
    """Also where it is the one's own and the other's dashboard's, 100 above: nobody would find that by reading the inventory."""
    compare = ActionModule.__new__(ActionModule)

    def found(**hosts: dict[str, Any]) -> list[dict[str, str]]:
        places = {
            name: compare._place({"inventory_hostname": name, "ansible_connection": "local", **host})
            for name, host in hosts.items()
        }
        claims: list[dict[str, str]] = compare._shared(places, set(hosts))
        return claims

    assert found(coz={"outlast_port": 18801}, axiom={"outlast_port": 18802}) == []
    (one,) = found(coz={"outlast_port": 18801}, axiom={"outlast_port": 18901})
    assert one["host"] == "axiom" and "18901 is claimed by coz and axiom on this machine" in one["wrong"]
    assert "the dashboard's port is 100 above" in one["wrong"]
    assert (
        found(coz={"outlast_port": 18801, "outlast_dashboard": {"enabled": False}}, axiom={"outlast_port": 18901}) == []
    )
    (same,) = found(
        coz={"outlast_port": 18801, "outlast_dashboard": {"port": 9000}},
        axiom={"outlast_port": 18802, "outlast_dashboard": {"port": 9000}},
    )
    assert same["field"] == "outlast_dashboard" and same["wrong"] == "9000 is claimed by coz and axiom on this machine"
    twins = {"outlast_port": 18801, "outlast_home": "/srv/node"}
    assert [one["field"] for one in found(coz=twins, axiom=twins)] == ["outlast_port", "outlast_home"]
