"""Q-01 to Q-23: odd values and keys that devices send."""

from __future__ import annotations

from datetime import date, time
from struct import pack
from typing import Any

from outside import Serve, identifier
from raw_client import EXPLICIT_LE, IMPLICIT_LE, element, find_rq, message, raw_client, sequence
from samples import entry

from mwl.item import PatientIdentifier

DATE, TIME, STATION = "ScheduledProcedureStepStartDate", "ScheduledProcedureStepStartTime", "ScheduledStationAETitle"

ENTRIES = (
    entry(1, name="Smith^John", identifiers=(PatientIdentifier("007"),)),
    entry(2, name="Müller", modality="MR", station_ae_titles=("MR1",), start_time=time(10, 30)),
    entry(3, name="Smith^Jane", start_date=date(2024, 7, 6), modality="US", start_time=time(23, 59, 59, 999999)),
)
ALL = ["SPS1", "SPS2", "SPS3"]

# Quirk, keys of the step, keys at the root, and what is found.
CASES: list[tuple[str, dict[str, Any], dict[str, Any], list[str]]] = [
    ("Q-02 trailing NUL", {"Modality": b"MR\0"}, {}, ["SPS2"]),
    ("Q-02 spaces and NUL mixed", {STATION: b" MR1 \0 \0"}, {}, ["SPS2"]),
    ("Q-02 NUL inside", {}, {"PatientID": b"007\0garbage"}, ["SPS1"]),
    ("Q-02 a UID padded with a space", {}, {"StudyInstanceUID": b"1.2.3.1 "}, ["SPS1"]),
    ("Q-03 asterisks alone", {}, {"PatientName": "***"}, ALL),
    ("Q-03 in each component", {}, {"PatientName": "*^*"}, ALL),
    ("Q-03 any character", {}, {"PatientName": "?*"}, ALL),
    ("Q-04 a range of one day", {DATE: "20240706-20240706"}, {}, ["SPS3"]),
    ("Q-05 spaces in a range", {DATE: "20240706 - 20240707"}, {}, ["SPS3"]),
    ("Q-05 a space at its end", {DATE: "20240706- "}, {}, ["SPS3"]),
    ("Q-05 backwards", {DATE: "20240707-20240701"}, {}, []),
    ("Q-06 a hyphen alone", {DATE: "-"}, {}, ALL),
    ("Q-07 dots", {DATE: "2024.07.06"}, {}, ["SPS3"]),
    ("Q-07 hyphens", {DATE: "2024-07-06"}, {}, ["SPS3"]),
    ("Q-07 colons", {TIME: "10:30:00"}, {}, ["SPS2"]),
    ("Q-08 date and time in a date", {DATE: "20240706120000"}, {}, ["SPS3"]),
    ("Q-08 in a range of dates", {DATE: "-20240705171717"}, {}, ["SPS1", "SPS2"]),
    ("Q-08 date and time in a time", {TIME: "20240705103000"}, {}, ["SPS2"]),
    ("Q-09 an hour", {TIME: "10"}, {}, ["SPS1", "SPS2"]),
    ("Q-09 a minute", {TIME: "1030"}, {}, ["SPS2"]),
    ("Q-09 microseconds", {TIME: "235959.999999"}, {}, ["SPS3"]),
    ("Q-09 the end of the day", {TIME: "2359-240000", DATE: "20240706-20240706"}, {}, ["SPS3"]),
    ("Q-10 no date at all", {DATE: "TODAY"}, {}, ALL),
    ("Q-10 a day that is not", {DATE: "20240732"}, {}, ALL),
    ("Q-11 several modalities", {"Modality": "MR\\US"}, {}, ["SPS2", "SPS3"]),
    ("Q-11 several stations", {STATION: "MR1\\XX"}, {}, ["SPS2"]),
    ("Q-12 an asterisk alone", {STATION: "*", "Modality": "*"}, {"PatientID": "*", "AccessionNumber": "*"}, ALL),
    ("Q-12 a pattern", {STATION: "MR*"}, {}, ["SPS2"]),
    ("Q-13 small letters", {"Modality": "mr", STATION: "mr1"}, {}, ["SPS2"]),
    ("Q-17 leading zeros", {}, {"PatientID": "7"}, []),
    ("Q-17 as it is", {}, {"PatientID": "007"}, ["SPS1"]),
    ("Q-18 no caret", {}, {"PatientName": "SMITH JOHN"}, []),
    ("Q-19 carets at the end", {}, {"PatientName": "SMITH^JOHN^^^"}, ["SPS1"]),
    ("Q-19 double spaces", {}, {"PatientName": "SMITH ^ JOHN"}, ["SPS1"]),
    ("Q-19 blank fields", {}, {"PatientName": "^"}, ALL),
    ("Q-19 blank fields of five components", {}, {"PatientName": "^^^^"}, ALL),
    ("Q-19 blank groups", {}, {"PatientName": "=="}, ALL),
    ("Q-19 blank fields and an asterisk", {}, {"PatientName": "^*"}, ALL),
    ("Q-19 a given name alone", {}, {"PatientName": "^John"}, []),
    ("Q-20 no accent", {}, {"PatientName": "MULLER"}, []),
    ("Q-23 a whole century", {DATE: "20000101-20991231"}, {}, ALL),
]


async def test_Q_02_Q_03_Q_04_Q_05_Q_06_Q_07_Q_08_Q_09_Q_10_Q_11_Q_12_Q_13_Q_17_Q_18_Q_19_Q_20_Q_23_as_they_are_sent(
    serve: Serve,
) -> None:
    site = await serve(*ENTRIES)
    found = []
    for quirk, step, root, _ in CASES:
        answer = await site.find(step, **root)
        assert answer.statuses[-1] == 0, quirk
        found.append((quirk, step, root, answer.steps))
    assert found == CASES


