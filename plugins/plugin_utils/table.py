"""An aligned table and a list of findings, as lines of text that a terminal only shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

__all__ = ["findings", "table"]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Columns as wide as their widest cell, two spaces between them."""
    lines = [[plain(cell) for cell in line] for line in (head, *rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def findings(found: Iterable[Mapping[str, str]]) -> list[str]:
    """Two lines each: where and what is wrong, then the mend."""
    return [
        line
        for one in found
        for line in (
            plain(f"  {one['host']}: {one['field']}: {one['wrong']}"),
            plain(f"    mend: {one['mend']}"),
        )
    ]


def plain(text: str) -> str:
    """One line that no terminal takes for an order: what nodes say may have been said by their agents."""
    return "".join(character if character.isprintable() else " " for character in text)
