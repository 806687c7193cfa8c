"""What preflight refuses of what an inventory says of OpenClaw: in lines that a person can read, before anything is changed."""

from __future__ import annotations

from pathlib import Path

import yaml

from .conftest import Clone, Sketch, free_base


def test_what_is_wrong_is_said_before_anything_is_changed(clone: Clone, sketch: Sketch) -> None:
    """Also what only the node itself would refuse, and what another host's variables say; no finding hides another."""
    axiom, coz = sketch.hosts["axiom"], sketch.hosts["coz"]
    coz |= {"bot": "secret:NOPE", "token": "sk-canary"}
    axiom |= {
        "openclaw_enabled": True,
        "openclaw_channels": {"telegram": {"botToken": "{{ hostvars['coz'].bot }}"}},
        "openclaw_secrets": {"K": {"value": "{{ hostvars['coz'].token }}"}, "LOST": {"env": "sk-canary-not-a-name"}},
        "openclaw_watch": {"alive_every": "soon", "snapshots": 0},
        "openclaw_schedule": {"morning": {"cron": "every day", "message": "hello"}},
        "openclaw_agents": {"axiom": {}, "scribe": {"workspace": "~/ws"}},
        "openclaw_bindings": "{{ lost }}",
        "openclaw_dir": "opt",
    }
    coz |= {"openclaw_enabled": True, "openclaw_port": sketch.hosts["coz"]["outlast_port"] + 300,
            "openclaw_agent": ["main"], "openclaw_agents": {1: {}}, "openclaw_providers": "sk-canary"}  # fmt: skip
    done = clone.play("site.yml", "-i", sketch.write())
    assert done.code != 0 and done.changed() == 0 and not list(sketch.homes.iterdir())
    lines = [line.strip() for line in done.text.splitlines()]
    for said in (
        "axiom: openclaw_channels.telegram.botToken: secret:NOPE is not in openclaw_secrets",
        "axiom: openclaw_secrets.LOST: its env is no name of a variable",
        "axiom: openclaw_watch.alive_every: 'soon' is not a duration",
        "axiom: openclaw_watch.snapshots: ",
        "axiom: openclaw_schedule.morning: 'every day' has 2 fields",
        "axiom: openclaw_agents.scribe: workspace: '~/ws' is not an absolute path",
        "axiom: openclaw_bindings: cannot be worked out: 'lost' is undefined",
        "axiom: openclaw_dir: 'opt' is not an absolute path",
        "coz: openclaw_agent: is no text",
        "coz: openclaw_agents: its key 1 is no text",
        "coz: openclaw_providers: is no mapping",
    ):
        places = [at for at, line in enumerate(lines) if line.startswith(said)]
        assert len(places) == 1 and lines[places[0] + 1].startswith("mend: "), f"{said}: {done.text}"
    assert "canary" not in done.text and "censored" not in done.text and "Traceback" not in done.text


def test_what_would_be_of_an_openclaw_on_a_node_that_has_none_yet(up: Clone, tmp_path: Path) -> None:
    """The documented way to look first: its runtime is there, and its settings do not speak of one yet."""
    own = {"openclaw_enabled": True, "openclaw_port": free_base() + 1000, "openclaw_stop_within": "60"}
    (tmp_path / "more.yml").write_text(yaml.safe_dump({"outlast": {"hosts": {"axiom": own}}}))
    done = up.play("site.yml", "-i", "inventory/local", "-i", str(tmp_path / "more.yml"), "-l", "axiom", "--check")
    assert done.code == 0 and done.changed() > 0, done.text
    assert not (up.home("axiom") / "etc/openclaw").exists() and not (up.home("axiom") / "openclaw").exists()
