"""OpenClaw's configuration: rendered without a secret, looked at by OpenClaw, put in place on trial, taken back whole."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.live import free_port
from support.openclaw import release

from outlast.errors import ConfigError
from outlast.home import Home
from outlast.openclaw import proving, wishes
from outlast.openclaw.applying import Applying, main
from outlast.openclaw.furnishing import furnish
from outlast.openclaw.place import Place
from outlast.openclaw.settings import OpenClaw

sys.path.append(str(Path(__file__).parents[2] / "collections"))

from ansible_collections.outlast.agents.plugins.action import openclaw_config  # noqa: E402
from ansible_collections.outlast.agents.plugins.plugin_utils.openclaw_render import render  # noqa: E402

# Takes every configuration, and copies a state as a file that says by whom.
COPIES = """#!/bin/sh
for last; do :; done
[ "$2" = config ] || echo {name} > "$last"
echo '{{"valid":true,"verified":true,"path":"x","warnings":[]}}'
"""
GOOD = '#!/bin/sh\necho \'{"valid":true,"path":"x","warnings":[]}\'\n'


def rendered(home: str = "/h", **values: Any) -> dict[str, Any]:
    """What is rendered for the node axiom."""
    found: dict[str, Any] = json.loads(
        render({f"openclaw_{name}": value for name, value in values.items()}, "axiom", home)
    )
    return found


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A node's OpenClaw whose program takes every configuration."""
    for name in ("node/bin/node", "node_modules/openclaw/openclaw.mjs"):
        (tmp_path / "release" / name).parent.mkdir(parents=True)
        (tmp_path / "release" / name).write_text(GOOD)
        (tmp_path / "release" / name).chmod(0o755)
    (tmp_path / "home/etc").mkdir(parents=True)
    return Place(Home(tmp_path / "home"), OpenClaw(str(tmp_path / "release"), free_port(), "axiom"))


def put(place: Place, config: str, secrets: dict[str, str] | None = None) -> dict[str, Any]:
    """Put a configuration in place."""
    return Applying(place).apply(config, secrets or {}, dry_run=False)


def test_nothing_said_is_a_node_with_one_agent_behind_loopback() -> None:
    """The least: the node's own agent in the node's workspace, a gateway that only this machine reaches, with a token."""
    config = rendered()
    assert config["agents"] == {"entries": {"axiom": {"name": "axiom", "workspace": "/h/workspace"}}}
    gateway = config["gateway"]
    assert (gateway["mode"], gateway["bind"], gateway["port"], gateway["auth"]["mode"]) == (
        "local",
        "loopback",
        18789,
        "token",
    )
    assert gateway["auth"]["token"] == {"source": "file", "provider": "outlast-tokens", "id": "/gateway/token"}
    assert config["hooks"] == {"$include": "./hooks.json"}
    assert config["discovery"]["mdns"]["mode"] == "off"


def test_a_placeholder_becomes_a_reference_wherever_it_stands() -> None:
    """A secret is a name in the file that the gateway reads, and nothing but whole placeholders are touched."""
    config = rendered(
        providers={"one": {"apiKey": "secret:KEY", "baseUrl": "http://x/secret:KEY"}},
        channels={"telegram": {"accounts": [{"botToken": "secret:BOT"}]}},
        config={"tools": {"web": {"key": "secret:WEB"}}},
    )
    key = {"source": "file", "provider": "outlast", "id": "/KEY"}
    assert config["models"]["providers"]["one"] == {"apiKey": key, "baseUrl": "http://x/secret:KEY"}
    assert config["channels"]["telegram"]["accounts"][0]["botToken"]["id"] == "/BOT"
    assert config["tools"]["web"]["key"]["id"] == "/WEB"


