"""Query keys as people write them, made into the identifier of a C-FIND.

PatientName=DOE*                                a keyword
0010,0010=DOE*   (0010,0010)=DOE*   00100010=DOE*
ScheduledProcedureStepSequence[0].Modality=CT   as DCMTK writes it
ScheduledProcedureStepSequence/Modality=CT      as dcm4che does
SPS/Modality=CT                                 for short
Modality=CT                                     a key of the step finds its place in the step
PatientName   PatientName=                      no value: the attribute is asked for
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from struct import Struct
from typing import Final

from dulproto import KEYWORD_OF_TAG, TAG_OF_KEYWORD, VR_OF_TAG, DataSet, Element, tag_text

from .attributes import ATTRIBUTES, BY_PATH, SPS_SEQUENCE
from .checked import suggestion
from .errors import MwlError

__all__ = ["RETURN_KEYS", "KeysError", "decode_keys", "query_keys"]

RETURN_KEYS: Final = (
    *("AccessionNumber", "ReferringPhysicianName", "PatientName", "PatientID", "IssuerOfPatientID"),
    *("PatientBirthDate", "PatientSex", "PatientWeight", "MedicalAlerts", "Allergies", "PregnancyStatus"),
    *("StudyInstanceUID", "RequestingPhysician", "RequestedProcedureID", "RequestedProcedureDescription"),
    *("RequestedProcedureCodeSequence", "RequestedProcedurePriority", "AdmissionID", "CurrentPatientLocation"),
    *("SPS/Modality", "SPS/ScheduledStationAETitle", "SPS/ScheduledProcedureStepStartDate"),
    *("SPS/ScheduledProcedureStepStartTime", "SPS/ScheduledPerformingPhysicianName"),
    *("SPS/ScheduledProcedureStepDescription", "SPS/ScheduledProtocolCodeSequence", "SPS/ScheduledStationName"),
    *("SPS/ScheduledProcedureStepLocation", "SPS/ScheduledProcedureStepID", "SPS/ScheduledProcedureStepStatus"),
)
"""What a worklist is asked for if nobody says otherwise: what a modality needs, and what people look for."""

SPECIFIC_CHARACTER_SET: Final = 0x00080005

_COMPONENT: Final = re.compile(r"\(?([0-9A-Fa-f]{4}),?([0-9A-Fa-f]{4})\)?|(\w+)")
_INDEX: Final = re.compile(r"(.*?)\[(\d*)\]")
_SHORT_NAMES: Final = {"SPS": SPS_SEQUENCE}
_WORKLIST_KEYWORDS: Final = sorted({attribute.keyword for attribute in ATTRIBUTES})
# How a number in a key becomes a value field, which `Element` keeps in little endian.
_NUMBERS: Final = {
    "US": Struct("<H"),
    "SS": Struct("<h"),
    "UL": Struct("<I"),
    "SL": Struct("<i"),
    "FL": Struct("<f"),
    "FD": Struct("<d"),
}
_FRACTIONS: Final = ("FL", "FD")


class KeysError(MwlError):
    """Keys cannot be understood: carries every fault, each with the key it is in."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


def query_keys(texts: Iterable[str], returned: Iterable[str] = RETURN_KEYS) -> DataSet:
    """Make the identifier of a query: the given keys, and of the return keys those that are not given.

    Raises:
        KeysError: with every fault.
    """
    return _with_return_keys(decode_keys(texts), decode_keys(returned))


def decode_keys(texts: Iterable[str]) -> DataSet:
    """Make a data set of the given keys alone, in UTF-8 where ASCII does not do.

    Raises:
        KeysError: with every fault.
    """
    keys: DataSet = {}
    faults: list[str] = []
    ascii_only = True
    for text in texts:
        name, _, value = text.partition("=")
        try:
            path = _decode_path(name.strip())
            keys = _with_key(keys, path, value)
        except ValueError as exc:
            faults.append(f"{name.strip() or repr(text)}: {exc}")
        ascii_only = ascii_only and value.isascii()
    if faults:
        raise KeysError(faults)
    if not ascii_only:
        keys[SPECIFIC_CHARACTER_SET] = Element(SPECIFIC_CHARACTER_SET, "CS", b"ISO_IR 192")
    return keys


def _decode_path(name: str) -> tuple[int, ...]:
    """Read the place of a key, from the outermost sequence inwards."""
    components = re.split(r"[/.]", name)
    path = tuple(_decode_component(component) for component in components)
    if len(path) == 1 and path not in BY_PATH and (SPS_SEQUENCE, *path) in BY_PATH:
        return SPS_SEQUENCE, *path
    return path


def _decode_component(text: str) -> int:
    indexed = _INDEX.fullmatch(text)
    if indexed:
        text, index = indexed.groups()
        if index != "0":
            raise ValueError(f"[{index}] is not possible, a sequence in a query has the one item [0]")
    match = _COMPONENT.fullmatch(text)
    if not match:
        raise ValueError("a keyword or a tag like 0010,0010 is wanted")
    group, element, keyword = match.groups()
    tag = int(group + element, 16) if group else _SHORT_NAMES.get(keyword) or TAG_OF_KEYWORD.get(keyword)
    if tag is None:
        near = suggestion(keyword, _WORKLIST_KEYWORDS) or suggestion(keyword, list(TAG_OF_KEYWORD))
        raise ValueError(f"{keyword} is no DICOM attribute{near}")
    if tag >> 16 < 0x0008:
        raise ValueError(f"{tag_text(tag)} is not part of a query")
    return tag


def _with_key(keys: DataSet, path: tuple[int, ...], value: str) -> DataSet:
    """Add one key to a level of the data set, and to the levels below it."""
    tag, *rest = path
    vr = VR_OF_TAG.get(tag, "UN")
    known = keys.get(tag)
    if rest:
        if vr != "SQ":
            raise ValueError(f"{KEYWORD_OF_TAG.get(tag, tag_text(tag))} is no sequence, nothing stands below it")
        item = known.items[0] if known and known.items else {}
        return {**keys, tag: Element(tag, "SQ", (_with_key(item, tuple(rest), value),))}
    if known:
        raise ValueError("is there twice")
    if vr == "SQ" and value:
        raise ValueError("is a sequence and has no value: write the key below it, as in SPS/Modality=CT")
    return {**keys, tag: Element(tag, vr, () if vr == "SQ" else _encode_value(vr, value))}


def _encode_value(vr: str, value: str) -> bytes:
    if vr not in _NUMBERS or not value:
        return value.encode()
    try:
        number = float(value) if vr in _FRACTIONS else int(value)
        return _NUMBERS[vr].pack(number)
    except Exception as exc:  # struct.error is no ValueError
        raise ValueError(f"{value!r} is no {vr} number") from exc


def _with_return_keys(keys: DataSet, returned: DataSet) -> DataSet:
    """Add return keys that are not there; a sequence without an item already asks for all of it."""
    merged = {**returned, **keys}
    for tag in keys.keys() & returned.keys():
        if keys[tag].items and returned[tag].items:
            merged[tag] = Element(tag, "SQ", (_with_return_keys(keys[tag].items[0], returned[tag].items[0]),))
    return merged
