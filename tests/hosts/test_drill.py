"""playbooks/drill.yml on real hosts under systemd: power, sleep, a cut network, sub-agents that run away, a full disk."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from support.hosts import Hosts, Machine
from support.on_hosts import bent, outlast

_SCENARIOS = ("F1", "F2", "F3", "F5", "F6")
_SURE = ("-e", "drill_real_hosts=yes", "-e", "sure=yes")


@pytest.fixture
def with_subagents(hosts: Hosts, axiom: Machine) -> Iterator[None]:
    """Axiom's unit lets sub-agents have a sandbox of their own, which as shipped it does not."""
    with bent(axiom, outlast_agent_needs=["subagents"]):
        done = hosts.play("site.yml")
        assert done.returncode == 0, done.stdout
        yield
    done = hosts.play("site.yml")
    assert done.returncode == 0, done.stdout


def test_real_hosts_survive_what_they_are_made_for(
    hosts: Hosts, axiom: Machine, coz: Machine, with_subagents: None
) -> None:
    """Asked twice, each failure is caused by what a real machine has for it, noticed and recovered from, and nothing is lost; the
    hosts are as they were: no rule of the packet filter, no setting, no holder is left."""
    before = [machine.console("cat", f"{machine.variables['outlast_home']}/etc/node.yml") for machine in (axiom, coz)]
    done = hosts.play("playbooks/drill.yml", "-e", f"scenario={','.join(_SCENARIOS)}", *_SURE)
    assert done.returncode == 0, done.stdout
    table = done.stdout[done.stdout.index("noticed after  recovered after") :]
    passed = re.findall(r"^(F\d)  .* (?:ms|s) +\S+ (?:ms|s) +nothing  ", table, re.MULTILINE)
    assert tuple(passed) == _SCENARIOS, table
    assert before == [
        machine.console("cat", f"{machine.variables['outlast_home']}/etc/node.yml") for machine in (axiom, coz)
    ]
    assert "outlast_drill" not in axiom.console("nft", "list", "tables")
    for machine in (axiom, coz):
        assert machine.console("sh", "-c", "ls /var/run/outlast-drill 2>/dev/null || true").split() == []
        assert '"mode":"normal"' in outlast(machine, "status", "--json").replace(" ", "")


def test_real_hosts_are_not_drilled_unasked(hosts: Hosts) -> None:
    """Without both words nothing is done, and the line says which they are."""
    for given in ((), _SURE[:2], _SURE[2:]):
        done = hosts.play("playbooks/drill.yml", *given)
        assert done.returncode == 2 and "-e drill_real_hosts=yes -e sure=yes" in " ".join(done.stdout.split()), (
            done.stdout
        )
