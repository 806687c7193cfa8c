"""What a restart of the machines leaves to do for their owner: nothing."""

from __future__ import annotations

import json

import pytest
from support.hosts import Hosts
from support.live import until
from support.on_hosts import outlast


@pytest.mark.parametrize("name", ["axiom", "coz"])
def test_the_node_is_back_by_itself(hosts: Hosts, name: str) -> None:
    """Its machine is shut down and started; the node is ready again, as another process, and nobody did anything."""
    machine = hosts[name]
    before = json.loads(outlast(machine, "status", "--json"))
    assert before["ready"]
    machine.reboot()

    def after() -> bool:
        status = json.loads(outlast(machine, "status", "--json", check=False) or "{}")
        return bool(status.get("ready")) and status["since"] != before["since"]

    until(after, limit=60, what=f"{name} ready again")


def test_what_was_remembered_is_still_known(hosts: Hosts) -> None:
    """The siblings find each other again, under the addresses that they had."""
    for name, peer in (("axiom", "coz"), ("coz", "axiom")):
        assert outlast(hosts[name], "ping", peer)
