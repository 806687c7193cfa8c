"""Services that cannot be meant are refused before anything runs, in words that a person can act on."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import yaml

from outlast.config import load_config
from outlast.core.supervision import Policy
from outlast.errors import ConfigError
from outlast.quantity import duration
from outlast.settings import Service, Stop
from outlast.work.roster import policy, stop_signal

ROOT = Path(__file__).resolve().parents[2]


def refused(tmp_path: Path, **fields: object) -> str:
    config = {
        "node": "coz",
        "listen": {"host": "127.0.0.1", "port": 1},
        "agent": {"command": ["/bin/true"]},
        "services": {"web": {"command": ["sleep", "1"], **fields}},
    }
    path = tmp_path / "node.yml"
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    return str(caught.value)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"base": "2m"}, "services.web.base: longer than max"),
        ({"directory": "/etc"}, "services.web.directory: not below the workspace"),
        ({"directory": "a/../.."}, "services.web.directory: not below the workspace"),
        ({"grace": "soon"}, "services.web.grace"),
        ({"grace": "13s"}, "services.web.grace: with stop.grace a stop may take 31s, longer than"),
        ({"grace": "13s"}, "or service_stop_timeout and outlast_stop.within 31s or more"),
        ({"restart": "sometimes"}, "services.web.restart"),
        ({"command": []}, "services.web.command"),
        ({"most": 0}, "services.web.most"),
        ({"restarts": 1}, "did you mean restart?"),
    ],
)
def test_what_is_refused(tmp_path: Path, fields: dict[str, object], says: str) -> None:
    """Field, what is wrong, and the mend."""
    assert says in refused(tmp_path, **fields)


def test_units_are_read() -> None:
    """Durations become seconds, the signal a signal."""
    service = Service(["sleep", "1"], base="1ms", within="1m", rest="2m", stop_signal="INT")
    assert policy(service) == Policy("always", 0.001, 60.0, 5, 60.0, 120.0)
    assert stop_signal(service) == signal.SIGINT


def test_the_time_that_a_stop_may_take_is_that_of_the_service_manager(tmp_path: Path) -> None:
    """Twelve seconds fit in 30 with ten for work in hand, which the role's default is; more do where the manager waits longer."""
    defaults = yaml.safe_load((ROOT / "roles" / "service" / "defaults" / "main.yml").read_text())
    assert duration(Stop().within) == defaults["service_stop_timeout"]
    path = tmp_path / "node.yml"
    for grace, stop in (("12s", {}), ("60s", {"within": "78s"}), ("21s", {"grace": "1s"})):
        services = {"web": {"command": ["sleep", "1"], "grace": grace}}
        node = {"node": "coz", "listen": {"host": "127.0.0.1", "port": 1}, "agent": {"command": ["/bin/true"]}}
        path.write_text(yaml.safe_dump({**node, "services": services, "stop": stop}))
        assert load_config(path).services["web"].grace == grace
