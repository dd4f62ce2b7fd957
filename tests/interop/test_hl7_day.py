"""A day of a department over the wire: after each HL7 message, DCMTK's findscu sees what it must."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import pydicom
import pytest

from mwl.config import from_table
from mwl.hl7.sender import send
from mwl.server import running

TODAY = datetime.now().strftime("%Y%m%d")
STATIONS = """
[attributes]
ScheduledProcedureStepLocation = "OBR-21"

[[station]]
modality = "CT"
location = "ROOM1"
ae_titles = ["CT1"]

[[station]]
modality = "CT"
location = "ROOM2"
ae_titles = ["CT2"]
"""
KEYS = ("PatientName", "PatientID", "AccessionNumber", "OtherPatientIDsSequence")
STEP_KEYS = ("ScheduledStationAETitle", "ScheduledProcedureStepStartTime", "Modality", "ScheduledProcedureStepStatus")


class Department(NamedTuple):
    dicom_port: int
    hl7_address: tuple[str, int]
    folder: Path

    async def tell(self, *lines: str, code: str = "AA") -> None:
        """Send a message; its acknowledgement is at once followed by the query of the test."""
        message = "\r".join([*lines, ""]).encode()
        (sent,) = [one async for one in send(*self.hl7_address, [message])]
        assert sent.code == code, sent.ack

    async def list(self, station: str) -> list[tuple[str, ...]]:
        """Ask as the modality of a station does: accession number, name, identifier, time and other identifiers."""
        for old in self.folder.glob("rsp*.dcm"):
            old.unlink()
        step = [f"ScheduledProcedureStepSequence[0].{key}" for key in STEP_KEYS]
        step[0] += f"={station}"
        command = ["findscu", "-W", "-aec", "WORKLIST", "-X", "-od", str(self.folder)]
        command += [part for key in (*KEYS, *step) for part in ("-k", key)]
        process = await asyncio.create_subprocess_exec(*command, "127.0.0.1", str(self.dicom_port))
        assert await process.wait() == 0
        return sorted(_row(pydicom.dcmread(path, force=True)) for path in self.folder.glob("rsp*.dcm"))


def _row(answer: Any) -> tuple[str, ...]:
    (step,) = answer.ScheduledProcedureStepSequence
    others = ",".join(item.PatientID for item in answer.OtherPatientIDsSequence)
    time, status = step.ScheduledProcedureStepStartTime[:4], step.ScheduledProcedureStepStatus
    return (answer.AccessionNumber, str(answer.PatientName), answer.PatientID, time, status, others)


@asynccontextmanager
async def department(folder: Path) -> AsyncIterator[Department]:
    (folder / "site.toml").write_text(STATIONS)
    tables = {
        "store": {"path": "w.db"},
        "dicom": {"host": "127.0.0.1", "port": 0},
        "hl7": {"host": "127.0.0.1", "port": 0, "mapping": "site.toml"},
        "ae": [{"title": "WORKLIST", "max_associations": 0}],
    }
    async with running(from_table(tables, base=folder)) as provider:
        assert provider.server
        assert provider.hl7
        yield Department(provider.server.addresses[0][1], provider.hl7.addresses[0], folder)


def head(kind: str, control_id: str) -> str:
    return f"MSH|^~\\&|RIS|HOSP|MWL|RAD|{TODAY}||{kind}|{control_id}|P|2.3.1"


def patient(number: str, name: str) -> str:
    return f"PID|||{number}^^^HOSP||{name}||19700101|F"


def order(number: int, control: str, time: str, room: str) -> list[str]:
    """Write ORC, OBR and ZDS of an order."""
    fields = {
        1: "1",
        3: f"F{number}",
        4: "CTCHE^CT chest^LOCAL",
        18: f"A{number}",
        19: f"RP{number}",
        20: f"S{number}",
    }
    fields |= {21: room, 24: "CT"}
    obr = "|".join(["OBR", *(fields.get(field, "") for field in range(1, 25))])
    return [f"ORC|{control}||F{number}||||^^^{TODAY}{time}", obr, f"ZDS|1.2.826.0.1.{number}"]


async def test_each_message_is_seen_by_the_next_query(tmp_path: Path) -> None:
    async with department(tmp_path) as day:
        anna, berta = patient("1", "Anna^A"), patient("2", "Berta^B")
        await day.tell(head("ADT^A04", "1"), anna)
        assert await day.list("CT1") == []

        await day.tell(head("ORM^O01", "2"), anna, *order(1, "NW", "1000", "ROOM1"))
        await day.tell(head("ORM^O01", "3"), berta, *order(2, "NW", "1030", "ROOM1"))
        await day.tell(head("ORM^O01", "4"), patient("TEMP9", "Unknown^U"), *order(3, "NW", "1100", "ROOM1"))
        first = ("A1", "Anna^A", "1", "1000", "SCHEDULED", "")
        second = ("A2", "Berta^B", "2", "1030", "SCHEDULED", "")
        third = ("A3", "Unknown^U", "TEMP9", "1100", "SCHEDULED", "")
        assert await day.list("CT1") == [first, second, third]

        await day.tell(head("SIU^S13", "5"), "SCH||||||||||30|MIN|" + "|" * 15 + "F1", f"AIS|1||CTCHE|{TODAY}1200")
        assert await day.list("CT1") == [("A1", "Anna^A", "1", "1200", "SCHEDULED", ""), second, third]

        await day.tell(head("ORM^O01", "6"), berta, *order(2, "XO", "1030", "ROOM2"))
        assert await day.list("CT2") == [second]
        assert [row[0] for row in await day.list("CT1")] == ["A1", "A3"]

        await day.tell(head("ADT^A40", "7"), patient("3", "Clara^C"), "MRG|TEMP9^^^HOSP")
        merged = ("A3", "Clara^C", "3", "1100", "SCHEDULED", "TEMP9")
        assert (await day.list("CT1"))[1] == merged

        await day.tell(head("ADT^A10", "8"), berta)
        assert await day.list("CT2") == [("A2", "Berta^B", "2", "1030", "ARRIVED", "")]

        await day.tell(head("ADT^A08", "9"), patient("2", "Berta-Neu^B"))
        assert (await day.list("CT2"))[0][1] == "Berta-Neu^B"

        await day.tell(head("ORM^O01", "10"), anna, "ORC|CA||F1", "ZDS|1.2.826.0.1.1")
        assert await day.list("CT1") == [merged]

        await day.tell(head("SIU^S26", "11"), "SCH||||||||||30|MIN|" + "|" * 15 + "F3")
        assert await day.list("CT1") == []

        await day.tell(head("ORM^O01", "12"), berta, "ORC|SC||F2||CM", "ZDS|1.2.826.0.1.2")
        assert await day.list("CT2") == []


@pytest.mark.parametrize("count", [30])
async def test_an_order_is_listed_as_soon_as_it_is_acknowledged(tmp_path: Path, count: int) -> None:
    async with department(tmp_path) as day:
        for number in range(count):
            await day.tell(head("ORM^O01", str(number)), patient("1", "A^B"), *order(number, "NW", "1000", "ROOM1"))
            if number % 10 == 9:
                assert len(await day.list("CT1")) == number + 1
