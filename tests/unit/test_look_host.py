"""What role host sees of a machine: what is missing is named, what is right is left alone, no secret is brought back."""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from plugins.plugin_utils import look_host

SOURCE = Path(look_host.__file__).read_text(encoding="utf-8")


def want(home: Path, **changed: Any) -> dict[str, Any]:
    """What a role asks that wants nothing."""
    plain = {
        "user": "",
        "admin": "",
        "admin_group": "sudo",
        "admin_keys": [],
        "packages": [],
        "readers": [],
        "zone": "",
    }
    mesh = {"kind": "", "own_address": ""}
    system = "linux" if sys.platform == "linux" else "darwin"
    return {"system": system, "home": str(home), **plain, "shared": ["workspace"], "files": {}, "mesh": mesh, **changed}


def account(name: str = "agents", uid: int = 900, **changed: str) -> pwd.struct_passwd:
    """An account as it is made for a home."""
    fields = {"pw_gecos": "", "pw_dir": "/srv/home", "pw_shell": "/bin/sh", **changed}
    return pwd.struct_passwd((name, "x", uid, 900, fields["pw_gecos"], fields["pw_dir"], fields["pw_shell"]))


def with_account(monkeypatch: pytest.MonkeyPatch, found: pwd.struct_passwd | None, *groups: str) -> None:
    """Let the machine have this account, whose password is locked, in these groups."""

    def by_name(_: str) -> pwd.struct_passwd:
        if found is None:
            raise KeyError
        return found

    monkeypatch.setattr(look_host.pwd, "getpwnam", by_name)
    monkeypatch.setattr(look_host, "groups_of", lambda _: set(groups))
    monkeypatch.setattr(look_host, "password", lambda _: "*")


@pytest.mark.parametrize(
    ("found", "groups", "said"),
    [
        (None, (), "absent"),
        (account(), ("agents",), "right"),
        (account(pw_shell="/usr/sbin/nologin"), ("agents",), "ours"),
        (account(), (), "ours"),
        (account(uid=1000, pw_shell="/bin/zsh"), (), "somebody's"),
        (account(pw_dir="/var/www", pw_shell="/usr/sbin/nologin"), (), "somebody's"),
        (account(uid=1000, pw_dir="/home/me", pw_shell="/bin/zsh"), ("agents",), "right"),
    ],
)
def test_only_an_account_made_for_the_home_is_put_right(
    monkeypatch: pytest.MonkeyPatch, found: pwd.struct_passwd | None, groups: tuple[str, ...], said: str
) -> None:
    """A person's account, or another service's, is never told from what it should be in shell or password."""
    with_account(monkeypatch, found, *groups)
    assert look_host.agents("agents", "/srv/home") == said


def test_an_administrator_lacks_a_group_or_a_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Group and keys are looked for; other keys of the account do not matter."""
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/authorized_keys").write_text("ssh-ed25519 AAAA mine\nssh-ed25519 BBBB another\n")
    asked = want(tmp_path, admin="me", admin_keys=["ssh-ed25519 AAAA mine\n"])
    with_account(monkeypatch, account("me", 1000, pw_dir=str(tmp_path)), "sudo")
    assert look_host.administrator(asked) == "right"
    assert look_host.administrator({**asked, "admin_keys": ["ssh-ed25519 CCCC new"]}) == "there"
    with_account(monkeypatch, account("me", 1000, pw_dir=str(tmp_path)))
    assert look_host.administrator(asked) == "there"


def test_packages_that_are_not_installed_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A removed one whose configuration is still there counts as missing; versions and architectures do not confuse."""
    said = "acl ii \njq rc \ngit:amd64 ii \n"
    monkeypatch.setattr(look_host, "LINUX", True)
    monkeypatch.setattr(look_host, "said", lambda *_: said)
    names = ["acl", "jq", "git=1:2.39", "nosuch"]
    assert look_host.packages(want(tmp_path, packages=names), has_timekeeper=True) == ["jq", "nosuch"]
    assert look_host.packages(want(tmp_path), has_timekeeper=False) == ["systemd-timesyncd"]


