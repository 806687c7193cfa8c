"""What the command prints for people."""

from __future__ import annotations

from outlast.cli.show import plain, whose


def test_nothing_that_a_terminal_must_understand() -> None:
    """Control characters, which agents may have written, are spaces; lines stay lines."""
    assert plain("\x1b]52;c;eA==\x07 a\nb\r\x9b") == " ]52;c;eA==  a\nb  "


def test_a_step_has_no_peer() -> None:
    """A step is nobody's hand-off."""
    assert whose({"kind": "step", "peer": ""}) == "(a step of its own)"
    assert (whose({"kind": "task", "peer": "coz"}), whose({"kind": "handoff", "peer": "coz"})) == ("from coz", "to coz")