def test_several_agents_say_whose_heartbeat_it_is() -> None:
    """Two agents: ownership is explicit, the node's own has the node's workspace, the other one its own folder."""
    agents = {"scribe": {"name": "Scribe", "files": "x"}, "axiom": {"model": {"primary": "a/b"}}}
    found = rendered(agents=agents, model={"primary": "c/d", "fallbacks": ["e/f"]})["agents"]
    assert found["ownership"] == "explicit"
    assert found["defaults"]["heartbeat"]["agentId"] == found["defaults"]["systemAgent"]["agentId"] == "axiom"
    assert found["defaults"]["model"] == {"primary": "c/d", "fallbacks": ["e/f"]}
    assert found["defaults"]["skipBootstrap"] is True
    assert found["entries"]["axiom"] == {
        "name": "axiom",
        "workspace": "/h/workspace",
        "model": {"primary": "a/b", "fallbacks": []},
    }
    assert found["entries"]["scribe"]["workspace"] == "/h/var/home/.openclaw/workspace-scribe"


def test_free_configuration_is_laid_over_the_rest() -> None:
    """Mappings are joined, all else is replaced."""
    config = rendered(providers={"one": {}}, config={"models": {"mode": "replace"}, "logging": {"level": "debug"}})
    assert config["models"] == {"providers": {"one": {}}, "mode": "replace"}
    assert config["logging"]["level"] == "debug"
    assert config["logging"]["file"] == "/h/var/outputs/openclaw.log"


def test_a_second_time_nothing_is_changed_and_secrets_are_private(place: Place) -> None:
    """What is there stays; each file is its owner's alone, and the secret is in its own file only."""
    assert put(place, "{}\n", {"KEY": "sk-1"})["changed"]
    assert not put(place, "{}\n", {"KEY": "sk-1"})["changed"]
    files = [path for path in place.folder.rglob("*") if path.is_file()]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in files)
    assert [path.name for path in files if b"sk-1" in path.read_bytes()] == ["secrets.json"]
    assert (place.state / "workspace").readlink() == place.home.workspace


def test_asked_only_what_would_be_done_it_does_nothing(place: Place) -> None:
    """Check mode on a clean host says that there is something to do."""
    assert Applying(place).apply("{}", {}, dry_run=True)["changed"]
    assert not place.folder.exists()


