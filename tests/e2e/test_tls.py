"""What `outlast_tls` and `outlast_keys` of the inventory do to two nodes of this machine."""

from __future__ import annotations

import json

from .conftest import NODES, Clone, Sketch


def pins(clone: Clone, sketch: Sketch, node: str) -> list[str]:
    """What `outlast keys tls` of a node says."""
    done = clone.outlast("--home", str(sketch.homes / node), "keys", "tls", "--json")
    found: list[str] = json.loads(done.text)["pins"]
    return found


def test_site_with_tls_and_ed25519(clone: Clone, sketch: Sketch) -> None:
    """One run makes certificates and brings their pins; a second changes nothing; one more renews them with both nodes well;
    what is not needed any more is gone after the next. Both nodes talk over TLS, and sign with Ed25519."""
    sketch.common |= {"outlast_tls": True, "outlast_keys": {"kind": "ed25519"}}
    site = ("site.yml", "-i", str(sketch.write()))
    first = clone.play(*site)
    assert first.code == 0, first.text
    assert clone.play(*site).changed() == 0
    done = clone.outlast("--home", str(sketch.homes / "coz"), "handoff", "axiom", "host report")
    assert done.code == 0, done.text
    assert "https://" in (sketch.homes / "coz/etc/node.yml").read_text()
    assert "whpk_" in (sketch.homes / "coz/etc/keys/axiom.key").read_text()
    before = {node: pins(clone, sketch, node) for node in NODES}
    renewed = clone.play(*site, "-e", "outlast_tls_renew=true")
    assert renewed.code == 0, renewed.text
    after = {node: pins(clone, sketch, node) for node in NODES}
    assert all(len(after[node]) == 1 and after[node] != before[node] for node in NODES)
    assert clone.play(*site).code == 0
    assert (sketch.homes / "coz/etc/keys/tls/axiom.pin").read_text().split() == after["axiom"]
    assert clone.play(*site).changed() == 0
    check = clone.play(*site, "--check")
    assert (check.code, check.changed()) == (0, 0), check.text
