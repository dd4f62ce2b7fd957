"""Entries to and from pydicom data sets: worklist files, DICOM JSON, and the check of what comes in.

None of this runs while a query is answered.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import date, time
from math import isfinite
from operator import attrgetter
from typing import Any, Final

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from .attributes import ATTRIBUTES, CHILDREN, SPS_SEQUENCE, Attribute
from .item import (
    STATUSES,
    Code,
    Entry,
    EntryError,
    Fault,
    ImagingServiceRequest,
    Issuer,
    Patient,
    PatientIdentifier,
    PersonIdentification,
    RequestedProcedure,
    ScheduledProcedureStep,
    complete,
    dicom_text,
)

__all__ = ["check", "decode_date", "decode_time", "from_dataset", "stored_level", "to_dataset"]

# --- check --------------------------------------------------------------------------------------------------------

# PS3.5 Table 6.2-1: the most characters of a value, for PN of a component group.
_LONGEST: Final = {"AE": 16, "CS": 16, "DS": 16, "LO": 64, "LT": 10240, "PN": 64, "SH": 16, "UI": 64}
_UID: Final = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+")
# What no VR of one line holds, PS3.5 6.1.3; a space of another width, or a mark of direction, is text like any other.
_NO_TEXT: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\\\u2028\u2029\ud800-\udfff]")
# What a response must hold, PS3.4 Table K.6-1 type 1, and what nobody can make up.
_INDISPENSABLE: Final = (
    ("PatientName", lambda entry: entry.patient.name),
    ("PatientID", lambda entry: any(identifier.value for identifier in entry.patient.identifiers)),
    ("ScheduledProcedureStepSequence/Modality", lambda entry: entry.step.modality),
    ("ScheduledProcedureStepSequence/ScheduledProcedureStepStartDate", lambda entry: entry.step.start_date),
)


def check(entry: Entry) -> tuple[Fault, ...]:
    """Find all that keeps an entry from being kept: values that are missing, too long, or not of their VR."""
    faults = [Fault(keyword, "is missing") for keyword, value in _INDISPENSABLE if not value(entry)]
    for attribute, value in _stored_values(entry, CHILDREN[()]):
        for part in value if attribute.multiple else (value,):
            reason = _fault_of(attribute, part)
            if reason:
                faults.append(Fault(attribute.keyword_path, reason))
    return tuple(faults)


def _fault_of(attribute: Attribute, value: Any) -> str:
    if isinstance(value, float) and len(str(dicom_text(value))) > 16:
        return "has more than 16 characters"
    if attribute.source == "=pregnancy_status" and value not in (1, 2, 3, 4):
        return "is none of 1, 2, 3 and 4"
    if not isinstance(value, str):
        return ""
    groups = value.split("=") if attribute.vr == "PN" else (value,)
    longest = _LONGEST.get(attribute.vr, len(value))
    if max(map(len, groups)) > longest:
        return f"has {max(map(len, groups))} characters, {attribute.vr} holds {longest}"
    if attribute.vr == "UI" and not _UID.fullmatch(value):
        return "is no UID"
    if attribute.vr not in ("LT", "ST", "UT", "UR") and _NO_TEXT.search(value):
        return "holds a backslash or a control character"
    if attribute.vr == "PN" and len(groups) > 3:
        return "has more than three component groups"
    if attribute.tag == 0x00400020 and value not in STATUSES:
        return f"is none of {', '.join(STATUSES)}"
    return ""


def value_fault(attribute: Attribute, text: str) -> str:
    """Say why a text cannot be the value of an attribute, "" if it can."""
    if attribute.vr == "SQ":
        return "is a sequence"
    try:
        value = _DECODERS.get(attribute.vr, str)(text)
    except ValueError:
        return f"cannot be read as {attribute.vr}"
    parts = text.split("\\") if attribute.multiple else (value if attribute.vr == "US" else text,)
    faults = [_fault_of(attribute, part) for part in parts]
    return next(filter(None, faults), "")


# --- DICOM data sets ----------------------------------------------------------------------------------------------

# What `derived` computes by policy, and what of it stands in an entry whatever the policy is.
_STORED: Final[dict[str, Callable[[Entry], Any]]] = {
    "=patient_id": lambda entry: "".join(identifier.value for identifier in entry.patient.identifiers[:1]),
    "=issuer_of_patient_id": lambda entry: "".join(identifier.issuer for identifier in entry.patient.identifiers[:1]),
    "=issuer_qualifiers": lambda entry: entry.patient.identifiers[0].qualifiers if entry.patient.identifiers else (),
    "=other_identifiers": lambda entry: entry.patient.identifiers[1:],
    "=pregnancy_status": lambda entry: entry.request.pregnancy_status,
}


def _nothing(owner: Any) -> None:
    return None


_GETTERS: Final = {
    source: _STORED.get(source, _nothing) if source.startswith("=") else attrgetter(source)
    for source in {attribute.source for attribute in ATTRIBUTES}
}


def _items(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else () if value is None else (value,)


def stored_level(owner: Any, attributes: tuple[Attribute, ...]) -> Iterator[tuple[Attribute, Any]]:
    """Walk over the values of one level that are not empty; that of a sequence is what its items stand for."""
    for attribute in attributes:
        value = _GETTERS[attribute.source](owner)
        if attribute.vr == "SQ":
            value = _items(value)
        if value not in (None, "", ()):
            yield attribute, value


def _stored_values(owner: Any, attributes: tuple[Attribute, ...]) -> Iterator[tuple[Attribute, Any]]:
    """Walk over all values of an entry that are not empty, down into its sequences."""
    for attribute, value in stored_level(owner, attributes):
        if attribute.vr == "SQ":
            for item in value:
                yield from _stored_values(item, CHILDREN[attribute.path])
        else:
            yield attribute, value


def to_dataset(entry: Entry) -> Dataset:
    """Make a pydicom data set of what an entry holds, in UTF-8; what only a query's answer has is left out."""
    dataset = _to_level(entry, CHILDREN[()])
    dataset.SpecificCharacterSet = "ISO_IR 192"
    return dataset


