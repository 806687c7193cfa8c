"""Machines get new addresses: what is to be done then is to write it into the inventory and to run site.yml."""

from __future__ import annotations

import ipaddress
from pathlib import Path

from support.hosts import Hosts, Machine
from support.on_hosts import bent, changed, outlast


def renumber(machine: Machine, address: str) -> None:
    """Give a machine this address instead of its own, as a router does after a restart."""
    script = f"""
        route=$(ip -4 route show default)
        ip -4 address flush dev eth0
        ip address add {address}/24 dev eth0
        ip route add $route"""
    machine.console("sh", "-ec", script)


def test_a_node_with_a_new_address_is_found_again(hosts: Hosts, axiom: Machine, coz: Machine) -> None:
    """After one run messages and files go both ways again, through axiom's firewall, which knows coz by its address."""
    address = str(ipaddress.ip_address(coz.address) + 100)
    known = Path(coz.folder, "known_hosts")
    before, ways = known.read_text(), ((coz, "axiom"), (axiom, "coz"))
    renumber(coz, address)
    try:
        # What an operator says yes to at the first login.
        known.write_text(before + before.replace(f"{coz.address} ", f"{address} "))
        for sender, peer in ways:
            assert outlast(sender, "ping", peer, check=False) == ""
        with bent(coz, ansible_host=address, outlast_address=address):
            done = hosts.play("site.yml")
            assert done.returncode == 0, done.stdout
            assert "2 of 2 nodes are well" in done.stdout
            for sender, peer in ways:
                assert outlast(sender, "ping", peer)
                assert outlast(sender, "fetch", peer)
            rules = axiom.console("nft", "list", "table", "inet", "outlast").split()
            assert address in rules
            assert coz.address not in rules
            assert changed(hosts.play("site.yml").stdout) == 0
    finally:
        renumber(coz, coz.address)
        known.write_text(before)
        done = hosts.play("site.yml")
    assert done.returncode == 0, done.stdout
