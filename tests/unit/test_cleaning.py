"""``outlast clean`` on real folders: what goes, what stays, and that all of it but old trash can be got back."""

from __future__ import annotations

import errno
import gzip
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest
from support.cluttered import (
    OLD,
    TODAY,
    artifact,
    clean,
    configure,
    count,
    full,
    git,
    home,
    journal,
    log,
    names,
    open_step,
    push,
)  # fmt: skip

from outlast.clock import SystemClock
from outlast.config import load_config
from outlast.core.state import Present, with_names
from outlast.home import Home
from outlast.local import Local
from outlast.store.git import holder
from outlast.store.statefile import read_state
from outlast.work import packing

__all__ = ["home", "push"]


def test_old_logs_are_compressed_and_todays_is_not(home: Home) -> None:
    """An old log is there byte for byte as .gz, a young one and today's as they were; what is no log is left alone."""
    data = log(home, f"{OLD}.jsonl")
    log(home, f"{TODAY}.jsonl")
    log(home, "notes.jsonl")
    log(home, "abc.jsonl.reset.2026-01-01T00-00-00.000Z")
    found = clean(home)
    assert (found["changed"], [one["name"] for one in found["done"]]) == (True, [f"{OLD}.jsonl"])
    assert 0 < found["done"][0]["freed"] < len(data)
    assert gzip.decompress((home.logs / f"{OLD}.jsonl.gz").read_bytes()) == data
    expected = [f"{OLD}.jsonl.gz", "abc.jsonl.reset.2026-01-01T00-00-00.000Z", "notes.jsonl", f"{TODAY}.jsonl"]
    assert set(expected) <= set(names(home.logs)) and not (home.logs / f"{OLD}.jsonl").exists()
    again = clean(home)
    assert (again["changed"], again["done"], again["findings"]) == (False, [], [])


