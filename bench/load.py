"""Put load on the worklist provider, and on a server that only writes prepared bytes, in turns."""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table

from . import machine
from .generator import Load, Result, echo_plan, find_plan, generator
from .probe import Probe, WrongAnswer, record
from .sample import Query, entries, queries
from .server import Provider, changing, replay, serving, stored

MODES = {
    "associate": "an association for each query: connect, associate, query, release",
    "open": "queries on associations that stay open",
    "echo": "C-ECHO on associations that stay open",
    "hold": "open associations, leave them idle, then a query on each",
    "storm": "many modalities, each polling once in a while",
}
_COLUMNS = "server", "a second", "ratio", "CPU us", "ratio", "p50 ms", "p99 ms", "busy", "load", "others", "failed"
_DISTURBED, _GENERATOR_IS_LIMIT = 0.05, 0.9
console = Console(stderr=True, width=None if sys.stderr.isatty() else 118)


class Round(msgspec.Struct, kw_only=True):
    """One run against one server, and what it took."""

    result: Result
    slots: int
    seconds: float
    server_cpu: float
    disturbance: float
    memory_before: int
    memory_open: int

    @property
    def cpu_each(self) -> float:
        return self.server_cpu / max(1, self.result.total)


# --- run ----------------------------------------------------------------------------------------------------------


def measure(server: Provider, plan: bytes, load: Load, progress: Progress | None = None, text: str = "") -> Round:
    """Put a load on a server once."""
    server_cores, generator_cores = machine.cores()
    expected = load.hold or load.warmup + load.seconds
    task = progress.add_task(text, total=expected, rate="") if progress else None
    before = after = server.resident_bytes()
    with (
        machine.Watch(server_cores | generator_cores, server.pid) as watch,
        generator(server.port, plan, load, generator_cores) as running,
    ):
        for what, values in running.lines():
            if what == "progress" and progress and task is not None:
                at, done, failed, connections = values
                shown = f"{done:,.0f} done, {failed:,.0f} failed, {connections:,.0f} open"
                progress.update(task, completed=min(at, expected), rate=shown)
            elif what == "opened":
                after = server.resident_bytes()
    if progress and task is not None:
        progress.remove_task(task)
    assert running.result is not None
    return Round(
        result=running.result,
        slots=load.slots,
        seconds=watch.seconds,
        server_cpu=watch.server_cpu,
        disturbance=watch.disturbance,
        memory_before=before,
        memory_open=after,
    )


def measure_in_turns(
    servers: Mapping[str, Provider], plan: bytes, load: Load, rounds: int, text: str
) -> dict[str, list[Round]]:
    """Measure servers one after the other, and all again: what disturbs the machine for a while meets all of them.

    Before, each has the same load once unmeasured, so that what it keeps of requests that come again is there.
    """
    found: dict[str, list[Round]] = {name: [] for name in servers}
    columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[rate]}")
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        if rounds > 1:
            for name, server in servers.items():
                measure(server, plan, load, progress, f"{text}: {name}, to warm up")
        for number in range(rounds):
            for name, server in servers.items():
                label = f"{text}: {name}, {number + 1} of {rounds}"
                found[name].append(measure(server, plan, load, progress, label))
    return found


def check(servers: Mapping[str, Provider], asked: Sequence[Query]) -> None:
    """Ask each server each query once, and stop unless all answers are right."""
    for name, server in servers.items():
        with Probe(server.port) as probe:
            for query in asked:
                try:
                    probe.check(query)
                except WrongAnswer as exc:
                    raise WrongAnswer(f"{name}: {exc}") from exc
            probe.release()


# --- figures ------------------------------------------------------------------------------------------------------


def figures(rounds: Sequence[Round]) -> dict[str, Any]:
    """Give the medians of some rounds, and percentiles of all of them together."""

    def median(value: Callable[[Round], float]) -> float:
        return statistics.median(map(value, rounds))

    histograms: dict[str, Counter[int]] = {}
    failures: Counter[str] = Counter()
    for each in rounds:
        failures.update({why: number for why, number in each.result.failures.items() if number})
        for moment, histogram in each.result.histograms.items():
            histograms.setdefault(moment, Counter()).update(histogram)
    return {
        "per_second": median(lambda each: each.result.rate),
        "per_second_of_rounds": [each.result.rate for each in rounds],
        "responses_per_second": median(lambda each: each.result.responses / each.result.seconds),
        "slots": sorted({each.slots for each in rounds}),
        "bytes_each": median(lambda each: each.result.received / max(1, each.result.done)),
        "server_cpu_us_each": median(lambda each: each.cpu_each * 1e6),
        "server_busy": median(lambda each: each.server_cpu / each.seconds),
        "generator_busy": median(lambda each: each.result.generator_cpu),
        "disturbance": max(each.disturbance for each in rounds),
        "memory_before": rounds[0].memory_before,
        "memory_open": rounds[0].memory_open,
        "done": sum(each.result.done for each in rounds),
        "failures": dict(failures),
        "milliseconds": {moment: percentiles(histogram) for moment, histogram in histograms.items() if histogram},
    }


