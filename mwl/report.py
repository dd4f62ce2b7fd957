"""What a process tells of itself: for the metrics and the page, whether it serves alone or beside others."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import msgspec

import dulproto

from .charset import Lost

__all__ = ["OpenAssociation", "Report", "report_of", "sum_of"]


class OpenAssociation(msgspec.Struct, frozen=True, order=True, array_like=True):
    """An association that is open, and how many requests it has brought."""

    calling_ae_title: str
    called_ae_title: str
    peer: str
    operations: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Counters since the start, and how things are now."""

    accepted: dict[str, int] = {}  # associations, by AE title
    refused: dict[str, int] = {}  # by the name of the check that decided
    operations: int = 0
    lost_characters: int = 0  # that an answer's character set does not have
    cpu_seconds: float = 0
    connections: int = 0
    resident_bytes: int = 0
    open_files: int = 0
    associations: tuple[OpenAssociation, ...] = ()

    def counters(self) -> Report:
        """Give what is left of it when its process has ended."""
        return Report(
            accepted=self.accepted,
            refused=self.refused,
            operations=self.operations,
            lost_characters=self.lost_characters,
            cpu_seconds=self.cpu_seconds,
        )


def report_of(server: dulproto.Server | None, *, associations: bool = False) -> Report:
    """Tell of this process, which may have no DICOM server; with each of the associations if asked to."""
    process = Report(cpu_seconds=time.process_time(), resident_bytes=_resident_bytes(), open_files=_open_files())
    if server is None:
        return process
    found = [
        OpenAssociation(each.calling_ae_title, each.called_ae_title, each.peer, each.operations)
        for each in (server.connections if associations else ())
        if each.is_established
    ]
    return msgspec.structs.replace(
        process,
        accepted=dict(server.accepted),
        refused=dict(server.refused),
        lost_characters=Lost.characters,
        operations=server.operations + sum(each.operations for each in server.connections),
        connections=len(server.connections),
        associations=tuple(found),
    )


def sum_of(reports: Iterable[Report]) -> Report:
    """Add up what several processes tell."""
    accepted: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    reports = list(reports)
    for report in reports:
        accepted.update(report.accepted)
        refused.update(report.refused)
    return Report(
        accepted=accepted,
        refused=refused,
        operations=sum(report.operations for report in reports),
        lost_characters=sum(report.lost_characters for report in reports),
        cpu_seconds=sum(report.cpu_seconds for report in reports),
        connections=sum(report.connections for report in reports),
        resident_bytes=sum(report.resident_bytes for report in reports),
        open_files=sum(report.open_files for report in reports),
        associations=tuple(each for report in reports for each in report.associations),
    )


def _resident_bytes() -> int:
    if sys.platform == "linux":
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    if sys.platform == "win32":
        return 0
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _open_files() -> int:
    folder = Path("/proc/self/fd")
    return len(os.listdir(folder)) if folder.exists() else 0
