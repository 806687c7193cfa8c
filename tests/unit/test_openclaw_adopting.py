"""An OpenClaw that a person installed becomes the node's: nothing of either's is lost, and it happens once."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from support.oldclaw import filed, installed, lay_out, listed, node, wished

from outlast.backup import activation
from outlast.errors import BadInput
from outlast.openclaw import wishes
from outlast.openclaw.adopting import adopt, main

MARK = "var/home/.openclaw/outlast-adopted.json"


def text(*names: str, below: Path) -> list[str]:
    """What files say."""
    return [(below / name).read_text() for name in names]


def test_the_node_has_what_the_person_had_and_both_keep_theirs(tmp_path: Path) -> None:
    """The person's stays as it was, byte for byte; the node's state and files are in the trash; memory holds both's lines;
    the schedule is found where OpenClaw looks for it here; no secret of the old configuration is in the state."""
    old, place = installed(tmp_path / "pat/.openclaw"), node(tmp_path / "axiom")
    # As those have it who keep their dotfiles elsewhere.
    (old / ".env").rename(tmp_path / "pat/env")
    (old / ".env").symlink_to("../env")
    before, space = listed(old), place.home.workspace
    assert lay_out(place, old)["agents"] == ["main"]
    assert listed(place.state)["state/openclaw.sqlite"][1] and text("AGENTS.md", below=space) == ["be quick\n"]
    done = adopt(place)
    assert listed(old) == before
    assert done["changed"] and done["beside"] == ["STATE.json"]
    assert text("AGENTS.md", "memory/2026-11-20.md", "STATE.json", "adopted/STATE.json", below=space) == [
        "be kind\n", "- the word is LANTERN\n", '{"mine": 1}', "{}",
    ]  # fmt: skip
    assert text("MEMORY.md", "memory/2026-11-22.md", below=space) == [
        "- likes tea\n\n- the node knows\n", "- met Pat\n\n# 2026-11-22\n\n- of the node\n",
    ]  # fmt: skip
    assert (space / "skills/tea/run").stat().st_mode & 0o100 and (space / "skills/outlast/SKILL.md").exists()
    assert filed(place) == [(f"{place.state}/cron/jobs.json", "water")]
    assert (place.state / "workspace").readlink() == space
    assert (place.state / "media/link").read_bytes() == b"\0\1"
    assert not any(
        (place.state / name).exists() for name in ("cache", "tmp", "openclaw.json", "openclaw.json.bak", ".env")
    )
    kept = Path(done["kept"])
    assert text("var/home/.openclaw/state/openclaw.sqlite", "workspace/AGENTS.md", "workspace/MEMORY.md", below=kept) == [
        "the node's own", "be quick\n", "- the node knows\n",
    ]  # fmt: skip
    private = [place.folder / "adopted.json", place.folder / "adopted.env", place.home.root / MARK]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in private)
    assert "hush" not in private[2].read_text() and all("hush" in path.read_text() for path in private[:2])
    assert not list(place.home.root.rglob(".restore-*"))


def test_a_second_time_nothing_is_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither by what Ansible asks first, nor where a copy was laid out once more."""
    old, place = installed(tmp_path / "pat/.openclaw"), node(tmp_path / "axiom")
    assert adopt(place, resume=True) == {"changed": False}
    with pytest.raises(BadInput, match="nothing is laid out; run the same command again"):
        adopt(place)
    lay_out(place, old)
    assert adopt(place)["changed"]
    before = listed(place.home.root)
    assert (
        not adopt(place)["changed"] and not adopt(place, resume=True)["changed"] and listed(place.home.root) == before
    )
    assert main(["--home", str(place.home.root)]) == 0
    assert "node.yml" in json.loads(capsys.readouterr().out)["error"]


