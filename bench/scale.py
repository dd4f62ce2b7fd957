"""How the provider grows: with entries, with the matches of a query, with open associations, with its processes."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import Any

from rich.table import Table

from . import machine, plot
from .generator import Load, find_plan, generator
from .load import Round, check, console, figures, measure_in_turns, ratio
from .probe import record
from .sample import entries, queries
from .server import Provider, replay, serving, stored, worklist

_CALLERS = 40
_SHARED = 1000  # connections of which it is counted where they come to


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--entries", type=int, default=1_000_000, help="the most entries (1,000,000)")
    parser.add_argument("--matches", type=int, default=10_000, help="the most matches of a query (10,000)")
    parser.add_argument("--associations", type=int, default=10_000, help="the most associations at once (10,000)")
    parser.add_argument("--workers", type=int, default=2, help="the most DICOM processes (2)")
    parser.add_argument("--only", choices=_MEASUREMENTS, nargs="+", default=[*_MEASUREMENTS], help="some of them")
    parser.add_argument("--seconds", type=float, default=2, help="of each round (2)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each (3)")
    parser.add_argument("--plots", metavar="FOLDER", type=Path, help="where to draw the figures")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.smoke:
        arguments.entries, arguments.matches, arguments.associations = 10_000, 100, 100
        arguments.seconds, arguments.rounds = 0.3, 1
    machine.pin(0, machine.cores()[1])
    found: dict[str, Any] = {f"by_{name}": list(_MEASUREMENTS[name](arguments)) for name in arguments.only}
    if arguments.plots:
        _draw(found, arguments.plots)
    if "by_entries" in found:
        few, *_, many = found["by_entries"]
        found["server_cpu_from_fewest_to_most_entries"] = many["us_each"] / few["us_each"]
        bare = "us_each_without_caches"
        found["server_cpu_the_same_without_caches"] = many[bare] / few[bare]
    return found


def _steps(most: int, *, first: int = 1) -> list[int]:
    powers = itertools.takewhile(lambda number: number <= most, (first * 10**n for n in range(8)))
    return list(powers)


# --- entries ------------------------------------------------------------------------------------------------------


def _by_entries(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Ask queries with 25 matches of more and more entries, on open associations."""
    cores, _ = machine.cores()
    shown = _table("25 matches", "entries", "queries/s", "CPU us", "without caches", "CPU us", "others", "MiB")
    today = date.today()
    for count in _steps(arguments.entries, first=1000):
        asked = queries(entries(count, 25, today), 25)
        load = Load(seconds=arguments.seconds, per_association=False, slots=20)
        with stored(entries(count, 25, today)) as folder:
            ways = {"mwl": {}, "without caches": {"MWL_CACHES": "off"}}
            rounds: dict[str, list[Round]] = {}
            for way, environment in ways.items():
                with serving(folder, cores, **environment) as server:
                    check({way: server}, asked[::10])
                    plan = find_plan(asked, _CALLERS)
                    text = f"{count:,} entries"
                    rounds |= measure_in_turns({way: server}, plan, load, arguments.rounds, text)
        ours, bare = figures(rounds["mwl"]), figures(rounds["without caches"])
        disturbance = max(ours["disturbance"], bare["disturbance"])
        row = {
            "entries": count,
            "per_second": ours["per_second"],
            "us_each": ours["server_cpu_us_each"],
            "per_second_without_caches": bare["per_second"],
            "us_each_without_caches": bare["server_cpu_us_each"],
            "disturbance": disturbance,
            "resident_mib": ours["memory_before"] / 2**20,
            "failures": ours["failures"],
        }
        _add(shown, row)
        yield row
    console.print(shown)


# --- matches ------------------------------------------------------------------------------------------------------


