from __future__ import annotations

from datetime import date, datetime, time, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import NOW, compiled, data_set, element, entry, found, worklist

from mwl.index import TextIndex
from mwl.item import STATUSES, Code, Entry, PatientIdentifier
from mwl.query import Query, QueryPolicy
from mwl.view import ListFilter, View, compile_view
from mwl.worklist import Worklist


class Filter(msgspec.Struct, frozen=True):
    modality: tuple[str, ...] = ()
    station_ae_title: tuple[str, ...] = ()
    location: tuple[str, ...] = ()
    status: tuple[str, ...] = ()
    days_back: int | None = None
    days_ahead: int | None = None


UNIVERSAL = compiled({})


def listed(entries: list[Entry], now: datetime = NOW, **filters: ListFilter) -> list[str]:
    return found(entries, UNIVERSAL, now, compile_view(**filters))


# --- order, snapshot, entries -------------------------------------------------------------------------------------


def test_an_answer_is_ordered_by_start_and_then_by_key() -> None:
    entries = [
        entry(4, start_time=time(11)),
        entry(3, start_time=time(10)),
        entry(2, start_time=time(10)),
        entry(1, start_date=date(2024, 7, 6), start_time=time(8)),
        entry(5, start_date=None, start_time=None),
        entry(6, start_time=None),
    ]
    assert found(entries, UNIVERSAL) == ["SPS6", "SPS2", "SPS3", "SPS4", "SPS1", "SPS5"]


def test_Q_80_an_entry_with_the_same_key_replaces_the_other() -> None:
    made = worklist(entry(1), entry(1, modality="MR"))
    assert len(made) == 1
    assert not made.match(compiled({"Modality": "CT"}), compile_view(), NOW)
    assert made.match(compiled({"Modality": "MR"}), compile_view(), NOW)


def test_a_match_is_a_snapshot() -> None:
    made = worklist(entry(1), entry(2))
    slots = made.match(UNIVERSAL, compile_view(), NOW)
    made.remove(entry(1).key)
    made.put(entry(3))
    made.put(entry(2, modality="MR"))
    assert [(slot.entry.step.step_id, slot.entry.step.modality) for slot in slots] == [("SPS1", "CT"), ("SPS2", "CT")]


def test_entries_can_be_found_iterated_and_removed() -> None:
    made = worklist(entry(1), entry(2))
    assert made.get(entry(1).key) == entry(1)
    assert made.get(("1.2.3.1", "other")) is None
    assert {one.step.step_id for one in made} == {"SPS1", "SPS2"}
    assert made.remove(entry(1).key)
    assert not made.remove(entry(1).key)
    assert [one.step.step_id for one in made] == ["SPS2"]


def test_steps_of_one_study_are_entries_of_their_own() -> None:
    made = worklist(entry(1, step_id="A"), entry(1, step_id="B"), entry(1, step_id="C"))
    assert made.remove(("1.2.3.1", "B"))
    assert {one.step.step_id for one in made} == {"A", "C"}


def test_the_version_grows_with_every_change() -> None:
    made = worklist(entry(1))
    before = made.version
    made.put(entry(1, modality="MR"))
    after_put = made.version
    made.remove(entry(1).key)
    assert before < after_put < made.version


def test_an_entry_that_is_put_again_as_it_was_is_no_change() -> None:
    made = worklist(entry(1))
    before, (slot,) = made.version, made.select((), NOW.date())
    made.put(entry(1))
    assert made.version == before
    assert made.select((), NOW.date())[0] is slot


# --- what is listed at all ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", STATUSES)
def test_R_040_only_steps_that_are_to_be_done_are_listed(status: str) -> None:
    one = entry(status=status)
    assert bool(listed([one])) == (status in ("SCHEDULED", "ARRIVED", "READY"))
    assert bool(listed([one], ae=Filter(status=(status,)))) == (
        status in ("SCHEDULED", "ARRIVED", "READY", "STARTED")
    )


