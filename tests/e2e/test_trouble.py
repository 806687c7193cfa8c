"""Runs that are cut off or find no room: one clear line, and the same command again completes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import NODES, Clone, make_clone, namespace

UP = ("make", "--no-print-directory", "up")


@pytest.fixture(scope="module")
def second(short_dir: Path) -> Iterator[Clone]:
    """Another clone of the same repository, with nothing made in it yet and the ports as they come."""
    made = make_clone(short_dir / "b", None)
    yield made
    made.make("down")


def test_interrupted_while_venv_is_made(second: Clone) -> None:
    """Ctrl-C while packages are installed: the next run takes over."""
    cut = second.interrupt("installing requirements/control.txt", *UP[:2], ".venv/.control")
    assert cut.code != 0
    done = second.make(".venv/.control")
    assert done.code == 0, done.text


def test_two_clones_at_once(up: Clone, second: Clone) -> None:
    """A second clone with the same ports is refused, prints a command, and after that command both are up."""
    ports = second.root / "inventory/local/group_vars/all/ports.yml"
    ports.parent.mkdir(parents=True, exist_ok=True)
    ports.write_text((up.root / "inventory/local/group_vars/all/ports.yml").read_text())
    refused = second.make("up")
    assert refused.code != 0
    assert not (second.root / ".outlast").exists()
    mend = re.search(r"mend: (mkdir .*ports\.yml)", refused.text)
    assert mend, refused.text
    assert second.run("sh", "-c", mend[1]).code == 0
    done = second.make("up")
    assert done.code == 0, done.text
    assert up.make("status").text.count(" ready ") == 2
    assert second.make("status").text.count(" ready ") == 2
    second.make("down")
    assert all(up.status(node)["ready"] for node in NODES)


# In the middle of the keys it is interrupted on real hosts (tests/hosts/test_bad_input.py).
@pytest.mark.parametrize("sign", ["building release", "Ask every node how it is"])
def test_interrupted_while_provisioning(clone: Clone, sign: str) -> None:
    """Ctrl-C at any step of `make up`: no traceback, and `make up` again completes; then nothing is left to change."""
    clone.forget()
    cut = clone.interrupt(sign, *UP)
    assert cut.code != 0
    assert "Traceback" not in cut.text
    done = clone.make("up")
    assert done.code == 0, done.text
    assert "2 of 2 nodes are well" in done.text
    assert clone.make("up").changed() == 0


def test_disk_full_while_provisioning(clone: Clone) -> None:
    """A disk that fills up while a release is built: one clear line with its mend; with room again it completes."""
    clone.forget()
    (clone.root / ".outlast").mkdir()
    script = """
        mount -t tmpfs -o size=8m tmpfs .outlast
        if "$@"; then echo 'it did not fail'; exit 9; fi
        echo ---- with room again
        # With both named, mount does not repeat the options that it finds: uid=… means nobody in this namespace.
        mount -i -o remount,size=400m tmpfs "$PWD/.outlast"
        "$@"
        make --no-print-directory down
    """
    done = namespace(script, clone, *UP, "ARGS=-e outlast_min_free=1MiB")
    (clone.root / ".outlast").rmdir()
    assert done.code == 0, done.text
    full, _, again = done.text.partition("---- with room again")
    assert "disk: full at" in full
    assert "mend: make room there and run the same command again" in " ".join(full.split())
    assert "Traceback" not in done.text
    assert "2 of 2 nodes are well" in again


def test_no_network_and_a_wheelhouse(clone: Clone, short_dir: Path) -> None:
    """Without an index the run fails with one line; with a directory of wheels it completes."""
    clone.forget()
    wheels = short_dir / "wheels"
    pip = str(clone.root / ".venv/bin/pip")
    lock = str(clone.root / "runtime/requirements.txt")
    done = clone.run(pip, "download", "-q", "--only-binary", ":all:", "--require-hashes", "-r", lock, "-d", str(wheels))
    assert done.code == 0, done.text
    offline = {
        "PIP_INDEX_URL": "http://127.0.0.1:9/",
        "PIP_EXTRA_INDEX_URL": "",
        "PIP_RETRIES": "0",
        "PIP_NO_CACHE_DIR": "1",
    }
    cut_off = Clone(clone.root, {**clone.environment, **offline, "PIP_CONFIG_FILE": "/dev/null"})
    refused = cut_off.make("up")
    assert refused.code != 0
    assert "outlast_wheelhouse" in refused.text
    assert "Traceback" not in refused.text
    done = cut_off.make("up", f"-e outlast_wheelhouse={wheels}")
    assert done.code == 0, done.text
