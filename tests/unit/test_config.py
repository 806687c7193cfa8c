"""node.yml: what is refused, and in which words."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from outlast.config import load_config
from outlast.errors import ConfigError

GOOD = """
node: coz
listen: {host: 127.0.0.1, port: 18801}
peers: {axiom: {url: "http://127.0.0.1:18802"}}
agent: {command: [/bin/true]}
"""


def test_defaults_are_those_of_the_specification(tmp_path: Path) -> None:
    """A node.yml with the four required fields has the specification's figures for the rest."""
    path = tmp_path / "node.yml"
    path.write_text(GOOD)
    config = load_config(path)
    assert (config.messages.rate, config.messages.rate_window, config.messages.body_limit) == (10, "1m", "256KiB")
    assert (config.retry.base, config.retry.max, config.retry.attempts) == ("1s", "60s", 5)
    assert (config.breaker.failures, config.breaker.cooldown) == (3, "5m")
    assert (config.health.disk_degraded, config.health.disk_emergency, config.health.sibling_silent) == (85, 95, "30m")


@pytest.mark.parametrize(
    ("change", "field", "said"),
    [
        (("port: 18801", "prot: 18801"), "listen.prot", "did you mean port?"),
        (("node: coz\n", ""), "node", "it is missing"),
        (("node: coz", "node: Coz!"), "node", "lower-case letters"),
        (("port: 18801", "port: 70000"), "listen.port", "65535"),
        (("port: 18801", "port: '18801'"), "listen.port", "int"),
        (("[/bin/true]", "[/bin/true], timeout: 30"), "agent.timeout", "expected `str`, got `int`"),
        (("[/bin/true]", "[/bin/true], timeout: 30 minutes"), "agent.timeout", "such as 30s"),
        (("[/bin/true]", "[/bin/true], stdout_limit: 1MB"), "agent.stdout_limit", "such as 256KiB"),
        (("[/bin/true]", "[bin/true]"), "agent.command", "absolute path"),
        (("[/bin/true]", "[/bin/true], after_crash: maybe"), "agent.after_crash", "maybe"),
        (("axiom: {url", "coz: {url"), "peers.coz", "cannot be its own peer"),
        (("http://127.0.0.1:18802", "127.0.0.1:18802"), "peers", "write http://HOST:PORT"),
        (("node: coz", "node: coz\nhealth: {disk_degraded: 96}"), "health.disk_degraded", "lower"),
        (("http://", "https://"), "peers.axiom.pin", "no certificate is pinned for https"),
        (('18802"', '18802", pin: file'), "peers.axiom.url", "no TLS"),
        (('18802"', '18802", pin: sha256:abc'), "peers.axiom.pin", "64 hex digits"),
        (('18802"', '18802", pin: []'), "peers.axiom.pin", "length >= 1"),
        (("port: 18801", "port: 18801, tls: {key: ../x.pem}"), "listen.tls.key", "without folders"),
        (("port: 18801", "port: 18801, tls: {crt: x.pem}"), "listen.tls.crt", "known here: certificate, key"),
        (("node: coz", "node: coz\nkeys: {kind: rsa}"), "keys.kind", "rsa"),
        (("node: coz", "node: coz\nkeys: {rotate_after: 90}"), "keys.rotate_after", "expected `str`"),
        (("node: coz", "node: coz\nmessages: {outbox_limit: much}"), "messages.outbox_limit", "such as"),
        (("node: coz", "node: coz\nservices: {web: {comand: [x]}}"), "services.web.comand", "did you mean command?"),
        (("node: coz", "node: coz\nservices: {web: {priority: P0}}"), "services.web.command", "it is missing"),
        (("node: coz", "node: coz\nservices: {web: {command: [x, 3.10]}}"), "services.web.command[1]", "in quotes"),
        (("[/bin/true]", "[/bin/true], environment: {A: off}"), "agent.environment.A", "yes or no to YAML"),
        (("node: coz", "node: coz\njobs: {x: {command: [x, null]}}"), "jobs.x.command[1]", "nothing to YAML"),
        (("node: coz", "node: coz\nprobes: {x: {artifacts: [2026-01-02]}}"), "probes.x.artifacts[0]", "a date to YAML"),
        (
            ("node: coz", "node: coz\nservices: {web: {command: [x], priority: P9}}"),
            "services.web.priority",
            "none of P0, P1",
        ),
        (
            ("node: coz", "node: coz\nservices: {web: {command: [x], probes: {up: {htp: x}}}}"),
            "services.web.probes.up.htp",
            "did you mean http?",
        ),
        (("node: coz", "node: coz\nservices: {My Service: {command: [x]}}"), "services", "a name that is none"),
        (("node: coz", "node: [coz"), "node.yml line", "not YAML"),
        (("node: coz", "node: coz\n\tx: 1"), "node.yml line", "not YAML"),
    ],
)
def test_wrong_input_is_one_line_that_names_field_and_mend(
    tmp_path: Path, change: tuple[str, str], field: str, said: str
) -> None:
    """Whatever is wrong in node.yml, the error is one line: the field, what is wrong, and the mend."""
    path = tmp_path / "node.yml"
    assert change[0] in GOOD
    path.write_text(GOOD.replace(*change))
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    text = str(caught.value)
    assert caught.value.field.startswith(field)
    assert said in text
    assert "\n" not in text


