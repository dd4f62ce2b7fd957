"""Worklist files between this provider and DCMTK's: made there and read here, made here and served there."""

from __future__ import annotations

import shutil
import socket
import subprocess
from datetime import date, time
from pathlib import Path
from time import monotonic

import pytest

from mwl.demo import sample_entries
from mwl.files import read_entries, write_wl_file
from mwl.item import Entry

pytestmark = pytest.mark.skipif(not shutil.which("wlmscpfs"), reason="DCMTK is not installed")

# In the form of DCMTK's own example worklist: no file header, defined and undefined lengths, Latin-1.
DUMP = r"""
(0008,0005) CS  [ISO_IR 100]
(0008,0050) SH  [A00017]
(0010,0010) PN  [M\374ller^J\366rg]
(0010,0020) LO  [4711]
(0010,0030) DA  [19700228]
(0010,0040) CS  [M]
(0010,2000) LO  [PACEMAKER\MRSA]
(0020,000d) UI  [1.2.826.0.1.3680043.10.1.17]
(0032,1032) PN  [House^Gregory]
(0032,1060) LO  [CT head]
(0040,0100) SQ
(fffe,e000) -
(0008,0060) CS  [CT]
(0032,1070) LO  [IODINE]
(0040,0001) AE  [CT1\CT2]
(0040,0002) DA  [20240705]
(0040,0003) TM  [103000]
(0040,0006) PN  [Curie^Marie]
(0040,0007) LO  [CT head native]
(0040,0009) SH  [SPS17]
(0040,0010) SH  [CTROOM]
(0040,0011) SH  [R1]
(0040,0012) LO
(0040,0400) LT
(fffe,e00d) -
(fffe,e0dd) -
(0040,1001) SH  [RP17]
(0040,1003) SH  [LOW]
"""


@pytest.mark.parametrize("options", [["-F"], ["+F"], ["-F", "+ti"], ["+F", "+tb"], ["-F", "+te", "-e"]], ids=" ".join)
def test_files_that_dcmtk_makes_are_imported(tmp_path: Path, options: list[str]) -> None:
    (tmp_path / "a.dump").write_bytes(DUMP.replace(r"\374", "ü").replace(r"\366", "ö").encode("latin_1"))
    subprocess.run(["dump2dcm", "-q", *options, tmp_path / "a.dump", tmp_path / "a.wl"], check=True)
    ((_, entry),) = read_entries([tmp_path])
    assert isinstance(entry, Entry), entry
    assert entry.key == ("1.2.826.0.1.3680043.10.1.17", "SPS17")
    assert entry.patient.name == "Müller^Jörg"
    assert entry.patient.medical_alerts == ("PACEMAKER", "MRSA")
    assert entry.step.station_ae_titles == ("CT1", "CT2")
    assert (entry.step.start_date, entry.step.start_time) == (date(2024, 7, 5), time(10, 30))
    assert entry.procedure.priority == "LOW"


def test_files_that_are_exported_are_served_by_dcmtk(tmp_path: Path) -> None:
    entries = sample_entries(30, date(2024, 7, 5))
    folder = tmp_path / "WORKLIST"
    folder.mkdir()
    (folder / "lockfile").touch()
    for entry in entries:
        write_wl_file(entry, folder)
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = str(sock.getsockname()[1])
    query = ["findscu", "-W", "-aec", "WORKLIST", "-X", "-od", str(tmp_path), "-k", "StudyInstanceUID"]
    query += ["-k", "ScheduledProcedureStepSequence[0].Modality=CT", "127.0.0.1", port]
    give_up = monotonic() + 20
    with subprocess.Popen(["wlmscpfs", "-dfp", str(tmp_path), port]) as server:
        try:
            while subprocess.run(query, capture_output=True).returncode:  # it does not listen yet
                assert monotonic() < give_up
        finally:
            server.terminate()
    assert len(list(tmp_path.glob("rsp*.dcm"))) == sum(entry.step.modality == "CT" for entry in entries) > 0
