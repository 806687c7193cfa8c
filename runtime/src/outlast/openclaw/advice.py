"""What a person is told to do about a gateway that does not work, or that nothing is needed.

Rules kept here: one mend, which can be typed as it stands; a copy of its state is named only where there is one.

Left to others: whether anybody is told at all, and how urgently (openclaw.watch).
"""

from __future__ import annotations

from outlast.core.gateway import State, Verdict
from outlast.openclaw.place import Place

__all__ = ["mend", "spoken"]


def spoken(state: State) -> str:
    """A state, as it stands in a sentence."""
    return "in a crash loop" if state == "crash-loop" else state


def mend(place: Place, found: Verdict, phase: str, *, asked: bool, full: bool) -> str:
    """What a person can do about it, or need not.

    ``phase``: its launcher's, empty where none runs; ``asked``: nothing that is done by itself has helped; ``full``: the disk
    takes no writes.
    """
    if phase == "blocked":
        return "it starts by itself once the port is free; mend: end that program, or change openclaw_port"
    if not phase:
        return "mend: start its service: ansible-playbook site.yml"
    if full:
        return "nothing is done on a disk that takes no writes; mend: make room, as the alert on the disk says"
    if not asked:
        return "what helps is done in order; mend: none is needed yet, see outlast openclaw status"
    return f"nothing that is done by itself helped, its state is left as it is; mend: {_last_resort(place, found)}"


def _last_resort(place: Place, found: Verdict) -> str:
    if "config" in found.why.lower() and "database" not in found.why.lower():
        return "put its configuration right in the inventory, then: ansible-playbook site.yml"
    if found.state == "crash-loop" and found.why.startswith("killed by"):
        return "end what kills it (see outlast logs gateway), then: outlast openclaw start"
    from outlast.openclaw import snapshots

    newest = snapshots.newest(place)
    if newest is None:
        return "see outlast logs gateway; no copy of its state is here: ansible-playbook playbooks/restore.yml -e from=FILE"
    return f"outlast openclaw restore --last (from {newest.name}; what is there now is kept)"
