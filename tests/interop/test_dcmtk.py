"""DCMTK, unmodified: its clients against our server, and our client against its worklist server."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from peers import CT, MODALITY, PATIENT_ID, PATIENT_NAME, STEP, Run, Worklist, entry
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

import dulproto
from dulproto import EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE, MODALITY_WORKLIST_FIND, VERIFICATION, Element, propose

CT_STEPS = {
    PATIENT_NAME: Element(PATIENT_NAME, "PN"),
    PATIENT_ID: Element(PATIENT_ID, "LO"),
    STEP: Element(STEP, "SQ", ({MODALITY: Element(MODALITY, "CS", CT)},)),
}
CT_KEYS = ("-k", "ScheduledProcedureStepSequence[0].Modality=CT", "-k", "PatientName")


def names_of(output: str) -> list[str]:
    return [name.strip() for name in re.findall(r"\(0010,0010\) PN \[([^]]*)\]", output)]


# --- its clients ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [[], ["-aec", "WORKLIST"], ["--propose-ts", "3"], ["--repeat", "20"]])
async def test_echoscu_succeeds(options: list[str], worklist: Worklist, run: Run) -> None:
    code, output = await run("echoscu", "-v", *options, "127.0.0.1", worklist.port)
    assert code == 0
    repeats = 20 if "--repeat" in options else 1
    assert output.count("Received Echo Response (Success)") == repeats


@pytest.mark.parametrize(
    ("options", "transfer_syntax"),
    [
        ([], "Little Endian Implicit"),
        (["-xi"], "Little Endian Implicit"),
        (["-xe"], "Little Endian Implicit"),  # it proposes Implicit as well, and the acceptor's order decides
        (["-xb"], "Little Endian Implicit"),
        (["--max-pdu", "4096"], "Little Endian Implicit"),
    ],
)
async def test_findscu_lists_the_steps_it_asks_for(
    options: list[str], transfer_syntax: str, worklist: Worklist, run: Run
) -> None:
    code, output = await run("findscu", "-W", *options, *CT_KEYS, "127.0.0.1", worklist.port)
    assert code == 0
    assert names_of(output) == ["Doe^Jane", "Poe^Edgar"]
    assert set(re.findall("Used TransferSyntax: (.*)", output)) == {transfer_syntax}


@pytest.mark.parametrize(
    ("option", "syntax", "name"),
    [("-xe", EXPLICIT_LE, "Little Endian Explicit"), ("-xb", EXPLICIT_BE, "Big Endian Explicit")],
)
async def test_findscu_reads_each_transfer_syntax(
    option: str, syntax: str, name: str, worklist: Worklist, run: Run
) -> None:
    worklist.server.policies = {"*": dulproto.Policy(abstract_syntaxes={MODALITY_WORKLIST_FIND: (syntax,)})}
    code, output = await run("findscu", "-W", option, *CT_KEYS, "127.0.0.1", worklist.port)
    assert code == 0
    assert names_of(output) == ["Doe^Jane", "Poe^Edgar"]
    assert set(re.findall("Used TransferSyntax: (.*)", output)) == {name}


async def test_findscu_cancels_a_long_answer(worklist: Worklist, run: Run) -> None:
    worklist.entries = [entry(f"Doe^{n:06}", n, CT) for n in range(20_000)]
    arguments = ("findscu", "-v", "-W", "--cancel", "2", *CT_KEYS, "127.0.0.1", worklist.port)
    code, output = await run(*arguments)
    assert code == 0
    assert "Received Final Find Response (Cancel" in output
    assert 2 <= len(names_of(output)) < 20_000


async def test_findscu_is_told_that_the_worklist_is_not_offered(worklist: Worklist, run: Run) -> None:
    worklist.server.policies = {"*": dulproto.Policy(abstract_syntaxes={VERIFICATION: (IMPLICIT_LE,)})}
    code, output = await run("findscu", "-W", *CT_KEYS, "127.0.0.1", worklist.port)
    assert code != 0
    assert "No Acceptable Presentation Contexts" in output


async def test_a_title_that_is_not_known_is_named_by_echoscu(worklist: Worklist, run: Run) -> None:
    worklist.server.policies = {"OTHER": dulproto.Policy(abstract_syntaxes={VERIFICATION: (IMPLICIT_LE,)})}
    code, output = await run("echoscu", "-aec", "WORKLIST", "127.0.0.1", worklist.port)
    assert code != 0
    assert "Called AE Title Not Recognized" in output


async def test_echoscu_that_aborts_instead_of_releasing_is_served_again(worklist: Worklist, run: Run) -> None:
    for _ in range(2):
        code, _ = await run("echoscu", "--abort", "127.0.0.1", worklist.port)
        assert code == 0
    assert worklist.server.associations.total() == 0


# --- its worklist server ----------------------------------------------------------------------------------------


def write_entry(path: Path, name: str, number: int, modality: str) -> None:
    step = Dataset()
    step.ScheduledStationAETitle = "CT1"
    step.ScheduledProcedureStepStartDate = "20260101"
    step.ScheduledProcedureStepStartTime = "0800"
    step.Modality = modality
    step.ScheduledPerformingPhysicianName = "House^Gregory"
    step.ScheduledProcedureStepDescription = "a scan"
    step.ScheduledProcedureStepID = f"S{number}"
    item = Dataset()
    item.SpecificCharacterSet = "ISO_IR 100"
    item.AccessionNumber = f"A{number}"
    item.PatientName = name
    item.PatientID = f"{number:06}"
    item.PatientBirthDate = "19700101"
    item.PatientSex = "F"
    item.ReferringPhysicianName = "Wilson^James"
    item.StudyInstanceUID = f"1.2.3.{number}"
    item.RequestingPhysician = "Cuddy^Lisa"
    item.RequestedProcedureDescription = "a scan"
    item.RequestedProcedureID = f"R{number}"
    item.ScheduledProcedureStepSequence = [step]
    item.file_meta = FileMetaDataset()
    item.file_meta.MediaStorageSOPClassUID = MODALITY_WORKLIST_FIND
    item.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.4.{number}"
    item.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    item.save_as(path, enforce_file_format=True)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture
async def wlmscpfs(tmp_path: Path) -> AsyncIterator[int]:
    """DCMTK's worklist server with three entries; the value is its port."""
    folder = tmp_path / "WLM"
    folder.mkdir()
    (folder / "lockfile").touch()
    for number, (name, modality) in enumerate([("Doe^Jane", "CT"), ("Roe^Rachel", "MR"), ("Poe^Edgar", "CT")]):
        write_entry(folder / f"{number}.wl", name, number, modality)
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        "wlmscpfs",
        "-d",
        "-dfp",
        tmp_path,
        str(port),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    reading = asyncio.ensure_future(process.stdout.read())  # or it would stop when the pipe is full
    try:
        await listening(port)
        yield port
    finally:
        process.kill()
        await process.wait()
        await reading