def test_whole_numbers_are_words_in_commands_and_environments(tmp_path: Path) -> None:
    """``command: [sleep, 5]`` and ``PORT: 8080`` mean what everybody means by them, wherever a command can stand."""
    parts = {
        "services": "{web: {command: [x, 8080], environment: {PORT: 8080}, probes: {up: {command: [x, 1]}}}}",
        "jobs": "{nap: {schedule: '@daily', command: [sleep, 5], environment: {A: -1}}}",
        "probes": "{good: {artifacts: [x, 2]}}",
        "subagents": "{environment: {N: 3}}",
    }
    path = tmp_path / "node.yml"
    more = "".join(f"{name}: {value}\n" for name, value in parts.items())
    path.write_text(GOOD.replace("[/bin/true]", "[/bin/true, 7], environment: {K: 9}") + more)
    config = load_config(path)
    web, nap = config.services["web"], config.jobs["nap"]
    assert (web.command, dict(web.environment), web.probes["up"].command) == (
        ["x", "8080"],
        {"PORT": "8080"},
        ["x", "1"],
    )
    assert (nap.command, dict(nap.environment)) == (["sleep", "5"], {"A": "-1"})
    assert config.probes["good"].artifacts == ["x", "2"] and config.subagents.environment == {"N": "3"}
    assert config.agent.command == ["/bin/true", "7"] and config.agent.environment == {"K": "9"}


def test_a_value_of_an_environment_is_not_repeated_in_an_error(tmp_path: Path) -> None:
    """It may be a secret: an error names the variable, and never what is in it."""
    path = tmp_path / "node.yml"
    path.write_text(GOOD.replace("[/bin/true]", "[/bin/true], environment: {PIN: 48151.62342}"))
    with pytest.raises(ConfigError, match=r"agent\.environment\.PIN: ") as caught:
        load_config(path)
    assert "48151" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"- a\n- b\n", b"\xff\xfe\x00", b"node: &a [*a]\n", b"!!python/object:os.x {}"]
)
def test_what_is_no_configuration_at_all_is_refused(tmp_path: Path, content: bytes) -> None:
    """An empty file, a list, bytes that are no text, hostile YAML: refused with one line."""
    path = tmp_path / "node.yml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert "\n" not in str(caught.value)


def test_the_daemon_ends_with_78_and_one_line(tmp_path: Path) -> None:
    """A daemon with a malformed node.yml ends with exit code 78 and one line, no traceback."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "node.yml").write_text("node: coz\nlisten: {host: 127.0.0.1, prot: 1}\n")
    command = [sys.executable, "-m", "outlast.daemon", "--home", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 78
    assert ended.stderr.count("\n") == 1
    assert "listen.prot" in ended.stderr
