"""The failures of a node's machine that one process can hold and undo: power, sleep, a stop, a cut wire, a disk without room.

Keeps: standard library only; each is a context that undoes itself when it is left, also where its beginning failed; room that
is taken is a file without a name, which goes with its process. Leaves to others: holding it (holding.py), the service
managers (outage_service.py), the wire (outage_wire.py), when to do what (plugin_utils/drills.py).
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.outlast.agents.plugins.module_utils import durable, processes
from ansible_collections.outlast.agents.plugins.module_utils.outage_service import Service
from ansible_collections.outlast.agents.plugins.module_utils.outage_wire import Wire

__all__ = ["OUTAGES", "OutageTrouble"]

Facts = dict[str, Any]
# Room that is taken beyond the threshold, and most of what is free that may be taken, in parts of the disk.
_BEYOND, _MOST = 0.005, 0.5
# Runs in the Python of the node's release, which has its rules: node.yml with a few fields laid over, or why not.
_PATCH = """
import json, os, sys, tempfile, yaml
from pathlib import Path
from outlast.config import load_config
from outlast.errors import OutlastError
asked = json.load(sys.stdin)
def laid(under, over):
    both = isinstance(under, dict) and isinstance(over, dict)
    return {**under, **{name: laid(under.get(name), one) for name, one in over.items()}} if both else over
raw = yaml.safe_load(Path(asked["path"]).read_text(encoding="utf-8"))
text = "# A drill is under way: what stands here ends with it.\\n" + yaml.safe_dump(laid(raw, asked["over"]), sort_keys=False)
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder, "node.yml")
    path.write_text(text, encoding="utf-8")
    try:
        load_config(path)
    except OutlastError as error:
        sys.exit(str(error))
print(json.dumps({"text": text, "peers": {name: peer["url"] for name, peer in raw.get("peers", {}).items()}}))
"""


class OutageTrouble(Exception):
    """One line: field: what is wrong; mend: what to do."""


class Place:
    """One node on this machine, and what a drill was told about it."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.home: str = values["home"]
        self.real: bool = values["real"]
        self.peers: dict[str, str] = values["peers"]
        self.state: str = values["state"]
        self.service = Service(self.home, values["manager"])


@contextmanager
def power(place: Place) -> Iterator[Facts]:
    """Everything of the node is killed, and stays dead."""
    try:
        yield {"killed": place.service.kill()}
    finally:
        place.service.start()


@contextmanager
def down(place: Place) -> Iterator[Facts]:
    """The node is stopped in an orderly way."""
    try:
        place.service.stop()
        yield {}
    finally:
        place.service.start()


@contextmanager
def sleep(place: Place) -> Iterator[Facts]:
    """Every process of the node stands still."""
    frozen: set[int] = set()
    try:
        # One may have started another while it was looked for.
        while new := {one.pid for one in processes.of_home(place.home)} - frozen:
            for pid in new:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
            frozen |= new
        yield {"frozen": len(frozen)}
    finally:
        for pid in frozen:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@contextmanager
def wire(place: Place) -> Iterator[Facts]:
    """The node reaches its peers over a wire that can be cut. Real machines have one that nftables cuts."""
    if place.real:
        yield {}
        return
    urls = _patched(place, {})["peers"]
    wires = {name: Wire(urlsplit(urls[name])) for name in place.peers if name in urls}
    for one in wires.values():
        one.start()
    over = {name: {"url": f"{urlsplit(urls[name]).scheme}://127.0.0.1:{one.port}"} for name, one in wires.items()}
    with _settings(place, {"peers": over}):
        path = os.path.join(place.state, "wire.cut")

        def look() -> None:
            is_cut = os.path.exists(path)
            for one in wires.values():
                one.whole = not is_cut

        yield {"each": look}


