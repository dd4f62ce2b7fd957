"""From an entry to the identifier of a C-FIND response, PS3.4 K.4.1.1.3.2 and C.2.2.1.3.

A `ResponseEncoder` holds what depends on the return keys, the transfer syntax and the policy; an entry's bytes are
kept with the entry's slot, so that they are made once and are gone when the entry is replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import date
from functools import lru_cache
from typing import Any, Final, Literal

import msgspec

from dulproto import VR_OF_TAG, DataSet, Element, encode_data_set

from .attributes import BY_PATH, Attribute
from .charset import LATIN_1, CharacterSet, can_encode, character_set, encode_text
from .conditions import Condition
from .derived import getter
from .item import Entry, dicom_text
from .query import Query, Shape
from .slot import Slot

__all__ = ["ResponseEncoder", "ResponsePolicy", "response_encoder"]

_SPECIFIC_CHARACTER_SET: Final = 0x00080005
_AGE: Final = 0x00101010
# Alternatives to Code Value, PS3.4 Table 8-2a: one of the three is there, so an empty one says nothing.
_ALTERNATIVES: Final = frozenset({"long_value", "urn_value"})
_KEPT: Final = 4  # encodings of an entry that are kept, each some 900 bytes

_Encode = Callable[[Any, date], Element | None]


class ResponsePolicy(msgspec.Struct, frozen=True):
    """How entries are answered to one pair of AE titles; the names are those of the configuration."""

    character_set: str = "ISO_IR 100"
    transliterate: bool = True
    omit_ascii_character_set: bool = False
    primary_patient_id_issuer: str = ""
    other_patient_ids_separator: Literal["\\", ","] = "\\"
    upper_case_names: bool = False
    name_components: int = 5
    alphabetic_names_only: bool = False
    default_values: tuple[tuple[str, str], ...] = ()
    always_empty: tuple[str, ...] = ()

    @classmethod
    def of(cls, rules: object) -> ResponsePolicy:
        """Take what an answer needs from the rules of a configuration."""
        values = {name: getattr(rules, name) for name in cls.__struct_fields__}
        defaults = values["default_values"]
        if isinstance(defaults, Mapping):
            values["default_values"] = tuple(sorted(defaults.items()))
        return cls(**values)


def response_encoder(query: Query, transfer_syntax: str, policy: ResponsePolicy, today: date) -> ResponseEncoder:
    """Find the encoder for a query's return keys; one that answers with ages is good for `today` only."""
    follow = policy.character_set == "auto"
    target = query.character_set or LATIN_1 if follow else character_set(policy.character_set)
    depends_on_today = any(tag == _AGE for tag, _ in query.shape)
    day = today if depends_on_today or query.selections else date.min
    return _encoder(query.shape, query.selections, transfer_syntax, policy, target, day)


@lru_cache(maxsize=256)
def _encoder(
    shape: Shape,
    selections: tuple[Condition, ...],
    transfer_syntax: str,
    policy: ResponsePolicy,
    target: CharacterSet,
    today: date,
) -> ResponseEncoder:
    return ResponseEncoder(shape, selections, transfer_syntax, policy, target, today)


class ResponseEncoder:
    """Encodes entries for one set of return keys."""

    def __init__(
        self,
        shape: Shape,
        selections: tuple[Condition, ...],
        transfer_syntax: str,
        policy: ResponsePolicy,
        target: CharacterSet,
        today: date,
    ) -> None:
        self._transfer_syntax = transfer_syntax
        self._today = today
        rules = _Rules(policy, target, selections)
        self._keys = rules.level(tuple(key for key in shape if key[0] != _SPECIFIC_CHARACTER_SET), ())
        self._character_set = Element(_SPECIFIC_CHARACTER_SET, "CS", target.value.encode())
        requested = any(tag == _SPECIFIC_CHARACTER_SET for tag, _ in shape)
        self._only_if_needed = policy.omit_ascii_character_set and not requested

    def encode(self, slot: Slot) -> bytes:
        """Give the identifier of the response for an entry: what was asked for and Specific Character Set."""
        kept = slot.encoded
        for place in range(0, len(kept), 2):
            if kept[place] is self:
                return kept[place + 1]  # type: ignore[no-any-return]
        encoded = encode_data_set(self.data_set(slot.entry), self._transfer_syntax)
        slot.encoded = (self, encoded, *kept[: 2 * (_KEPT - 1)])
        return encoded

    def data_set(self, entry: Entry) -> DataSet:
        """Give the same as elements."""
        found = _data_set(self._keys, entry, self._today)
        if not self._only_if_needed or not _is_ascii(found):
            found[_SPECIFIC_CHARACTER_SET] = self._character_set
        return found