def _to_level(owner: Any, attributes: tuple[Attribute, ...]) -> Dataset:
    dataset = Dataset()
    for attribute, value in stored_level(owner, attributes):
        if attribute.vr == "SQ":
            value = [_to_level(item, CHILDREN[attribute.path]) for item in value]
        else:
            value = list(value) if attribute.multiple else dicom_text(value)
        dataset.add_new(attribute.tag, attribute.vr, value)
    return dataset


def from_dataset(dataset: Dataset) -> Entry:
    """Make an entry from a worklist file, a DICOM JSON object, or what else pydicom has read.

    Raises:
        EntryError: with every fault of the data set, by attribute.
    """
    faults: list[Fault] = []
    values = _from_level(dataset, CHILDREN[()], faults)
    steps = values.pop("step", [])
    if len(steps) != 1:
        faults.append(Fault("ScheduledProcedureStepSequence", f"has {len(steps)} items, an entry is one step"))
    parts: dict[str, dict[str, Any]] = {
        "patient": {},
        "request": {},
        "procedure": {},
        "step": steps[0] if steps else {},
    }
    for source, value in values.items():
        head, _, name = source.partition(".")
        if name:
            parts[head][name] = value
    parts["patient"]["identifiers"] = _identifiers(values)
    if "=pregnancy_status" in values:
        parts["request"]["pregnancy_status"] = values["=pregnancy_status"]
    entry = Entry(
        Patient(**parts["patient"]),
        RequestedProcedure(**parts["procedure"]),
        ScheduledProcedureStep(**parts["step"]),
        ImagingServiceRequest(**parts["request"]),
    )
    named = {fault.attribute for fault in faults}
    faults += [
        fault for fault in check(entry) if fault.attribute not in named and fault.attribute.split("/")[0] not in named
    ]
    if faults:
        raise EntryError(tuple(faults))
    return complete(entry)


def _identifiers(values: dict[str, Any]) -> tuple[PatientIdentifier, ...]:
    """Gather the primary identifier, those of the sequence, and those that only the retired attribute has."""
    first = {"value": values.get("=patient_id", ""), "issuer": values.get("=issuer_of_patient_id", "")}
    qualifiers = values.get("=issuer_qualifiers", [])
    found = [_identifier({**first, "qualifiers": qualifiers}), *values.get("=other_identifiers", ())]
    known = {identifier.value for identifier in found}
    found += [PatientIdentifier(value) for value in values.get("=other_patient_ids", ()) if value not in known]
    return tuple(identifier for identifier in found if identifier.value)


def _identifier(values: dict[str, Any]) -> PatientIdentifier:
    qualifier = next(iter(values.get("qualifiers", ())), Issuer())
    return PatientIdentifier(
        values.get("value", ""), values.get("issuer", ""), qualifier.universal_id, qualifier.universal_id_type
    )