def test_a_node_that_is_to_get_its_first_openclaw_says_what_would_be(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In check mode its node.yml is not rewritten, and so says nothing of one yet; otherwise that is an error."""
    place.home.config.write_text(
        "{node: axiom, listen: {host: 127.0.0.1, port: 1024}, agent: {command: [/bin/true]}}\n"
    )
    for dry_run, said in ((True, {"changed": True, "trial": True, "edited": ""}), (False, None)):
        told = json.dumps({"config": "{}", "secrets": {}, "dry_run": dry_run})
        monkeypatch.setattr(sys, "stdin", io.StringIO(told + "\n"))
        assert main(["--home", str(place.home.root), "apply"]) == 0
        answer = json.loads(capsys.readouterr().out)
        assert answer == said if said else answer["error"].startswith("openclaw: this node has none; ")
    assert not place.folder.exists()


def test_a_node_without_a_runtime_says_what_would_be(tmp_path: Path) -> None:
    """In check mode nothing is installed that could look; whoever asks finds all that an answer has."""

    def nothing(command: str, in_data: bytes | None) -> dict[str, Any]:
        return {"rc": 127, "stdout": "", "stderr": "not there"}

    task = SimpleNamespace(args={"home": str(tmp_path)}, check_mode=True)
    action = SimpleNamespace(_task=task, _low_level_execute_command=nothing)
    answer = openclaw_config.ask(action, "applying", ["apply"], {})
    assert (answer["changed"], answer["trial"]) == (True, True)
    task.check_mode = False
    assert openclaw_config.ask(action, "applying", ["apply"], {})["error"].startswith(
        f"{tmp_path}: not installed; mend: "
    )


def test_what_is_on_trial_goes_back_whole(place: Place) -> None:
    """Configuration and secrets of before are there again, also after a trial that was interrupted and tried once more."""
    put(place, '{"first": 1}', {"KEY": "sk-1"})
    asyncio.run(Applying(place).prove(0.1))
    (place.folder / "before").rename(place.folder / "proved")
    (place.folder / "release").write_text("2026.9.5-x")
    put(place, '{"second": 2}', {"KEY": "sk-2"})
    put(place, '{"third": 3}', {"KEY": "sk-3"})
    proof = asyncio.run(Applying(place).prove(0.1))
    assert not proof["ok"]
    back = Applying(place).back(0.1)
    assert back["changed"] and back["release"] == "2026.9.5-x"
    assert (place.folder / "release").read_text() == "2026.9.5-x\n", "what the caller goes back to, by then or later"
    again = asyncio.run(Applying(place).resume(0.1))
    assert "its service does not run" in again["why"]
    assert place.config.read_text() == '{"first": 1}'
    assert json.loads(place.secrets.read_text()) == {"KEY": "sk-1"}
    kept = {path.name.split("-", 1)[1]: path.read_text() for path in (place.folder / "replaced").iterdir()}
    assert kept["refused-openclaw.json"] == '{"third": 3}'
    assert Applying(place).back(0.1)["why"] == "there is nothing before it"
    assert not place.proving.exists()


def test_a_release_that_another_node_switched_is_on_trial_here_as_well(place: Place) -> None:
    """Two nodes of one machine have one installation: each proves it, and nothing is new the next time."""
    put(place, "{}")
    (place.folder / "before").rename(place.folder / "proved")
    assert not put(place, "{}")["trial"]
    (place.folder / "release").write_text("2026.9.5-x")
    assert put(place, "{}")["trial"]
    assert Applying(place).back(0.1)["release"] == "2026.9.5-x"


def test_a_release_that_joins_a_trial_of_the_configuration_goes_back_as_well(place: Place) -> None:
    """A trial that was cut off before another release came: what both go back to is the release that was there before both."""
    put(place, '{"first": 1}')
    (place.folder / "before").rename(place.folder / "proved")
    put(place, '{"second": 2}')
    (place.home.root.parent / "release").rename(place.home.root.parent / "next")
    put(Place(place.home, OpenClaw(str(place.home.root.parent / "next"), 28999, "axiom")), '{"second": 2}')
    back = Applying(Place(place.home, OpenClaw(str(place.home.root.parent / "next"), 28999, "axiom"))).back(0.1)
    assert back["release"] == "release"


def test_the_state_is_copied_before_another_release_gets_it(tmp_path: Path) -> None:
    """By the release that made it, once a trial; going back says which port and agent belong to what was before."""
    releases, home = tmp_path / "openclaw/releases", Home(tmp_path / "home")
    (home.root / "etc").mkdir(parents=True)
    for name in ("1-a", "2-b"):
        for part in ("node/bin/node", "node_modules/openclaw/openclaw.mjs"):
            (releases / name / part).parent.mkdir(parents=True)
            (releases / name / part).write_text(COPIES.format(name=name))
            (releases / name / part).chmod(0o755)
    (releases.parent / "current").symlink_to("releases/1-a")
    settings = OpenClaw(str(releases.parent / "current"), 28789, "axiom")
    first = Place(home, settings)
    put(first, '{"first": 1}')
    (first.folder / "before").rename(first.folder / "proved")
    (first.state / "state").mkdir(parents=True)
    (releases.parent / "current").unlink()
    (releases.parent / "current").symlink_to("releases/2-b")
    second = Place(home, OpenClaw(settings.release, 28999, "scribe"))
    for text in ('{"second": 2}', '{"third": 3}'):
        put(second, text)
        (copy,) = first.snapshots.glob("openclaw-*")
        assert copy.read_text() == "1-a\n"
        assert (first.folder / "before/copy").read_text() == copy.name
    back = Applying(second).back(1.0)
    assert back["settings"] == {"port": 28789, "agent": "axiom"}
    assert first.config.read_text() == '{"first": 1}'


def test_who_has_something_on_trial_is_left_alone_for_a_time(place: Place) -> None:
    """Until it is over, or its time is; a file that says nothing, or too much, holds nobody up."""
    put(place, "{}")
    now = time.time()
    assert not proving.is_running(place, now)
    asyncio.run(Applying(place).prove(0.1))
    assert proving.is_running(place, now) and not proving.is_running(place, now + 600)
    for said in ("", "soon", "9e99", "nan"):
        place.proving.write_text(said)
        assert not proving.is_running(place, now)
    proving.end(place)
    assert not place.proving.exists()


def test_an_edit_by_hand_is_kept_and_said(place: Place) -> None:
    """The inventory's configuration comes back, and what somebody wrote over it is still there to be read."""
    put(place, "{}")
    place.config.write_text('{"mine": 1}')
    answer = put(place, "{}")
    assert answer["changed"]
    assert Path(answer["edited"]).read_text() == '{"mine": 1}'
    assert place.config.read_text() == "{}"


def test_a_gateway_that_a_person_stopped_is_left_so(place: Place) -> None:
    """Nothing is proven behind a person's back, and nothing is taken back either: it is on trial until it was started."""
    put(place, "{}")
    lock = wishes.lock(place)
    assert lock is not None
    place.launched.write_text('{"phase": "stopped", "since": 0, "launcher": 1}')
    proof = asyncio.run(Applying(place).prove(5))
    assert (proof["ok"], proof["stopped"]) == (True, True)
    assert put(place, "{}")["trial"] and not place.proving.exists()


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ({"gateway": {"port": "x"}}, "openclaw_config: gateway.port: "),
        ({"foo": 1}, "openclaw_config: Unrecognized key"),
        (
            {"models": {"providers": {"one": {"baseUrl": "http://x", "apiKey": "${NOT_THERE}", "models": []}}}},
            'openclaw_providers: models.providers.one.apiKey: Missing env var "NOT_THERE"',
        ),
        ({"agents": {"entries": {"axiom": {"name": 5}}}}, "openclaw_agents: agents.entries.axiom"),
    ],
)
def test_what_openclaw_itself_refuses_or_warns_of_changes_nothing(
    place: Place, config: dict[str, Any], line: str
) -> None:
    """The real OpenClaw looks at it; its word becomes one line that names the variable, and what ran stays."""
    put(place, '{"before": 1}')
    real = Place(place.home, OpenClaw(str(release()), place.settings.port, "axiom"))
    text = json.dumps({**rendered(str(place.home.root)), **config})
    with pytest.raises(ConfigError) as refused:
        put(real, text)
    assert line in str(refused.value)
    assert "\n" not in str(refused.value)
    assert place.config.read_text() == '{"before": 1}'
    assert not (place.folder / "candidate.json").exists()


