"""Whether a sibling is gone or cut off: what comes back from where it listens tells F1 from F3 (spec.md, section 1)."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import sys
from pathlib import Path
from typing import cast

import pytest
from support.clock import FixedClock
from support.live import free_port

from outlast.net.client import _cut_off
from outlast.net.courier import Courier
from outlast.settings import Agent, Config, Listen, Messages, Peer
from outlast.store.keyring import Keyring
from outlast.store.ledger import Ledger


def lost(port: int, total: str = "5s") -> bool:
    """What the courier says of a sibling at this port."""
    config = Config(
        node="coz",
        listen=Listen("127.0.0.1", 1),
        agent=Agent(["/bin/true"]),
        peers={"axiom": Peer(f"http://127.0.0.1:{port}")},
        messages=Messages(connect_timeout="200ms", total_timeout=total),
    )
    courier = Courier(config, cast(Keyring, None), cast(Ledger, None), FixedClock(1.0), Path("/"))
    return asyncio.run(courier.lost("axiom"))


def test_a_machine_that_refuses_is_not_cut_off() -> None:
    """Its runtime is gone, or all of it is and the network says so: nothing is wrong between the two."""
    assert not lost(free_port())


def test_one_that_takes_the_connection_and_says_nothing_is_cut_off() -> None:
    """A wall in between may take what never arrives; one that hangs is told as soon."""
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen(8)
        assert lost(mute.getsockname()[1], total="300ms")


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels refuse when a queue is full, instead of dropping")
def test_packets_that_vanish_mean_a_partition() -> None:
    """Not even a refusal comes back."""
    with socket.socket() as full, contextlib.ExitStack() as stack:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(full.getsockname())
        assert lost(full.getsockname()[1])


@pytest.mark.parametrize(
    ("error", "is_ours"),
    [
        (OSError(errno.ENETUNREACH, "no network"), True),
        (OSError(errno.ENETDOWN, "no network"), True),
        (OSError(errno.ETIMEDOUT, "nothing came"), True),
        (OSError(errno.EHOSTUNREACH, "its machine is off"), False),
        (OSError(errno.ECONNREFUSED, "its runtime is off"), False),
        (socket.gaierror(socket.EAI_AGAIN, "nobody resolves names"), True),
        (socket.gaierror(socket.EAI_NONAME, "coz.local says its name itself, and is off"), False),
    ],
)
def test_what_the_system_says_of_a_connection(error: OSError, is_ours: bool) -> None:
    """No network of our own is a partition; a machine that is off is none."""
    assert _cut_off(error) == is_ours
