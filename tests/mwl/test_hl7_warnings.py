"""What is not taken as it was sent is told: to the sender, in the log, and in the lineage."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from hl7_site import Site, order, update, with_status

from mwl.hl7.lineage import origins
from mwl.store import Update


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.store.close()


async def test_what_is_cut_or_left_out_is_told_to_the_sender_and_in_the_log(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    await site.feed.receive(order().replace(b"||Muster^Erika", b"||Muster^Erika||19600412"))
    pid = f"PID|||4711^^^HOSP||{'x' * 70}^Erika||1960"
    ack = await site.feed.receive(update(pid, "OBX|1|NM|29463-7||about 80|kg"))
    assert ack
    told = ["PatientName is cut to 64 of 76 characters", "PatientBirthDate is no whole day: it is left out"]
    assert ack.decode().split("\r")[1:-1] == [
        f"MSA|AA|u|PID-5: {told[0]}",
        f"ERR||PID^1^5|102^Data type error^HL70357|W||||{told[0]}",
        f"ERR||PID^1^7|102^Data type error^HL70357|W||||{told[1]}",
    ]
    assert site.entry.patient.birth_date == date(1960, 4, 12)
    assert all(text in caplog.messages[-1] for text in told)
    assert "Erika" not in caplog.text
    ack = await site.feed.receive(update(pid, version="2.3"))
    assert ack
    assert ack.decode().split("\r")[1:-1] == [f"MSA|AA|u|PID-5: {told[0]}"]


async def test_a_sender_is_told_what_cannot_be_deleted(site: Site) -> None:
    site.take(order())
    ack = await site.feed.receive(update('PID|||4711^^^HOSP||""'))
    assert ack
    assert ack.decode().split("\r")[1] == "MSA|AA|u|PID-5: PatientName cannot be deleted"
    assert site.entry.patient.name == "Muster^Erika"


def test_the_lineage_tells_what_was_cut(site: Site) -> None:
    site.take(order(reason="x" * 70))
    found = {one.attribute: one.note for one in origins(site.store.history(site.entry.key))}
    assert found.pop("ReasonForTheRequestedProcedure") == "is cut to 64 of 70 characters"
    assert set(found.values()) == {""}


def test_a_change_is_not_refused_for_what_it_would_not_take(site: Site) -> None:
    change = order("XO", control_id="2", reason="cough").replace(b"Muster^Erika", b"Muster^Erika||birthday")
    assert site.take(change) == ("AE", ["102 PID-7"])
    site.take(order())
    assert site.take(change) == ("AA", [])
    assert site.entry.procedure.reason == "cough"


async def test_a_change_of_what_has_started_is_logged(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    site.take(order())
    site.store.commit_now([Update(site.entry.key, with_status("STARTED"))])
    await site.feed.receive(order("XO", control_id="2", reason="cough"))
    assert "the entry was changed although it is STARTED" in caplog.text
