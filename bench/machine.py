"""The machine that a measurement runs on: what it is, which cores are used, and who else uses them."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

# As they are at the start: later this program is kept on some of them.
_USABLE = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
_PACKAGES = ("uvloop", "msgspec", "apsw", "pyroaring", "pydicom", "pynetdicom")


def describe() -> dict[str, Any]:
    """Give what figures depend on: processor, system, versions."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": versions,
        "commit": _commit(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def _processor() -> str:
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1] if found else platform.processor()


def _commit() -> str:
    folder = Path(__file__).parent
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


# --- cores --------------------------------------------------------------------------------------------------------


def cores() -> tuple[set[int], set[int]]:
    """Choose the cores of the server and of the load generator: one each where there are two, else all."""
    if len(_USABLE) < 2:
        return set(_USABLE), set(_USABLE)
    return set(_USABLE[:1]), set(_USABLE[1:2])


def cores_of(processes: int) -> set[int]:
    """Choose the cores of a server of several processes: one each if the load generator keeps its own, else all."""
    free = [core for core in _USABLE if core not in cores()[1]]
    return set(free[:processes] if len(free) >= processes else _USABLE)


def pin(pid: int, to: set[int]) -> None:
    """Keep a process, and those that it starts from now on, on some cores."""
    if to and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(pid, to)


# --- processor time -----------------------------------------------------------------------------------------------


def cpu_seconds(pid: int) -> float:
    """Add up the processor time of a process and of all that it started."""
    total = 0.0
    for each in (pid, *descendants(pid)):
        try:
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(map(int, fields[11:15])) / _TICKS  # user and system, own and of children that were waited for
    return total


def sockets(pid: int) -> int:
    """Count the sockets that a process has open."""
    return sum(os.readlink(file).startswith("socket:") for file in Path(f"/proc/{pid}/fd").iterdir())


def descendants(pid: int) -> list[int]:
    try:
        children = [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
    except OSError:
        return []
    return children + [each for child in children for each in descendants(child)]


def resident_bytes(pid: int) -> int:
    """Give the resident memory of a process and of all that it started."""
    total = 0
    for each in (pid, *descendants(pid)):
        try:
            found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{each}/status").read_text())
        except OSError:
            continue
        total += int(found[1]) * 1024 if found else 0
    return total


def _busy_seconds(of: Iterable[int]) -> tuple[float, float]:
    """Time that programs, and that other machines on this hardware, have taken from some cores."""
    wanted = {f"cpu{core}" for core in of}
    programs = stolen = 0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name in wanted:
            # A program is charged for the interrupts that are served while it runs: those of a network on loopback.
            user, nice, system, _, _, interrupts, soft_interrupts, steal = map(int, fields[:8])
            programs += user + nice + system + interrupts + soft_interrupts
            stolen += steal
    return programs / _TICKS, stolen / _TICKS


class Watch:
    """Watches some cores for the length of the block: what a server took, and what others than we took meanwhile."""

    def __init__(self, used: set[int], server: int) -> None:
        self.used = used
        self.server = server
        self.seconds = self.server_cpu = self.others_cpu = self.stolen = 0.0

    def __enter__(self) -> Watch:
        self._begin = self._now()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        took = [after - before for before, after in zip(self._begin, self._now(), strict=True)]
        self.seconds, programs, self.stolen, ours, self.server_cpu = took
        self.others_cpu = max(0.0, programs - ours)

    def _now(self) -> tuple[float, ...]:
        # All that we started counts as ours: the load generators, and each server of the measurement.
        programs, stolen = _busy_seconds(self.used)
        return time.perf_counter(), programs, stolen, cpu_seconds(os.getpid()), cpu_seconds(self.server)

    @property
    def disturbance(self) -> float:
        """The share of the cores' time that others took: programs, and other machines on the same hardware."""
        return (self.others_cpu + self.stolen) / (self.seconds * len(self.used)) if self.used else 0.0
