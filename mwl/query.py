"""From the identifier of a C-FIND request to a compiled query, PS3.4 C.2.2.2, K.2.2 and K.4.1.

`compile_query` reads, validates and decides; afterwards nothing looks at text, VRs or configuration again.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Final

import msgspec

from dulproto import DataSet, Element, ElementError, ElementLimitError, Status, decode_data_set, tag_text

from .attributes import BY_PATH, CHILDREN, SPS_SEQUENCE, Attribute, Kind, Mode, is_supported, kinds
from .charset import LATIN_1, CharacterSet, character_set, decode_text
from .conditions import Condition, Days, any_item, moments, on_days, times
from .derived import getter
from .key_matching import KeyFault, KeyKind, QueryPolicy, Reading, read_key
from .text_keys import trim

__all__ = ["IdentifierError", "Key", "Query", "QueryPolicy", "Shape", "compile_query"]

Shape = tuple[tuple[int, "Shape | None"], ...]
"""The return keys of a query: tags in ascending order, each with the shape of its items, or None below which there
is none.  One whose path is not in the attribute table is answered empty."""

LONGEST_KEY: Final = 1024
MOST_NOTES: Final = 16

_SPECIFIC_CHARACTER_SET: Final = 0x00080005
_STATION_AE_TITLE: Final = 0x00400001
_START_DATE: Final = (SPS_SEQUENCE, 0x00400002)
_START_TIME: Final = (SPS_SEQUENCE, 0x00400003)
_PAIRS: Final = {_START_DATE: _START_TIME, (0x00080020,): (0x00080030,)}
_PATIENT_ID: Final = ((0x00100020,), (0x00100021,))
_OTHER_PATIENT_IDS_SEQUENCE: Final = 0x00101002

# SOP Class and Instance UID, Timezone Offset From UTC, Query/Retrieve Level: what some devices add and no worklist
# has.  They are left out of the answer without counting as unsupported keys.
_ADDED_BY_DEVICES: Final = frozenset({0x00080016, 0x00080018, 0x00080201, 0x00080052})
# VRs whose text depends on the Specific Character Set, PS3.5 6.1.2.2, and those in which a backslash is text, 6.4.
_IN_CHARACTER_SET: Final = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
_ONE_VALUE: Final = frozenset({"LT", "ST", "UR", "UT"})


class IdentifierError(Exception):
    """A query cannot be answered: carries the status, a comment without patient data, and the offending tags."""

    def __init__(self, status: int, comment: str, offending: tuple[int, ...] = ()) -> None:
        super().__init__(comment)
        self.status = status
        self.comment = comment[:64]
        self.offending = offending


class Key(msgspec.Struct, frozen=True):
    """One key of the identifier as it was read; `text` is its value and may be patient data."""

    path: str
    tag: int
    vr: str
    text: str
    kind: KeyKind
    reason: str = ""
    condition: Condition | None = None


class Query(msgspec.Struct, frozen=True):
    """A compiled query.  It stays good for as long as its policy does: what depends on today is a rule in it."""

    conditions: tuple[Condition, ...]
    shape: Shape
    keys: tuple[Key, ...]
    selections: tuple[Condition, ...]
    """Conditions on items of sequences that are answered with; only items that meet them are returned."""
    pending_status: int
    character_set: CharacterSet | None
    """As declared in the request; None if it declares none, or one that is unknown."""
    notes: tuple[str, ...]
    """What had to be tolerated, for the log: tags and reasons, no values."""


def compile_query(identifier: bytes, transfer_syntax: str, policy: QueryPolicy) -> Query:
    """Compile the identifier of a C-FIND request, as a pure function of its arguments.

    Raises:
        IdentifierError: it cannot be read (C003), or in `strict` mode, or where a value is too long, its keys are
            wrong (A900).
        ElementLimitError: it exceeds the limits on nesting and elements; the association is to be aborted.
    """
    notes: list[str] = []
    try:
        data_set = decode_data_set(identifier, transfer_syntax, notes)
    except ElementLimitError:
        raise
    except ElementError as exc:
        raise IdentifierError(Status.IDENTIFIER_CANNOT_BE_DECODED, str(exc)) from exc
    return _Compiler(policy, _declared_character_set(data_set, notes), notes).compile(data_set)


def _declared_character_set(data_set: DataSet, notes: list[str]) -> CharacterSet | None:
    element = data_set.get(_SPECIFIC_CHARACTER_SET)
    value = element.raw.decode("latin_1").strip(" \0") if element else ""
    if not value:
        return None
    try:
        return character_set(value)
    except ValueError:
        notes.append("Specific Character Set is unknown and was read as ISO_IR 100")
        return LATIN_1


class _Compiler:
    """Walks over the levels of one identifier."""

    def __init__(self, policy: QueryPolicy, declared: CharacterSet | None, notes: list[str]) -> None:
        self.policy = policy
        self.declared = declared
        self.default = character_set(policy.request_character_set)
        self.notes = notes
        self.keys: list[Key] = []
        self.all_supported = True

    def compile(self, data_set: DataSet) -> Query:
        data_set, at_root = self._gather_step_keys(data_set)
        conditions, shape = self.level(data_set, (), "", matching=True)
        if self.policy.match_other_patient_ids:
            conditions = self._on_any_identifier(conditions)
        if at_root:
            shape = tuple(sorted([*shape, *((tag, None) for tag in at_root)]))
        return Query(
            tuple(conditions),
            _shared(shape),
            tuple(self.keys),
            tuple(key.condition for key in self.keys if key.vr == "SQ" and key.condition is not None),
            Status.PENDING if self.all_supported or self.policy.always_ff00 else Status.PENDING_WARNING,
            self.declared,
            _first(list(dict.fromkeys(self.notes))),
        )

    def _gather_step_keys(self, data_set: DataSet) -> tuple[DataSet, list[int]]:
        """Put keys of the step that a device sends at the root where they belong, if it sends none there."""
        step = data_set.get(SPS_SEQUENCE)
        items = step.items if step else ()
        item = items[0] if items else {}
        of_step = _step_keys(self.policy.attributes)
        misplaced = [tag for tag in data_set if (tag,) not in BY_PATH and tag in of_step]
        if not self.policy.step_keys_at_root or _has_values(item):
            misplaced = []
        if misplaced:
            self.notes.append("keys of the step were found outside Scheduled Procedure Step Sequence")
        wanted = {tag: data_set[tag] for tag in misplaced}
        station = self.policy.station_ae_title
        if not wanted and not station:
            return data_set, []
        if not item:  # an empty sequence asks for everything in it, and still does
            item = {tag: _empty(BY_PATH[SPS_SEQUENCE, tag]) for tag in of_step}
        item = {**item, **wanted}
        if station:
            item[_STATION_AE_TITLE] = Element(_STATION_AE_TITLE, "AE", station.encode())
            self.notes.append("the configured Scheduled Station AE Title was taken in place of the device's")
        rest = {tag: element for tag, element in data_set.items() if tag not in wanted}
        return {**rest, SPS_SEQUENCE: Element(SPS_SEQUENCE, "SQ", (item, *items[1:]))}, misplaced

    def level(
        self, data_set: DataSet, path: tuple[int, ...], prefix: str, *, matching: bool
    ) -> tuple[list[Condition], Shape]:
        """Compile the keys of the data set itself, or of the item of a sequence."""
        conditions: list[Condition] = []
        shape: list[tuple[int, Shape | None]] = []
        intervals: dict[tuple[int, ...], tuple[int, Reading]] = {}
        for tag in sorted(data_set):
            element, attribute = data_set[tag], BY_PATH.get((*path, tag))
            if attribute is None or not is_supported(attribute, self.policy.attributes):
                self._unsupported(element, path)
                continue
            if attribute.vr == "SQ":
                found, inner = self._sequence(element, attribute, matching=matching)
                conditions += found
                shape.append((tag, inner))
                continue
            shape.append((tag, None))
            reading = self._key(element, attribute, prefix, matching=matching)
            if reading.intervals:
                intervals[attribute.path] = len(self.keys) - 1, reading
            elif reading.condition is not None:
                conditions.append(reading.condition)
        conditions += self._dates_and_times(intervals, prefix)
        if (
            _START_TIME in intervals
            and intervals[_START_TIME][1].kind == "range"
            and not _has(data_set, _START_DATE[-1])
        ):
            conditions.append(self._today(prefix))
        return conditions, tuple(shape)

    def _unsupported(self, element: Element, path: tuple[int, ...]) -> None:
        tag = element.tag
        if not path and tag in _ADDED_BY_DEVICES:
            self.keys.append(Key(tag_text(tag), tag, element.vr, "", "ignored", "no attribute of a worklist"))
            return
        self.all_supported = False
        self.keys.append(Key(tag_text(tag), tag, element.vr, "", "unsupported", "left out of the answer"))

    def _sequence(self, element: Element, attribute: Attribute, *, matching: bool) -> tuple[list[Condition], Shape]:
        """Compile a sequence key, PS3.4 C.2.2.2.6: no item, or one without keys, asks for all that is in it."""
        items = element.items
        if len(items) > 1:
            self._tolerate(attribute, "has more than one item, the first one counts")
        is_step = attribute.path == (SPS_SEQUENCE,)
        mode = self.policy.matching
        place = len(self.keys)
        if not items or not items[0]:
            self.keys.append(
                _key(attribute, "", Reading("universal", "an empty sequence asks for all that is in it"))
            )
            return [], _whole(attribute.path, self.policy.attributes)
        if not is_step and not kinds(attribute, mode):
            matching = False
        conditions, shape = self.level(items[0], attribute.path, "step." if is_step else "", matching=matching)
        reading = Reading("sequence" if conditions else "universal")
        if conditions and not is_step:
            get_items = getter(
                attribute, self.policy.primary_patient_id_issuer, "step." * (attribute.path[0] == SPS_SEQUENCE)
            )
            conditions = [any_item(attribute, lambda owner, today: _tuple(get_items(owner, today)), conditions)]
            reading = Reading("sequence", "", conditions[0])
        self.keys.insert(place, _key(attribute, "", reading))
        return conditions, shape

    def _key(self, element: Element, attribute: Attribute, prefix: str, *, matching: bool) -> Reading:
        """Compile one key that is no sequence, and keep how it was read."""
        if not element.value:  # as most are: they ask for the value
            self.keys.append(_EMPTY_KEYS[attribute.path])
            return _UNIVERSAL
        if len(element.raw) > LONGEST_KEY:
            raise IdentifierError(
                Status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS, f"a key has over {LONGEST_KEY} bytes", (element.tag,)
            )
        values = self._values(element, attribute)
        reading = self._read(element, attribute, values, prefix, matching=matching)
        self.keys.append(_key(attribute, "\\".join(values), reading))
        return reading

    def _values(self, element: Element, attribute: Attribute) -> list[str]:
        vr, raw = attribute.vr, element.raw
        if vr in _IN_CHARACTER_SET:
            readings = decode_text(raw, self.declared, self.default)
        elif vr == "US":
            readings = (str(int.from_bytes(raw, "little")),) if len(raw) == 2 else ()
        else:
            readings = (raw.decode("latin_1"),)
        values = [value for text in readings for value in ((text,) if vr in _ONE_VALUE else text.split("\\"))]
        return [value for value in dict.fromkeys(trim(vr, value) for value in values) if value]

    def _read(
        self, element: Element, attribute: Attribute, values: list[str], prefix: str, *, matching: bool
    ) -> Reading:
        if not values and not (attribute.vr == "US" and element.raw):
            return _UNIVERSAL
        if attribute.key_type == "-":
            return Reading("ignored", "never matched")
        if not self.policy.honour_matching_keys:
            return Reading("ignored", "matching keys of this caller are not honoured")
        allowed = kinds(attribute, self.policy.matching)
        if not allowed or not matching:
            return Reading("ignored", "no matching key of this worklist")
        if self.policy.match_other_patient_ids and attribute.path in _PATIENT_ID:  # on any of the identifiers
            get = getter(BY_PATH[(_OTHER_PATIENT_IDS_SEQUENCE, attribute.tag)])
        else:
            get = getter(attribute, self.policy.primary_patient_id_issuer, prefix)
        try:
            reading = read_key(attribute, values, element.raw, get, allowed, self.policy)
        except KeyFault as exc:
            self._tolerate(attribute, str(exc))
            return Reading("ignored", f"the value {exc}")
        if reading.kind == "ignored":
            self.notes.append(f"{tag_text(attribute.tag)} is not matched: {reading.reason}")
        return reading

    def _tolerate(self, attribute: Attribute, fault: str) -> None:
        if self.policy.strict:
            comment = f"{attribute.keyword} {fault}"
            raise IdentifierError(Status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS, comment, (attribute.tag,))
        self.notes.append(f"{tag_text(attribute.tag)} {fault}")

    def _dates_and_times(self, read: dict[tuple[int, ...], tuple[int, Reading]], prefix: str) -> list[Condition]:
        """Turn what DA and TM keys say into conditions; the two of a pair into one, if the worklist combines them."""
        conditions = []
        for path, (place, reading) in read.items():
            attribute = BY_PATH[path]
            partner = _PAIRS.get(path) or next((first for first, second in _PAIRS.items() if second == path), ())
            other = read.get(partner)
            if other and self.policy.datetime_matching == "combined" and _same_form(reading, other[1]):
                reason = f"one period together with {BY_PATH[partner].keyword}"
                if path not in _PAIRS:  # the date has it
                    self.keys[place] = msgspec.structs.replace(self.keys[place], reason=reason)
                    continue
                dates, at = getter(attribute, prefix=prefix), getter(BY_PATH[partner], prefix=prefix)
                condition = moments(attribute, dates, at, reading.intervals[0], other[1].intervals[0])
            else:
                reason = self.keys[place].reason
                condition = self._independent(attribute, reading, prefix)
            self.keys[place] = msgspec.structs.replace(self.keys[place], reason=reason, condition=condition)
            conditions.append(condition)
        return conditions

    def _independent(self, attribute: Attribute, reading: Reading, prefix: str) -> Condition:
        get = getter(attribute, prefix=prefix)
        kind: Kind = "range" if reading.kind == "range" else "single"
        if attribute.vr == "TM":
            return times(attribute, kind, get, reading.intervals)
        return on_days(attribute, kind, get, [Days(each.low, each.high) for each in reading.intervals])

    def _on_any_identifier(self, conditions: list[Condition]) -> list[Condition]:
        """Let any one identifier of a patient satisfy the keys on Patient ID and its issuer."""
        wanted = [condition for condition in conditions if condition.attribute.path in _PATIENT_ID]
        if not wanted:
            return conditions
        together = any_item(wanted[0].attribute, lambda entry, today: entry.patient.identifiers, wanted)
        together = msgspec.structs.replace(together, lookups=wanted[0].lookups)
        place = next(place for place, key in enumerate(self.keys) if key.condition is wanted[0])
        self.keys[place] = msgspec.structs.replace(self.keys[place], condition=together)
        return [together, *(condition for condition in conditions if condition not in wanted)]

    def _today(self, prefix: str) -> Condition:
        """Mean today if a device asks for a range of times and for no date."""
        attribute, days = BY_PATH[_START_DATE], self.policy.day_tolerance
        condition = on_days(attribute, "range", getter(attribute, prefix=prefix), [Days(-days, days, relative=True)])
        reading = Reading("range", "a range of times without a date means today", condition)
        self.keys.append(_key(attribute, "", reading))
        return condition


def _first(notes: list[str]) -> tuple[str, ...]:
    """Keep a log line readable, whatever a device sends."""
    rest = len(notes) - MOST_NOTES
    return (*notes[:MOST_NOTES], f"and {rest} more") if rest > 0 else tuple(notes)


def _same_form(one: Reading, other: Reading) -> bool:
    """Tell whether a date and a time are ranges of the same form, so that they can be read as one period."""
    forms = [interval.form for reading in (one, other) for interval in reading.intervals]
    return len(forms) == 2 and forms[0] == forms[1] != "single"


def _has(data_set: DataSet, tag: int) -> bool:
    element = data_set.get(tag)
    return element is not None and element.raw.strip(b" \0") != b""


def _has_values(data_set: DataSet) -> bool:
    """Tell whether there is any value, down into the items of sequences."""
    return any(_has(data_set, tag) or any(map(_has_values, data_set[tag].items)) for tag in data_set)


def _tuple(value: object) -> tuple[object, ...]:
    return value if isinstance(value, tuple) else () if value is None else (value,)


def _empty(attribute: Attribute) -> Element:
    return Element(attribute.tag, attribute.vr, () if attribute.vr == "SQ" else b"")


@cache
def _step_keys(mode: Mode) -> frozenset[int]:
    """List the keys that the item of the step may have."""
    return frozenset(each.tag for each in CHILDREN[(SPS_SEQUENCE,)] if is_supported(each, mode))


@lru_cache(maxsize=256)
def _shared(shape: Shape) -> Shape:
    """Give one object for equal shapes: modalities of one make ask for the same, and a shape has 3 kB."""
    return shape


@cache
def _whole(path: tuple[int, ...], mode: Mode) -> Shape:
    """Give the shape of a whole item: every supported attribute of it."""
    return tuple(
        (each.tag, _whole(each.path, mode) if each.vr == "SQ" else None)
        for each in CHILDREN.get(path, ())
        if is_supported(each, mode)
    )


def _key(attribute: Attribute, text: str, reading: Reading) -> Key:
    return Key(
        attribute.keyword_path, attribute.tag, attribute.vr, text, reading.kind, reading.reason, reading.condition
    )


_UNIVERSAL: Final = Reading("universal")
_EMPTY_KEYS: Final = {path: _key(attribute, "", _UNIVERSAL) for path, attribute in BY_PATH.items()}
