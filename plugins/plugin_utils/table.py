"""An aligned table and a list of findings, as lines of text that a terminal only shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

__all__ = ["counted", "findings", "table"]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Columns as wide as their widest cell, two spaces between them."""
    lines = [[plain(cell) for cell in line] for line in (head, *rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def findings(found: Iterable[Mapping[str, str]]) -> list[str]:
    """Two lines each: where and what is wrong, then the mend; what several hosts have in common is said once."""
    return [
        plain(line)
        for (field, wrong, mend), hosts in _together(found).items()
        for line in (f"  {', '.join(hosts)}: {field}: {wrong}", f"    mend: {mend}")
    ]


def counted(found: Iterable[Mapping[str, str]]) -> str:
    """How many of them are shown."""
    number = len(_together(found))
    return f"{number} finding{'' if number == 1 else 's'}"


def _together(found: Iterable[Mapping[str, str]]) -> dict[tuple[str, str, str], list[str]]:
    """The hosts of each finding, in the order in which they were found."""
    merged: dict[tuple[str, str, str], list[str]] = {}
    for one in found:
        hosts = merged.setdefault((one["field"], one["wrong"], one["mend"]), [])
        if one["host"] not in hosts:
            hosts.append(one["host"])
    return merged


def plain(text: str) -> str:
    """One line that no terminal takes for an order: what nodes say may have been said by their agents."""
    return "".join(character if character.isprintable() else " " for character in text)
