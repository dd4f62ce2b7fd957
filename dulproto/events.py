"""What an association tells its owner: the indications and confirmations of PS3.8 7, and the limits it works in."""

from __future__ import annotations

import msgspec

from .assembler import Message
from .errors import AbortSource
from .pdu import AssociateAc, AssociateRj, AssociateRq


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Named limits: sizes in bytes, times in seconds; a time of 0 means no limit."""

    associate_pdu: int = 1 << 20
    control_pdu: int = 1 << 10  # A-ASSOCIATE-RJ, A-RELEASE, A-ABORT
    command_set: int = 64 << 10
    data_set: int = 1 << 20
    send_pdu: int = 64 << 10  # the longest P-DATA-TF we send, where the peer allows more
    artim: float = 30.0
    half_pdu: float = 30.0
    idle: float = 600.0


class Associate(msgspec.Struct, frozen=True, gc=False):
    """A-ASSOCIATE indication: answer with `accept` or `reject`."""

    rq: AssociateRq


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """A-ASSOCIATE confirmation: the peer accepted."""

    ac: AssociateAc


class Rejected(msgspec.Struct, frozen=True, gc=False):
    """A-ASSOCIATE confirmation: the peer refused."""

    rj: AssociateRj


class Release(msgspec.Struct, frozen=True, gc=False):
    """A-RELEASE indication: answer with `respond_release`."""


class Released(msgspec.Struct, frozen=True, gc=False):
    """A-RELEASE confirmation: the association has ended in order."""


class Tolerated(msgspec.Struct, frozen=True, gc=False):
    """The peer broke a rule, and we go on as if it had not; `text` names the field and the byte offset."""

    text: str


class Aborted(msgspec.Struct, frozen=True, gc=False):
    """A-ABORT or A-P-ABORT indication: the association has ended; `text` tells who ended it and why."""

    text: str
    source: int = AbortSource.SERVICE_PROVIDER
    reason: int = 0


AssociationEvent = Associate | Accepted | Rejected | Message | Release | Released | Tolerated | Aborted
