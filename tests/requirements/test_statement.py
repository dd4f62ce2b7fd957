"""The conformance statement that `examples/connectivity-hub.toml` reproduces, table by table.

Its tables are here as data, with the misprints of the original put right: tags that end in D in place of 0, names,
the VR of Ethnic Group, the nesting of code items, the values of Pregnancy Status.
"""

from __future__ import annotations

import tomllib
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import date, time
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from outside import Answer, Outside, ask, break_store, connects, identifier, serving
from pydicom.dataset import Dataset
from raw_client import (
    ALL_SYNTAXES,
    CT_STORAGE,
    EXPLICIT_BE,
    EXPLICIT_LE,
    IMPLICIT_LE,
    VERIFICATION,
    WORKLIST,
    Accepted,
    Rejected,
    associate_rq,
    counted,
    echo_rq,
    element,
    find_rq,
    item,
    maximum_length,
    message,
    raw_client,
)
from samples import NOW, entry

from dulproto import DataSet, Element
from mwl.item import (
    Code,
    Entry,
    ImagingServiceRequest,
    Patient,
    PatientIdentifier,
    RequestedProcedure,
    ScheduledProcedureStep,
)

EXAMPLE = Path(__file__).parents[2] / "examples" / "connectivity-hub.toml"

# Table 3.1, and Verification from Table 3.5.
SOP_CLASSES = (WORKLIST, VERIFICATION)
# Table 3.4.
IMPLEMENTATION = (b"1.2.826.0.1.3680043.2.60.0.1", b"Wjdt260_2")
# Tables 3.5 and 3.6.
TRANSFER_SYNTAXES = (IMPLICIT_LE, EXPLICIT_LE, EXPLICIT_BE)

# Table 3.7: tag, VR, matching, and the value that the answer to ENTRY has.  `None` is a value of zero length.
# fmt: off
TABLE_3_7 = """
0008,0005    CS NONE  ISO_IR 100
0040,0100    SQ SEQ   1 item
>0040,0001   AE S     CT1
>0040,0002   DA S,R   20240705
>0040,0003   TM S,R   103000
>0008,0060   CS S     CT
>0040,0006   PN S,W,C Cuddy^Lisa
>0040,0007   LO -     CT of the head
>0040,0008   SQ -     1 item
>>0008,0100  SH -     HEADSTD
>>0008,0102  SH -     99SITE
>>0008,0103  SH -     2024
>>0008,0104  LO -     head, standard
>0040,0010   SH -     ROOM 1
>0040,0011   SH -     RADIOLOGY
>0040,0012   LO -     sedation
>0040,0009   SH -     SPS17
>0032,1070   LO -     iodine
>0040,0020   CS -     ARRIVED
0040,1001    SH -     RP17
0032,1060    LO -     CT head
0032,1064    SQ -     1 item
>0008,0100   SH -     CTHEAD
>0008,0102   SH -     99SITE
>0008,0103   SH -     1
>0008,0104   LO -     CT head, any
0020,000D    UI -     1.2.3.17
0008,0020    DA -     20240704
0008,0030    TM -     080000
0008,1110    SQ -     1 item
>0008,1150   UI -     1.2.840.10008.3.1.2.3.1
>0008,1155   UI -     1.2.3.17
0040,1003    SH -     HIGH
0040,1004    LO -     wheelchair
0040,1400    LT -     ask for the old films
0040,1010    PN -     None
0008,0050    SH S     ACC17
0032,1032    PN -     House^Gregory
0032,1033    LO -     Neurology
0008,0090    PN -     Wilson^James
0040,2400    LT -     urgent
0038,0010    LO -     V17
0038,0300    LO -     WARD 3
0008,1120    SQ -     0 items
0010,0010    PN C,W   Müller^Jörg
0010,0020    LO S     1001
0010,0021    LO -     CITY
0010,0022    CS -     TEXT
0010,1000    LO -     R77,O5
0010,1002    SQ -     2 items
>0010,0020   LO -     R77
>0010,0021   LO -     REGION
>0010,0022   CS -     TEXT
0010,0030    DA -     19840706
0010,0040    CS -     M
0010,1010    AS -     039Y
0010,0101    SQ -     1 item
>0008,0100   SH -     de
>0008,0102   SH -     RFC5646
>0008,0103   SH -     1.0
>0008,0104   LO -     German
0010,1020    DS -     1.83
0010,1030    DS -     81.5
0010,2160    SH -     unknown
0040,3001    LO -     None
0038,0500    LO -     stable
0010,21C0    US -     1
0010,21B0    LT -     None
0010,2000    LO -     None
0010,2110    LO -     None
0038,0050    LO -     None
"""
# fmt: on

