"""R-030 to R-051: verification, queries, and what is answered."""

from __future__ import annotations

from datetime import date, datetime, time

import pytest
from outside import Serve, ask, break_store, identifier
from raw_client import (
    ALL_SYNTAXES,
    VERIFICATION,
    WORKLIST,
    associate_rq,
    echo_rq,
    element,
    find_rq,
    message,
    raw_client,
    sequence,
)
from samples import entry

from dulproto import DataSet, Element
from mwl.attributes import ATTRIBUTES, CHILDREN, SPS_SEQUENCE, Attribute
from mwl.http.metrics import metrics_text
from mwl.item import Code, PatientIdentifier

PATIENT_NAME = element(0x00100010, b"")


# --- verification ---------------------------------------------------------------------------------------------------


async def test_R_030_echo_is_success_on_every_accepted_context(serve: Serve) -> None:
    site = await serve()
    contexts = [(2 * n + 1, VERIFICATION, [syntax]) for n, syntax in enumerate(ALL_SYNTAXES)]
    async with raw_client(site.port) as client:
        await client.associate(associate_rq(contexts=[*contexts, (7, WORKLIST, ALL_SYNTAXES)]))
        for context_id in (1, 3, 5, 7):
            client.send(message(context_id, echo_rq(context_id)))
            response = await client.response()
            assert (response.context_id, response.status, response.answers) == (context_id, 0, context_id)


async def test_R_030_echo_is_success_though_the_source_is_down(serve: Serve) -> None:
    site = await serve()
    break_store(site)
    async with site.connect() as association:
        assert await association.c_echo() == 0


# --- what is listed -------------------------------------------------------------------------------------------------

LISTED = [
    (entry(1, location="RAD"), True),
    (entry(2, location="RAD", modality="MR"), False),
    (entry(3, location="RAD", station_ae_titles=("CT2",)), False),
    (entry(4, location="RAD", station_ae_titles=("CT2", "CT1")), True),
    (entry(5, location="ELSEWHERE"), False),
    (entry(6, location="RAD", start_date=date(2024, 7, 4)), True),
    (entry(7, location="RAD", start_date=date(2024, 7, 3)), False),
    (entry(8, location="RAD", start_date=date(2024, 7, 7)), True),
    (entry(9, location="RAD", start_date=date(2024, 7, 8)), False),
    (entry(10, location="RAD", status="ARRIVED"), True),
    (entry(11, location="RAD", status="STARTED"), False),
    (entry(12, location="RAD", status="CANCELED"), False),
]


async def test_R_040_a_universal_query_returns_exactly_the_filtered_list(serve: Serve) -> None:
    listed = {"modality": ["CT"], "location": ["RAD"], "days_back": 1, "days_ahead": 2}
    remote = [{"title": "CT1", "filter": {"station_ae_title": ["CT1"]}}]
    site = await serve(*(one for one, _ in LISTED), tables={"remote": remote}, filter=listed)
    expected = {one.step.step_id for one, is_listed in LISTED if is_listed}
    assert set((await site.find()).steps) == expected
    assert set((await site.find(calling="CT7")).steps) == expected | {"SPS3"}


async def test_R_040_the_window_of_days_moves_with_the_day(serve: Serve) -> None:
    site = await serve(entry(1, start_date=date(2024, 7, 6)), filter={"days_back": 0, "days_ahead": 0})
    assert (await site.find()).steps == []
    site.clock.now = datetime(2024, 7, 6, 0, 0, 1)
    assert (await site.find()).steps == ["SPS1"]


async def test_R_041_a_remote_whose_keys_are_not_honoured_gets_the_filtered_list(serve: Serve) -> None:
    remote = [{"title": "OLD", "honour_matching_keys": False}]
    site = await serve(entry(1), entry(2, modality="MR"), tables={"remote": remote})
    keys = {"Modality": "MR", "ScheduledProcedureStepStartDate": "19990101"}
    assert (await site.find(keys, PatientName="NOBODY")).steps == []
    answer = await site.find(keys, calling="OLD", PatientName="NOBODY")
    assert answer.steps == ["SPS1", "SPS2"]
    assert [str(match.PatientName) for match in answer.matches] == ["Doe^John1", "Doe^John2"]


