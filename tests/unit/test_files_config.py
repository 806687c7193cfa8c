"""What node.yml says about files that go from node to node, and in which words it is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from outlast.config import load_config
from outlast.errors import ConfigError
from outlast.settings import Config, Ssh

GOOD = """
node: coz
listen: {host: 127.0.0.1, port: 18801}
peers: {axiom: {url: "http://127.0.0.1:18802", ssh: {host: axiom.local}}, witness: {url: "http://127.0.0.1:18803"}}
agent: {command: [/bin/true]}
files: {size_limit: 1GiB}
"""


def load(folder: Path, text: str) -> Config:
    (folder / "node.yml").write_text(text)
    return load_config(folder / "node.yml")


@pytest.mark.parametrize("host", ["axiom", "axiom.local", "10.88.0.13", "fe80::1%eth0", "::1"])
def test_where_a_peer_is_asked(tmp_path: Path, host: str) -> None:
    """A name or an address; port 22 and the user outlast where nothing else is said; a peer may have none."""
    config = load(tmp_path, GOOD.replace("axiom.local", f'"{host}"'))
    assert config.peers["axiom"].ssh == Ssh(host, 22, "outlast")
    assert config.peers["witness"].ssh is None
    assert (config.files.size_limit, config.files.timeout) == ("1GiB", "30m")


@pytest.mark.parametrize(
    ("change", "field", "said"),
    [
        (("host: axiom.local", "host: -oProxyCommand=id"), "peers.axiom.ssh.host", "plain name or address"),
        (("host: axiom.local", 'host: "axiom.local id"'), "peers.axiom.ssh.host", "plain name or address"),
        (("host: axiom.local", 'host: "axiom\\n"'), "peers.axiom.ssh.host", "plain name or address"),
        (("host: axiom.local", "host: axiom.local, user: -l"), "peers.axiom.ssh.user", "write a plain name"),
        (("host: axiom.local", "host: axiom.local, port: 0"), "peers.axiom.ssh.port", "1"),
        (("host: axiom.local", "hots: axiom.local"), "peers.axiom.ssh.hots", "did you mean host?"),
        (("size_limit: 1GiB", "size_limit: 1GB"), "files.size_limit", "such as 256KiB"),
        (("size_limit: 1GiB", "timeout: 2d"), "files.timeout", "make it 1d or less"),
        (("size_limit: 1GiB", "sizelimit: 1GiB"), "files.sizelimit", "did you mean size_limit?"),
    ],
)
def test_wrong_input_is_one_line(tmp_path: Path, change: tuple[str, str], field: str, said: str) -> None:
    """Nothing that ssh could take for an option or a second word; the line names the field and the mend."""
    assert change[0] in GOOD
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, GOOD.replace(*change))
    assert caught.value.field == field
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
