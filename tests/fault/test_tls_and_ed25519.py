"""Two live nodes over TLS and with Ed25519: work goes through, and every way in which it cannot is one line that says so."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from outlast.errors import PeerError
from tests.support.certificates import certificate
from tests.support.live import LiveNode, pair, until

Pair = tuple[LiveNode, LiveNode]


def wear_tls(node: LiveNode, *peers: LiveNode) -> str:
    """Have ``node`` listen over TLS, with a certificate of its own that ``peers`` pin; return the pin."""
    node.config["listen"]["tls"] = {}
    node.configure()
    pin: str = node.json("keys", "tls")["pin"]
    for peer in peers:
        peer.config["peers"][node.name] = {"url": f"https://127.0.0.1:{node.port}", "pin": "file"}
        peer.configure()
        peer.home.tls.mkdir(mode=0o700, exist_ok=True)
        (peer.home.tls / f"{node.name}.pin").write_text(f"{pin}\n")
    return pin


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Pair]:
    with pair(tmp_path, {"health": {"interval": "1s"}}) as both:
        yield both


def loaded_files(node: LiveNode) -> dict[str, Any]:
    files: dict[str, Any] = json.loads(node.home.loaded.read_text())["files"]
    return files


def test_work_over_tls(nodes: Pair) -> None:
    """Both nodes over TLS: a hand-off is confirmed, `outlast verify` finds nothing, and the certificate counts as read."""
    coz, axiom = nodes
    wear_tls(coz, axiom)
    wear_tls(axiom, coz)
    for node in nodes:
        node.start()
    assert coz.cli("handoff", "axiom", "host report").returncode == 0
    found = axiom.json("verify")
    assert found["ok"], found["findings"]
    assert "etc/keys/tls/node.pem" in loaded_files(coz)
    until(lambda: "peer.back" in "".join(path.read_text() for path in coz.home.logs.glob("*.jsonl")), what="a greeting")


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        ("wrong pin", "another certificate than the one that is pinned"),
        ("no pin", "no certificate of axiom is pinned yet"),
        ("expired", "has expired"),
        ("plain peer", "does not speak TLS"),
        ("plain here", "without an answer"),
    ],
)
def test_one_clear_error(nodes: Pair, trouble: str, said: str) -> None:
    """Whatever is wrong with TLS between two nodes is one line that says what and how to mend it; nothing gets through."""
    coz, axiom = nodes
    wear_tls(axiom, coz)
    match trouble:
        case "wrong pin":
            (coz.home.tls / "axiom.pin").write_text(f"sha256:{'0' * 64}\n")
        case "no pin":
            (coz.home.tls / "axiom.pin").unlink()
        case "expired":
            pin = certificate(axiom.home.tls / "node.pem", datetime.now(UTC) - timedelta(days=1))
            (coz.home.tls / "axiom.pin").write_text(f"{pin}\n")
        case "plain peer":
            del axiom.config["listen"]["tls"]
            axiom.configure()
        case "plain here":
            coz.config["peers"]["axiom"] = {"url": f"http://127.0.0.1:{axiom.port}"}
            coz.configure()
    for node in nodes:
        node.start()
    with pytest.raises(PeerError, match=said) as caught:
        coz.order("ping", {"peer": "axiom"})
    assert "\n" not in str(caught.value)
    assert axiom.status()["refused"] == {}
    assert not coz.log() and not axiom.log()


def test_pins_count_at_once(nodes: Pair) -> None:
    """A certificate is renewed with no message refused: both pins are accepted meanwhile, and no peer is restarted for it."""
    coz, axiom = nodes
    old = wear_tls(axiom, coz)
    for node in nodes:
        node.start()
    coz.order("ping", {"peer": "axiom"})
    pins = axiom.json("keys", "tls", "--renew")["pins"]
    assert pins[0] == old and len(pins) == 2
    (coz.home.tls / "axiom.pin").write_text("\n".join(pins))
    coz.order("ping", {"peer": "axiom"})
    assert axiom.json("keys", "tls", "--use", pins[1])["pins"] == pins[1:]
    axiom.stop()
    axiom.start()
    coz.order("ping", {"peer": "axiom"})
    (coz.home.tls / "axiom.pin").write_text(old)
    with pytest.raises(PeerError, match="another certificate"):
        coz.order("ping", {"peer": "axiom"})


def test_no_certificate_no_start(nodes: Pair) -> None:
    """A node that is to listen over TLS and has no certificate ends with 78 and one line; it does not listen without."""
    coz, _ = nodes
    coz.config["listen"]["tls"] = {}
    coz.configure()
    coz.start(wait=False)
    assert coz.process is not None and coz.process.wait(30) == 78
    assert "outlast keys tls" in coz.log() and coz.log().count("\n") == 1


def ed25519_pair(root: Path) -> Iterator[Pair]:
    with pair(root, {"keys": {"kind": "ed25519"}}, {"keys": {"kind": "ed25519"}}) as both:
        for node in both:
            for path in node.home.keys.glob("*.key"):
                path.unlink()
        for node in both:
            assert node.cli("keys", "init").returncode == 0
        for node, other in (both, both[::-1]):
            ring = subprocess.run(
                [str(Path(sys.executable).parent / "outlast"), "--home", str(node.home.root), "keys", "show"],
                capture_output=True,
                check=True,
            ).stdout
            # As `keys accept` would, which is tested elsewhere.
            target = other.home.keys / f"{node.name}.key"
            target.write_bytes(ring)
            target.chmod(0o600)
        yield both


def test_work_with_ed25519(tmp_path: Path) -> None:
    """keys.kind ed25519 on both nodes: a hand-off is confirmed, and a peer holds only what verifies, nothing that signs."""
    for coz, axiom in ed25519_pair(tmp_path):
        for node in (coz, axiom):
            node.start()
        done = coz.cli("handoff", "axiom", "host report")
        assert done.returncode == 0, done.stderr
        held = (axiom.home.keys / "coz.key").read_text()
        assert "whpk_" in held and "whsk_" not in held and "whsec_" not in held
        assert "whsk_" in (coz.home.keys / "coz.key").read_text()


def test_a_symmetric_signature_is_no_way_around(tmp_path: Path) -> None:
    """With coz's public key taken for an HMAC secret nobody is let in: the kinds are not mixed up."""
    for coz, axiom in ed25519_pair(tmp_path):
        for node in (coz, axiom):
            node.start()
        public = (axiom.home.keys / "coz.key").read_text().split()[0].removeprefix("whpk_")
        forged = f"whsec_{public}"
        coz.stop()
        (coz.home.keys / "coz.key").write_text(f"{forged}\n")
        coz.start()
        with pytest.raises(PeerError, match="does not take our signature"):
            coz.order("ping", {"peer": "axiom"})
