"""The roles' argument specs and the runtime's configuration say the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from outlast.config import Agent, Breaker, Files, Health, Messages, Retry, Stop

ROLE = Path(__file__).parents[2] / "roles" / "runtime"
OPTIONS = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]["options"]


@pytest.mark.parametrize("section", [Agent, Messages, Retry, Breaker, Health, Stop, Files])
def test_every_field_of_node_yml_can_be_set_in_the_inventory(section: type) -> None:
    """What the runtime knows, the inventory can say under outlast_SECTION, and nothing else."""
    spec = OPTIONS[f"outlast_{section.__name__.lower()}"]["options"]
    assert sorted(spec) == sorted(section.__struct_fields__)  # type: ignore[attr-defined]
