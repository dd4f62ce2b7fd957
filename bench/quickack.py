"""A client with Nagle's algorithm on that sends command and identifier in two segments, as many modalities do."""

from __future__ import annotations

import argparse
import asyncio
import statistics
import threading
import time
from collections.abc import Iterator
from typing import Any

from pynetdicom import AE

import dulproto
from dulproto import CommandField, Operation, transport


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--queries", type=int, default=50, help="queries each way (50)")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    queries = 5 if arguments.smoke else arguments.queries
    with_quickack = _median_query(queries)
    transport.TCP_QUICKACK = None  # type: ignore[misc]  # what is measured is what its absence costs
    without = _median_query(queries)
    return {
        "milliseconds_without_quickack": without * 1000,
        "milliseconds_with_quickack": with_quickack * 1000,
        "ratio": without / with_quickack,
    }


def _find(operation: Operation) -> Iterator[bytes]:
    yield operation.pending(operation.data_set())


def _median_query(queries: int) -> float:
    ready, stop = threading.Event(), threading.Event()
    port: list[int] = []

    async def serve() -> None:
        services = {dulproto.MODALITY_WORKLIST_FIND: {CommandField.C_FIND_RQ: _find}}
        async with await dulproto.serve(services, port=0) as server:
            port.append(server.addresses[0][1])
            ready.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    ready.wait()
    try:
        return statistics.median(_query_times(port[0], queries))
    finally:
        stop.set()
        thread.join()


def _query_times(port: int, queries: int) -> list[float]:
    """Time queries of an unmodified pynetdicom client."""
    from pydicom.dataset import Dataset

    identifier = Dataset()
    identifier.PatientName = ""
    ae = AE()
    ae.add_requested_context(dulproto.MODALITY_WORKLIST_FIND)
    times = []
    for _ in range(queries):
        # One association each: between two requests on one, pynetdicom's threads may mistake a response.
        association = ae.associate("127.0.0.1", port)
        begin = time.perf_counter()
        statuses = [
            status.Status for status, _ in association.send_c_find(identifier, dulproto.MODALITY_WORKLIST_FIND)
        ]
        times.append(time.perf_counter() - begin)
        association.release()
        assert statuses == [0xFF00, 0x0000]
    return times