def percentiles(histogram: Counter[int]) -> dict[str, float]:
    """Give percentiles of times in nanoseconds as milliseconds, to a hundredth of each."""
    wanted = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999), ("max", 1.0)]
    found: dict[str, float] = {}
    total, seen = histogram.total(), 0
    for nanoseconds, count in sorted(histogram.items()):
        seen += count
        while wanted and seen >= wanted[0][1] * total:
            found[wanted.pop(0)[0]] = nanoseconds / 1e6
    return found


def ratio(of: Sequence[Round], to: Sequence[Round]) -> float:
    """Compare rounds that were run in turns, pair by pair."""
    return statistics.median(
        [a.result.rate / b.result.rate for a, b in zip(of, to, strict=True) if b.result.done] or [math.nan]
    )


def cpu_ratio(of: Sequence[Round], to: Sequence[Round]) -> float:
    """Compare by the processor time that each takes, which others on the machine disturb less than they do rates."""
    return statistics.median(
        [b.cpu_each / a.cpu_each for a, b in zip(of, to, strict=True) if a.cpu_each] or [math.nan]
    )


def table(title: str, found: Mapping[str, list[Round]], yardstick: str = "canned") -> Table:
    """Show the servers side by side."""
    shown = Table(title=title, title_justify="left")
    for column in _COLUMNS:
        shown.add_column(column, justify="left" if column == "server" else "right", no_wrap=True)
    for name, rounds in found.items():
        of = figures(rounds)
        times = of["milliseconds"].get("answered", {})
        shown.add_row(
            name,
            f"{of['per_second']:,.0f}",
            f"{ratio(rounds, found[yardstick]):.3g}" if yardstick in found else "",
            f"{of['server_cpu_us_each']:,.1f}",
            f"{cpu_ratio(rounds, found[yardstick]):.3g}" if yardstick in found else "",
            f"{times.get('p50', 0):,.2f}",
            f"{times.get('p99', 0):,.2f}",
            f"{of['server_busy']:.0%}",
            f"{of['generator_busy']:.0%}",
            f"{of['disturbance']:.0%}",
            f"{sum(of['failures'].values()):,}" if of["failures"] else "0",
        )
    return shown


def show(title: str, found: Mapping[str, list[Round]]) -> None:
    """Print the table, and what is to be said against it."""
    console.print(table(title, found))
    rounds = [each for of in found.values() for each in of]
    disturbance = max(each.disturbance for each in rounds)
    if disturbance > _DISTURBED:
        console.print(
            f"[yellow]Others took up to {disturbance:.0%} of the cores: take the ratio of CPU, not that of rates.[/]"
        )
    if max(each.result.generator_cpu for each in rounds) > _GENERATOR_IS_LIMIT:
        console.print(
            "[yellow]The load generator was the limit: more --processes, on more cores, would show more.[/]"
        )


# --- the command --------------------------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    modes = "; ".join(f"{name}: {what}" for name, what in MODES.items())
    parser.add_argument("--mode", choices=MODES, nargs="+", default=["associate", "open", "echo"], help=modes)
    parser.add_argument("--target", metavar="PORT", type=int, help="a worklist at 127.0.0.1, in place of our own two")
    parser.add_argument("--entries", type=int, default=1000, help="entries in the worklist (1000)")
    parser.add_argument("--matches", type=int, default=25, help="matches of each query (25)")
    parser.add_argument("--slots", type=int, default=100, help="associations at once (100)")
    parser.add_argument(
        "--rate", type=float, default=0, help="queries a second to begin, in an open loop (0: closed)"
    )
    parser.add_argument("--modalities", type=int, default=1000, help="of a storm (1000)")
    parser.add_argument("--period", type=float, default=5, help="seconds between the polls of a modality (5)")
    parser.add_argument("--jitter", type=float, default=0.2, help="share by which that varies (0.2)")
    parser.add_argument("--think", type=float, default=0, help="seconds between association and query (0)")
    parser.add_argument("--hold", type=float, default=5, help="seconds to be idle (5)")
    parser.add_argument("--seconds", type=float, default=3, help="of each round (3)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each server (3)")
    parser.add_argument("--changes", type=float, default=0, help="entries a second that change meanwhile (0)")
    parser.add_argument("--without-caches", action="store_true", help="also measure ours with its caches off")
    parser.add_argument("--processes", type=int, default=1, help="load generators (1)")


