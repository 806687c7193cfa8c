"""What a person reads of the drills: the plan before them, a line as each ends, and the table of all of them.

Keeps: pure; a drill passed only where all came true that it waited for and nothing was lost. Leaves to others: what is done
(drills), making what nodes said harmless for a terminal (table).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.outlast.agents.plugins.plugin_utils import drills
from ansible_collections.outlast.agents.plugins.plugin_utils.drills import SCENARIOS, Run

__all__ = ["HEAD", "Verdict", "findings", "plan", "row", "verdict"]

HEAD = ("", "failure", "noticed after", "recovered after", "lost", "the human was told")
_WIDE, _MOST = 72, 2


@dataclass(frozen=True)
class Verdict:
    """How a drill ended. Seconds are None where that never came true."""

    noticed_s: float | None
    recovered_s: float | None
    lost: tuple[str, ...]
    wrong: tuple[str, ...]
    told: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether it was noticed, recovered from, and nothing was lost."""
        return not self.lost and not self.wrong and None not in (self.noticed_s, self.recovered_s)


def findings(
    scenarios: Sequence[str],
    nodes: Sequence[str],
    talks: Mapping[str, Sequence[str]],
    real: Sequence[str],
    *,
    sure: bool,
) -> list[str]:
    """Why the drills cannot begin; each one line with its mend. ``real``: the nodes that are not embedded ones."""
    wrong = []
    if real and not sure:
        what = f"{', '.join(real)}: a real machine, which a drill kills, freezes and cuts off; nothing was done"
        wrong.append(f"drill_real_hosts: {what}; mend: add -e drill_real_hosts=yes -e sure=yes")
    if len(nodes) < 2:
        what = f"{', '.join(nodes) or 'nobody'} alone cannot be drilled: one fails and another watches"
        wrong.append(f"nodes: {what}; mend: run it without -l, on an inventory of two nodes or more")
    elif nodes[1] not in talks.get(nodes[0], ()) or nodes[0] not in talks.get(nodes[1], ()):
        wrong.append(f"outlast_peers: {nodes[0]} and {nodes[1]} do not talk to each other; mend: name both in it")
    if not scenarios:
        wrong.append(
            f"scenario: none is named; mend: -e scenario=F4, or leave it out for all of {', '.join(SCENARIOS)}"
        )
    return wrong


def plan(run: Run, scenarios: Sequence[str]) -> Iterator[str]:
    """What is about to be done, a line a drill."""
    for name in scenarios:
        scenario = SCENARIOS[name]
        yield f"{name}  {scenario.failure.format(**run.nodes)}: {scenario.how.format(**run.nodes)}"


def verdict(run: Run, name: str) -> Verdict:
    """How a drill ended, from all that was said of it."""
    at = drills.moments(run, name)
    parts = sorted({mark.partition(":")[2] for mark in at if mark.startswith("cause")}) or [""]
    noticed, recovered = [], []
    for part in parts:
        end = f":{part}" if part else ""
        cause = at.get(f"asked{end}", at.get(f"cause{end}"))
        relief = at.get(f"relief{end}", cause)
        noticed.append(_between(cause, at.get(f"noticed{end}")))
        recovered.append(_between(relief, at.get(f"recovered{end}")))
    said = list(run.of(name))
    lost = [str(line) for one in said for line in one.get("lost", ())]
    lost += list(_unlike(said))
    told = [str(line) for one in said for line in one.get("alerts", ())]
    wrong = drills.trouble(run, name)
    if not said and (before := drills.ill(run, name)):
        wrong.append(f"not begun, for a node is not well after {before}; mend: ansible-playbook site.yml, then again")
    return Verdict(
        _latest(noticed),
        _latest(recovered),
        tuple(dict.fromkeys(lost)),
        tuple(wrong),
        # What is urgent first.
        tuple(sorted(dict.fromkeys(told), key=lambda line: not line.endswith("(now)"))),
    )


def row(run: Run, name: str) -> tuple[str, ...]:
    """A line of the table."""
    found, scenario = verdict(run, name), SCENARIOS[name]
    told = _some(found.told) or f"nothing: {scenario.rule}"
    lost = _some(found.lost) or ("not known" if found.wrong else "nothing")
    failure = scenario.failure.format(**run.nodes)
    return (name, failure, _seconds(found.noticed_s), _seconds(found.recovered_s), lost, told)


def _unlike(said: Sequence[Mapping[str, object]]) -> Iterator[str]:
    """What a node knew at the beginning of a drill and does not know at its end."""
    before: dict[tuple[object, str], object] = {}
    for one in said:
        known = one.get("known")
        for name, value in known.items() if isinstance(known, dict) else ():
            if before.setdefault((one["node"], name), value) != value:
                yield f"{one['node']} {name}: {before[one['node'], name]} before, {value} after"


def _between(first: float | None, then: float | None) -> float | None:
    return None if first is None or then is None else max(0.0, then - first)


def _latest(found: Sequence[float | None]) -> float | None:
    known = [one for one in found if one is not None]
    return max(known) if len(known) == len(found) else None


def _seconds(value: float | None) -> str:
    if value is None:
        return "never"
    return f"{max(1.0, value * 1000):.0f} ms" if value < 1 else f"{value:.1f} s"


def _some(lines: Sequence[str]) -> str:
    more = [f"and {len(lines) - _MOST} more"] if len(lines) > _MOST else []
    return "; ".join([*map(_short, lines[:_MOST]), *more])


def _short(text: str) -> str:
    return text if len(text) <= _WIDE else text[: _WIDE - 1].rstrip() + "…"