ENTRY = Entry(
    Patient(
        name="Müller^Jörg",
        identifiers=(PatientIdentifier("1001", "CITY"), PatientIdentifier("R77", "REGION"), PatientIdentifier("O5")),
        birth_date=date(1984, 7, 6),
        sex="M",
        languages=(Code("de", "RFC5646", "German", "1.0"),),
        ethnic_group="unknown",
        medical_alerts=("pacemaker",),
        allergies=("nuts",),
        special_needs="interpreter",
        additional_history="long",
    ),
    RequestedProcedure(
        study_instance_uid="1.2.3.17",
        procedure_id="RP17",
        description="CT head",
        code=Code("CTHEAD", "99SITE", "CT head, any", "1"),
        study_date=date(2024, 7, 4),
        study_time=time(8),
        priority="HIGH",
        transport_arrangements="wheelchair",
        intended_recipients=("House^Gregory",),
        comments="ask for the old films",
    ),
    ScheduledProcedureStep(
        step_id="SPS17",
        station_ae_titles=("CT1",),
        start_date=date(2024, 7, 5),
        start_time=time(10, 30),
        modality="CT",
        performing_physician="Cuddy^Lisa",
        description="CT of the head",
        protocol_codes=(Code("HEADSTD", "99SITE", "head, standard", "2024"),),
        station_names=("ROOM 1",),
        location="RADIOLOGY",
        pre_medication="sedation",
        contrast_agent="iodine",
        status="ARRIVED",
    ),
    ImagingServiceRequest(
        accession_number="ACC17",
        requesting_physician="House^Gregory",
        requesting_service="Neurology",
        referring_physician="Wilson^James",
        comments="urgent",
        admission_id="V17",
        current_patient_location="WARD 3",
        patient_state="stable",
        patient_size=1.83,
        patient_weight=81.5,
        confidentiality="secret",
    ),
)


class Row(NamedTuple):
    """One row of Table 3.7."""

    path: tuple[int, ...]
    vr: str
    match: frozenset[str]
    expected: str


def table_3_7() -> Iterator[Row]:
    parents: list[int] = []
    for line in TABLE_3_7.strip().splitlines():
        place, vr, match, expected = line.split(maxsplit=3)
        parents[place.count(">") :] = [int(place.lstrip(">").replace(",", ""), 16)]
        yield Row(tuple(parents), vr, frozenset(match.split(",")) - {"-", "NONE"}, expected)


ROWS = list(table_3_7())


def request(keys: dict[tuple[int, ...], str], path: tuple[int, ...] = ()) -> DataSet:
    """An identifier with every attribute of the table; `keys` are the values of some."""
    found: DataSet = {}
    for row in ROWS:
        if row.path[:-1] == path:
            value = (request(keys, row.path),) if row.vr == "SQ" else keys.get(row.path, "").encode()
            found[row.path[-1]] = Element(row.path[-1], row.vr, value)
    return found


def told(answer: Dataset, row: Row) -> str:
    """What an answer has in a row: the value, the number of items, `None` if it is empty."""
    for tag in row.path[:-1]:
        answer = answer[tag].value[0]
    found = answer[row.path[-1]]
    assert row.vr == found.VR
    if row.vr == "SQ":
        return f"{len(found.value)} item" + "s" * (len(found.value) != 1)
    return "None" if found.is_empty else str(found.value)


@asynccontextmanager
async def example(folder: Path, entries: Sequence[Entry] = (ENTRY,), **changes: Any) -> AsyncIterator[Outside]:
    """Serve the example on a free port, or the same with other tables in place of its own."""
    tables = {**tomllib.loads(EXAMPLE.read_text("utf-8")), **changes}
    tables["dicom"] = {**tables["dicom"], "host": "127.0.0.1", "port": 0}
    async with serving(folder, entries, tables, NOW) as site:
        yield site


async def associate(site: Outside, **parts: Any) -> Accepted | Rejected | int:
    async with raw_client(site.port) as client:
        return await client.associate(associate_rq(**parts))


async def accepted(site: Outside, **parts: Any) -> Accepted:
    answer = await associate(site, **parts)
    assert isinstance(answer, Accepted), answer
    return answer


# --- 3.2.1.1 and 3.2.1.2 --------------------------------------------------------------------------------------------


