"""R-055 to R-071: identifiers of patients, derived values, and failures."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import pytest
from outside import Serve, break_store
from raw_client import (
    CONTEXTS,
    VERIFICATION,
    WORKLIST,
    associate_rq,
    command,
    element,
    find_rq,
    message,
    raw_client,
)
from samples import entry

from mwl.config import ConfigError, from_table
from mwl.item import PatientIdentifier

CITY, REGION, OLD = PatientIdentifier("1001", "CITY"), PatientIdentifier("R77", "REGION"), PatientIdentifier("O5")
MANY = (CITY, REGION, OLD)
ID_KEYS = dict.fromkeys(
    ("PatientID", "IssuerOfPatientID", "TypeOfPatientID", "OtherPatientIDs", "OtherPatientIDsSequence"), ""
)


# --- identifiers ----------------------------------------------------------------------------------------------------


async def test_R_055_one_list_mixes_patients_of_several_domains(serve: Serve) -> None:
    site = await serve(entry(1, identifiers=(CITY,)), entry(2, identifiers=(REGION,)), entry(3, identifiers=MANY))
    answer = await site.find(**ID_KEYS)
    found = [(match.PatientID, match.IssuerOfPatientID) for match in answer.matches]
    assert found == [("1001", "CITY"), ("R77", "REGION"), ("1001", "CITY")]


async def test_R_056_the_primary_domain_is_configured_for_a_worklist_or_a_caller(serve: Serve) -> None:
    remote = [{"title": "CT7", "primary_patient_id_issuer": "CITY"}]
    site = await serve(entry(1, identifiers=MANY), tables={"remote": remote}, primary_patient_id_issuer="REGION")
    for calling, expected in (("CT1", ("R77", "REGION")), ("CT7", ("1001", "CITY"))):
        match = (await site.find(calling=calling, **ID_KEYS)).one
        assert (match.PatientID, match.IssuerOfPatientID) == expected


async def test_R_056_a_patient_unknown_to_the_primary_domain_has_the_first_identifier_and_the_log_says_so_once(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="mwl")
    site = await serve(entry(1, identifiers=MANY), entry(2), primary_patient_id_issuer="R-056")
    match, _ = (await site.find(**ID_KEYS)).matches
    assert (match.PatientID, match.IssuerOfPatientID) == ("1001", "CITY")
    told = [record.getMessage() for record in caplog.records if "R-056" in record.getMessage()]
    assert len(told) == 1
    assert "1001" not in told[0]


async def test_R_057_all_other_identifiers_are_told_twice(serve: Serve) -> None:
    site = await serve(entry(1, identifiers=MANY))
    match = (await site.find(**ID_KEYS)).one
    assert list(match.OtherPatientIDs) == ["R77", "O5"]
    others = match.OtherPatientIDsSequence
    assert [(each.PatientID, each.IssuerOfPatientID, each.TypeOfPatientID) for each in others] == [
        ("R77", "REGION", "TEXT"),
        ("O5", "", "TEXT"),
    ]


async def test_R_057_without_other_identifiers_both_are_empty(serve: Serve) -> None:
    site = await serve(entry(1, identifiers=(CITY,)))
    match = (await site.find(**ID_KEYS)).one
    assert match["OtherPatientIDs"].is_empty
    assert match["OtherPatientIDsSequence"].value == []


async def test_R_058_patient_id_matches_the_primary_identifier_only(serve: Serve) -> None:
    site = await serve(entry(1, identifiers=MANY))
    assert (await site.find(PatientID="1001")).steps == ["SPS1"]
    assert (await site.find(PatientID="R77")).steps == []
    assert (await site.find(PatientID="1001", IssuerOfPatientID="CITY")).steps == ["SPS1"]
    assert (await site.find(PatientID="1001", IssuerOfPatientID="REGION")).steps == []


async def test_R_058_other_identifiers_match_if_so_configured(serve: Serve) -> None:
    site = await serve(entry(1, identifiers=MANY), match_other_patient_ids=True)
    assert (await site.find(PatientID="R77")).one.PatientID == "1001"
    assert (await site.find(PatientID="R77", IssuerOfPatientID="REGION")).steps == ["SPS1"]
    assert (await site.find(PatientID="R77", IssuerOfPatientID="CITY")).steps == []


# --- derived values -------------------------------------------------------------------------------------------------

AGES = [
    (date(1984, 7, 4), "040Y"),
    (date(1984, 7, 5), "040Y"),
    (date(1984, 7, 6), "039Y"),
    (date(2022, 7, 5), "002Y"),
    (date(2022, 7, 6), "023M"),
    (date(2024, 6, 5), "001M"),
    (date(2024, 6, 6), "029D"),
    (date(2024, 7, 5), "000D"),
    (date(2024, 7, 6), ""),
    (None, ""),
]


async def test_R_060_the_age_is_that_of_today(serve: Serve) -> None:
    site = await serve(*(entry(n, birth_date=born) for n, (born, _) in enumerate(AGES)))
    answer = await site.find(PatientAge="")
    assert [str(match.PatientAge or "") for match in answer.matches] == [age for _, age in AGES]


async def test_R_060_who_was_born_on_29_february_is_older_on_1_march(serve: Serve) -> None:
    site = await serve(entry(1, birth_date=date(2000, 2, 29)))
    ages = []
    for day in (datetime(2023, 2, 28), datetime(2023, 3, 1), datetime(2024, 2, 28), datetime(2024, 2, 29)):
        site.clock.now = day
        ages.append((await site.find(PatientAge="")).one.PatientAge)
    assert ages == ["022Y", "023Y", "023Y", "024Y"]


async def test_R_060_an_age_is_not_frozen_over_midnight(serve: Serve) -> None:
    site = await serve(entry(1, birth_date=date(1984, 7, 6)), now=datetime(2024, 7, 5, 23, 59, 59))
    assert (await site.find(PatientAge="")).one.PatientAge == "039Y"
    site.clock.now = datetime(2024, 7, 6)
    assert (await site.find(PatientAge="")).one.PatientAge == "040Y"


async def test_R_061_sex_is_m_f_o_or_empty(serve: Serve) -> None:
    site = await serve(*(entry(n, sex=sex) for n, sex in enumerate("MFO")), entry(9))
    answer = await site.find(PatientSex="")
    assert [match.PatientSex or "" for match in answer.matches] == ["M", "F", "O", ""]


PREGNANCY = [(1, "F", 1), (2, "F", 2), (3, "F", 3), (None, "F", 4), (None, "M", 1), (None, "", 4), (4, "M", 4)]


async def test_R_062_pregnancy_status_is_that_of_the_order_or_by_sex(serve: Serve) -> None:
    entries = [entry(n, pregnancy_status=status, sex=sex) for n, (status, sex, _) in enumerate(PREGNANCY)]
    site = await serve(*entries)
    answer = await site.find(PregnancyStatus="")
    assert [match.PregnancyStatus for match in answer.matches] == [expected for *_, expected in PREGNANCY]


EMPTY = (
    *("NamesOfIntendedRecipientsOfResults", "ConfidentialityConstraintOnPatientDataDescription"),
    *("AdditionalPatientHistory", "MedicalAlerts", "Allergies", "SpecialNeeds"),
)
FILLED: dict[str, Any] = {
    "intended_recipients": ("House^Gregory",),
    "confidentiality": "secret",
    "additional_history": "long",
    "medical_alerts": ("pacemaker", "MRSA"),
    "allergies": ("nuts",),
    "special_needs": "wheelchair",
}


async def test_R_063_fixed_values_are_the_same_for_every_entry(serve: Serve) -> None:
    site = await serve(entry(1, **FILLED), always_empty=list(EMPTY))
    keys = dict.fromkeys((*EMPTY, "TypeOfPatientID", "ReferencedStudySequence", "ReferencedPatientSequence"), "")
    match = (await site.find(**keys)).one
    assert match.TypeOfPatientID == "TEXT"
    (study,) = match.ReferencedStudySequence
    assert (study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID) == ("1.2.840.10008.3.1.2.3.1", "1.2.3.1")
    assert match["ReferencedPatientSequence"].value == []
    assert [keyword for keyword in EMPTY if not match[keyword].is_empty] == []


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "ScheduledProcedureStepSequence", "PatientName"])
def test_R_063_what_every_answer_must_have_cannot_be_configured_away(keyword: str) -> None:
    with pytest.raises(ConfigError, match="type 1"):
        from_table({"ae": [{"title": "WORKLIST", "always_empty": [keyword]}]})


async def test_R_063_what_is_safety_information_is_told_unless_configured_otherwise(serve: Serve) -> None:
    site = await serve(entry(1, **FILLED))
    match = (await site.find(**dict.fromkeys(EMPTY, ""))).one
    assert [keyword for keyword in EMPTY if match[keyword].is_empty] == []
    assert list(match.MedicalAlerts) == ["pacemaker", "MRSA"]


async def test_R_064_physicians_are_person_names(serve: Serve) -> None:
    values = {"requesting_physician": "House^Gregory", "referring_physician": "Wilson^James^^Dr"}
    site = await serve(entry(1, performing_physician="Cuddy^Lisa", **values))
    keys = {"RequestingPhysician": "", "ReferringPhysicianName": ""}
    answer = await site.find({"ScheduledPerformingPhysicianName": ""}, **keys)
    assert answer.one.RequestingPhysician.family_name == "House"
    assert answer.one.ReferringPhysicianName.name_prefix == "Dr"
    assert answer.step.ScheduledPerformingPhysicianName.given_name == "Lisa"


# --- failures -------------------------------------------------------------------------------------------------------


async def test_R_070_queries_fail_while_the_source_cannot_be_read_and_echo_does_not(serve: Serve) -> None:
    site = await serve(entry(1))
    connection = break_store(site)
    async with site.connect() as association:
        answer = await site.eventually(lambda answer: answer.statuses[-1] != 0)
        assert (answer.statuses, answer.steps) == ([0xC001], [])
        assert answer.comment
        assert await association.c_echo() == 0
    connection.execute("ALTER TABLE lost RENAME TO log")
    assert (await site.eventually(lambda answer: answer.statuses[-1] == 0)).steps == ["SPS1"]


UNREADABLE = {
    "a length that runs past the end": element(0x00100010, b"ABCD")[:-2],
    "a cut header": element(0x00100010, b"") + b"\x10\0\x20",
    "a sequence of no items": element(0x00400100, element(0x00080060, b"CT")),
}


@pytest.mark.parametrize("name", UNREADABLE)
async def test_R_071_an_identifier_that_cannot_be_read_is_c003(serve: Serve, name: str) -> None:
    site = await serve(entry(1))
    async with raw_client(site.port) as client:
        await client.associate()
        client.send(message(3, find_rq(1), UNREADABLE[name]))
        response = await client.response()
        assert (response.status, response.identifier) == (0xC003, b"")
        assert 0 < len(response.comment) <= 64
        client.send(message(3, find_rq(2), element(0x00100010, b"")))
        assert [response.status for response in await client.responses()] == [0xFF00, 0]


async def test_R_071_a_query_without_identifier_is_c003(serve: Serve) -> None:
    site = await serve(entry(1))
    async with raw_client(site.port) as client:
        await client.associate()
        client.send(message(3, find_rq(1, data_set_type=0x0101)))
        response = await client.response()
    assert (response.status, response.comment) == (0xC003, "identifier missing")


async def test_R_071_a_query_retrieve_level_is_ignored(serve: Serve) -> None:
    site = await serve(entry(1), entry(2))
    answer = await site.find({"Modality": "CT"}, QueryRetrieveLevel="STUDY")
    assert answer.steps == ["SPS1", "SPS2"]
    assert answer.statuses == [0xFF00, 0xFF00, 0]
    assert "QueryRetrieveLevel" not in answer.matches[0]


STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"


async def test_R_071_another_sop_class_than_the_context_s_is_0122(serve: Serve) -> None:
    site = await serve(entry(1))
    async with raw_client(site.port) as client:
        await client.associate()
        client.send(message(3, find_rq(1, STUDY_ROOT_FIND), element(0x00100010, b"")))
        assert (await client.response()).status == 0x0122
        client.send(message(1, find_rq(2, WORKLIST), element(0x00100010, b"")))
        assert (await client.response()).status == 0x0122
        client.send(message(1, find_rq(3, VERIFICATION), element(0x00100010, b"")))
        assert (await client.response()).status == 0x0122


async def test_R_071_an_unknown_command_is_0211(serve: Serve) -> None:
    site = await serve(entry(1))
    async with raw_client(site.port) as client:
        await client.associate(associate_rq(contexts=CONTEXTS))
        client.send(message(3, command({0x0002: WORKLIST, 0x0100: 0x0140, 0x0110: 9, 0x0800: 1}), b""))
        response = await client.response()
    assert (response.status, response.answers) == (0x0211, 9)
    assert response.fields[0x0100] == b"\x40\x81"