# --- matching -------------------------------------------------------------------------------------------------------

OTHER = entry(
    2,
    name="Roe^Rachel",
    identifiers=(PatientIdentifier("4711"),),
    modality="MR",
    station_ae_titles=("CT2",),
    start_date=date(2024, 7, 6),
    start_time=time(11),
    performing_physician="Curie^Marie",
    description="MR head",
    location="R2",
)
DATE, TIME = "ScheduledProcedureStepStartDate", "ScheduledProcedureStepStartTime"
PHYSICIAN = "ScheduledPerformingPhysicianName"

BY_STATEMENT = [
    ({"ScheduledStationAETitle": "CT2"}, {}, True),
    ({"ScheduledStationAETitle": "CT9"}, {}, False),
    ({"Modality": "MR"}, {}, True),
    ({"Modality": "M"}, {}, False),
    ({DATE: "20240706"}, {}, True),
    ({DATE: "20240706-"}, {}, True),
    ({DATE: "-20240705"}, {}, False),
    ({TIME: "110000"}, {}, True),
    ({DATE: "20240701-", TIME: "1100-1130"}, {}, True),
    ({DATE: "20240701-", TIME: "1101-1130"}, {}, False),
    ({PHYSICIAN: "curie^marie"}, {}, True),
    ({PHYSICIAN: "CURIE*"}, {}, True),
    ({PHYSICIAN: "CURIE"}, {}, False),
    ({}, {"PatientName": "roe^rachel"}, True),
    ({}, {"PatientName": "?OE^r*"}, True),
    ({}, {"PatientName": "ROE"}, False),
    ({}, {"PatientID": "4711"}, True),
    ({}, {"PatientID": "471"}, False),
    ({}, {"AccessionNumber": "ACC2"}, True),
    ({}, {"AccessionNumber": "acc2"}, False),
    ({"Modality": "MR"}, {"PatientID": "4711"}, True),
    ({"Modality": "CT"}, {"PatientID": "4711"}, False),
]


@pytest.mark.parametrize("matching", ["statement", "all"])
async def test_R_042_each_key_of_the_statement_matches_in_its_kinds(serve: Serve, matching: str) -> None:
    site = await serve(OTHER, matching=matching)
    found = [(step, root, (await site.find(step, **root)).steps == ["SPS2"]) for step, root, _ in BY_STATEMENT]
    assert found == BY_STATEMENT


async def test_R_042_every_other_key_is_returned_and_not_matched(serve: Serve) -> None:
    site = await serve(OTHER, matching="statement")
    answer = await site.find(
        {"ScheduledStationName": "WRONG", "ScheduledProcedureStepLocation": "WRONG"},
        RequestedProcedureDescription="WRONG",
        RequestedProcedureID="WRONG",
        StudyInstanceUID="9.9.9",
        PatientBirthDate="19000101",
    )
    assert answer.statuses == [0xFF00, 0]
    assert answer.one.RequestedProcedureDescription == "MR head"
    assert answer.step.ScheduledProcedureStepLocation == "R2"
    assert (answer.one.RequestedProcedureID, answer.one.StudyInstanceUID) == ("RP2", "1.2.3.2")
    assert answer.one.PatientBirthDate == ""


AT_NIGHT = [
    entry(number, start_date=date(2024, 7, day), start_time=time(hour))
    for number, day, hour in ((1, 5, 9), (2, 5, 11), (3, 6, 12), (4, 6, 20), (5, 7, 17), (6, 7, 19))
]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [(None, [2, 3, 4, 5]), ("combined", [2, 3, 4, 5]), ("independent", [2, 3, 5])],
)
async def test_R_043_a_date_and_a_time_range_are_one_period_or_two_keys(
    serve: Serve, mode: str | None, expected: list[int]
) -> None:
    site = await serve(*AT_NIGHT, **({"datetime_matching": mode} if mode else {}))
    answer = await site.find({DATE: "20240705-20240707", TIME: "1000-1800"})
    assert answer.steps == [f"SPS{number}" for number in expected]


