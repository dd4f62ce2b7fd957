"""Entries and identifiers for the tests of matching and answering."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime, time
from typing import Any

from dulproto import IMPLICIT_LE, TAG_OF_KEYWORD, VR_OF_TAG, DataSet, Element, decode_data_set, encode_data_set
from mwl.item import (
    Entry,
    ImagingServiceRequest,
    Patient,
    PatientIdentifier,
    RequestedProcedure,
    ScheduledProcedureStep,
)
from mwl.query import Query, QueryPolicy, compile_query
from mwl.response import ResponsePolicy, response_encoder
from mwl.view import View, compile_view
from mwl.worklist import Worklist

NOW = datetime(2024, 7, 5, 12, 0)


def entry(number: int = 1, **values: Any) -> Entry:
    """One entry; `values` go to the part that has a field of that name."""
    parts: dict[type, dict[str, Any]] = {
        Patient: {"name": f"Doe^John{number}", "identifiers": (PatientIdentifier(str(1000 + number), "CITY"),)},
        RequestedProcedure: {"study_instance_uid": f"1.2.3.{number}", "procedure_id": f"RP{number}"},
        ScheduledProcedureStep: {
            "step_id": f"SPS{number}",
            "station_ae_titles": ("CT1",),
            "start_date": date(2024, 7, 5),
            "start_time": time(10),
            "modality": "CT",
        },
        ImagingServiceRequest: {"accession_number": f"ACC{number}"},
    }
    for name, value in values.items():
        part = next(part for part in parts if name in part.__struct_fields__)  # type: ignore[attr-defined]
        parts[part][name] = value
    made = {part: part(**fields) for part, fields in parts.items()}
    return Entry(made[Patient], made[RequestedProcedure], made[ScheduledProcedureStep], made[ImagingServiceRequest])


def element(keyword: str, value: str | bytes | list[DataSet] | None = "", encoding: str = "utf_8") -> Element:
    tag = TAG_OF_KEYWORD[keyword]
    vr = VR_OF_TAG[tag]
    if vr == "SQ":
        return Element(tag, vr, tuple(value) if isinstance(value, list) else ())
    return Element(tag, vr, value.encode(encoding) if isinstance(value, str) else value or b"")  # type: ignore[arg-type]


def data_set(elements: Iterable[Element]) -> DataSet:
    return {each.tag: each for each in elements}


def keys(step: dict[str, Any] | None = None, encoding: str = "utf_8", **root: Any) -> bytes:
    """An identifier: keys of the step as a dict, or None for no step sequence, those at the root by keyword."""
    found = [element(keyword, value, encoding) for keyword, value in root.items()]
    if step is not None:
        items = [data_set(element(keyword, value, encoding) for keyword, value in step.items())]
        found.append(element("ScheduledProcedureStepSequence", items))
    return encode_data_set(data_set(found), IMPLICIT_LE)


def compiled(step: dict[str, Any] | None = None, policy: QueryPolicy | None = None, **root: Any) -> Query:
    return compile_query(keys(step, **root), IMPLICIT_LE, policy or QueryPolicy())


def worklist(*entries: Entry, few: int = 4) -> Worklist:
    made = Worklist(few=few)
    for each in entries:
        made.put(each)
    return made


def found(entries: Iterable[Entry], query: Query, now: datetime = NOW, view: View | None = None) -> list[str]:
    """The step ids that a query finds, in the order of the answer: by the indexes, and by tests alone."""
    kept, view = tuple(entries), view or compile_view()
    by_index, by_test = (
        [slot.entry.step.step_id for slot in worklist(*kept, few=few).match(query, view, now)] for few in (0, 1000)
    )
    assert by_index == by_test
    return by_index


def answer(
    one: Entry,
    query: Query,
    policy: ResponsePolicy | None = None,
    now: datetime = NOW,
    transfer_syntax: str = IMPLICIT_LE,
) -> DataSet:
    """The identifier of the response for an entry, decoded again."""
    slot = worklist(one).select((), now.date())[0]
    encoder = response_encoder(query, transfer_syntax, policy or ResponsePolicy(), now.date())
    return decode_data_set(encoder.encode(slot), transfer_syntax)


def value(answered: DataSet, keyword: str) -> bytes:
    return answered[TAG_OF_KEYWORD[keyword]].raw.rstrip(b" \0")


def step_of(answered: DataSet) -> DataSet:
    (item,) = answered[TAG_OF_KEYWORD["ScheduledProcedureStepSequence"]].items
    return item
