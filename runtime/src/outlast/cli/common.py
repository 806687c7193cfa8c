"""What the commands share: which node is meant, and how they print."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from outlast.core.plainjson import to_json
from outlast.errors import BadInput
from outlast.home import Home, find_home

if TYPE_CHECKING:
    from outlast.config import Config

__all__ = ["Where", "as_json", "emit", "fits"]

as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


class Where:
    """Which node is meant; looked up only by commands that need one."""

    def __init__(self, home: str | None, node: str | None) -> None:
        self._home, self._node = home, node

    @property
    def home(self) -> Home:
        """Its home. Raises BadInput."""
        return find_home(self._home, self._node)

    @property
    def config(self) -> Config:
        """Its configuration. Raises BadInput, ConfigError."""
        # Most commands ask the running node, and YAML is a tenth of what such a command takes.
        from outlast.config import load_config

        return load_config(self.home.config)


def emit(value: object) -> None:
    """Print one JSON document."""
    click.echo(to_json(value).decode())


def fits(field: str, text: str, limit: int, mend: str) -> None:
    """Refuse a text that is empty, longer than ``limit`` characters, or no UTF-8. Raises BadInput."""
    if not text.strip():
        raise BadInput(field, "it is empty", mend)
    if len(text) > limit:
        raise BadInput(field, f"{len(text)} characters are too many", f"use at most {limit}, or name a file in it")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadInput(field, "it is not UTF-8", "write it in UTF-8") from None
