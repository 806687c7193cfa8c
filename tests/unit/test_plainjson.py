"""JSON that was found on a disk: however it is damaged, it is refused in one way."""

from __future__ import annotations

import msgspec
import pytest
from support.badjson import DEEP

from outlast.core.plainjson import from_json


class Known(msgspec.Struct):
    """What is read."""

    text: str


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b"\0",
        b'{"text": 3}',
        b'{"text": "\xff"}',
        DEEP.encode(),
        f'{{"text": "", "more": {DEEP}}}',
    ],
)
def test_what_cannot_be_read_is_one_error(data: bytes | str) -> None:
    """Torn, of another shape, no UTF-8, or nested without measure, also in what nobody asks for: a ValueError."""
    with pytest.raises(ValueError):
        from_json(data, Known)


def test_what_can_be_read_is_of_its_type() -> None:
    """Names that are not known are passed over."""
    assert from_json(b'{"text": "a", "more": 1}', Known) == Known("a")
    assert from_json('{"a": [1.5]}', dict[str, tuple[float, ...]]) == {"a": (1.5,)}