def load_of(mode: str, arguments: argparse.Namespace) -> Load:
    """Make the load of a mode."""
    common = {"seconds": arguments.seconds, "slots": arguments.slots, "processes": arguments.processes}
    if mode == "hold":
        return Load(**common, per_association=False, hold=max(arguments.hold, 0.001))
    if mode == "storm":
        common["slots"] = max(arguments.slots, arguments.modalities)
        storm = {name: getattr(arguments, name) for name in ("modalities", "period", "jitter", "think")}
        return Load(**common, **storm, warmup=min(1, arguments.period))
    if mode == "associate":
        return Load(**common, rate=arguments.rate, think=arguments.think)
    return Load(**common, rate=arguments.rate, per_association=False)


class Own(NamedTuple):
    """Our worklist and the server that writes its answers without looking, by name; what to ask them."""

    servers: dict[str, Provider]
    asked: list[Query]
    folder: Path
    """With the store of our worklist."""


@contextmanager
def own_servers(count: int, matches: int, *, without_caches: bool = False) -> Iterator[Own]:
    """Start them, and check the answers of ours."""
    cores, own = machine.cores()
    machine.pin(0, own)
    asked = queries(entries(count, matches, date.today()), matches)
    with ExitStack() as stack:
        folder = stack.enter_context(stored(entries(count, matches, date.today())))
        ours = stack.enter_context(serving(folder, cores))
        check({"mwl": ours}, asked)
        canned = stack.enter_context(replay(record(ours.port, asked[0]), cores))
        servers = {"canned": canned, "mwl": ours}
        if without_caches:
            other = stack.enter_context(stored(entries(count, matches, date.today())))
            servers["no caches"] = stack.enter_context(serving(other, cores, MWL_CACHES="off"))
        yield Own(servers, asked, folder)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.smoke:
        arguments.seconds, arguments.rounds, arguments.hold = 0.5, 1, 0.5
        arguments.modalities, arguments.period, arguments.slots = 200, 1.0, min(arguments.slots, 100)
    with ExitStack() as stack:
        if arguments.target:
            asked = queries(entries(arguments.entries, arguments.matches, date.today()), arguments.matches)
            servers = {"target": Provider(0, arguments.target)}
        else:
            servers, asked, folder = stack.enter_context(
                own_servers(arguments.entries, arguments.matches, without_caches=arguments.without_caches)
            )
            if arguments.changes:
                known = list(entries(min(arguments.entries, 1000), arguments.matches, date.today()))
                stack.enter_context(changing(folder, known, arguments.changes))
        found = {mode: _run_mode(mode, servers, asked, arguments) for mode in arguments.mode}
    out: dict[str, Any] = {"distinct_queries": len(asked), "changes_a_second": arguments.changes, "modes": found}
    for mode, of in found.items():
        out |= {f"{mode}_{name}": value for name, value in of.items() if name.startswith("ratio")}
    return out


def _run_mode(
    mode: str, servers: Mapping[str, Provider], asked: Sequence[Query], arguments: argparse.Namespace
) -> dict[str, Any]:
    load = load_of(mode, arguments)
    callers = max(40, load.modalities)
    plan = echo_plan(callers) if mode == "echo" else find_plan(asked, callers)
    rounds = measure_in_turns(servers, plan, load, 1 if mode == "hold" else arguments.rounds, mode)
    show(MODES[mode], rounds)
    out: dict[str, Any] = {
        "load": msgspec.structs.asdict(load),
        "servers": {name: figures(each) for name, each in rounds.items()},
    }
    if "canned" in rounds:
        out["ratio_of_rates"] = ratio(rounds["mwl"], rounds["canned"])
        out["ratio_of_server_cpu"] = cpu_ratio(rounds["mwl"], rounds["canned"])
    return out
