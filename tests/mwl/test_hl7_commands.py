import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import apsw
import pytest

from mwl.cli import main
from mwl.config import Hl7
from mwl.hl7.feed import Feed
from mwl.hl7.mapping import load_mapping
from mwl.hl7.mllp import serve_hl7
from mwl.store import Decide, Put, Remove, Store, StoreReader

SAMPLES = Path(__file__).parents[1] / "hl7"


class Outcome(NamedTuple):
    status: int
    out: str
    err: str


Mwl = Callable[..., Outcome]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mwl.toml").write_text(
        '[store]\npath = "worklist.db"\n[hl7]\nmapping = "site.toml"\n[[ae]]\ntitle = "WORKLIST"\n'
    )
    (tmp_path / "site.toml").write_text("")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def mwl(folder: Path, capsys: pytest.CaptureFixture[str]) -> Mwl:
    def run(*arguments: object) -> Outcome:
        status = main([str(argument) for argument in arguments])
        return Outcome(status, *capsys.readouterr())

    return run


def take(folder: Path, *names: str) -> None:
    """Let a feed take sample messages into the folder's store."""
    store = Store(folder / "worklist.db")
    feed = Feed(store, load_mapping(folder / "site.toml"))
    for name in names:
        feed.receive_now((SAMPLES / f"{name}.hl7").read_bytes())
    store.close()


def revision(folder: Path) -> int:
    reader = StoreReader(folder / "worklist.db")
    found = reader.revision()
    reader.close()
    return found


# --- dry-run ------------------------------------------------------------------------------------------------------


def test_a_dry_run_tells_the_rule_the_field_the_text_and_what_was_before(folder: Path, mwl: Mwl) -> None:
    take(folder, "orm_lf")
    outcome = mwl("hl7", "dry-run", SAMPLES / "xo_move.hl7")
    assert outcome.status == 0
    lines = [line.split() for line in outcome.out.splitlines()]
    start = next(line for line in lines if line[:1] == ["ScheduledProcedureStepStartDateTime"])
    assert start[1:] == ["2024-07-06,", "14:00:00", "2024-07-05,", "10:00:00", "ORC-7.4", "20240706140000", "ORC-7.4"]
    assert "changed: 1.2.826.0.1.1/S1" in outcome.out
    assert "not taken: PatientName from PID-5: a change of an order does not change patient" in outcome.out


def test_a_dry_run_tells_what_was_not_looked_at(mwl: Mwl) -> None:
    outcome = mwl("hl7", "dry-run", "--json", SAMPLES / "orm_z_segments.hl7")
    (one,) = json.loads(outcome.out)
    assert one["not_used"] == {"PV1-7": "9^Aufnahme^Arzt", "OBR-2": "P1^RIS", "OBR-3": "F1^RIS"} | {
        "ZRX-2": "CT03",
        "ZRX-3": "whatever^else",
        "ZZZ-1": "x",
    }
    assert one["changes"][0]["attributes"][0] == {
        "attribute": "ScheduledProcedureStepStartDateTime",
        "rule": "ORC-7.4",
        "field": "ORC-7.4",
        "raw": "20240705100000",
        "value": ["2024-07-05", "10:00:00"],
    }


def test_a_dry_run_changes_nothing(folder: Path, mwl: Mwl) -> None:
    take(folder, "orm_lf")
    before = revision(folder)
    for name in ("xo_move", "ca_ca", "adt_a40", "orm_no_modality", "ca_unknown"):
        mwl("hl7", "dry-run", SAMPLES / f"{name}.hl7")
    assert revision(folder) == before
    assert mwl("hl7", "failed").out.splitlines()[1:] == []


def test_a_dry_run_shows_the_refusal_that_would_go_back(mwl: Mwl) -> None:
    outcome = mwl("hl7", "dry-run", SAMPLES / "orm_no_modality_2_5.hl7")
    assert outcome.status == 1
    assert "answer: ERR||OBR^1^24|101^Required field missing^HL70357|E||||Modality is missing" in outcome.out


