"""Metrics in the text format of Prometheus: read when somebody asks, from what is counted anyway."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from dulproto import __version__

from ..report import Report

if TYPE_CHECKING:
    from ..server import Running

__all__ = ["CONTENT_TYPE", "Metric", "metrics_text"]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_STARTED: Final = time.time()


class Metric(msgspec.Struct, frozen=True):
    """One metric; `values` are by label values, in the order of `labels`."""

    name: str
    kind: Literal["gauge", "counter"]
    help: str
    values: Mapping[tuple[str, ...], float]
    labels: tuple[str, ...] = ()


def metrics_text(running: Running, report: Report) -> str:
    """Write all metrics."""
    return "".join(line + "\n" for metric in _metrics(running, report) for line in _lines(metric))


def _metrics(running: Running, report: Report) -> Iterator[Metric]:
    config = running.config
    yield Metric("mwl_info", "gauge", "The version that runs.", {(__version__,): 1}, ("version",))
    yield _gauge("mwl_start_time_seconds", "When the program started, since the epoch.", _STARTED)
    yield _gauge("mwl_entries", "Entries in the worklist, whatever their status.", len(running.worklist))
    yield _gauge("mwl_store_revision", "The last change of the store that the worklist has.", running.revision)
    yield _gauge("mwl_store_size_bytes", "Size of the store with its companions.", _store_size(config.store.path))
    yield _counter("mwl_worklist_changes_total", "Changes of the worklist in memory.", running.worklist.version)
    titles = [ae.title for ae in config.ae]
    is_open = _by_label((title, running.associations.get(title, 0)) for title in titles)
    yield Metric("mwl_associations", "gauge", "Associations that are open.", is_open, ("ae",))
    limits = _by_label((ae.title, ae.max_associations) for ae in config.ae)
    yield Metric("mwl_associations_limit", "gauge", "Associations at a time; 0 = no limit.", limits, ("ae",))
    accepted = _by_label((title, report.accepted.get(title, 0)) for title in titles)
    yield Metric("mwl_associations_accepted_total", "counter", "Associations accepted.", accepted, ("ae",))
    refusals = "Associations rejected or aborted, by the check that failed."
    refused = _by_label(sorted(report.refused.items()))
    yield Metric("mwl_associations_refused_total", "counter", refusals, refused, ("check",))
    yield _gauge("mwl_dicom_connections", "Connections that are open, associated or not.", report.connections)
    yield _counter("mwl_dicom_operations_total", "C-FIND and C-ECHO requests.", report.operations)
    lost = "Characters made `?` in answers, as the character set does not have them; a kept answer counts once."
    yield _counter("mwl_dicom_lost_characters_total", lost, report.lost_characters)
    if running.workers is not None:
        listening, restarts = len(running.workers.listening), running.workers.restarts
        yield _gauge("mwl_workers", "DICOM processes that listen.", listening)
        yield _counter("mwl_workers_restarts_total", "DICOM processes that died and were replaced.", restarts)
    if running.hl7 is not None:
        messages = _by_label(sorted(running.hl7.feed.answered.items()))
        yield Metric("mwl_hl7_messages_total", "counter", "HL7 messages, by their answer.", messages, ("answer",))
    answers: dict[tuple[str, ...], float] = {
        (method, str(status)): number for (method, status), number in sorted(running.http_answers.items())
    }
    yield Metric("mwl_http_answers_total", "counter", "HTTP answers.", answers, ("method", "status"))
    yield _counter("mwl_process_cpu_seconds_total", "Processor time used, by all processes.", report.cpu_seconds)
    yield _gauge("mwl_process_resident_memory_bytes", "Memory in use, by all processes.", report.resident_bytes)
    yield _gauge("mwl_process_open_fds", "Open files and sockets, of all processes.", report.open_files)


def _by_label(values: Iterable[tuple[str, float]]) -> dict[tuple[str, ...], float]:
    return {(label,): value for label, value in values}


def _gauge(name: str, help_text: str, value: float) -> Metric:
    return Metric(name, "gauge", help_text, {(): value})


def _counter(name: str, help_text: str, value: float) -> Metric:
    return Metric(name, "counter", help_text, {(): value})


def _lines(metric: Metric) -> Iterator[str]:
    yield f"# HELP {metric.name} {metric.help}"
    yield f"# TYPE {metric.name} {metric.kind}"
    for values, number in metric.values.items():
        labels = ",".join(f'{label}="{_escaped(value)}"' for label, value in zip(metric.labels, values, strict=True))
        text = f"{number:.0f}" if number == int(number) else f"{number:.6f}"
        yield f"{metric.name}{{{labels}}} {text}" if labels else f"{metric.name} {text}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _store_size(path: Path) -> int:
    return sum(part.stat().st_size for suffix in ("", "-wal") if (part := Path(f"{path}{suffix}")).exists())
