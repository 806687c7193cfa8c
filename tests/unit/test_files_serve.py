"""What a peer's SSH key can get from a node: the list, one artifact at a time, and nothing else, whatever it asks."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from support.artifacts import UNIT, answering, fake_ssh, leave, make_home

from outlast.files import wire
from outlast.files.serve import serve
from outlast.home import Home

FILES = {"report.md": b"all well\n", "data/é a.bin": bytes(range(256)) * 9, "empty": b"", f"{'n' * 120}/x": b"x"}


@pytest.fixture
def axiom(tmp_path: Path) -> Home:
    """A node with one artifact, and a secret beside its workspace."""
    home = make_home(tmp_path, "axiom")
    leave(home, FILES)
    (home.root / "secret").write_text("secret")
    return home


def ask(home: Home, line: str) -> tuple[int, bytes]:
    """Ask, and return the exit code and what came."""
    out = io.BytesIO()
    return serve(home, "coz", line, out), out.getvalue()


def events(home: Home) -> list[dict[str, object]]:
    return [json.loads(line) for path in home.logs.glob("*.jsonl") for line in path.read_text().splitlines()]


def test_an_artifact_comes_as_a_tar_that_any_tar_reads(axiom: Home) -> None:
    """`get artifacts UNIT` is a plain tar of the manifest and its files, in its order, also for long and accented names."""
    code, data = ask(axiom, f"get artifacts {UNIT}")
    assert code == 0
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert tar.getnames() == [".outlast.json", *sorted(FILES)]
        for path, content in FILES.items():
            member = tar.extractfile(path)
            assert member is not None
            assert member.read() == content
    assert [event["event"] for event in events(axiom)] == ["files.sent"]


def test_a_list_tells_what_there_is(axiom: Home) -> None:
    """`list artifacts` names each artifact with its size; what has no readable manifest is not one."""
    (axiom.artifacts / "axiom-000000000000").mkdir()
    (axiom.artifacts / "notes").mkdir()
    code, data = ask(axiom, "list artifacts")
    assert code == 0
    assert [(one["unit"], one["files"], one["bytes"]) for one in json.loads(data)] == [
        (UNIT, 4, sum(map(len, FILES.values())))
    ]


REFUSED = {
    "a shell": "",
    "a command": "id",
    "a second command": f"get artifacts {UNIT}; id",
    "a second line": f"get artifacts {UNIT}\nid",
    "a line break at its end": f"get artifacts {UNIT}\n",
    "an option": "get artifacts --help",
    "a path": "get artifacts ../../etc",
    "a path behind a unit": f"get artifacts {UNIT}/../..",
    "another folder": f"get memory {UNIT}",
    "scp": "scp -f workspace/artifacts",
    "sftp": "internal-sftp",
    "rsync": "rsync --server --sender . /",
    "git": "git-upload-pack '/'",
    "spaces": f"get  artifacts {UNIT}",
    "a tab": f"get\tartifacts {UNIT}",
    "bytes that are no text": os.fsdecode(b"get artifacts \xff\x1b[2J"),
    "very much": "list artifacts " * 9999,
}


@pytest.mark.parametrize("line", REFUSED.values(), ids=REFUSED)
def test_everything_else_is_refused(axiom: Home, capsys: pytest.CaptureFixture[str], line: str) -> None:
    """One line, exit code 2, an event that is safe to look at, and not a byte of the node's."""
    assert ask(axiom, line) == (2, b"")
    assert capsys.readouterr().err == "only `list artifacts` and `get artifacts UNIT` are answered here\n"
    (event,) = events(axiom)
    assert event["event"] == "files.refused"
    assert event["peer"] == "coz"
    assert str(event["asked"]).isprintable()
    assert len(str(event["asked"])) <= 160


def test_a_flood_of_refusals_is_one_event_and_a_count(axiom: Home) -> None:
    """Within a minute the first is told, the others are counted, and the count comes with the next event."""
    for _ in range(50):
        ask(axiom, "id")
    assert len(events(axiom)) == 1
    since, count = axiom.refused("coz").read_text().split()
    assert count == "49"
    axiom.refused("coz").write_text(f"{float(since) - 61} {count}")
    ask(axiom, "id")
    assert [event["more_since_last"] for event in events(axiom)] == [0, 49]


def linked_file(folder: Path) -> None:
    (folder / "report.md").unlink()
    (folder / "report.md").symlink_to("../../../secret")


