"""The door: the order of its checks, what each refuses, and that what it takes is there before it says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.doorway import KEYS, NOON, UNITS, Doorway, envelope, note, signed

from outlast.core.webhook import verify
from outlast.errors import DurabilityError
from outlast.net.http import Request

PING = envelope({"type": "ping"}, 0, channel="control")


# What is taken


def test_a_note_is_in_the_journal_and_the_record_before_it_is_acknowledged(door: Doorway) -> None:
    """202, signed; the journal has the text; the ledger says who, when, from where, under which key, and what it is about."""
    answer = door.send(signed(note(), "note_" + UNITS[0]))[0]
    told = verify([key.secret for key in door.keys.own if key.secret], answer.headers, answer.body, NOON, 300)
    assert answer.status == 202 and told.id == f"res_note_{UNITS[0]}"
    assert door.noted() == ["from coz: the backup disk is new"]
    row = door.recorded()[0]
    assert {name: row[name] for name in ("peer", "id", "at", "signed", "remote", "type", "seq", "about", "trace_id")} == {
        "peer": "coz", "id": f"note_{UNITS[0]}", "at": NOON, "signed": int(NOON), "remote": "192.0.2.7", "type": "note",
        "seq": 1, "about": UNITS[0], "trace_id": "a" * 32,
    }  # fmt: skip
    assert row["key"] == door.keys.peers["coz"][0].id and row["size"] == len(note())


def test_all_of_one_turn_share_one_fsync_and_one_transaction(door: Doorway, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty notes that arrive together cost one write of the journal and one commit of the ledger."""
    done: list[str] = []
    journal, run = door.node._memory.journal, door.node.ledger._file.run
    write = journal._write
    monkeypatch.setattr(journal, "_write", lambda *given: (done.append("journal"), write(*given))[1])
    monkeypatch.setattr(
        door.node.ledger._file, "run", lambda query, *given: (done.append(query), run(query, *given))[1]
    )
    sent = [signed(note(f"number {n}", n), f"note_{n}") for n in range(1, 41)]
    assert door.statuses(*sent) == [202] * 40
    assert done.count("journal") == 1 and done.count("COMMIT") == 1
    assert door.noted() == [f"from coz: number {n}" for n in range(1, 41)]
    assert door.node.ledger.channel("coz").received == 40


def test_the_same_message_twice_in_one_turn_is_taken_once(door: Doorway) -> None:
    """Both get the same answer; there is one note and one row."""
    assert door.statuses(signed(note()), signed(note()), signed(note())) == [202] * 3
    assert len(door.noted()) == len(door.recorded()) == 1


def test_a_long_note_is_whole(door: Doorway) -> None:
    """A text that no single record holds is in as many as it takes, in order; not a word of it is missing."""
    text = " ".join(f"word{n}" for n in range(140))
    assert door.statuses(signed(note(text))) == [202]
    said = door.noted()
    assert said[0].startswith(f"from coz (1/{len(said)}): word0 ")
    assert " ".join(line.partition("): ")[2] for line in said) == text


def test_sequence_gaps_and_repeats_are_findings_not_refusals(door: Doorway) -> None:
    """A number that is skipped or comes again is counted, and the message is taken."""
    sent = [signed(note(f"number {n}", seq), f"note_{n}") for n, seq in enumerate((1, 2, 5, 3))]
    assert door.statuses(*sent) == [202] * 4
    channel = door.node.ledger.channel("coz")
    assert (channel.received, channel.gaps, channel.repeats) == (5, 2, 1)


# Repeats


def test_a_replay_causes_nothing_also_after_a_restart(door: Doorway) -> None:
    """The same bytes again: the answer of the first time, no second note, no second row; over restarts."""
    request = signed(note())
    assert door.statuses(request) == [202]
    assert door.statuses(request) == [202]
    door.again()
    assert door.statuses(request) == [202]
    assert len(door.noted()) == len(door.recorded()) == 1


