"""What node.yml declares of services, in the units that work.services counts in, and what of it cannot be meant.

Rules kept here: a service works below the workspace, its backoff can grow, and all of them can be stopped within the time that
a service manager gives the runtime.

Left to others: the fields (settings). Imported with the configuration: nothing heavy here.
"""

from __future__ import annotations

import signal

from outlast.core.supervision import Policy
from outlast.errors import ConfigError
from outlast.quantity import duration
from outlast.settings import Config, Service

__all__ = ["SPARE_S", "check", "policy", "stop_signal"]

# What a stop of all services may take beyond the longest of their graces; and what a stop of the node takes beyond services and
# work in hand, which is to hand back and to say so. Seconds.
SPARE_S, _HAND_BACK_S = 5.0, 3.0


def policy(service: Service) -> Policy:
    """When it is started again."""
    return Policy(
        restart=service.restart,
        base=duration(service.base),
        max=duration(service.max),
        most=service.most,
        within=duration(service.within),
        rest=duration(service.rest),
    )


def stop_signal(service: Service) -> signal.Signals:
    """What asks it to stop."""
    return signal.Signals[f"SIG{service.stop_signal}"]


def check(config: Config) -> None:
    """Refuse services that cannot be meant. Raises ConfigError."""
    for name, service in config.services.items():
        path = f"services.{name}"
        if duration(service.base) > duration(service.max):
            raise ConfigError(f"{path}.base", "longer than max", "make base the shorter of the two")
        if service.directory.startswith("/") or ".." in service.directory.split("/") or "\0" in service.directory:
            mend = "write a path without / before and .. in it"
            raise ConfigError(f"{path}.directory", "not below the workspace", mend)
    if config.services:
        name, longest = max(
            ((name, duration(one.grace)) for name, one in config.services.items()), key=lambda one: one[1]
        )
        work, most = duration(config.stop.grace), duration(config.stop.within)
        if work + longest + SPARE_S + _HAND_BACK_S > most:
            least = f"{work + longest + SPARE_S + _HAND_BACK_S:g}s"
            wrong = f"with stop.grace a stop may take {least}, longer than the service manager waits (stop.within)"
            mend = f"make a grace shorter, or service_stop_timeout and outlast_stop.within {least} or more"
            raise ConfigError(f"services.{name}.grace", wrong, mend)
