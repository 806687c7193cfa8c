"""`outlast merge-driver` with real git: two nodes pull from each other, and there is no conflict, whatever both wrote."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.artifacts import make_home

from outlast.core.merging import HEARTBEAT_MARKS
from outlast.core.record import Record, Step, format_record
from outlast.core.state import State, fold_all
from outlast.errors import BadInput
from outlast.home import Home
from outlast.store.merges import PATTERNS, install, merge
from outlast.store.statefile import decode, encode

DAY = "2026-11-21"
OUTLAST = Path(sys.executable).parent / "outlast"
BEGIN, END = (mark.decode() for mark in HEARTBEAT_MARKS)


def git(repository: Path, *words: str, ok: bool = True) -> str:
    """Run git as nobody in particular."""
    who = {f"GIT_{role}_{what}": "x@y" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    env = {
        **os.environ,
        **who,
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_SYSTEM": "/dev/null",
        "GIT_EDITOR": "true",
    }
    done = subprocess.run(["git", "-C", str(repository), *words], env=env, capture_output=True, text=True, timeout=60)
    assert not ok or done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout


def commit(repository: Path) -> None:
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "x")


def record(agent: str, seq: int, what: str = "x") -> str:
    return format_record(Record(DAY, "12:00:00", Step.NOTE, "mode", what, agent, seq)) + "\n"


def state(node: str, seq: int) -> State:
    intents = (Record(DAY, "12:00:00", Step.INTENT, f"unit-{n}", f"to {node}: x", node, n) for n in range(1, seq + 1))
    return fold_all(State(node=node), intents)


def write(workspace: Path, node: str, seq: int, states: dict[str, State]) -> None:
    """What a node at work leaves: each call changes every file that the other one changes as well."""
    (workspace / "STATE.json").write_bytes(encode({**states, node: state(node, seq)}))
    files = {
        "QUEUE.md": f"[seq:{seq}] [depends:1] [agent:{node}] build {seq}\n",
        "MEMORY.md": f"{node} learnt {seq}\n",
        f"memory/{DAY}.md": f"{node} thinks of {seq}\n{record(node, seq)}",
        f"logs/{DAY}.jsonl": f'{{"node":"{node}","n":{seq}}}\n',
        f"shared/{node}.jsonl": f'{{"seq":{seq},"agent":"{node}"}}\n',
        "shared/both.jsonl": f'{{"seq":{seq},"agent":"{node}"}}\n',
    }
    for name, text in files.items():
        (workspace / name).parent.mkdir(exist_ok=True)
        with open(workspace / name, "a") as file:
            file.write(text)
    people = [line for line in (workspace / "HEARTBEAT.md").read_text().splitlines() if not line.startswith("Outlast:")]
    people = [line for line in people if line not in (BEGIN, END)]
    (workspace / "HEARTBEAT.md").write_text(
        "\n".join([*people, f"- {node} {seq}", BEGIN, f"Outlast: {node} {seq}", END, ""])
    )


@pytest.fixture
def nodes(tmp_path: Path) -> dict[str, Home]:
    """Two homes whose workspaces are clones of one repository, with the driver installed."""
    git(tmp_path, "init", "-q", "--bare", "-b", "main", "hub.git")
    homes = {node: make_home(tmp_path / "some homes", node) for node in ("coz", "axiom")}
    for node, home in homes.items():
        home.artifacts.rmdir(), home.logs.rmdir(), home.workspace.rmdir()
        git(tmp_path, "clone", "-q", str(tmp_path / "hub.git"), str(home.workspace))
        assert install(home).changed
        if node == "coz":
            (home.workspace / "HEARTBEAT.md").write_text("- look at the mail\nMAINTENANCE_MODE\n")
            (home.workspace / "QUEUE.md").write_text("# Queue\n[seq:1] [agent:coz] build\n")
            (home.workspace / "other.txt").write_text("one\n")
            commit(home.workspace)
            git(home.workspace, "push", "-q", "origin", "HEAD:main")
    git(homes["axiom"].workspace, "pull", "-q", "origin", "main")
    return homes


def content(home: Home) -> dict[str, bytes]:
    files = git(home.workspace, "ls-files").split()
    return {name: (home.workspace / name).read_bytes() for name in files}


@pytest.mark.parametrize("how", ["--no-rebase", "--rebase"])
def test_pulling_never_conflicts(nodes: dict[str, Home], tmp_path: Path, how: str) -> None:
    """Both nodes change all files, and pull from each other round after round: no conflict, the same content, nothing lost."""
    coz, axiom = nodes["coz"], nodes["axiom"]
    for seq in (1, 2):
        for node, home in nodes.items():
            known = decode((home.state_file).read_bytes()) if home.state_file.exists() else {}
            write(home.workspace, node, seq, known)
            commit(home.workspace)
        if seq == 2:
            text = coz.heartbeat.read_text()
            assert "MAINTENANCE_MODE" in text
            coz.heartbeat.write_text(text.replace("MAINTENANCE_MODE\n", ""))
            commit(coz.workspace)
        # Each pulls from the other what it has now, as nodes do that meet again.
        git(coz.workspace, "push", "-q", "-f", str(tmp_path / "hub.git"), "HEAD:coz")
        git(axiom.workspace, "pull", "-q", how, str(tmp_path / "hub.git"), "coz")
        git(coz.workspace, "pull", "-q", how, str(axiom.workspace), "HEAD")
        assert content(coz) == content(axiom)
    merged = {name: data.decode() for name, data in content(coz).items()}
    assert not any("<<<<" in text or "====" in text for text in merged.values())
    for node in nodes:
        for seq in (1, 2):
            for name in (
                "QUEUE.md",
                "MEMORY.md",
                "HEARTBEAT.md",
                f"memory/{DAY}.md",
                f"logs/{DAY}.jsonl",
                "shared/both.jsonl",
            ):
                assert any(node in line and str(seq) in line for line in merged[name].splitlines()), (name, node, seq)
            assert merged[f"memory/{DAY}.md"].count(record(node, seq)) == 1
        assert len(merged[f"shared/{node}.jsonl"].splitlines()) == 2
    assert "MAINTENANCE_MODE" not in merged["HEARTBEAT.md"]
    assert merged["HEARTBEAT.md"].count(BEGIN) == 1
    assert {node: known.seq for node, known in decode(merged["STATE.json"].encode()).items()} == {"coz": 2, "axiom": 2}


def test_logs_that_both_compressed_are_one(nodes: dict[str, Home]) -> None:
    """Both nodes have cleaned the same day's log away: pulling gives one compressed log that has the lines of both."""
    packed = f"logs/{DAY}.jsonl.gz"
    for node, home in nodes.items():
        (home.workspace / "logs").mkdir()
        (home.workspace / packed).write_bytes(gzip.compress(f'{{"node":"{node}"}}\n'.encode()))
        commit(home.workspace)
    git(nodes["coz"].workspace, "push", "-q", "origin", "HEAD:main")
    git(nodes["axiom"].workspace, "pull", "-q", "--no-rebase", "origin", "main")
    merged = gzip.decompress((nodes["axiom"].workspace / packed).read_bytes())
    assert sorted(merged.splitlines()) == [b'{"node":"axiom"}', b'{"node":"coz"}']