def test_what_is_rendered_openclaw_itself_takes(place: Place) -> None:
    """Two agents, models, a secret's reference: no error and no warning from the real OpenClaw."""
    real = Place(place.home, OpenClaw(str(release()), place.settings.port, "axiom"))
    one = {"baseUrl": "http://127.0.0.1:9/v1", "api": "openai-completions", "apiKey": "secret:KEY", "models": []}
    agents = {"axiom": {"files": "x"}, "scribe": {"model": {"primary": "one/b"}}}
    text = render(
        {"openclaw_agents": agents, "openclaw_providers": {"one": one}, "openclaw_model": {"primary": "one/a"}},
        "axiom",
        str(place.home.root),
    )
    assert put(real, text, {"KEY": "sk"})["trial"]


def test_an_agents_file_is_written_where_nobody_changed_it(tmp_path: Path) -> None:
    """Missing, or as it was written here last: it is brought. Changed by an agent or a person: it stays, and is said."""
    home, root = Home(tmp_path / "home"), tmp_path / "space"
    (home.root / "etc/openclaw").mkdir(parents=True)

    def bring(dry_run: bool = False, **files: str) -> dict[str, Any]:
        named = {f"{name}.md": text for name, text in files.items()}
        packed = {
            name: {"content": base64.b64encode(text.encode()).decode(), "runs": False} for name, text in named.items()
        }
        return furnish(home, [{"root": str(root), "files": packed}], dry_run=dry_run)

    assert bring(dry_run=True, SOUL="one", AGENTS="a")["changed"]
    assert not root.exists()
    assert bring(SOUL="one", AGENTS="a", BOOTSTRAP="who am I?")["changed"]
    assert not bring(SOUL="one", AGENTS="a")["changed"]
    (root / "SOUL.md").write_text("grown")
    (root / "BOOTSTRAP.md").unlink()
    answer = bring(SOUL="two", AGENTS="b", BOOTSTRAP="who am I?")
    assert (answer["wrote"], answer["kept"]) == ([str(root / "AGENTS.md")], [str(root / "SOUL.md")])
    assert (root / "SOUL.md").read_text() == "grown"
    assert [path.read_text() for path in home.trash.iterdir()] == ["a"]
    assert not (root / "BOOTSTRAP.md").exists()
