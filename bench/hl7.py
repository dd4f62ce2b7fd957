"""The HL7 feed: time to read a message, messages acknowledged a second, and time until a C-FIND sees them."""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import dulproto
from dulproto import Element
from mwl.config import from_table
from mwl.hl7.feed import NothingKnown
from mwl.hl7.mapping import load_mapping
from mwl.hl7.message import decode_message
from mwl.hl7.orders import make_plan
from mwl.hl7.sender import send
from mwl.server import running

_HEAD = "MSH|^~\\&|RIS|HOSP|MWL|RAD|20240705093000||{kind}|M{number}|P|{version}|||||DEU|8859/1"
_PATIENT = (
    "PID|1||4711{number}^^^HOSP&1.2.276.0.1&ISO^MR||Müller^Jörg^A^^Dr||19600412|M|||Hauptstr. 1^^Köln^^50667^DE",
    "PV1|1|I|CHIR^201^1^HOSP||||9^Aufnahme^Arzt|77^Haus^Greg^^^Dr|||||||||||V{number}^^^HOSP",
)
_ORM = (
    _HEAD.replace("{kind}", "ORM^O01").replace("{version}", "2.3.1"),
    *_PATIENT,
    "ORC|NW|P{number}^RIS|F{number}^RIS||SC||^^^20240705100000^^R||20240705092900|55^Clerk^C||66^Weber^Ute|||||S^Surgery",
    "OBR|1|P{number}^RIS|F{number}^RIS|CTCHE^CT chest^LOCAL^CTP1^Chest protocol^LOCALP||||||||||||66^Weber^Ute"
    "||A{number}|RP{number}|S{number}||||CT|||||||WHLC|^cough||||||||||||RPC1^CT of the chest^LOCAL",
    "NTE|1||please hurry",
    "OBX|1|NM|29463-7^Body Weight^LN||82|kg",
    "ZDS|1.2.826.0.1.{number}^^Application^DICOM",
)
_OMI = (
    _HEAD.replace("{kind}", "OMI^O23^OMI_O23").replace("{version}", "2.5.1"),
    *_PATIENT,
    "ORC|NW|P{number}^RIS|F{number}^RIS||SC||||20240705092900|55^Clerk^C||66^Weber^Ute",
    "TQ1|1||||||20240705100000||R^Routine^HL70485",
    "OBR|1|P{number}^RIS|F{number}^RIS|CTCHE^CT chest^LOCAL||||||||||||66^Weber^Ute",
    "IPC|A{number}^RIS|RP{number}|1.2.826.0.2.{number}^^Application^DICOM|S{number}|CT|P1^Chest^L|R1^Room 1|L1|CT1",
    "IPC|A{number}^RIS|RP{number}|1.2.826.0.2.{number}^^Application^DICOM|T{number}|CT|P2^Abdomen^L|R1^Room 1|L1|CT1",
)


def _message(lines: tuple[str, ...], number: int) -> bytes:
    return "".join(f"{line}\r" for line in lines).replace("{number}", str(number)).encode("latin_1")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--messages", type=int, default=4000, help="messages to acknowledge, each way (4000)")
    parser.add_argument("--visible", type=int, default=1000, help="messages to look for by C-FIND (1000)")
    parser.add_argument("--folder", type=Path, help="where to put the store: on the disk that is to be measured")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    messages, visible = (200, 50) if arguments.smoke else (arguments.messages, arguments.visible)
    figures: dict[str, Any] = {}
    for name, lines in (("orm", _ORM), ("omi", _OMI)):
        raw = _message(lines, 1)
        figures[f"read_{name}_us"] = _microseconds(partial(decode_message, raw))
        figures[f"read_all_fields_of_{name}_us"] = _microseconds(partial(_all_fields, raw))
        figures[f"decide_on_{name}_us"] = _microseconds(_decider(raw))
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder, _provider(Path(folder)) as (hl7, dicom, pid):
        for connections in (1, 16):
            before = _cpu_seconds(pid)
            figures[f"acknowledged_per_second_by_{connections}"] = asyncio.run(_rate(hl7, messages, connections))
            used = (_cpu_seconds(pid) - before) / messages
            figures[f"processor_us_per_message_by_{connections}"] = used * 1_000_000
        figures |= asyncio.run(_visibility(hl7, dicom, visible))
    return figures


