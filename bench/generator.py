"""Runs the load generator `load.c`: compiles it, writes down what it is to send, and reads what it found."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from struct import Struct
from typing import Any, Final

import msgspec

from . import machine
from .probe import associate_rq, echo_rq, find_rq
from .sample import Query

_U32: Final = Struct("<I")
_SOURCE: Final = Path(__file__).with_name("load.c")
NO_COMPILER: Final = (
    "there is no C compiler (cc, gcc or clang), and a load generator in Python would be slower than the servers: "
    "install one, on Debian the packages gcc and libc6-dev"
)
LIMIT: Final = 20_000  # associations at once, and connections a second that are asked for


class GeneratorError(Exception):
    """The load generator cannot be made or run."""


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What load is put on a server.

    With a `rate` (a second) or with `modalities` (each polling once in `period` seconds, give or take the share
    `jitter`), it begins when it is to begin, however slow the server is: times count from then.  Otherwise each of
    `slots` begins again when it is through.  `think` is the time that a modality takes between association and query.
    """

    seconds: float = 5
    warmup: float = 0.5
    slots: int = 100
    per_association: bool = True
    rate: float = 0
    modalities: int = 0
    period: float = 5
    jitter: float = 0.2
    think: float = 0
    hold: float = 0
    timeout: float = 30
    drain: float = 10
    processes: int = 1


class Result(msgspec.Struct, kw_only=True):
    """What came of it; times are in seconds, `histograms` has for each moment how often it took how long."""

    done: int
    """In the measured time."""
    total: int
    """With what was done before and after it."""
    responses: int
    received: int
    seconds: float
    generator_cpu: float
    """Of the busiest process, as a share of the time: near 1, the generator is what is measured."""
    failures: dict[str, int]
    most_waiting: int
    histograms: dict[str, Counter[int]]

    @property
    def rate(self) -> float:
        return self.done / self.seconds

    @property
    def failed(self) -> int:
        return sum(self.failures.values())

    def percentile(self, share: float, moment: str = "answered") -> float:
        """Give the time within which a share of all was through, to a hundredth; from when it was to begin."""
        histogram = self.histograms[moment]
        wanted, seen = share * histogram.total(), 0
        for nanoseconds in sorted(histogram):
            seen += histogram[nanoseconds]
            if seen >= wanted:
                return nanoseconds / 1e9
        return float("nan")


# --- what is sent -------------------------------------------------------------------------------------------------


def find_plan(queries: Sequence[Query], callers: int) -> bytes:
    """Write down queries of so many modalities."""
    requests = []
    for number, query in enumerate(queries):
        requests.append(_request(lambda id, q=query: find_rq(id, q.identifier), len(query.matches), number))  # type: ignore[misc]
    return _plan(requests, _callers(callers))


def echo_plan(callers: int) -> bytes:
    """Write down a C-ECHO of so many modalities."""
    return _plan([_request(echo_rq, 0, 0)], _callers(callers))


def associate_plan(associate: bytes) -> bytes:
    """Write down an association request, or any bytes in its place, that will not be accepted."""
    return _plan([_request(echo_rq, 0, 0)], [associate])


def _request(encode: Callable[[int], bytes], hits: int, caller: int) -> bytes:
    pdus, other = encode(0), encode(0xFFFF)
    place = next(place for place, (a, b) in enumerate(zip(pdus, other, strict=True)) if a != b)
    return b"".join(map(_U32.pack, (place, hits, caller, len(pdus)))) + pdus


def _callers(count: int) -> list[bytes]:
    return [associate_rq(f"MODALITY{number}") for number in range(count)]


def _plan(requests: list[bytes], associates: list[bytes]) -> bytes:
    return b"".join(
        [
            _U32.pack(len(associates)),
            *[_U32.pack(len(rq)) + rq for rq in associates],
            _U32.pack(len(requests)),
            *requests,
        ]
    )


# --- run ----------------------------------------------------------------------------------------------------------


def find_compiler() -> str | None:
    """Find a C compiler."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


@lru_cache(maxsize=1)
def _folder() -> tempfile.TemporaryDirectory[str]:
    """Compile the generator into a folder that is there until this program ends."""
    compiler = find_compiler()
    if compiler is None:
        raise GeneratorError(NO_COMPILER)
    folder = tempfile.TemporaryDirectory(prefix="mwl-bench-")
    command = [compiler, "-O2", "-o", f"{folder.name}/load", str(_SOURCE), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        folder.cleanup()
        raise GeneratorError(f"{_SOURCE.name} does not compile, it needs Linux:\n{done.stderr}")
    return folder


class Generator:
    """Load generators at work; `lines` gives what they say until the result is there."""

    def __init__(self, processes: list[subprocess.Popen[str]]) -> None:
        self.processes = processes
        self.result: Result | None = None

    def lines(self) -> Iterator[tuple[str, list[float]]]:
        """Give what the first one says on its way: progress (seconds, done, failed, open), opened, answered."""
        for line in self.processes[0].stdout or ():
            what, _, rest = line.partition(" ")
            if what == "result":
                raw = [json.loads(rest), *map(_last_line, self.processes[1:])]
                self.result = _merge(raw)
            else:
                yield what, [float(value) for value in rest.split()]
        if any(process.wait() for process in self.processes):
            raise GeneratorError(f"the load generator ended with status {self.processes[0].returncode}")


@contextmanager
def generator(port: int, plan: bytes, load: Load, cores: set[int]) -> Iterator[Generator]:
    """Put load on a server that listens at 127.0.0.1, from other addresses of 127.0.0.0/8."""
    if max(load.slots, load.modalities, load.rate) > LIMIT * load.processes or load.processes > 8:
        raise GeneratorError(f"at most {LIMIT:,} associations, modalities or queries a second to a process, and 8")
    first_port = random.randrange(50_000)  # so that two runs do not meet each other's closed connections
    path = Path(_folder().name) / f"plan{first_port}-{port}"
    path.write_bytes(plan)
    share = msgspec.structs.asdict(load)
    for name in ("slots", "rate", "modalities"):
        share[name] = share[name] / load.processes if name == "rate" else -(-share[name] // load.processes)
    options = [f"{name}={float(value)}" for name, value in share.items()]
    processes = []
    for number in range(load.processes):
        command = [f"{_folder().name}/load", str(path), f"port={port}", f"process={number}"]
        command += [f"first_port={first_port}", *options]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        machine.pin(process.pid, cores)
        processes.append(process)
    try:
        yield Generator(processes)
    finally:
        for process in processes:
            process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()


def _last_line(process: subprocess.Popen[str]) -> Any:
    last = ""
    for line in process.stdout or ():
        last = line
    return json.loads(last.partition(" ")[2])


def _merge(raw: list[Any]) -> Result:
    histograms: dict[str, Counter[int]] = {}
    failures: Counter[str] = Counter()
    for each in raw:
        failures.update(each["failures"])
        for moment, counts in each["histograms"].items():
            histograms.setdefault(moment, Counter()).update(dict(counts))
    return Result(
        done=sum(each["done"] for each in raw),
        total=sum(each["total"] for each in raw),
        responses=sum(each["responses"] for each in raw),
        received=sum(each["bytes"] for each in raw),
        seconds=max(each["seconds"] for each in raw),
        generator_cpu=max(each["cpu"] / each["elapsed"] for each in raw),
        failures=dict(failures),
        most_waiting=sum(each["most_waiting"] for each in raw),
        histograms=histograms,
    )
