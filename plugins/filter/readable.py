"""The filter `outlast.agents.readable`: a number of bytes as `outlast` itself writes it."""

from __future__ import annotations

from collections.abc import Callable

from ansible_collections.outlast.agents.plugins.plugin_utils import quantity

DOCUMENTATION = r"""
name: readable
short_description: Writes a number of bytes for people
description: As the node's own command does it, so that one number reads the same in both.
options:
  _input: {description: Bytes., type: int, required: true}
author: [The Outlast authors (@outlast)]
"""
EXAMPLES = r"""
- ansible.builtin.debug: {msg: "{{ 1536 | outlast.agents.readable }}"}
"""
RETURN = r"""
_value: {description: Such as 1.5 KiB., type: str}
"""


class FilterModule:
    """What Ansible asks for."""

    def filters(self) -> dict[str, Callable[[int], str]]:
        """The filter by its name."""
        return {"readable": quantity.readable}
