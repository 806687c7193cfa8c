"""Test hosts that a person would call real: systemd containers with addresses of their own, reached over SSH.

``python -m tests.support.hosts create FOLDER NAME=IMAGE ... | reboot FOLDER [NAME ...] | words FOLDER | destroy FOLDER``

Rules kept here: whatever is made carries labels, and is removed by them, so nothing is left behind and nobody else's
container is touched; the network is podman's own; keys are made for the run and lie in FOLDER; the inventory is the sample
with addresses put in.

Left to others: one host (machine.py), the images (images.py), and what is done to the hosts.
"""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import yaml

from .images import Trouble, ensure, forget_emulation
from .machine import REPOSITORY, Machine, checked, podman, start

__all__ = ["REPOSITORY", "Hosts", "Machine", "Trouble"]

SAMPLE = REPOSITORY / "inventory" / "sample"
_PLAY_LIMIT_S = 1800.0


@dataclass(frozen=True, slots=True)
class Hosts:
    """The hosts of one folder, which holds their keys and their inventory."""

    folder: Path
    machines: Mapping[str, Machine]

    @property
    def inventory(self) -> Path:
        """The sample's inventory with these hosts in it."""
        return self.folder / "inventory"

    def __getitem__(self, name: str) -> Machine:
        return self.machines[name]

    @classmethod
    def create(cls, folder: Path, images: Mapping[str, str]) -> Hosts:
        """Make hosts (name to image), or return those that are there already. Raises Trouble."""
        folder = folder.resolve()
        if (folder / "hosts.json").exists():
            return cls.load(folder)
        ensure(sorted(set(images.values())))
        _remove(f"label=outlast.folder={folder}")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _ssh_key(folder / "id_ed25519")
        run = f"outlast-{sha256(str(folder).encode()).hexdigest()[:6]}"
        labels = ["--label", f"outlast.folder={folder}", "--label", f"outlast.run={os.environ.get('OUTLAST_RUN', run)}"]
        podman("network", "create", *labels, run)
        network = json.loads(podman("network", "inspect", run))[0]
        addresses = ipaddress.ip_network(network["subnets"][0]["subnet"])
        made = cls(
            folder,
            {
                name: Machine(name, image, str(addresses[10 + index]), f"{run}-{name}", str(folder))
                for index, (name, image) in enumerate(images.items())
            },
        )
        (folder / "known_hosts").touch(mode=0o600)
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda machine: start(machine, run, labels), made.machines.values()))
        made._write_inventory()
        (folder / "hosts.json").write_text(json.dumps([asdict(machine) for machine in made.machines.values()]))
        return made

    @classmethod
    def load(cls, folder: Path) -> Hosts:
        """The hosts that were made for a folder. Raises Trouble."""
        folder = folder.resolve()
        try:
            listed = [Machine(**entry) for entry in json.loads((folder / "hosts.json").read_text())]
        except FileNotFoundError:
            raise Trouble(
                f"{folder}: no hosts were made for it; mend: python -m tests.support.hosts create {folder} …"
            ) from None
        return cls(folder, {machine.name: machine for machine in listed})

    def play(
        self, playbook: str, *arguments: str, checkout: Path = REPOSITORY, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a playbook of a checkout on them, as an operator would; all that it printed is in ``stdout``."""
        command = [Path(sys.executable).with_name("ansible-playbook"), playbook, "-i", self.inventory, *arguments]
        own = {"ANSIBLE_CONFIG": str(checkout / "ansible.cfg"), "LC_ALL": "C.UTF-8"}
        return subprocess.run(
            [*map(str, command)], cwd=checkout, env={**os.environ, **own, **(environment or {})}, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=_PLAY_LIMIT_S, check=False,
        )  # fmt: skip

    def destroy(self) -> None:
        """Remove the hosts, their network and their keys."""
        destroy(self.folder)

    def _write_inventory(self) -> None:
        shutil.rmtree(self.inventory, ignore_errors=True)
        shutil.copytree(SAMPLE, self.inventory)
        sample = yaml.safe_load((SAMPLE / "hosts.yml").read_text())
        known = sample["outlast"]["hosts"]
        sample["outlast"]["hosts"] = {
            name: {
                **known.get(name, known["coz" if machine.is_mac else "axiom"]),
                "ansible_host": machine.address,
                "outlast_address": machine.address,
            }
            for name, machine in self.machines.items()
        }
        (self.inventory / "hosts.yml").write_text(yaml.safe_dump(sample, sort_keys=False))
        common = {
            "ansible_ssh_private_key_file": str(self.folder / "id_ed25519"),
            "ansible_ssh_common_args": checked(self.folder),
            # Hosts come and go with the same addresses: a connection that outlived the last ones must not be taken for theirs.
            "ansible_control_path_dir": str(_control_dir(self.folder)),
        }
        (self.inventory / "group_vars" / "all.yml").write_text(yaml.safe_dump(common))


def destroy(folder: Path) -> None:
    """Remove all that was made for a folder, and the folder, whether or not that came to an end."""
    folder = folder.resolve()
    _remove(f"label=outlast.folder={folder}")
    for path in (folder, _control_dir(folder)):
        shutil.rmtree(path, ignore_errors=True)


def sweep(run: str) -> None:
    """Remove all that was made in a run (``OUTLAST_RUN``)."""
    label = f"label=outlast.run={run}"
    shape = '{{index .Labels "outlast.folder"}}'
    for folder in {*podman("ps", "--all", "--filter", label, "--format", shape).split()}:
        destroy(Path(folder))
    # A network whose hosts were never made.
    _remove(label)
    # Not before: a host that others of the run are just making would not start.
    if not podman("ps", "--all", "--quiet", "--filter", "label=outlast.folder"):
        forget_emulation()


def _remove(label: str) -> None:
    if containers := podman("ps", "--all", "--quiet", "--filter", label).split():
        podman("rm", "--force", "--time", "0", *containers)
    if networks := podman("network", "ls", "--quiet", "--filter", label).split():
        podman("network", "rm", "--force", *networks)


def _control_dir(folder: Path) -> Path:
    # Unix sockets want a short path, and the folder's may be long.
    return Path(tempfile.gettempdir()) / f"outlast-{sha256(str(folder).encode()).hexdigest()[:6]}"


def _ssh_key(path: Path) -> None:
    path.unlink(missing_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test hosts", "-f", str(path)], check=True)


def main(words: Sequence[str]) -> int:
    """Do what is asked; return the exit code."""
    try:
        verb, place, *rest = words
        folder = Path(place)
        if verb == "create":
            Hosts.create(folder, dict(pair.split("=") for pair in rest))
        elif verb == "destroy":
            destroy(folder)
        elif verb == "sweep":
            sweep(place)
        elif verb in {"reboot", "words"}:
            hosts = Hosts.load(folder)
            for name in rest or hosts.machines:
                if verb == "words":
                    print(hosts[name].words())
                else:
                    hosts[name].reboot()
                    print(f"hosts: {name} is up again")
        else:
            raise ValueError(verb)
    except ValueError:
        print(__doc__, file=sys.stderr)
        return 2
    except Trouble as trouble:
        print(trouble, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
