"""Rules of a mapping, compiled: which field of a message gives an attribute its value, and on what condition."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import tzinfo
from fnmatch import fnmatchcase
from typing import Any, Final

import msgspec

from .message import NULL, Location, Message, Segment
from .raw import Raw, Unusable, ValueFault, plain_text
from .values import EMPTY, Target

__all__ = ["Condition", "FieldPath", "Reading", "Rule", "Scope", "apply_rules", "decode_path"]

NOW: Final = "@now"
STATION: Final = "@station"


class FieldPath(msgspec.Struct, frozen=True, gc=False):
    """Where a value stands: a segment (`OBR`, or `OBR/NTE` behind it), a field, and what is below."""

    segment: str
    field: int
    first: int = 0  # component; 0 is the whole field
    last: int = 0  # not 0: a range of components
    subcomponent: int = 0

    def __str__(self) -> str:
        text = f"{self.segment}-{self.field}" + (f".{self.first}" if self.first else "")
        return text + (f"-{self.last}" if self.last else "") + (f".{self.subcomponent}" if self.subcomponent else "")

    def location(self, sequence: int = 1) -> Location:
        """Tell a sender where this is."""
        return Location(self.segment[-3:], sequence, self.field, 0, self.first, self.subcomponent)


class Condition(msgspec.Struct, frozen=True, gc=False):
    """What a field must be, one of some patterns; an empty pattern is an empty field."""

    path: FieldPath
    patterns: tuple[str, ...]


class Rule(msgspec.Struct, frozen=True, gc=False):
    """One way to a value: a field, a constant, or what is computed (`@now`, `@station`)."""

    text: str
    path: FieldPath | None = None
    value: str = ""
    conditions: tuple[Condition, ...] = ()
    map_name: str = ""
    codes: dict[str, str] | None = None
    pattern: re.Pattern[str] | None = None
    scale: float = 1.0

    @property
    def is_default(self) -> bool:
        """Whether it says nothing about this message: it is for an attribute that has no value yet."""
        return self.path is None and not self.conditions and self.value != STATION


class Reading(msgspec.Struct, frozen=True, gc=False):
    """What a rule gave for an attribute: a value, the null (`deletes`), a fault, or `@now` and `@station`.

    A message `is_refused` for some faults; `note` says what was done with a value to make it fit.
    """

    target: Target
    rule: Rule
    value: Any = None
    location: Location | None = None
    raw: str = ""
    deletes: bool = False
    fault: str = ""
    is_refused: bool = False
    note: str = ""


_PATH: Final = re.compile(
    r"((?:[A-Z][A-Z0-9]{2}/)?[A-Z][A-Z0-9]{2})-([1-9][0-9]?[0-9]?)"
    r"(?:\.([1-9][0-9]?)(?:-([1-9][0-9]?)|\.([1-9][0-9]?))?)?"
)


def decode_path(text: str) -> FieldPath | None:
    """Read `OBR-4`, `OBR-4.1`, `OBR-4.4-6`, `PID-3.4.2` or `OBR/NTE-3`; None if it is none of these."""
    found = _PATH.fullmatch(text)
    if not found:
        return None
    segment, field, first, last, subcomponent = found.groups()
    return FieldPath(segment, int(field), int(first or 0), int(last or 0), int(subcomponent or 0))


# --- the part of a message that one step is made of ---------------------------------------------------------------

# Segments that belong to one order, and never to the next one for want of its own.
_OF_ONE_ORDER: Final = frozenset({"ORC", "OBR", "TQ1", "TQ2", "IPC", "AIS", "OBR/NTE", "ORC/NTE", "AIS/NTE"})


class Scope:
    """The segments that speak of one step: those of its order before those of the whole message."""

    __slots__ = ("_all", "message", "own", "sequence", "used")

    def __init__(self, message: Message, own: list[Segment], sequence: int = 1) -> None:
        self.message, self.sequence = message, sequence
        self.own = _by_name(own)
        self._all: dict[str, list[Segment]] | None = None
        self.used: set[tuple[int, int]] = set()  # what something came of: identity of the segment, field

    def segments(self, name: str) -> list[Segment]:
        """Find the segments of a name, or `OWNER/NTE`."""
        found = self.own.get(name)
        if found is not None:
            return found
        if name in _OF_ONE_ORDER:
            return []
        if self._all is None:
            self._all = _by_name(self.message.segments)
        found = self._all.get(name, [])
        if len(found) > 1 and name.startswith("Z"):
            # One ZDS may stand for all orders, Q-86; of several, the next one behind the order is meant.
            own = {id(segment) for segments in self.own.values() for segment in segments}
            order = [id(segment) for segment in self.message.segments]
            last = max((at for at, one in enumerate(order) if one in own), default=0)
            behind = [segment for segment in found if order.index(id(segment)) > last]
            return behind[:1] or found[-1:]
        return found

    def location(self, path: FieldPath) -> Location:
        """Tell where a field is, or would be if it had been sent."""
        found = self.segments(path.segment)
        return path.location(found[0].sequence if found else self.sequence if path.segment in _OF_ONE_ORDER else 1)

    def text(self, path: FieldPath) -> str:
        """Give the plain text of a field in its first segment, for comparisons."""
        return next((self._text(segment, path) for segment in self.segments(path.segment)), "")

    def _text(self, segment: Segment, path: FieldPath) -> str:
        self.used.add((id(segment), path.field))
        return plain_text(_below(segment.field(path.field), path, self.message), self.message)

    def holds(self, conditions: tuple[Condition, ...], segment: Segment | None) -> bool:
        """Tell whether conditions hold; those on the segment in question are asked of this very occurrence."""
        for condition in conditions:
            same = segment is not None and condition.path.segment[-3:] == segment.name
            text = self._text(segment, condition.path) if same and segment else self.text(condition.path)
            if not any(fnmatchcase(text, pattern) for pattern in condition.patterns):
                return False
        return True


def _by_name(segments: list[Segment]) -> dict[str, list[Segment]]:
    found: dict[str, list[Segment]] = {}
    owner = ""
    for segment in segments:
        if segment.name == "NTE":
            name = f"{owner}/NTE"
        else:
            name = owner = segment.name
        found.setdefault(name, []).append(segment)
    return found


def _below(text: str, path: FieldPath, message: Message) -> str:
    """Cut out the component and sub-component of a path, of the first repetition; a null is one of all its parts."""
    if not path.first or text == NULL:
        return text
    delimiters = message.delimiters
    parts = text.split(delimiters.repetition, 1)[0].split(delimiters.component)
    text = parts[path.first - 1] if path.first <= len(parts) else ""
    if path.subcomponent:
        parts = text.split(delimiters.subcomponent)
        text = parts[path.subcomponent - 1] if path.subcomponent <= len(parts) else ""
    return text


# --- from rules to values -----------------------------------------------------------------------------------------


def apply_rules(
    attributes: tuple[tuple[Target, tuple[Rule, ...]], ...], scope: Scope, zone: tzinfo | None
) -> Iterator[Reading]:
    """Give each attribute that the message, or a default, has something to say about.

    A null counts where no other field has a value; a default may come behind it, for want of anything else.
    """
    for target, rules in attributes:
        null: Reading | None = None
        for rule in rules:
            reading = _apply(target, rule, scope, zone)
            if reading is None:
                continue
            if reading.deletes:
                null = null or reading
                continue
            if null is not None and rule.path is None:
                yield null
            yield reading
            break
        else:
            if null is not None:
                yield null


def _apply(target: Target, rule: Rule, scope: Scope, zone: tzinfo | None) -> Reading | None:
    message = scope.message
    path = rule.path
    if path is None:
        if not scope.holds(rule.conditions, None):
            return None
        if rule.value.startswith("@"):
            return Reading(target, rule, rule.value)
        return _read(target, rule, Raw([rule.value], "", message.delimiters.component), scope, None, rule.value, zone)
    segments = scope.segments(path.segment)
    if not segments:
        return None
    texts: list[str] = []
    found: list[Segment] = []
    number = path.field
    for segment in segments:
        fields = segment.fields
        if number >= len(fields) or not (text := fields[number]):
            continue
        if rule.conditions and not scope.holds(rule.conditions, segment):
            continue
        text = _below(text, path, message) if path.first and not path.last else text
        if not text:
            continue
        found.append(segment)
        texts.append(text)
        if not target.every:
            break
    if not found:
        return None
    location = path.location(found[0].sequence)
    delimiters = message.delimiters
    if path.subcomponent:
        raw = Raw(texts, "", "")
    elif path.first and not path.last:
        raw = Raw(texts, "", delimiters.subcomponent)
    else:
        raw = Raw(texts, delimiters.repetition, delimiters.component, path.first, path.last)
    if texts[0] == NULL:
        reading: Reading | None = Reading(target, rule, EMPTY[target.reader], location, NULL, deletes=True)
    else:
        reading = _read(target, rule, raw, scope, location, texts[0], zone)
    if reading is not None:
        scope.used.update((id(segment), number) for segment in found)
    return reading


def _read(
    target: Target, rule: Rule, raw: Raw, scope: Scope, location: Location | None, shown: str, zone: tzinfo | None
) -> Reading | None:
    message = scope.message
    if rule.pattern or rule.codes is not None:
        changed = _translate((raw.parts(message, raw.texts[0]) or [""])[0], rule)
        if changed is None:
            return None
        raw = Raw([changed], "", "")
    try:
        value = target.read(raw, message, target, zone)
    except ValueFault as exc:
        is_refused = not isinstance(exc, Unusable)
        return Reading(target, rule, None, location, shown, fault=str(exc), is_refused=is_refused)
    if value is None:
        # A map that answers with nothing has decided; a field with nothing in it has not.
        return Reading(target, rule, EMPTY[target.reader], location, shown) if rule.codes is not None else None
    value = round(value * rule.scale, 6) if rule.scale != 1.0 else value
    return Reading(target, rule, value, location, shown, note=raw.note)


def _translate(text: str, rule: Rule) -> str | None:
    if rule.pattern:
        found = rule.pattern.search(text)
        if not found:
            return None
        text = found[1] if rule.pattern.groups else found[0]
    if rule.codes is not None:
        return rule.codes.get(text, rule.codes.get(text.upper(), rule.codes.get("*")))
    return text
