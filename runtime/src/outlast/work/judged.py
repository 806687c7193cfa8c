"""Judges what a sub-agent left, before anything of it reaches the workspace.

Rules kept here: kinds, names and sizes are those of every artifact (work.harvest); what was declared to be there is there,
and not empty; JSON that was declared has one meaning and its shape; the content is judged as the very file that was hashed.

Left to others: ending the sub-agent first (work.cell), and integrating (work.subagents).
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from pathlib import Path

from outlast.core.expect import Schema, mismatch
from outlast.core.record import one_line
from outlast.core.strictjson import NotStrict, check
from outlast.errors import AgentError
from outlast.messages import ArtifactFile
from outlast.store import regular
from outlast.work.harvest import harvest

__all__ = ["judge"]

_FILES = 256
_JSON_BYTES = 4 << 20


async def judge(work: Path, expected: Mapping[str, Schema | None], most_bytes: int) -> tuple[ArtifactFile, ...]:
    """Check what is in ``work``, where nothing may write any more; the files, sorted by path. None is fine if none is expected.

    Raises AgentError that says what is not acceptable.
    """
    if not expected and not os.listdir(work):
        return ()
    files = await harvest(work, most_bytes, _FILES)
    sizes = {file.path: file.size for file in files}
    for name, schema in expected.items():
        if not sizes.get(name):
            raise AgentError(f"{name} is expected, and {'is empty' if name in sizes else 'is not there'}")
        if schema is not None:
            if sizes[name] > _JSON_BYTES:
                raise AgentError(f"{name} is larger than {_JSON_BYTES} bytes, too large for JSON that is checked")
            if wrong := await asyncio.to_thread(_wrong, work / name, schema):
                raise AgentError(f"{name} is not as expected: {wrong}")
    return files


def _wrong(path: Path, schema: Schema) -> str:
    try:
        data = regular.read(path)
        check(data)
        return one_line(mismatch(schema, json.loads(data)), 160)
    except NotStrict as error:
        return str(error)
    except OSError as error:
        return error.strerror or str(error)