def test_the_messages_of_a_file_see_those_before_them(folder: Path, mwl: Mwl) -> None:
    names = ("orm_lf", "adt_a40", "nw_after_merge", "ca_ca")
    (folder / "all.hl7").write_bytes(b"".join((SAMPLES / f"{name}.hl7").read_bytes() for name in names))
    found = json.loads(mwl("hl7", "dry-run", "--json", folder / "all.hl7").out)
    assert [one["answer"] for one in found] == ["AA"] * 4
    assert [change["what"] for one in found for change in one["changes"]] == [
        "created",
        "merged",
        "created",
        "status",
    ]
    assert found[2]["notes"] == ["the patient's identifier was merged into another one"]


def test_a_dry_run_remembers_a_cancel_that_came_first(mwl: Mwl) -> None:
    outcome = mwl("hl7", "dry-run", "--json", SAMPLES / "ca_unknown.hl7", SAMPLES / "nw_after_ca.hl7")
    first, second = json.loads(outcome.out)
    assert (first["answer"], second["notes"]) == ("AE", ["the order was cancelled before it came"])


def test_a_mapping_can_be_tried(folder: Path, mwl: Mwl) -> None:
    (folder / "try.toml").write_text('[attributes]\nModality = { value = "MR", when = { "MSH-3" = "R*" } }\n')
    found = json.loads(mwl("hl7", "dry-run", "--json", "--mapping", "try.toml", SAMPLES / "orm_no_modality.hl7").out)
    assert found[0]["answer"] == "AA"


def test_a_faulty_mapping_is_named(folder: Path, mwl: Mwl) -> None:
    (folder / "site.toml").write_text("[attributes]\nModality = 'OBR'\n")
    outcome = mwl("hl7", "dry-run", SAMPLES / "orm_lf.hl7")
    assert outcome.status == 1
    assert "line 2: attributes.Modality: 'OBR' is no field" in outcome.err


def test_checking_the_configuration_checks_the_mapping(folder: Path, mwl: Mwl) -> None:
    assert mwl("check").status == 0
    (folder / "site.toml").write_text("[attributes]\nModality = 'OBR'\n")
    outcome = mwl("check")
    assert (outcome.status, "line 2: attributes.Modality" in outcome.err) == (1, True)
    assert json.loads(mwl("check", "--json").out)["faults"][0].startswith("line 2: attributes.Modality")


def test_a_dry_run_needs_no_configuration(tmp_path: Path, mwl: Mwl) -> None:
    (tmp_path / "mwl.toml").unlink()
    assert "created: 1.2.826.0.1.1/S1" in mwl("hl7", "dry-run", SAMPLES / "orm_lf.hl7").out


def test_a_file_without_a_message_is_refused(folder: Path, mwl: Mwl) -> None:
    (folder / "none.hl7").write_text("hello")
    assert mwl("hl7", "dry-run", "none.hl7").err == "mwl hl7: none.hl7: there is no HL7 message in it\n"
    assert mwl("hl7", "dry-run", "nowhere.hl7").status == 1


def test_a_message_that_cannot_be_read_is_shown_as_refused(folder: Path, mwl: Mwl) -> None:
    (folder / "bad.hl7").write_text("MSH|^^^^|RIS|HOSP|||20240705||ORM^O01|M9|P|2.3\r")
    outcome = mwl("hl7", "dry-run", "bad.hl7")
    assert (outcome.status, "answer: MSA|AR|M9" in outcome.out) == (1, True)


# --- failed, retry ------------------------------------------------------------------------------------------------


def test_a_refused_message_is_listed_shown_and_taken_after_the_mapping_was_mended(folder: Path, mwl: Mwl) -> None:
    take(folder, "orm_no_modality", "orm_no_modality", "orm_unknown_control")
    rows = [line.split() for line in mwl("hl7", "failed").out.splitlines()[1:]]
    assert [row[3:7] for row in rows] == [["2", "RIS|HOSP", "ORM_O01", "M1"], ["1", "RIS|HOSP", "ORM_O01", "M1"]]
    shown = mwl("hl7", "failed", 1).out
    assert shown.startswith("101 Required field missing at OBR-24: Modality is missing\n\nMSH|^~\\&|RIS")
    assert mwl("hl7", "retry", 1).out == "AE  1  101 Required field missing at OBR-24: Modality is missing\n"
    (folder / "site.toml").write_text(
        '[attributes]\nModality = [ "OBR-24", { value = "CT", when = { "OBR-4.1" = "CT*" } } ]'
    )
    outcome = mwl("hl7", "retry", 1)
    assert (outcome.status, outcome.out) == (0, "AA  1\n")
    assert "ScheduledStation" not in mwl("list").out
    assert "S1" in mwl("list").out


