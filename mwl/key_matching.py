"""One key of a query: which kind of matching its value asks for, PS3.4 C.2.2.2, and the condition it becomes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

import msgspec

from .attributes import SPS_SEQUENCE, Attribute, Kind, Mode
from .conditions import Condition, numbers, texts
from .datetime_keys import LAST_DAY, Interval, decode_date_key, decode_time_key
from .derived import Getter
from .text_keys import Lookup, canonical, compile_name, compile_text, has_wildcard, is_everything, text_lookup

__all__ = ["KeyFault", "KeyKind", "QueryPolicy", "Reading", "read_key"]

KeyKind = Literal[Kind, "universal", "ignored", "unsupported"]


class QueryPolicy(msgspec.Struct, frozen=True):
    """How queries of one pair of AE titles are read; the names are those of the configuration."""

    attributes: Mode = "all"
    matching: Mode = "all"
    datetime_matching: Literal["combined", "independent"] = "combined"
    honour_matching_keys: bool = True
    strict: bool = False
    wildcards_in_single_value_keys: bool = False
    ae_key_ignore_case: bool = True
    station_ae_title: str = ""
    """Stands in place of Scheduled Station AE Title, whatever the device sends in it."""
    step_keys_at_root: bool = True
    lenient_pn: bool = False
    ignore_accents: bool = False
    match_other_patient_ids: bool = False
    request_character_set: str = "ISO_IR 100"
    day_tolerance: int = 0
    primary_patient_id_issuer: str = ""
    always_ff00: bool = False

    @classmethod
    def of(cls, rules: object) -> QueryPolicy:
        """Take what a query needs from the rules of a configuration."""
        return msgspec.convert(rules, cls, from_attributes=True)


class KeyFault(ValueError):
    """A key's value is not one of its VR."""


class Reading(msgspec.Struct, frozen=True):
    """How a key was read: the kind of matching, why that one, and the condition or the intervals it stands for."""

    kind: KeyKind
    reason: str = ""
    condition: Condition | None = None
    intervals: tuple[Interval, ...] = ()


class _Key(msgspec.Struct, frozen=True):
    attribute: Attribute
    values: list[str]
    raw: bytes
    get: Getter
    kinds: tuple[Kind, ...]
    policy: QueryPolicy


_EVERYTHING: Final = Reading("universal", "`*` alone finds everything")


def read_key(
    attribute: Attribute, values: list[str], raw: bytes, get: Getter, kinds: tuple[Kind, ...], policy: QueryPolicy
) -> Reading:
    """Read the value of a key that is neither empty nor a sequence.

    Raises:
        KeyFault: the value cannot be one of its VR, as far as anybody could guess.
    """
    return _READERS.get(attribute.vr, _read_text)(_Key(attribute, values, raw, get, kinds, policy))


def _read_text(key: _Key) -> Reading:
    if any(map(is_everything, key.values)):
        return _EVERYTHING
    attribute, vr = key.attribute, key.attribute.vr
    wild = "wildcard" in key.kinds or (key.policy.wildcards_in_single_value_keys and vr != "AS")
    patterns = [value for value in key.values if has_wildcard(value)]
    plain = [value for value in key.values if not wild or not has_wildcard(value)]
    # CS has capitals only, so nothing is lost; an AE title may differ from another by case alone, if rarely.
    ignore_case = vr == "CS" or (vr == "AE" and key.policy.ae_key_ignore_case)
    form = str.upper if ignore_case else str
    wanted = frozenset(map(form, plain))
    tests = [compile_text(form(value)) for value in patterns if wild]

    def matches(value: str) -> bool:
        value = form(value)
        return value in wanted or any(test(value) for test in tests)

    kind: Kind = "wildcard" if tests else "single"
    in_index = dict.fromkeys(canonical(vr, value) for value in key.values)
    lookups = [text_lookup(value) if wild else Lookup(value) for value in in_index]
    condition = texts(attribute, kind, key.get, matches, lookups, exact=ignore_case or vr != "AE")
    literal = "`*` and `?` are no wild cards in this key, and stand for themselves" if patterns and not wild else ""
    return Reading(kind, literal or _several(key.values), condition)