def test_a_note_whose_id_the_ledger_did_not_get_is_not_written_twice(
    door: Doorway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal took it, the ledger did not (a crash between the two): 503, and sent again it is there once."""

    def broken(*_: object) -> list[str]:
        raise DurabilityError("the disk is full")

    accept = door.node.ledger.accept
    monkeypatch.setattr(door.node.ledger, "accept", broken)
    long = note(" ".join(["word"] * 100), 2)
    requests = signed(note()), signed(long, "note_2")
    answers = door.send(*requests)
    assert [answer.status for answer in answers] == [503, 503]
    assert all(int(answer.headers["retry-after"]) > 0 for answer in answers)
    there = door.noted()
    assert door.statuses(*requests) == [503, 503]
    door.again()
    monkeypatch.setattr(door.node.ledger, "accept", accept, raising=False)
    monkeypatch.undo()
    assert door.statuses(*requests) == [202, 202]
    assert door.noted() == there


def test_a_note_that_was_cut_off_in_the_middle_is_written_whole(door: Doorway) -> None:
    """The power went between two pieces of a long note: nobody acknowledged it, and sent again it is there whole."""
    request = signed(note(" ".join(["word"] * 100)))
    assert door.statuses(request) == [202]
    whole = door.noted()
    day = next(iter(door.home.memory.glob("*.md")))
    day.write_text("".join(line for line in day.read_text().splitlines(keepends=True) if f"({len(whole)}/" not in line))
    door.node.ledger._run("DELETE FROM seen")
    door.again()
    assert door.statuses(request) == [202]
    assert door.noted()[-len(whole) :] == whole


@pytest.mark.parametrize("jump", [-3600.0, 3600.0, 400 * 86_400.0])
def test_a_clock_that_jumps_opens_the_door_to_no_replay(door: Doorway, jump: float) -> None:
    """The clock goes wrong, messages come that are signed by the same wrong clock, and it is set right again: what was
    accepted before is known still, or is too old to be taken; and new messages pass."""
    request = signed(note())
    assert door.statuses(request) == [202]
    door.clock.now = NOON + jump
    assert door.statuses(signed(note("wrong"), "note_2", at=door.clock.now)) == [202]
    door.clock.now = NOON + 10
    for _ in range(2):
        assert door.statuses(request)[0] in {202, 401}
        assert len(door.noted()) == 2
        door.again()
    assert door.statuses(signed(note("right"), "note_3", at=NOON + 10)) == [202]


def test_an_id_is_forgotten_only_when_its_timestamp_cannot_pass(door: Doorway) -> None:
    """Dated ahead as far as is allowed, and replayed at any moment until it is too old: never taken twice."""
    request = signed(note(), at=NOON + 300)
    assert door.statuses(request) == [202]
    for minute in range(12):
        door.clock.now = NOON + 60 * minute
        assert door.statuses(request)[0] in {202, 401}
    assert len(door.noted()) == 1


def test_a_task_whose_intent_comes_to_light_later_is_worked_on(door: Doorway, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fsync failed, and the record is in the file all the same: 503; found again by the next look, and sent again by its
    peer, the task is queued, once."""
    journal = door.node._memory.journal
    write = journal._write

    def reaches_the_disk_and_fails(*given: Any) -> None:
        write(*given)
        raise DurabilityError("fdatasync: EIO")

    task = signed(envelope({"type": "task", "unit": UNITS[0], "task": "host report"}), f"task_{UNITS[0]}")
    with monkeypatch.context() as patch:
        patch.setattr(journal, "_write", reaches_the_disk_and_fails)
        assert door.statuses(task) == [503]
    journal.mend()
    assert door.node.state.units[UNITS[0]].status == "open" and not door.node.tasks._queue.qsize()
    assert door.statuses(task) == [202]
    assert door.statuses(task, signed(task.body, "task_other")) == [202, 202]
    assert door.node.tasks._queue.qsize() == 1


# The order of the checks


def test_rate_comes_before_the_body_and_after_the_repeat(tmp_path: Path) -> None:
    """With the rate used up: a repeat is answered as before, a forged message learns nothing of the rate, and what is no
    message at all is refused for the rate: its body is not read."""
    door = Doorway(tmp_path, messages={"rate": 2, "rate_window": "10m"})
    first = signed(note())
    assert door.statuses(first, signed(b"{", "note_2")) == [202, 422]
    answers = door.send(signed(b"{", "note_3"), first, signed(note(), "note_4", key=b"x" * 32))
    assert [answer.status for answer in answers] == [429, 202, 401]
    assert int(answers[0].headers["retry-after"]) > 0
    door.close()


def test_control_is_never_starved_by_work_and_has_its_own_limit(tmp_path: Path) -> None:
    """Work beyond its rate is refused while pings pass; pings beyond theirs are refused while work passes; an id that claims
    to be control and brings work is refused before anything is done."""
    door = Doorway(tmp_path, messages={"rate": 3, "control_rate": 4, "rate_window": "10m"})
    assert door.statuses(*(signed(note("x", n), f"note_{n}") for n in range(1, 6))) == [202, 202, 202, 429, 429]
    assert door.statuses(signed(PING, "ping_1")) == [200]
    assert door.statuses(signed(note("smuggled"), "ping_2"), signed(note("smuggled"), "share_2")) == [422, 422]
    assert door.statuses(*(signed(PING, f"ping_{n}") for n in range(3, 7))) == [200, 200, 429, 429]
    assert "smuggled" not in str(door.noted())
    door.clock.now += 600
    assert door.statuses(signed(note("x", 9), "note_9", at=door.clock.now)) == [202]
    door.close()


# What is refused


def _forged() -> list[Request]:
    good = signed(note())

    def but(**headers: str) -> Request:
        changed = {name: value for name, value in {**good.headers, **headers}.items() if value}
        return Request("POST", good.path, changed, good.body, good.remote)

    signature = good.headers["webhook-signature"]
    return [
        signed(note(), key=b"x" * 32),
        signed(note(), sender="witness", key=KEYS["coz"]),
        signed(note(), sender="stranger", key=KEYS["coz"]),
        signed(note(), sender="axiom", key=KEYS["coz"]),
        signed(note(), at=NOON - 301),
        signed(note(), at=NOON + 301),
        signed(note(), msg_id="note_" + "x" * 59),
        Request("POST", good.path, good.headers, good.body.replace(b"disk", b"desk"), good.remote),
        Request("POST", good.path, good.headers, good.body[:-1], good.remote),
        Request("POST", good.path, {}, good.body, good.remote),
        *(but(**{"webhook-id": value}) for value in ("", "note_2", "note.1", "nöte", "a b", "x" * 65)),
        *(but(**{"webhook-timestamp": value}) for value in ("", "12.9", "1e9", "1_0", " 1", "-1", "nan", "9" * 40, "\u0661")),
        *(
            but(**{"webhook-signature": value})
            for value in ("", "v1", "v1,", "v1,====", signature[:-1], signature.replace("v1,", "v1a,"), f"{signature}!",
                          signature.replace("v1,", "v2,"), signature + " " + "v1,x" * 8, "v1," + "A" * 5000, "\xff")
        ),
    ]  # fmt: skip


def test_a_stranger_learns_nothing_and_causes_nothing(door: Doorway) -> None:
    """Whatever is wrong with a signature, an id, a time or a name: one and the same 401, unsigned; nothing is written."""
    before = sorted(path.read_bytes() for path in door.home.memory.glob("*"))
    answers = door.send(*_forged())
    assert {(answer.status, answer.body, tuple(answer.headers)) for answer in answers} == {
        (401, b'{"error":"refused"}', ("content-type",))
    }
    assert sum(door.refused().values()) == len(answers)
    assert sorted(path.read_bytes() for path in door.home.memory.glob("*")) == before and not door.recorded()


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{}", b"[]", b"null", b"\xff", b"\xef\xbb\xbf" + note(), note().decode().encode("utf-16"),
        note()[:-1], note() + b"x", b"[" * 100_000, note().replace(b'"seq": 1', b'"seq": NaN'),
        note().replace(b'"seq": 1', b'"seq": 1, "seq": 2'), note().replace(b'"seq": 1', b'"seq": 1, "s\\u0065q": 2'),
        note().replace(b'"text"', b'"text": "a", "text"'), note().replace(b"disk", b"\\ud800"), note(seq=-1),
        note().replace(b'"seq": 1', b'"seq": ' + b"9" * 5000), note().replace(b'"seq": 1', b'"seq": 1e400'),
        note(v=2), note(extra=1), envelope({"type": "note", "text": "x", "more": 1}), envelope({"type": "note", "text": ""}),
        envelope({"type": "note", "text": "x" * 1025}), envelope({"type": "note"}), envelope({"type": "reboot"}),
        envelope({"type": "task", "unit": "../../etc", "task": "x"}), note(trace_id="x"), note(correlation_id="x" * 513),
        note(to="coz"), note(**{"from": "witness"}), envelope({"type": "task", "unit": "axiom-d1zjz7qv76sa", "task": "x"}),
        envelope({"type": "result", "unit": UNITS[0], "verdict": "done", "detail": "x"}),
        envelope({"type": "trace", "id": "a b"}),
    ],
)  # fmt: skip
def test_what_is_no_message_is_refused_whole(door: Doorway, body: bytes) -> None:
    """Signed as it should be, and not a message in the one form there is: 422, signed, and nothing is done or remembered."""
    answer = door.send(signed(body, "work_1"))[0]
    assert answer.status == 422 and json.loads(answer.body)["status"] == 422
    assert not door.noted() and not door.recorded() and door.node.ledger.seen("coz", "work_1") is None


