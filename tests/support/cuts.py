"""Which trees a power cut may leave of a disk that forgets, by the rules that ``support.disk`` states.

Left to others: what must hold afterwards (the tests).
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from support.disk import (
    LINK,
    ROOT,
    Disk,
    Failed,
    Mark,
    Name,
    Named,
    Op,
    Settled,
    Sized,
    Synced,
    Tree,
    Written,
    rename_name,
    size_bytes,
    write_bytes,
)

__all__ = ["Cut", "cuts", "lay_out"]


@dataclass(frozen=True, slots=True)
class Cut:
    """The disk after a power cut: after ``op`` operations, ``said`` before it, and what is there."""

    op: int
    said: tuple[str, ...]
    tree: Tree
    lost: str

    def digest(self) -> bytes:
        """What tells this tree, after these words, from others."""
        whole = blake2b(repr(self.said).encode(), digest_size=16)
        for path in sorted(self.tree):
            content = self.tree[path]
            whole.update(f"\0{path}\0{'d' if content is None else len(content)}\0".encode() + (content or b""))
        return whole.digest()


class _Model:
    """What is durable, and what is not yet: ``names`` in the order in which they changed, ``data`` by file."""

    def __init__(self, kinds: dict[int, bool]) -> None:
        """``kinds``: of each node, whether it is a folder."""
        self.kinds = kinds
        self.durable: dict[int, dict[str, int]] = {ROOT: {}}
        self.content: dict[int, bytes] = {}
        self.names: list[tuple[int, int, tuple[Name, ...]]] = []
        self.data: dict[int, list[Written | Sized]] = {}

    def take(self, number: int, op: Op) -> None:
        if isinstance(op, Named):
            for folder in dict.fromkeys(name.folder for name in op.names):
                self.names.append((number, folder, tuple(name for name in op.names if name.folder == folder)))
        elif isinstance(op, Written | Sized):
            self.data.setdefault(op.node, []).append(op)
        elif isinstance(op, Synced):
            self.sync(op.node)
        elif isinstance(op, Failed):
            self.data.pop(op.node, None)
        elif isinstance(op, Settled):
            for node in {folder for _, folder, _ in self.names} | set(self.data):
                self.sync(node)

    def sync(self, node: int) -> None:
        added = {call for call, folder, changes in self.names if folder != node and changes[0].node is not None}
        left = []
        for entry in self.names:
            call, folder, changes = entry
            # What was moved elsewhere stays here until it is there.
            if folder != node or (call in added and changes[0].node is None):
                left.append(entry)
                continue
            for change in changes:
                rename_name(self.durable.setdefault(node, {}), change)
        self.names = left
        if node in self.data:
            self.content[node] = _applied(self.content.get(node, b""), self.data.pop(node))

    def kept(self, chosen: frozenset[int]) -> bool:
        """May these of ``names`` be kept, and the others not? A removal needs what was added elsewhere by the same rename."""
        by_call: dict[int, list[int]] = {}
        for index, (number, _, _) in enumerate(self.names):
            by_call.setdefault(number, []).append(index)
        return all(first in chosen or second not in chosen for first, second in filter(_two, by_call.values()))

    def tree(self, chosen: frozenset[int], versions: dict[int, bytes]) -> Tree:
        folders = {node: dict(names) for node, names in self.durable.items()}
        for index in sorted(chosen):
            for change in self.names[index][2]:
                rename_name(folders.setdefault(change.folder, {}), change)
        return dict(self._walk("", ROOT, folders, versions, ()))

    def _walk(
        self,
        path: str,
        node: int,
        folders: dict[int, dict[str, int]],
        versions: dict[int, bytes],
        above: tuple[int, ...],
    ) -> Iterator[tuple[str, bytes | None]]:
        for name, child in folders.get(node, {}).items():
            if child in self.kinds and child not in above:
                if self.kinds[child]:
                    yield f"{path}{name}", None
                    yield from self._walk(f"{path}{name}/", child, folders, versions, (*above, child))
                else:
                    yield f"{path}{name}", versions.get(child, self.content.get(child, b""))


def _two(indices: list[int]) -> bool:
    return len(indices) == 2


def _applied(content: bytes, changes: list[Written | Sized]) -> bytes:
    data = bytearray(content)
    for change in changes:
        if isinstance(change, Written):
            write_bytes(data, change.at, change.data)
        else:
            size_bytes(data, change.size)
    return bytes(data)


def _versions(content: bytes, changes: list[Written | Sized]) -> list[bytes]:
    """What a file may hold whose ``changes`` were not fsynced: the ends of the scale first."""
    whole = _applied(content, changes)
    found = [content, whole]
    zeros: list[Written | Sized] = [
        Written(c.node, c.at, bytes(len(c.data))) if isinstance(c, Written) else c for c in changes
    ]
    found.append(_applied(content, zeros))  # the size is known, the data is not
    for index, change in enumerate(changes):
        before = changes[:index]
        found.append(_applied(content, before))
        found.append(_applied(content, [*before, *changes[index + 1 :]]))
        if isinstance(change, Written) and len(change.data) > 1:
            half = len(change.data) // 2
            found.append(_applied(content, [*before, Written(change.node, change.at, change.data[:half])]))
            found.append(_applied(content, [*before, Written(change.node, change.at + half, change.data[half:])]))
    return list(dict.fromkeys(found))


def cuts(
    disk: Disk, *, since: int = 0, told: bool = False, most: int = 48, seed: int = 1, scratch: tuple[str, ...] = ()
) -> Iterator[Cut]:
    """Every tree that a power cut may leave, after each operation, no two alike after the same words.

    ``since``: only cuts after so many operations; ``told``: only right after something was said. Where one moment has more than ``most`` of them, the ends of the scale and, by ``seed``, some of the rest. What is in
    files that end with one of ``scratch`` is never kept, so that their many writes do not hide those that matter.
    """
    named = (name for op in disk.log if isinstance(op, Named) for name in op.names)
    passed = {name.node for name in named if name.name.endswith(scratch)} if scratch else set()
    model, dice = _Model({node.id: node.folder for node in disk.nodes.values()}), random.Random(seed)
    first = max((number for number, op in enumerate(disk.log) if isinstance(op, Settled)), default=0)
    said: tuple[str, ...] = ()
    seen: set[bytes] = set()
    for number, op in enumerate(disk.log):
        said = (*said, op.text) if isinstance(op, Mark) else said
        if isinstance(op, Written | Sized) and op.node in passed:
            continue
        model.take(number, op)
        if number < max(first, since) or (told and not isinstance(op, Mark)):
            continue
        for chosen, versions, lost in _choices(model, most, dice):
            cut = Cut(number, said, model.tree(chosen, versions), lost)
            digest = cut.digest()
            if digest not in seen:
                seen.add(digest)
                yield cut


def _choices(model: _Model, most: int, dice: random.Random) -> Iterator[tuple[frozenset[int], dict[int, bytes], str]]:
    """What may be kept of what is volatile: which names, which version of each file."""
    count = len(model.names)
    every = frozenset(range(count))
    if 2**count <= most:
        subsets = [
            frozenset(picked) for size in range(count + 1) for picked in itertools.combinations(range(count), size)
        ]
    else:
        subsets = [frozenset(), every, *(every - {index} for index in every), *(frozenset({index}) for index in every)]
        subsets += [frozenset(index for index in every if dice.random() < 0.5) for _ in range(most // 2)]
    versions = {node: _versions(model.content.get(node, b""), changes) for node, changes in model.data.items()}
    for subset in filter(model.kept, dict.fromkeys(subsets)):
        for picked in _products(versions, most, dice):
            lost = "; ".join(_told(model, number) for number in range(count) if number not in subset)
            yield subset, picked, lost


def _products(versions: dict[int, list[bytes]], most: int, dice: random.Random) -> Iterator[dict[int, bytes]]:
    total = 1
    for found in versions.values():
        total *= len(found)
    if total <= most:
        for picked in itertools.product(*versions.values()):
            yield dict(zip(versions, picked, strict=True))
        return
    whole = {node: found[1] for node, found in versions.items()}
    yield {node: found[0] for node, found in versions.items()}
    yield whole
    for node, found in versions.items():
        for version in found:
            yield {**whole, node: version}
    for _ in range(most // 2):
        yield {node: dice.choice(found) for node, found in versions.items()}


def _told(model: _Model, index: int) -> str:
    return ", ".join(f"{'' if name.node else 'the removal of '}{name.name}" for name in model.names[index][2])


def lay_out(tree: Tree, folder: Path) -> None:
    """Make real files and folders of a tree, in ``folder``, which is new."""
    folder.mkdir(parents=True)
    for path, content in sorted(tree.items()):
        if content is None:
            (folder / path).mkdir(mode=0o700)
        elif content.startswith(LINK):
            (folder / path).symlink_to(content.removeprefix(LINK).decode())
        else:
            (folder / path).write_bytes(content)
