"""An OpenClaw that somebody installed: what is seen of it, and every reason why it cannot be adopted yet, in one line each."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.oldclaw import CONFIG, installed, listed, openclaw_adopt

from outlast.core.plainjson import to_json

sys.path.append(str(Path(__file__).parents[2] / "collections"))

from ansible_collections.outlast.agents.plugins.module_utils.openclaw_old import OldTrouble, check, find, place  # noqa: E402

OPEN = """import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.execute("SELECT * FROM cron_jobs").fetchall()
print("open", flush=True)
sys.stdin.read()
"""


def lines(folder: Path | str, home: str = "/srv/axiom", **wish: Any) -> list[str]:
    """What stands in the way, as a person sees it."""
    told = {"from": str(folder), "operator": "", "agents": {"main": ""}, "version": "2026.9.6", **wish}
    return ["{field}: {wrong}; mend: {mend}".format(**one) for one in check(home, told)]


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """One with an agent, which nobody uses."""
    return installed(tmp_path / "pat/.openclaw")


@contextmanager
def used(database: Path) -> Iterator[int]:
    """Somebody has a database open; their process."""
    command = [sys.executable, "-c", OPEN, str(database)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"open\n"
        yield process.pid
        process.kill()


def test_one_that_nobody_uses_stands_in_nobodys_way(old: Path) -> None:
    """Nothing is said, and nothing of it was touched."""
    before = listed(old)
    assert lines(old) == []
    assert listed(old) == before
    assert find(str(old)).workspaces == {"main": str(old / "workspace")}


def test_one_that_runs_is_named_with_its_process_and_how_to_stop_it(old: Path) -> None:
    """Whatever the process is called: the kernel says who has its database open. Killed, it is in nobody's way any more, and
    what it left lying about does not count."""
    (old / "tmp/openclaw-0/gateway.state.lock").write_text(json.dumps({"pid": os.getpid()}))
    with used(old / "state/openclaw.sqlite") as pid:
        (found,) = lines(old)
    owner = pwd.getpwuid(os.getuid()).pw_name
    assert found.startswith(f"openclaw_adopt: the one at {old} runs (process {pid}, python")
    assert f"as {owner}: openclaw gateway stop, then openclaw gateway uninstall" in found
    assert "two gateways on one bot token refuse each other" in found
    assert lines(old) == []


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (".config/systemd/user/default.target.wants/openclaw-gateway.service", "openclaw-gateway.service"),
        ("Library/LaunchAgents/ai.openclaw.gateway.plist", "ai.openclaw.gateway.plist"),
    ],
)
def test_a_service_that_would_start_it_again_is_in_the_way(old: Path, path: str, name: str) -> None:
    """It was only stopped: with the next login there would be two."""
    service = old.parent / path
    service.parent.mkdir(parents=True)
    service.write_text("")
    (found,) = lines(old)
    assert found.startswith(f"openclaw_adopt: {name} would start the one at {old} again; mend: as ")
    assert "openclaw gateway uninstall" in found


def test_agents_that_the_inventory_does_not_name_would_be_lost(tmp_path: Path) -> None:
    """What is to be written is told whole, for all that have sessions."""
    old = installed(tmp_path / "pat/.openclaw", ("main", "scribe"))
    (found,) = lines(old, agents={"axiom": ""})
    assert found == (
        f"openclaw_agents: main, scribe, with sessions in {old}, would be nobody's: there is axiom; mend: set"
        " openclaw_agents: {main: {}, scribe: {}}"
    )
    assert lines(old, agents={"main": "", "scribe": "", "axiom": ""}) == []


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (("openclaw.json", "{\n  gateway: {token: hush}\n"), "openclaw.json: line 2 is no JSON5; mend: "),
        (
            ("openclaw.json", CONFIG.replace("2026.9.6", "2026.10.1").replace("~WS~", "workspace")),
            "openclaw_version: the one at",
        ),
        (("openclaw.json", "{$include: './other.json5'}"), "other.json5 is not there, and"),
        (("openclaw.json", "{agents: {entries: {main: {workspace: '..'}}}}"), "where main works, holds"),
        (
            ("openclaw.json", "{agents: {entries: {main: {agentDir: '/srv/x'}}}}"),
            "its agent main has its state in /srv/x",
        ),
        (("openclaw.json", '{"a":' * 900 + "1" + "}" * 900), "openclaw.json: it is nested too deeply; mend: "),
        (("openclaw.json", "{$include: 'openclaw.json', " + "a: {" * 60 + "}" * 61), "includes itself; mend: "),
        (("state/openclaw.sqlite", None), "is of an older kind, or never ran"),
    ],
)
def test_what_is_wrong_with_it_is_one_line(old: Path, change: tuple[str, str | None], line: str) -> None:
    """Each with its mend, and no value of its configuration in it."""
    name, text = change
    (old / name).unlink()
    if text is not None:
        (old / name).write_text(text)
    (found,) = lines(old)
    assert line in found and "; mend: " in found and "\n" not in found and "hush" not in found


def test_where_there_is_none_and_where_there_was_one(tmp_path: Path, old: Path) -> None:
    """A path with nothing, one that is not whole, the node's own; and nothing once it was adopted."""
    assert lines(tmp_path)[0].startswith(f"openclaw_adopt: there is no OpenClaw at {tmp_path}; mend: name its state")
    assert lines("there/.openclaw")[0].startswith("openclaw_adopt_from: 'there/.openclaw' is not an absolute path")
    assert lines(old, home=str(old.parent))[0].startswith(f"openclaw_adopt_from: {old} is the node's own")
    (tmp_path / "axiom/var/home/.openclaw").mkdir(parents=True)
    (tmp_path / "axiom/var/home/.openclaw/outlast-adopted.json").write_text("{}")
    assert lines(tmp_path, home=str(tmp_path / "axiom")) == []