def _by_matches(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Ask for longer and longer answers, next to the server that writes prepared bytes."""
    cores, _ = machine.cores()
    shown = _table("open", "matches", "responses/s", "prepared bytes", "ratio of rates", "ratio of CPU", "others")
    today = date.today()
    for matches in _steps(arguments.matches):
        count = max(1000, matches)
        asked = queries(entries(count, matches, today), matches)
        load = Load(seconds=arguments.seconds, per_association=False, slots=20 if matches < 1000 else 4)
        with ExitStack() as stack:
            ours = stack.enter_context(worklist(entries(count, matches, today), cores))
            check({"mwl": ours}, asked[::20])
            canned = stack.enter_context(replay(record(ours.port, asked[0]), cores))
            servers = {"canned": canned, "mwl": ours}
            text = f"{matches:,} matches"
            rounds = measure_in_turns(servers, find_plan(asked, _CALLERS), load, arguments.rounds, text)
        of = {name: figures(each) for name, each in rounds.items()}
        row = {
            "matches": matches,
            "responses_per_second": of["mwl"]["responses_per_second"],
            "responses_per_second_of_canned": of["canned"]["responses_per_second"],
            "ratio": ratio(rounds["mwl"], rounds["canned"]),
            "ratio_of_server_cpu": of["canned"]["server_cpu_us_each"] / of["mwl"]["server_cpu_us_each"],
            "disturbance": max(each["disturbance"] for each in of.values()),
            "failures": of["mwl"]["failures"],
        }
        _add(shown, row)
        yield row
    console.print(shown)


# --- associations -------------------------------------------------------------------------------------------------


def _by_associations(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Open more and more associations, leave them idle, ask one query on each."""
    cores, _ = machine.cores()
    shown = _table("one query on each", "open", "answered", "queries/s", "p50 ms", "max ms", "KiB each", "others")
    today = date.today()
    asked = queries(entries(1000, 25, today), 25)
    plan = find_plan(asked, _CALLERS)
    for count in _steps(arguments.associations):
        load = Load(per_association=False, slots=count, hold=min(1.0, arguments.seconds))
        with worklist(entries(1000, 25, today), cores) as server:
            check({"mwl": server}, asked[::10])
            rounds = measure_in_turns({"mwl": server}, plan, load, 1, f"{count:,} associations")["mwl"]
        of = figures(rounds)
        row = {
            "associations": count,
            "answered": of["done"],
            "per_second": of["per_second"],
            "p50_ms": of["milliseconds"]["answered"]["p50"],
            "max_ms": of["milliseconds"]["answered"]["max"],
            "kib_each": (of["memory_open"] - of["memory_before"]) / count / 1024,
            "disturbance": of["disturbance"],
            "failures": of["failures"],
        }
        _add(shown, row)
        yield row
    console.print(shown)


# --- workers ------------------------------------------------------------------------------------------------------


def _by_workers(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Let the same callers come to one process and to several, in turns; an association for each query."""
    shown = _table(
        "an association for each query, 100 at once",
        *("workers", "a second", "times one", "CPU us", "generator", "MiB", "others", "cores", "connections of each"),
    )
    today = date.today()
    asked = queries(entries(1000, 25, today), 25)
    plan = find_plan(asked, _CALLERS)
    servers: dict[str, Provider] = {}
    with ExitStack() as stack:
        for number in _powers_of_two(arguments.workers):
            folder = stack.enter_context(stored(entries(1000, 25, today), number))
            servers[str(number)] = stack.enter_context(serving(folder, machine.cores_of(number)))
        check(servers, asked[::10])
        load = Load(seconds=arguments.seconds)
        rounds = measure_in_turns(servers, plan, load, arguments.rounds, "workers")
        shares = {name: _shares(server, plan) for name, server in servers.items()}
    for name, each in rounds.items():
        of = figures(each)
        row = {
            "workers": int(name),
            "per_second": of["per_second"],
            "times_one": ratio(each, rounds["1"]),
            "us_each": of["server_cpu_us_each"],
            "generator_busy": of["generator_busy"],
            "resident_mib": of["memory_before"] / 2**20,
            "disturbance": of["disturbance"],
            "cores": len(machine.cores_of(int(name)) | machine.cores()[1]),
            "connections_of_each": shares[name],
            "failures": of["failures"],
        }
        _add(shown, row)
        yield row
    console.print(shown)
    if machine.cores_of(arguments.workers) & machine.cores()[1]:
        console.print("[yellow]The load generator has no core of its own: take the CPU of each, not the rate.[/]")


def _powers_of_two(most: int) -> list[int]:
    return [2**n for n in range(most.bit_length())]


def _shares(server: Provider, plan: bytes) -> list[int]:
    """Open associations, and count how many each process has; a supervisor has none."""
    pids = machine.descendants(server.pid) or [server.pid]
    before = [machine.sockets(pid) for pid in pids]
    counted: list[int] = []
    load = Load(per_association=False, slots=_SHARED, hold=1)
    with generator(server.port, plan, load, machine.cores()[1]) as running:
        for what, _ in running.lines():
            if what == "opened":
                counted = [machine.sockets(pid) - other for pid, other in zip(pids, before, strict=True)]
    return counted


_MEASUREMENTS = {
    "entries": _by_entries,
    "matches": _by_matches,
    "associations": _by_associations,
    "workers": _by_workers,
}


# --- show ---------------------------------------------------------------------------------------------------------


def _table(title: str, *columns: str) -> Table:
    shown = Table(title=title, title_justify="left")
    for column in columns:
        shown.add_column(column, justify="right", no_wrap=True)
    return shown


def _add(shown: Table, row: dict[str, Any]) -> None:
    values = [value for value in row.values() if not isinstance(value, dict)]
    failed = any(row["failures"].values())
    shown.add_row(*map(_text, values), style="red" if failed else None)


def _text(value: float | list[int]) -> str:
    if isinstance(value, list):
        return " + ".join(f"{part:,}" for part in value)
    return f"{value:,.3g}" if isinstance(value, float) and value < 100 else f"{value:,.0f}"


def _draw(found: dict[str, Any], folder: Path) -> None:
    def points(of: str, x: str, y: str) -> Sequence[tuple[float, float]]:
        return [(row[x], row[y]) for row in found[of]]

    if "by_entries" in found:
        plot.lines(
            {
                "mwl": points("by_entries", "entries", "us_each"),
                "mwl without caches": points("by_entries", "entries", "us_each_without_caches"),
            },
            folder / "entries.svg",
            "Time of the server for a query with 25 matches",
            "entries",
            "microseconds",
        )
    if "by_matches" in found:
        plot.lines(
            {
                "canned": points("by_matches", "matches", "responses_per_second_of_canned"),
                "mwl": points("by_matches", "matches", "responses_per_second"),
            },
            folder / "matches.svg",
            "Responses a second by the length of an answer",
            "matches of a query",
            "responses a second",
        )