def test_all_refused_messages_are_taken_again_oldest_first(folder: Path, mwl: Mwl) -> None:
    take(folder, "ca_unknown")
    (folder / "site.toml").write_text("[rules]\nunknown_cancel = 'accept'\n")
    assert mwl("hl7", "retry").out == "AA  1\n"
    assert mwl("hl7", "failed", "--json").out.strip() == "[]"


def test_a_refused_message_can_be_forgotten(folder: Path, mwl: Mwl) -> None:
    take(folder, "orm_no_modality")
    assert mwl("hl7", "failed", 1, "--forget").out == "forgotten 1\n"
    assert mwl("hl7", "failed", 1).err == "mwl hl7: there is no refused message 1: `mwl hl7 failed` lists them\n"
    assert mwl("hl7", "retry", 1).status == 1


# --- lineage ------------------------------------------------------------------------------------------------------


def test_the_lineage_names_the_newest_message_and_field_of_each_attribute(folder: Path, mwl: Mwl) -> None:
    take(folder, "orm_lf", "xo_move", "adt_a08")
    found = {one["attribute"]: one for one in json.loads(mwl("show", "S1", "--lineage", "--json").out)}
    told = {name: (one["message"], one["field"], one["raw"], one["revision"]) for name, one in found.items()}
    assert told["AccessionNumber"] == ("ORM_O01 M1", "OBR-18", "A1", 1)
    assert told["ScheduledProcedureStepStartDateTime"] == ("ORM_O01 M2", "ORC-7.4", "20240706140000", 2)
    assert told["PatientName"] == ("ADT_A08 D1", "PID-5", "Meister^Erika^Maria", 3)
    row = next(
        line.split() for line in mwl("show", "S1", "--lineage").out.splitlines() if line.startswith("Accession")
    )
    assert row[:5] == ["AccessionNumber", "A1", "OBR-18", "A1", "OBR-18"]


def test_a_dry_run_warns_of_what_is_cut(mwl: Mwl) -> None:
    outcome = mwl("hl7", "dry-run", SAMPLES / "orm_too_long.hl7")
    assert "  warning: OBR-4.2: RequestedProcedureDescription is cut to 64 of 71 characters\n" in outcome.out


def test_a_cut_stands_in_the_lineage(folder: Path, mwl: Mwl) -> None:
    take(folder, "orm_too_long")
    outcome = mwl("show", "S1", "--lineage")
    assert "RequestedProcedureDescription is cut to 64 of 71 characters" in outcome.out.splitlines()


def test_the_status_of_an_appointment_comes_from_its_event(folder: Path, mwl: Mwl) -> None:
    take(folder, "orm_lf", "siu_s15")
    found = {one["attribute"]: one for one in json.loads(mwl("show", "S1", "--lineage", "--json").out)}
    told = found["ScheduledProcedureStepStatus"]
    assert (told["value"], told["field"], told["raw"]) == ("CANCELED", "MSH-9", "SIU_S15")


def test_a_message_that_is_older_than_what_is_there_is_taken_when_asked_for(folder: Path, mwl: Mwl) -> None:
    older = (SAMPLES / "ca_ca.hl7").read_bytes().replace(b"20240705073000", b"20240705070000", 1)
    store = Store(folder / "worklist.db")
    Feed(store, load_mapping()).receive_now(older)
    store.commit_now([Decide(_unbury)])
    store.close()
    take(folder, "orm_lf")
    outcome = mwl("hl7", "retry")
    assert outcome.status == 1
    assert "ScheduledProcedureStepStatus was set by ORM_O01 M1" in outcome.out
    assert "--overwrite takes it all the same" in outcome.out
    assert mwl("hl7", "retry", "--overwrite").out == "AA  1\n"


