"""Key files: only a key that nobody else can touch is used."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from outlast.core.keys import Key, Secret, accepted
from outlast.core.ringtext import ring_text
from outlast.errors import BadInput, KeyFileError
from outlast.store.keyring import Keyring, make_key, read_ring


def test_a_key_is_made_once_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    """Making a key twice keeps the first; its mode is 0600."""
    path = tmp_path / "keys" / "coz.key"
    assert make_key(path)
    first = path.read_bytes()
    assert not make_key(path)
    assert path.read_bytes() == first
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(read_ring(path)) == 1


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o602])
def test_a_key_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    """Any permission for group or others refuses the key, and the mend is the command to type."""
    path = tmp_path / "coz.key"
    make_key(path)
    path.chmod(mode)
    with pytest.raises(KeyFileError) as caught:
        read_ring(path)
    assert f"chmod 600 {path}" in str(caught.value)


@pytest.mark.parametrize("content", ["", "hello", "whsec_", "whsec_AAAA", "whsec_" + "A" * 44 + "\nwhsec_oops"])
def test_what_is_no_key_is_refused_and_never_shown(tmp_path: Path, content: str) -> None:
    """A file without proper secrets is refused in one line that does not show what is in it."""
    path = tmp_path / "coz.key"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(KeyFileError) as caught:
        read_ring(path)
    assert "AAAA" not in str(caught.value)
    assert "oops" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_links_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    """A key is a regular file of its own: no symbolic link, no folder, and it must be there."""
    real = tmp_path / "real.key"
    make_key(real)
    os.symlink(real, tmp_path / "link.key")
    (tmp_path / "folder.key").mkdir()
    for name in ("link.key", "folder.key", "missing.key"):
        with pytest.raises(KeyFileError):
            read_ring(tmp_path / name)


def test_a_peer_has_no_more_keys_than_a_rotation_needs(tmp_path: Path) -> None:
    """Each would be tried on whatever a stranger sends in its name: too many are refused, also a few at a time."""
    make_key(tmp_path / "coz.key")
    held = Keyring(tmp_path, "coz", ["axiom"])

    def ring(newest: int, count: int) -> str:
        made = [Secret(bytes([number]) * 32) for number in range(newest, newest - count, -1)]
        return ring_text(tuple(Key(one.id, "accepted", 1e9 + one.key[0], "", one) for one in made))

    with pytest.raises(BadInput, match="outlast keys retire"):
        held.accept("axiom", ring(200, 9))
    assert not held.peers
    assert held.accept("axiom", ring(200, 8))
    with pytest.raises(BadInput):
        held.accept("axiom", ring(100, 1))
    assert len(accepted(held.peers["axiom"])) == 8
    assert held.accept("axiom", ring(201, 1)) and len(accepted(read_ring(tmp_path / "axiom.key"))) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_key_is_refused(tmp_path: Path) -> None:
    """A key that cannot be read is one line with the mend."""
    path = tmp_path / "coz.key"
    make_key(path)
    path.chmod(0)
    with pytest.raises(KeyFileError) as caught:
        read_ring(path)
    assert "chmod 600" in str(caught.value)
