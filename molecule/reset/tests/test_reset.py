"""What reset.yml takes away, what it leaves, and what it does when it is asked twice."""

from __future__ import annotations

import pytest
from support.hosts import Hosts, Machine
from support.on_hosts import changed


@pytest.fixture(params=["axiom", "coz"])
def machine(request: pytest.FixtureRequest, hosts: Hosts) -> Machine:
    """Each of the two."""
    return hosts[request.param]


@pytest.fixture(scope="module", autouse=True)
def after_reset(hosts: Hosts) -> None:
    """All but data removed, in which an agent has written; a second time there is nothing to do."""
    for machine in (hosts["axiom"], hosts["coz"]):
        note = (
            f"cd {machine.variables['outlast_home']}/workspace && mkdir -p memory && echo kept > memory/2026-01-01.md"
        )
        machine.console("sudo", "-u", "outlast", "sh", "-c", note)
    done = hosts.play("playbooks/reset.yml")
    assert done.returncode == 0, done.stdout
    again = hosts.play("playbooks/reset.yml")
    assert again.returncode == 0, again.stdout
    assert changed(again.stdout) == 0, again.stdout


def test_nothing_runs_any_more(machine: Machine) -> None:
    """No process of the node is left."""
    assert machine.console("pgrep", "-u", "outlast", check=False) == ""


def test_no_service_is_left(machine: Machine) -> None:
    """Neither service manager knows of the node."""
    left = "ls /etc/systemd/system/outlast-* /Library/LaunchDaemons/outlast.* /usr/local/bin/outlast 2>/dev/null"
    assert machine.console("sh", "-c", left, check=False) == ""


def test_the_firewall_is_as_it_was(axiom: Machine) -> None:
    """No rule of ours is loaded, so that whoever runs something else there is not shut out."""
    assert "outlast" not in axiom.console("nft", "list", "ruleset")


def test_the_data_is_where_it_was(machine: Machine) -> None:
    """Memory, artifacts and keys stay."""
    home = machine.variables["outlast_home"]
    assert machine.console("cat", f"{home}/workspace/memory/2026-01-01.md") == "kept\n"
    assert machine.console("sh", "-c", f"ls {home}/etc/keys/*.key").strip()


def test_once_is_not_enough_for_data(hosts: Hosts) -> None:
    """Data is not moved for half an order, and the refusal says what a whole one is."""
    done = hosts.play("playbooks/reset.yml", "-e", "data=trash")
    assert done.returncode != 0
    assert "sure=yes" in done.stdout


def test_asked_twice_the_data_is_in_the_trash(hosts: Hosts, axiom: Machine, coz: Machine) -> None:
    """It is moved, not deleted."""
    done = hosts.play("playbooks/reset.yml", "-e", "data=trash", "-e", "sure=yes")
    assert done.returncode == 0, done.stdout
    for machine in (axiom, coz):
        home = machine.variables["outlast_home"]
        found = machine.console(
            "sh", "-c", f"find {home}.trash -name 2026-01-01.md -path '*memory*'; ls -d {home} 2>/dev/null", check=False
        )
        assert found.strip().endswith("/2026-01-01.md"), found