def _unbury(connection: apsw.Connection) -> list[Put | Remove]:
    connection.execute("DELETE FROM hl7_tombstone")
    return []


def test_the_history_names_the_messages(folder: Path, mwl: Mwl) -> None:
    take(folder, "orm_lf", "ca_ca")
    assert [line.split()[3:] for line in mwl("show", "S1", "--history").out.splitlines()[1:]] == [
        ["SCHEDULED", "hl7", "RIS|HOSP", "ORM_O01", "M1"],
        ["CANCELED", "hl7", "RIS|HOSP", "ORM_O01", "M2"],
    ]


# --- send ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[str]:
    """Run a listener in a thread; gives its address."""
    store = Store(tmp_path / "listener.db")
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(serve_hl7(Hl7(host="127.0.0.1", port=0), store, load_mapping()))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    host, port = server.addresses[0]
    yield f"{host}:{port}"
    asyncio.run_coroutine_threadsafe(server.close(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
    store.close()


def test_sending_shows_each_answer(listener: str, mwl: Mwl) -> None:
    outcome = mwl("hl7", "send", listener, SAMPLES / "orm_lf.hl7", SAMPLES / "orm_unknown_control.hl7")
    assert outcome.status == 1
    lines = outcome.out.splitlines()
    assert [line.split()[:2] for line in lines if not line.startswith(" ")] == [["AA", "M1"], ["AE", "M1"]]
    assert any(line.startswith("    ERR|ORC^1^1^103&Table value not found: order control ZZ") for line in lines)


def test_sending_shows_what_an_acceptance_warns_of(listener: str, mwl: Mwl) -> None:
    outcome = mwl("hl7", "send", listener, SAMPLES / "orm_too_long.hl7")
    assert outcome.status == 0
    assert "    ERR||OBR^1^4^1^2|102^Data type error^HL70357|W||||ScheduledProcedureStepDesc" in outcome.out


def test_sending_can_repeat_and_give_json(listener: str, mwl: Mwl) -> None:
    outcome = mwl("hl7", "send", listener, SAMPLES / "orm_lf.hl7", "--repeat", 3, "--json")
    assert outcome.status == 0
    assert [json.loads(line)["control_id"] for line in outcome.out.splitlines()] == ["M1", "M1-2", "M1-3"]


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["nowhere"], "nowhere: HOST:PORT is wanted"),
        (["127.0.0.1:x"], "127.0.0.1:x: HOST:PORT is wanted"),
        ([":2575"], ":2575: HOST:PORT is wanted"),
        (["localhost:99999"], "localhost:99999: HOST:PORT is wanted"),
        (["localhost:2575", "--repeat", "0"], "0: a number above 0 is wanted"),
        (["localhost:2575", "--rate", "x"], "x: a number above 0 is wanted"),
        (["localhost:2575", "--timeout", "inf"], "inf: a number above 0 is wanted"),
    ],
)
def test_wrong_usage_is_named(mwl: Mwl, capsys: pytest.CaptureFixture[str], arguments: list[str], fault: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        mwl("hl7", "send", *arguments, SAMPLES / "orm_lf.hl7")
    assert capsys.readouterr().err.rstrip().endswith(fault)


@pytest.mark.parametrize("option", ["--ca", "--certificate"])
def test_a_file_for_tls_that_is_not_there_is_named(mwl: Mwl, option: str) -> None:
    outcome = mwl("hl7", "send", "localhost:2575", option, "nofile.pem", SAMPLES / "orm_lf.hl7")
    assert (outcome.status, outcome.err) == (1, "mwl hl7: nofile.pem: No such file or directory\n")


def test_nothing_is_taken_again_from_a_store_that_is_not_there(folder: Path, mwl: Mwl) -> None:
    assert mwl("hl7", "retry").status == 1
    assert not (folder / "worklist.db").exists()
