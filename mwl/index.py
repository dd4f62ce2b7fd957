"""Indexes from values to slot numbers: text and days.

Each finds candidates for a condition and says beforehand about how many; `Condition.test` decides.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from typing import Any, Final, Protocol

from pyroaring import BitMap

from .conditions import Condition
from .text_keys import Lookup

__all__ = ["DayIndex", "Index", "TextIndex"]

# One slot as a plain number: most accession numbers and names stand for one, and a bitmap of one costs 20 times that.
Posting = int | BitMap


_FEW: Final = 64  # values that are put in order one by one
_BLOCK: Final = 4096  # values that are looked through at once
_LOOKED_THROUGH: Final = 8  # values in the time that one takes otherwise
_LISTED: Final = 16  # values of a condition: with more of them, one or another is bound to change


def _size(posting: Posting | None) -> int:
    return 0 if posting is None else 1 if isinstance(posting, int) else len(posting)


def _union(postings: Iterable[Posting | None], among: BitMap | None) -> BitMap:
    """Join postings, or what of them is among others: then the size of the others decides, not that of postings."""
    singles: list[int] = []
    bitmaps: list[BitMap] = []
    for posting in postings:
        if isinstance(posting, int):
            if among is None or posting in among:
                singles.append(posting)
        elif posting is not None:
            bitmaps.append(posting if among is None else posting & among)
    if len(bitmaps) == 1 and not singles:
        return bitmaps[0]
    return BitMap.union(BitMap(singles), *bitmaps)


class Index(Protocol):
    """What the planner of a query needs of an index."""

    @property
    def exact(self) -> bool:
        """Tell whether no test is needed of what is found for a condition that is exact itself."""

    def add(self, value: Any, number: int) -> None:
        """Enter a slot under a value."""

    def discard(self, value: Any, number: int) -> None:
        """Take a slot out from under a value."""

    def effort(self, condition: Condition) -> int:
        """Say how many distinct values have to be looked at to find what matches."""

    def estimate(self, condition: Condition, today: date) -> int:
        """Say how many slots there may be, as far as that is known without looking."""

    def find(self, condition: Condition, today: date, among: BitMap | None) -> BitMap:
        """Find the slots, all of them or those among others; not to be changed by the caller."""

    def values(self, condition: Condition, today: date) -> Sequence[Any] | None:
        """List the values one of which each match has; None if they are not known, or too many."""


class Blocks:
    """Values one behind the other, to look for those with some part: 20 ns for each, where a loop takes 190 ns.

    Those that are gone may be among them.
    """

    def __init__(self, values: Iterable[str]) -> None:
        self._blocks: list[str] = []
        self._new = list(values)
        self._join()

    def __len__(self) -> int:
        return len(self._blocks) * _BLOCK + len(self._new)

    def add(self, value: str) -> None:
        """Put a value behind the others."""
        self._new.append(value)

    def _join(self) -> None:
        whole = len(self._new) - len(self._new) % _BLOCK
        for start in range(0, whole, _BLOCK):
            self._blocks.append("\0".join(self._new[start : start + _BLOCK]))
        del self._new[:whole]

    def with_part(self, part: str) -> Iterator[str]:
        """Find the values in which a part stands."""
        self._join()
        for block in self._blocks:
            at = block.find(part)
            while at >= 0:
                end = block.find("\0", at)
                end = len(block) if end < 0 else end
                yield block[block.rfind("\0", 0, at) + 1 : end]
                at = block.find(part, end)
        yield from [value for value in self._new if part in value]


class TextIndex:
    """Text in its canonical form; of person names, component groups folded and without accents.

    The values are put in order when a key with a wild card asks for those with one beginning.
    """

    def __init__(self, *, exact: bool = True) -> None:
        self.exact = exact
        self.postings: dict[str, Posting] = {}
        self._ordered: list[str] = []  # may hold values that are gone, or one of them twice
        self._new: list[str] = []  # values that are not in order yet
        self._blocks: Blocks | None = None  # made when a key that begins with a wild card comes

    def add(self, value: str, number: int) -> None:
        """Enter a slot under a value."""
        found = self.postings.get(value)
        if found is None:
            self.postings[value] = number
            self._new.append(value)
            if len(self._new) > 2 * len(self.postings) + _FEW:  # values come and go, and nobody asks by wild card
                self._ordered, self._new = [], list(self.postings)
            if self._blocks is not None:
                self._blocks.add(value)
                if len(self._blocks) > 2 * len(self.postings) + _FEW:
                    self._blocks = None
        elif isinstance(found, int):
            self.postings[value] = BitMap((found, number))
        else:
            found.add(number)

    def discard(self, value: str, number: int) -> None:
        """Take a slot out from under a value."""
        found = self.postings[value]
        if isinstance(found, BitMap):
            found.discard(number)
            if found:
                return
        del self.postings[value]

    def make_ready(self) -> None:
        """Do what the first key with a wild card would have to wait for."""
        self._in_order()
        self._blocks = Blocks(self.postings)

    def effort(self, condition: Condition) -> int:
        """Say how many distinct values have to be looked at, or an eighth of those that are looked through."""
        return sum([self._effort(lookup) for lookup in condition.lookups if lookup.accepts])

    def _effort(self, lookup: Lookup) -> int:
        if lookup.prefix:
            low, high = self._range(lookup.prefix)
            return high - low
        return len(self.postings) // (_LOOKED_THROUGH if lookup.part else 1)

    def estimate(self, condition: Condition, today: date) -> int:
        """Count the slots of values that are looked up, without those that are looked for."""
        return sum([_size(self.postings.get(each.prefix)) for each in condition.lookups if not each.accepts])

    def find(self, condition: Condition, today: date, among: BitMap | None) -> BitMap:
        """Find the slots of all values that match."""
        found: list[Posting | None] = []
        for lookup in condition.lookups:
            accepts = lookup.accepts
            if accepts is None:
                found.append(self.postings.get(lookup.prefix))
                continue
            found += [self.postings.get(value) for value in self._like(lookup) if accepts(value)]
        return _union(found, among)

    def _like(self, lookup: Lookup) -> Iterable[str]:
        """Give the values that may match a key with wild cards."""
        if lookup.prefix:
            low, high = self._range(lookup.prefix)
            return self._in_order()[low:high]
        if not lookup.part:
            return self.postings
        if self._blocks is None:
            self._blocks = Blocks(self.postings)
        return self._blocks.with_part(lookup.part)

    def values(self, condition: Condition, today: date) -> Sequence[str] | None:
        """List the values of a key without wild cards."""
        lookups = condition.lookups
        if len(lookups) > _LISTED or any(each.accepts for each in lookups):
            return None
        return [each.prefix for each in lookups]

    def _range(self, prefix: str) -> tuple[int, int]:
        values = self._in_order()
        return bisect_left(values, prefix), bisect_left(values, prefix + "\U0010ffff")

    def _in_order(self) -> list[str]:
        if len(self._ordered) + len(self._new) > 2 * len(self.postings) + _FEW:
            self._ordered = sorted(self.postings)
        elif len(self._new) > _FEW:  # as after loading
            self._ordered += self._new
            self._ordered.sort()
        else:
            for value in self._new:
                insort(self._ordered, value)
        self._new.clear()
        return self._ordered


class DayIndex:
    """Days, by `date.toordinal`."""

    exact = True

    def __init__(self) -> None:
        self.postings: dict[int, BitMap] = {}

    def add(self, day: int, number: int) -> None:
        """Enter a slot under a day."""
        self.postings.setdefault(day, BitMap()).add(number)

    def discard(self, day: int, number: int) -> None:
        """Take a slot out from under a day."""
        posting = self.postings[day]
        posting.discard(number)
        if not posting:
            del self.postings[day]

    def _between(self, condition: Condition, today: date) -> list[BitMap]:
        low, high = _interval(condition, today)
        if high - low < len(self.postings):
            return [self.postings[day] for day in range(low, high + 1) if day in self.postings]
        return [posting for day, posting in self.postings.items() if low <= day <= high]

    def effort(self, condition: Condition) -> int:
        """Say that days need no search."""
        return 0

    def estimate(self, condition: Condition, today: date) -> int:
        """Count the slots."""
        return sum(map(len, self._between(condition, today)))

    def find(self, condition: Condition, today: date, among: BitMap | None) -> BitMap:
        """Find the slots of all days of the interval."""
        return _union(self._between(condition, today), among)

    def values(self, condition: Condition, today: date) -> Sequence[int] | None:
        """List the days of the interval."""
        low, high = _interval(condition, today)
        return range(low, high + 1) if high - low < _LISTED else None


def _interval(condition: Condition, today: date) -> tuple[int, int]:
    return condition.days.resolve(today) if condition.days else (1, 0)