async def test_R_044_a_range_of_times_alone_means_today(serve: Serve) -> None:
    site = await serve(*AT_NIGHT)
    assert (await site.find({TIME: "1000-2100"})).steps == ["SPS2"]
    assert (await site.find({TIME: "1000-2100", DATE: ""})).steps == ["SPS2"]
    site.clock.now = datetime(2024, 7, 6, 8)
    assert (await site.find({TIME: "1000-2100"})).steps == ["SPS3", "SPS4"]


async def test_R_044_a_single_time_or_none_adds_no_date(serve: Serve) -> None:
    site = await serve(*AT_NIGHT)
    assert (await site.find({TIME: "2000"})).steps == ["SPS4"]
    assert len((await site.find({TIME: ""})).steps) == len(AT_NIGHT)


@pytest.mark.parametrize("keyword", [DATE, TIME])
@pytest.mark.parametrize("value", ["*", "2024*", "??????", "10*"])
async def test_R_045_wild_cards_in_dates_and_times_are_never_an_error(serve: Serve, keyword: str, value: str) -> None:
    site = await serve(*AT_NIGHT)
    answer = await site.find({keyword: value})
    assert answer.statuses == [0xFF00] * len(AT_NIGHT) + [0]


# --- answers --------------------------------------------------------------------------------------------------------


async def test_R_046_no_match_is_one_success_without_identifier(serve: Serve) -> None:
    site = await serve(entry(1))
    async with raw_client(site.port) as client:
        await client.associate()
        client.send(message(3, find_rq(7), element(0x00100010, b"NOBODY")))
        response = await client.response()
    assert (response.status, response.answers, response.identifier) == (0, 7, b"")
    assert response.fields[0x0800] == b"\x01\x01"


async def test_R_047_each_match_is_one_pending_response_and_the_last_one_is_success(serve: Serve) -> None:
    site = await serve(entry(1), entry(2))
    async with raw_client(site.port) as client:
        await client.associate()
        client.send(message(3, find_rq(7), PATIENT_NAME))
        found = await client.responses()
    assert [response.status for response in found] == [0xFF00, 0xFF00, 0]
    assert {response.answers for response in found} == {7}
    assert {response.fields[0x0002] for response in found} == {WORKLIST.encode()}
    assert [bool(response.identifier) for response in found] == [True, True, False]


async def test_R_048_an_item_s_keys_match_within_the_sequence(serve: Serve) -> None:
    codes = (Code("HEAD", "99A", "head"), Code("NECK", "99B", "neck"))
    site = await serve(entry(1, protocol_codes=codes), entry(2))
    for scheme, expected in (("99A", ["SPS1"]), ("99B", [])):
        item = identifier(None, CodeValue="HEAD", CodingSchemeDesignator=scheme)
        assert (await site.find({"ScheduledProtocolCodeSequence": [item]})).steps == expected


@pytest.mark.parametrize("step", [element(SPS_SEQUENCE, b""), sequence(SPS_SEQUENCE, b"")])
async def test_R_048_an_empty_sequence_asks_for_the_whole_item(serve: Serve, step: bytes) -> None:
    site = await serve(entry(1), entry(2))
    answer = await site.ask(step, transfer_syntaxes=ALL_SYNTAXES[:1])
    assert answer.steps == ["SPS1", "SPS2"]
    wanted = {child.tag for child in CHILDREN[(SPS_SEQUENCE,)]}
    assert {each.tag for each in answer.matches[0].ScheduledProcedureStepSequence[0]} == wanted


async def test_R_049_only_what_is_asked_for_is_returned_and_the_character_set(serve: Serve) -> None:
    site = await serve(OTHER)
    answer = await site.ask(identifier({"Modality": ""}, PatientID="", AccessionNumber=""))
    assert [each.keyword for each in answer.one] == [
        *("SpecificCharacterSet", "AccessionNumber", "PatientID", "ScheduledProcedureStepSequence")
    ]
    assert [each.keyword for each in answer.step] == ["Modality"]


def everything(path: tuple[int, ...] = ()) -> DataSet:
    """A key for every attribute of the table, all of them empty."""
    return {child.tag: _key(child) for child in CHILDREN.get(path, ())}