def test_both_merge_at_once(nodes: dict[str, Home]) -> None:
    """Where both nodes merge the same two commits, each on its own, both get the same bytes; and again, from two bases then."""
    for seq in (1, 2):
        for node, home in nodes.items():
            known = decode(home.state_file.read_bytes()) if home.state_file.exists() else {}
            write(home.workspace, node, seq, known)
            commit(home.workspace)
            git(home.workspace, "branch", "-f", "before")
        for home, other in ((nodes["coz"], nodes["axiom"]), (nodes["axiom"], nodes["coz"])):
            git(home.workspace, "pull", "-q", "--no-rebase", str(other.workspace), "before")
        assert content(nodes["coz"]) == content(nodes["axiom"])
    assert (nodes["coz"].memory / f"{DAY}.md").read_text().count(record("axiom", 1)) == 1


def test_other_files_are_left_to_git(nodes: dict[str, Home]) -> None:
    """A file that is none of ours conflicts as ever; asked for one by hand, the driver says so with exit code 1."""
    for node, home in nodes.items():
        (home.workspace / "other.txt").write_text(f"{node}\n")
        commit(home.workspace)
    git(nodes["coz"].workspace, "pull", "-q", "--no-rebase", str(nodes["axiom"].workspace), "HEAD", ok=False)
    assert "<<<<" in (nodes["coz"].workspace / "other.txt").read_text()
    with pytest.raises(BadInput, match="other.txt is not a file that Outlast merges"):
        merge("other.txt", b"", b"a", b"b")
    name = str(nodes["coz"].workspace / "other.txt")
    done = subprocess.run([OUTLAST, "merge-driver", name, name, name, "x.txt"], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("outlast: PATH: x.txt is not")


def test_what_cannot_be_read_is_kept(nodes: dict[str, Home]) -> None:
    """A damaged side loses, whichever it is, and lies in the trash; a torn line of what is shared as well. The pull is through."""
    coz, axiom = nodes["coz"], nodes["axiom"]
    for node, home in nodes.items():
        write(home.workspace, node, 1, {})
    coz.state_file.write_bytes(coz.state_file.read_bytes()[:40])
    (axiom.memory / f"{DAY}.md").write_bytes(b"\0" * 100)
    with open(axiom.shared / "both.jsonl", "a") as file:
        file.write('{"seq":7,"va')
    for home in nodes.values():
        commit(home.workspace)
    git(coz.workspace, "pull", "-q", "--no-rebase", str(axiom.workspace), "HEAD")
    assert set(decode(coz.state_file.read_bytes())) == {"axiom"}
    assert record("coz", 1) in (coz.memory / f"{DAY}.md").read_text()
    assert (coz.shared / "both.jsonl").read_text().count("\n") == 2
    assert sorted(path.name.split("-", 2)[2] for path in coz.trash.iterdir()) == [
        f"{DAY}.md",
        "STATE.json",
        "both.jsonl",
    ]
    assert git(coz.workspace, "status", "--porcelain") == ""


def test_neither_side_can_be_read() -> None:
    """Then both nodes keep the same one, and the other is kept aside."""
    merged = merge("STATE.json", b"", b"{", b"[")
    assert merged == merge("STATE.json", b"", b"{", b"[") and merged.data == merge("STATE.json", b"", b"[", b"{").data
    assert (merged.data, merged.aside) == (b"{", (b"[",))
    assert len(merged.told) == 2


def test_installing_again_changes_nothing(nodes: dict[str, Home]) -> None:
    """--install says changed once; what else is in .git/info/attributes stays; git needs not be there the second time."""
    home = nodes["coz"]
    attributes = home.workspace / ".git" / "info" / "attributes"
    ours = attributes.read_text()
    assert install(home).changed is False
    attributes.write_text("*.png binary")
    command = [OUTLAST, "--home", home.root, "merge-driver", "--install", "--json"]
    again = [json.loads(subprocess.check_output(command, text=True))["changed"] for _ in range(2)]
    assert again == [True, False]
    assert attributes.read_text() == "*.png binary\n" + ours
    attributes.write_text(ours.replace("MEMORY.md", "OTHER.md") + "*.jpg binary\n")
    assert install(home).changed
    assert attributes.read_text() == ours + "*.jpg binary\n"
    git(home.workspace, "config", "merge.outlast.driver", "false")
    assert install(home).changed and not install(home).changed
    told = git(home.workspace, "check-attr", "merge", "--", *(p.replace("*", "2026-11-21") for p in PATTERNS), "x.md")
    assert [line.rpartition(": ")[2] for line in told.splitlines()] == ["outlast"] * len(PATTERNS) + ["unspecified"]


def test_installing_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No repository, or one that ignores the workspace: nothing is changed, and said so."""
    home = make_home(tmp_path / "a", "coz")
    assert install(home).told == "the workspace is in no git repository"
    git(tmp_path, "init", "-q", "-b", "main", "b")
    (tmp_path / "b" / ".gitignore").write_text(".outlast/\n")
    before = (tmp_path / "b" / ".git" / "config").read_text()
    inner = make_home(tmp_path / "b" / ".outlast", "coz")
    found = install(inner)
    assert not found.changed and found.told == f"the repository {tmp_path / 'b'} ignores the workspace"
    assert (tmp_path / "b" / ".git" / "config").read_text() == before


@pytest.mark.parametrize("above", ["plain", "with space", 'quo"te', "st*r[x]", "it's 100% \\ here"])
def test_installing_where_paths_are_odd(tmp_path: Path, above: str) -> None:
    """Below a folder of any name, in a repository above it, in a worktree of it: git finds the driver, and it merges."""
    git(tmp_path, "init", "-q", "-b", "main", "main tree")
    (tmp_path / "main tree" / "x").write_text("x")
    commit(tmp_path / "main tree")
    git(tmp_path / "main tree", "worktree", "add", "-q", "-b", "side", str(tmp_path / "tree"))
    home = make_home(tmp_path / "tree" / above, "coz")
    assert install(home).changed and not install(home).changed
    path = home.memory_file.relative_to(tmp_path / "tree")
    assert git(tmp_path / "tree", "check-attr", "merge", "--", str(path)).endswith(": merge: outlast\n")
    for branch, text in (("side", "one\n"), ("other", "two\n")):
        git(tmp_path / "tree", "checkout", "-q", "-B", branch, "main")
        home.workspace.mkdir(exist_ok=True)
        home.memory_file.write_text(text)
        git(tmp_path / "tree", "add", "--", str(path))
        git(tmp_path / "tree", "commit", "-qm", "x")
    git(tmp_path / "tree", "merge", "-q", "side")
    assert home.memory_file.read_text() == "one\ntwo\n"
