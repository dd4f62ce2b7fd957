"""Q-66 to Q-80: what devices need of an answer, and load."""

from __future__ import annotations

import asyncio
import socket
from datetime import date, datetime, time
from pathlib import Path

import msgspec
import pytest
from outside import Serve, ask, identifier
from raw_client import Accepted, Rejected, associate_rq, element, find_rq, message, raw_client
from samples import entry

from mwl.cli import main
from mwl.config import ConfigError, from_table
from mwl.dicom_json import entry_to_json
from mwl.item import Code, Entry

DATE = "ScheduledProcedureStepStartDate"


def many(count: int) -> list[Entry]:
    """Entries whose numbers run against the order of their starts."""
    return [entry(n, start_time=time(20 - n % 20, n % 60)) for n in range(1, count + 1)]


@pytest.mark.parametrize(("at_limit", "final"), [(None, 0), ("success", 0), ("out-of-resources", 0xA700)])
async def test_Q_66_a_limited_answer_has_the_steps_that_start_first(
    serve: Serve, at_limit: str | None, final: int
) -> None:
    remote = [{"title": "SMALL", "max_results": 3, **({"at_max_results": at_limit} if at_limit else {})}]
    entries = many(19)
    site = await serve(*entries, tables={"remote": remote})
    answer = await site.find(calling="SMALL")
    first = sorted(entries, key=lambda each: each.step.start_time or time())[:3]
    assert answer.steps == [each.step.step_id for each in first]
    assert answer.statuses == [0xFF00, 0xFF00, 0xFF00, final]
    assert len((await site.find()).steps) == 19


async def test_Q_67_a_device_that_does_not_read_is_aborted_and_others_are_served(serve: Serve) -> None:
    site = await serve(*many(4000), tables={"dicom": {"send_seconds": 0.2}})
    request = element(0x00400100, b"") + element(0x00321064, b"") + element(0x00100010, b"")
    sock = socket.create_connection(("127.0.0.1", site.port))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader, writer = await asyncio.open_connection(sock=sock, limit=1024)
    writer.write(associate_rq())
    await reader.readexactly(6)
    queries = [message(3, find_rq(n), request) for n in range(1, 9)]
    writer.write(b"".join(queries))
    async with site.connect() as other, asyncio.timeout(10):
        while len(site.running.server.connections) > 1:  # until the one that does not read is gone
            assert await other.c_echo() == 0
    writer.transport.abort()


async def test_Q_68_an_unsupported_key_makes_ff01_unless_the_device_stumbles_over_it(serve: Serve) -> None:
    site = await serve(entry(1), tables={"remote": [{"title": "OLD", "always_ff00": True}]})
    keys = identifier({"ScheduledProcedureStepID": ""}, StudyDescription="")
    answer = await site.ask(keys)
    assert answer.statuses == [0xFF01, 0]
    assert "StudyDescription" not in answer.one
    assert (await site.ask(keys, calling="OLD")).statuses == [0xFF00, 0]


async def test_Q_69_every_requested_key_is_there_and_in_ascending_order(serve: Serve) -> None:
    site = await serve(entry(1))
    wanted = ("PatientWeight", "PatientName", "AdmissionID", "RequestedProcedureComments", "PregnancyStatus")
    answer = await site.find(**dict.fromkeys(wanted, ""))
    assert {*wanted} < {each.keyword for each in answer.one}
    tags = list(answer.one.keys())
    assert tags == sorted(tags)


async def test_Q_70_the_character_set_is_left_out_of_ascii_if_so_configured(serve: Serve) -> None:
    site = await serve(entry(1), entry(2, name="Müller"), omit_ascii_character_set=True)
    first, second = (await site.find(PatientName="")).matches
    assert "SpecificCharacterSet" not in first
    assert second.SpecificCharacterSet == "ISO_IR 100"
    asked = await site.find(PatientName="", SpecificCharacterSet="")
    assert [match.SpecificCharacterSet for match in asked.matches] == ["ISO_IR 100"] * 2


