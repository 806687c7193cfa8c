"""What modules say that ran as the agents' user, who may have said it in their place."""

from __future__ import annotations

from plugins.plugin_utils import hearsay


def test_what_outweighs_the_inventory_does_not_pass() -> None:
    """Facts, and whatever else Ansible acts upon, are left out; what was asked for comes through."""
    lie = {"changed": True, "own": "whsec_x", "ansible_facts": {"outlast_home": "/tmp"}, "ansible_stats": {"data": {}}}
    assert hearsay.believed(lie, "own") == {"changed": True, "own": "whsec_x"}


def test_a_value_of_another_kind_is_none() -> None:
    """Nothing but texts and plain flags gets into the templates of other machines."""
    assert hearsay.believed({"changed": [1], "failed": True, "msg": "no", "own": {"a": 1}}, "own") == {
        "changed": False,
        "failed": True,
        "msg": "no",
    }