async def test_table_3_1_the_sop_classes_are_offered_as_scp_only(tmp_path: Path) -> None:
    contexts = [(2 * n + 1, uid, ALL_SYNTAXES) for n, uid in enumerate((*SOP_CLASSES, CT_STORAGE))]
    roles = b"".join(item(0x54, counted(uid.encode()) + b"\1\1") for uid in SOP_CLASSES)
    async with example(tmp_path) as site:
        answer = await accepted(site, contexts=contexts, user_items=maximum_length(16384) + roles)
    assert [result for result, _ in answer.contexts.values()] == [0, 0, 3]
    assert 0x54 not in answer.user_items  # so the default holds: the caller is the SCU, PS3.7 D.3.3.4


@pytest.mark.parametrize("size", [0, 16, 16384, 1 << 20, 0xFFFFFFFF])
async def test_table_3_2_the_maximum_pdu_size_is_the_one_requested(tmp_path: Path, size: int) -> None:
    async with example(tmp_path) as site:
        answer = await accepted(site, user_items=maximum_length(size) + item(0x52, b"1.2.3"))
    assert answer.user_items[0x51] == size.to_bytes(4, "big")


async def test_table_3_3_the_number_of_associations_over_all_worklists_has_no_limit(tmp_path: Path) -> None:
    [ae] = tomllib.loads(EXAMPLE.read_text("utf-8"))["ae"]
    titles = [f"LIST{n}" for n in range(6)]
    async with example(tmp_path, ae=[{**ae, "title": title} for title in titles]) as site:
        associations = [await site.connect(title) for title in titles for _ in range(5)]
        assert [await each.c_echo() for each in associations] == [0] * 30
        for each in associations:
            await each.release()


async def test_3_2_1_2_there_is_one_outstanding_operation_and_no_window_is_negotiated(tmp_path: Path) -> None:
    async with example(tmp_path) as site, raw_client(site.port) as client:
        window = item(0x53, b"\0\5\0\5")
        answer = await client.associate(associate_rq(user_items=maximum_length(16384) + window))
        assert isinstance(answer, Accepted)
        assert 0x53 not in answer.user_items
        client.send(message(3, find_rq(1), element(0x00100010, b"")), message(1, echo_rq(2)))
        assert [(await client.response()).answers for _ in range(3)] == [1, 1, 2]


async def test_table_3_4_the_implementation_is_named(tmp_path: Path) -> None:
    async with example(tmp_path) as site:
        answer = await accepted(site)
    assert (answer.user_items[0x52], answer.user_items[0x55]) == IMPLEMENTATION


# --- 3.2.1.3 --------------------------------------------------------------------------------------------------------


async def test_3_2_1_3_no_association_is_initiated(tmp_path: Path) -> None:
    async with example(tmp_path) as site:
        connects.clear()
        await site.find({"Modality": "CT"})
        assert connects == [("127.0.0.1", site.port)]  # this client's own


# --- 3.2.1.4 --------------------------------------------------------------------------------------------------------


async def test_3_2_1_4_an_incorrect_called_title_is_rejected(tmp_path: Path) -> None:
    async with example(tmp_path) as site:
        assert await associate(site, called="WORKLISTS") == Rejected((1, 1, 7))


async def test_3_2_1_4_a_host_that_is_not_known_is_rejected(tmp_path: Path) -> None:
    dicom = tomllib.loads(EXAMPLE.read_text("utf-8"))["dicom"]
    async with example(tmp_path, dicom={**dicom, "known_hosts": ["10.1.2.3"]}) as site:
        assert await associate(site) == Rejected((1, 1, 3))


async def test_3_2_1_4_the_check_of_hosts_can_be_lifted(tmp_path: Path) -> None:
    dicom = tomllib.loads(EXAMPLE.read_text("utf-8"))["dicom"]
    async with example(tmp_path, dicom={**dicom, "known_hosts": ["10.1.2.3"], "check_hosts": False}) as site:
        await accepted(site)


async def test_3_2_1_4_five_associations_are_accepted_at_a_time(tmp_path: Path) -> None:
    async with example(tmp_path) as site:
        associations = [await site.connect() for _ in range(5)]
        assert await associate(site) == Rejected((2, 3, 2))
        for each in associations:
            await each.release()
        await accepted(site)


async def test_3_2_1_4_verification_and_worklist_queries_are_accepted(tmp_path: Path) -> None:
    async with example(tmp_path) as site, site.connect() as association:
        assert await association.c_echo() == 0
        assert (await ask(association, identifier({"ScheduledProcedureStepID": ""}))).steps == ["SPS17"]