async def test_Q_71_identifiers_that_a_modality_needs_are_the_same_in_every_answer(serve: Serve) -> None:
    site = await serve(entry(1))
    keys = {"StudyInstanceUID": "", "RequestedProcedureID": ""}
    answers = [(await site.find(**keys)) for _ in range(2)]
    found = [(each.one.StudyInstanceUID, each.one.RequestedProcedureID, *each.steps) for each in answers]
    assert found == [("1.2.3.1", "RP1", "SPS1")] * 2


async def test_Q_72_a_sequence_without_values_has_no_items(serve: Serve) -> None:
    code = identifier(None, CodeValue="", CodeMeaning="")
    site = await serve(entry(1, code=Code("", "", "")), entry(2, code=Code("H", "99A", "head")))
    answer = await site.find(RequestedProcedureCodeSequence=[code], PatientPrimaryLanguageCodeSequence=[code])
    assert [len(match.RequestedProcedureCodeSequence) for match in answer.matches] == [0, 1]
    assert [len(match.PatientPrimaryLanguageCodeSequence) for match in answer.matches] == [0, 0]


@pytest.mark.parametrize("keyword", ["AccessionNumber", "RequestedProcedureID"])
def test_Q_73_an_identifier_that_no_modality_can_hold_is_refused_at_intake(
    tmp_path: Path, keyword: str, capsys: pytest.CaptureFixture[str]
) -> None:
    configuration = tmp_path / "mwl.toml"
    configuration.write_text('[[ae]]\ntitle = "WORKLIST"\n')
    fits, too_long = "X" * 16, "X" * 17
    late = entry(2, **{"accession_number" if keyword == "AccessionNumber" else "procedure_id": fits})
    lines = [msgspec.json.encode(entry_to_json(each)).decode() for each in (entry(1), late)]
    (tmp_path / "orders.json").write_text("\n".join(lines).replace(fits, too_long))
    assert main(["import", "-c", str(configuration), str(tmp_path / "orders.json")]) == 1
    told = capsys.readouterr()
    assert f"{keyword} has 17 characters, SH holds 16" in told.out + told.err
    assert main(["list", "-c", str(configuration), "--json"]) == 0
    kept = capsys.readouterr().out
    assert "SPS1" in kept
    assert "SPS2" not in kept


async def test_Q_74_names_are_answered_as_a_simple_device_can_show_them(serve: Serve) -> None:
    remote = [
        {"title": "UPPER", "upper_case_names": True},
        {"title": "PLAIN", "character_set": "ISO_IR 6"},
        {"title": "SHORT", "name_components": 2},
    ]
    site = await serve(entry(1, name="Müller^Jörg^K^Dr"), tables={"remote": remote})
    names = {call: str((await site.find(calling=call, PatientName="")).one.PatientName) for call in _TITLES}
    assert names == {
        "CT1": "Müller^Jörg^K^Dr",
        "UPPER": "MÜLLER^JÖRG^K^DR",
        "PLAIN": "Muller^Jorg^K^Dr",
        "SHORT": "Müller^Jörg",
    }


_TITLES = ("CT1", "UPPER", "PLAIN", "SHORT")


async def test_Q_75_the_alphabetic_group_alone_if_so_configured(serve: Serve) -> None:
    remote = [{"title": "OLD", "alphabetic_names_only": True}]
    site = await serve(entry(1, name="Yamada^Tarou=山田^太郎"), tables={"remote": remote}, character_set="ISO_IR 192")
    assert str((await site.find(PatientName="")).one.PatientName) == "Yamada^Tarou=山田^太郎"
    assert str((await site.find(calling="OLD", PatientName="")).one.PatientName) == "Yamada^Tarou"


