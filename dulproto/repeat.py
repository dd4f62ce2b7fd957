"""What comes again with equal bytes: association requests, and requests that differ in their Message ID only.

Modalities poll.  A provider that has read a request once need not read it again: equal bytes mean the same.  An
`Answer` tells itself for how long it is right, so nothing stale is ever sent.
"""

from __future__ import annotations

from struct import Struct
from typing import Final
from weakref import WeakSet

import msgspec

from .acse import Decision, PresentationContext
from .pdu import AssociateRq, PduType

__all__ = ["Answer", "Negotiated", "Profiles", "learn_at", "message_id_at"]

LONGEST: Final = 4096  # bytes of what is remembered: a poll is shorter
MOST_BYTES: Final = 32 << 20  # of all that is remembered
_OVERHEAD: Final = 500  # bytes of one of them, besides its own, roughly

_MESSAGE_ID: Final = Struct("<H")


class Answer:
    """A whole answer, as the bytes between the places of its Message ID; right for ever, or a subclass knows better.

    A handler that returns one, rather than responses one by one, is not asked again while it is good: neither for
    equal bytes on the same association, nor on another that was requested with equal bytes, from whatever host.
    Its bytes are the handler's to bound: a subclass lets go of them when it is good no more.
    """

    __slots__ = ("segments", "status")

    def __init__(self, segments: list[bytes], status: int) -> None:
        self.segments = segments
        self.status = status

    def is_good(self) -> bool:
        """Tell whether a handler would still give this answer; it may bring itself up to date for that."""
        return True

    def encode(self, message_id: int) -> bytes:
        """Give the responses to one request."""
        return _MESSAGE_ID.pack(message_id).join(self.segments)


class Negotiated(msgspec.Struct, frozen=True, eq=False, weakref=True):
    """An association request that was accepted, and all that follows from its bytes.

    `hosts` are those it was accepted from; `answers` has the requests made on such associations, without their
    Message ID, and the answers to them.
    """

    rq: AssociateRq
    decision: Decision
    encoded_ac: bytes
    contexts: dict[int, PresentationContext]
    called_ae_title: str
    calling_ae_title: str
    titles: str
    """Of both, fit for the log."""
    hosts: set[str] = set()
    answers: dict[bytes, Answer] = {}


class Profiles:
    """Accepted association requests by their bytes; bounded in bytes, and when it is full it begins anew."""

    def __init__(self) -> None:
        self._negotiated: dict[bytes, Negotiated] = {}
        self._with_answers: WeakSet[Negotiated] = WeakSet()  # also those that only an open association still has
        self._bytes = 0
        self.get = self._negotiated.get

    def remember(self, host: str, pdu: bytes, negotiated: Negotiated) -> Negotiated:
        """Keep an accepted request; return the one that was kept for the same bytes from another host."""
        if self._has_room_for(pdu):
            negotiated = self._negotiated.setdefault(pdu, negotiated)
            negotiated.hosts.add(host)
        return negotiated

    def learn(self, negotiated: Negotiated, request: bytes, answer: Answer) -> None:
        """Keep the answer to a request, whose bytes come without the Message ID."""
        if request in negotiated.answers or self._has_room_for(request):
            negotiated.answers[request] = answer
            self._with_answers.add(negotiated)

    def _has_room_for(self, data: bytes) -> bool:
        if len(data) > LONGEST:
            return False
        self._bytes += len(data) + _OVERHEAD
        if self._bytes > MOST_BYTES:
            self.forget()
        return True

    def forget(self) -> None:
        """Forget all: what is offered has changed, or it has become too much."""
        for negotiated in self._with_answers:
            negotiated.answers.clear()
        self._with_answers.clear()
        self._negotiated.clear()
        self._bytes = 0


# PDU header 6 | PDV header 6 | (0000,0000) 12 | (0000,0002) 8 + UID | (0000,0100) 10 | (0000,0110) 8 + Message ID 2
_UID_LENGTH_AT: Final = 28
_BEFORE_ID: Final = 50
SHORTEST: Final = _BEFORE_ID + 2


def message_id_at(data: bytes) -> int:
    """Find where the Message ID is in a request whose command set is as everybody sends it.

    `data` has at least SHORTEST bytes.  Whether the guess is right is checked once, by `learn_at`: bytes that are
    equal everywhere else have it in the same place.
    """
    return _BEFORE_ID + data[_UID_LENGTH_AT]


def learn_at(data: bytes, message_id: int | None) -> int:
    """Find where the Message ID is in a request that was read; 0 if it is elsewhere."""
    at = message_id_at(data) if len(data) >= SHORTEST else 0
    tags = data[0] == PduType.P_DATA_TF and data[24:28] == b"\0\0\2\0" and data[at - 8 : at] == b"\0\0\x10\1\2\0\0\0"
    right = at and tags and message_id is not None and data[at : at + 2] == _MESSAGE_ID.pack(message_id)
    return at if right else 0
