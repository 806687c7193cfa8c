"""``outlast config``: whether the configuration is right.

Left to others: what is right (outlast.config).
"""

from __future__ import annotations

from pathlib import Path

import click

from outlast.cli.common import Where, as_json, emit
from outlast.cli.show import tell

__all__ = ["config"]


@click.group()
def config() -> None:
    """Check the configuration."""


@config.command("check")
@click.option("--file", "file", type=click.Path(path_type=Path), help="Another file than the node's own node.yml.")
@as_json
@click.pass_obj
def config_check(where: Where, file: Path | None, as_json: bool) -> int:
    """Validate node.yml.

    Where it is not right: exit code 78, and one line with the field, what is wrong, and the mend.
    """
    from outlast.config import load_config

    loaded = load_config(file or where.home.config)
    if as_json:
        emit({"ok": True, "node": loaded.node})
    else:
        tell(f"the configuration of {loaded.node} is right")
    return 0
