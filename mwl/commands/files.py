"""`mwl import` and `mwl export`: entries from files, and into files."""

from __future__ import annotations

import argparse
import sys
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from ..errors import MwlError
from ..files import Source, find_sources, read_source, write_json, write_wl_file
from ..item import Entry, EntryError
from ..store import Put, Store
from .options import add_config, add_json, open_store, read_store

__all__ = ["ARGUMENTS"]

_WAITING: Final = 1000  # commits under way: enough for the store to put many of them into one transaction


# --- import -------------------------------------------------------------------------------------------------------


def _import_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_json(parser, "the summary and the faults as JSON")
    parser.add_argument("path", metavar="PATH", nargs="+", type=Path, help="files, and folders with .wl, .dcm, .json")
    parser.set_defaults(run=import_entries)


def import_entries(options: argparse.Namespace) -> int:
    """Take in entries; a line for each that is refused and why, the others are kept."""
    refused: dict[str, EntryError] = {}
    with open_store(options) as store:
        sources = list(find_sources(options.path))
        if not sources:
            raise MwlError(f"there are no worklist files in {', '.join(map(str, options.path))}")
        with _progress(sources, shown=sys.stderr.isatty()) as steps:
            counts = _import(store, steps, refused)
    if options.json:
        faults = [{"where": where, "faults": exc.faults} for where, exc in refused.items()]
        print(msgspec.json.encode({**counts, "refused": faults}).decode())
    else:
        print(f"{len(sources):,} read: " + ", ".join(f"{n:,} {what}" for what, n in counts.items()))
    return 1 if refused else 0


def _import(store: Store, sources: Iterable[Source], refused: dict[str, EntryError]) -> dict[str, int]:
    counts = Counter(new=0, changed=0, unchanged=0, refused=0)
    waiting: deque[tuple[Entry, Future[int]]] = deque()
    under_way: dict[tuple[str, str], Entry] = {}  # a key may come again before its commit is done

    def finish() -> None:
        entry, commit = waiting.popleft()
        commit.result()
        if under_way[entry.key] is entry:
            del under_way[entry.key]

    for source in sources:
        try:
            entry = read_source(source)
        except EntryError as exc:
            refused[source.where] = exc
            counts["refused"] += 1
            print(f"refused {source.where}: {exc}", file=sys.stderr)
            continue
        known = under_way.get(entry.key) or store.get(entry.key)
        outcome = "new" if known is None else "unchanged" if known == entry else "changed"
        counts[outcome] += 1
        if outcome != "unchanged":
            under_way[entry.key] = entry
            waiting.append((entry, store.submit([Put(entry)], origin=f"mwl import {source.where}")))
        if len(waiting) > _WAITING:
            finish()
    while waiting:
        finish()
    return dict(counts)


@contextmanager
def _progress(sources: list[Source], *, shown: bool) -> Iterator[Iterable[Source]]:
    """Show a bar on standard error while the sources are gone through."""
    if not shown:
        yield sources
        return
    from rich.console import Console
    from rich.progress import track

    yield track(sources, "importing", console=Console(stderr=True))


# --- export -------------------------------------------------------------------------------------------------------


def _export_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    target = parser.add_mutually_exclusive_group()
    target.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="write DICOM JSON to a file (default: print it)"
    )
    target.add_argument("--wl", type=Path, metavar="FOLDER", help="write a DICOM file *.wl for each entry")
    parser.set_defaults(run=export_entries)


def export_entries(options: argparse.Namespace) -> int:
    """Write all entries."""
    with read_store(options) as reader:
        entries = reader.load()[1]
        if options.wl:
            options.wl.mkdir(parents=True, exist_ok=True)
            paths = {write_wl_file(entry, options.wl) for entry in entries}
            print(f"{len(paths):,} files written to {options.wl}")
        elif options.output:
            with options.output.open("w", encoding="utf-8") as file:
                write_json(entries, file)
        else:
            write_json(entries, sys.stdout)
    return 0


ARGUMENTS: Final = {"import": _import_arguments, "export": _export_arguments}
