"""Which entry an order or a part of it is about, when its identifiers are few, shared, or another system's too."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from hl7_site import Site, order, with_status

from mwl.store import Update


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.store.close()


def numbered(control: str, control_id: str, system: str, patient: str, reason: str = "") -> bytes:
    """Write an order that has order numbers only, as each of two systems counts them."""
    return (
        f"MSH|^~\\&|{system}|HOSP|||20240705||ORM^O01|{control_id}|P|2.3\rPID|||{patient}||A^B\r"
        f"ORC|{control}|7^{system}|1001^{system}\rOBR|1|||CTCHE{'|' * 20}CT{'|' * 7}^{reason}\r"
    ).encode()


def test_order_numbers_of_two_systems_may_be_the_same(site: Site) -> None:
    site.take(numbered("NW", "1", "ONE", "4711"))
    site.take(numbered("NW", "2", "TWO", "4712"))
    site.take(numbered("XO", "3", "TWO", "4712", "cough"))
    site.take(numbered("CA", "4", "ONE", "4711"))
    found = {one.patient.identifiers[0].value: (one.step.status, one.procedure.reason) for one in site.entries}
    assert found == {"4711": ("CANCELED", ""), "4712": ("SCHEDULED", "cough")}
    assert len({entry.procedure.study_instance_uid for entry in site.entries}) == 2


@pytest.mark.parametrize(
    ("issuer", "status"),
    [
        ("ONE^1.2^ISO", "CANCELED"),
        ("OTHER^1.2^ISO", "CANCELED"),
        ("ONE", "CANCELED"),
        ("^1.2^ISO", "CANCELED"),
        ("", "CANCELED"),
        ("ONE^1.3^ISO", "SCHEDULED"),
        ("OTHER", "SCHEDULED"),
    ],
)
def test_an_issuer_that_is_not_named_or_named_otherwise_is_not_held_against_a_number(
    site: Site, issuer: str, status: str
) -> None:
    site.take(numbered("NW", "1", "ONE", "4711").replace(b"^ONE", b"^ONE^1.2^ISO"))
    site.take(numbered("CA", "2", "ONE", "4711").replace(b"^ONE", f"^{issuer}".encode()))
    assert site.entry.step.status == status


def test_a_cancel_that_comes_first_does_not_bury_the_order_of_another_system(site: Site) -> None:
    site.take(numbered("CA", "1", "ONE", "4711"))
    site.take(numbered("NW", "2", "TWO", "4712"))
    site.take(numbered("NW", "3", "ONE", "4711"))
    found = {one.patient.identifiers[0].value: one.step.status for one in site.entries}
    assert found == {"4711": "CANCELED", "4712": "SCHEDULED"}


def appointment(event: str, control_id: str, *starts: str) -> bytes:
    services = "".join(
        f"AIS|{at}||P{at}^Part {at}^L|{start}\rOBR|{at}{'|' * 23}CT\r" for at, start in enumerate(starts, 1)
    )
    head = f"MSH|^~\\&|RIS|HOSP|||20240705||SIU^{event}|{control_id}|P|2.5\rSCH|AP1|AF1\rPID|||4711||A^B\rRGS|1\r"
    return f"{head}{services}".encode()


def test_two_services_of_an_appointment_are_two_steps_that_move_and_end_each_for_itself(site: Site) -> None:
    site.take(appointment("S12", "1", "20240709090000", "20240709093000"))
    site.take(appointment("S12", "2", "20240709090000", "20240709093000"))
    assert [(one.step.step_id, str(one.step.start_time)) for one in site.entries] == [
        ("AF1-1", "09:00:00"),
        ("AF1-2", "09:30:00"),
    ]
    site.take(appointment("S13", "3", "20240709100000", "20240709103000"))
    assert [str(one.step.start_time) for one in site.entries] == ["10:00:00", "10:30:00"]
    assert [one.step.description for one in site.entries] == ["Part 1", "Part 2"]
    site.take(appointment("S15", "4", "20240709100000", "20240709103000"))
    assert {one.step.status for one in site.entries} == {"CANCELED"}


@pytest.mark.parametrize("event", ["S12", "S13"])
def test_of_an_appointment_with_too_many_parts_the_first_is_taken_and_it_is_noted(
    site: Site, event: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    site.take(order())
    message = appointment(event, "2", "20240709090000", "20240709093000").replace(b"SCH|AP1|AF1", b"SCH|AP1|F1")
    assert asyncio.run(site.feed.receive(message))
    assert (site.entry.step.step_id, str(site.entry.step.start_time)) == ("S1", "09:00:00")
    assert "the appointment has more parts than the order has steps" in caplog.text


def test_two_parts_of_an_order_that_share_its_numbers_are_two_steps(site: Site) -> None:
    parts = "".join(f"OBR|{at}|||P{at}^Part {at}{'|' * 20}CT\r" for at in (1, 2))
    message = f"MSH|^~\\&|RIS|HOSP|||20240705||ORM^O01|1|P|2.3\rPID|||4711||A^B\rORC|NW|7|1001\r{parts}".encode()
    site.take(message)
    site.take(message.replace(b"|1|P|", b"|2|P|"))
    assert [(one.step.step_id, one.step.description) for one in site.entries] == [
        ("1001-1", "Part 1"),
        ("1001-2", "Part 2"),
    ]


def unnumbered(control_id: str, *codes: str) -> bytes:
    orders = "".join(f"ORC|NW\rOBR|1|||{code}{'|' * 20}CT\r" for code in codes or ["CTCHE"])
    return f"MSH|^~\\&|HIS||||20240705||ORM^O01|{control_id}|P|2.3\rPID|||4711||A^B\r{orders}".encode()


def test_an_order_without_any_number_is_the_same_one_when_it_comes_again_that_day(site: Site) -> None:
    site.take(unnumbered("1"))
    first = site.entry
    site.clock.now += timedelta(minutes=10)
    site.take(unnumbered("2"))
    assert site.entry == first
    site.take(unnumbered("3", "CTABD"))
    site.clock.now += timedelta(days=1)
    site.take(unnumbered("4"))
    assert len({entry.procedure.study_instance_uid for entry in site.entries}) == 3


def test_two_orders_of_one_message_are_two_even_without_any_number(site: Site) -> None:
    site.take(unnumbered("1", "XRCHE", "XRCHE"))
    site.take(unnumbered("2", "XRCHE", "XRCHE"))
    assert len(site.entries) == 2


def test_an_order_without_any_number_is_another_one_when_the_first_has_ended(site: Site) -> None:
    site.take(unnumbered("1"))
    site.store.commit_now([Update(site.entry.key, with_status("COMPLETED"))])
    site.take(unnumbered("2"))
    assert sorted(entry.step.status for entry in site.entries) == ["COMPLETED", "SCHEDULED"]
