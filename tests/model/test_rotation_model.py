"""The rotation protocol, checked exhaustively by Spin (rotation.pml), and the model held against the code.

Needs Debian's spin and a C compiler; a search takes a second or two.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from support.needs import missing

from outlast.core import keys
from plugins.plugin_utils import rotation

pytestmark = pytest.mark.timeout(120)

_MODEL = Path(__file__).with_name("rotation.pml")
_DEPTH = 200_000

# What is looked at. One peer stands for each of many, because a node uses its key only when each of them confirmed.
SCENES = {
    "one peer": ["PEERS=1"],
    "one peer, the key leaked": ["PEERS=1", "LEAK"],
    "two people rotate at once": ["PEERS=1", "PLAYS=2", "QUIET"],
    "two peers, messages one way": ["ONE_WAY"],
    "two peers, nobody else copies rings": ["QUIET"],
    "two peers, the key leaked": ["LEAK", "ONE_WAY", "QUIET"],
}

# What happens where it is missing is a counterexample that Spin found.
GUARDS = {
    "NO_ALL_HOLD": "a key is used only when every peer has confirmed to hold it",
    "NO_OVERLAP": "the key before is accepted until it is retired",
    "NO_WAIT": "whoever is told that the new key is used is told so when nothing older is in flight",
    "NO_WAIT_AGAIN": "a run that carries on waits again for what is in flight",
    "NO_KEPT": "a key that waits to be used is kept by the next run",
    "NO_MERGE_KEEPS_DEAD": "a ring that was read long ago brings no retired or revoked key back",
    "NO_MERGE_KEEPS_NEWER": "a ring that was read long ago ends no key that is newer than it",
    "NO_DURABLE": "what was confirmed is on the disk",
    "NO_LIVE": "the running node goes by its file at once",
    "NO_NOW": "an answer is believed by the keys that are accepted now",
    "NO_WHEN_ASKED": "an answer is believed by the keys that were accepted when its request went out",
}
_WHERE = {"NO_KEPT": ["PEERS=1", "KEYS=3", "PLAYS=2", "QUIET"], "NO_MERGE_KEEPS_DEAD": ["PEERS=1", "LEAK"]}


def search(folder: Path, flags: list[str], *, printing: bool = False) -> str:
    """Let Spin go through every state of the model with these macros; what it said."""
    for program in ("spin", "gcc"):
        if shutil.which(program) is None:
            missing(f"{program}, for checking the model of a rotation")
    shutil.copy(_MODEL, folder)
    # -DCOLLAPSE: a quarter of the memory.
    compiled = ["-O1", "-w", "-DSAFETY", "-DCOLLAPSE", "-DMEMLIM=2000", *(["-DPRINTF"] if printing else [])]
    for command in (
        ["spin", *(f"-D{flag}" for flag in flags), "-a", _MODEL.name],
        ["gcc", *compiled, "-o", "pan", "pan.c"],
        ["./pan", f"-m{_DEPTH}"],
    ):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=100)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "max search depth too small" not in done.stdout
    assert "out of memory" not in done.stdout
    return done.stdout


def errors(said: str) -> int:
    """How many counterexamples there are."""
    found = re.search(r"errors: (\d+)", said)
    assert found, said
    return int(found[1])


@pytest.mark.parametrize("flags", SCENES.values(), ids=SCENES)
def test_no_honest_message_is_refused_and_no_old_key_comes_back(tmp_path: Path, flags: list[str]) -> None:
    """In every state that crashes, losses, delays and other runs can lead to: nothing that is waited for is refused, and a
    peer that was reported as done never takes the old key again."""
    said = search(tmp_path, flags)
    assert errors(said) == 0, said
    # A model that cannot move would hold as well.
    states = re.search(r"(\d+) states, stored", said)
    assert states and int(states[1]) > 50_000, said


@pytest.mark.parametrize("guard", GUARDS, ids=GUARDS.get)
def test_every_guard_is_needed(tmp_path: Path, guard: str) -> None:
    """Without any one of the protocol's rules there is a run of events in which a message is refused or an old key taken."""
    assert errors(search(tmp_path, [*_WHERE.get(guard, ["PEERS=1"]), guard])) == 1


# The model and the code

_OLD, _NEW = (keys.Secret(bytes([number]) * 32) for number in (1, 2))
_STATES: dict[str, keys.KeyState | None] = {
    "0": None, "1": "accepted", "2": "active", "3": "retired", "4": "revoked",
}  # fmt: skip
_NUMBERS = {state: number for number, state in _STATES.items()}
_LABEL = "r2"


def ring(states: str) -> keys.Ring:
    """The ring that the model writes so: the old key's state, the new one's."""
    made = []
    for number, secret, at, label in ((states[1], _NEW, 2e9, _LABEL), (states[0], _OLD, 1e9, "r1")):
        if state := _STATES[number]:
            made.append(keys.Key(secret.id, state, at, label, secret if state in {"accepted", "active"} else None))
    return tuple(made)


def states(found: keys.Ring) -> str:
    """How the model writes a ring."""
    told = {key.id: _NUMBERS[key.state] for key in found}
    return "".join(told.get(secret.id, "0") for secret in (_OLD, _NEW))


def verifies(found: str) -> str:
    """What matters of a copy: which keys verify, and which are revoked."""
    return found.replace("2", "1")


def prepared(before: keys.Ring) -> keys.Ring:
    """What becomes of a node's ring in the play's phase of that name."""
    told = rotation.Told({"a": tuple(rotation.Key(key.id, key.state, "hmac", "-", key.rotation) for key in before)})
    run = rotation.Run(("a",), {"a": ()}, {"a": told}, ("a",), label=_LABEL)
    orders = rotation.orders("prepare", "a", run)
    assert [order.words for order in orders] in ([], [("keys", "prepare", "--rotation", _LABEL)])
    return keys.prepare(before, _NEW, 2e9, _LABEL) if orders else before


def did(what: str, before: keys.Ring, incoming: str) -> keys.Ring:
    """One of the model's steps, taken by the code."""
    match what:
        case "prepare":
            return prepared(before)
        case "use":
            return keys.use(before)
        case "retire":
            return keys.retire(before)
        case "revoke":
            return keys.revoke(before, {_OLD.id})
        case _:
            return keys.merge(before, ring(incoming))


@pytest.mark.parametrize("flags", [["PEERS=1"], ["PEERS=1", "LEAK"]], ids=["rotation", "leak"])
def test_the_code_does_what_the_model_does(tmp_path: Path, flags: list[str]) -> None:
    """Every change of a ring in every state that the model reaches is the one that core/keys.py and the play make."""
    said = search(tmp_path, [*flags, "TELL"], printing=True)
    taken = set(re.findall(r"^ *(prepare|use|retire|revoke|merge) ([0-4]{2})(?: ([0-4]{2}))? ([0-4]{2})$", said, re.M))
    assert {step[0] for step in taken} >= {"prepare", "use", "retire", "merge"}
    assert len(taken) > 25
    for what, before, incoming, after in taken:
        found = states(did(what, ring(before), incoming))
        if what == "merge":
            assert verifies(found) == verifies(after), (what, before, incoming, after, found)
        else:
            assert found == after, (what, before, incoming, after, found)