@pytest.mark.parametrize(
    ("matching", "other"),
    [
        (Filter(modality=("CT", "US")), Filter(modality=("MR",))),
        (Filter(station_ae_title=("CT1",)), Filter(station_ae_title=("MR1",))),
        (Filter(location=("R1",)), Filter(location=("R2",))),
        (Filter(days_back=0), Filter(days_back=0, days_ahead=0)),
        (Filter(days_ahead=1), Filter(days_ahead=0)),
    ],
)
def test_R_040_the_filters_of_ae_and_remote_both_hold(matching: Filter, other: Filter) -> None:
    one = entry(location="R1", start_date=date(2024, 7, 6))
    assert listed([one], ae=matching) == ["SPS1"]
    assert listed([one], ae=Filter(), remote=matching) == ["SPS1"]
    assert listed([one], ae=other, remote=matching) == []
    assert listed([one], ae=matching, remote=other) == []


def test_R_040_the_window_of_days_moves_with_the_day() -> None:
    view = compile_view(ae=Filter(days_back=1, days_ahead=1))
    entries = [entry(day, start_date=date(2024, 7, day)) for day in range(1, 10)]
    assert found(entries, UNIVERSAL, datetime(2024, 7, 3), view) == ["SPS2", "SPS3", "SPS4"]
    assert found(entries, UNIVERSAL, datetime(2024, 7, 5), view) == ["SPS4", "SPS5", "SPS6"]


# --- the indexes against a scan -----------------------------------------------------------------------------------

NAMES = (
    "Doe^John",
    "DOE^JANE^^^",
    "Döe^John",
    "Doe",
    "Смит^Иван",
    "Yamada^Tarou=山田^太郎",
    "กุ^ก",
    "e\u0301x^y",
    "x\u0302y^A",
    "",
)
KEY_NAMES = (
    "doe^john",
    "Doe*",
    "*j*",
    "d?e*",
    "D*^J*",
    "=山田*",
    "山田^太郎",
    "Смит^*",
    "ก?*",
    "\u00e9*",
    "?*",
    "*",
    "doe^*",
)
STATIONS = ("CT1", "ct1", "MR1", "CT2")
MODALITIES = ("CT", "MR", "US")
DAYS = tuple(date(2024, 7, 5) + timedelta(days) for days in range(-3, 4))
IDS = ("1", "2", "10", "1*", "")

entries = st.builds(
    entry,
    number=st.integers(1, 12),
    name=st.sampled_from(NAMES),
    identifiers=st.lists(
        st.builds(PatientIdentifier, st.sampled_from(("1", "2", "10")), st.sampled_from(("A", "B"))), max_size=3
    ).map(tuple),
    accession_number=st.sampled_from(IDS),
    procedure_id=st.sampled_from(IDS),
    station_ae_titles=st.lists(st.sampled_from(STATIONS), max_size=2).map(tuple),
    modality=st.sampled_from(MODALITIES),
    performing_physician=st.sampled_from(("", *NAMES)),
    location=st.sampled_from(("R1", "R2", "r1", "")),
    start_date=st.sampled_from((*DAYS, None)),
    start_time=st.sampled_from((time(8), time(10), time(10, 30), None)),
    status=st.sampled_from(STATUSES),
    study_date=st.sampled_from((*DAYS, None)),
    patient_weight=st.sampled_from((70.0, 80.5, None)),
    protocol_codes=st.lists(
        st.builds(Code, st.sampled_from(("A", "B")), st.sampled_from(("X", "Y"))), max_size=2
    ).map(tuple),
)


