"""What node.yml declares of services, in the units that work.services counts in, and what of it cannot be meant.

Rules kept here: a service works below the workspace, and its backoff can grow.

Left to others: the fields (settings). Imported with the configuration: nothing heavy here.
"""

from __future__ import annotations

import signal

from outlast.core.supervision import Policy
from outlast.errors import ConfigError
from outlast.quantity import duration
from outlast.settings import Config, Service

__all__ = ["check", "policy", "stop_signal"]


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