def test_the_place_is_below_the_home_of_who_ansible_connects_as(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where root looks on their behalf."""
    someone = next(one for one in pwd.getpwall() if one.pw_uid != os.getuid() and one.pw_dir.startswith("/"))
    home = os.path.normpath(someone.pw_dir)
    assert place("", someone.pw_name) == os.path.join(home, ".openclaw")
    monkeypatch.setenv("SUDO_USER", someone.pw_name)
    assert place("~/.openclaw-dev", "") == os.path.join(home, ".openclaw-dev")
    assert place("/srv/oc/", "") == "/srv/oc"
    with pytest.raises(OldTrouble):
        place("srv", "")


def test_a_workspace_is_found_as_openclaw_finds_it(tmp_path: Path) -> None:
    """Said of the agent, said of all, or where it is by itself; an included file counts as if it stood there."""
    old = installed(
        tmp_path / "pat/.openclaw", ("main", "scribe"), "{$include: ['a.json5'], agents: {entries: {scribe: {}}}}"
    )
    (old / "a.json5").write_text(
        "{agents: {defaults: {workspace: '/srv/all'}, entries: {main: {workspace: '/srv/own'}}}}"
    )
    assert find(str(old)).workspaces == {"main": "/srv/own", "scribe": "/srv/all/scribe"}
    (old / "a.json5").write_text("{agents: {entries: {main: {}}}}")
    assert find(str(old)).workspaces == {"main": str(old / "workspace"), "scribe": str(old / "workspace-scribe")}
    (old / "openclaw.json").write_text(
        "{agents: {list: [{id: 'scribe', workspace: 'deep'}, {id: 'main', default: true}]}}"
    )
    assert find(str(old)).workspaces == {"main": str(old / "workspace"), "scribe": str(old / "deep")}


def test_only_names_leave_the_machine(tmp_path: Path, old: Path) -> None:
    """What the module answers has the names of settings and variables, and the value of none."""
    told = openclaw_adopt.adopt(
        {"home": str(tmp_path / "axiom"), "user": "", "from": str(old), "operator": "", "version": "2026.9.6",
         "agents": {"main": ""}, "agent": "main"}, True,
    )  # fmt: skip
    assert told["variables"] == ["ANTHROPIC_API_KEY", "TELEGRAM_BOT_TOKEN"]
    assert told["keys"]["channels"] == {"telegram": {"botToken": None}}
    assert b"hush" not in to_json(told) and not (tmp_path / "axiom").exists()


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('A=hush\nKEY="-----BEGIN\nhushQ==\nmore = hush\n-----END"\nB=1\n', ["A", "B", "KEY"]),
        ('J=\'{\n "url": "https://u:hush@h/?a=b"\nhush=1\n}\'\n# C=d\n', ["J"]),
        ('A="a \\" b\nhush=x"\n  export B = `x\nhush=y`\nC.hush=1\n1hush=2\n', ["A", "B"]),
        ("A='never ended\nhush=x\n", ["A"]),
        ("A=-----BEGIN KEY-----\nhushAbC==\nhush=\n-----END KEY-----\n", ["A"]),
        ("A=x\r\nB=\r\n", ["A"]),
    ],
)
def test_a_part_of_a_value_is_no_name(old: Path, text: str, names: list[str]) -> None:
    """A key or a JSON over several lines, quoted or not, has lines that look as if they set something: they are a secret."""
    (old / ".env").write_text(text, newline="")
    assert openclaw_adopt.variables(str(old)) == names
