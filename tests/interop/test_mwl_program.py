"""The whole program, `mwl demo` and `mwl serve`, asked by the clients that sites have."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

ENTRIES = 120


class Program:
    """A running provider: its process, its DICOM port, what it printed before it was ready."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, printed: str) -> None:
        self.process = process
        self.port = port
        self.printed = printed

    async def stop(self) -> int:
        """Ask it to end; return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return await self.process.wait()


@asynccontextmanager
async def program(*arguments: str) -> AsyncIterator[Program]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mwl", *arguments), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    printed = ""
    try:
        async with asyncio.timeout(30):
            while not (ready := re.search(r"^ready .*dicom=\S*:(\d+)", printed, re.MULTILINE)):
                line = await process.stdout.readline()
                assert line, f"ended before it was ready: {printed}"
                printed += line.decode()
        yield Program(process, int(ready[1]), printed)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def output(*command: str) -> tuple[int, str]:
    """Run a command; return its exit status and all that it printed."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(60):
        printed, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, printed.decode("utf-8", "replace")


@pytest.fixture
async def demo() -> AsyncIterator[Program]:
    async with program("demo", "--entries", str(ENTRIES), "--port", "0", "--http-port", "0") as running:
        yield running


def findscu(demo: Program, *options: str) -> tuple[str, ...]:
    return (
        *("findscu", "-W", "-aec", "WORKLIST", *options),
        *("-k", "ScheduledProcedureStepSequence[0].Modality=CT", "-k", "PatientName", "127.0.0.1", str(demo.port)),
    )


def modalities(printed: str) -> set[str]:
    return set(re.findall(r"\(0008,0060\) CS \[(\w+)", printed))


async def test_echoscu_is_answered(demo: Program) -> None:
    status, printed = await output("echoscu", "-v", "-aec", "WORKLIST", "127.0.0.1", str(demo.port))
    assert status == 0
    assert "Received Echo Response (Success)" in printed


@pytest.mark.parametrize("options", [(), ("-xi",), ("-xe",), ("-xb",), ("--max-pdu", "4096")])
async def test_findscu_lists_only_ct_entries(demo: Program, options: tuple[str, ...]) -> None:
    status, printed = await output(*findscu(demo, *options))
    assert status == 0
    assert modalities(printed) == {"CT"}
    assert "PatientName" in printed


async def test_findscu_gets_the_same_entries_in_every_transfer_syntax(demo: Program) -> None:
    printed = [await output(*findscu(demo, option)) for option in ("-xi", "-xe", "-xb")]
    names = [sorted(re.findall(r"\(0010,0010\) PN \[(.*?)\s*\]", text)) for _, text in printed]
    assert names[0]
    assert names[0] == names[1] == names[2]


async def test_findscu_can_cancel(demo: Program) -> None:
    status, printed = await output(*findscu(demo, "-v", "--cancel", "2"))
    assert status == 0
    assert "Sending Cancel Request" in printed
    assert re.search(r"Received Final Find Response \((Success|Cancel)", printed)


async def test_the_commands_that_demo_prints_work_as_printed(demo: Program) -> None:
    commands = [line.strip() for line in demo.printed.splitlines() if line.startswith("  ")]
    assert len(commands) == 4
    for command in commands:
        if shutil.which(command.split()[0]) is None and not os.environ.get("CI"):
            continue  # DCMTK is not there; the other commands are what comes with Python, and curl
        status, printed = await output("sh", "-c", command)
        assert status == 0, printed
        assert "CT" in printed or "Success" in printed


async def test_mwl_find_prints_what_a_program_reads(demo: Program) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mwl", "find", f"WORKLIST@127.0.0.1:{demo.port}", "-k", "Modality=MR", "--json"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    printed, told = await process.communicate()
    matches = json.loads(printed)
    assert matches
    assert {match["00400100"]["Value"][0]["00080060"]["Value"][0] for match in matches} == {"MR"}
    assert told.decode().strip() == f"{len(matches)} entries, 0000H success"


async def test_mwl_echo_says_what_the_peer_did(demo: Program) -> None:
    address = f"NOBODY@127.0.0.1:{demo.port}"
    assert await output(sys.executable, "-m", "mwl", "echo", address) == (
        1,
        f"mwl echo: {address}: association rejected: permanent, called-AE-title-not-recognized (1/1/7)\n",
    )
    status, printed = await output(sys.executable, "-m", "mwl", "echo", f"WORKLIST@127.0.0.1:{demo.port}")
    assert (status, printed) == (0, "0000H success\n")


