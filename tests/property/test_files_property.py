"""Whatever a peer sends in place of an artifact: it is taken whole and right, or refused, and nothing outside is touched."""

from __future__ import annotations

import contextlib
import io
import tarfile
import tempfile
from pathlib import Path

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st
from support.artifacts import UNIT, leave, make_home, manifest_of

from outlast.errors import FilesError
from outlast.files import wire
from outlast.files.receive import receive
from outlast.files.serve import serve
from outlast.work.artifacts import MANIFEST

LIMIT = 1 << 20
PARTS = st.text(st.characters(exclude_characters="/\0", exclude_categories=["C", "Z"]), min_size=1, max_size=30)
PATHS = st.lists(PARTS.filter(lambda part: part not in {".", ".."}), min_size=1, max_size=4).map("/".join)
CONTENTS = st.binary(max_size=2000)
NASTY = st.sampled_from(
    [
        "../x",
        "/etc/x",
        "a/../../x",
        "./x",
        "a//x",
        "",
        ".",
        "..",
        MANIFEST,
        f"{MANIFEST}/x",
        ".OUTLAST.json",
        "a\0b",
        "a\nb",
        "x/",
    ]
)
KINDS = st.sampled_from([bytes([kind]) for kind in b"\x000123456789LKNSxgXV"])


def take(data: bytes) -> dict[str, bytes] | None:
    """Receive a stream in a folder of its own; what lies there afterwards, or None when it was refused."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "in" / "folder"
        folder.mkdir(parents=True)
        stream = io.BytesIO(data)
        taken = False
        with contextlib.suppress(FilesError, OSError):
            manifest, raw = wire.read_manifest(stream, UNIT, LIMIT)
            receive(stream, manifest, raw, folder)
            taken = True
        outside = [
            path for path in Path(place).rglob("*") if folder not in [path, *path.parents] and path != folder.parent
        ]
        assert not outside
        for path in folder.rglob("*"):
            assert not path.is_symlink()
            assert path.is_dir() or (path.is_file() and path.stat().st_nlink == 1)
        if not taken:
            assert not (folder / MANIFEST).exists()
            return None
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def conflicts(files: dict[str, bytes]) -> bool:
    """Is one path a folder of another, or Outlast's own?"""
    return any(
        path.split("/")[0].casefold() == MANIFEST or any(other.startswith(f"{path}/") for other in files)
        for path in files
    )


def sent(files: dict[str, bytes]) -> bytes:
    """The stream in which a node sends an artifact of these files."""
    with tempfile.TemporaryDirectory() as place:
        home = make_home(Path(place), "axiom")
        leave(home, files)
        out = io.BytesIO()
        assert serve(home, "coz", f"get artifacts {UNIT}", out) == 0
        return out.getvalue()


@given(st.dictionaries(PATHS, CONTENTS, max_size=5).filter(lambda files: not conflicts(files)))
@example({"n" * 99: b"", "n" * 100: b"x", "n" * 101: b"y", "é" * 60: bytes(512), "a/" * 60 + "z": bytes(513)})
def test_what_a_node_sends_is_what_the_other_has(files: dict[str, bytes]) -> None:
    """For every artifact that can be: the same files, and the manifest."""
    taken = take(sent(files))
    assert taken is not None
    assert taken.pop(MANIFEST) == msgspec.json.encode(manifest_of(files))
    assert taken == files


FILES = {"report.md": b"all well\n" * 100, "n" * 120: b"x"}
STREAM = sent(FILES)


@given(st.integers(0, len(STREAM) - 1))
def test_a_stream_cut_off_anywhere_is_refused(size: int) -> None:
    """There is no length at which a part of it passes for the whole."""
    assert take(STREAM[:size]) is None


@given(st.integers(0, len(STREAM) - 1), st.integers(1, 255))
def test_one_byte_changed_does_no_harm(at: int, bits: int) -> None:
    """A stream in which any byte differs is refused, or the files are the right ones all the same."""
    data = bytearray(STREAM)
    data[at] ^= bits
    taken = take(bytes(data))
    if taken is not None:
        assert {path: taken[path] for path in FILES} == FILES
        assert {*taken} == {*FILES, MANIFEST}


@given(st.binary(max_size=3000))
def test_noise_is_refused(data: bytes) -> None:
    """Bytes that are nothing."""
    assert take(data) is None


@given(
    st.lists(
        st.tuples(st.one_of(NASTY, PATHS, st.just("report.md")), KINDS, CONTENTS, st.one_of(NASTY, PATHS)), max_size=4
    ),
    st.lists(st.tuples(st.one_of(NASTY, PATHS), CONTENTS), max_size=3),
)
def test_a_hostile_tar_makes_nothing_but_what_its_manifest_may_list(
    members: list[tuple[str, bytes, bytes, str]], listed: list[tuple[str, bytes]]
) -> None:
    """Links, devices, long names, paths that lead out, repeats: refused, or harmless; nothing appears outside the folder."""
    files = [*listed, ("report.md", b"x")]
    manifest = msgspec.json.encode(manifest_of(dict(files)))
    plain = io.BytesIO()
    for name, kind, content, target in [(MANIFEST, tarfile.REGTYPE, manifest, ""), *members]:
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.size = kind, target, len(content)
        plain.write(info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape"))
        plain.write(content + bytes(-len(content) % 512))
    taken = take(plain.getvalue() + bytes(1024))
    if taken is not None:
        assert {*taken} == {MANIFEST, *dict(files)}


@given(st.text())
def test_a_request_is_one_of_two_to_the_letter(line: str) -> None:
    """What is understood is what is written back; all else is nothing."""
    request = wire.parse(line)
    assert request is None or str(request) == line


def test_the_two_requests_are_understood() -> None:
    """A list, and one artifact."""
    assert wire.parse("list artifacts") == wire.Request("list")
    assert wire.parse(f"get artifacts {UNIT}") == wire.Request("get", UNIT)
    assert wire.parse(f"get artifacts {UNIT}\n") is None


@given(st.integers(-(1 << 62), 1 << 62), st.sampled_from([MANIFEST, "report.md"]))
def test_no_size_that_is_claimed_takes_memory(size: int, name: str) -> None:
    """A header that claims any size is refused before as much is read or made room for."""
    head = tarfile.TarInfo(name)
    head.size = size
    start = b"" if name == MANIFEST else STREAM[: STREAM.index(b"report.md\0")]
    assert take(start + head.tobuf(tarfile.GNU_FORMAT) + bytes(1024)) is None
