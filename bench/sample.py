"""Entries and queries for measurements: each query has the same number of matches, and it is known which."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import date, time, timedelta
from typing import Any, NamedTuple

from dulproto import IMPLICIT_LE, DataSet, Element, encode_data_set
from mwl.item import Code, Entry, ImagingServiceRequest, Patient, PatientIdentifier, RequestedProcedure
from mwl.item import ScheduledProcedureStep as Step

MODALITIES = ("CT", "MR", "DX", "US", "MG", "XA", "NM", "PT")
DAYS = 5
_FAMILIES = ("Adams", "Baker", "Carter", "Müller", "Dixon", "Lefèvre", "Ellis", "Núñez")
_GIVEN = ("Alice", "Björn", "Emma", "José", "Grace", "Henry", "Zoé", "Oliver")
_PHYSICIANS = ("Hartmann^Eva^^Dr.", "Okafor^Chidi^^Dr.", "Lindqvist^Maja^^Dr.", "Rossi^Paolo^^Prof.")


class Query(NamedTuple):
    """An identifier as it is sent, and the accession numbers of the entries that it matches."""

    identifier: bytes
    matches: frozenset[str]


# --- entries ------------------------------------------------------------------------------------------------------


def entries(count: int, matches: int, today: date) -> Iterator[Entry]:
    """Invent `count` entries in groups of `matches`: a station is a group, and so is a modality on a day.

    With more groups than modalities and days, several stations share a modality and a day.
    """
    for number in range(count):
        yield _entry(number, number // matches, today)


def _entry(number: int, group: int, today: date) -> Entry:
    modality = MODALITIES[group % len(MODALITIES)]
    day = today + timedelta(days=group // len(MODALITIES) % DAYS)
    minute = 7 * 60 + 30 + number * 7 % 570
    given = _GIVEN[number % len(_GIVEN)]
    return Entry(
        Patient(
            name=f"P{group:05}{_FAMILIES[number % 7]}^{given}",
            identifiers=(PatientIdentifier(f"{4_000_000 + number}", "BENCH"),),
            birth_date=date(1930, 1, 1) + timedelta(days=number * 37 % 30_000),
            sex="MF"[number % 2],
        ),
        RequestedProcedure(
            study_instance_uid=f"2.25.{340282366920938463463374607431000000000 + number}",
            procedure_id=f"RP{number:07}",
            description=f"{modality} examination {number % 20}, two regions",
            code=Code(f"{modality}{number % 20:02}", "99BENCH", f"{modality} examination {number % 20}"),
            priority="ROUTINE",
        ),
        Step(
            step_id=f"SPS{number:07}",
            station_ae_titles=(_station(group),),
            start_date=day,
            start_time=time(minute // 60, minute % 60),
            modality=modality,
            performing_physician=_PHYSICIANS[number % len(_PHYSICIANS)],
            description=f"{modality} examination {number % 20}",
            location=f"ROOM{group % 50}",
        ),
        ImagingServiceRequest(
            accession_number=_accession_number(number),
            requesting_physician=_PHYSICIANS[number % 3],
            referring_physician=_PHYSICIANS[number % 4],
            institution_name="Bench Hospital",
        ),
    )


def _station(group: int) -> str:
    return f"ST{group:05}"


def _accession_number(number: int) -> str:
    return f"A{number:08}"


# --- queries ------------------------------------------------------------------------------------------------------

# What a modality asks back, and by what: the keys that PS3.4 Table K.6-1 requires, and a few that most devices add.
STEP_RETURN_KEYS = {
    0x00080060: "CS",
    0x00321070: "LO",
    0x00400001: "AE",
    0x00400002: "DA",
    0x00400003: "TM",
    0x00400006: "PN",
    0x00400007: "LO",
    0x00400009: "SH",
    0x00400011: "SH",
}
RETURN_KEYS = {
    0x00080050: "SH",
    0x00080080: "LO",
    0x00080090: "PN",
    0x00100010: "PN",
    0x00100020: "LO",
    0x00100030: "DA",
    0x00100040: "CS",
    0x0020000D: "UI",
    0x00321032: "PN",
    0x00321060: "LO",
    0x00401001: "SH",
    0x00401003: "SH",
}
_STEP, _STATION, _MODALITY, _DAY, _NAME = 0x00400100, 0x00400001, 0x00080060, 0x00400002, 0x00100010


def identifier(keys: dict[int, str], step_keys: dict[int, str]) -> bytes:
    """Encode the usual return keys, some of them with values to match, in Implicit VR Little Endian."""

    def level(vrs: dict[int, str], values: dict[int, str]) -> DataSet:
        def value(tag: int, vr: str) -> bytes:
            raw = values.get(tag, "").encode("latin-1")
            return raw + (b"\0" if vr == "UI" else b" ") if len(raw) & 1 else raw

        return {tag: Element(tag, vr, value(tag, vr)) for tag, vr in vrs.items()}

    step = Element(_STEP, "SQ", (level(STEP_RETURN_KEYS, step_keys),))
    data_set = {**level(RETURN_KEYS, keys), _STEP: step}
    return encode_data_set(dict(sorted(data_set.items())), IMPLICIT_LE)


def _digits(day: date) -> str:
    return f"{day:%Y%m%d}"


def _by_station(entry: Entry) -> tuple[Any, ...]:
    return ((), ((_STATION, entry.step.station_ae_titles[0]),))


def _by_station_and_day(entry: Entry) -> tuple[Any, ...]:
    assert entry.step.start_date is not None
    return ((), (*_by_station(entry)[1], (_DAY, _digits(entry.step.start_date))))


def _by_station_modality_and_day(entry: Entry) -> tuple[Any, ...]:
    return ((), (*_by_station_and_day(entry)[1], (_MODALITY, entry.step.modality)))


def _by_station_and_days(entry: Entry) -> tuple[Any, ...]:
    day = entry.step.start_date
    assert day is not None
    days = f"{_digits(day - timedelta(days=1))}-{_digits(day + timedelta(days=1))}"
    return ((), (*_by_station(entry)[1], (_DAY, days)))


def _by_modality_and_day(entry: Entry) -> tuple[Any, ...]:
    return ((), _by_station_modality_and_day(entry)[1][1:])


def _by_name_and_modality(entry: Entry) -> tuple[Any, ...]:
    return (((_NAME, f"{entry.patient.name[:6]}*"),), ((_MODALITY, entry.step.modality),))


KINDS: tuple[Callable[[Entry], tuple[Any, ...]], ...] = (
    _by_station,
    _by_station_and_day,
    _by_station_modality_and_day,
    _by_station_and_days,
    _by_modality_and_day,
    _by_name_and_modality,
)


def queries(entries: Iterable[Entry], matches: int, limit: int = 240) -> list[Query]:
    """Make queries of every kind that have exactly `matches` matches, which are found without any provider."""
    found: list[defaultdict[tuple[Any, ...], list[str]]] = [defaultdict(list) for _ in KINDS]
    for entry in entries:
        number = entry.request.accession_number
        for kind, groups in zip(KINDS, found, strict=True):
            groups[kind(entry)].append(number)
    out = []
    for groups in found:
        some = [(keys, numbers) for keys, numbers in groups.items() if len(numbers) == matches]
        step = max(1, len(some) // max(1, limit // len(KINDS)))
        chosen = some[::step][: limit // len(KINDS)]
        out += [Query(identifier(dict(keys), dict(steps)), frozenset(numbers)) for (keys, steps), numbers in chosen]
    return out
