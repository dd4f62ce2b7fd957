"""One folder of worklist files behind DCMTK's wlmscpfs and behind this provider: the same queries of findscu."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date, datetime, time
from pathlib import Path
from typing import NamedTuple

import msgspec
import pydicom
import pytest

import dulproto
from mwl.config import from_table
from mwl.demo import sample_entries
from mwl.files import read_entries, write_wl_file
from mwl.item import Entry
from mwl.server import running
from mwl.store import Put, Store

pytestmark = pytest.mark.skipif(not shutil.which("wlmscpfs"), reason="DCMTK is not installed")

DIFFERENCES = Path(__file__).parents[2] / "docs" / "differences.md"
TODAY = date(2024, 7, 5)
SAMPLE = sample_entries(150, TODAY)
LISTED = [entry for entry in SAMPLE if entry.step.status in ("SCHEDULED", "ARRIVED", "READY")]
ONE = LISTED[40]
STEP = "ScheduledProcedureStepSequence[0]."
STATION, MODALITY = f"{STEP}ScheduledStationAETitle", f"{STEP}Modality"
DATE, TIME = f"{STEP}ScheduledProcedureStepStartDate", f"{STEP}ScheduledProcedureStepStartTime"
PHYSICIAN = f"{STEP}ScheduledPerformingPhysicianName"
UTF_8 = "SpecificCharacterSet=ISO_IR 192"

# Keys that both match, alone and together; what is asked for besides, and has to come back with the same values.
SAME = [
    [],
    [f"{MODALITY}=CT"],
    [f"{MODALITY}=MR"],
    [f"{MODALITY}="],
    [f"{STATION}=CT1"],
    [f"{STATION}=NOBODY"],
    [f"{STATION}=*"],
    [f"{DATE}=20240705"],
    [f"{DATE}=20240705-20240706"],
    [f"{DATE}=20240706-"],
    [f"{DATE}=-20240704"],
    [f"{DATE}=20240706-20240705"],
    [f"{TIME}=090000"],
    [f"{DATE}=20240705", f"{TIME}=080000-100000"],
    [f"{DATE}=20240705-20240706", f"{TIME}=0900-1200"],
    [f"{DATE}=20240705-", f"{TIME}=0800-"],
    [f"{DATE}=20240705-20240705", f"{TIME}=1200-1000"],
    [f"PatientName={ONE.patient.name.split('=')[0]}", UTF_8],
    ["PatientName=Adams^Alice"],
    ["PatientName=Adams*"],
    ["PatientName=?dams*^A*"],
    ["PatientName=*"],
    ["PatientName=Wójcik*", UTF_8],
    ["PatientName=*=山田*", UTF_8],
    ["PatientName=*田*", UTF_8],
    [f"PatientID={ONE.patient.identifiers[0].value}"],
    [f"PatientID= {ONE.patient.identifiers[0].value} "],
    ["PatientID=NOBODY"],
    [f"AccessionNumber={ONE.request.accession_number}"],
    ["AccessionNumber=A*"],
    [f"RequestedProcedureID={ONE.procedure.procedure_id}"],
    [f"{PHYSICIAN}=Rossi*"],
    ["ReferringPhysicianName=Rossi*"],
    ["PatientSex=F"],
    ["PatientBirthDate=19500101-19801231"],
    ["QueryRetrieveLevel=STUDY"],
    ["ScheduledProcedureStepSequence"],
    [f"{STATION}=CT1", f"{DATE}=20240705", f"{MODALITY}=CT"],
    [f"{STATION}=CT1", f"{MODALITY}=MR"],
    [f"{DATE}=20240705", f"{MODALITY}=DX", "PatientName=A*"],
    [f"{DATE}=20240705-20240706", f"{TIME}=0800-1400", f"{MODALITY}=CT"],
    ["PatientName=Adams*", "PatientSex=F", f"{DATE}=20240701-20240731"],
]
RETURNED = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyInstanceUID"),
    *("RequestedProcedureID", "RequestedProcedureDescription", "ReferringPhysicianName"),
    *(f"{STEP}ScheduledProcedureStepID", STATION, MODALITY, DATE, TIME, PHYSICIAN),
)


class Difference(NamedTuple):
    """A query that the two answer differently; `heading` is where docs/differences.md says why."""

    heading: str
    keys: list[str]
    theirs: int | str
    ours: int


def count(**values: object) -> int:
    return sum(all(getattr(entry.step, name) == value for name, value in values.items()) for entry in LISTED)


ALL, CT, ADAMS = len(LISTED), count(modality="CT"), sum("Adams^" in entry.patient.name for entry in LISTED)
AT_NINE = sum(entry.step.start_time is not None and entry.step.start_time.hour == 9 for entry in LISTED)
IN_THE_MORNING = [
    entry for entry in LISTED if entry.step.start_time and time(8) <= entry.step.start_time < time(10, 1)
]
ERROR = "DataSetDoesNotMatchSOPClass"

# fmt: off
DIFFERENT = [
    Difference("Case of a station title", [f"{STATION}=ct1"], 0, count(station_ae_titles=("CT1",))),
    Difference("Case of a modality", [f"{MODALITY}=ct"], ERROR, CT),
    Difference("Case of a person name", ["PatientName=ADAMS*"], 0, ADAMS),
    Difference("Case of a person name", [f"{PHYSICIAN}=rossi*"], 0, count(performing_physician="Rossi^Paolo^^Prof.")),
    Difference("Components at the end of a name", [f"PatientName={ONE.patient.name.split('=')[0]}^", UTF_8], 0, 1),
    Difference("Wild cards", [f"{STATION}=CT?"], 0, count(modality="CT")),
    Difference("Wild cards", ["PatientID=40000*"], 0,
               sum(e.patient.identifiers[0].value.startswith("40000") for e in LISTED)),
    Difference("Several values of a key", [f"{MODALITY}=CT\\MR"], ERROR, CT + count(modality="MR")),
    Difference("A range of times without a date", [f"{TIME}=0800-1000"], len(IN_THE_MORNING),
               sum(e.step.start_date == TODAY for e in IN_THE_MORNING)),
    Difference("Times of day without minutes", [f"{TIME}=09"],
               sum(e.step.start_time == time(9) for e in LISTED), AT_NINE),
    Difference("Keys that only one of the two matches", [f"{STEP}ScheduledProcedureStepStatus=ARRIVED"], ALL,
               count(status="ARRIVED")),
    Difference("Keys that only one of the two matches", [f"{STEP}ScheduledProcedureStepLocation=RAD-A"], ALL,
               count(location="RAD-A")),
    Difference("Keys that only one of the two matches", [f"StudyInstanceUID={ONE.procedure.study_instance_uid}"],
               ALL, 1),
    Difference("Dates that cannot be read", [f"{DATE}=2024*"], ERROR, ALL),
    Difference("Dates that cannot be read", [f"{DATE}=TODAY"], ERROR, ALL),
    Difference("Keys of the step outside of it", ["Modality=CT"], ALL, CT),
    Difference("Text without a character set", ["PatientName=Wójcik*"], ERROR,
               sum(entry.patient.name.startswith("Wójcik") for entry in LISTED)),
]
# fmt: on


class Side(NamedTuple):
    """One of the two providers, as findscu sees it."""

    port: int
    folder: Path

    async def find(self, keys: list[str], returned: tuple[str, ...] = ("StudyInstanceUID",)) -> list[dict[str, str]]:
        """The values of what was asked for, of each entry that is answered, in the order of their study UIDs."""
        matches, status = await self.ask(keys, returned)
        assert status == "Success"
        return sorted(matches, key=lambda match: match["StudyInstanceUID"])

    async def ask(self, keys: list[str], returned: tuple[str, ...]) -> tuple[list[dict[str, str]], str]:
        for file in self.folder.glob("rsp*"):
            file.unlink()
        given = {key.partition("=")[0] for key in keys}
        if "ScheduledProcedureStepSequence" in given:
            returned = tuple(name for name in returned if not name.startswith(STEP))
        options = [part for key in (*(name for name in returned if name not in given), *keys) for part in ("-k", key)]
        process = await asyncio.create_subprocess_exec(
            *("findscu", "-v", "-W", "-X", "-od", str(self.folder), "-aec", "WORKLIST"),
            *(*options, "127.0.0.1", str(self.port)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await process.communicate()
        status = out.decode("latin_1").partition("Final Find Response (")[2].partition(")")[0].removeprefix("Error: ")
        return [_values(file, returned) for file in sorted(self.folder.glob("rsp*"))], status


def _values(file: Path, names: tuple[str, ...]) -> dict[str, str]:
    dataset = pydicom.dcmread(file, force=True)
    found = {}
    for name in names:
        owner = dataset.ScheduledProcedureStepSequence[0] if name.startswith(STEP) else dataset
        found[name] = str(owner[name.removeprefix(STEP)].value)
    return found


async def wlmscpfs(side: Side, folder: Path, *options: str) -> tuple[asyncio.subprocess.Process, int]:
    """Start the server of DCMTK on a free port, and wait until it answers; if the port was taken, on another one."""
    async with asyncio.timeout(60):
        while True:
            with socket.socket() as sock:
                sock.bind(("127.0.0.1", 0))
                port = int(sock.getsockname()[1])
            arguments = "-q", "-csk", "-dfp", str(folder), *options, str(port)
            server = await asyncio.create_subprocess_exec("wlmscpfs", *arguments)
            asking = side._replace(port=port)
            while server.returncode is None:
                if (await asking.ask([f"{MODALITY}=ZZ"], ("StudyInstanceUID",)))[1] == "Success":
                    return server, port


def worklist_files(root: Path, entries: list[Entry]) -> Path:
    """Make the folder that wlmscpfs serves to callers of WORKLIST."""
    files = root / "WORKLIST"
    files.mkdir()
    (files / "lockfile").touch()
    for entry in entries:
        write_wl_file(entry, files)
    return files


@asynccontextmanager
async def both(tmp_path: Path, entries: list[Entry]) -> AsyncIterator[tuple[Side, Side]]:
    """Serve a folder of worklist files by wlmscpfs, and what is imported from it by this provider."""
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    for folder in (theirs, ours):
        folder.mkdir()
    files = worklist_files(tmp_path, entries)
    ae = {"title": "WORKLIST", "character_set": "ISO_IR 192", "max_associations": 0}
    config = from_table({"dicom": {"host": "127.0.0.1", "port": 0}, "ae": [ae]}, base=tmp_path)
    with contextlib.closing(Store(config.store.path)) as store:
        store.commit_now([Put(entry) for _, entry in read_entries([files]) if isinstance(entry, Entry)])
    server, port = await wlmscpfs(Side(0, theirs), tmp_path)
    try:
        async with running(config, now=lambda: datetime(2024, 7, 5, 12)) as provider, asyncio.timeout(120):
            ours_port = int(provider.addresses["dicom"].rpartition(":")[2])
            yield Side(port, theirs), Side(ours_port, ours)
    finally:
        server.kill()
        await server.wait()


async def test_both_answer_the_same_entries_with_the_same_values(tmp_path: Path) -> None:
    async with both(tmp_path, LISTED) as (them, us):
        for keys in SAME:
            theirs, ours = await them.find(keys, RETURNED), await us.find(keys, RETURNED)
            assert theirs == ours, keys


async def test_where_they_differ_it_is_written_down_why(tmp_path: Path) -> None:
    headings = [line[3:] for line in DIFFERENCES.read_text("utf-8").splitlines() if line.startswith("## ")]
    async with both(tmp_path, LISTED) as (them, us):
        found = []
        for difference in DIFFERENT:
            theirs, status = await them.ask(difference.keys, ("StudyInstanceUID",))
            ours = await us.find(difference.keys)
            found.append(difference._replace(theirs=len(theirs) if status == "Success" else status, ours=len(ours)))
            assert difference.heading in headings
    assert found == DIFFERENT
    assert all(each.theirs != each.ours for each in found)


async def test_what_is_over_is_listed_by_wlmscpfs_alone(tmp_path: Path) -> None:
    async with both(tmp_path, SAMPLE) as (them, us):
        assert len(await them.find([])) == len(SAMPLE)
        assert [match["StudyInstanceUID"] for match in await us.find([])] == sorted(
            entry.procedure.study_instance_uid for entry in LISTED
        )


async def test_attributes_that_only_one_of_the_two_knows(tmp_path: Path) -> None:
    async with both(tmp_path, [ONE]) as (them, us):
        keys = ["PatientAge", "StudyDescription"]
        for side in (them, us):
            await side.ask(keys, ("StudyInstanceUID",))
        [theirs], [ours] = ([*side.folder.glob("rsp*")] for side in (them, us))
        assert "PatientAge" not in pydicom.dcmread(theirs, force=True)
        assert pydicom.dcmread(ours, force=True).PatientAge
        assert "StudyDescription" not in pydicom.dcmread(ours, force=True)


async def test_an_empty_value_is_found_by_an_asterisk_and_by_nothing_else_on_both_sides(tmp_path: Path) -> None:
    nobody = msgspec.structs.replace(ONE, step=msgspec.structs.replace(ONE.step, performing_physician=""))
    async with both(tmp_path, [nobody]) as (them, us):
        for key, expected in ((f"{PHYSICIAN}=*", 1), (f"{PHYSICIAN}=?*", 0), (f"{PHYSICIAN}=", 1)):
            assert [len(await side.find([key])) for side in (them, us)] == [expected] * 2, key


async def test_our_client_cancels_a_query_of_wlmscpfs(tmp_path: Path) -> None:
    """It takes a second for each response, so that the cancel is there long before the last one."""
    worklist_files(tmp_path, LISTED[:30])
    server, port = await wlmscpfs(Side(0, tmp_path), tmp_path, "--sleep-during", "1")
    try:
        async with dulproto.connect("127.0.0.1", port, called_ae_title="WORKLIST") as association:
            statuses = []
            async for status, _ in association.c_find({0x0020000D: dulproto.Element(0x0020000D, "UI")}):
                statuses.append(status)
                if len(statuses) == 1:
                    association.c_cancel()
            assert statuses[-1] == 0xFE00
            assert await association.c_echo() == 0
    finally:
        server.kill()
        await server.wait()
