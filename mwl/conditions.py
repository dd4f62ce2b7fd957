"""What a compiled query tests: conditions on an entry, each with what an index needs to find candidates for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from typing import Any, Final

import msgspec

from .attributes import Attribute, Kind
from .datetime_keys import LAST_DAY, Interval, microseconds
from .derived import Getter
from .text_keys import NameKey

__all__ = ["Condition", "Days", "any_item", "moments", "names", "numbers", "on_days", "texts", "times"]


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
    values: frozenset[str] = frozenset()
    accepts: Callable[[str], bool] | None = None
    names: tuple[NameKey, ...] = ()
    days: Days | None = None
    exact: bool = False


ANY_DAYS: Final = Days(1, LAST_DAY)


def texts(
    attribute: Attribute,
    kind: Kind,
    get: Getter,
    wanted: frozenset[str],
    accepts: Callable[[str], bool] | None,
    form: Callable[[str], str],
    *,
    exact: bool,
) -> Condition:
    """Match text: equal to one of `wanted` once brought into `form`, or accepted as a pattern."""

    def matches(value: str) -> bool:
        value = form(value)
        return value != "" and (value in wanted or (accepts is not None and accepts(value)))

    if attribute.multiple:

        def test(owner: Any, today: date) -> bool:
            return any(map(matches, get(owner, today)))
    else:

        def test(owner: Any, today: date) -> bool:
            return matches(get(owner, today))

    return Condition(attribute, kind, test, values=wanted, accepts=accepts, exact=exact)


def names(attribute: Attribute, kind: Kind, get: Getter, keys: tuple[NameKey, ...]) -> Condition:
    """Match person names."""

    def matches(name: str) -> bool:
        return name != "" and any(key.test(name) for key in keys)

    def test(owner: Any, today: date) -> bool:
        value = get(owner, today)
        return any(map(matches, value)) if attribute.multiple else matches(value)

    return Condition(attribute, kind, test, names=keys)


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

    return Condition(attribute, "sequence", test)