@pytest.mark.parametrize(
    ("enabled", "active", "container", "kept"),
    [
        ("enabled", "active", "none", True),
        ("disabled", "active", "none", False),
        ("enabled", "inactive", "none", False),
        ("enabled", "inactive", "podman", True),
    ],
)
def test_a_clock_is_kept_now_and_after_a_restart(
    monkeypatch: pytest.MonkeyPatch, enabled: str, active: str, container: str, kept: bool
) -> None:
    """Both are asked for, but in a container, where the clock is its host's, nothing can run."""
    answers = {"is-enabled": enabled, "is-active": active, "--container": container}
    monkeypatch.setattr(look_host, "LINUX", True)
    monkeypatch.setattr(look_host, "said", lambda argv: answers[argv[1]])
    assert look_host.keeps_time("systemd-timesyncd") is kept
    assert not look_host.keeps_time("")


def test_a_mesh_tells_its_public_half_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Peers are known again by name, whether it runs as it is written down is told, and no private key is."""
    conf = "[Interface]\nAddress = 10.0.0.1/32\n\n[Peer]\n# name: axiom\nPublicKey = KEY=\nAllowedIPs = 10.0.0.2/32\n"
    (tmp_path / "outlast.conf").write_text(conf)
    (tmp_path / "outlast.key").write_text("PRIVATE")
    wants = tmp_path / "multi-user.target.wants/wg-quick@outlast.service"
    wants.parent.mkdir()
    wants.symlink_to("/dev/null")
    monkeypatch.setattr(look_host, "MESH", str(tmp_path))
    monkeypatch.setattr(look_host, "UNITS", (str(tmp_path),))
    running = "KEY=\t10.0.0.2/32\n"
    monkeypatch.setattr(look_host, "said", lambda argv, _="": "PUBLIC\n" if argv[1] == "pubkey" else running)
    seen = look_host.mesh({"kind": "wireguard"})
    assert seen == {"there": True, "public": "PUBLIC", "sha256": hashlib.sha256(conf.encode()).hexdigest(), "peers": {"axiom": "KEY="}, "runs": True}  # fmt: skip
    running = "KEY=\t10.0.0.3/32\n"
    assert not look_host.mesh({"kind": "wireguard"})["runs"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"zone": "Middle/Earth"}, "outlast_time_zone: there is no zone Middle/Earth; mend: "),
        ({"mesh": {"kind": "own", "own_address": "192.0.2.77"}}, "outlast_mesh_address: 192.0.2.77 is no address of this machine; mend: "),
    ],
)  # fmt: skip
def test_what_a_person_has_to_mend_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    """What cannot be made by the role is said with the field and the mend, before anything is done."""
    monkeypatch.setattr(look_host, "zones", lambda: str(tmp_path))
    (found,) = look_host.trouble(want(tmp_path, **changed))
    assert found.startswith(said)
    assert "\n" not in found


def test_a_file_of_ours_is_compared_by_digest(tmp_path: Path) -> None:
    """An empty digest asks for there being none."""
    path = tmp_path / "conf"
    assert look_host.fits(str(path), "")
    path.write_text("x")
    assert look_host.fits(str(path), hashlib.sha256(b"x").hexdigest())
    assert not look_host.fits(str(path), "")


def test_it_runs_in_a_bare_python(tmp_path: Path) -> None:
    """The machine's own Python, without any package, prints one JSON object; what is not asked for is not lacking."""
    command = [sys.executable, "-I", "-S", "-c", SOURCE, json.dumps(want(tmp_path))]
    done = subprocess.run(command, capture_output=True, text=True, env={"PATH": os.defpath}, check=True)
    seen = json.loads(done.stdout)
    assert {"users", "access", "logs"}.isdisjoint(seen["lacks"])
    assert seen["trouble"] == []
