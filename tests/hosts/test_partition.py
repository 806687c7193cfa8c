"""Two real hosts cut off from each other by nftables, under traffic both ways, and joined again."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from support.hosts import Hosts, Machine
from support.on_hosts import bent, outlast

# What takes minutes by default takes seconds here: the nodes notice sooner that the other one is there again.
_IMPATIENT = {
    "outlast_messages": {"rate": 10_000, "connect_timeout": "1s", "total_timeout": "3s"},
    "outlast_health": {"interval": "2s"},
    "outlast_breaker": {"cooldown": "2s"},
    "outlast_retry": {"max": "2s"},
}
_CUT_S = 15.0
_BACK_S = 60.0

# Hands over work until it is told to stop; each line is the name of what was acknowledged.
_LOAD = """
rm -f /tmp/over /tmp/ended /tmp/acknowledged; touch /tmp/acknowledged
cd /; number=0
while [ ! -e /tmp/over ] && [ $number -lt 60 ]; do
    number=$((number + 1))
    sudo -u outlast /usr/local/bin/outlast --home HOME handoff PEER "unit $number" --no-wait --json </dev/null >>/tmp/acknowledged 2>&1
done
touch /tmp/ended
"""


def home(machine: Machine) -> str:
    return str(machine.variables["outlast_home"])


@contextmanager
def traffic(machine: Machine, peer: str) -> Iterator[list[str]]:
    """Hand-offs from a host to its peer, one after the other; the units that were acknowledged, complete when it is left."""
    units: list[str] = []
    script = _LOAD.replace("HOME", home(machine)).replace("PEER", peer)
    machine.console("sh", "-c", "cat > /tmp/load; setsid sh /tmp/load >/dev/null 2>&1 &", stdin=script)
    try:
        yield units
    finally:
        machine.console("touch", "/tmp/over")
        limit = time.monotonic() + 30
        while "ended" not in machine.console("ls", "/tmp"):
            assert time.monotonic() < limit, "the traffic does not end"
            time.sleep(0.2)
        said = machine.console("cat", "/tmp/acknowledged").splitlines()
        units += [json.loads(line)["unit"] for line in said if line.startswith("{")]
        assert len(units) == len(said), said
        machine.console("sh", "-c", "rm -f /tmp/over /tmp/ended /tmp/acknowledged /tmp/load")


@contextmanager
def cut(machine: Machine, other: Machine) -> Iterator[None]:
    """Not a packet passes between the two hosts, in either direction; from here both are reached as ever."""
    rules = "\n".join(
        f"add chain inet partition {way} {{ type filter hook {way} priority -300; }}\n"
        f"add rule inet partition {way} ip {side} {other.address} drop"
        for way, side in (("input", "saddr"), ("output", "daddr"))
    )
    machine.console("nft", "-f", "-", stdin=f"add table inet partition\n{rules}\n")
    try:
        yield
    finally:
        machine.console("nft", "delete", "table", "inet", "partition")


def journal(machine: Machine) -> list[str]:
    """The records of all days."""
    return machine.console("sh", "-c", f"cat {home(machine)}/workspace/memory/*.md").splitlines()


def accepted(machine: Machine) -> list[str]:
    """The units that the node took, in the order in which it did."""
    said = machine.console("sh", "-c", f"cat {home(machine)}/workspace/logs/*.jsonl | grep task.accepted")
    return [json.loads(line)["correlation_id"] for line in said.splitlines()]


def channel(machine: Machine, peer: str) -> dict[str, object]:
    """What ``outlast status`` says of the channel to a peer."""
    found: dict[str, object] = json.loads(outlast(machine, "status", "--json", check=False))["channels"][peer]
    return found


def open_units(machine: Machine) -> int:
    """How much is not done yet."""
    found = json.loads(outlast(machine, "status", "--json", check=False))
    return int(found["handoffs"]["open"]) + int(found["tasks"]["open"])


@pytest.fixture
def impatient(hosts: Hosts, axiom: Machine, coz: Machine) -> Iterator[None]:
    """Both nodes, configured so that what takes minutes takes seconds."""
    with bent(axiom, **_IMPATIENT), bent(coz, **_IMPATIENT):
        done = hosts.play("site.yml")
        assert done.returncode == 0, done.stdout
        yield
    done = hosts.play("site.yml")
    assert done.returncode == 0, done.stdout


def test_a_partition_under_traffic_loses_nothing(axiom: Machine, coz: Machine, impatient: None) -> None:
    """Cut off in the middle of hand-offs both ways, both nodes go on; joined again, everything that was acknowledged is
    delivered in the order in which it was handed over, and in effect once, with no gap in the channel."""
    with traffic(coz, "axiom") as from_coz, traffic(axiom, "coz") as from_axiom:
        time.sleep(3.0)  # what is on its way when the wire is cut
        before = channel(coz, "axiom"), channel(axiom, "coz")
        with cut(axiom, coz):
            time.sleep(_CUT_S)  # the length of the partition
            assert int(str(channel(coz, "axiom")["queued"])) > 2
            assert int(str(channel(axiom, "coz")["queued"])) > 2
        joined = time.monotonic()
    while open_units(coz) + open_units(axiom):
        assert time.monotonic() < joined + _BACK_S, (channel(coz, "axiom"), channel(axiom, "coz"))
        time.sleep(0.3)
    assert len(from_coz) > 5 and len(from_axiom) > 5
    for sender, receiver, units in ((coz, axiom, from_coz), (axiom, coz, from_axiom)):
        assert [unit for unit in accepted(receiver) if unit in set(units)] == units
        for machine in (sender, receiver):
            records = journal(machine)
            for unit in units:
                assert len([line for line in records if f" INTENT {unit} " in line]) == 1
                assert len([line for line in records if f" CONFIRM {unit} done" in line]) == 1
        made = receiver.console("ls", f"{home(receiver)}/workspace/artifacts").split()
        assert set(units) <= set(made)
    for machine, peer, then in ((coz, "axiom", before[0]), (axiom, "coz", before[1])):
        now = channel(machine, peer)
        assert (now["gaps"], now["queued"], now["breaker"]) == (then["gaps"], 0, "closed")
