"""Every error that Outlast raises, under one root.

Rules kept here: an error that reaches a person says which field, what is wrong with it, and the mend, on one line.
Secrets are never part of an error's text.
"""

from __future__ import annotations

from typing import ClassVar, Literal

__all__ = [
    "AgentError",
    "BadInput",
    "ConfigError",
    "ControlError",
    "CorruptError",
    "DurabilityError",
    "FilesError",
    "GatewayError",
    "HeldError",
    "HttpError",
    "KeyFileError",
    "OutlastError",
    "PeerError",
    "SignatureError",
    "UnreachableError",
    "UnreadableError",
]


class OutlastError(Exception):
    """The root of all of Outlast's errors. ``str(error)`` is one line that is fit for a person."""


class BadInput(OutlastError):
    """Something that was given is wrong: names the field, what is wrong, and the mend."""

    def __init__(self, field: str, wrong: str, mend: str) -> None:
        self.field = field
        self.wrong = wrong
        self.mend = mend
        super().__init__(f"{field}: {wrong}; {mend}")


class ConfigError(BadInput):
    """node.yml is wrong."""


class HeldError(BadInput):
    """Another process holds the home."""


class KeyFileError(BadInput):
    """A key file is missing, unreadable, malformed, or open to others."""


class SignatureError(OutlastError):
    """A webhook's headers or signature are not acceptable. The text is for our log, never for the sender."""


class HttpError(OutlastError):
    """A peer spoke HTTP that we refuse, or none at all."""


class PeerError(OutlastError):
    """A peer could not be reached, or did not answer in time."""


class DurabilityError(OutlastError):
    """A write did not reach the disk. What the file holds now is known only after it is read again.

    ``raised`` counts them in this process, whoever catches them, and ``last`` is the newest one's text: health looks whether
    there are more.
    """

    raised: ClassVar[int] = 0
    last: ClassVar[str] = ""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        DurabilityError.raised += 1
        DurabilityError.last = text


class UnreachableError(PeerError):
    """Nobody was there, or no whole answer came in time. ``lost``: not even a refusal came back."""

    def __init__(self, text: str, *, lost: bool = False) -> None:
        super().__init__(text)
        self.lost = lost


class UnreadableError(DurabilityError):
    """What must be known before anything is written cannot be read back."""


class CorruptError(OutlastError):
    """A durable file does not hold what was written: wrong checksum, wrong shape, or from the future."""


class AgentError(OutlastError):
    """An agent's command could not be run at all."""


class ControlError(OutlastError):
    """The node's control socket is not there, or refused what was asked."""


class FilesError(OutlastError):
    """What a peer sent over SSH is not to be had, or not taken. The text may be shown to a peer."""


class GatewayError(OutlastError):
    """OpenClaw's gateway did not do what it was asked. ``code``: its own word for why, where it said one.

    ``kind``: away (nobody is there), starting (it is there, and not yet ready, or not any more), refused (it does not know our
    token), failed (it answered with an error), late (no answer in time).
    """

    def __init__(
        self,
        kind: Literal["away", "starting", "refused", "failed", "late"],
        field: str,
        wrong: str,
        mend: str,
        code: str = "",
    ) -> None:
        self.kind = kind
        self.field = field
        self.wrong = wrong
        self.mend = mend
        self.code = code
        super().__init__(f"{field}: {wrong}; {mend}")