def _several(values: list[str]) -> str:
    return "one of several values is enough" if len(values) > 1 else ""


def _read_name(key: _Key) -> Reading:
    if any(is_everything(value.lstrip("^")) for value in key.values):  # some devices add `*` to blank fields: `^*`
        return _EVERYTHING
    values = list(key.values)
    if key.policy.lenient_pn:
        values += [_with_carets(value) for value in key.values if "^" not in value and " " in value.strip(" ")]
    compiled = [compile_name(value, accents=not key.policy.ignore_accents) for value in values]
    kind: Kind = "wildcard" if any(map(has_wildcard, values)) else "single"
    if kind not in key.kinds and not key.policy.wildcards_in_single_value_keys:
        return Reading("ignored", "wild cards are not matched in this key")

    def matches(name: str) -> bool:
        return any(each.test(name) for each in compiled)

    lookups = [lookup for each in compiled for lookup in each.lookups]
    return Reading(kind, _several(key.values), texts(key.attribute, kind, key.get, matches, lookups, exact=False))


def _with_carets(value: str) -> str:
    """Write `SMITH, JOHN` and `SMITH JOHN` as DICOM does."""
    return value.replace(", ", "^").replace(",", "^").replace(" ", "^")


def _read_uid(key: _Key) -> Reading:
    if any(map(is_everything, key.values)):
        return _EVERYTHING
    wanted = frozenset(key.values)
    lookups = [Lookup(value) for value in key.values]
    condition = texts(key.attribute, "uid-list", key.get, wanted.__contains__, lookups, exact=True)
    return Reading("uid-list", _several(key.values), condition)


def _read_decimal(key: _Key) -> Reading:
    try:
        wanted = frozenset(float(value) for value in key.values)
    except ValueError:
        raise KeyFault("is no number") from None
    return Reading("single", "", numbers(key.attribute, key.get, wanted))


def _read_us(key: _Key) -> Reading:
    if len(key.raw) != 2:
        return Reading("ignored", "the value is no 16-bit number")
    return Reading("single", "", numbers(key.attribute, key.get, frozenset((int.from_bytes(key.raw, "little"),))))


def _read_datetime(key: _Key) -> Reading:
    if any(map(is_everything, key.values)):
        return _EVERYTHING
    if any(map(has_wildcard, key.values)):
        return Reading("ignored", "there are no wild cards in dates and times")
    if any(value.replace(" ", "") == "-" for value in key.values):
        return Reading("ignored", "a range that is open at both ends")
    try:
        if key.attribute.vr == "TM":
            found = [decode_time_key(value) for value in key.values]
        else:
            days = key.policy.day_tolerance if key.attribute.path[0] == SPS_SEQUENCE else 0
            found = [_widen(decode_date_key(value), days) for value in key.values]
    except ValueError:
        raise KeyFault("is no date" if key.attribute.vr == "DA" else "is no time of day") from None
    kind: Kind = "single" if all(interval.form == "single" for interval in found) else "range"
    reason = (
        "the range ends before it starts" if any(each.low > each.high for each in found) else _several(key.values)
    )
    return Reading(kind, reason, intervals=tuple(found))


def _widen(interval: Interval, days: int) -> Interval:
    if not days or interval.low > interval.high:
        return interval
    return Interval(max(interval.low - days, 1), min(interval.high + days, LAST_DAY), interval.form)


_READERS: Final[dict[str, Callable[[_Key], Reading]]] = {
    "DA": _read_datetime,
    "DS": _read_decimal,
    "IS": _read_decimal,
    "PN": _read_name,
    "TM": _read_datetime,
    "UI": _read_uid,
    "US": _read_us,
}