@pytest.mark.parametrize("abstract", SOP_CLASSES)
async def test_tables_3_5_and_3_6_every_transfer_syntax_alone_and_all_together(tmp_path: Path, abstract: str) -> None:
    async with example(tmp_path) as site:
        for syntax in TRANSFER_SYNTAXES:
            assert (await accepted(site, contexts=[(1, abstract, [syntax])])).contexts == {1: (0, syntax)}
        answer = await accepted(site, contexts=[(1, abstract, TRANSFER_SYNTAXES[::-1])])
        assert answer.contexts[1][0] == 0


async def test_3_2_1_4_equal_contexts_are_all_accepted_with_one_priority_for_each(tmp_path: Path) -> None:
    offers = [[EXPLICIT_BE, EXPLICIT_LE], [EXPLICIT_LE, EXPLICIT_BE], [EXPLICIT_LE, EXPLICIT_BE], [EXPLICIT_BE]]
    for abstract in SOP_CLASSES:
        async with example(tmp_path) as site:
            answer = await accepted(site, contexts=[(2 * n + 1, abstract, each) for n, each in enumerate(offers)])
        assert list(answer.contexts.values()) == [(0, EXPLICIT_LE)] * 3 + [(0, EXPLICIT_BE)]


async def test_3_2_1_4_verification_is_always_success(tmp_path: Path) -> None:
    async with example(tmp_path) as site, site.connect() as association:
        for _ in range(3):
            assert await association.c_echo() == 0
        break_store(site)
        await site.eventually(lambda answer: answer.statuses[-1] != 0)
        assert await association.c_echo() == 0


async def test_3_2_1_4_neither_fuzzy_names_nor_time_zones_are_negotiated(tmp_path: Path) -> None:
    offered = item(0x56, counted(WORKLIST.encode()) + b"\1\1\1\1")
    async with example(tmp_path) as site:
        answer = await accepted(site, user_items=maximum_length(16384) + offered)
        assert sorted(answer.user_items) == [0x51, 0x52, 0x55]
        assert (await site.find(PatientName="Miller^Jorg")).steps == []
        keys = {"ScheduledProcedureStepStartTime": "1030", "ScheduledProcedureStepStartDate": "20240705"}
        assert (await site.find(keys, TimezoneOffsetFromUTC="+1200")).steps == ["SPS17"]


async def test_3_2_1_4_the_list_is_filtered_beforehand_and_keys_are_honoured_by_remote_ae(tmp_path: Path) -> None:
    [ae] = tomllib.loads(EXAMPLE.read_text("utf-8"))["ae"]
    entries = [ENTRY, entry(1), entry(2, modality="MR"), entry(3, start_date=date(2024, 8, 1))]
    remote = [{"title": "FREE", "honour_matching_keys": False}]
    filtered = {**ae, "filter": {"modality": ["CT"], "days_ahead": 1}}
    async with example(tmp_path, entries, ae=[filtered], remote=remote) as site:
        assert (await site.find()).steps == ["SPS1", "SPS17"]
        assert (await site.find(PatientID="1001", AccessionNumber="ACC17")).steps == ["SPS17"]
        assert (await site.find(calling="FREE", PatientID="NOBODY")).steps == ["SPS1", "SPS17"]


async def test_3_2_1_4_identifiers_of_several_domains_with_the_primary_one_by_worklist(tmp_path: Path) -> None:
    [ae] = tomllib.loads(EXAMPLE.read_text("utf-8"))["ae"]
    other = {**ae, "title": "REGIONAL", "primary_patient_id_issuer": "REGION"}
    keys = identifier({"ScheduledProcedureStepID": ""}, PatientID="", OtherPatientIDs="", OtherPatientIDsSequence="")
    async with example(tmp_path, ae=[ae, other]) as site:
        found = [(await site.ask(keys, called=title)).one for title in ("WORKLIST", "REGIONAL")]
    assert [(each.PatientID, each.OtherPatientIDs) for each in found] == [("1001", "R77,O5"), ("R77", "1001,O5")]
    assert [[one.PatientID for one in each.OtherPatientIDsSequence] for each in found] == [
        ["R77", "O5"],
        ["1001", "O5"],
    ]


# --- Table 3.7 ------------------------------------------------------------------------------------------------------


def test_table_3_7_has_71_rows_each_once() -> None:
    assert len(ROWS) == len({row.path for row in ROWS}) == 71


