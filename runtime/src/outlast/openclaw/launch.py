"""What the service manager runs as the gateway: ``python -m outlast.openclaw.launch --home HOME``.

Rules kept here: one launcher a node; what is missing is one line and exit code 78, another launcher one line and 75; no
traceback. It ends by a signal only, so that a service manager never meets a crash loop.

Left to others: the gateway itself (openclaw.launcher), whether it truly works (openclaw.watch), the service (roles/service).
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
from pathlib import Path

from outlast.config import load_config
from outlast.core.gateway import CONFIGURATION
from outlast.core.plainjson import to_json
from outlast.errors import ConfigError, OutlastError
from outlast.home import Home
from outlast.openclaw import wishes
from outlast.openclaw.launcher import Launcher
from outlast.openclaw.place import Place, place_of
from outlast.store import durable
from outlast.work.descent import may_adopt

__all__ = ["main", "startable"]

_TEMPORARY = 75


def startable(home: Home) -> Place:
    """Where a node's OpenClaw is, once all that a start needs is there. Raises ConfigError."""
    place = place_of(home, load_config(home.config))
    mend = "ansible-playbook site.yml, with openclaw_enabled: true in the inventory"
    for path in map(Path, place.command):
        if not path.is_file():
            raise ConfigError("openclaw.release", f"{path} is not there", mend)
    if not place.config.is_file():
        raise ConfigError("openclaw", f"its configuration {place.config} is not there", mend)
    return place


def main(arguments: list[str] | None = None) -> int:
    """Run the gateway of a node in the foreground until a signal stops it. Returns the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    if len(given) != 2 or given[0] != "--home":
        print(
            "usage: python -m outlast.openclaw.launch --home HOME    (the folder that holds etc/node.yml)",
            file=sys.stderr,
        )
        return CONFIGURATION
    os.umask(0o077)
    try:
        place = startable(Home(Path(given[1]).resolve()))
        if wishes.lock(place) is None:
            print("outlast: openclaw: another launcher runs this gateway; stop that service first", file=sys.stderr)
            return _TEMPORARY
        _say_loaded(place)
        may_adopt()
        asyncio.run(_launch(place))
    except ConfigError as error:
        print(f"outlast: {error}", file=sys.stderr, flush=True)
        return CONFIGURATION
    except OutlastError as error:
        print(f"outlast: {error}", file=sys.stderr, flush=True)
        return 1
    except OSError as error:
        print(f"outlast: {error.strerror or error}: {error.filename or given[1]}", file=sys.stderr, flush=True)
        return 1
    except Exception as error:  # noqa: BLE001 (the last line of defence: a person sees one line)
        print(f"outlast: the gateway's launcher was stopped by a defect: {error!r}", file=sys.stderr, flush=True)
        return 1
    return 0


def _say_loaded(place: Place) -> None:
    """What this process started with, as run/loaded says it of the runtime: Ansible restarts it where that is another by now.

    Not the configuration: the launcher outlives the gateways that read it. Raises DurabilityError.
    """
    settings = place.folder / "settings.json"
    digest = hashlib.sha256(settings.read_bytes()).hexdigest() if settings.is_file() else ""
    files = {str(settings.relative_to(place.home.root)): digest}
    said = {"pid": os.getpid(), "release": os.path.realpath(sys.prefix), "files": files}
    durable.make_dir(place.home.loaded.parent)
    durable.replace(place.home.loaded.with_name("gateway"), to_json(said))


async def _launch(place: Place) -> None:
    await Launcher(place).run()


if __name__ == "__main__":
    sys.exit(main())