def _data_set(keys: list[_Encode], owner: Any, today: date) -> DataSet:
    return {element.tag: element for encode in keys if (element := encode(owner, today)) is not None}


def _is_ascii(data_set: DataSet) -> bool:
    """Tell whether all text is ASCII; escape sequences lead elsewhere."""
    return all(
        element.raw.isascii() and b"\x1b" not in element.raw and all(map(_is_ascii, element.items))
        for element in data_set.values()
    )


class _Rules:
    """Turns return keys into functions from an entry, or what an item stands for, to an element."""

    def __init__(self, policy: ResponsePolicy, target: CharacterSet, selections: tuple[Condition, ...]) -> None:
        self.policy = policy
        self.target = target
        self.selections = {condition.attribute.path: condition.of_items for condition in selections}
        self.defaults = dict(policy.default_values)

    def level(self, shape: Shape, path: tuple[int, ...]) -> list[_Encode]:
        return [self.key(tag, inner, path) for tag, inner in shape]

    def key(self, tag: int, inner: Shape | None, path: tuple[int, ...]) -> _Encode:
        attribute = BY_PATH.get((*path, tag))
        if attribute is None:
            vr = VR_OF_TAG[tag]
            nothing = Element(tag, vr, () if vr == "SQ" else b"")
            return lambda owner, today: nothing
        if attribute.vr == "SQ":
            return self.sequence(attribute, inner or ())
        get, encode = getter(attribute, self.policy.primary_patient_id_issuer), self.value_encoder(attribute)
        default = self.defaults.get(attribute.keyword_path, "")
        default_bytes = encode(default if attribute.vr != "US" else int(default)) if default else b""
        empty = None if attribute.source in _ALTERNATIVES else Element(tag, attribute.vr, default_bytes)
        if attribute.keyword_path in self.policy.always_empty:
            nothing = Element(tag, attribute.vr)
            return lambda owner, today: nothing
        vr = attribute.vr

        def element(owner: Any, today: date) -> Element | None:
            value = get(owner, today)
            return empty if value in (None, "", ()) else Element(tag, vr, encode(value))

        return element

    def sequence(self, attribute: Attribute, inner: Shape) -> _Encode:
        """Encode a sequence: items without any value are left out, PS3.4 C.2.2.2.6 and Table K.6-1."""
        tag, keys = attribute.tag, self.level(inner, attribute.path)
        get = getter(attribute, self.policy.primary_patient_id_issuer)
        nothing, wanted = Element(tag, "SQ", ()), self.selections.get(attribute.path, ())
        if attribute.keyword_path in self.policy.always_empty:
            return lambda owner, today: nothing

        def element(owner: Any, today: date) -> Element:
            value = get(owner, today)
            if value is None or value == ():
                return nothing
            owners: Iterable[Any] = value if isinstance(value, tuple) else (value,)
            if wanted:
                owners = [item for item in owners if all(condition.test(item, today) for condition in wanted)]
            items = [_data_set(keys, item, today) for item in owners]
            if attribute.source != "step":  # the step has exactly one item, whatever was asked for
                items = [item for item in items if any(each.value for each in item.values())]
            return Element(tag, "SQ", tuple(items))

        return element

    def value_encoder(self, attribute: Attribute) -> Callable[[Any], bytes]:
        """Choose how a value that is not empty becomes bytes."""
        if attribute.vr == "US":
            return lambda value: int(value).to_bytes(2, "little")
        if attribute.vr in ("DA", "DS", "TM"):
            return lambda value: str(dicom_text(value)).encode()
        one = self.name if attribute.vr == "PN" else self.text
        if not attribute.multiple:
            return one
        separator = b"\\"
        if attribute.source == "=other_patient_ids":
            separator = self.policy.other_patient_ids_separator.encode()
        return lambda values: one(values) if isinstance(values, str) else separator.join(map(one, values))

    def text(self, value: str) -> bytes:
        return encode_text(value, self.target, transliterate=self.policy.transliterate)

    def name(self, value: str) -> bytes:
        policy = self.policy
        if policy.alphabetic_names_only:
            value = value.split("=")[0]
        if policy.name_components < 5:
            value = "=".join(
                ["^".join(group.split("^")[: policy.name_components]).rstrip("^") for group in value.split("=")]
            )
        if policy.upper_case_names:
            value = value.upper()
        return self.text(self._without_lost_groups(value) if "=" in value else value)

    def _without_lost_groups(self, name: str) -> str:
        """Leave out an ideographic or phonetic group that the set does not have: nobody can read `??`."""
        first, *others = name.split("=")
        transliterate = self.policy.transliterate
        kept = [each if can_encode(each, self.target, transliterate=transliterate) else "" for each in others]
        return "=".join((first, *kept)).rstrip("=") or name
