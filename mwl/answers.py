"""Whole answers, kept as the bytes between the places of the message ID: modalities poll with equal queries.

An answer is good for as long as nothing that it depends on has changed.  The rules and the query are in its key; the
entries are compared one by one, since a changed entry has a new slot; an answer with ages is good for one day.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Sequence
from datetime import date
from operator import is_
from struct import Struct
from typing import Final

from dulproto import Operation

from .slot import Slot

__all__ = ["Answer", "AnswerCache"]

CACHED_BYTES: Final = 64 << 20
CACHES_ARE_ON: Final = (
    os.environ.get("MWL_CACHES") != "off"
)  # for tests and measurements: every test passes both ways

_MESSAGE_ID: Final = Struct("<H")
_OVERHEAD: Final = 500  # bytes of an answer besides its segments and slots, roughly


class Answer:
    """One answer; `version` is that of the worklist for which it is known to be good."""

    __slots__ = ("responses", "segments", "size", "slots", "status", "today", "version")

    def __init__(self, segments: list[bytes], status: int, slots: Sequence[Slot], today: date, version: int) -> None:
        self.segments = segments
        self.status = status
        self.slots = slots
        self.today = today
        self.version = version
        self.responses = len(segments) - 2
        self.size = _OVERHEAD + sum(map(len, segments)) + 48 * len(segments)

    def is_of(self, slots: Sequence[Slot], today: date) -> bool:
        """Tell whether these are the entries, unchanged, that the answer was made of."""
        mine = self.slots
        return self.today == today and len(mine) == len(slots) and all(map(is_, mine, slots))

    def send_to(self, operation: Operation) -> tuple[bytes]:
        """Give the responses to one request, as a handler does."""
        operation.final_status = self.status
        operation.responses = self.responses
        return (_MESSAGE_ID.pack(operation.message_id).join(self.segments),)


class AnswerCache:
    """Answers by what was asked, bounded in bytes; the one that was kept first goes first."""

    def __init__(self, limit: int = CACHED_BYTES if CACHES_ARE_ON else 0) -> None:
        self.limit = limit
        self.size = 0
        self._answers: dict[Hashable, Answer] = {}
        self.get = self._answers.get

    def put(self, key: Hashable, answer: Answer) -> None:
        """Keep an answer, in place of the one with the same key."""
        old = self._answers.pop(key, None)
        if old is not None:
            self.size -= old.size
        if answer.size > self.limit:
            return
        self._answers[key] = answer
        self.size += answer.size
        while self.size > self.limit:
            self.size -= self._answers.pop(next(iter(self._answers))).size
