"""What the feed remembers, and the rules of the mapping that a site may change."""

import asyncio
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import msgspec
import pytest
from hl7_site import Site, order, with_status

from mwl.hl7.feed import Feed, failed_messages
from mwl.hl7.mapping import load_mapping
from mwl.hl7.message import Answer, decode_message
from mwl.item import Patient
from mwl.store import Store, StoreWriteError, Update


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.store.close()


# --- what is remembered -------------------------------------------------------------------------------------------


def test_a_control_id_that_is_used_again_for_another_order_does_not_lose_it(site: Site) -> None:
    assert site.take(order(number=1)) == site.take(order(number=2)) == ("AA", [])
    assert len(site.entries) == 2


def test_a_repeated_message_is_looked_at_again_when_its_window_is_over(site: Site) -> None:
    site.take(order())
    site.take(order("CA", control_id="2"))
    site.use("[rules]\nnew_order_reopens = true\n")
    site.take(order())
    assert site.entry.step.status == "CANCELED"
    site.clock.now += timedelta(hours=25)
    site.take(order())
    assert site.entry.step.status == "SCHEDULED"


def test_a_cancelled_order_that_comes_after_a_day_is_listed(site: Site) -> None:
    assert site.take(order("CA")) == ("AE", ["204 ZDS-1.1"])
    site.clock.now += timedelta(hours=25)
    site.take(order(control_id="2"))
    assert site.entry.step.status == "SCHEDULED"


@pytest.mark.parametrize("study", [True, False])
def test_a_cancel_of_one_order_does_not_bury_another(site: Site, study: bool) -> None:
    site.take(order("CA", number=1, study=study))
    site.take(order(control_id="2", number=2, study=study))
    site.take(order(control_id="3", number=1, study=study))
    assert {entry.request.accession_number: entry.step.status for entry in site.entries} == {
        "A1": "CANCELED",
        "A2": "SCHEDULED",
    }


async def test_changes_of_one_order_on_two_connections_are_all_there_in_the_end(site: Site) -> None:
    await site.feed.receive(order())
    changes = [order("XO", control_id=f"a{n}", reason=f"reason {n}") for n in range(8)]
    others = [order("XO", control_id=f"b{n}", room=f"R{n}") for n in range(8)]
    site.use('[attributes]\nScheduledProcedureStepLocation = "OBR-21"\n')
    answers = await asyncio.gather(
        *map(site.feed.receive, [one for both in zip(changes, others, strict=True) for one in both])
    )
    assert all(answer and b"MSA|AA|" in answer for answer in answers)
    assert (site.entry.procedure.reason, site.entry.step.location) == ("reason 7", "R7")
    assert [line.revision for line in site.store.history(site.entry.key)] == list(range(1, 18))


async def test_the_same_message_on_several_connections_is_done_once(site: Site) -> None:
    answers = await asyncio.gather(*(site.feed.receive(order()) for _ in range(8)))
    assert len(set(answers)) == 1
    assert site.store.revision() == 1
    assert site.feed.answered == {"AA": 1, "repeated": 7}


# --- failures of others -------------------------------------------------------------------------------------------


async def test_what_is_on_disk_is_acknowledged_whoever_stumbles_over_it(site: Site) -> None:
    async def stumble(revision: int) -> None:
        raise ZeroDivisionError

    feed = Feed(site.store, load_mapping(), committed=stumble)
    ack = await feed.receive(order())
    assert ack
    assert decode_message(ack).segments[1].field(1) == "AA"


class _FullDisk(Store):
    """A store that cannot write the next commit."""

    is_full = True

    async def commit(self, changes: object, origin: str = "") -> int:
        if self.is_full:
            raise StoreWriteError("the store cannot be written: the disk is full")
        return await super().commit(changes, origin)  # type: ignore[arg-type]