async def test_Q_01_an_odd_length_is_read_as_it_is_and_none_is_written(serve: Serve) -> None:
    site = await serve(*ENTRIES)
    keys = element(0x00080050, b"ACC2 ") + element(0x00100010, b"") + element(0x00100020, b"")
    async with raw_client(site.port) as client:
        await client.associate()
        client.send(message(3, find_rq(), keys))
        found = await client.responses()
    assert [response.status for response in found] == [0xFF00, 0]
    assert len(found[0].identifier) % 2 == 0
    assert "Müller".encode("latin_1") in found[0].identifier


async def test_Q_10_strict_refuses_what_cannot_be_read(serve: Serve) -> None:
    site = await serve(*ENTRIES, strict=True)
    answer = await site.find({DATE: "TODAY"})
    assert (answer.statuses, answer.offending) == ([0xA900], (0x00400002,))
    assert "TODAY" not in answer.comment


async def test_Q_12_by_the_statement_a_wild_card_in_a_single_value_key_is_literal(serve: Serve) -> None:
    remote = [{"title": "WILD", "wildcards_in_single_value_keys": True}]
    site = await serve(*ENTRIES, tables={"remote": remote}, matching="statement")
    for keys in ({STATION: "MR*"}, {"Modality": "M?"}):
        assert (await site.find(keys)).steps == []
        assert (await site.find(keys, calling="WILD")).steps == ["SPS2"]
    assert (await site.find({STATION: "*"}, PatientID="*")).steps == ALL


async def test_Q_13_case_of_a_station_counts_if_so_configured(serve: Serve) -> None:
    site = await serve(*ENTRIES, ae_key_ignore_case=False)
    assert (await site.find({STATION: "mr1"})).steps == []
    assert (await site.find({STATION: "MR1"})).steps == ["SPS2"]


async def test_Q_14_a_station_that_the_device_cannot_set_is_supplied(serve: Serve) -> None:
    remote = [{"title": "MR1", "use_calling_as_station": True}, {"title": "FIXED", "station_ae_title": "MR1"}]
    site = await serve(*ENTRIES, tables={"remote": remote})
    for calling in ("MR1", "FIXED"):
        assert (await site.find({STATION: "WRONG"}, calling=calling)).steps == ["SPS2"]
        assert (await site.find(calling=calling)).steps == ["SPS2"]
        assert len((await site.ask(identifier(None, PatientName=""), calling=calling)).matches) == 1


async def test_Q_15_keys_of_the_step_at_the_root_count_where_the_sequence_has_none(serve: Serve) -> None:
    site = await serve(*ENTRIES)
    for step in (None, {}, {"ScheduledProcedureStepID": ""}):
        answer = await site.ask(identifier(step, Modality="MR", PatientName=""))
        assert [str(match.PatientName) for match in answer.matches] == ["Müller"]
        assert answer.one["Modality"].is_empty
        assert answer.step.Modality == "MR"
    answer = await site.ask(identifier({"Modality": "US"}, Modality="MR"))
    assert [match.ScheduledProcedureStepSequence[0].Modality for match in answer.matches] == ["US"]


async def test_Q_16_keys_of_other_services_do_not_match_and_do_not_harm(serve: Serve) -> None:
    site = await serve(*ENTRIES)
    keys = {"QueryRetrieveLevel": "STUDY", "SOPClassUID": "1.2.3", "SOPInstanceUID": "1.2.3"}
    answer = await site.find(**keys)
    assert answer.steps == ALL
    assert set(answer.statuses) == {0xFF00, 0}


async def test_Q_18_names_without_carets_are_found_if_so_configured(serve: Serve) -> None:
    site = await serve(*ENTRIES, lenient_pn=True)
    for name in ("SMITH JOHN", "smith, john", "Smith^John"):
        assert (await site.find(PatientName=name)).steps == ["SPS1"]


async def test_Q_20_accents_do_not_count_if_so_configured(serve: Serve) -> None:
    site = await serve(*ENTRIES, ignore_accents=True)
    assert (await site.find(PatientName="MULLER")).steps == ["SPS2"]


async def test_Q_21_a_key_may_be_longer_than_its_vr_but_not_than_1_kib(serve: Serve) -> None:
    site = await serve(*ENTRIES)
    titles = "\\".join(["MR1", *(f"STATION{n:09}" for n in range(50))])
    assert (await site.find({STATION: titles})).steps == ["SPS2"]
    answer = await site.find({STATION: titles * 2})
    assert (answer.statuses, answer.offending) == ([0xA900], (0x00400001,))


async def test_Q_22_a_value_of_the_wrong_type_is_everything(serve: Serve) -> None:
    site = await serve(*ENTRIES)
    step = sequence(0x00400100, element(0x00400009, b""))
    text_as_number = element(0x001021C0, b"four")
    assert (await site.ask(text_as_number + step, transfer_syntaxes=[IMPLICIT_LE])).steps == ALL
    text_as_sequence = pack("<HH2sH", 0x0032, 0x1064, b"LO", 8) + b"CT head "
    explicit_step = pack("<HH2sxxI", 0x0040, 0x0100, b"SQ", 16) + element(
        0xFFFEE000, pack("<HH2sH", 0x0040, 9, b"SH", 0)
    )
    assert (await site.ask(text_as_sequence + explicit_step, transfer_syntaxes=[EXPLICIT_LE])).steps == ALL


async def test_Q_23_a_huge_range_is_served_with_the_limit(serve: Serve) -> None:
    site = await serve(*ENTRIES, max_results=2)
    assert (await site.find({DATE: "19000101-21001231"})).steps == ["SPS1", "SPS2"]