def _key(attribute: Attribute) -> Element:
    items = (everything(attribute.path),) if attribute.vr == "SQ" else b""
    return Element(attribute.tag, attribute.vr, items)


async def test_R_049_what_has_no_value_is_returned_empty_and_sequences_without_empty_items(serve: Serve) -> None:
    site = await serve(entry(1))
    answer = await site.ask(everything())
    assert answer.statuses == [0xFF00, 0]
    assert {each.tag for each in answer.one} == {child.path[0] for child in ATTRIBUTES}
    assert answer.one["PatientBirthDate"].is_empty
    assert answer.one["RequestedProcedureDescription"].is_empty
    assert answer.one["RequestedProcedureCodeSequence"].value == []
    assert answer.step["ScheduledProtocolCodeSequence"].value == []
    assert answer.step["PreMedication"].is_empty


SETS = ["", "ISO_IR 192", "ISO_IR 144", "ISO 2022 IR 6\\ISO 2022 IR 87", "NONSENSE"]


@pytest.mark.parametrize("requested", [None, *SETS])
async def test_R_050_answers_are_in_latin_1_whatever_is_requested(serve: Serve, requested: str | None) -> None:
    site = await serve(entry(1, name="Müller^Jörg"))
    keys = identifier({}, PatientName="", **({} if requested is None else {"SpecificCharacterSet": requested}))
    answer = await site.ask(keys)
    assert answer.one.SpecificCharacterSet == "ISO_IR 100"
    assert "Müller^Jörg".encode("latin_1") in answer.identifiers[0]


async def test_R_050_what_latin_1_does_not_have_is_transliterated_or_marked(serve: Serve) -> None:
    site = await serve(entry(1, name="Łukasz^山", description="Żak 山"))
    answer = await site.find(PatientName="", RequestedProcedureDescription="")
    assert str(answer.one.PatientName) == "Lukasz^?"
    assert answer.one.RequestedProcedureDescription == "Zak ?"


async def test_R_050_the_log_says_once_that_a_set_does_not_do(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    terms = "ISO 2022 IR 148\\ISO 2022 IR 166\\ISO 2022 IR 101"  # no other test has it, and once is once
    caplog.set_level("INFO", logger="mwl")
    site = await serve(entry(1, name="Łukasz^山"), entry(2, name="山"), character_set=terms)
    await site.find(PatientName="")
    told = [record.getMessage() for record in caplog.records if terms in record.getMessage()]
    assert len(told) == 1
    assert "山" not in told[0]


async def test_R_050_characters_that_are_lost_are_counted(serve: Serve) -> None:
    site = await serve(entry(1, name="Łukasz^山田"), entry(2, name="Yamada^Tarou=山田^太郎"))
    before = (await site.running.report()).lost_characters
    for _ in range(2):  # the second answer is the first one
        answer = await site.find(PatientName="")
    assert [str(match.PatientName) for match in answer.matches] == ["Lukasz^??", "Yamada^Tarou"]
    after = await site.running.report()
    assert after.lost_characters - before == 2
    assert f"mwl_dicom_lost_characters_total {after.lost_characters}" in metrics_text(site.running, after)


async def test_R_050_a_remote_may_have_another_set(serve: Serve) -> None:
    remote = [{"title": "CT7", "character_set": "ISO_IR 192"}]
    site = await serve(entry(1, name="Łukasz^山"), tables={"remote": remote})
    answer = await site.find(calling="CT7", PatientName="")
    assert (answer.one.SpecificCharacterSet, str(answer.one.PatientName)) == ("ISO_IR 192", "Łukasz^山")


@pytest.mark.parametrize(("term", "encoding"), [("ISO_IR 100", "latin_1"), ("ISO_IR 192", "utf_8")])
async def test_R_051_the_request_s_set_decodes_its_values_and_is_not_matched(
    serve: Serve, term: str, encoding: str
) -> None:
    site = await serve(entry(1, name="Müller^Jörg"), entry(2))
    keys = identifier({"ScheduledProcedureStepID": ""}, encoding, PatientName="MÜLLER*", SpecificCharacterSet=term)
    async with site.connect() as association:
        assert (await ask(association, keys)).steps == ["SPS1"]