@pytest.mark.parametrize(
    "path", ["/", "/inbox", "/inbox/", "/inbox/COZ", "/inbox/coz/", "/inbox/coz?x", "/inbox/../coz"]
)
def test_other_paths(door: Doorway, path: str) -> None:
    """They do not exist."""
    request = signed(note())
    assert door.statuses(Request("POST", path, request.headers, request.body, "x")) == [404]


def test_other_methods(door: Doorway) -> None:
    """An inbox takes POST, whoever's it is."""
    for name in ("coz", "stranger"):
        assert door.statuses(Request("GET", f"/inbox/{name}", {}, b"", "x")) == [405]


def test_a_defect_is_answered_to_everybody_who_waits(door: Doorway, monkeypatch: pytest.MonkeyPatch) -> None:
    """Should the taking itself fail as nobody foresaw, who waits is told so; the next turn is taken."""
    with monkeypatch.context() as patch:
        patch.setattr(door.node, "note", lambda _: 1 / 0)
        with pytest.raises(AssertionError, match="division"):
            door.send(signed(note()))
    assert door.statuses(signed(note())) == [202]


# Keys


def test_a_revoked_key_is_refused_from_that_moment_on(door: Doorway) -> None:
    """Without a restart; and so is what was signed with it before."""
    assert door.statuses(signed(note())) == [202]
    door.keys.revoke("coz")
    assert door.statuses(signed(note("more", 2), "note_2")) == [401]


def test_a_node_whose_own_key_was_revoked_answers_nothing_that_could_be_believed(door: Doorway) -> None:
    """Until it has a new key its answers are not signed, and a peer asks again; what it sent is there, once."""
    door.keys.revoke("axiom")
    assert "webhook-signature" not in door.send(signed(note()))[0].headers
    door.keys.prepare("hmac", NOON, "again")
    door.keys.use()
    assert door.statuses(signed(note())) == [202]
    assert len(door.noted()) == 1


# What the record keeps
