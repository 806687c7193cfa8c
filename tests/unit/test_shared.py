"""Shared state on one node: what an order does, and that its files survive damage, git, a full disk and a failing one."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support.sharing import Net, SharingNode

from outlast.core.crdt import Entry, Replica
from outlast.errors import BadInput, DurabilityError
from outlast.store import durable
from outlast.store.appendfile import AppendFile
from outlast.store.shared import line, read_line


@pytest.fixture
def coz(tmp_path: Path) -> SharingNode:
    """One node, of a pair of which the other is never heard."""
    return Net(tmp_path, "coz", "axiom").nodes["coz"]


def _file(node: SharingNode, agent: str = "coz") -> Path:
    path: Path = node.home.shared / f"{agent}.jsonl"
    return path


def _lines(node: SharingNode, agent: str = "coz") -> list[dict[str, object]]:
    return [json.loads(text) for text in _file(node, agent).read_text().splitlines()]


# What an order does.


def test_a_value_is_kept_changed_and_taken_away(coz: SharingNode) -> None:
    """set, get, set again, unset, get; the later value counts, and what is unset holds nothing, also after a start."""
    coz.shared.set("team/lead", "axiom")
    coz.shared.set("team/lead", "coz, for now")
    assert coz.shared.get("team/lead")["value"] == "coz, for now"
    assert coz.shared.unset("team/lead")["changed"] is True
    assert coz.shared.unset("team/lead")["changed"] is False
    coz.start()
    assert coz.shared.get("team/lead") == {"key": "team/lead", "found": False}
    assert coz.shared.ls("team")["keys"] == []


def test_a_set_holds_what_was_added_and_not_discarded(coz: SharingNode) -> None:
    """Elements are listed sorted; discarding one that is not there changes nothing and writes nothing."""
    for element in ("b", "a", "", "ü"):
        coz.shared.add("team", element)
    coz.shared.discard("team", "b")
    size = _file(coz).stat().st_size
    assert coz.shared.discard("team", "nobody")["changed"] is False
    assert _file(coz).stat().st_size == size
    coz.start()
    assert coz.shared.get("team")["elements"] == ["", "a", "ü"]


def test_a_key_is_a_value_or_a_set_and_both_only_where_two_nodes_made_it_so(coz: SharingNode) -> None:
    """Setting a set, or adding to a value, is refused with the mend. What two nodes did at once shows both, and either can be
    taken away."""
    coz.shared.set("a", "1")
    coz.shared.add("b", "1")
    with pytest.raises(BadInput, match="unset it first"):
        coz.shared.add("a", "2")
    with pytest.raises(BadInput, match="discard its elements first"):
        coz.shared.set("b", "2")
    axiom = Replica()
    coz.shared.take(axiom.holding(), (axiom.entry("axiom", "add", "a", "2", ""),), whole=False)
    assert coz.shared.get("a") == {"key": "a", "found": True, "value": "1", "elements": ["2"], **_by(coz, "a")}
    coz.shared.unset("a")
    assert "value" not in coz.shared.get("a") and coz.shared.get("a")["elements"] == ["2"]


def _by(node: SharingNode, key: str) -> dict[str, object]:
    found = node.shared.get(key)
    return {name: found[name] for name in ("agent", "at")}


def test_facts_replace_each_other_and_none_is_lost(coz: SharingNode) -> None:
    """The last fact about an attribute counts; the history has all, newest first; each is one short note in the journal."""
    for value in ("82 %", "80 %", "79 %"):
        coz.shared.fact("pi", "battery", value)
    coz.shared.fact("mac", "battery", "50 %")
    (counts,) = coz.shared.query("pi")["facts"]  # type: ignore[misc]
    assert (counts["value"], counts["current"], counts["agent"]) == ("79 %", True, "coz")
    history = coz.shared.query("pi", "battery", history=True)["facts"]
    assert [fact["value"] for fact in history] == ["79 %", "80 %", "82 %"]  # type: ignore[attr-defined]
    assert len(coz.shared.query("", "battery")["facts"]) == 2  # type: ignore[arg-type]
    assert coz.noted[0] == ("fact", "pi battery = 82 %")


def test_a_state_that_is_set_costs_the_journal_nothing(coz: SharingNode) -> None:
    """Values and sets are not told to the journal, which agents read at a cost."""
    coz.shared.set("a", "1")
    coz.shared.add("b", "1")
    assert coz.noted == []


@pytest.mark.parametrize("name", ["", "-a", "a b", "../x", "ä", "a" * 129, "a\n", "a\x1b[0m"])
def test_a_name_that_is_none_is_refused_with_the_mend(coz: SharingNode, name: str) -> None:
    """One line: field, what is wrong, the mend; nothing is written."""
    for write in (coz.shared.set, coz.shared.add, lambda key, value: coz.shared.fact(key, "b", value)):
        with pytest.raises(BadInput, match="is not a name; use 1 to 128 of"):
            write(name, "x")
    assert not coz.home.shared.exists()


def test_a_value_that_is_too_long_is_refused_with_the_mend(coz: SharingNode) -> None:
    """16 KiB in UTF-8 is the limit, to the byte."""
    coz.shared.set("a", "ü" * 8192)
    with pytest.raises(BadInput, match="16386 bytes are too many; use at most 16384"):
        coz.shared.set("a", "ü" * 8193)


def test_ties_go_to_the_first_in_the_priority(coz: SharingNode) -> None:
    """Two agents wrote the same number: shared.priority decides, and agents that are not in it come after, by name."""
    tied = [Entry(agent, 1, "set", "a", agent) for agent in ("axiom", "coz", "witness", "zoe")]
    for priority, winner in ((["witness", "coz"], "witness"), (["zoe"], "zoe"), ([], "axiom")):
        for order in (tied, tied[::-1]):
            replica = Replica(priority)
            replica.absorb(order)
            held = replica.register("a")
            assert held is not None and held.value == winner


# What is on the disk.


def test_a_line_is_json_that_people_can_read_and_its_checksum_covers_it(coz: SharingNode) -> None:
    """One object a line, with what jq needs; any changed byte makes the line damaged."""
    coz.shared.set("a", '1 \\ " ü \x00')
    (told,) = _lines(coz)
    assert (told["agent"], told["seq"], told["kind"], told["key"], told["value"]) == (
        "coz",
        1,
        "set",
        "a",
        '1 \\ " ü \x00',
    )
    data = _file(coz).read_bytes().rstrip(b"\n")
    assert isinstance(read_line(data), Entry)
    for place in range(len(data)):
        assert read_line(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]) is False
        assert read_line(data[:place]) is False


def test_a_torn_line_is_passed_over_and_the_file_is_mended(coz: SharingNode) -> None:
    """What a kill left half-written is reported and gone from the file; the file as it was is in trash; the rest is there."""
    coz.shared.set("a", "1")
    whole = _file(coz).read_bytes()
    _file(coz).write_bytes(whole + b'{"agent":"coz","seq":2,"ki')
    coz.start()
    assert coz.shared.get("a")["value"] == "1"
    (finding,) = coz.shared.check()
    assert (finding.about, finding.found) == ("shared/coz.jsonl", "a torn or damaged line")
    assert _file(coz).read_bytes() == whole
    (kept,) = coz.home.trash.iterdir()
    assert kept.read_bytes().endswith(b'"ki')
    coz.shared.set("b", "2")
    assert len(_lines(coz)) == 2


def test_binary_rubbish_is_damage_and_nothing_worse(coz: SharingNode) -> None:
    """Whatever is in the file, what is whole in it is read."""
    coz.shared.set("a", "1")
    other = line(Entry("axiom", 7, "set", "b", "2"))
    deep = b"[" * 100_000
    rubbish = bytes(range(256)) + b"\n\xff\xfe\n" + other + deep + b"\n"
    _file(coz).write_bytes(rubbish + _file(coz).read_bytes() + b"null\n[]\n{}\n\n")
    coz.start()
    assert [one["key"] for one in coz.shared.ls()["keys"]] == ["a"]  # type: ignore[attr-defined]
    assert len(_lines(coz)) == 1


def test_lines_that_end_as_elsewhere_are_whole(coz: SharingNode) -> None:
    """An editor, or git on a checkout, may end lines with CR LF: nothing is damaged, and nothing lost."""
    coz.shared.set("team/lead", "axiom")
    coz.shared.fact("coz", "battery", "82 %")
    _file(coz).write_bytes(_file(coz).read_bytes().replace(b"\n", b"\r\n"))
    coz.start()
    assert coz.shared.get("team/lead")["value"] == "axiom"
    assert coz.shared.query("coz")["facts"] and not coz.shared.check()


def test_what_a_newer_version_wrote_is_kept(coz: SharingNode) -> None:
    """A line whose checksum is right and that is not understood stays in the file, also when that is written anew."""
    from hashlib import blake2s

    body = b'{"agent":"coz","seq":9,"kind":"counter","key":"a","value":"1"}'
    newer = body[:-1] + b',"sum":"' + blake2s(body, digest_size=4).hexdigest().encode() + b'"}\n'
    coz.shared.set("a", "1")
    _file(coz).write_bytes(_file(coz).read_bytes() + newer + b"torn")
    coz.start()
    findings = coz.shared.check()
    assert [finding.ok for finding in findings] == [True, False] and "upgrade" in findings[1].done
    assert newer in _file(coz).read_bytes() and b"torn" not in _file(coz).read_bytes()


def test_what_git_brings_is_taken_in_at_once(coz: SharingNode) -> None:
    """A pull adds lines to a file of ours and makes one of axiom's: the next order knows both, without a start."""
    coz.shared.set("a", "1")
    _file(coz).write_bytes(_file(coz).read_bytes() + line(Entry("coz", 7, "set", "b", "2")))
    _file(coz, "axiom").write_bytes(line(Entry("axiom", 9, "set", "a", "from axiom")))
    changes: list[int] = []
    coz.shared.changed = lambda: changes.append(1)
    assert coz.shared.get("a")["value"] == "from axiom" and coz.shared.get("b")["value"] == "2"
    assert changes, "the exchange is told"
    assert coz.shared.set("c", "3")["seq"] == 10