def test_workspaces_go_where_their_agents_work(tmp_path: Path) -> None:
    """The node's own agent's to the node's workspace, wherever it was; another's to the state; one that the inventory gives a
    place stays where it was, and so does what the node has a repository of."""
    config = "{agents: {entries: {main: {workspace: '~WS~/../../elsewhere'}, scribe: {}, clerk: {}}}}"
    old = installed(tmp_path / "pat/.openclaw", ("clerk", "main", "scribe"), config)
    place = node(tmp_path / "axiom")
    for folder in (
        tmp_path / "pat/elsewhere/.git",
        old / "workspace-scribe",
        old / "workspace-clerk",
        place.home.workspace / ".git",
    ):
        folder.mkdir(parents=True)
        (folder / "HEAD").write_text(folder.parent.name)
    lay_out(place, old, agents={"main": "", "scribe": "", "clerk": "/srv/clerk"})
    done = adopt(place)
    assert done["left"] == [".git"] and text(".git/HEAD", below=place.home.workspace) == ["workspace"]
    assert (place.state / "workspace-scribe/HEAD").exists() and not (place.state / "workspace-clerk").exists()
    # It has a folder of the usual name as well, in which no agent works.
    assert (place.state / "workspace.before/AGENTS.md").exists() and (place.state / "workspace").is_symlink()


def test_a_schedule_that_its_owner_reached_through_a_link(tmp_path: Path) -> None:
    """It is filed under the path as its owner had it; there is one, and that is meant."""
    old, place = installed(tmp_path / "real/.openclaw"), node(tmp_path / "axiom")
    (tmp_path / "pat").symlink_to("real")
    with sqlite3.connect(old / "state/openclaw.sqlite") as db:
        db.execute("UPDATE cron_jobs SET store_key = ?", (f"{tmp_path}/pat/.openclaw/cron/jobs.json",))
    db.close()
    lay_out(place, old)
    adopt(place)
    assert filed(place) == [(f"{place.state}/cron/jobs.json", "water")]


def test_what_cannot_be_moved_is_said_before_anything_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the node's state may not be moved: the folder and a command are named, nothing was changed, and the same goes on
    once it may."""
    old, place = installed(tmp_path / "pat/.openclaw"), node(tmp_path / "axiom")
    lay_out(place, old)
    before = listed(place.state)
    with monkeypatch.context() as patched:
        # Root, whom tests may run as, may write everywhere.
        patched.setattr(activation.os, "access", lambda *_: False)
        with pytest.raises(BadInput, match="you may not write to .*; nothing was changed; sudo chown -R"):
            adopt(place)
    assert listed(place.state) == before and not (place.snapshots / "restore.json").exists()
    assert adopt(place)["changed"] and (place.home.root / MARK).exists()


def test_a_broken_database_changes_nothing(tmp_path: Path) -> None:
    """It is named, and neither state nor workspace were touched."""
    old, place = installed(tmp_path / "pat/.openclaw"), node(tmp_path / "axiom")
    (old / "agents/main/agent/openclaw-agent.sqlite").write_bytes(b"no database" * 999)
    lay_out(place, old)
    with pytest.raises(BadInput, match="agents/main/agent/openclaw-agent.sqlite of the old one cannot be read"):
        adopt(place)
    assert text("AGENTS.md", below=place.home.workspace) == ["be quick\n"]
    assert not (place.home.root / MARK).exists() and not place.home.trash.exists()


def test_a_launcher_that_starts_is_in_the_way(tmp_path: Path) -> None:
    """Nothing is put under a gateway: who holds the launcher's lock and says nothing is waited for, and named."""
    old, place = installed(tmp_path / "pat/.openclaw"), node(tmp_path / "axiom")
    lay_out(place, old)
    assert wishes.lock(place) is not None
    with pytest.raises(Exception, match="its launcher starts just now"):
        adopt(place)
    assert text("AGENTS.md", below=place.home.workspace) == ["be quick\n"]


def test_what_the_module_is_told_is_all_it_needs(tmp_path: Path) -> None:
    """Where everything of the old one is missing there is one line."""
    told = wished(node(tmp_path / "axiom"), tmp_path / "nowhere")
    from support.oldclaw import openclaw_adopt

    with pytest.raises(Exception, match="there is no OpenClaw at .*nowhere; mend: name its state directory"):
        openclaw_adopt.adopt(told, True)
