"""What node.yml may say of the OpenClaw beside the node.

Left to others: OpenClaw's own configuration (roles/openclaw writes it), and where things lie (openclaw.place).
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from outlast.fields import Duration, Positive

__all__ = ["OpenClaw"]


class OpenClaw(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The gateway of this node, and who in it gets the node's messages.

    ``release``: the folder with its Node.js (``node/bin/node``) and its packages (``node_modules``). ``agent``: the id of the
    agent that is fed. ``alive_every`` asks by HTTP, ``truth_every`` by RPC. ``start_within``: how long a start may take.
    ``stop_within``: how long it has to end before it is killed. ``snapshot_every`` and ``snapshots``: how often its state is
    copied while it is healthy, and how many copies are kept. ``turn_within``: how long an agent may take over one message.
    ``most`` restarts ``within`` a time, and it rests for ``rest`` at least: a crash loop.
    """

    release: Annotated[str, msgspec.Meta(pattern=r"^/")]
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 18789
    agent: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}\Z")] = "main"
    alive_every: Duration = "15s"
    truth_every: Duration = "40s"
    start_within: Duration = "5m"
    stop_within: Duration = "30s"
    snapshot_every: Duration = "6h"
    snapshots: Positive = 4
    turn_within: Duration = "25m"
    most: Positive = 5
    within: Duration = "10m"
    rest: Duration = "10m"
