"""What a compiled query tests: conditions on an entry, each with what an index needs to find candidates for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import date
from typing import Any, Final

import msgspec

from .attributes import Attribute, Kind
from .datetime_keys import LAST_DAY, Interval, microseconds
from .derived import Getter
from .text_keys import Lookup

__all__ = ["Condition", "Days", "any_item", "moments", "numbers", "on_days", "texts", "times"]


class Days(msgspec.Struct, frozen=True, gc=False):
    """Days from `low` to `high`, both included; relative ones count from today, which is resolved at match time."""

    low: int
    high: int
    relative: bool = False

    def resolve(self, today: date) -> tuple[int, int]:
        """Give the first and the last day as `date.toordinal` counts."""
        if not self.relative:
            return self.low, self.high
        ordinal = today.toordinal()
        return max(ordinal + self.low, 1), min(ordinal + self.high, LAST_DAY)


class Condition(msgspec.Struct, frozen=True):
    """One condition on an entry, or on what an item of a sequence stands for.

    `test` alone decides.  The other fields let an index narrow down what has to be tested; `exact` says that such
    an index gives just what the test would.
    """

    attribute: Attribute
    kind: Kind
    test: Callable[[Any, date], bool]
    lookups: tuple[Lookup, ...] = ()
    days: Days | None = None
    exact: bool = False
    of_items: tuple[Condition, ...] = ()
    """For a sequence: what one of its items has to meet."""


ANY_DAYS: Final = Days(1, LAST_DAY)


def texts(
    attribute: Attribute,
    kind: Kind,
    get: Getter,
    matches: Callable[[str], bool],
    lookups: Iterable[Lookup],
    *,
    exact: bool,
) -> Condition:
    """Match text, person names included: a value that is not empty, or one of several, passes `matches`."""
    if attribute.multiple:

        def test(owner: Any, today: date) -> bool:
            return any(value != "" and matches(value) for value in get(owner, today))
    else:

        def test(owner: Any, today: date) -> bool:
            value = get(owner, today)
            return value != "" and matches(value)

    return Condition(attribute, kind, test, lookups=tuple(lookups), exact=exact)


def numbers(attribute: Attribute, get: Getter, wanted: frozenset[float]) -> Condition:
    """Match numbers by their value, not as they are written."""
    return Condition(attribute, "single", lambda owner, today: get(owner, today) in wanted)


def on_days(attribute: Attribute, kind: Kind, get: Getter, days: Sequence[Days]) -> Condition:
    """Match dates that lie in one of the intervals."""

    def test(owner: Any, today: date) -> bool:
        value = get(owner, today)
        if value is None:
            return False
        ordinal = value.toordinal()
        return any(low <= ordinal <= high for low, high in [each.resolve(today) for each in days])

    return Condition(attribute, kind, test, days=_span(days), exact=len(days) == 1)


def _span(days: Sequence[Days]) -> Days:
    if len(days) == 1 or any(each.relative for each in days):
        return days[0] if len(days) == 1 else ANY_DAYS
    return Days(min(each.low for each in days), max(each.high for each in days))


def times(attribute: Attribute, kind: Kind, get: Getter, intervals: Sequence[Interval]) -> Condition:
    """Match times of day that lie in one of the intervals."""

    def test(owner: Any, today: date) -> bool:
        value = get(owner, today)
        if value is None:
            return False
        moment = microseconds(value)
        return any(each.low <= moment <= each.high for each in intervals)

    return Condition(attribute, kind, test)


def moments(attribute: Attribute, get_date: Getter, get_time: Getter, days: Interval, times: Interval) -> Condition:
    """Match the period from the first day's first time to the last day's last time, PS3.4 C.2.2.2.5.4."""
    first, last = (days.low, times.low), (days.high, times.high)

    def test(owner: Any, today: date) -> bool:
        on, at = get_date(owner, today), get_time(owner, today)
        return on is not None and at is not None and first <= (on.toordinal(), microseconds(at)) <= last

    return Condition(attribute, "range", test, days=Days(days.low, days.high))


def any_item(
    attribute: Attribute, get_items: Callable[[Any, date], Sequence[Any]], conditions: Sequence[Condition]
) -> Condition:
    """Match if one item of the sequence satisfies all of the item's conditions, PS3.4 C.2.2.2.6."""

    def test(owner: Any, today: date) -> bool:
        return any(all(each.test(item, today) for each in conditions) for item in get_items(owner, today))

    return Condition(attribute, "sequence", test, of_items=tuple(conditions))
