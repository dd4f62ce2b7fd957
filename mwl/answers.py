"""Whole answers, kept as the bytes between the places of the message ID: modalities poll with equal queries.

What is asked, and by what rules, is in an answer's key; what changes are the entries, and the date.  When an answer
is wanted after a change, it looks whether that could have touched it.  If so, the query is matched again; and if it
finds other entries, or changed ones, the answer is made anew in its place, for all who ask the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from datetime import date, datetime
from operator import is_
from typing import Final, Protocol

import msgspec

from dulproto import Answer, Operation, ResponseTemplate, Status

from .conditions import Condition
from .query import Query
from .response import response_encoder
from .rules import Rules
from .slot import Slot
from .worklist import Search, Worklist, in_order

__all__ = [
    "CACHES_ARE_ON",
    "CANDIDATES_AT_ONCE",
    "MATCHES_AT_ONCE",
    "SENT_WHOLE",
    "AnswerCache",
    "KeptAnswer",
    "Question",
]

CANDIDATES_AT_ONCE: Final = 1000  # tested and put in order in one go, which takes a millisecond
MATCHES_AT_ONCE: Final = 100  # encoded in one go; a longer answer is made and sent step by step
SENT_WHOLE: Final = 128 << 10  # bytes; a longer answer is sent piece by piece, as the peer reads
CACHED_BYTES: Final = 64 << 20
CACHES_ARE_ON: Final = (
    os.environ.get("MWL_CACHES") != "off"
)  # for tests and measurements: every test passes both ways

_OF_A_QUESTION: Final = 4000  # bytes
_OF_A_VALUE: Final = 500  # that is looked for


class Question(msgspec.Struct, frozen=True, eq=False):
    """What is asked, and by what rules: all that an answer depends on but the entries and the date."""

    query: Query
    rules: Rules
    transfer_syntax: str
    template: ResponseTemplate

    @property
    def size(self) -> int:
        """Its bytes in memory, roughly."""
        return _OF_A_QUESTION + _OF_A_VALUE * _values(self.query.conditions)

    def search(self, worklist: Worklist, now: datetime) -> Search:
        """Begin to find what is answered with, if there were no limit."""
        return worklist.search(self.query, self.rules.view, now)

    def limit(self, matches: int) -> tuple[int, int]:
        """Say how many of so many matches are answered, and with what final status."""
        most = self.rules.max_results
        return (most, self.rules.status_at_max_results) if 0 < most < matches else (matches, Status.SUCCESS)

    def encoder(self, today: date) -> Callable[[Slot], bytes]:
        """Give what makes the bytes of an entry."""
        return response_encoder(self.query, self.transfer_syntax, self.rules.response, today).encode

    def segments(self, slots: Iterable[Slot], status: int, encode: Callable[[Slot], bytes]) -> list[bytes]:
        """Make an answer."""
        return self.template.segments([encode(slot) for slot in slots], self.query.pending_status, status)


class Source(Protocol):
    """What an answer depends on besides its question: the provider."""

    worklist: Worklist
    source_is_down: bool
    now: Callable[[], datetime]


class KeptAnswer(Answer):
    """One answer; `version` is that of the worklist for which it is known to be right.

    A short one remembers the `slots` that it is made of: while they are found again, it is right.  A long one has
    None, and the provider makes it anew.  `cache` is None if it is not kept: then it is no good, whoever holds it.
    """

    __slots__ = ("cache", "length", "places", "question", "size", "slots", "source", "today", "version")

    def __init__(
        self,
        question: Question,
        source: Source,
        segments: list[bytes],
        status: int,
        slots: Sequence[Slot] | None,
        today: date,
        version: int,
    ) -> None:
        super().__init__(segments, status)
        self.cache: AnswerCache | None = None
        self.question = question
        self.source = source
        self._begin(today)
        self._hold(segments, status, slots, version)

    def _begin(self, today: date) -> None:
        self.today = today
        self.places = self.source.worklist.places(self.question.query, self.question.rules.view, today)

    def _hold(self, segments: list[bytes], status: int, slots: Sequence[Slot] | None, version: int) -> None:
        self.segments = segments
        self.status = status
        self.length = sum(map(len, segments))
        self.size = self.length + 48 * len(segments) + self.question.size
        self.slots = slots
        self.version = version

    def is_good(self) -> bool:
        """Tell whether it is right, or could be made right."""
        source = self.source
        if self.cache is None or source.source_is_down:
            return False
        worklist, now = source.worklist, source.now()
        if self.today == now.date():
            version = worklist.version
            if self.version == version:
                return True
            if worklist.spared(self.places, self.version):
                self.version = version
                return True
        try:
            return self._renew(worklist, now)
        except Exception:  # a bug: the provider, which makes the answer now, meets it too, and tells of it
            return False

    def _renew(self, worklist: Worklist, now: datetime) -> bool:
        """Match again; if other entries are found, or changed ones, which have new slots, answer with those."""
        if self.slots is None:
            return False
        question, today = self.question, now.date()
        search = question.search(worklist, now)
        if len(search.candidates) > CANDIDATES_AT_ONCE:
            return False
        slots = in_order(search.all())
        if self.today == today and len(slots) == len(self.slots) and all(map(is_, slots, self.slots)):
            self.version = worklist.version
            return True
        cache, before = self.cache, self.size
        self.cache = None  # until it is right again
        number, status = question.limit(len(slots))
        if cache is None or number > MATCHES_AT_ONCE:
            return False
        segments = question.segments(slots[:number], status, question.encoder(today))
        if sum(map(len, segments)) > SENT_WHOLE:
            return False
        if self.today != today:
            self._begin(today)
        self._hold(segments, status, slots, worklist.version)
        self.cache = cache
        cache.resize(self, before)
        return self.cache is not None

    def pieces(self, operation: Operation, responses: int) -> Iterator[bytes]:
        """Give the answer so many responses at a time, as it is now, whatever becomes of it before they are taken."""
        return _pieces(self.segments, self.status, operation, responses)

    def drop(self) -> None:
        """Let go of the bytes."""
        self.cache, self.segments, self.slots = None, [], None


def _pieces(segments: list[bytes], status: int, operation: Operation, responses: int) -> Iterator[bytes]:
    message_id = operation.message_id.to_bytes(2, "little")
    for start in range(0, len(segments), responses):
        piece = message_id.join(segments[start : start + responses])
        if start + responses < len(segments):
            yield piece + message_id
        else:
            operation.final_status = status
            yield piece


def _values(conditions: Iterable[Condition]) -> int:
    return sum([len(condition.lookups) + _values(condition.of_items) for condition in conditions])


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
        answer.cache = self
        self.resize(answer, 0)

    def resize(self, answer: KeptAnswer, before: int) -> None:
        """Count an answer that had another size before; drop what there is no room for."""
        self.size += answer.size - before
        while self.size > self.limit:
            self._drop(self._answers.pop(next(iter(self._answers))))

    def clear(self) -> None:
        """Drop all."""
        while self._answers:
            self._drop(self._answers.popitem()[1])

    def _drop(self, answer: KeptAnswer | None) -> None:
        if answer is not None:
            self.size -= answer.size
            answer.drop()
