"""Indexes from values to slot numbers: text, days, and person names.

Each finds candidates for a condition and says beforehand about how many; `Condition.test` decides.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from datetime import date
from typing import Any, Protocol

from pyroaring import BitMap

from .conditions import Condition
from .text_keys import Lookup

__all__ = ["DayIndex", "Index", "NameIndex", "TextIndex"]

# One slot as a plain number: most accession numbers and names stand for one, and a bitmap of one costs 20 times that.
Posting = int | BitMap


def _add(postings: dict[str, Posting], value: str, number: int) -> None:
    found = postings.get(value)
    if found is None:
        postings[value] = number
    elif isinstance(found, int):
        postings[value] = BitMap((found, number))
    else:
        found.add(number)


def _discard(postings: dict[str, Posting], value: str, number: int) -> bool:
    """Take a number out; tell whether the value stands for nothing any more."""
    found = postings[value]
    if isinstance(found, BitMap):
        found.discard(number)
        if found:
            return False
    del postings[value]
    return True


def _size(posting: Posting | None) -> int:
    return 0 if posting is None else 1 if isinstance(posting, int) else len(posting)


def _union(postings: Iterable[Posting | None]) -> BitMap:
    singles, bitmaps = [], []
    for posting in postings:
        if isinstance(posting, int):
            singles.append(posting)
        elif posting is not None:
            bitmaps.append(posting)
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

    def find(self, condition: Condition, today: date) -> BitMap:
        """Find the slots; not to be changed by the caller."""


class TextIndex:
    """Equal text, in its canonical form."""

    def __init__(self, *, exact: bool = True) -> None:
        self.exact = exact
        self.postings: dict[str, Posting] = {}

    def add(self, value: str, number: int) -> None:
        """Enter a slot under a value."""
        _add(self.postings, value, number)

    def discard(self, value: str, number: int) -> None:
        """Take a slot out from under a value."""
        _discard(self.postings, value, number)

    def effort(self, condition: Condition) -> int:
        """Say how many distinct values have to be looked at to find what matches."""
        return 0 if condition.accepts is None else len(self.postings)

    def estimate(self, condition: Condition, today: date) -> int:
        """Say how many slots there may be, or how many there may be at most."""
        return sum(_size(self.postings.get(value)) for value in condition.values)

    def find(self, condition: Condition, today: date) -> BitMap:
        """Find the slots of all values that match; not to be changed by the caller."""
        accepts = condition.accepts
        plain = (self.postings.get(value) for value in condition.values)
        if accepts is None:
            return _union(plain)
        return _union([*plain, *(posting for value, posting in self.postings.items() if accepts(value))])


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
        low, high = condition.days.resolve(today) if condition.days else (1, 0)
        if high - low < len(self.postings):
            return [self.postings[day] for day in range(low, high + 1) if day in self.postings]
        return [posting for day, posting in self.postings.items() if low <= day <= high]

    def effort(self, condition: Condition) -> int:
        """Say that days need no search."""
        return 0

    def estimate(self, condition: Condition, today: date) -> int:
        """Count the slots."""
        return sum(map(len, self._between(condition, today)))

    def find(self, condition: Condition, today: date) -> BitMap:
        """Find the slots of all days of the interval; not to be changed by the caller."""
        return _union(self._between(condition, today))


class NameIndex:
    """Component groups of person names, folded and without accents, in order."""

    exact = False

    def __init__(self) -> None:
        self.postings: dict[str, Posting] = {}
        self._sorted: list[str] = []
        self._new: list[str] = []  # distinct names that are not in order yet

    def add(self, value: str, number: int) -> None:
        """Enter a slot under a folded group."""
        if value not in self.postings:
            self._new.append(value)
        _add(self.postings, value, number)

    def discard(self, value: str, number: int) -> None:
        """Take a slot out from under a folded group."""
        if _discard(self.postings, value, number):
            names = self._in_order()
            del names[bisect_left(names, value)]

    def _in_order(self) -> list[str]:
        if len(self._new) > 64:  # as after loading
            self._sorted += self._new
            self._sorted.sort()
        else:
            for value in self._new:
                insort(self._sorted, value)
        self._new.clear()
        return self._sorted

    def _range(self, lookup: Lookup) -> tuple[int, int]:
        names, prefix = self._in_order(), lookup.prefix
        if not prefix:
            return 0, len(names)
        return bisect_left(names, prefix), bisect_left(names, prefix + "\U0010ffff")

    def effort(self, condition: Condition) -> int:
        """Say how many names have to be looked at: those with the same beginning."""
        lookups = [lookup for key in condition.names for lookup in key.lookups if lookup.accepts]
        return sum(high - low for low, high in map(self._range, lookups))

    def estimate(self, condition: Condition, today: date) -> int:
        """Count the slots of names that are looked up, without those that are looked for."""
        lookups = [lookup for key in condition.names for lookup in key.lookups if not lookup.accepts]
        return sum(_size(self.postings.get(lookup.prefix)) for lookup in lookups)

    def find(self, condition: Condition, today: date) -> BitMap:
        """Find the slots of all names that can match."""
        found: list[Posting | None] = []
        for key in condition.names:
            for lookup in key.lookups:
                accepts = lookup.accepts
                if accepts is None:
                    found.append(self.postings.get(lookup.prefix))
                    continue
                low, high = self._range(lookup)
                found += [self.postings[name] for name in self._in_order()[low:high] if accepts(name)]
        return _union(found)
