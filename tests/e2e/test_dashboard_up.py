"""The dashboard of nodes that `make up` provisioned: the page is part of the release, and its port is the node's own."""

from __future__ import annotations

import json
import urllib.request

from .conftest import NODES, REPOSITORY, Clone


def test_the_page_comes_with_the_release_and_its_port_stays_the_nodes_own(up: Clone) -> None:
    """`outlast dashboard` says where; what is served is what lies here; a second `make up` finds nothing in the way."""
    for name in NODES:
        said = up.outlast("--node", name, "dashboard", "--json")
        assert said.code == 0, said.text
        url = json.loads(said.text)["url"]
        assert url == f"http://127.0.0.1:{up.status(name)['port'] + 100}/"
        for path, file in (
            ("", "page.html"),
            ("page.js", "page.js"),
            ("page.css", "page.css"),
            ("icon.svg", "icon.svg"),
        ):
            with urllib.request.urlopen(url + path, timeout=20) as answer:
                assert answer.read() == (REPOSITORY / "runtime/src/outlast/page" / file).read_bytes()
    done = up.make("up")
    assert done.code == 0 and done.changed() == 0, done.text
    assert "nothing stands in the way" in done.text
