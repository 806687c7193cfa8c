"""What the fields of node.yml are made of: names, counts, durations, sizes.

Rules kept here: a field's type tells its unit and its bounds. Left to others: the sections (settings, openclaw.settings), and
how an error is put (config).
"""

from __future__ import annotations

from typing import Annotated

import msgspec

__all__ = ["Duration", "Name", "Percent", "Positive", "Size"]

Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9-]{0,31}\Z")]
Positive = Annotated[int, msgspec.Meta(ge=1)]
# How long and how much, as people write it: 30s, 256KiB (quantity).
Duration = Annotated[str, msgspec.Meta(extra={"unit": "duration"})]
Size = Annotated[str, msgspec.Meta(extra={"unit": "size"})]
Percent = Annotated[int, msgspec.Meta(ge=1, le=100)]
