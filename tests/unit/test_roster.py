"""Services that cannot be meant are refused before anything runs, in words that a person can act on."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import yaml

from outlast.config import load_config
from outlast.core.supervision import Policy
from outlast.errors import ConfigError
from outlast.settings import Service
from outlast.work.roster import policy, stop_signal


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
        ({"restart": "sometimes"}, "services.restart"),
        ({"command": []}, "services.command"),
        ({"most": 0}, "services.most"),
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
