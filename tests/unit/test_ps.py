"""`outlast ps`, `restart` and `logs`: what a person sees, and what a script gets."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest
from click.testing import CliRunner
from support.live import until

from outlast.cli import ps as module
from outlast.cli.commands import outlast
from outlast.cli.ps import printed
from outlast.home import Home
from outlast.work.output import Output

SERVICE = {
    "state": "running",
    "pid": 4711,
    "since": "2026-01-01T00:00:00.000Z",
    "restarts": 2,
    "last_exit": 1,
    "last_reason": "ended with exit code 1",
    "priority": "P0",
    "due_s": None,
}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "coz")
    home.config.parent.mkdir(parents=True)
    config = "node: coz\nlisten: {host: 127.0.0.1, port: 1}\nagent: {command: [/bin/true]}\n"
    home.config.write_text(config + "services: {gateway: {command: [sleep, '1']}}\n")
    return home


def answered(monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any]) -> None:
    monkeypatch.setattr(module, "order", lambda *_, **__: answer)


def run(home: Home, *words: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(outlast, ["--home", str(home.root), *words], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return int(done.return_value or 0), done.stdout, done.stderr


def test_ps_shows_each_state(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line for each, what else is at work, when one that waits is tried again, and exit code 1 when one rests."""
    services = {
        "web": SERVICE,
        "bad": {**SERVICE, "state": "resting", "pid": None, "since": "", "due_s": 250.0},
        "study": {**SERVICE, "state": "shed", "pid": None, "since": ""},
    }
    found = {
        "node": "coz",
        "mode": "degraded",
        "services": services,
        "others": [{"name": "nightly", "pid": 9, "since": SERVICE["since"]}],
    }
    answered(monkeypatch, found)
    code, shown, _ = run(home, "ps")
    lines = {line.split()[0]: line for line in shown.splitlines()}
    assert code == 1
    assert "running" in lines["web"] and "4711" in lines["web"] and "exit code 1" in lines["web"]
    assert "resting, again in 250 s" in lines["bad"]
    assert "shed, mode degraded" in lines["study"]
    assert "at work" in lines["nightly"]
    assert json.loads(run(home, "ps", "--json")[1]) == found
    answered(monkeypatch, {**found, "services": {}, "others": []})
    code, shown, _ = run(home, "ps")
    assert code == 0 and "keeps nothing running" in shown


@pytest.mark.parametrize(("state", "code"), [("running", 0), ("waiting", 1), ("shed", 1)])
def test_restart_says_whether_it_runs(home: Home, monkeypatch: pytest.MonkeyPatch, state: str, code: int) -> None:
    """Exit code 0 only when it runs, and otherwise where to look."""
    one = {"name": "web", "before": 1, **SERVICE, "state": state}
    answered(monkeypatch, {**one, "services": {"web": one}})
    monkeypatch.setattr("outlast.cli.ps._WATCH_S", 0.0)
    done, shown, trouble = run(home, "restart", "web")
    assert done == code
    assert ("pid 4711 (before: 1)" in shown) if code == 0 else ("outlast logs web" in trouble and state in trouble)


def test_a_restart_of_what_ends_at_once_is_none(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ran for an instant and rests is not said to run."""
    one = {"name": "web", "before": 1, **SERVICE, "state": "running"}
    answered(monkeypatch, {**one, "services": {"web": {**one, "pid": 0, "state": "resting", "last_reason": "exit 1"}}})
    monkeypatch.setattr("outlast.cli.ps._WATCH_S", 0.0)
    done, _, trouble = run(home, "restart", "web")
    assert done == 1 and "it is resting: exit 1" in trouble


def test_logs_over_both_parts(home: Home) -> None:
    """The last lines, from the older part as well; --json gives a document a line; none are shown where none are asked for."""
    output = Output(home.outputs / "gateway.log", 60)
    for number in range(10):
        output.write(b"line %d\n" % number)
    assert run(home, "logs", "gateway", "-n", "4")[1] == "line 6\nline 7\nline 8\nline 9\n"
    assert run(home, "logs", "gateway")[1].startswith("line 0\n")
    assert json.loads(run(home, "logs", "gateway", "-n", "1", "--json")[1]) == {"name": "gateway", "line": "line 9"}
    assert run(home, "logs", "gateway", "-n", "0")[1] == ""
    output.write(b"no end")
    assert run(home, "logs", "gateway", "-n", "1")[1] == "no end\n"


def test_logs_of_what_has_printed_nothing(home: Home) -> None:
    """A declared service without output is no error; one that is not known is, with the name that was meant."""
    code, shown, trouble = run(home, "logs", "gateway")
    assert (code, shown) == (0, "") and "nothing yet" in trouble
    with pytest.raises(Exception, match="did you mean gateway?"):
        run(home, "logs", "gatway")


def test_escape_sequences_reach_no_terminal(home: Home) -> None:
    """A program cannot give orders to the terminal of who reads its log."""
    Output(home.outputs / "gateway.log", 100).write(b"\33]0;gotcha\7\33[2J\n")
    assert "\33" not in run(home, "logs", "gateway")[1]


def test_follow_loses_nothing_when_the_file_is_rotated(home: Home) -> None:
    """Each line comes once and in order, over rotations, also where the file is not there yet."""
    follower = printed(home, "gateway", 300, follow=True)
    seen: list[str] = []
    reader = threading.Thread(target=lambda: seen.extend(itertools.islice(follower, 300)), daemon=True)
    reader.start()
    output = Output(home.outputs / "gateway.log", 2000)
    for number in range(300):
        output.write(b"line %d\n" % number)
        if number % 100 == 99:
            until(lambda number=number: len(seen) > number - 1 or not reader.is_alive(), what="the reader")
    reader.join(30)
    assert seen == [f"line {number}" for number in range(300)]


def test_what_was_printed_just_before_a_rotation_is_followed(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines that came between the last reading and the rotation are shown, before those of the new file."""
    output = Output(home.outputs / "gateway.log", 30)
    output.write(b"first\n")
    follower = printed(home, "gateway", 5, follow=True)
    assert next(follower) == "first"
    late = [b"second\n", b"third\n", b"fourth, in a new file\n"]

    def looked(path: Path, stream: IO[bytes] | None, replaced: Callable[..., bool] = module._replaced) -> bool:
        while late:
            output.write(late.pop(0))
        return replaced(path, stream)

    monkeypatch.setattr(module, "_replaced", looked)
    assert [next(follower) for _ in range(3)] == ["second", "third", "fourth, in a new file"]