@pytest.mark.parametrize("syntax", TRANSFER_SYNTAXES)
async def test_table_3_7_every_attribute_is_returned_with_its_value(tmp_path: Path, syntax: str) -> None:
    async with example(tmp_path) as site:
        answer = await site.ask(request({}), transfer_syntaxes=[syntax])
    assert answer.statuses == [0xFF00, 0]
    assert [(row.path, told(answer.one, row)) for row in ROWS] == [(row.path, row.expected) for row in ROWS]


def keys_of(row: Row) -> Iterator[tuple[str, bool]]:
    """Values for the key of a row, and whether ENTRY is to be found by each, as the Match column says."""
    value, match = row.expected, row.match
    never = {"DA": "19000101", "TM": "010203", "UI": "9.9", "AS": "001Y", "DS": "0", "PN": "Nobody^Here"}
    yield never.get(row.vr, "NOTHING"), not match
    if value == "None":
        return
    yield value, True
    if row.vr in ("DA", "TM"):
        yield f"{value}-{value}", True
        yield f"-{never[row.vr]}", not match
    elif row.vr in ("AE", "CS", "LO", "PN", "SH"):
        yield value[:2] + "*", "W" in match or not match
        if row.vr != "CS" and value.swapcase() != value:  # CS has capitals only: their case says nothing
            yield value.swapcase(), "C" in match or not match


@pytest.mark.parametrize("row", [row for row in ROWS if row.vr not in ("SQ", "US")], ids=lambda row: str(row.path))
async def test_table_3_7_a_key_matches_in_the_kinds_that_the_table_lists_and_no_other(
    tmp_path: Path, row: Row
) -> None:
    wanted = list(keys_of(row))
    async with example(tmp_path) as site:
        found = [(key, (await site.ask(request({row.path: key}))).steps == ["SPS17"]) for key, _ in wanted]
    assert found == wanted


async def test_table_3_7_what_it_does_not_list_is_not_supported(tmp_path: Path) -> None:
    beyond = {"InstitutionName": "", "PlacerOrderNumberImagingServiceRequest": "", "BodyPartExamined": "HEAD"}
    async with example(tmp_path) as site:
        answer = await site.find({"BodyPartExamined": "HEAD"}, PatientName="", **beyond)
        whole = await site.ask(identifier({}, ScheduledProcedureStepSequence=[], PatientName=""))
    assert answer.statuses == [0xFF01, 0]
    assert [each.keyword for each in answer.one] == [
        *("SpecificCharacterSet", "PatientName", "ScheduledProcedureStepSequence")
    ]
    assert [each.keyword for each in answer.step] == ["ScheduledProcedureStepID"]
    assert whole.statuses == [0xFF00, 0]
    listed = {row.path[1] for row in ROWS if len(row.path) == 2 and row.path[0] == 0x00400100}
    assert {each.tag for each in whole.step} == listed


# --- the text below Table 3.7 ---------------------------------------------------------------------------------------

DATE, TIME = "ScheduledProcedureStepStartDate", "ScheduledProcedureStepStartTime"


async def test_3_7_date_and_time_are_matched_each_for_itself(tmp_path: Path) -> None:
    late = entry(1, start_date=date(2024, 7, 6), start_time=time(20))
    async with example(tmp_path, [ENTRY, late]) as site:
        assert (await site.find({DATE: "20240705-20240707"})).steps == ["SPS17", "SPS1"]
        assert (await site.find({DATE: "20240705-20240707", TIME: "1000-1800"})).steps == ["SPS17"]


async def test_3_7_a_range_of_times_without_a_date_means_today(tmp_path: Path) -> None:
    async with example(tmp_path, [ENTRY, entry(1, start_date=date(2024, 7, 6), start_time=time(11))]) as site:
        assert (await site.find({TIME: "1000-1800"})).steps == ["SPS17"]


@pytest.mark.parametrize("key", [{DATE: "2024*"}, {TIME: "10*"}, {DATE: "*", TIME: "*"}])
async def test_3_7_wild_cards_in_dates_and_times_do_no_harm(tmp_path: Path, key: dict[str, str]) -> None:
    async with example(tmp_path) as site:
        answer: Answer = await site.find(key)
    assert answer.statuses[-1] == 0


async def test_3_7_no_match_is_success(tmp_path: Path) -> None:
    async with example(tmp_path) as site:
        assert (await site.find(PatientID="NOBODY")).statuses == [0]
