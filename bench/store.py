"""The store: how fast changes get on disk, and how long a start takes that loads all entries."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import time
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from mwl.demo import sample_entries
from mwl.item import Entry
from mwl.store import Put, Store

_BATCH = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--entries", type=int, default=100_000, help="entries in the store (100,000)")
    parser.add_argument("--folder", help="where to put the store, on the disk to be measured (the system's own)")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    count = 2000 if arguments.smoke else arguments.entries
    entries = sample_entries(count, date(2024, 7, 5))
    with TemporaryDirectory(dir=arguments.folder) as folder:
        path = Path(folder) / "worklist.db"
        with contextlib.closing(Store(path)) as store:
            begin = time.perf_counter()
            for start in range(0, count, _BATCH):
                store.commit_now([Put(entry) for entry in entries[start : start + _BATCH]])
            filled = time.perf_counter() - begin
            single = min(count, 1000)
            begin = time.perf_counter()
            for entry in entries[:single]:
                store.commit_now([Put(entry)])
            alone = time.perf_counter() - begin
            many = min(count, 10_000)
            begin = time.perf_counter()
            asyncio.run(_commit_at_once(store, many, entries))
            together = time.perf_counter() - begin
            begin = time.perf_counter()
            store.backup(Path(folder) / "backup.db")
            backed_up = time.perf_counter() - begin
        size = path.stat().st_size
        bodies = _bodies(entries[:10_000])
        del entries
        gc.collect()
        gc.disable()  # as a provider does while it loads
        begin = time.perf_counter()
        with contextlib.closing(Store(path)) as store:
            loaded = sum(1 for _ in store.load()[1])
        seconds = time.perf_counter() - begin
        gc.enable()
    return {
        "entries": loaded,
        "put_in_batches_per_second": count / filled,
        "commits_one_after_another_per_second": single / alone,
        "commits_at_a_time_per_second": many / together,
        "open_and_load_seconds": seconds,
        "backup_seconds": backed_up,
        "file_bytes_per_entry": size / count,
        **bodies,
    }


def _bodies(entries: list[Entry]) -> dict[str, Any]:
    """Compare the two ways to write an entry: what the store keeps is JSON."""
    figures = {}
    for name, form in (("json", msgspec.json), ("msgpack", msgspec.msgpack)):
        bodies = [form.encode(entry) for entry in entries]
        decode = form.Decoder(Entry).decode
        begin = time.perf_counter()
        for body in bodies:
            decode(body)
        figures[f"{name}_body_bytes"] = sum(map(len, bodies)) / len(bodies)
        figures[f"{name}_decode_microseconds"] = (time.perf_counter() - begin) / len(bodies) * 1e6
    return figures


async def _commit_at_once(store: Store, count: int, entries: list[Entry]) -> None:
    await asyncio.gather(*[store.commit([Put(entry)]) for entry in entries[:count]])
