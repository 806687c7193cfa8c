"""What an inventory says of OpenClaw and its secrets: all that is wrong is said at once, and no secret with it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[2] / "collections"))

from ansible_collections.outlast.agents.plugins.plugin_utils.openclaw_values import check, resolve  # noqa: E402

FINE: dict[str, Any] = {"openclaw_version": "2026.9.6", "openclaw_port": 18789}


def plain(raw: Any) -> Any:
    """Where nothing is templated."""
    if raw == {"value": "{{ vault_lost }}"}:
        raise ValueError("cannot be worked out: 'vault_lost' is undefined")
    return raw


def lines(found: list[Mapping[str, str]]) -> list[str]:
    """Findings as a person sees them."""
    return ["{field}: {wrong}; mend: {mend}".format(**one) for one in found]


def checked(**values: Any) -> list[str]:
    """What is wrong with these variables of a node called axiom."""
    return lines(check({**FINE, **values}, "axiom", "/nowhere", {"taken": {}}))


def test_every_way_to_a_secret_leads_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value, a variable of the environment, and what a command prints but for its line end."""
    monkeypatch.setenv("FROM_HERE", "sk-env")
    secrets = {
        "A": {"value": "sk-value"},
        "B": {"env": "FROM_HERE"},
        "C": {"command": ["printf", "sk one\\nsk two\\n"]},
    }
    assert resolve(secrets, plain, {}) == ({"A": "sk-value", "B": "sk-env", "C": "sk one\nsk two"}, [])


