"""What must fit together in the section ``subagents`` of node.yml.

Left to others: the fields (settings), what is asked for with each order (work.spawning).
"""

from __future__ import annotations

from outlast.core.record import one_line
from outlast.errors import ConfigError
from outlast.quantity import duration
from outlast.settings import Config

__all__ = ["check"]


def check(config: Config) -> None:
    """Raises ConfigError."""
    if duration(config.subagents.timeout) > duration("7d"):
        raise ConfigError("subagents.timeout", "longer than a week", "make it 7d or less")
    for path in config.subagents.readable:
        if not path.startswith("/") or not path.isprintable():
            raise ConfigError(
                "subagents.readable", f"{one_line(path, 60)!r} is not an absolute path", "begin it with /"
            )
