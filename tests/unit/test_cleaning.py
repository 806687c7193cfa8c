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
from typing import Any

import pytest
import yaml

from outlast.cli.tail import follow
from outlast.cli.talk import do
from outlast.clock import SystemClock
from outlast.config import load_config
from outlast.core.cleaning import is_protected
from outlast.core.state import Present, with_names
from outlast.home import Home
from outlast.local import Local
from outlast.store.memory import Memory
from outlast.store.statefile import read_state
from outlast.work import packing

OLD = (date.today() - timedelta(days=30)).isoformat()
TODAY = date.today().isoformat()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """The home of a node that does not run."""
    made = Home(tmp_path / "coz")
    for folder in (made.config.parent, made.keys, made.lock.parent, made.logs, made.artifacts, made.trash):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    configure(made)
    return made


def configure(home: Home, **clean: Any) -> None:
    """Write node.yml."""
    content = {"node": "coz", "listen": {"host": "127.0.0.1", "port": 1}, "agent": {"command": ["/bin/true"]}}
    # The disk of whoever runs the tests may be as full as it likes.
    health = {"disk_degraded": 99, "disk_emergency": 100}
    home.config.write_text(yaml.safe_dump({**content, "health": health, "clean": {"least_free": 1, **clean}}))


def clean(home: Home, **asked: bool) -> dict[str, Any]:
    """What the command does where no node runs."""
    return do(home, "clean", {"dry_run": False, "empty_trash": False, **asked})


def log(home: Home, name: str, lines: int = 200) -> bytes:
    """Write a log; return what is in it."""
    data = b"".join(b'{"at":"%d","event":"something"}\n' % number for number in range(lines))
    (home.logs / name).write_bytes(data)
    return data


def artifact(home: Home, name: str, days: int = 100) -> Path:
    """Leave a result that is so many days old."""
    folder = home.artifacts / name
    (folder / "sub").mkdir(parents=True)
    (folder / "report.md").write_text("the same line\n" * 500)
    (folder / "sub/data.bin").write_bytes(bytes(range(256)))
    for path in (*folder.rglob("*"), folder):
        moment = path.stat().st_mtime - days * 86400
        os.utime(path, (moment, moment))
    return folder


def git(where: Path, *words: str) -> None:
    """Run git with somebody's name."""
    who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", *who, "-C", str(where), *words], check=True, capture_output=True)


@pytest.fixture
def push(home: Home, tmp_path: Path) -> Callable[[], None]:
    """Commit the workspace and push it elsewhere."""
    git(tmp_path, "init", "--bare", "elsewhere.git")
    git(home.workspace, "init")
    git(home.workspace, "remote", "add", "origin", str(tmp_path / "elsewhere.git"))

    def do_it() -> None:
        git(home.workspace, "add", "-A", "artifacts")
        git(home.workspace, "commit", "-m", "work")
        git(home.workspace, "push", "origin", "HEAD:main")

    return do_it


def journal(home: Home) -> str:
    """All records."""
    return "".join(path.read_text() for path in home.memory.glob("*.md"))


def names(folder: Path) -> list[str]:
    """What is in it."""
    return sorted(path.name for path in folder.iterdir())


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


def full(monkeypatch: pytest.MonkeyPatch, percent: float) -> None:
    """Have the disk be so full."""

    class Usage:
        total, used, free = 10**9, int(10**7 * percent), int(10**7 * (100 - percent))

    Usage.percent = percent  # type: ignore[attr-defined]
    monkeypatch.setattr("psutil.disk_usage", lambda _: Usage)


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


def open_step(home: Home, unit: str, name: str) -> None:
    """Have the memory know of a step that is open and makes this artifact."""
    memory = Memory(home, "coz", SystemClock())
    memory.intent(unit, "step", "", "write it", (name,))
    memory.flush()
    memory.close()


def count(home: Home) -> None:
    """Have STATE reflect what lies in artifacts/, as after a start."""
    memory = Memory(home, "coz", SystemClock())
    memory.check()
    memory.flush()
    memory.close()