def _cpu_seconds(pid: int) -> float:
    """Tell how much processor time a process took so far: other programs on the machine do not change that."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _microseconds(function: Callable[[], Any]) -> float:
    """Time a function: the best of five rounds, which other programs on the machine disturb least."""
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        for _ in range(1000):
            function()
        times.append(time.perf_counter() - begin)
    return min(times) * 1000


def _all_fields(raw: bytes) -> int:
    return sum(len(segment.fields) for segment in decode_message(raw).segments)


def _decider(raw: bytes) -> Callable[[], Any]:
    message, mapping, known, now = decode_message(raw), load_mapping(), NothingKnown(), datetime.now()
    return lambda: make_plan(message, mapping, known, now)


# --- the provider that is measured, in a process of its own -------------------------------------------------------


@contextmanager
def _provider(folder: Path) -> Iterator[tuple[int, int, int]]:
    with subprocess.Popen(
        [sys.executable, "-m", "bench.hl7", str(folder)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            hl7, dicom = map(int, process.stdout.readline().split())
            yield hl7, dicom, process.pid
        finally:
            process.terminate()


async def _serve(folder: Path) -> None:
    tables = {
        "store": {"path": "worklist.db"},
        "dicom": {"host": "127.0.0.1", "port": 0},
        "hl7": {"host": "127.0.0.1", "port": 0},
        "ae": [{"title": "WORKLIST", "max_associations": 0}],
    }
    async with running(from_table(tables, base=folder)) as provider:
        assert provider.server is not None
        assert provider.hl7 is not None
        print(provider.hl7.addresses[0][1], provider.server.addresses[0][1], flush=True)
        await asyncio.Event().wait()


# --- the measurements ---------------------------------------------------------------------------------------------


async def _rate(port: int, count: int, connections: int) -> float:
    each = count // connections

    async def one(number: int) -> None:
        first = 1_000_000 * connections + number * each
        async for sent in send("127.0.0.1", port, [_message(_ORM, first + turn) for turn in range(each)]):
            assert sent.code == "AA", sent.ack

    begin = time.perf_counter()
    await asyncio.gather(*(one(number) for number in range(connections)))
    return each * connections / (time.perf_counter() - begin)


async def _visibility(hl7: int, dicom: int, count: int) -> dict[str, float]:
    """Measure from each acknowledgement to the answer that has the entry: one query, if it is seen at once."""
    association = await dulproto.connect("127.0.0.1", dicom, called_ae_title="WORKLIST")
    messages = [_message(_ORM, 50_000_000 + number) for number in range(count)]
    seconds: list[float] = []
    queries = 0
    number = 0
    async for sent in send("127.0.0.1", hl7, messages):
        assert sent.code == "AA", sent.ack
        begin = time.perf_counter()
        accession = f"A{50_000_000 + number}".encode()
        found = False
        while not found:
            queries += 1
            keys = {0x00080050: Element(0x00080050, "SH", accession)}
            found = bool([entry async for _, entry in association.c_find(keys) if entry is not None])
        seconds.append(time.perf_counter() - begin)
        number += 1
    await association.release()
    ranked = statistics.quantiles(seconds, n=100)
    return {
        "visible_after_ack_ms_p50": ranked[49] * 1000,
        "visible_after_ack_ms_p99": ranked[98] * 1000,
        "visible_after_ack_ms_max": max(seconds) * 1000,
        "queries_until_visible": queries / count,
    }


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1])))
