"""Entries as DICOM JSON, PS3.18 Annex F."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from .attributes import ATTRIBUTES, CHILDREN, Attribute
from .dataset import from_dataset, stored_level
from .item import Entry, EntryError, Fault, dicom_text

__all__ = ["UNREADABLE", "checked_entry", "entry_from_json", "entry_to_json", "text_element"]

# What msgspec raises for what is no JSON, for text that is no UTF-8, and for too many levels.
UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_GROUPS: Final = ("Alphabetic", "Ideographic", "Phonetic")


_NAMES: Final = {attribute.tag: f"{attribute.tag:08X}" for attribute in ATTRIBUTES}


def entry_to_json(entry: Entry) -> dict[str, Any]:
    """Make the DICOM JSON object of what an entry holds."""
    return {"00080005": {"vr": "CS", "Value": ["ISO_IR 192"]}, **_encode_level(entry, ())}


def _encode_level(owner: Any, path: tuple[int, ...]) -> dict[str, Any]:
    return {
        _NAMES[attribute.tag]: {"vr": attribute.vr, "Value": _encode_values(attribute, value)}
        for attribute, value in stored_level(owner, CHILDREN[path])
    }


def _encode_values(attribute: Attribute, value: Any) -> list[Any]:
    if attribute.vr == "SQ":
        return [_encode_level(item, attribute.path) for item in value]
    values = value if attribute.multiple else (value,)
    if attribute.vr == "PN":
        return [_encode_name(name) for name in values]
    return [each if isinstance(each, float) else dicom_text(each) for each in values]


def _encode_name(name: str) -> dict[str, str]:
    return {group: text for group, text in zip(_GROUPS, name.split("="), strict=False) if text}


def entry_from_json(raw: object) -> Entry:
    """Make an entry from a DICOM JSON object; what a worklist has no use for is left aside.

    Raises:
        EntryError: with every fault, by attribute.
    """
    faults: list[Fault] = []
    if not isinstance(raw, dict):
        raise EntryError((Fault("DICOM JSON", "must be an object"),))
    return checked_entry(_decode_level(raw, (), faults), faults)


def text_element(attribute: Attribute, texts: list[str]) -> DataElement:
    """Make a pydicom element of text values, as pydicom itself has them after reading, but without its checks."""
    value = texts[0] if len(texts) == 1 else MultiValue(str, texts)
    return DataElement(attribute.tag, attribute.vr, value, already_converted=True)


def checked_entry(dataset: Dataset, faults: list[Fault]) -> Entry:
    """Make an entry of what could be read, unless there are faults already, or more are found.

    Raises:
        EntryError: with all of them; what could not be read is not named a second time because it is missing.
    """
    try:
        entry = from_dataset(dataset)
    except EntryError as exc:
        named = {fault.attribute for fault in faults}
        faults = faults + [fault for fault in exc.faults if fault.attribute not in named]
    if faults:
        raise EntryError(tuple(faults))
    return entry


def _decode_level(raw: dict[str, Any], path: tuple[int, ...], faults: list[Fault]) -> Dataset:
    dataset = Dataset()
    elements = {key.upper(): element for key, element in raw.items()}
    for attribute in CHILDREN[path]:
        element = elements.get(f"{attribute.tag:08X}")
        if element is None:
            continue
        try:
            values = _values_of(element)
            if attribute.vr == "SQ":
                items = [_decode_level(item or {}, attribute.path, faults) for item in values]
                dataset.add(DataElement(attribute.tag, "SQ", items))
            elif values:
                dataset.add(text_element(attribute, [_decode_value(value) for value in values]))
        except (TypeError, AttributeError):
            faults.append(Fault(attribute.keyword_path, f"is not written as DICOM JSON has {attribute.vr}"))
    return dataset


def _values_of(element: Any) -> list[Any]:
    if "InlineBinary" in element or "BulkDataURI" in element:
        raise TypeError("text is wanted")
    values = element.get("Value") or []
    if not isinstance(values, list):
        raise TypeError("Value is a list")
    return values


def _decode_value(value: object) -> str:
    """Read one value: text, a number, nothing, or a name in up to three component groups."""
    if value is None:
        return ""
    if isinstance(value, dict):
        return "=".join([_decode_value(value.get(group)) for group in _GROUPS]).rstrip("=")
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise TypeError("text or a number is wanted")
    return str(value)
