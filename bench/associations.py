"""Open many associations at once, let them be idle, then query on each: memory, and whether all are answered."""

from __future__ import annotations

import argparse
import asyncio
import resource
import time
from typing import Any

import dulproto
from dulproto import Element

from .server import Provider, provider

STATION = {
    0x00400100: Element(0x00400100, "SQ", ({0x00080060: Element(0x00080060, "CS", b"CT")},)),
    0x00100010: Element(0x00100010, "PN"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", type=int, default=2000, help="associations to open (2000)")
    parser.add_argument("--entries", type=int, default=200, help="entries in the worklist (200)")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    count = 100 if arguments.smoke else arguments.count
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with provider(arguments.entries) as server:
        return asyncio.run(_measure(server, count))


async def _measure(server: Provider, count: int) -> dict[str, Any]:
    async def connect() -> dulproto.ClientAssociation:
        return await dulproto.connect("127.0.0.1", server.port, called_ae_title="WORKLIST")

    warm = await connect()
    await _query(warm)
    before = server.resident_bytes()
    begin = time.perf_counter()
    associations = []
    for start in range(0, count, 100):
        associations += await asyncio.gather(*[connect() for _ in range(start, min(start + 100, count))])
    opened = time.perf_counter() - begin
    idle = server.resident_bytes()
    begin = time.perf_counter()
    answers = await asyncio.gather(*[_query(association) for association in associations])
    answered = time.perf_counter() - begin
    after = server.resident_bytes()
    await asyncio.gather(*[association.release() for association in associations], warm.release())
    assert len(set(answers)) == 1, "the same query had different answers"
    return {
        "associations_open": count,
        "associations_answered": len(answers),
        "matches_of_each_query": answers[0],
        "bytes_per_idle_association": (idle - before) // count,
        "bytes_per_association_after_query": (after - before) // count,
        "seconds_to_open_all": opened,
        "seconds_to_answer_all": answered,
    }


async def _query(association: dulproto.ClientAssociation) -> int:
    return sum([entry is not None async for _, entry in association.c_find(STATION)])
