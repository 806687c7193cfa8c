"""What ssh, sudo and Ansible say of a host that cannot be asked becomes one finding, which names the mend."""

from __future__ import annotations

import pytest

from plugins.plugin_utils import reach

WAY = reach.Way("axiom.local", "operator")
CHANGED = """Failed to connect to the host via ssh: @@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
The fingerprint for the ED25519 key sent by the remote host is
SHA256:4Qfi/96KBc4EpC+qukY3D1nt1X8/JgMohkdwFmjQ7HM.
Please contact your system administrator.
Add correct host key in /home/me/.ssh/known_hosts to get rid of this message.
Offending ED25519 key in /home/me/.ssh/known_hosts:7
Host key for axiom.local has changed and you have requested strict checking.
Host key verification failed.
""".replace("\n", "\r\n")


@pytest.mark.parametrize(
    ("said", "field", "wrong", "mend"),
    [
        (
            CHANGED,
            "host key",
            "SHA256:4Qfi/96KBc4EpC+qukY3D1nt1X8/JgMohkdwFmjQ7HM)",
            "-f /home/me/.ssh/known_hosts -R axiom.local",
        ),
        ("Host key verification failed.", "host key", "not known to this machine yet", "ssh operator@axiom.local once"),
        (
            "operator@axiom.local: Permission denied (publickey).",
            "ansible_user",
            "let operator in",
            "ssh-copy-id operator@axiom.local",
        ),
        (
            "Invalid/incorrect password: Permission denied, please try again.",
            "ansible_user",
            "let operator in",
            "ssh-copy-id",
        ),
        (
            "ssh: Could not resolve hostname axiom.local: Name or service not known",
            "ansible_host",
            "no name",
            "ansible_host",
        ),
        (
            "ssh: connect to host axiom.local port 22: Connection refused",
            "ansible_host",
            "(Connection refused)",
            "awake",
        ),
        ("ssh: connect to host axiom.local port 22: No route to host", "ansible_host", "(No route to host)", "awake"),
        (
            "ssh: connect to host axiom.local port 22: Operation timed out",
            "ansible_host",
            "(Operation timed out)",
            "awake",
        ),
        ("Incorrect sudo password", "ansible_become_password", "sudo wants of operator", "--ask-become-pass"),
        ("Missing sudo password", "ansible_become_password", "is not set", "--ask-become-pass"),
        ("operator is not in the sudoers file.", "ansible_user", "may not use sudo", "usermod -aG sudo operator"),
        ("Timeout (12s) waiting for privilege escalation prompt: ", "ansible_become", "in time", "sudo true"),
        (
            "Failed to connect to the host via ssh: something new",
            "ansible_host",
            "something new",
            "ssh operator@axiom.local",
        ),
    ],
)
def test_a_host_that_is_away(said: str, field: str, wrong: str, mend: str) -> None:
    """Whatever kept us out is named by the setting that it is about, in one line each."""
    found = reach.away(said, WAY)
    assert found is not None
    assert (found["field"], wrong in found["wrong"], mend in found["mend"]) == (field, True, True), found
    assert not {"\n", "\r"} & set("".join(found.values()))


@pytest.mark.parametrize(
    ("said", "field", "wrong"),
    [
        ("The module interpreter '/usr/bin/python3' was not found.", "python", "/usr/bin/python3 is not there"),
        ("/bin/sh: 1: /usr/bin/python3: not found", "python", "/usr/bin/python3 is not there"),
        (
            "ansible-core requires a minimum of Python version 3.8. Current version: 3.7.3 (default, ...)",
            "python",
            "is 3.7.3",
        ),
        ("SyntaxError: invalid syntax", "python", "too old"),
        ("OSError: [Errno 28] No space left on device: '/tmp/x'", "disk", "is full"),
        ("OSError: [Errno 30] Read-only file system: '/tmp/x'", "disk", "is read-only"),
        ("Traceback\n  KeyError: 'x'\n", "node", "KeyError: 'x'"),
        (
            "Module result deserialization failed: No start of json char found\n\n",
            "node",
            "nothing came back",
        ),
        ("", "node", "it said nothing"),
    ],
)
def test_a_host_that_let_us_in_and_did_not_answer(said: str, field: str, wrong: str) -> None:
    """It is not away: what is wrong there is said, and what nobody foresaw is shown by its last line."""
    assert reach.away(said, WAY) is None
    found = reach.unasked(said, WAY)
    assert (found["field"], wrong in found["wrong"]) == (field, True), found
    assert not {"\n", "\r"} & set("".join(found.values()))


def test_another_port() -> None:
    """A host on another port is entered and forgotten under that port."""
    found = reach.away(CHANGED, reach.Way("10.0.0.5", "", 2222))
    assert found is not None
    assert "-R '[10.0.0.5]:2222' and ssh -p 2222 10.0.0.5 once" in found["mend"]
