"""Whole answers, kept as the bytes between the places of the message ID: modalities poll with equal queries.

An answer is good for as long as nothing that it depends on has changed.  The rules and the query are in its key; the
entries are compared one by one, since a changed entry has a new slot; an answer with ages is good for one day.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterator, Sequence
from datetime import date, datetime
from operator import is_
from typing import Final, Protocol

from dulproto import Answer, Operation

from .slot import Slot
from .worklist import Worklist

__all__ = ["CACHES_ARE_ON", "AnswerCache", "KeptAnswer"]

CACHED_BYTES: Final = 64 << 20
CACHES_ARE_ON: Final = (
    os.environ.get("MWL_CACHES") != "off"
)  # for tests and measurements: every test passes both ways

_OVERHEAD: Final = 500  # bytes of an answer besides its segments and slots, roughly
_NEVER: Final = -1


class Source(Protocol):
    """What an answer depends on besides its key: the provider."""

    worklist: Worklist
    epoch: object
    source_is_down: bool
    now: Callable[[], datetime]


class KeptAnswer(Answer):
    """One answer; `version` is that of the worklist for which it is known to be right."""

    __slots__ = ("epoch", "size", "slots", "source", "today", "version")

    def __init__(
        self, segments: list[bytes], status: int, slots: Sequence[Slot], source: Source, today: date, version: int
    ) -> None:
        super().__init__(segments, status)
        self.slots = slots
        self.source = source
        self.epoch = source.epoch
        self.today = today
        self.version = version if CACHES_ARE_ON else _NEVER
        self.size = _OVERHEAD + sum(map(len, segments)) + 48 * len(segments)

    def is_good(self) -> bool:
        """Tell whether nothing that it depends on has changed."""
        source = self.source
        return (
            self.version == source.worklist.version
            and self.epoch is source.epoch
            and self.today == source.now().date()
            and not source.source_is_down
        )

    def is_of(self, slots: Sequence[Slot], today: date) -> bool:
        """Tell whether these are the entries, unchanged, that the answer was made of."""
        mine = self.slots
        return self.today == today and len(mine) == len(slots) and all(map(is_, mine, slots))

    def pieces(self, operation: Operation, responses: int) -> Iterator[bytes]:
        """Give the answer so many responses at a time."""
        message_id = operation.message_id.to_bytes(2, "little")
        segments = self.segments
        for start in range(0, len(segments), responses):
            piece = message_id.join(segments[start : start + responses])
            if start + responses < len(segments):
                yield piece + message_id
            else:
                operation.final_status = self.status
                yield piece

    def drop(self) -> None:
        """Let go of the bytes; whoever still holds the answer finds it no good."""
        self.segments, self.slots, self.version = [], (), _NEVER


class AnswerCache:
    """Answers by what was asked, bounded in bytes; the one that was kept first goes first."""

    def __init__(self, limit: int = CACHED_BYTES if CACHES_ARE_ON else 0) -> None:
        self.limit = limit
        self.size = 0
        self._answers: dict[Hashable, KeptAnswer] = {}
        self.get = self._answers.get

    def put(self, key: Hashable, answer: KeptAnswer) -> None:
        """Keep an answer, in place of the one with the same key."""
        self._drop(self._answers.pop(key, None))
        if answer.size > self.limit:
            return
        self._answers[key] = answer
        self.size += answer.size
        while self.size > self.limit:
            self._drop(self._answers.pop(next(iter(self._answers))))

    def _drop(self, answer: KeptAnswer | None) -> None:
        if answer is not None:
            self.size -= answer.size
            answer.drop()