async def test_pynetdicom_finds_its_worklist(demo: Program) -> None:
    def ask() -> list[str]:
        from pydicom.dataset import Dataset
        from pynetdicom import AE
        from pynetdicom.sop_class import ModalityWorklistInformationFind

        identifier, step = Dataset(), Dataset()
        step.Modality = "CT"
        identifier.PatientName = ""
        identifier.ScheduledProcedureStepSequence = [step]
        ae = AE()
        ae.add_requested_context(ModalityWorklistInformationFind)
        association = ae.associate("127.0.0.1", demo.port, ae_title="WORKLIST")
        found = list(association.send_c_find(identifier, ModalityWorklistInformationFind))
        association.release()
        assert [status.Status for status, _ in found] == [0xFF00] * (len(found) - 1) + [0x0000]
        return [match.ScheduledProcedureStepSequence[0].Modality for _, match in found if match is not None]

    matched = await asyncio.to_thread(ask)
    assert matched
    assert set(matched) == {"CT"}


CONFIGURATION = """
[dicom]
host = "127.0.0.1"
port = 0
[store]
path = "worklist.db"
[[ae]]
title = "WORKLIST"
[[ae]]
title = "CT_ONLY"
max_associations = 1
filter = { modality = ["CT"] }
"""


async def configured(tmp_path: Path) -> Path:
    """Write a configuration, and import the sample worklist by way of .wl files."""
    from datetime import date

    from mwl.demo import sample_entries
    from mwl.files import write_wl_file

    file = tmp_path / "mwl.toml"
    file.write_text(CONFIGURATION)
    folder = tmp_path / "wl"
    folder.mkdir()
    for entry in sample_entries(40, date.today()):
        write_wl_file(entry, folder)
    status, printed = await output(sys.executable, "-m", "mwl", "import", "-c", str(file), str(folder))
    assert status == 0, printed
    return file


async def test_serve_lists_what_was_imported_and_each_title_has_its_list(tmp_path: Path) -> None:
    file = await configured(tmp_path)
    async with program("serve", "-c", str(file)) as running:
        lists = {}
        for title in ("WORKLIST", "CT_ONLY"):
            _, printed = await output(
                sys.executable, "-m", "mwl", "find", f"{title}@127.0.0.1:{running.port}", "--csv"
            )
            lists[title] = [line.split(",")[3] for line in printed.splitlines()[1:] if line.count(",") > 3]
        assert set(lists["CT_ONLY"]) == {"CT"}
        assert len(set(lists["WORKLIST"])) > 1
        assert await running.stop() == 0


async def test_an_entry_imported_while_serving_appears(tmp_path: Path) -> None:
    file = await configured(tmp_path)
    late = tmp_path / "late.json"
    step = {
        "00080060": {"vr": "CS", "Value": ["CT"]},
        "00400001": {"vr": "AE", "Value": ["CT1"]},
        "00400002": {"vr": "DA", "Value": ["20260102"]},
        "00400003": {"vr": "TM", "Value": ["0800"]},
    }
    patient = {
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Late^Larry"}]},
        "00100020": {"vr": "LO", "Value": ["LATE1"]},
    }
    late.write_text(json.dumps({**patient, "00400100": {"vr": "SQ", "Value": [step]}}))
    async with program("serve", "-c", str(file)) as running:
        find = (sys.executable, "-m", "mwl", "find", f"WORKLIST@127.0.0.1:{running.port}", "-k", "PatientID=LATE1")
        assert "Late^Larry" not in (await output(*find))[1]
        status, printed = await output(sys.executable, "-m", "mwl", "import", "-c", str(file), str(late))
        assert status == 0, printed
        async with asyncio.timeout(10):
            while "Late^Larry" not in (await output(*find))[1]:
                pass


async def test_a_second_provider_on_one_store_is_refused(tmp_path: Path) -> None:
    file = await configured(tmp_path)
    async with program("serve", "-c", str(file)):
        status, printed = await output(sys.executable, "-m", "mwl", "serve", "-c", str(file))
        assert status == 1
        assert "served by another process already" in printed
