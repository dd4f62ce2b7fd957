"""The worklist in memory: its size, and how long a match takes, by the number of entries."""

from __future__ import annotations

import argparse
import gc
import os
import time
from collections.abc import Callable
from datetime import date, datetime, timedelta
from datetime import time as clock
from random import Random
from typing import Any

import msgspec

from dulproto import EXPLICIT_LE, IMPLICIT_LE, TAG_OF_KEYWORD, VR_OF_TAG, DataSet, Element, encode_data_set
from mwl.item import (
    Code,
    Entry,
    ImagingServiceRequest,
    Patient,
    PatientIdentifier,
    RequestedProcedure,
    ScheduledProcedureStep,
)
from mwl.query import QueryPolicy, compile_query
from mwl.response import ResponsePolicy, response_encoder
from mwl.view import compile_view
from mwl.worklist import Worklist

_FIRST_DAY = date(2024, 7, 1)
_NOW = datetime(2024, 7, 1, 8)
_PER_DAY = 3000  # entries: a large site, so that more entries are more days and a query's hits stay the same
_STATIONS = 300
_MODALITIES = ("CT", "MR", "US", "DX", "MG", "NM", "XA")
_RETURNED = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyInstanceUID")

_STEP = "ScheduledProcedureStepSequence"
_DAY = {"ScheduledProcedureStepStartDate": "20240701"}
QUERIES: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "station, modality and day": ({"ScheduledStationAETitle": "ST005", "Modality": "MG", **_DAY}, {}),
    "station and day": ({"ScheduledStationAETitle": "ST005", **_DAY}, {}),
    "modality and day": ({"Modality": "CT", **_DAY}, {}),
    "accession number": ({}, {"AccessionNumber": "A00000042"}),
    "accession number, wild card": ({}, {"AccessionNumber": "A0000004*"}),
    "patient id": ({}, {"PatientID": "P00000042"}),
    "name": ({}, {"PatientName": "FAMILY42^GIVEN7"}),
    "name, beginning": ({}, {"PatientName": "FAMILY42^*"}),
    "name, part": ({}, {"PatientName": "*42^GIVEN7"}),
    "name, part, and station and day": ({"ScheduledStationAETitle": "ST005", **_DAY}, {"PatientName": "*4*"}),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--entries", type=int, nargs="+", default=[10_000, 100_000], help="sizes (10,000 100,000)")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for count in [1000] if arguments.smoke else arguments.entries:
        figures |= {f"{name}_at_{count}": value for name, value in _measure(count).items()}
    return figures


def sample_entry(number: int, count: int, random: Random) -> Entry:
    station = random.randrange(_STATIONS)
    return Entry(
        Patient(
            f"Family{random.randrange(5000)}^Given{random.randrange(500)}",
            (PatientIdentifier(f"P{number % (count * 2 // 3 + 1):08}", "CITY"),),
            date(1940, 1, 1) + timedelta(random.randrange(30_000)),
            random.choice("MF"),
        ),
        RequestedProcedure(
            f"1.2.840.99999.2.55.3.{number}",
            f"RP{number:08}",
            "CT head without contrast",
            Code("70450", "CPT4", "CT head"),
            priority="ROUTINE",
        ),
        ScheduledProcedureStep(
            f"SPS{number:08}",
            (f"ST{station:03}",),
            _FIRST_DAY + timedelta(number // _PER_DAY),
            clock(random.randrange(7, 19), random.randrange(60)),
            _MODALITIES[station % 7 - 1],
            description="CT head",
            protocol_codes=(Code("P1", "99X", "Protocol 1"),),
            location="R1",
        ),
        ImagingServiceRequest(
            f"A{number:08}",
            placer_order_number=f"PL{number}",
            filler_order_number=f"FI{number}",
            requesting_physician="House^Gregory",
            referring_physician="Wilson^James",
        ),
    )


def _measure(count: int) -> dict[str, Any]:
    random = Random(1)
    bodies = [msgspec.json.encode(sample_entry(number, count, random)) for number in range(count)]
    decode = msgspec.json.Decoder(Entry).decode
    gc.collect()
    gc.disable()  # as a provider does while it loads
    before, begin = _resident(), time.perf_counter()
    worklist = Worklist()
    for body in bodies:
        worklist.put(decode(body))
    seconds = time.perf_counter() - begin
    gc.enable()
    figures: dict[str, Any] = {
        "load_us_per_entry": seconds / count * 1e6,
        "bytes_per_entry": (_resident() - before) // count,
    }
    view = compile_view()
    for name, (step, root) in QUERIES.items():
        query = compile_query(_identifier(step, root), IMPLICIT_LE, QueryPolicy())
        hits = len(worklist.match(query, view, _NOW))
        figures[f"{name}_us"] = _microseconds(lambda query=query: worklist.match(query, view, _NOW))  # type: ignore[misc]
        figures[f"{name}_hits"] = hits
    return figures | _answers(worklist)


def _answers(worklist: Worklist) -> dict[str, Any]:
    """Measure what answers cost, and keep, in two transfer syntaxes."""
    identifier = _identifier({}, dict.fromkeys(_RETURNED, ""))
    figures: dict[str, Any] = {
        "compile_us": _microseconds(lambda: compile_query(identifier, IMPLICIT_LE, QueryPolicy()))
    }
    query, slots = compile_query(identifier, IMPLICIT_LE, QueryPolicy()), worklist.select((), _NOW.date())[:100_000]
    before, begin = _resident(), time.perf_counter()
    for transfer_syntax in (IMPLICIT_LE, EXPLICIT_LE):
        encode = response_encoder(query, transfer_syntax, ResponsePolicy(), _NOW.date()).encode
        for slot in slots:
            encode(slot)
    seconds = time.perf_counter() - begin
    figures["first_answer_us"] = seconds / len(slots) / 2 * 1e6
    figures["answers_in_two_syntaxes_bytes_per_entry"] = (_resident() - before) // len(slots)
    figures["kept_answer_us"] = _microseconds(lambda: encode(slots[0]))
    return figures


def _identifier(step: dict[str, str], root: dict[str, str]) -> bytes:
    found = _data_set(root)
    tag = TAG_OF_KEYWORD[_STEP]
    found[tag] = Element(tag, "SQ", (_data_set(step),))
    return encode_data_set(found, IMPLICIT_LE)


def _data_set(keys: dict[str, str]) -> DataSet:
    tags = {TAG_OF_KEYWORD[keyword]: value for keyword, value in keys.items()}
    return {tag: Element(tag, VR_OF_TAG[tag], value.encode()) for tag, value in tags.items()}


def _microseconds(call: Callable[[], object]) -> float:
    """Give the time of one call, the best of several rounds."""
    rounds = []
    for _ in range(5):
        begin, calls = time.perf_counter(), 0
        while time.perf_counter() - begin < 0.05:
            call()
            calls += 1
        rounds.append((time.perf_counter() - begin) / calls)
    return min(rounds) * 1e6


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
