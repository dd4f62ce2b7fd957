"""What changed since when, by what entries are found by: most changes do not touch most answers.

A query has conditions, and some of them say: every match has one of these values.  While no entry with such a value
has come, gone or changed, the query matches what it matched.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

__all__ = ["Changes", "Places", "Term"]

Term = tuple[tuple[int, ...], str | int]
"""The path of an attribute, and one of its values as the index has it."""

Places = tuple[tuple[int, ...], ...]
"""For each of some conditions, where the terms of what it matches have their notes."""

_NOTES: Final = 1 << 16  # half a megabyte; 1,000 changes of entries, with all values new, take a fifth of them


class Changes:
    """The version of the last change by term; of bounded size.

    Terms share a note if their hashes fall together.  So a change may be seen that was none, and none is missed.
    """

    def __init__(self) -> None:
        self._last = [0] * _NOTES

    def note(self, terms: Iterable[Term], version: int) -> None:
        """Note that entries with these terms are others from this version on."""
        last = self._last
        for term in terms:
            last[hash(term) % _NOTES] = version

    def places(self, terms: Iterable[Term]) -> tuple[int, ...]:
        """Give the places of terms."""
        return tuple([hash(term) % _NOTES for term in terms])

    def spared(self, places: Places, version: int) -> bool:
        """Tell whether what is matched is the same since a version: one condition is enough to be sure of it."""
        last = self._last
        for group in places:
            for place in group:
                if last[place] > version:
                    break
            else:
                return True
        return False