def test_all_that_is_missing_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undefined, empty, unset, failed, not there, silent, misspelt: a line each, with field and mend."""
    monkeypatch.delenv("NOT_SET", raising=False)
    monkeypatch.setenv("BLANK", " ")
    secrets = {
        "UNDEFINED": {"value": "{{ vault_lost }}"},
        "EMPTY": {"value": ""},
        "UNSET": {"env": "NOT_SET"},
        "BLANK": {"env": "BLANK"},
        "FAILED": {"command": ["sh", "-c", "echo not signed in >&2; exit 3"]},
        "LOST": {"command": ["no-such-program-anywhere"]},
        "SILENT": {"command": ["true"]},
        "MISSPELT": {"vaule": "x"},
        "TWO": {"value": "x", "env": "PATH"},
        "no-name": {"value": "x"},
        "FINE": {"value": "x"},
    }
    values, found = resolve(secrets, plain, {})
    assert values == {"FINE": "x"}
    assert [one["field"].removeprefix("openclaw_secrets.") for one in found] == [*secrets][:-1]
    assert all(one["wrong"] and one["mend"] for one in found)
    assert next(line for line in lines(found) if "FAILED" in line) == (
        "openclaw_secrets.FAILED: its command ended with 3; mend: run the command of openclaw_secrets.FAILED in a terminal here,"
        " to see why (are you signed in?)"
    )


def test_no_finding_holds_a_secret() -> None:
    """What a command printed before it failed, and what stands in a value of a wrong kind, is in no message."""
    secrets = {
        "A": {"command": ["sh", "-c", "echo sk-printed; exit 1"]},
        "B": {"value": ["sk-listed"]},
        "C": {"value": "sk-twice", "env": "X"},
        "D": {"env": "sk-live-abc"},
        "E": {"command": ["sh", "-c", "echo bad token sk-live >&2; exit 1"]},
        "F": {"command": ["sk-no-such-program"]},
        "G": {"command": ["sk\0"]},
    }
    _, found = resolve(secrets, plain, {})
    assert len(found) == 7
    assert "sk-" not in str(found)


def test_a_command_runs_once_whoever_names_it(tmp_path: Path) -> None:
    """A password manager asks its owner once, not once a host."""
    count = tmp_path / "count"
    command = ["sh", "-c", f"echo x >> {count}; echo sk"]
    said: dict[tuple[str, ...], Any] = {}
    for _ in range(3):
        assert resolve({"A": {"command": command}, "B": {"command": command}}, plain, said)[0] == {"A": "sk", "B": "sk"}
    assert count.read_text().splitlines() == ["x"]


def test_a_placeholder_without_its_secret_is_found_where_it_stands() -> None:
    """In providers, channels and free configuration, with the names that there are."""
    found = checked(
        openclaw_providers={"one": {"apiKey": "secret:KEY"}},
        openclaw_channels={"telegram": {"accounts": [{"botToken": "secret:LOST"}]}},
        openclaw_config={"tools": {"x": "secret:"}},
        openclaw_secrets={"KEY": {"value": "x"}},
    )
    assert len(found) == 2
    assert found[0].startswith(
        "openclaw_channels.telegram.accounts[0].botToken: secret:LOST is not in openclaw_secrets"
    )
    assert "(it has KEY)" in found[0]
    assert found[1].startswith("openclaw_config.tools.x: ")


def test_a_secret_in_plain_words_is_refused() -> None:
    """It would lie in the configuration and in every copy of it; its value is not repeated."""
    found = checked(
        openclaw_providers={"one": {"apiKey": "sk-hush", "models": [{"token": ""}]}, "two": {"apiKey": "secret:KEY"}},
        openclaw_channels={"telegram": {"accounts": [{"botToken": "123:hush"}]}},
        openclaw_secrets={"KEY": {"value": "x"}},
    )
    assert [line.partition(": ")[0] for line in found] == [
        "openclaw_providers.one.apiKey", "openclaw_channels.telegram.accounts[0].botToken",
    ]  # fmt: skip
    assert "hush" not in "".join(found)


def test_what_outlast_answers_for_is_not_said_otherwise() -> None:
    """Where the gateway listens, its tokens and its agents have variables of their own; each is named with what to do."""
    config = {"gateway": {"port": 1, "bind": "lan", "controlUi": {}}, "agents": {"entries": {}}, "update": {"auto": {}}}
    found = checked(openclaw_config=config)
    assert [line.partition(": is not said here")[0] for line in found] == [
        f"openclaw_config: {path}" for path in ("gateway.bind", "gateway.port", "agents.entries", "update")
    ]


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"openclaw_version": "latest"}, "openclaw_version: 'latest' is no version"),
        ({"openclaw_port": 80}, "openclaw_port: 80 is no port"),
        ({"openclaw_agent": "nope"}, "openclaw_agent: there is no agent nope"),
        ({"openclaw_agents": {"Big": {}}}, "openclaw_agents: 'Big' is no id"),
        ({"openclaw_agents": {"a": {"soul": 1}}}, "openclaw_agents.a: it knows no soul"),
        ({"openclaw_agents": {"a": {"files": "gone"}}}, "openclaw_agents.a: files: there is no folder gone"),
        ({"openclaw_agents": {"a": {"model": {"fallbacks": []}}}}, "openclaw_agents.a: it names no primary model"),
        ({"openclaw_model": {"primary": "gpt"}}, "openclaw_model: 'gpt' is no model"),
        ({"openclaw_schedule": {"j": {"cron": "* * * * *"}}}, "openclaw_schedule.j: it has no message"),
        ({"openclaw_schedule": {"j": "x"}}, "openclaw_schedule.j: is no mapping"),
        (
            {"openclaw_schedule": {"taken": {"cron": "@daily", "message": "y"}}},
            "openclaw_schedule.taken: outlast_jobs has",
        ),
        (
            {"openclaw_schedule": {"j": {"cron": "@daily", "message": "y", "agent": "z"}}},
            "openclaw_schedule.j: there is no agent z",
        ),
    ],
)
def test_each_mistake_is_one_line(values: dict[str, Any], line: str) -> None:
    """Field, what is wrong, and the mend."""
    found = checked(**values)
    assert len(found) == 1
    assert found[0].startswith(line)
    assert "; mend: " in found[0]


@pytest.mark.parametrize(
    ("values", "lines"),
    [
        ({"agent": ["main"]}, ["openclaw_agent: is no text"]),
        ({"agents": {1: {}}}, ['openclaw_agents: its key 1 is no text; mend: write it in quotes: "1"']),
        ({"agents": {"a": "sk-x"}}, ["openclaw_agents.a: is no mapping"]),
        ({"agents": {"a": {1: 2, "x": 3}}}, ["openclaw_agents.a: its key 1 is no text"]),
        (
            {"agents": {"a": {"workspace": 7, "name": 5, "files": []}}},
            ["openclaw_agents.a.name: ", "openclaw_agents.a.workspace: "],
        ),
        ({"agents": {"a": {"config": ["sk-x"]}}}, ["openclaw_agents.a.config: is no mapping"]),
        (
            {"agents": {"a": {"model": "a/b"}}, "model": {"primary": ["a/b"]}},
            ["openclaw_model: it names", "openclaw_agents.a: it names"],
        ),
        (
            {"model": {"primary": "a/b", "fallbacks": "c/d"}},
            ["openclaw_model: it names no primary model, or fallbacks that"],
        ),
        (
            {"schedule": {"j": {"cron": "@daily", "message": "m", "agent": ["x"]}}},
            ["openclaw_schedule.j.agent: is no text"],
        ),
        (
            {"schedule": {"j": {"cron": 5, "message": ["m"], "zone": 7}}},
            [f"openclaw_schedule.j.{key}: is" for key in ("cron", "zone", "message")],
        ),
        (
            {"secrets": {1: {"value": "x"}, "A": {}}, "providers": {"x": "secret:NOPE"}},
            ["openclaw_secrets: its key 1 is no"],
        ),
        ({"channels": {"a": [{"b": {True: "sk-x"}}]}}, ["openclaw_channels.a[0].b: its key True is no text"]),
        (
            {"stop_within": -5, "port": "0"},
            ["openclaw_port: 0 is not above 0", "openclaw_stop_within: -5 is not above 0"],
        ),
        ({"dir": "opt/openclaw"}, ["openclaw_dir: 'opt/openclaw' is not an absolute path"]),
        (
            {"watch": {"alive_every": "soon", "rest": "-5s", "snapshots": -1}},
            [f"openclaw_watch.{key}: " for key in ("snapshots", "alive_every", "rest")],
        ),
        (
            {"schedule": {"a": {"cron": "every day", "message": "m"}, "b": {"cron": "61 * * * *", "message": "m"}}},
            ["openclaw_schedule.a: 'every day' has 2 fields", "openclaw_schedule.b: "],
        ),
        (
            {"config": {"gateway": None, "secrets": {"providers": "sk-x"}, "hooks": {"token": None}}},
            [
                "openclaw_config: gateway: is no mapping",
                "openclaw_config: hooks.token: is not said here",
                "openclaw_config: secrets.providers: is no mapping",
            ],
        ),
        (
            {"config": {"gateway": {"tailscale": {"mode": "funnel"}}}},
            ["openclaw_config: gateway.tailscale: is not said here"],
        ),
        (
            {"providers": {"a": {"headers": {"Authorization": "Bearer secret:K"}}}},
            ["openclaw_providers.a.headers.Authorization: a text with secret:NAME in it is taken as it stands"],
        ),
        ({"providers": {"a": "secret:sk-x"}}, ["openclaw_providers.a: what follows secret: is no name of a secret"]),
    ],
)
def test_what_is_of_a_wrong_kind_is_said_by_its_path(values: dict[str, Any], lines: list[str]) -> None:
    """Each in one line with its mend, before anything is changed, and no value that may be a secret."""
    found = checked(**{f"openclaw_{name}": value for name, value in values.items()})
    assert len(found) == len(lines), found
    assert all(
        one.startswith(line) and "; mend: " in one for one, line in zip(sorted(found), sorted(lines), strict=True)
    ), found
    assert "sk-x" not in str(found)


def test_an_agent_works_in_a_folder_of_its_own_below_the_home() -> None:
    """Whole paths, no two the same, however they are written, the node's own agent's among them."""
    agents = {"axiom": {}, "b": {"workspace": "~/b"}, "c": {"workspace": "c"}, "d": {"workspace": "/srv/axiom/x/../workspace/"},
              "e": {"workspace": "/srv/axiom-e"}, "f": {"workspace": "/srv/axiom"}, "g": {"workspace": "/srv/axiom/g"}}  # fmt: skip
    found = lines(check({**FINE, "openclaw_agents": agents}, "axiom", "/nowhere", {}, "/srv/axiom/"))
    assert [line.partition("; mend: ")[0] for line in found] == [
        "openclaw_agents.b: workspace: '~/b' is not an absolute path",
        "openclaw_agents.c: workspace: 'c' is not an absolute path",
        "openclaw_agents.d: workspace: /srv/axiom/x/../workspace/ is where axiom works",
        "openclaw_agents.e: workspace: /srv/axiom-e is not below /srv/axiom",
        "openclaw_agents.f: workspace: /srv/axiom is not below /srv/axiom",
    ]


def test_what_is_right_is_not_complained_about() -> None:
    """An inventory with all of it has no findings."""
    assert not checked(
        openclaw_agents={"axiom": {"model": {"primary": "a/b", "fallbacks": ["c/d/e"]}}, "scribe": None},
        openclaw_agent="scribe",
        openclaw_schedule={
            "morning": {"cron": "0 7 * * *", "message": "hello", "agent": "scribe", "zone": "Europe/Berlin"}
        },
        openclaw_config={"tools": {"exec": {"mode": "full"}}},
        openclaw_providers={"one": {"apiKey": "secret:KEY"}},
        openclaw_secrets={"KEY": {"env": "KEY"}},
    )