STEP_KEYS = {
    "ScheduledStationAETitle": st.sampled_from(("CT1", "ct2", "C*", "CT1\\MR1", "?T1", "XX")),
    "Modality": st.sampled_from(("CT", "mr", "CT\\US", "?R", "*")),
    "ScheduledPerformingPhysicianName": st.sampled_from(KEY_NAMES),
    "ScheduledProcedureStepStartDate": st.sampled_from(
        (
            "20240705",
            "20240704-20240706",
            "20240705-",
            "-20240704",
            "20240706-20240705",
            "nonsense",
            "20240702\\20240708",
        )
    ),
    "ScheduledProcedureStepStartTime": st.sampled_from(("10", "0900-1030", "1030-", "-10", "0800\\1030", "*")),
    "ScheduledProcedureStepLocation": st.sampled_from(("R1", "r*")),
    "ScheduledProcedureStepStatus": st.sampled_from(("SCHEDULED", "a*")),
    "ScheduledProcedureStepID": st.sampled_from(("SPS1", "SPS*", "*1\\SPS2")),
}
ROOT_KEYS = {
    "PatientName": st.sampled_from(KEY_NAMES),
    "PatientID": st.sampled_from(("1", "2\\10", "1*")),
    "IssuerOfPatientID": st.sampled_from(("A", "B")),
    "AccessionNumber": st.sampled_from(("1", "1*", "2\\10")),
    "RequestedProcedureID": st.sampled_from(("1", "?", "*0")),
    "StudyInstanceUID": st.sampled_from(("1.2.3.1", "1.2.3.1\\1.2.3.2")),
    "StudyDate": st.sampled_from(("20240705-", "20240704")),
    "PatientWeight": st.sampled_from(("70.0", "80")),
}
KEYS = (*STEP_KEYS, *ROOT_KEYS)
policies = st.builds(
    QueryPolicy,
    matching=st.sampled_from(("all", "statement")),
    datetime_matching=st.sampled_from(("combined", "independent")),
    ae_key_ignore_case=st.booleans(),
    ignore_accents=st.booleans(),
    lenient_pn=st.booleans(),
    match_other_patient_ids=st.booleans(),
    primary_patient_id_issuer=st.sampled_from(("", "B")),
    wildcards_in_single_value_keys=st.booleans(),
)
filters = st.builds(
    Filter,
    modality=st.sampled_from(((), ("CT",), ("CT", "MR"))),
    station_ae_title=st.sampled_from(((), ("CT1",))),
    location=st.sampled_from(((), ("R1", "R2"))),
    status=st.sampled_from(((), ("SCHEDULED",), ("STARTED", "CANCELED"))),
    days_back=st.sampled_from((None, 0, 2)),
    days_ahead=st.sampled_from((None, 0, 2)),
)


@st.composite
def queries(draw: st.DrawFn) -> Query:
    asked = draw(st.lists(st.sampled_from(KEYS), max_size=3, unique=True))  # with more, hardly anything is found
    step: dict[str, Any] = {keyword: draw(STEP_KEYS[keyword]) for keyword in asked if keyword in STEP_KEYS}
    root: dict[str, Any] = {keyword: draw(ROOT_KEYS[keyword]) for keyword in asked if keyword in ROOT_KEYS}
    if draw(st.integers(0, 9)) == 0:
        item = data_set([element("CodeValue", "A"), element("CodingSchemeDesignator", "X")])
        step["ScheduledProtocolCodeSequence"] = [item]
    return compiled(step, draw(policies), **root)


def scan(entries: list[Entry], query: Query, view: View, today: date) -> list[tuple[str, str]]:
    """Test every condition on every entry."""
    conditions = [*query.conditions, *view.conditions]
    hits = [one for one in entries if all(condition.test(one, today) for condition in conditions)]

    def order(one: Entry) -> tuple[bool, date, time, tuple[str, str]]:
        on, at = one.step.start_date, one.step.start_time
        return (on is None, on or date.min, at or time.min, one.key)

    return [one.key for one in sorted(hits, key=order)]


@settings(max_examples=300 if settings.default is None else max(300, settings.default.max_examples))
@given(
    changes=st.lists(st.tuples(st.booleans(), entries), max_size=25),
    asked=st.lists(st.tuples(queries(), filters), min_size=1, max_size=4),
    few=st.sampled_from((0, 2, 100)),
)
def test_the_indexes_find_what_a_scan_finds_in_the_same_order(
    changes: list[tuple[bool, Entry]], asked: list[tuple[Query, Filter]], few: int
) -> None:
    made, kept = Worklist(few=few), dict[tuple[str, str], Entry]()
    for removed, one in changes:
        if removed:
            assert made.remove(one.key) == (kept.pop(one.key, None) is not None)
        else:
            made.put(one)
            kept[one.key] = one
        for query, filter_ in asked[:1]:
            view = compile_view(ae=filter_)
            keys = [slot.entry.key for slot in made.match(query, view, NOW)]
            assert keys == scan(list(kept.values()), query, view, NOW.date())
    for query, filter_ in asked:
        view = compile_view(ae=filter_)
        keys = [slot.entry.key for slot in made.match(query, view, NOW)]
        assert keys == scan(list(kept.values()), query, view, NOW.date())
    assert len(made) == len(kept)