def _code(values: dict[str, Any]) -> Code:
    value = values.get("short_value") or values.get("long_value") or values.get("urn_value") or ""
    return Code(value, values.get("scheme", ""), values.get("meaning", ""), values.get("version", ""))


# What an item becomes, by an attribute that only this kind of item has; an item without it is dropped.
_ITEM_TYPES: Final[tuple[tuple[str, Callable[[dict[str, Any]], Any]], ...]] = (
    ("short_value", _code),
    ("person_codes", lambda values: PersonIdentification(**values)),
    ("value", _identifier),
    ("universal_id", lambda values: Issuer(**values)),
)
_SINGLE_ITEMS: Final = frozenset(
    {"procedure.code", "request.accession_issuer", "request.admission_issuer"}
    | {"request.placer_issuer", "request.filler_issuer"}
)


def _from_level(dataset: Dataset, attributes: tuple[Attribute, ...], faults: list[Fault]) -> dict[str, Any]:
    """Read one level of a data set into values by their source; what is empty is left out."""
    found: dict[str, Any] = {}
    for attribute in attributes:
        try:
            element = dataset.get(attribute.tag)
            if element is None or element.is_empty:
                continue
            if attribute.vr == "SQ":
                items = [_from_level(item, CHILDREN[attribute.path], faults) for item in element.value]
                value = _from_items(attribute, items)
            else:
                texts = element.value if isinstance(element.value, MultiValue) else [element.value]
                value = _from_values(attribute, [str(text) for text in texts])
        except (ValueError, TypeError, LookupError, AttributeError) as exc:  # whatever pydicom finds wrong
            reason = str(exc) if isinstance(exc, EntryError) else f"cannot be read as {attribute.vr}"
            faults.append(Fault(attribute.keyword_path, reason))
            continue
        if value not in (None, "", (), []):
            found[attribute.source] = value
    return found


def _from_items(attribute: Attribute, items: list[dict[str, Any]]) -> Any:
    if attribute.path == (SPS_SEQUENCE,):
        return items
    sources = {child.source for child in CHILDREN[attribute.path]}
    make = next((make for mark, make in _ITEM_TYPES if mark in sources), None)
    if make is None:
        return None
    made = tuple(make(values) for values in items if values)
    return made[0] if attribute.source in _SINGLE_ITEMS and made else made


# Spaces of any width and marks of direction, which are copied along from a page.
_PADDING: Final = " \0\u00a0\u3000\u200e\u200f\ufeff"


def _from_values(attribute: Attribute, texts: list[str]) -> Any:
    texts = [text.strip(_PADDING) for text in texts]
    if attribute.multiple:
        return tuple(text for text in texts if text)
    if len(texts) > 1:
        raise ValueError("several values")
    if attribute.source == "patient.sex":
        return _SEXES.get(texts[0].upper(), "")
    return _DECODERS.get(attribute.vr, str)(texts[0])


# The enumerated values of PS3.3 C.7.1.1, and what HL7 table 0001 has for the third of them.
_SEXES: Final = {"M": "M", "F": "F", "O": "O", "A": "O", "N": "O"}


def decode_date(text: str) -> date:
    """Read DA: `YYYYMMDD`, or `YYYY.MM.DD` as before DICOM 3.0."""
    digits = text.replace(".", "") if len(text) == 10 else text
    if len(digits) != 8 or not digits.isdecimal():
        raise ValueError("YYYYMMDD wanted")
    return date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))


def decode_time(text: str) -> time:
    """Read TM: `HH[MM[SS[.F]]]`, or with colons as before DICOM 3.0."""
    whole, _, fraction = text.replace(":", "").partition(".")
    if len(whole) not in (2, 4, 6) or not (whole + (fraction or "0")).isdecimal() or len(fraction) > 6:
        raise ValueError("HHMMSS.FFFFFF wanted")
    hours, minutes, seconds = (int(whole[at : at + 2] or 0) for at in (0, 2, 4))
    return time(hours, minutes, min(seconds, 59) if seconds == 60 else seconds, int(fraction.ljust(6, "0")))


def _decimal(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise ValueError("a number is wanted")
    return round(number, 6)


_DECODERS: Final[dict[str, Callable[[str], Any]]] = {
    "DA": decode_date,
    "DS": _decimal,
    "TM": decode_time,
    "US": int,
}