def test_what_somebody_adds_while_we_write_is_not_overlooked(coz: SharingNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that comes between our look at the file and our own line is read at the next order."""
    coz.shared.set("a", "1")
    append = AppendFile.append

    def crowded(file: AppendFile, data: bytes) -> int:
        with _file(coz).open("ab") as other:
            other.write(line(Entry("coz", 7, "set", "b", "2")))
        return append(file, data)

    with monkeypatch.context() as busy:
        busy.setattr(AppendFile, "append", crowded)
        coz.shared.set("c", "3")
    assert [one["key"] for one in coz.shared.ls()["keys"]] == ["a", "b", "c"]  # type: ignore[attr-defined]


def test_a_number_that_was_used_twice_keeps_both_entries() -> None:
    """Of two values for one key under one number the same one wins on every node; under different keys both are held."""
    first, second = Entry("coz", 1, "set", "a", "1"), Entry("coz", 1, "set", "a", "2")
    for order in ([first, second], [second, first]):
        replica = Replica()
        replica.absorb(order)
        assert replica.register("a") == second
        replica.absorb([Entry("coz", 1, "set", "b", "3")])
        assert len(replica) == 2


def test_what_a_checkout_takes_away_is_written_again(coz: SharingNode) -> None:
    """An older copy of a file, or none, under the running node: what is known is written again, before the next write too."""
    coz.shared.set("a", "1")
    old = _file(coz).read_bytes()
    coz.shared.set("b", "2")
    _file(coz).write_bytes(old)
    coz.shared.set("c", "3")
    assert {told["key"] for told in _lines(coz)} == {"a", "b", "c"}
    _file(coz).unlink()
    coz.shared.get("a")
    coz.start()
    assert [one["key"] for one in coz.shared.ls()["keys"]] == ["a", "b", "c"]  # type: ignore[attr-defined]


def test_superseded_lines_are_cleared_away(coz: SharingNode) -> None:
    """A key that is set again and again does not make its file grow without end: not in a file that grew while nobody looked, and
    not while it grows; what counts is still there, and the file as it was is in trash."""
    coz.home.shared.mkdir()
    _file(coz).write_bytes(b"".join(map(line, _sets("coz", 1, 1502))))
    coz.start()
    assert coz.shared.get("a")["value"] == "1501"
    assert len(_lines(coz)) == 1
    for number in range(1501, 4001, 100):
        coz.shared.take(coz.shared.holding(), tuple(_sets("axiom", number, number + 100)), whole=False)
    assert len(_lines(coz, "axiom")) <= 1001
    assert len(list(coz.home.trash.glob("*-axiom.jsonl"))) == 2
    coz.start()
    assert coz.shared.get("a")["value"] == "4000"
    assert coz.shared.set("a", "x")["seq"] == 4001


def _sets(agent: str, first: int, end: int) -> list[Entry]:
    """As many settings of one key, so that each supersedes the one before."""
    return [Entry(agent, number, "set", "a", str(number)) for number in range(first, end)]


@pytest.mark.parametrize("call", ["write", "fsync"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_write_that_fails_is_not_acknowledged_and_hurts_nothing(
    coz: SharingNode, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    """ENOSPC or EIO at the write or at the fsync: the order fails, what was acknowledged stays, and what is acknowledged
    afterwards is there after a start."""
    coz.shared.set("a", "1")

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    def half(fd: int, data: bytes) -> None:
        os.write(fd, data[: len(data) // 2])
        fail()

    with monkeypatch.context() as broken:
        for name in ("fsync_file", "fsync_data") if call == "fsync" else ("write_all",):
            broken.setattr(durable, name, half if call == "write" else fail)
        with pytest.raises(DurabilityError):
            coz.shared.set("a", "2")
        # With the disk still broken what is known can be read.
        assert coz.shared.get("a")["value"] in ({"1"} if call == "write" else {"1", "2"})
    coz.shared.set("b", "3")
    coz.start()
    assert coz.shared.get("b")["value"] == "3" and coz.shared.get("a")["found"]
    assert all(isinstance(read_line(text), Entry) for text in _file(coz).read_bytes().splitlines())


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_files_that_cannot_be_read_are_said_to_be(coz: SharingNode, make: Callable[[Path], None]) -> None:
    """A folder or a FIFO in a file's place: one line with its name, nobody waits, and no order pretends that nothing was
    kept."""
    _file(coz).parent.mkdir(parents=True)
    make(_file(coz))
    with pytest.raises(DurabilityError, match=r"coz\.jsonl could not be read: it is no regular file"):
        coz.shared.get("a")


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_was_known_outlives_a_file_that_could_not_be_read(coz: SharingNode, make: Callable[[Path], None]) -> None:
    """Once what stood in the file's place is gone, what the node knows is written again."""
    coz.shared.set("team/lead", "axiom")
    _file(coz).unlink()
    make(_file(coz))
    with pytest.raises(DurabilityError):
        coz.shared.get("team/lead")
    _file(coz).rename(coz.home.root / "away")
    assert coz.shared.get("team/lead")["value"] == "axiom"
    assert [line["value"] for line in _lines(coz)] == ["axiom"]


@pytest.mark.parametrize("order", ["state/get", "state/set", "state/unset", "state/add", "state/discard", "facts/add"])
def test_an_order_without_what_it_needs_is_refused(coz: SharingNode, order: str) -> None:
    """An empty body is an order that names nothing."""
    do: Callable[[bytes], object] = coz.shared.orders()[order]
    with pytest.raises(BadInput):
        do(b"")