@pytest.mark.parametrize(
    ("path", "patterns", "protected"),
    [
        ("artifacts/coz-1/sessions/a.jsonl", [], True),
        ("artifacts/coz-1/a.jsonl.deleted.2026-01-01T00-00-00.000Z.zst", [], True),
        ("artifacts/coz-1/a.jsonl.reset.2026-01-01T00-00-00.000Z", [], True),
        ("artifacts/coz-1/sessions.json.bak.1737420882", [], True),
        ("artifacts/archive/report.md", [], True),
        ("artifacts/coz-1/a.trajectory.jsonl", [], True),
        ("artifacts/coz-1/report.md", [], False),
        ("artifacts/coz-1/obsessions.md", [], False),
        ("logs/2026-01-01.jsonl", [], False),
        ("logs/2026-01-01.jsonl", ["logs"], True),
        ("logs/2026-01-01.jsonl", ["logs/2026-*"], True),
        ("artifacts/thesis/deep/file.md", ["artifacts/thesis/"], True),
        ("artifacts/coz-1/report.md", ["report.md"], False),
    ],
)
def test_what_is_protected(path: str, patterns: list[str], protected: bool) -> None:
    """What OpenClaw calls its own is, wherever it lies; what the operator names is, with all that is below it."""
    assert is_protected(path, patterns) is protected


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


def test_a_log_that_came_back_is_added(tmp_path: Path) -> None:
    """A clock that was set back wrote to a day that was compressed: both parts are there, in their order."""
    path = tmp_path / f"{OLD}.jsonl"
    for part in (b"first\n", b"second\n", b"third\n"):
        path.write_bytes(part)
        packing.compress(path, lambda: None)
    assert gzip.decompress(path.with_name(f"{path.name}.gz").read_bytes()) == b"first\nsecond\nthird\n"


def test_a_log_that_is_written_to_meanwhile_stays(tmp_path: Path) -> None:
    """What is appended while it is compressed is not lost: the log stays, and nothing is believed of its copy."""
    path = tmp_path / f"{OLD}.jsonl"
    path.write_bytes(b"first\n")
    pieces = iter(range(100))

    def append() -> None:
        if next(pieces) == 2:
            with path.open("ab") as file:
                file.write(b"second\n")

    with pytest.raises((packing.Changed, Exception)):
        packing.compress(path, append)
    assert path.read_bytes() == b"first\nsecond\n"
    packing.compress(path, lambda: None)
    assert gzip.decompress(path.with_name(f"{path.name}.gz").read_bytes()).endswith(b"first\nsecond\n")


def test_a_damaged_copy_is_not_trusted(tmp_path: Path) -> None:
    """Beside a .gz that does not read back, the log stays."""
    path = tmp_path / f"{OLD}.jsonl"
    path.write_bytes(b"first\n")
    path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(b"first\n")[:-3])
    with pytest.raises(packing.CorruptError, match="move it away"):
        packing.compress(path, lambda: None)
    assert path.exists()


def test_packing_refuses_what_tar_cannot_hold(tmp_path: Path) -> None:
    """A pipe among the files: nothing is packed, nothing waits for ever, and no archive is left."""
    folder = tmp_path / "work"
    folder.mkdir()
    os.mkfifo(folder / "pipe")
    with pytest.raises(packing.Changed, match="neither file nor folder"):
        packing.pack(folder, tmp_path / "x.tar.gz", lambda: None)
    assert names(tmp_path) == ["work"]


def test_hard_links_are_each_whole(tmp_path: Path) -> None:
    """Two names of one file are packed as two files."""
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "a").write_text("one")
    os.link(folder / "a", folder / "b")
    held = packing.pack(folder, tmp_path / "x.tar.gz", lambda: None)
    assert held == packing.contents(folder, lambda: None) == packing.unpacked(tmp_path / "x.tar.gz", lambda: None)
    assert packing.drop(folder, held, lambda: None) and not folder.exists()


def test_a_stop_ends_it_between_two_pieces(tmp_path: Path) -> None:
    """Whatever is to end it does so while gigabytes are read, and leaves no half archive."""
    (tmp_path / "big").write_bytes(bytes(5 << 20))
    calls = iter(range(100))

    def stop() -> None:
        if next(calls) == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        packing.pack(tmp_path / "big", tmp_path / "x.tar.gz", stop)
    assert names(tmp_path) == ["big"]


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


def test_tail_reads_what_was_compressed(home: Home) -> None:
    """A node that was down for a month: its last events are shown though their log was compressed; a log that is compressed
    while somebody follows it does not end that."""
    data = log(home, f"{OLD}.jsonl", 20)
    clean_log = packing.compress
    assert clean_log(home.logs / f"{OLD}.jsonl", lambda: None) > 0
    assert list(follow(home.logs, 5, follow=False)) == data.decode().splitlines()[-5:]
    log(home, f"{TODAY}.jsonl", 3)
    following = follow(home.logs, 1, follow=True)
    assert next(following).startswith('{"at":"2"')
    clean_log(home.logs / f"{TODAY}.jsonl", lambda: None)
    tomorrow = (date.today() + timedelta(days=1)).isoformat()
    (home.logs / f"{tomorrow}.jsonl").write_text("next\n")
    assert next(following) == "next"
