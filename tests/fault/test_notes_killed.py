"""Notes between real nodes: sent by the command, taken under kill -9, once in effect."""

from __future__ import annotations

import concurrent.futures
import contextlib
import threading
import time
from http.client import HTTPException
from pathlib import Path

import pytest
from fault.scenes import capture, envelope, key
from support.live import LiveNode, pair, until

from outlast.core.ids import new_unit

pytestmark = pytest.mark.timeout(120)


def test_a_note_reaches_the_peers_journal(tmp_path: Path) -> None:
    """`outlast note` says how it is called; both journals have it under that name, and the sender's queue is empty again."""
    with pair(tmp_path) as (coz, axiom):
        coz.start()
        axiom.start()
        said = coz.cli("note", "axiom", "the backup disk is new")
        assert said.returncode == 0, said.stderr
        unit = said.stdout.split()[-1]
        until(lambda: axiom.records("NOTE", unit), what="the note at axiom")
        assert "from coz: the backup disk is new" in axiom.records("NOTE", unit)[0]
        assert "to axiom: the backup disk is new" in coz.records("NOTE", unit)[0]
        until(lambda: coz.json("status")["channels"]["axiom"]["queued"] == 0)
        for wrong in (("note", "axiom", " "), ("note", "nobody", "x"), ("note", "axiom", "x" * 1025)):
            refused = coz.cli(*wrong)
            assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1, refused


def _send_until_taken(axiom: LiveNode, secret: str, seq: int, over: threading.Event) -> str:
    """As a peer's outbox does: the same id, signed anew, until it is acknowledged."""
    unit = new_unit("coz", time.time(), seq)
    body = envelope(unit, seq=seq, message={"type": "note", "text": f"number {seq}"})
    while not over.is_set():
        with contextlib.suppress(OSError, HTTPException):
            if capture(secret, f"note_{unit}", body).send(axiom)[0] == 202:
                return unit
        time.sleep(0.002)
    return ""


def test_kill_9_under_traffic_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    """Eight senders, the node killed again and again: each note that was acknowledged is in the journal, and none twice."""
    with pair(tmp_path) as (_, axiom):
        axiom.start()
        secret, over = key(axiom, "coz"), threading.Event()
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            try:
                sent = [pool.submit(_send_until_taken, axiom, secret, seq, over) for seq in range(1, 301)]
                for share in (20, 80, 160):
                    until(lambda share=share: sum(one.done() for one in sent) >= share, limit=60)  # type: ignore[misc]
                    axiom.kill()
                    axiom.start()
                units = [one.result(60) for one in sent]
            finally:
                over.set()
        assert all(len(axiom.records("NOTE", unit)) == 1 for unit in units)
        channel = axiom.json("status")["channels"]["coz"]
        assert channel["received"] == 300
