"""Writes the table of each role's README from its argument specs; with --check it only says which are not current.

Keeps: what stands outside the two markers is a person's and stays. Leaves to others: the specs themselves.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROLES = Path(__file__).resolve().parents[1] / "roles"
BEGIN, END = "<!-- from meta/argument_specs.yml: run `make docs` -->", "<!-- end -->"


def main() -> int:
    """Return 1 when --check is given and a table is not current."""
    only_check = sys.argv[1:] == ["--check"]
    stale = []
    for role in sorted(path for path in ROLES.iterdir() if path.is_dir()):
        readme = role / "README.md"
        before = readme.read_text(encoding="utf-8") if readme.exists() else ""
        after = with_table(role, before)
        if before != after:
            stale.append(role.name)
            if not only_check:
                readme.write_text(after, encoding="utf-8")
    for name in stale:
        print(f"roles/{name}/README.md: {'is not current, run `make docs`' if only_check else 'written'}")
    return 1 if only_check and stale else 0


def with_table(role: Path, text: str) -> str:
    """The README with its table written anew, or a first README where there is none."""
    specs = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"]
    table = "\n".join([BEGIN, "", *lines(specs), END])
    if BEGIN not in text:
        main_spec = specs["main"]
        description = " ".join(str(main_spec.get("description", "")).split())
        return f"# {role.name}\n\n{main_spec['short_description']}. {description}\n\n## Variables\n\n{table}\n"
    head, _, rest = text.partition(BEGIN)
    return head + table + rest.partition(END)[2]


def lines(specs: Mapping[str, Any]) -> Iterator[str]:
    """One table an entry point."""
    for entry, spec in specs.items():
        if entry != "main":
            yield from (f"### tasks_from: {entry}.yml", "", f"{spec['short_description']}.", "")
        yield from ("| variable | type | default | what it is |", "| --- | --- | --- | --- |")
        yield from (row(name, option) for name, option in spec["options"].items())
        yield ""


def row(name: str, option: Mapping[str, Any]) -> str:
    """One variable."""
    default = "required" if option.get("required") else shown(option["default"]) if "default" in option else ""
    kind = f"{option['type']} of {option['elements']}" if "elements" in option else str(option["type"])
    choices = f" One of {', '.join(option['choices'])}." if "choices" in option else ""
    inner = "".join(f"<br>`{key}`: {sub['description']}" for key, sub in option.get("options", {}).items())
    return f"| `{name}` | {kind} | {default} | {' '.join(option['description'].split())}{choices}{inner} |"


def shown(value: object) -> str:
    """A default as code; an empty one as such."""
    text = {True: "true", False: "false"}.get(value, str(value)) if isinstance(value, bool) else str(value)
    return f"`{text}`" if text else "empty"


if __name__ == "__main__":
    sys.exit(main())