def test_little_room_makes_young_logs_old(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a disk that fills yesterday's log goes as well, today's never; the room that was set by is given up first."""
    yesterday = (date.today() - timedelta(days=1)).isoformat()
    log(home, f"{yesterday}.jsonl")
    log(home, f"{TODAY}.jsonl")
    home.ballast.write_bytes(bytes(5000))
    full(monkeypatch, 99.9)
    found = clean(home)
    assert [one["kind"] for one in found["done"]] == ["ballast", "log"]
    assert not home.ballast.exists()
    assert (home.logs / f"{TODAY}.jsonl").exists() and (home.logs / f"{yesterday}.jsonl.gz").exists()
    assert any("du -xh" in line for line in found["next"])


def test_a_dry_run_says_the_same_and_changes_nothing(home: Home, push: Callable[[], None]) -> None:
    """What would be done is what is done then; before that not a byte has changed."""
    log(home, f"{OLD}.jsonl")
    artifact(home, "coz-1")
    push()
    before = [path for path in sorted(home.workspace.rglob("*")) if ".git" not in path.parts]
    dry = clean(home, dry_run=True)
    assert (dry["dry_run"], dry["changed"], dry["done"]) == (True, True, [])
    assert [path for path in sorted(home.workspace.rglob("*")) if ".git" not in path.parts and path in before] == before
    assert names(home.trash) == []
    done = clean(home)
    assert [one["name"] for one in done["done"]] == [one["name"] for one in dry["will"]]


def test_an_artifact_that_a_backup_holds_goes_and_comes_back(home: Home, push: Callable[[], None]) -> None:
    """It is one archive in the trash that an ordinary tar unpacks; STATE does not count it any more, the journal says so."""
    folder = artifact(home, "coz-1")
    before = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    count(home)
    push()
    found = clean(home)
    assert names(home.artifacts) == [] and found["findings"] == []
    [archive] = [home.trash / name for name in names(home.trash)]
    assert found["done"][0]["now"] == str(archive)
    state = read_state(home.state_file, "coz")
    assert state is not None and state.artifacts == Present()
    assert "NOTE clean moved 1 artifact" in journal(home)
    [line] = [line for line in found["next"] if line.startswith("tar xzf")]
    command = line.partition(" && ")[0].replace("NAME.tar.gz", archive.name).split()
    subprocess.run(command, check=True)
    assert {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_what_no_backup_holds_stays(home: Home, push: Callable[[], None]) -> None:
    """Never committed, committed here only, or changed since it was pushed: it stays, is counted, and the mend is said."""
    for name in ("pushed", "changed"):
        artifact(home, name)
    push()
    artifact(home, "local")
    git(home.workspace, "add", "-A", "artifacts")
    git(home.workspace, "commit", "-m", "local")
    artifact(home, "new")
    report = home.artifacts / "changed/report.md"
    moment = report.stat().st_mtime
    report.write_text("other\n")
    os.utime(report, (moment, moment))
    found = clean(home)
    assert [one["name"] for one in found["done"]] == ["pushed"]
    assert names(home.artifacts) == ["changed", "local", "new"]
    stays = found["stays"]["no backup"]
    assert (stays["count"], sorted(stays["names"])) == (3, ["changed", "local", "new"])
    assert any("push" in line for line in found["next"])


def test_without_a_repository_nothing_is_backed_up(home: Home, tmp_path: Path) -> None:
    """No git at all, and one that belongs to a folder above, are no backup."""
    artifact(home, "coz-1")
    git(tmp_path, "init")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-m", "all")
    git(tmp_path, "update-ref", "refs/remotes/origin/main", "HEAD")
    assert clean(home)["stays"]["no backup"]["count"] == 1
    assert names(home.artifacts) == ["coz-1"]


def test_open_work_and_what_is_protected_stay(home: Home, push: Callable[[], None]) -> None:
    """An artifact of an open step, one that the operator protects, and one that holds sessions of OpenClaw's stay."""
    for name in ("open", "mine", "theirs", "goes"):
        artifact(home, name)
    (home.artifacts / "theirs/sessions").mkdir()
    (home.artifacts / "theirs/sessions/a.jsonl").write_text("{}\n")
    os.utime(home.artifacts / "theirs", (0, 0))
    os.utime(home.artifacts / "theirs/sessions/a.jsonl", (0, 0))
    os.utime(home.artifacts / "theirs/sessions", (0, 0))
    push()
    configure(home, protected=["artifacts/mi*"])
    open_step(home, "7", "open/part.md")
    found = clean(home)
    assert [one["name"] for one in found["done"]] == ["goes"]
    assert {why: sorted(group["names"]) for why, group in found["stays"].items()} == {
        "open": ["open"],
        "protected": ["mine", "theirs"],
    }


def test_the_budget_takes_the_oldest_first(home: Home, push: Callable[[], None]) -> None:
    """Young artifacts that take more than their budget go, oldest first, until they do not."""
    for days, name in enumerate(("newest", "middle", "oldest"), start=1):
        artifact(home, name, days)
    push()
    configure(home, artifacts_budget="16KiB")
    assert [one["name"] for one in clean(home)["done"]] == ["oldest", "middle"]


def test_trash_is_emptied_only_when_asked_and_past_its_time(home: Home) -> None:
    """Old trash is listed, and deleted only by --empty-trash; what is younger stays, and so do archives of OpenClaw's."""
    for name in ("20200101T000000Z-ab12-STATE.json", "1577836800-ab12-notes", "of-now"):
        (home.trash / name).write_text("x" * 100)
    theirs = home.trash / "20200101T000000Z-ab12-work"
    theirs.mkdir()
    (theirs / "a.jsonl.deleted.2020-01-01T00-00-00.000Z").write_text("{}")
    first = clean(home)
    assert (first["changed"], first["stays"]["trash"]["count"]) == (False, 2)
    assert any("--empty-trash" in line for line in first["next"])
    listed = clean(home, dry_run=True, empty_trash=True)
    assert [one["kind"] for one in listed["will"]] == ["trash", "trash"]
    done = clean(home, empty_trash=True)
    assert sum(one["freed"] for one in done["done"]) == 200
    assert names(home.trash) == [theirs.name, "of-now"]
    assert "NOTE clean deleted 2 things" in journal(home)
    assert clean(home, empty_trash=True)["changed"] is False


def test_links_are_not_followed(home: Home, push: Callable[[], None], tmp_path: Path) -> None:
    """Links among logs, artifacts and trash stay and lead nowhere, and so does a link in the place of a folder of ours."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / f"{OLD}.jsonl").write_text("{}\n" * 100)
    (home.logs / f"{OLD}.jsonl").symlink_to(outside / f"{OLD}.jsonl")
    (home.trash / "20200101T000000Z-ab12-x").symlink_to(outside)
    (home.artifacts / "link").symlink_to(outside)
    inside = artifact(home, "has-a-link")
    (inside / "link").symlink_to(outside)
    push()
    assert clean(home, empty_trash=True)["changed"] is False
    assert names(outside) == [f"{OLD}.jsonl"]
    for path in (home.logs / f"{OLD}.jsonl", home.trash / "20200101T000000Z-ab12-x"):
        path.unlink()
    home.logs.rename(tmp_path / "logs")
    home.logs.symlink_to(outside)
    assert clean(home)["changed"] is False
    assert names(outside)[0] == f"{OLD}.jsonl"


def test_a_full_disk_leaves_all_as_it_was(
    home: Home, push: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing can be brought to the disk, each thing is a finding, its original is there, and nothing half is left."""
    data = log(home, f"{OLD}.jsonl")
    artifact(home, "coz-1")
    push()
    clean(home, dry_run=True)

    def refuse(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(packing.durable, "fsync_file", refuse)
        found = clean(home)
    assert [one["about"] for one in found["findings"]] == [f"{OLD}.jsonl", "coz-1"]
    assert "No space left" in found["findings"][0]["found"]
    assert (home.logs / f"{OLD}.jsonl").read_bytes() == data
    assert names(home.artifacts) == ["coz-1"] and names(home.trash) == []
    assert not [name for name in names(home.logs) if "tmp" in name or "gz" in name]
    assert [one["name"] for one in clean(home)["done"]] == [f"{OLD}.jsonl", "coz-1"]


def test_what_a_crash_cut_short_is_finished(home: Home, push: Callable[[], None]) -> None:
    """A log beside its whole .gz, an artifact's copy beside its archive, half-written files: the next time cleans them up;
    a copy that is not what its archive holds stays."""
    data = log(home, f"{OLD}.jsonl")
    (home.logs / f"{OLD}.jsonl.gz").write_bytes(gzip.compress(data))
    for name in ("20260101T000000Z-ab12-one", "20260101T000000Z-ab12-two"):
        folder = artifact(home, "x")
        folder.rename(home.trash / name)
        packing.pack(home.trash / name, home.trash / f"{name}.tar.gz", lambda: None)
    (home.trash / "20260101T000000Z-ab12-two/late.md").write_text("written in the last moment\n")
    (home.trash / ".20260101T000000Z-ab12-x.tar.gz.0123abcd.tmp").write_text("half")
    clean(home)
    assert not (home.logs / f"{OLD}.jsonl").exists()
    assert gzip.decompress((home.logs / f"{OLD}.jsonl.gz").read_bytes()) == data
    assert names(home.trash) == [
        "20260101T000000Z-ab12-one.tar.gz",
        "20260101T000000Z-ab12-two",
        "20260101T000000Z-ab12-two.tar.gz",
    ]


def test_an_unreadable_artifact_is_no_reason_to_fail(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders that cannot be read are said to stay, and the rest is done."""
    artifact(home, "closed")
    log(home, f"{OLD}.jsonl")

    def walk(root: Path) -> Iterator[tuple[str, os.stat_result]]:
        if root.name == "closed":
            raise PermissionError(errno.EACCES, "Permission denied", str(root))
        return packing.walk(root)

    monkeypatch.setattr("outlast.work.clutter.walk", walk)
    found = clean(home)
    assert found["stays"]["unreadable"]["names"] == names(home.artifacts) == ["closed"]
    assert [one["kind"] for one in found["done"]] == ["log"]


def test_the_configuration_has_sensible_figures(home: Home) -> None:
    """Without a word in node.yml: a week, three months, 5 GiB, a month, 32 MiB, 5 %."""
    home.config.write_text("node: coz\nlisten: {host: 127.0.0.1, port: 1}\nagent: {command: [/bin/true]}\n")
    local = Local(load_config(home.config), home, SystemClock())
    limits = local.cleaner.limits
    local.close()
    day = 86400.0
    assert (limits.logs_after, limits.artifacts_after, limits.trash_keep) == (7 * day, 90 * day, 30 * day)
    assert (limits.artifacts_budget, limits.ballast, limits.low, limits.least) == (5 << 30, 32 << 20, 15.0, 5.0)


def test_state_counts_what_is_left(home: Home, push: Callable[[], None]) -> None:
    """After one of two artifacts has gone, STATE reflects exactly the other."""
    artifact(home, "goes")
    artifact(home, "stays", days=1)
    count(home)
    push()
    clean(home)
    state = read_state(home.state_file, "coz")
    assert state is not None and state.artifacts == with_names(Present(), ["stays"])


def test_the_command_prints_one_document(home: Home) -> None:
    """``--json`` is one JSON document, and everything in it is plain."""
    log(home, f"{OLD}.jsonl")
    assert json.loads(json.dumps(clean(home)))["node"] == "coz"


def test_names_that_are_not_utf_8_are_told(home: Home) -> None:
    """Agents may call their files anything: what is cleaned, and what stays, is told all the same, in the event log as well."""
    odd = os.fsdecode(b"\xff\xfe")
    artifact(home, odd)
    (home.trash / f"20250101T000000Z-{odd}").touch()
    found = clean(home, empty_trash=True)
    assert found["stays"]["no backup"]["names"] == ["\\xff\\xfe"]
    assert [one["name"] for one in found["done"]] == ["20250101T000000Z-\\xff\\xfe"]
    assert "20250101T000000Z-\\\\xff" in (home.logs / f"{TODAY}.jsonl").read_text()


def test_a_repository_that_lacks_objects_has_nothing_run(home: Home, push: Callable[[], None], tmp_path: Path) -> None:
    """A partial clone, whose configuration says what fetches the rest, is no backup, and nothing is fetched or run."""
    artifact(home, "pushed")
    push()
    tree = subprocess.check_output(["git", "rev-parse", "HEAD:artifacts"], cwd=home.workspace, text=True).strip()
    (home.workspace / ".git/objects" / tree[:2] / tree[2:]).unlink()
    url = f"ext::touch {tmp_path / 'ran'}"
    for name, value in (("remote.x.promisor", "true"), ("remote.x.url", url), ("protocol.ext.allow", "always")):
        git(home.workspace, "config", name, value)
    git(home.workspace, "config", "extensions.partialClone", "x")
    found = clean(home)
    assert (found["done"], list(found["stays"])) == ([], ["no backup"])
    holder(home.memory, "coz", 10)
    assert not (tmp_path / "ran").exists()