async def listening(port: int) -> None:
    """Wait until something accepts connections."""
    async with asyncio.timeout(20):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                await asyncio.sleep(0)
            else:
                writer.close()
                await writer.wait_closed()
                return


@pytest.mark.parametrize("transfer_syntax", [IMPLICIT_LE, EXPLICIT_LE, EXPLICIT_BE])
@pytest.mark.parametrize("maximum_length", [65536, 4096, 0])
async def test_our_client_queries_wlmscpfs(wlmscpfs: int, transfer_syntax: str, maximum_length: int) -> None:
    contexts = propose(VERIFICATION, MODALITY_WORKLIST_FIND, transfer_syntaxes=[transfer_syntax])
    options: dict[str, Any] = {"called_ae_title": "WLM", "contexts": contexts, "maximum_length": maximum_length}
    async with dulproto.connect("127.0.0.1", wlmscpfs, **options) as association:
        assert await association.c_echo() == 0
        found = [(status, entry) async for status, entry in association.c_find(CT_STEPS)]
    assert [status for status, _ in found][-1] == 0
    entries = [entry for _, entry in found if entry is not None]
    assert sorted(entry[PATIENT_NAME].raw.strip() for entry in entries) == [b"Doe^Jane", b"Poe^Edgar"]
    assert {entry[STEP].items[0][MODALITY].raw for entry in entries} == {CT}


async def test_our_client_is_told_why_wlmscpfs_refuses(wlmscpfs: int) -> None:
    with pytest.raises(dulproto.AssociationRejected, match="called-AE-title-not-recognized"):
        await dulproto.connect("127.0.0.1", wlmscpfs, called_ae_title="NOBODY")
