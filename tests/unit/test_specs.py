"""The roles' argument specs and the runtime's configuration say the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from outlast.config import Agent, Breaker, Files, Health, Messages, Retry, Stop
from plugins.plugin_utils import specs

ROLE = Path(__file__).parents[2] / "roles" / "runtime"
OPTIONS = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]["options"]


@pytest.mark.parametrize("section", [Agent, Messages, Retry, Breaker, Health, Stop, Files])
def test_every_field_of_node_yml_can_be_set_in_the_inventory(section: type) -> None:
    """What the runtime knows, the inventory can say under outlast_SECTION, and nothing else."""
    spec = OPTIONS[f"outlast_{section.__name__.lower()}"]["options"]
    assert sorted(spec) == sorted(section.__struct_fields__)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "value", "wrong", "mend"),
    [
        ("outlast_port", "1880x", "'1880x' does not fit", "write a whole number: The port"),
        ("outlast_hardening", "maybe", "'maybe' does not fit", "write yes or no: Whether"),
        ("outlast_agent", {"comand": ["x"]}, "it knows no comand, only after_crash, ", "write a mapping: The agent"),
        ("outlast_agent_needs", ["internett"], "internett is none of internet, jit, home", "write a list: What agents"),
    ],
)
def test_a_value_that_does_not_fit_is_said_in_plain_words(name: str, value: object, wrong: str, mend: str) -> None:
    """What is wrong with a value reads like a sentence of the inventory's, not of the validator's."""
    found = next(one for one in specs.check([name], {name: value}) if one["field"] == name)
    assert found["wrong"].startswith(wrong) and found["mend"].startswith(mend), found
