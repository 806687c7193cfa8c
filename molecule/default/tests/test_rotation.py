"""What rotate-keys.yml does over SSH, under systemd and under launchd's double: a rotation, one without the sibling, a leak."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from support.hosts import Hosts, Machine
from support.on_hosts import bent, outlast

ROTATE = "rotate-keys.yml"


@pytest.fixture(scope="module", autouse=True)
def awake(axiom: Machine) -> Iterator[None]:
    """Both runtimes run, whatever was tested before."""
    axiom.console("systemctl", "start", "outlast-runtime")
    yield


def keys(machine: Machine) -> dict[str, dict[str, str]]:
    """What a node holds: agent to the ids that are accepted or were revoked, and their states."""
    told = json.loads(outlast(machine, "keys", "list", "--json"))["keys"]
    agents = {key["agent"] for key in told}
    return {
        agent: {key["id"]: key["state"] for key in told if key["agent"] == agent and key["state"] != "retired"}
        for agent in agents
    }


def refused(*machines: Machine) -> int:
    """How many messages the nodes have refused since they started."""
    told = [json.loads(outlast(machine, "status", "--json", check=False)) for machine in machines]
    return sum(sum(one["refused"].values()) for one in told)


def test_every_key_is_changed_over_ssh(hosts: Hosts, axiom: Machine, coz: Machine) -> None:
    """With work handed on meanwhile: new keys on both, proved by signed pings, nothing refused, the files the node user's
    alone, and no secret in what Ansible prints at -vvv."""
    before, rejected = keys(axiom), refused(axiom, coz)
    secrets = axiom.console("sh", "-c", f"cut -d' ' -f1 {axiom.variables['outlast_home']}/etc/keys/*.key").split()
    for sender, receiver in ((axiom, "coz"), (coz, "axiom")):
        outlast(sender, "handoff", receiver, "host report", "--no-wait")
    done = hosts.play(ROTATE, "-vvv", "--diff")
    assert done.returncode == 0, done.stdout
    after = keys(axiom)
    assert not {key for ring in before.values() for key in ring} & {key for ring in after.values() for key in ring}
    assert after == keys(coz) and all(list(ring.values()) == ["active"] for ring in after.values())
    assert "every node signs with its new key" in done.stdout and refused(axiom, coz) == rejected
    secrets += axiom.console("sh", "-c", f"cut -d' ' -f1 {axiom.variables['outlast_home']}/etc/keys/*.key").split()
    assert not [one for one in secrets if one != "-" and one.partition("_")[2] in done.stdout]
    for machine in (axiom, coz):
        folder = f"{machine.variables['outlast_home']}/etc/keys"
        assert machine.console("find", folder, "-name", "*.key", "!", "-user", "outlast").strip() == ""
        assert machine.console("find", folder, "-perm", "/077").strip() == ""


def test_what_the_missing_sibling_leaves_is_finished_later(hosts: Hosts, axiom: Machine, coz: Machine) -> None:
    """Coz cannot be reached: axiom's next key waits, and is named; the same command goes on later, with axiom down."""
    with bent(coz, ansible_port=9):
        done = hosts.play(ROTATE)
    assert done.returncode == 0, done.stdout
    assert re.search(r"axiom: signs with \w+ still; the new key \w+ waits until coz has it", done.stdout), done.stdout
    axiom.console("systemctl", "stop", "outlast-runtime")
    again = hosts.play(ROTATE)
    axiom.console("systemctl", "start", "outlast-runtime")
    assert again.returncode == 0, again.stdout
    assert "goes on with the rotation that was not finished" in again.stdout
    assert "axiom: its runtime does not run" in again.stdout
    assert keys(axiom) == keys(coz)


def test_a_leak_is_ended_and_audited(hosts: Hosts, axiom: Machine, coz: Machine) -> None:
    """Axiom's key is refused by coz for good, axiom halts until a person ends it, coz has a report; site.yml brings nothing
    back; and both work again."""
    stolen = next(key for key, state in keys(axiom)["axiom"].items() if state == "active")
    done = hosts.play(ROTATE, "-e", "leaked=axiom")
    assert done.returncode == 0, done.stdout
    assert "messages accepted under axiom's key" in done.stdout and "resume --reason" in done.stdout
    assert keys(coz)["axiom"][stolen] == "revoked"
    assert coz.console("sh", "-c", f"ls {coz.variables['outlast_home']}/workspace/audits/*axiom*").strip()
    assert json.loads(outlast(axiom, "status", "--json", check=False))["mode"] == "emergency"
    for machine in (axiom, coz):
        if json.loads(outlast(machine, "status", "--json", check=False))["mode"] == "emergency":
            outlast(machine, "resume", "--reason", "the drill is over")
    again = hosts.play("site.yml")
    assert again.returncode == 0, again.stdout
    assert keys(coz)["axiom"][stolen] == "revoked"
    assert "done" in outlast(coz, "handoff", "axiom", "host report", "--wait", "1m")