async def test_an_order_that_could_not_be_kept_is_taken_when_it_comes_again(tmp_path: Path) -> None:
    store = _FullDisk(tmp_path / "full.db")
    feed = Feed(store, load_mapping())
    codes = []
    for is_full in (True, False):
        store.is_full = is_full
        ack = await feed.receive(order())
        assert ack
        codes.append(decode_message(ack).segments[1].field(1))
    assert codes == ["AE", "AA"]
    assert store.count() == 1
    store.close()


async def test_a_fault_in_this_program_is_answered_and_the_message_kept(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("Muster^Erika")

    with monkeypatch.context() as patch:
        patch.setattr("mwl.hl7.feed.make_plan", fail)
        ack = await site.feed.receive(order())
    assert ack
    assert decode_message(ack).segments[1].field(1) == "AE"
    assert "ValueError" in caplog.text
    assert "> fail (" in caplog.text
    assert "Muster" not in caplog.text
    (failed,) = site.store.read(failed_messages)
    assert failed.message == order()
    assert site.take(failed.message) == ("AA", [])


def test_no_more_than_the_newest_refused_messages_are_kept(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mwl.hl7.feed._MOST_FAILED", 3)
    for number in range(6):
        site.take(order("CA", control_id=str(number), number=number))
    assert [failed.control_id for failed in site.store.read(failed_messages)] == ["3", "4", "5"]


def test_a_huge_refused_message_is_not_kept(site: Site) -> None:
    assert site.take(order("CA") + b"NTE|1||" + b"x" * 300_000 + b"\r") == ("AE", ["204 ZDS-1.1"])
    assert site.store.read(failed_messages) == []


# --- rules that a site may change ---------------------------------------------------------------------------------


def test_changes_may_be_allowed_to_change_the_patient(site: Site) -> None:
    site.take(order())
    site.take(order("XO", control_id="2", name="Other^Name"))
    assert site.entry.patient.name == "Muster^Erika"
    site.use("[rules]\npatient_from_changes = true\n")
    site.take(order("XO", control_id="3", name="Other^Name"))
    assert site.entry.patient.name == "Other^Name"


def test_an_order_without_a_study_instance_uid_may_be_refused(site: Site) -> None:
    site.use('[rules]\nmissing_study_uid = "refuse"\n')
    assert site.take(order(study=False)) == ("AE", ["101 ZDS-1.1"])
    assert site.take(order()) == ("AA", [])


def test_older_messages_may_be_left_out(site: Site) -> None:
    site.take(order().replace(b"|20240705|", b"|20240705120000|"))
    older = order("XO", control_id="2", reason="old").replace(b"|20240705|", b"|20240705110000|")
    site.use("[rules]\ndiscard_older = true\n")
    assert site.take(older) == ("AA", [])
    assert site.entry.procedure.reason == ""
    site.take(order("XO", control_id="3", reason="new").replace(b"|20240705|", b"|20240705120001|"))
    assert site.entry.procedure.reason == "new"
    site.use("")
    site.take(older.replace(b"|2|P", b"|4|P"))
    assert site.entry.procedure.reason == "old"


def test_messages_for_somebody_else_may_be_refused(site: Site) -> None:
    site.use('[rules]\nreceivers = ["MWL|RAD"]\n')
    assert site.take(order()) == ("AA", [])
    assert site.take(order(control_id="2", receiver="PACS|RAD")) == ("AR", ["207 MSH-5"])


def test_the_required_attributes_are_those_of_the_site(site: Site) -> None:
    site.use('[rules]\nrequired = ["ReasonForTheRequestedProcedure"]\n')
    assert site.take(order()) == ("AE", ["101 OBR-31.2"])
    assert site.take(order(reason="cough")) == ("AA", [])


def test_the_required_fields_of_the_header_are_those_of_the_site(site: Site) -> None:
    site.use('[rules]\nrequired_header = ["MSH-9", "MSH-10", "MSH-8"]\n')
    assert site.take(order()) == ("AR", ["101 MSH-8"])


def test_another_room_is_another_station_and_the_same_room_leaves_what_was_set_by_hand(site: Site) -> None:
    stations = "".join(f'[[station]]\nlocation = "R{n}"\nae_titles = ["CT{n}"]\n' for n in (1, 2))
    site.use(f'[attributes]\nScheduledProcedureStepLocation = "OBR-21"\n{stations}')
    titles = []
    for turn, (control, room) in enumerate([("NW", "R1"), ("XO", "R1"), ("XO", "R2"), ("XO", "R3")]):
        site.take(order(control, control_id=str(turn), room=room))
        titles.append(site.entry.step.station_ae_titles)
    assert titles == [("CT1",), ("CT1",), ("CT2",), ("CT2",)]


def test_all_of_a_message_is_done_or_nothing(site: Site) -> None:
    first = order()
    message = first + b"ORC|NW||F2\rOBR|1||F2|MR^MR||||||||||||||AN-ACCESSION-NUMBER-TOO-LONG|||||MR\r"
    assert site.take(message) == ("AE", ["102 OBR[2]-18"])
    assert site.entries == []


def test_no_order_is_lost_for_a_weight_that_is_no_number(site: Site) -> None:
    assert site.take(order() + b"OBX|1|NM|29463-7^Body Weight^LN||about 80|kg\r") == ("AA", [])
    assert site.entry.request.patient_weight is None


@pytest.mark.parametrize(
    ("obr_27", "start"), [('""', "2024-07-05 08:00:00"), ("^^^20240706110000", "2024-07-06 11:00:00")]
)
def test_a_sender_may_write_null_for_what_is_empty(site: Site, obr_27: str, start: str) -> None:
    sent: dict[str, dict[int, str]] = {
        "PID": {3: "4711^^^HOSP", 5: "A^B"},
        "ORC": {1: "NW", 3: "F1"},
        "OBR": {3: "F1", 4: "CT^CT", 18: "A1", 19: "RP1", 20: "S1", 24: "CT", 27: obr_27},
    }
    lines = ["MSH|^~\\&|RIS|HOSP|||20240705||ORM^O01|1|P|2.3.1"]
    lines += ["|".join([name, *(fields.get(at, '""') for at in range(1, 36))]) for name, fields in sent.items()]
    assert site.feed.receive_now("\r".join([*lines, ""]).encode()) == Answer("AA")  # without warnings
    step = site.entry.step
    assert (f"{step.start_date} {step.start_time}", site.entry.procedure.priority) == (start, "ROUTINE")
    assert msgspec.structs.replace(site.entry.patient, name="", identifiers=()) == Patient()


def test_arriving_is_for_what_is_scheduled_today(site: Site) -> None:
    site.take(order())
    site.clock.now += timedelta(days=1)
    site.take(b"MSH|^~\\&|ADT|HOSP|||20240706||ADT^A10|9|P|2.3.1\rPID|||4711^^^HOSP||Muster^Erika\r")
    assert (site.entry.step.status, site.entry.step.start_date) == ("SCHEDULED", date(2024, 7, 5))


def test_a_merge_that_says_little_takes_nothing_away(site: Site) -> None:
    head = "MSH|^~\\&|ADT|HOSP|||20240706||ADT^A40|{}|P|2.3.1\rPID|||{}^^^HOSP\rMRG|{}^^^HOSP\r"
    site.take(head.format("m1", "9000", "8000").encode())  # nobody knows either of them
    site.take(order())
    site.take(head.format("m2", "9000", "4711").encode())
    assert site.entry.patient.name == "Muster^Erika"
    assert [one.value for one in site.entry.patient.identifiers] == ["9000", "4711"]
    site.take(order(control_id="2", number=2, patient="8000^^^HOSP", name="Eight^Thousand"))
    assert [entry.patient.name for entry in site.entries] == ["Muster^Erika", "Muster^Erika"]


def test_the_real_ids_of_an_order_take_the_place_of_those_made_here(site: Site) -> None:
    site.take(
        b"MSH|^~\\&|HIS|HOSP|||20240705||ORM^O01|h|P|2.3\rPID|||4711^^^HOSP||A^B\rORC|NW||F1\r"
        b"OBR|1||F1|CT||||||||||||||||||||CT\r"
    )
    assert site.entry.procedure.study_instance_uid.startswith("2.25.")
    site.take(order())
    assert (site.entry.key, site.entry.procedure.procedure_id) == (("1.2.1", "S1"), "RP1")


def test_identifiers_of_different_authorities_are_different_patients(site: Site) -> None:
    site.take(order(patient="4711^^^HOSP"))
    site.take(b"MSH|^~\\&|ADT|HOSP|||20240706||ADT^A08|9|P|2.3.1\rPID|||4711^^^CLINIC||Wrong^Person\r")
    assert site.entry.patient.name == "Muster^Erika"
    site.take(b"MSH|^~\\&|ADT|HOSP|||20240706||ADT^A08|8|P|2.3.1\rPID|||4711||Right^Person\r")
    assert site.entry.patient.name == "Right^Person"


def test_a_change_of_a_whole_study_moves_every_step_and_each_keeps_its_id(site: Site) -> None:
    two = order() + order(number=2).partition(b"\rORC")[2].partition(b"ZDS")[0].join([b"ORC", b"ZDS|1.2.1\r"])
    assert site.take(two) == ("AA", [])
    change = b"\r".join(
        [
            b"MSH|^~\\&|RIS|HOSP|||20240705||ORM^O01|c|P|2.3.1",
            b"PID|||4711^^^HOSP",
            b"ORC|XO||||||^^^20240709080000",
            b"ZDS|1.2.1",
            b"",
        ]
    )
    assert site.take(change) == ("AA", [])
    assert [(entry.key, str(entry.step.start_date)) for entry in site.entries] == [
        (("1.2.1", "S1"), "2024-07-09"),
        (("1.2.1", "S2"), "2024-07-09"),
    ]


def test_of_several_zds_the_next_one_behind_an_order_is_its_own(site: Site) -> None:
    def group(number: int, study: str) -> bytes:
        return order(number=number, study=False).partition(b"\rORC")[2].join([b"ORC", study.encode()])

    head = order().partition(b"ORC")[0]
    site.take(head + group(1, "") + group(2, "ZDS|1.2.8\r") + group(3, "ZDS|1.2.9\r"))
    assert [(entry.request.accession_number, entry.key[0]) for entry in site.entries] == [
        ("A1", "1.2.8"),
        ("A2", "1.2.8"),
        ("A3", "1.2.9"),
    ]


@pytest.mark.parametrize(("kind", "segment"), [("ORM^O01", "ORC"), ("SIU^S13", "SCH")])
def test_a_message_without_its_main_segment_is_refused(site: Site, kind: str, segment: str) -> None:
    message = f"MSH|^~\\&|RIS|HOSP|||20240705||{kind}|1|P|2.3.1\rPID|||4711\r".encode()
    code, (fault,) = site.take(message)
    assert code == "AE"
    assert fault.startswith(f"100 {segment}")


def test_an_update_for_an_identifier_that_was_merged_away_reaches_the_survivor(site: Site) -> None:
    site.take(order())
    head = b"MSH|^~\\&|ADT|HOSP|||20240706||ADT^%b|%b|P|2.3.1\r"
    site.take(head % (b"A40", b"m") + b"PID|||5000^^^HOSP||Meister^Erika\rMRG|4711^^^HOSP\r")
    site.take(head % (b"A08", b"u") + b"PID|||4711^^^HOSP||Meister^Erika^Neu\r")
    assert site.entry.patient.name == "Meister^Erika^Neu"
    assert [one.value for one in site.entry.patient.identifiers] == ["5000", "4711"]


def patient_event(event: str, control_id: str, patient: str, name: str = "Meister^Erika", prior: str = "") -> bytes:
    lines = [f"MSH|^~\\&|ADT|HOSP|||20240706||ADT^{event}|{control_id}|P|2.3.1", f"PID|||{patient}^^^HOSP||{name}"]
    return "\r".join([*lines, *([f"MRG|{prior}^^^HOSP"] if prior else []), ""]).encode()


def test_an_update_for_an_identifier_that_was_merged_away_reaches_all_entries_of_the_survivor(site: Site) -> None:
    site.take(order(number=1))
    site.take(order(number=2, control_id="2", patient="5000^^^HOSP"))
    site.take(patient_event("A40", "m", "5000", prior="4711"))
    site.take(patient_event("A08", "u", "4711", "Neu^Erika"))
    assert {entry.patient.name for entry in site.entries} == {"Neu^Erika"}
    assert {entry.patient.identifiers[0].value for entry in site.entries} == {"5000"}


@pytest.mark.parametrize("is_rehearsed", [False, True])
def test_an_identifier_that_was_changed_back_is_alive(site: Site, is_rehearsed: bool) -> None:
    site.take(order())
    site.take(patient_event("A47", "1", "5000", prior="4711"))
    back = patient_event("A47", "2", "4711", prior="5000")
    late = order(number=2, control_id="3", patient="5000^^^HOSP")
    if is_rehearsed:
        plans = site.rehearse(back, late)
        assert [change.after.patient.identifiers[0].value for change in plans[1].changes if change.after] == ["4711"]
    else:
        site.take(back)
        site.take(late)
        assert [entry.patient.identifiers[0].value for entry in site.entries] == ["4711", "4711"]


@pytest.mark.parametrize("event", ["A40", "A47"])
def test_an_order_that_has_ended_is_one_of_the_patient_who_has_its_identifier_now(site: Site, event: str) -> None:
    site.take(order())
    site.take(order("CA", control_id="2"))
    head = f"MSH|^~\\&|ADT|HOSP|||20240706||ADT^{event}|m|P|2.3.1\r"
    site.take(f"{head}PID|||5000^^^HOSP||Meister^Erika\rMRG|4711^^^HOSP\r".encode())
    assert site.entry.patient.identifiers[0].value == "5000"
    assert site.take(order(control_id="3", patient="5000^^^HOSP")) == ("AA", [])
    assert site.entry.step.status == "CANCELED"


@pytest.mark.parametrize(("prior", "fault"), [('""', "101 MRG-1"), ("x" * 65, "102 MRG-1"), ("", "101 MRG-1")])
def test_a_merge_needs_the_prior_identifier(site: Site, prior: str, fault: str) -> None:
    head = "MSH|^~\\&|ADT|HOSP|||20240706||ADT^A47|9|P|2.3.1\rPID|||5000^^^HOSP||Meister^Erika\r"
    assert site.take(f"{head}MRG|{prior}\r".encode()) == ("AE", [fault])
    assert site.take(head.encode()) == ("AE", ["101 MRG-1"])


def test_an_update_without_an_identifier_is_refused(site: Site) -> None:
    for pid, fault in (
        ("PID|||||A^B", "101 PID-3"),
        (f"PID|||{'x' * 65}||A^B", "102 PID-3"),
        ("EVN|A08", "101 PID-3"),
    ):
        message = f"MSH|^~\\&|ADT|HOSP|||20240706||ADT^A08|9|P|2.3.1\r{pid}\r"
        assert site.take(message.encode()) == ("AE", [fault])


# --- what others do with the store --------------------------------------------------------------------------------


def test_the_feed_sees_what_others_have_changed(site: Site) -> None:
    site.take(order())
    other = Store(site.folder / "worklist.db")
    other.commit_now([Update(site.entry.key, with_status("CANCELED"))])
    other.close()
    site.take(order("XO", control_id="2", reason="cough"))
    assert (site.entry.step.status, site.entry.procedure.reason) == ("CANCELED", "cough")