def linked_folder(folder: Path) -> None:
    (folder / "data").rename(folder / "moved")
    (folder / "data").symlink_to("moved")


def linked_artifact(folder: Path) -> None:
    folder.rename(folder.parent / "moved")
    folder.symlink_to("moved")


def linked_manifest(folder: Path) -> None:
    (folder / ".outlast.json").rename(folder / "moved")
    (folder / ".outlast.json").symlink_to("moved")


def hard_link(folder: Path) -> None:
    (folder / "report.md").unlink()
    os.link(folder.parents[2] / "secret", folder / "report.md")


def pipe(folder: Path) -> None:
    (folder / "report.md").unlink()
    os.mkfifo(folder / "report.md")


def grown(folder: Path) -> None:
    (folder / "report.md").write_bytes(b"all well, and more\n")


def gone(folder: Path) -> None:
    (folder / "report.md").unlink()


def escaping(folder: Path) -> None:
    manifest = (folder / ".outlast.json").read_text()
    (folder / ".outlast.json").write_text(manifest.replace('"report.md"', '"../../../secret"'))


@pytest.mark.parametrize(
    "change", [linked_file, linked_folder, linked_artifact, linked_manifest, hard_link, pipe, grown, gone, escaping]
)
def test_what_agents_did_to_an_artifact_opens_no_way_out(
    axiom: Home, capsys: pytest.CaptureFixture[str], change: Callable[[Path], None]
) -> None:
    """Links, pipes and forged manifests end the answer: no secret is in it, and the line names no place of the machine."""
    change(axiom.artifacts / UNIT)
    code, data = ask(axiom, f"get artifacts {UNIT}")
    said = capsys.readouterr().err
    assert code == 1
    assert b"secret" not in data
    assert not data.endswith(wire.END)
    assert said.count("\n") == 1
    assert str(axiom.root) not in said


def test_what_is_not_there_or_too_large_is_said_in_one_line(axiom: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """A unit that is unknown, and one beyond files.size_limit."""
    assert ask(axiom, "get artifacts coz-000000000000") == (1, b"")
    assert capsys.readouterr().err == "there is no artifact coz-000000000000; ask for the list\n"
    with open(axiom.config, "a") as config:
        config.write("files: {size_limit: 100B}\n")
    assert ask(axiom, f"get artifacts {UNIT}") == (1, b"")
    assert "100 are allowed (files.size_limit)" in capsys.readouterr().err


def test_a_wrong_configuration_is_one_line_that_shows_none_of_it(
    axiom: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    """A peer learns that it will get no answer, and not why."""
    axiom.config.write_text("node: axiom\nagent: {environment: {TOKEN: hush}}\n")
    assert ask(axiom, "list artifacts") == (78, b"")
    assert "hush" not in capsys.readouterr().err


def test_the_program_ends_quietly_when_the_peer_hangs_up(axiom: Home, tmp_path: Path) -> None:
    """Whoever has seen enough closes the connection; there is no traceback."""
    leave(axiom, {"big": bytes(4 << 20)}, "coz-111111111111")
    ssh = fake_ssh(tmp_path / "bin", answering(axiom)) / "ssh"
    with subprocess.Popen(
        [ssh, "get artifacts coz-111111111111"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as asked:
        assert asked.stdout is not None
        assert asked.stderr is not None
        asked.stdout.read(10)
        asked.stdout.close()
        assert asked.wait(30) == 0
        assert asked.stderr.read() == b""


def test_a_peer_that_stops_reading_is_left_after_the_time_that_is_configured(axiom: Home, tmp_path: Path) -> None:
    """files.timeout ends the program, so that it does not stay for ever."""
    with open(axiom.config, "a") as config:
        config.write("files: {timeout: 100ms}\n")
    leave(axiom, {"big": bytes(4 << 20)}, "coz-111111111111")
    ssh = fake_ssh(tmp_path / "bin", answering(axiom)) / "ssh"
    with subprocess.Popen([ssh, "get artifacts coz-111111111111"], stdout=subprocess.PIPE) as asked:
        assert asked.wait(30) < 0


def test_the_program_says_what_it_is_for(axiom: Home) -> None:
    """A person who runs it by hand is told that, in one line too."""
    code = "from outlast.files.serve import main; main()"
    command = [sys.executable, "-c", code, "--home", str(axiom.root), "--peer", "coz"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