@contextmanager
def cut(place: Place) -> Iterator[Facts]:
    """Not a byte passes between the node and its peers, in either direction; who waits is told nothing."""
    if not place.real:
        path = os.path.join(place.state, "wire.cut")
        with open(path, "wb"):
            pass
        try:
            yield {}
        finally:
            with suppress(FileNotFoundError):
                os.unlink(path)
        return
    if _nft("list tables") is None:
        # Its sibling cuts for both.
        yield {"passed": True}
        return
    addresses = sorted({found[4][0] for host in place.peers.values() for found in socket.getaddrinfo(host, None)})
    rules = ["add table inet outlast_drill"]
    for way, side in (("input", "saddr"), ("output", "daddr")):
        rules.append(f"add chain inet outlast_drill {way} {{ type filter hook {way} priority -300; }}")
        for address in map(str, addresses):
            family = "ip6" if ":" in address else "ip"
            rules.append(f"add rule inet outlast_drill {way} {family} {side} {address} drop")
    try:
        if _nft("\n".join(rules)) is None:
            raise OutageTrouble("nft: the wire could not be cut; mend: nft list ruleset says what is in the way")
        yield {}
    finally:
        _nft("delete table inet outlast_drill")


@contextmanager
def tight(place: Place) -> Iterator[Facts]:
    """The node calls its disk full from a little above what is used of it now, and looks each second."""
    found = os.statvfs(place.home)
    used = found.f_blocks - found.f_bfree
    percent = 100.0 * used / (used + found.f_bavail)
    limit = int(percent + 0.5) + 1
    if limit > 97:
        raise OutageTrouble(f"disk: {percent:.1f} % are used already, without a drill; mend: outlast clean")
    over = {
        "health": {"interval": "1s", "disk_degraded": limit, "disk_emergency": 99},
        "clean": {"least_free": 100 - limit},
    }
    with _settings(place, over):
        yield {"limit": limit}


@contextmanager
def fill(place: Place) -> Iterator[Facts]:
    """So much room is taken that the node is over its threshold."""
    limit = float(json.loads(_read(os.path.join(place.state, "tight.json")))["facts"]["limit"])
    found = os.statvfs(place.home)
    used = found.f_blocks - found.f_bfree
    blocks = int((used + found.f_bavail) * (limit / 100.0 + _BEYOND)) - used
    if blocks > found.f_bavail * _MOST:
        raise OutageTrouble("disk: a drill would leave too little room on it; mend: outlast clean")
    size = max(0, blocks) * found.f_frsize
    with tempfile.TemporaryFile(dir=place.home) as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            nothing = bytes(1 << 22)
            while file.tell() < size:
                file.write(nothing)
            file.flush()
        yield {"bytes": size}


OUTAGES: dict[str, Callable[[Place], AbstractContextManager[Facts]]] = {
    one.__name__: one for one in (power, down, sleep, wire, cut, tight, fill)
}


@contextmanager
def _settings(place: Place, over: Mapping[str, Any]) -> Iterator[None]:
    """Other settings in node.yml, and the runtime started with them; as it was afterwards."""
    path = os.path.join(place.home, "etc", "node.yml")
    text = str(_patched(place, over)["text"]).encode()
    before, status = _read(path), os.stat(path)
    mode, owner = status.st_mode & 0o777, (status.st_uid, status.st_gid)
    durable.replace(path, text, mode, owner)
    try:
        place.service.restart()
        yield
    finally:
        # Somebody who ran site.yml meanwhile has put it right already.
        if _read(path) == text:
            durable.replace(path, before, mode, owner)
            place.service.restart()


def _patched(place: Place, over: Mapping[str, Any]) -> dict[str, Any]:
    asked = json.dumps({"path": os.path.join(place.home, "etc", "node.yml"), "over": over})
    python = os.path.join(place.home, "current", "bin", "python")
    done = subprocess.run([python, "-I", "-c", _PATCH], input=asked, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OutageTrouble(f"node.yml: {(done.stderr.strip() or 'cannot be read').splitlines()[-1]}")
    return dict(json.loads(done.stdout))


def _nft(rules: str) -> str | None:
    """What nft says to these rules; None where it refuses them, or is not here."""
    try:
        done = subprocess.run(["nft", "-f", "-"], input=f"{rules}\n", capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
