"""Show what a rotation of keys will do, and how it ended: once for all nodes.

Keeps: runs on the controller only; what is not finished fails the run only where it matters (rotation_words). Leaves to
others: asking the nodes (rotate), what is to be done (rotation.py).
"""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.outlast.agents.plugins.plugin_utils import (
    rotation,
    rotation_fleet,
    rotation_gateways,
    rotation_words,
    table,
)


class ActionModule(ActionBase):
    """Run once by the task `outlast.agents.rotation` with `seen` (the variable with each node's answer to `rotate`); before
    the rotation with `leaked` and `since`, after it with `plan`, what it returned before."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Print; before: return `label`, `resumed`, `leaked`, `since`, `windows`, and who has a gateway."""
        result: dict[str, Any] = {**super().run(tmp, task_vars), "changed": False}
        args, now = self._task.args, datetime.now(UTC)
        run = rotation_fleet.run(task_vars or {}, args["seen"], args.get("plan") or {})
        if "plan" in args:
            return {**result, **self._after(run, now)}
        gateways = rotation_fleet.gateways(task_vars or {})
        return {**result, "gateways": gateways, **self._before(run, now, gateways)}

    def _before(self, run: rotation.Run, now: datetime, gateways: list[str]) -> dict[str, Any]:
        named, since = self._task.args.get("leaked") or [], str(self._task.args.get("since") or "").strip()
        leaked = [str(one).strip() for one in (named.split(",") if isinstance(named, str) else named)]
        leaked = [one for one in leaked if one]
        run = dataclasses.replace(run, since=since)
        if wrong := rotation.findings(run, leaked):
            Display().display("\n".join(["nothing was changed", *map(table.plain, wrong)]), color="red")
            return {"failed": True, "msg": "; ".join(wrong)}
        resumable = rotation.resumable(run)
        suspected = rotation.suspects(run, resumable)
        every = tuple(name for name in run.members if name in leaked or name in suspected)
        label = rotation.new_label(now.strftime("%Y%m%d-%H%M%S"), every, resumable)
        run = dataclasses.replace(run, leaked=every, label=label, resumed=label == resumable)
        run = dataclasses.replace(run, windows=rotation.starts(run))
        lines = [table.plain(line) for line in rotation_words.plan(run, now)]
        lines += rotation_gateways.intent([name for name in gateways if name in run.here()])
        if self._task.check_mode:
            lines.append(f"nothing was changed; to do it: {rotation_words.command(every, since)}")
        Display().display("\n".join(["", *lines, ""]), color="yellow" if every else None)
        return {
            "changed": bool(self._task.check_mode and run.here()),
            "label": label,
            "resumed": run.resumed,
            "leaked": list(every),
            "since": since,
            "windows": dict(run.windows),
        }

    def _after(self, run: rotation.Run, now: datetime) -> dict[str, Any]:
        shown = Display()
        again = rotation_words.command(run.leaked, run.since)
        left = rotation_words.left(run, again)
        fails = [one for one in left if one.fails]
        shown.display("\n".join(["", *table.table(rotation_words.HEAD, rotation_words.rows(run, now)), ""]))
        if audits := rotation_words.lasting(run):
            shown.display("\n".join(["audit:", *map(table.plain, audits), ""]), color="yellow")
        if left:
            lines = [table.plain(line) for one in left for line in one.line().splitlines()]
            shown.display("\n".join(["left to do:", *lines, ""]), color="red" if fails else "yellow")
        else:
            shown.display(
                f"{run.label}: every node signs with its new key, and no old one is accepted\n", color="green"
            )
        if fails:
            return {
                "failed": True,
                "msg": f"rotate-keys: not finished, {len(fails)} left that must not wait, see above",
            }
        return {}
