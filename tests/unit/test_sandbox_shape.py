"""What the sandbox is told: what is shown and closed, on Linux and on a Mac, whose own program is not here to be asked."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

import pytest

from outlast.home import Home
from outlast.work import sandbox
from outlast.work.sandbox import Cell, Sandbox, find_sandbox, readable


@pytest.fixture
def cell(tmp_path: Path) -> Cell:
    """A sub-agent's of a home that lies in a folder of the system, beside another one."""
    home = Home(tmp_path / "opt" / "coz")
    for node in ("coz", "axiom"):
        (tmp_path / "opt" / node / "etc").mkdir(parents=True)
        (tmp_path / "opt" / node / "etc" / "node.yml").touch()
    (tmp_path / "opt" / "tool").mkdir()
    folder = home.subagents / "sub1"
    paths = (folder / "work", folder / "tmp", folder / "papers", home.agents_socket)
    return Cell(home, *paths, readable=(tmp_path / "opt",), shown=(home.workspace,))


def _words(command: list[str], option: str) -> list[str]:
    return [command[at + 1] for at, word in enumerate(command) if word == option]


def test_homes_are_closed_before_what_is_ours_is_shown(cell: Cell) -> None:
    """A folder of the system that holds homes shows none of them; what comes after is the sub-agent's own, and no key."""
    command = Sandbox("bubblewrap", "/usr/bin/bwrap").wrapper(cell)
    closed = [command.index("--tmpfs")]
    root = cell.home.root
    assert _words(command, "--tmpfs") == [str(root.parent / "axiom"), str(root)]
    shown = [path for path in _words(command, "--ro-bind") if Path(path).is_relative_to(root)]
    assert shown == [str(root / "workspace"), str(cell.papers), str(root / "run" / "agents.sock")]
    assert command.index(str(root.parent)) < closed[0] < command.index(str(cell.papers))
    assert not any("keys" in word or "control.sock" in word for word in command)
    assert set(_words(command, "--remount-ro")) == {"/", "/dev", str(root), str(root.parent / "axiom")}
    assert command[-1] == "--" and "--unshare-net" in command and "--die-with-parent" in command


def test_what_is_written_to_memory_elsewhere_is_a_folder_here(cell: Cell) -> None:
    """/tmp and /dev/shm are the sub-agent's own, whose size is watched."""
    command = Sandbox("bubblewrap", "bwrap").wrapper(cell)
    binds = {command[at + 2]: command[at + 1] for at, word in enumerate(command) if word == "--bind"}
    temporary = str(cell.temporary)
    own = {str(cell.work): str(cell.work), temporary: temporary}
    assert binds == {"/tmp": temporary, "/dev/shm": temporary, **own}


def test_the_network_and_proc_are_left_out_where_said(cell: Cell) -> None:
    """The network stays where it is allowed; where no /proc can be had none is asked for."""
    from dataclasses import replace

    assert "--unshare-net" not in Sandbox("bubblewrap", "bwrap").wrapper(replace(cell, network=True))
    assert "--proc" in Sandbox("bubblewrap", "bwrap").wrapper(cell)
    assert "--proc" not in Sandbox("bubblewrap", "bwrap", proc=False).wrapper(cell)


def test_the_profile_of_a_mac(cell: Cell) -> None:
    """Everything is denied but what is named; homes are closed after the system is shown, and what is ours shown after that.

    Its last rule that fits decides. Paths are parameters, so that none can break out of the profile's text.
    """
    command = Sandbox("sandbox-exec", "/usr/bin/sandbox-exec").wrapper(cell)
    named = dict(word.split("=", 1) for word in _words(command, "-D"))
    (profile,) = _words(command, "-p")
    rules = [line for line in profile.splitlines() if line]
    assert rules[:2] == ["(version 1)", "(deny default)"]
    assert profile.count("(") == profile.count(")") and '"' not in re.sub(r'"[A-Za-z0-9./]*"', "", profile)
    used = set(re.findall(r'\(param "([A-Z0-9]+)"\)', profile))
    assert used == set(named)

    def rule(text: str) -> tuple[int, set[str]]:
        (at,) = [at for at, line in enumerate(rules) if line.startswith(text)]
        return at, {named[name] for name in re.findall(r'\(param "([A-Z0-9]+)"\)', rules[at])}

    system, closed = rule('(allow file-read* (literal "/")'), rule("(deny file-read* file-read-metadata")
    own, written = rule("(allow file-read* (subpath"), rule("(allow file-write*")
    root = cell.home.root
    assert system[0] < closed[0] < own[0]
    assert closed[1] == {str(root), str(root.parent / "axiom")}
    ours = {str(path) for path in (cell.work, cell.temporary, cell.papers, root / "workspace")}
    assert {path for path in own[1] if path.startswith(str(root))} == ours
    assert written[1] == {str(cell.work), str(cell.temporary)}
    assert rule("(allow network-outbound")[1] == {str(cell.socket)}
    assert not any(line.startswith("(allow network*)") for line in rules)


def test_where_the_program_is_not_there_the_mend_is_said(monkeypatch: pytest.MonkeyPatch, cell: Cell) -> None:
    """One line: what is missing, and how to get it."""
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(sys, "platform", "linux")
    found = asyncio.run(find_sandbox(cell))
    assert found.kind == "none" and found.trouble.startswith("bubblewrap is not installed; apt install bubblewrap")


def test_a_way_that_does_not_work_gives_way_to_the_next(monkeypatch: pytest.MonkeyPatch, cell: Cell) -> None:
    """First with a /proc, then without; where neither works, why the first did not, and the mend under systemd."""
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(sandbox.shutil, "which", lambda _: "/usr/bin/bwrap")
    monkeypatch.setattr(sandbox, "_tried", lambda kind, _: "cannot mount proc" if kind.proc else "")
    assert asyncio.run(find_sandbox(cell)) == Sandbox("bubblewrap", "/usr/bin/bwrap", proc=False)
    monkeypatch.setattr(sandbox, "_tried", lambda *_: "No permissions to create new namespace")
    trouble = asyncio.run(find_sandbox(cell)).trouble
    assert trouble.startswith("bubblewrap does not work here (No permissions to create new namespace); ")
    assert "outlast_agent_needs" in trouble


def test_what_may_be_read_is_named_once(tmp_path: Path) -> None:
    """Our own Python is there wherever it lies; what is not there, or lies in something that is, is not named."""
    inside = tmp_path / "inside"
    inside.mkdir()
    found = readable([str(tmp_path), str(inside), "/no/such"])
    assert tmp_path in found and inside not in found and Path("/no/such") not in found
    assert any(Path(sys.prefix).is_relative_to(path) for path in found)
