"""What an inventory says of OpenClaw with templates: worked out as in the play, also by what other hosts have."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.playbook.play_context import PlayContext
from ansible.playbook.task import Task
from ansible.plugins.loader import connection_loader
from ansible.template import Templar, trust_as_template
from ansible.vars.hostvars import HostVars
from ansible.vars.manager import VariableManager

sys.path.append(str(Path(__file__).parents[2] / "collections"))

from ansible_collections.outlast.agents.plugins.action.openclaw_secrets import ActionModule  # noqa: E402

HOSTS = """
outlast:
  hosts:
    coz: {{bot: "secret:NOPE", token: sk-of-coz, base: {{A: {{value: sk-a}}}}}}
    axiom:
      openclaw_enabled: true
      outlast_home: /srv/axiom
{}
"""


def worked_out(folder: Path, said: str) -> dict[str, Any]:
    """The secrets and findings of axiom."""
    (folder / "hosts.yml").write_text(HOSTS.format("".join(f"      {line}\n" for line in said.splitlines())))
    loader = DataLoader()
    inventory = InventoryManager(loader, [str(folder / "hosts.yml")])
    hosts = HostVars(inventory, VariableManager(loader, inventory), loader)
    local = connection_loader.get("local", PlayContext(), os.devnull)
    action = ActionModule(Task(), local, PlayContext(), loader, Templar(loader), None)
    answer = action.run(None, {"ansible_play_hosts": ["coz", "axiom"], "hostvars": hosts})
    assert list(answer["hosts"]) == ["axiom"]
    found: dict[str, Any] = answer["hosts"]["axiom"]
    return found


@pytest.mark.parametrize(
    ("said", "secrets"),
    [
        ("""openclaw_secrets: {K: {value: "{{ hostvars['coz'].token }}"}}""", {"K": "sk-of-coz"}),
        (
            """openclaw_secrets: "{{ hostvars['coz'].base | combine({'B': {'value': 'sk-{{ b }}'}}) }}\"""",
            {"A": "sk-a", "B": "sk-{{ b }}"},
        ),
    ],
)
def test_a_secret_may_come_from_another_host(tmp_path: Path, said: str, secrets: dict[str, str]) -> None:
    """By itself, or in a mapping that is put together as a whole, whose texts are taken as they are."""
    assert worked_out(tmp_path, said) == {"secrets": secrets, "findings": []}


def test_what_another_host_says_is_looked_at(tmp_path: Path) -> None:
    """A placeholder that comes from there needs its secret like any other."""
    (found,) = worked_out(tmp_path, """openclaw_channels: {a: {botToken: "{{ hostvars['coz'].bot }}"}}""")["findings"]
    assert (found["field"], found["wrong"]) == (
        "openclaw_channels.a.botToken",
        "secret:NOPE is not in openclaw_secrets",
    )


@pytest.mark.parametrize("name", ["openclaw_channels", "openclaw_secrets", "openclaw_port"])
def test_what_cannot_be_worked_out_is_no_default(tmp_path: Path, name: str) -> None:
    """It is said, where the default would be taken in silence."""
    (found,) = worked_out(tmp_path, f'{name}: "{{{{ hostvars.coz.lost }}}}"')["findings"]
    assert found["field"] == name and found["wrong"].startswith("cannot be worked out: ") and found["mend"]


@pytest.mark.parametrize("said", [60, "60"])
def test_a_number_of_seconds_may_be_a_text(said: int | str) -> None:
    """As it is where it comes with -e, or out of a template."""
    (task,) = yaml.safe_load((Path(__file__).parents[2] / "roles/openclaw/tasks/keep.yml").read_text())
    templar = Templar(DataLoader(), {"openclaw_stop_within": said})
    assert templar.template(trust_as_template(task["vars"]["service_stop_timeout"])) == 70
