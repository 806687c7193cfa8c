"""The roles' argument specs and the runtime's configuration say the same."""

from __future__ import annotations

from pathlib import Path
from typing import get_type_hints

import msgspec
import pytest
import yaml

from outlast.settings import Config
from plugins.plugin_utils import specs

ROLE = Path(__file__).parents[2] / "roles" / "runtime"
OPTIONS = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]["options"]


SECTIONS = {
    name: section
    for name, section in get_type_hints(Config).items()
    if isinstance(section, type) and issubclass(section, msgspec.Struct) and name != "listen"
}


@pytest.mark.parametrize("name", SECTIONS)
def test_every_field_of_node_yml_can_be_set_in_the_inventory(name: str) -> None:
    """What the runtime knows, the inventory can say under outlast_SECTION, and nothing else."""
    assert sorted(OPTIONS[f"outlast_{name}"]["options"]) == sorted(SECTIONS[name].__struct_fields__)


@pytest.mark.parametrize(
    ("name", "value", "wrong", "mend"),
    [
        ("outlast_port", "1880x", "'1880x' does not fit", "write a whole number: The port"),
        ("outlast_hardening", "maybe", "'maybe' does not fit", "write yes or no: Whether"),
        ("openclaw_providers", "sk-live", "is no mapping", "write a mapping: Providers"),
        ("outlast_retry", True, "is no mapping", "write a mapping: "),
        ("outlast_retry", {1: 2}, "its key 1 is no text", 'write it in quotes: "1"'),
        ("openclaw_config", "a=b", "is no mapping", "write a mapping: Whatever"),
        ("outlast_agent", {"comand": ["x"]}, "it knows no comand, only after_crash, ", "did you mean command?"),
        ("outlast_messages", {"rat": 1}, "it knows no rat, only ", "did you mean rate?"),
        ("outlast_agent", {"colour": "blue"}, "it knows no colour, only ", "write a mapping: The agent"),
        ("outlast_agent_needs", ["internett"], "internett is none of internet, jit, home", "did you mean internet?"),
    ],
)
def test_a_value_that_does_not_fit_is_said_in_plain_words(name: str, value: object, wrong: str, mend: str) -> None:
    """What is wrong with a value reads like a sentence of the inventory's, not of the validator's."""
    found = next(one for one in specs.check([name], {name: value}) if one["field"] == name)
    assert found["wrong"].startswith(wrong) and found["mend"].startswith(mend), found


def test_each_key_that_is_not_known_has_its_own_mend() -> None:
    """Two slips in one mapping are two findings, each with what was meant."""
    found = specs.check([], {"outlast_messages": {"rat": 1, "tolerence": "5m"}})
    mends = [one["mend"] for one in found if one["field"] == "outlast_messages"]
    assert mends == ["did you mean rate?", "did you mean tolerance?"], found


@pytest.mark.parametrize(
    ("extra", "wrong", "mend"),
    [
        ({"empty_trahs": "yes"}, "is not known here", "did you mean empty_trash?"),
        ({"empty_trash": "maybe"}, "'maybe' is neither yes nor no", "write empty_trash=yes or empty_trash=no"),
        ({"data": "trahs"}, "'trahs' is none of keep, trash", "did you mean trash?"),
        ({"outlast_hoem": "/x"}, "unknown variable", "did you mean outlast_home?"),
    ],
)
def test_what_is_asked_for_must_be_understood(extra: dict[str, object], wrong: str, mend: str) -> None:
    """A slip in what is given with -e is said before anything is done; what the inventory may use is let through."""
    known = {"empty_trash": "bool", "data": ["keep", "trash"]}
    (found,) = specs.asked({**extra, "colour": "blue", "outlast_port": 1}, known)
    assert (found["wrong"], found["mend"]) == (wrong, mend)
    assert not specs.asked({"empty_trash": "yes", "data": "keep"}, known)
