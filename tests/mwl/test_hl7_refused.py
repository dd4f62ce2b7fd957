"""Messages that were refused: how long they are kept, and what they do when they are taken again."""

import asyncio
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest
from hl7_site import Site, order, sent_at

from mwl.hl7.feed import failed_messages


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.store.close()


def test_a_refused_message_that_is_taken_later_is_no_longer_listed(site: Site) -> None:
    site.take(order("CA"))
    site.take(order("CA"))
    assert [failed.times for failed in site.store.read(failed_messages)] == [2]
    site.take(order(control_id="2"))
    assert site.take(order("CA")) == ("AA", [])
    assert site.store.read(failed_messages) == []


def test_a_control_id_that_is_used_again_does_not_drop_another_refused_message(site: Site) -> None:
    refused = sent_at(order("CA"), "20240705080000")
    site.take(refused)
    assert site.take(sent_at(order(number=2), "20240706070000")) == ("AA", [])
    assert [failed.message for failed in site.store.read(failed_messages)] == [refused]


def test_a_refused_message_that_was_mended_by_its_sender_is_no_longer_listed(site: Site) -> None:
    site.take(order(patient="x" * 65))
    assert len(site.store.read(failed_messages)) == 1
    site.take(order())
    assert site.store.read(failed_messages) == []


def test_what_cannot_be_read_does_not_hinder_a_message_of_the_same_control_id(site: Site) -> None:
    asyncio.run(site.feed.receive(order().replace(b"MSH|^~\\&|", b"MSH|^^^^|")))
    assert site.take(order()) == ("AA", [])
    assert len(site.store.read(failed_messages)) == 1


def test_what_cannot_be_read_says_why_when_it_is_taken_again(site: Site) -> None:
    assert site.take(order().replace(b"MSH|^~\\&|", b"MSH|^^^^|")) == ("AR", ["102 MSH-2"])


def late(site: Site, message: bytes) -> tuple[str, list[str]]:
    answer = site.feed.receive_now(message, is_late=True)
    return answer.code, [fault.text for fault in answer.faults]


def test_a_refused_message_does_not_set_anew_what_newer_ones_have_set(site: Site) -> None:
    site.use('[rules]\nrequired = ["ReasonForTheRequestedProcedure"]\n')
    old = sent_at(order(), "20240705080000")
    assert site.take(old) == ("AE", ["101 OBR-31.2"])
    moved = order("XO", control_id="2", reason="cough").replace(b"^^^20240705100000", b"^^^20240706160000")
    site.take(sent_at(moved, "20240705090000"))
    assert late(site, old) == ("AE", ["ScheduledProcedureStepStartDateTime was set by ORM_O01 2"])
    assert site.entry.step.start_date == date(2024, 7, 6)
    assert [failed.message for failed in site.store.read(failed_messages)] == [old]
    site.feed.receive_now(old)
    assert site.entry.step.start_date == date(2024, 7, 5)
    assert site.store.read(failed_messages) == []


def test_a_refused_message_may_set_what_newer_ones_have_not_set(site: Site) -> None:
    site.take(sent_at(order(), "20240705080000"))
    site.take(sent_at(order("XO", control_id="3", room="R2"), "20240705100000"))
    old = sent_at(order("XO", control_id="2", reason="cough"), "20240705090000")
    assert late(site, old) == ("AA", [])
    assert site.entry.procedure.reason == "cough"


def test_a_refused_cancel_does_not_cancel_an_order_that_came_after_it(site: Site) -> None:
    cancel = sent_at(order("CA", control_id="2"), "20240705080000")
    site.take(cancel)
    site.clock.now += timedelta(hours=25)
    site.take(sent_at(order(), "20240706090000"))
    assert late(site, cancel) == ("AE", ["ScheduledProcedureStepStatus was set by ORM_O01 1"])
    assert site.entry.step.status == "SCHEDULED"
