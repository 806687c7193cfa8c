"""Say what hardening will change on a machine before it does, and what nobody but a person can put right.

Keeps: nothing changes here; sshd is to refuse passwords only where a login with a key alone has just succeeded. Leaves to
others: looking (defences), doing it (roles/hardening).
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.outlast.agents.plugins.action import defences
from ansible_collections.outlast.agents.plugins.plugin_utils import firewall, fresh

PROOF = ["/bin/echo", '{"in": true}']
REFUSED = {"passwordauthentication": ["no"], "kbdinteractiveauthentication": ["no"]}
SPOKEN = {
    "sshd": "sshd: passwords are no longer accepted, from anybody: keys alone; root by key alone as well",
    "sudo": "sudo: {admins} may, without a password, run outlast as {user}, and look after its services; {user} itself nothing",
    "updates": "updates: security updates are installed daily by themselves, {restart}",
}


class ActionModule(ActionBase):
    """Run by the task `outlast.agents.plan` with what defences returned (`found`), and what ought to be."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return whether anything is `needed`, and `todo`: packages, updates, the names of the files for the trial."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        self.values, self.seen = self._task.args, self._task.args["found"]["seen"]
        self.findings: list[str] = []
        possible = self._possible()
        trial = [
            name for name in self.values["tried"] if name in possible and (self.seen["pending"] or self._differs(name))
        ]
        plain = [name for name in self.values["plain"] if name in possible and self._differs(name)]
        if "sshd" in trial and not self._key_login():
            trial.remove("sshd")
        updates = self.seen["updates"] not in {"", "1"}
        packages = [name for path, name in self.values["programs"].items() if path not in self.seen["programs"]]
        tidy = self.seen["pending"] or self.values["watcher"] in self.seen["files"]
        self._look_for_findings(trial)
        needed = bool(packages or plain or updates or trial or tidy)
        if needed:
            self._say(self._plan(packages, [*trial, *plain, *(["updates"] if updates else [])], bool(trial)))
        elif self.findings:
            self._say([f"{self.values['node']}: hardening changes nothing, but:", *self.findings])
        todo = {"packages": packages, "plain": plain, "updates": updates, "trial": trial, "tidy": tidy}
        said = {"needed": needed, "todo": todo, "key_only": "sshd" in trial}
        return {**result, **said, "changed": needed and self._task.check_mode}

    def _possible(self) -> set[str]:
        """The files that are of any use on this machine; a finding where that is for somebody to mend."""
        possible = set(self.values["files"])
        if self.seen["netfilter"]:
            wrong = (
                f"this machine's kernel takes no nftables rules ({self.seen['netfilter']}), so that it has no firewall"
            )
            self.findings.append(
                f"firewall: {wrong}; mend: start a kernel that has nf_tables, then run the same command again"
            )
            possible.remove("firewall")
        if not self.seen["sshd"]:
            possible.remove("sshd")
        if self.values["files"]["sudo"]["check"][0] not in self.seen["programs"]:
            possible.remove("sudo")
        return possible

    def _differs(self, name: str) -> bool:
        """Whether a file, or what runs by it, is not as it ought to be."""
        file = self.values["files"][name]
        content = base64.b64decode(file["content"])
        there = self.seen["files"].get(file["path"], {})
        if there != {"sha256": hashlib.sha256(content).hexdigest(), "mode": file["mode"], "owner": "root"}:
            return True
        named = re.search(rb"outlast ([0-9a-f]{12})", content) if name == "firewall" else None
        return named is not None and named.group(1).decode() != self.seen["loaded"]

    def _key_login(self) -> bool:
        """Whether a login with a key and nothing else succeeds right now; a finding where it does not."""
        answer, why = fresh.login(self, PROOF, key_only=True) if fresh.is_remote(self) else ({}, "this is no SSH login")
        if not answer:
            mend = f"ssh-copy-id {self.seen['user']}@{self.values['address']}, then run the same command again"
            self.findings.append(f"sshd: passwords stay on, a login by key alone did not succeed ({why}); mend: {mend}")
        return bool(answer)

    def _look_for_findings(self, trial: list[str]) -> None:
        """What a person has to know or do."""
        there = self.values["files"]["sshd"]["path"] in self.seen["files"]
        if there and not trial and any(self.seen["sshd"].get(word) != value for word, value in REFUSED.items()):
            mend = "make 'Include /etc/ssh/sshd_config.d/*.conf' its first line, then run the same command again"
            self.findings.append(
                f"sshd: passwords are still accepted, /etc/ssh/sshd_config does not heed sshd_config.d; mend: {mend}"
            )
        for peer, listed in self.values["found"]["peers"].items():
            if not listed and self.values["peers"].get(peer):
                wrong = f"{peer} ({self.values['peers'][peer]}) cannot be found now, so that it is not let in yet"
                self.findings.append(f"firewall: {wrong}; mend: run the same command again when it is awake")

    def _plan(self, packages: list[str], about: list[str], trial: bool) -> list[str]:
        """The lines of the plan."""
        values = self.values
        would = "would change" if self._task.check_mode else "changes"
        lines = [f"{values['node']}: hardening {would} this (outlast_hardening: false leaves it as it is):"]
        lines += [f"packages: {', '.join(packages)}"] if packages else []
        if "firewall" in about:
            made = [firewall.Rule(**rule) for rule in values["found"]["rules"]]
            lines += [f"firewall: open: {rule.told()}" for rule in made]
            lines += self._operator(made)
            lines.append("firewall: all else that comes from outside is refused, but for answers, pings, DHCP and mDNS")
            answer, _ = defences.answered(self, values["home"], {"sockets": True})
            lines += [f"firewall: {line}" for line in firewall.closing(answer.get("sockets", []), made)]
        said = {name: text.format(**values["words"]) for name, text in SPOKEN.items() if name in about}
        lines += said.values()
        if "sudo" in about:
            mend = "once its owner has a password, remove that line, and give it with --ask-become-pass"
            for who, path in self.seen["unscoped"]:
                lines.append(f"sudo: {who} may do everything without a password ({path}), and still may; mend: {mend}")
        if trial:
            lines.append(
                f"trial: what concerns logins goes back by itself unless a fresh one succeeds within {values['limit']}"
            )
        elif self.seen["pending"]:
            lines.append("trial: what an interrupted run left on trial is taken back first")
        return [*lines, *self.findings]

    def _operator(self, made: list[firewall.Rule]) -> list[str]:
        """A warning for one who comes from an address that is let in only because it is in use now."""
        address = (self.seen["login"] or [""])[0].partition("%")[0]
        alone = any(rule.why == "SSH" and address in (*rule.from4, *rule.from6) for rule in made)
        peers = [one for listed in self.values["found"]["peers"].values() for one in listed]
        if not alone or address in peers:
            return []
        return [f"firewall: {address} is where you come from now; add to outlast_ssh_from where else you may come from"]

    def _say(self, lines: list[str]) -> None:
        Display().display("\n".join(["", lines[0], *(f"  {line}" for line in lines[1:]), ""]))
