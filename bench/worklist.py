"""A whole provider with many entries: how long a start takes, what an entry takes, and what growth costs a match."""

from __future__ import annotations

import argparse
import asyncio
import time
from datetime import date
from typing import Any

import dulproto
from dulproto import EXPLICIT_LE, IMPLICIT_LE, MODALITY_WORKLIST_FIND, DataSet, Element

from . import machine, matching
from .sample import RETURN_KEYS, STEP_RETURN_KEYS, entries
from .server import serving, stored

_MATCHES = 25
_STEP = 0x00400100
_STEP_KEYS = {tag: Element(tag, vr) for tag, vr in STEP_RETURN_KEYS.items()}
_EVERYTHING: DataSet = {
    _STEP: Element(_STEP, "SQ", (_STEP_KEYS,)),
    **{tag: Element(tag, vr, () if vr == "SQ" else b"") for tag, vr in RETURN_KEYS.items()},
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--entries", type=int, default=100_000, help="a site with many entries (100,000)")
    parser.add_argument("--most", type=int, default=1_000_000, help="one with very many (1,000,000)")
    parser.add_argument("--few", type=int, default=10_000, help="one with few, to compare matches with (10,000)")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.smoke:
        arguments.entries, arguments.most, arguments.few = 500, 4000, 1000
    figures = _serve(1)
    alone = figures["resident_bytes_loaded"]
    shown: dict[str, Any] = {"seconds_to_start_with_1_entry": figures["seconds_to_start"]}
    for count in (arguments.entries, arguments.most):
        figures = _serve(count)
        shown |= {
            f"seconds_to_start_with_{count}": figures["seconds_to_start"],
            f"of_them_seconds_of_cpu_{count}": figures["cpu_seconds_to_start"],
            f"bytes_per_entry_loaded_{count}": (figures["resident_bytes_loaded"] - alone) // count,
            f"bytes_per_entry_in_two_syntaxes_{count}": (figures["resident_bytes_used"] - alone) // count,
            f"seconds_to_answer_all_{count}": figures["seconds_to_answer_all"],
            f"milliseconds_to_answer_one_of_{count}": figures["milliseconds_to_answer_one"],
        }
    return shown | _growth(arguments.few, arguments.most)


def _serve(count: int) -> dict[str, Any]:
    """Start `mwl serve` on a store with so many entries, and have all of them answered in two transfer syntaxes."""
    cores, _ = machine.cores()
    with stored(entries(count, _MATCHES, date.today())) as folder:
        begin = time.perf_counter()
        with serving(folder, cores) as server:
            started = time.perf_counter() - begin
            loaded, cpu = server.resident_bytes(), machine.cpu_seconds(server.pid)
            seconds, one = asyncio.run(_answer(server.port, count))
            return {
                "seconds_to_start": started,
                "cpu_seconds_to_start": cpu,
                "resident_bytes_loaded": loaded,
                "resident_bytes_used": server.resident_bytes(),
                "seconds_to_answer_all": seconds,
                "milliseconds_to_answer_one": one * 1000,
            }


async def _answer(port: int, count: int) -> tuple[float, float]:
    """Ask for everything in each syntax, then for one entry: seconds for all, and for the one, best of several."""
    seconds = []
    for transfer_syntax in (IMPLICIT_LE, EXPLICIT_LE):
        contexts = dulproto.propose(MODALITY_WORKLIST_FIND, transfer_syntaxes=[transfer_syntax])
        async with dulproto.connect("127.0.0.1", port, called_ae_title="WORKLIST", contexts=contexts) as association:
            elapsed, answered = await _timed(association, _EVERYTHING)
            assert answered == count, f"{answered} of {count} entries were answered"
            seconds.append(elapsed)
            accession = 0x00080050
            last = {**_EVERYTHING, accession: Element(accession, "SH", f"A{count - 1:08}".encode())}
            one = [await _timed(association, last) for _ in range(20)]
            assert {found for _, found in one} == {1}
    return sum(seconds), min(each for each, _ in one)


async def _timed(association: dulproto.ClientAssociation, keys: DataSet) -> tuple[float, int]:
    context = association.context_for(MODALITY_WORKLIST_FIND)
    command = dulproto.CommandSet(
        command_field=dulproto.CommandField.C_FIND_RQ, affected_sop_class_uid=context.abstract_syntax, priority=0
    )
    data = dulproto.encode_data_set(keys, context.transfer_syntax)
    begin, answered = time.perf_counter(), 0
    async for response in association.request(context, command, data):
        answered += response.command.has_data_set
    return time.perf_counter() - begin, answered


def _growth(few: int, many: int) -> dict[str, Any]:
    """Compare the time of matches that give the same number of entries, with few entries and with many."""
    of = matching.run(argparse.Namespace(entries=[few, many], smoke=False))
    figures: dict[str, Any] = {}
    for query in matching.QUERIES:
        hits = of[f"{query}_hits_at_{few}"]
        if hits and hits == of[f"{query}_hits_at_{many}"]:
            figures[f"{query}, {hits} hits, us at {few}"] = of[f"{query}_us_at_{few}"]
            figures[f"{query}, {hits} hits, us at {many}"] = of[f"{query}_us_at_{many}"]
            figures[f"{query}, times as long"] = of[f"{query}_us_at_{many}"] / of[f"{query}_us_at_{few}"]
    return figures