async def test_Q_76_a_remote_may_have_values_in_place_of_empty_ones(serve: Serve) -> None:
    remote = [{"title": "OLD", "default_values": {"PatientSex": "O", "PatientWeight": "70"}}]
    site = await serve(entry(1), entry(2, sex="F", patient_weight=55.5), tables={"remote": remote})
    answer = await site.find(calling="OLD", PatientSex="", PatientWeight="")
    assert [(match.PatientSex, float(match.PatientWeight)) for match in answer.matches] == [("O", 70), ("F", 55.5)]
    assert (await site.find(PatientSex="")).matches[0]["PatientSex"].is_empty


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PregnancyStatus", "unknown"),
        ("PregnancyStatus", "70000"),
        ("PatientBirthDate", "unknown"),
        ("PatientWeight", "heavy"),
        ("ReferringPhysicianName", "x" * 65),
        ("ReferencedPatientSequence", "x"),
        ("PatientID", "0"),
    ],
)
def test_Q_76_a_default_that_is_no_value_of_its_attribute_is_a_fault_of_the_configuration(
    keyword: str, value: str
) -> None:
    with pytest.raises(ConfigError, match=keyword):
        from_table({"ae": [{"title": "WORKLIST", "default_values": {keyword: value}}]})


async def test_Q_77_dates_are_widened_for_a_device_whose_clock_differs_and_its_time_zone_is_ignored(
    serve: Serve,
) -> None:
    remote = [{"title": "LATE", "day_tolerance": 1}]
    site = await serve(
        *(entry(day, start_date=date(2024, 7, day)) for day in (3, 4, 5, 6)), tables={"remote": remote}
    )
    keys = {DATE: "20240704"}
    assert (await site.find(keys, calling="LATE")).steps == ["SPS3", "SPS4", "SPS5"]
    assert (await site.find(keys, TimezoneOffsetFromUTC="-1200")).steps == ["SPS4"]


async def test_Q_78_yesterday_is_asked_for_exactly_and_the_filter_decides(serve: Serve) -> None:
    entries = [entry(day, start_date=date(2024, 7, day)) for day in (4, 5)]
    ae = [{"title": "WORKLIST"}, {"title": "TODAY", "filter": {"days_back": 0}}]
    site = await serve(*entries, tables={"ae": ae}, now=datetime(2024, 7, 5, 0, 30))
    keys = identifier({"ScheduledProcedureStepID": "", DATE: "20240704"})
    assert (await site.ask(keys)).steps == ["SPS4"]
    assert (await site.ask(keys, called="TODAY")).steps == []


async def test_Q_79_a_device_that_comes_again_after_a_transient_refusal_is_served(serve: Serve) -> None:
    site = await serve(entry(1), max_associations=1)
    async with site.connect() as association, raw_client(site.port) as early:
        assert await early.associate() == Rejected((2, 3, 2))
        for _ in range(3):  # and the same query again and again has the same answer
            assert (await ask(association, identifier({"ScheduledProcedureStepID": ""}))).steps == ["SPS1"]
    async with raw_client(site.port) as again:
        assert isinstance(await again.associate(), Accepted)


async def test_Q_80_a_step_that_comes_again_is_listed_once_and_the_order_is_stable(serve: Serve) -> None:
    site = await serve(entry(1), entry(2), entry(3))
    site.put(entry(2, name="Doe^Changed"))
    answers = [await site.find(PatientName="") for _ in range(2)]
    assert [each.steps for each in answers] == [["SPS1", "SPS2", "SPS3"]] * 2
    assert str(answers[0].matches[1].PatientName) == "Doe^Changed"


@pytest.mark.parametrize("store", [{"expire_days": 10**7}, {"expire_days": 10**12}, {"retain_days": 10**7}])
async def test_Q_78_a_number_of_days_beyond_the_calendar_means_never(serve: Serve, store: dict[str, int]) -> None:
    ae = [{"title": "WORKLIST", "filter": {"days_back": 10**12, "days_ahead": 10**12}, "day_tolerance": 10**12}]
    site = await serve(entry(1), tables={"store": store, "ae": ae})
    await site.running.tidy()
    assert (await site.find({DATE: "20240705"})).steps == ["SPS1"]
