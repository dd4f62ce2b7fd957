"""Keys of VR DA and TM, PS3.4 C.2.2.2.1.3 and C.2.2.2.5: a value or a range becomes an interval of whole numbers.

Days count as `date.toordinal` does, times of day in microseconds.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, time
from typing import Final, Literal

import msgspec

__all__ = ["DAY", "LAST_DAY", "Interval", "decode_date_key", "decode_time_key", "microseconds"]

DAY: Final = 24 * 60 * 60 * 1_000_000
LAST_DAY: Final = date.max.toordinal()

Form = Literal["single", "closed", "from", "until"]


class Interval(msgspec.Struct, frozen=True, gc=False):
    """Days or microseconds from `low` to `high`, both included; empty if the range ends before it starts."""

    low: int
    high: int
    form: Form


def microseconds(value: time) -> int:
    """Count the microseconds since midnight."""
    return ((value.hour * 60 + value.minute) * 60 + value.second) * 1_000_000 + value.microsecond


def decode_date_key(text: str) -> Interval:
    """Decode a date, or a range of dates: `d`, `d1-d2`, `d1-`, `-d2`.

    Raises:
        ValueError: it is neither.
    """
    text = text.replace(" ", "")
    if len(text) == 10 and text[4] == text[7] == "-":
        text = text.replace("-", "")  # ISO 8601, which some devices send
    return _decode_range(text, _date_interval, 1, LAST_DAY)


def decode_time_key(text: str) -> Interval:
    """Decode a time, or a range of times; one without minutes or seconds means all of its hour or minute.

    Raises:
        ValueError: it is neither.
    """
    return _decode_range(text.replace(" ", "").replace(":", ""), _time_interval, 0, DAY - 1)


def _decode_range(text: str, decode: Callable[[str], tuple[int, int]], lowest: int, highest: int) -> Interval:
    if "-" not in text:
        return Interval(*decode(text), "single")
    lower, upper = text.split("-")  # a second hyphen raises ValueError
    if not lower:
        return Interval(lowest, decode(upper)[1], "until")
    if not upper:
        return Interval(decode(lower)[0], highest, "from")
    return Interval(decode(lower)[0], decode(upper)[1], "closed")


def _date_interval(text: str) -> tuple[int, int]:
    digits = text.replace(".", "")[:8]  # ACR-NEMA wrote dots; what follows eight digits is the time of a DT
    if len(digits) != 8 or not _is_number(digits):
        raise ValueError("no date")
    day = date(int(digits[:4]), int(digits[4:6]), int(digits[6:])).toordinal()
    return day, day


def _time_interval(text: str) -> tuple[int, int]:
    whole, dot, fraction = text.partition(".")
    if len(whole) >= 14:
        whole = whole[8:14]  # a DT
    if (
        len(whole) not in (2, 4, 6)
        or not _is_number(whole)
        or (dot and not _is_number(fraction))
        or len(fraction) > 6
    ):
        raise ValueError("no time")
    hours, minutes, seconds = (int(whole[at : at + 2] or 0) for at in (0, 2, 4))
    if hours == 24:
        return DAY - 1, DAY - 1
    start = microseconds(time(hours, minutes, min(seconds, 59)))  # 60 is a leap second
    if fraction:
        start += int(fraction.ljust(6, "0"))
    length = 10 ** (6 - len(fraction)) if fraction else {2: 3_600_000_000, 4: 60_000_000, 6: 1_000_000}[len(whole)]
    return start, start + length - 1


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()