@given(entries=st.lists(entries, min_size=1, max_size=20))
def test_nothing_is_left_of_entries_that_were_removed(entries: list[Entry]) -> None:
    made = worklist(*entries)
    for one in entries:
        made.remove(one.key)
    assert len(made) == 0
    assert made.match(UNIVERSAL, compile_view(ae=Filter(status=STATUSES)), NOW) == []
    assert not any(index.postings for index in made._indexes.values())  # type: ignore[attr-defined]


def test_values_that_come_and_go_leave_nothing_behind() -> None:
    made = worklist(entry(1), few=0)
    for number in range(2, 1000):
        made.put(entry(number))
        made.remove(entry(number).key)
        if number % 100 == 0:
            assert made.match(compiled(None, AccessionNumber="ACC*"), compile_view(), NOW)
    assert all(
        len(index._new) + len(index._ordered) < 300 for index in made._indexes.values() if hasattr(index, "_new")
    )


@pytest.mark.parametrize("key", ["*42^given7", "*ly42^*", "*zzz*", "fam*9^*7", "*0", "family0^given0", "*^given1499"])
def test_many_names_are_found_as_a_scan_finds_them(key: str) -> None:
    entries = [entry(number, name=f"Family{number % 97}^Given{number}") for number in range(1500)]
    query, view = compiled(None, PatientName=key), compile_view()
    assert found(entries, query) == [one[1] for one in scan(entries, query, view, NOW.date())]


def test_a_value_is_found_by_its_beginning_however_many_others_came_and_went() -> None:
    index = TextIndex()
    index.add("A1", 1)
    for number in range(500):
        index.add(f"B{number}", 2)
        index.discard(f"B{number}", 2)
    (condition,) = compiled(None, AccessionNumber="A*").conditions
    assert list(index.find(condition, NOW.date(), None)) == [1]


@pytest.mark.parametrize("key", ["*42*", "*42", "?42*", "*0^?7", "*^*", "*zzz*", "*000*"])
def test_a_value_is_found_by_a_part_of_it_however_many_there_are_and_whatever_came_and_went(key: str) -> None:
    index, values = TextIndex(), [f"a{number:05}^{number}" for number in range(10_000)]
    (condition,) = compiled(None, PatientName=key).conditions
    (lookup,) = condition.lookups

    def check(wanted: dict[str, int]) -> None:
        accepted = sorted(number for value, number in wanted.items() if lookup.accepts and lookup.accepts(value))
        assert list(index.find(condition, NOW.date(), None)) == accepted

    kept = {value: number for number, value in enumerate(values)}
    for value, number in kept.items():
        index.add(value, number)
        if number == 5000:
            index.make_ready()
    check(kept)
    for value in values[::3]:
        index.discard(value, kept.pop(value))
    check(kept)
    for value in values[::6]:
        kept[value] = len(values) + len(kept)
        index.add(value, kept[value])
    check(kept)
    for number in range(30_000):  # nobody asks, and nothing piles up
        index.add(f"b{number}", 1)
        index.discard(f"b{number}", 1)
    assert index._blocks is None
    check(kept)


def test_entries_share_what_they_have_in_common() -> None:
    one, other = (entry(number, location="".join(["R", "1"]), protocol_codes=(Code("A", "X"),)) for number in (1, 2))
    assert one.step.protocol_codes is not other.step.protocol_codes
    worklist(one, other)
    assert one.step.protocol_codes is other.step.protocol_codes
    assert one.patient.identifiers[0].issuer is other.patient.identifiers[0].issuer
