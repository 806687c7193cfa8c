"""What a spawn order must be: refused when it is asked for, in one line with the mend, and not after three attempts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from outlast.config import load_config
from outlast.core.capability import ACTIONS
from outlast.errors import BadInput, ConfigError
from outlast.settings import SubAgents
from outlast.work.sandbox import readable
from outlast.work.spawned import Spawn
from outlast.work.spawning import accepted, promised

SEEN = readable([])


def taken(seen: tuple[Path, ...] = SEEN, ours: SubAgents | None = None, **fields: Any) -> Any:
    """The ticket of an order."""
    order = Spawn(**{"id": "subd1zkffdmvrmx", "task": "x", "command": [sys.executable], **fields})
    return accepted(order, ours or SubAgents(), seen, "now")


def test_an_order_that_can_work_is_taken_as_it_is() -> None:
    """What is not said has the times of node.yml; what is asked for is kept."""
    ticket = taken(allow=["message:note", "write:artifacts"], timeout="90s", expect={"a/b.md": None})
    assert (ticket.timeout_s, ticket.heartbeat_s, ticket.attempts, ticket.status) == (90.0, 1800.0, 0, "queued")
    assert ticket.allow == ["message:note", "write:artifacts"] and ticket.expect == {"a/b.md": None}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"allow": ["write:everything"]}, "--allow: 'write:everything' is not known; some of: "),
        (
            {"allow": ["use:network"]},
            "--allow: use:network is not to be had here; set network: true in outlast_subagents",
        ),
        ({"timeout": "31m"}, "--timeout: 31m is more than subagents.timeout, 30m; ask for less"),
        ({"timeout": "soon"}, "--timeout: 'soon' is not a duration; write a number above 0"),
        ({"heartbeat": "1h"}, "--heartbeat: 1h is more than subagents.heartbeat, 30m"),
        (
            {"command": ["/no/such"]},
            "COMMAND: the sub-agent's command /no/such does not exist; correct what follows --",
        ),
        ({"command": ["no-such-program"]}, "COMMAND: the sub-agent's command no-such-program is not on the PATH"),
        (
            {"expect": {"../out": None}},
            "--expect: '../out' is not a path below the artifact; write it like plots/fig.png",
        ),
    ],
)
def test_an_order_that_cannot_work_is_refused(fields: dict[str, Any], said: str) -> None:
    """The field, what is wrong, and the mend."""
    with pytest.raises(BadInput) as error:
        taken(**fields)
    assert str(error.value).startswith(said)


def test_the_network_is_allowed_where_both_say_so() -> None:
    """node.yml and the order."""
    assert taken(ours=SubAgents(network=True), allow=["use:network"]).allow == ["use:network"]


def test_a_program_that_it_would_not_see_is_refused(tmp_path: Path) -> None:
    """A script outside what is shown would fail three times without anybody knowing why."""
    program = tmp_path / "mine.sh"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)
    with pytest.raises(
        BadInput, match=r"a sub-agent does not see .*mine\.sh; put it in the workspace and add --allow read"
    ):
        taken(command=[str(program)])
    assert taken(seen=(*SEEN, tmp_path), command=[str(program)]).command == [str(program)]
    assert taken(seen=(), command=[str(program)]).command == [str(program)]


def test_an_intent_names_as_many_files_as_it_has_room_for() -> None:
    """Those that were expected come first; one that no record can hold is left to the manifest."""
    files = ["b.md", "odd, name", "a.md", *(f"{'x' * 20}{at}" for at in range(20))]
    names = promised(files, {"b.md"})
    assert names[:2] == ["b.md", "a.md"] and "odd, name" not in names and len(", ".join(names)) <= 120


def test_every_action_has_words_for_people() -> None:
    """`outlast spawn --help` lists them."""
    assert all(what for what in ACTIONS.values())


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("{readable: [here]}", "subagents.readable: 'here' is not an absolute path; begin it with /"),
        ("{timeout: 8d}", "subagents.timeout: longer than a week; make it 7d or less"),
        ("{sandbox: maybe}", "subagents.sandbox: "),
        ("{memory: much}", "subagents.memory: 'much' is not a size"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(tmp_path: Path, section: str, said: str) -> None:
    """Of subagents as of every other section."""
    path = tmp_path / "node.yml"
    lines = [
        "node: coz",
        "listen: {host: 127.0.0.1, port: 7400}",
        "agent: {command: [/bin/true]}",
        f"subagents: {section}",
    ]
    path.write_text("\n".join(lines))
    with pytest.raises(ConfigError) as error:
        load_config(path)
    assert str(error.value).startswith(said)
