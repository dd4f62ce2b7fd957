"""The servers to be measured, each in a process of its own."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from mwl.item import Entry
from mwl.store import Put, Store

from . import machine
from .canned import Canned

STORE = "worklist.db"
_BATCH = 1000
_START_SECONDS = 120
_CONFIGURATION = """
[store]
path = "{store}"

[dicom]
host = "127.0.0.1"
port = 0
workers = {workers}
known_hosts = ["127.0.0.0/8"]

[[ae]]
title = "WORKLIST"
max_associations = 0
"""


class Provider:
    """A running server: where it listens, and what its process takes."""

    def __init__(self, pid: int, port: int) -> None:
        self.pid = pid
        self.port = port

    def resident_bytes(self) -> int:
        """Resident memory now."""
        return machine.resident_bytes(self.pid)


@contextmanager
def provider(entries: int) -> Iterator[Provider]:
    """Run `mwl demo` with so many entries on a free port."""
    ports = ("--port", "0", "--http-port", "0")
    with started([sys.executable, "-m", "mwl", "demo", "--entries", str(entries), *ports]) as server:
        yield server


@contextmanager
def worklist(entries: Iterable[Entry], cores: set[int]) -> Iterator[Provider]:
    """Run `mwl serve` with these entries."""
    with stored(entries) as folder, serving(folder, cores) as server:
        yield server


@contextmanager
def stored(entries: Iterable[Entry], workers: int = 1) -> Iterator[Path]:
    """Put entries into a store in a new folder, with a configuration that lets anybody of 127.0.0.0/8 ask."""
    with tempfile.TemporaryDirectory(prefix="mwl-bench-") as name:
        folder = Path(name)
        (folder / "mwl.toml").write_text(_CONFIGURATION.format(store=STORE, workers=workers))
        with contextlib.closing(Store(folder / STORE)) as store:
            batch: list[Put] = []
            for entry in entries:
                batch.append(Put(entry))
                if len(batch) == _BATCH:
                    store.commit_now(batch)
                    batch = []
            if batch:
                store.commit_now(batch)
        yield folder


@contextmanager
def changing(folder: Path, known: Sequence[Entry], per_second: float) -> Iterator[None]:
    """Change entries in such a store, one after the other, as another program does: what is matched stays."""
    stop = threading.Event()

    def change() -> None:
        with contextlib.closing(Store(folder / STORE)) as store:
            for number, entry in enumerate(itertools.cycle(known)):
                step = msgspec.structs.replace(entry.step, description=f"change {number:07}")
                store.commit_now([Put(msgspec.structs.replace(entry, step=step))])
                if stop.wait(1 / per_second):
                    return

    thread = threading.Thread(target=change, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextmanager
def serving(folder: Path, cores: set[int], **environment: str) -> Iterator[Provider]:
    """Run `mwl serve` on such a folder, with the log that it keeps for everybody."""
    command = [sys.executable, "-m", "mwl", "serve", "-c", str(folder / "mwl.toml")]
    with started(command, cores, folder / "log", **environment) as server:
        yield server


@contextmanager
def replay(canned: Canned, cores: set[int]) -> Iterator[Provider]:
    """Run the server that writes prepared bytes."""
    with tempfile.TemporaryDirectory(prefix="mwl-bench-") as folder:
        path = Path(folder) / "canned.json"
        canned.save(path)
        with started([sys.executable, "-m", "bench.canned", str(path)], cores) as server:
            yield server


@contextmanager
def started(
    command: list[str], cores: set[int] | None = None, log: Path | None = None, **environment: str
) -> Iterator[Provider]:
    """Run a program that says `ready ... NAME=HOST:PORT` or `NAME=PORT` when it listens."""
    with open(log or os.devnull, "w") as log_file:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=log_file if log else None,
            text=True,
            env={**os.environ, **environment},
            preexec_fn=(lambda: machine.pin(0, cores)) if cores else None,
        )
    with process:
        assert process.stdout is not None
        late = threading.Timer(_START_SECONDS, process.kill)
        late.start()
        try:
            for line in process.stdout:
                if found := re.match(r"ready .*\b(?:dicom=\S*:|canned=|port=)(\d+)", line):
                    late.cancel()
                    yield Provider(process.pid, int(found[1]))
                    return
            told = log.read_text()[-2000:] if log else ""
            raise RuntimeError(f"{' '.join(command)} ended before it was ready\n{told}")
        finally:
            late.cancel()
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
