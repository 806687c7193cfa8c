"""``outlast dashboard``: where the page is, and the token for nobody but who sits at a terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from support.live import LiveNode, free_port

from outlast.errors import KeyFileError
from outlast.store import pagetoken


@pytest.fixture
def node(tmp_path: Path) -> LiveNode:
    """A node that is not running, whose dashboard is open beyond loopback."""
    return LiveNode(tmp_path, "coz", free_port(), {}, {"dashboard": {"host": "192.0.2.7", "port": 18901}})


def typed(node: LiveNode, *words: str) -> str:
    """What a person sees who types it at a terminal."""
    here, there = pty.openpty()
    command = [str(Path(sys.executable).parent / "outlast"), "--home", str(node.home.root), "dashboard", *words]
    with subprocess.Popen(command, stdout=there, stderr=there, stdin=there, close_fds=True) as process:
        os.close(there)
        said = b""
        while True:
            try:
                piece = os.read(here, 4096)
            except OSError:
                break
            if not piece:
                break
            said += piece
        process.wait(30)
    os.close(here)
    return said.decode()


def test_the_token_is_shown_at_a_terminal_and_nowhere_else(node: LiveNode) -> None:
    """A file or a pipe keeps what it is given; without the option it is shown to nobody."""
    token = pagetoken.made(node.home.dashboard_token)
    assert f"http://192.0.2.7:18901/?token={token}" in typed(node, "--with-token")
    assert token not in typed(node)
    for words in (("--with-token",), ("--with-token", "--json")):
        done = node.cli("dashboard", *words)
        assert done.returncode == 2 and token not in done.stdout + done.stderr
        assert "type it in a terminal" in done.stderr


def test_a_node_that_is_down_has_its_page_nowhere_and_says_where_it_would_be(node: LiveNode) -> None:
    """Exit code 3, as of every command that needs it."""
    done = node.cli("dashboard")
    assert (done.returncode, done.stdout) == (3, "http://192.0.2.7:18901/\n") and "not running" in done.stderr
    assert node.json("dashboard") == {"node": "coz", "url": "http://192.0.2.7:18901/", "state": "not running"}


def test_a_token_that_is_not_there_or_not_right_is_named(node: LiveNode) -> None:
    """With its file, what is wrong, and the mend; the wrong one is not shown."""
    file = node.home.dashboard_token
    with pytest.raises(KeyFileError, match="there is no token"):
        pagetoken.read(file)
    for text in ("", "short", "x" * 200, "with a space in the middle of it, and long enough to pass"):
        file.write_text(text)
        file.chmod(0o600)
        with pytest.raises(KeyFileError, match="it holds no token") as caught:
            pagetoken.read(file)
        assert not text or text not in str(caught.value)
    file.unlink()
    file.mkdir()
    with pytest.raises(KeyFileError, match="cannot be read"):
        pagetoken.made(file)
    file.rmdir()
    first = pagetoken.made(file)
    assert pagetoken.made(file) == first and file.stat().st_mode & 0o777 == 0o600
    file.chmod(0o640)
    with pytest.raises(KeyFileError, match="others may use it"):
        pagetoken.read(file)
    file.unlink()
    assert pagetoken.made(file) != first
