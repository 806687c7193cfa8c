"""`outlast state` and `outlast facts`, as they are typed, with the runtime dead."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support.live import LiveNode

from outlast.cli.commands import outlast
from outlast.errors import BadInput


class Typed:
    """Types commands on one node; exit codes are what a command returns."""

    def __init__(self, node: LiveNode) -> None:
        self.node = node

    def __call__(self, *words: str, given: bytes | None = None) -> tuple[int, str, str]:
        """Exit code, standard output and standard error."""
        done: Result = CliRunner().invoke(
            outlast, ["--home", str(self.node.home.root), *words], input=given, standalone_mode=False
        )
        if done.exception is not None:
            raise done.exception
        return done.return_value, done.stdout, done.stderr

    def json(self, *words: str) -> object:
        """What it prints with --json."""
        return json.loads(self(*words, "--json")[1])


@pytest.fixture
def typed(tmp_path: Path) -> Typed:
    """A node of its own, which does not run."""
    return Typed(LiveNode(tmp_path, "coz", 1, {}))


def test_what_is_set_is_printed_as_it_is(typed: Typed) -> None:
    """Read from standard input, a value comes out of a pipe byte for byte; one line's end is the command's own."""
    text = "two\tcolumns\nü \x1b[0m\n"
    assert typed("state", "set", "report", "-", given=f"{text}\n".encode()) == (0, "report is set\n", "")
    assert typed("state", "get", "report") == (0, f"{text}\n", "")
    assert typed.json("state", "get", "report")["value"] == text  # type: ignore[index]


def test_an_unknown_key_is_one_line_and_1(typed: Typed) -> None:
    """Nothing on standard output, so that a script cannot take it for a value; with --json a document that says so."""
    assert typed("state", "get", "nobody") == (1, "", "nobody holds nothing\n")
    assert typed.json("state", "get", "nobody") == {"key": "nobody", "found": False}


def test_the_list_shows_who_wrote_what(typed: Typed) -> None:
    """Keys by prefix, values cut to a line, sets in braces; nothing in them drives a terminal."""
    typed("state", "set", "a/1", "long " * 100)
    typed("state", "set", "b", "\x1b[2Jx")
    for element in ("y", "x"):
        typed("state", "add", "a/2", element)
    _, shown, _ = typed("state", "ls", "a/")
    heading, first, second = shown.splitlines()
    assert heading.split() == ["key", "value", "by", "when"]
    assert first.startswith("a/1  long long") and "…" in first and "coz" in first and len(first) < 100
    assert second.startswith("a/2  {x, y}")
    assert "\x1b" not in typed("state", "ls")[1]
    assert typed("state", "ls", "c") == (0, "", "nothing begins with c\n")
    assert {one["key"] for one in typed.json("state", "ls")["keys"]} == {"a/1", "a/2", "b"}  # type: ignore[index]


def test_removing_says_whether_there_was_something(typed: Typed) -> None:
    """unset and discard are safe to repeat: 0 both times, and the text tells which it was."""
    typed("state", "set", "a", "1")
    typed("state", "add", "b", "1")
    assert typed("state", "unset", "a")[1] == "a is unset\n"
    assert typed("state", "unset", "a") == (0, "a holds no value\n", "")
    assert typed("state", "discard", "b", "1")[1] == "it is out of b\n"
    assert typed("state", "discard", "b", "1") == (0, "it was not in b\n", "")


def test_facts_are_asked_for_by_name_and_with_their_history(typed: Typed) -> None:
    """The fact that counts, all of them with --history, and 1 where none is known; the journal has a note of each."""
    for value in ("82 %", "80 %"):
        assert typed("facts", "add", "pi", "battery", value)[:2] == (0, "pi battery is kept\n")
    assert typed("facts", "query", "pi", "battery")[1].splitlines()[1].split()[:4] == ["pi", "battery", "80", "%"]
    assert len(typed("facts", "query", "--history")[1].splitlines()) == 3
    assert typed("facts", "query", "mac") == (1, "", "no such fact is known\n")
    assert [line.split(" [")[0][11:] for line in typed.node.records("NOTE", "fact")] == [
        "NOTE fact pi battery = 82 %",
        "NOTE fact pi battery = 80 %",
    ]


@pytest.mark.parametrize(
    "words",
    ["state get \udcff", "state ls \udcff", "facts query \udcff", "step begin --unit 8 --artifact a --what \udcff"],
)
def test_what_is_not_utf_8_is_refused_with_the_mend(typed: Typed, words: str) -> None:
    """Whatever a shell can type is answered in words."""
    with pytest.raises(BadInput, match="is not UTF-8; write it in UTF-8"):
        typed(*words.split())
