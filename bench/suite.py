"""A selection of the measurements in five minutes: figures and plots in a folder, and what they are held against."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table

from .generator import NO_COMPILER, find_compiler
from .load import console

_SHORT = ["--seconds", "2"]
# Name of the file, the command, and whether it draws into the folder.
RUNS: dict[str, list[str]] = {
    "load": ["load", "--without-caches", *_SHORT],
    "changes": ["load", "--mode", "associate", "open", "--changes", "20", *_SHORT],
    "storm": ["load", "--mode", "storm", "--seconds", "8", "--rounds", "1"],
    "idle": ["load", "--mode", "hold", "--slots", "10000", "--hold", "3"],
    "peers": ["peers", "--rounds", "1", "--seconds", "3", "--plot", "{folder}/peers.svg"],
    "scale": ["scale", "--entries", "100000", "--rounds", "2", "--seconds", "1", "--plots", "{folder}"],
    "micro": ["micro", "--seconds", "0.3"],
    "quickack": ["quickack"],
}
_NEED_GENERATOR = {"load", "peers", "scale"}


class Goal(NamedTuple):
    """What a figure is to be; `value` takes it from the results by name."""

    text: str
    value: Callable[[dict[str, Any]], float]
    bound: float
    at_most: bool = False


def _mode(name: str, mode: str, key: str) -> Callable[[dict[str, Any]], float]:
    return lambda results: float(results[name]["modes"][mode][key])


def _ours(name: str, mode: str) -> Callable[[dict[str, Any]], Any]:
    return lambda results: results[name]["modes"][mode]["servers"]["mwl"]


def _times(peer: str) -> Callable[[dict[str, Any]], float]:
    return lambda results: float(results["peers"]["associate"]["times_by_rate"][peer])


def _idle_kib(results: dict[str, Any]) -> float:
    idle = _ours("idle", "hold")(results)
    return float((idle["memory_open"] - idle["memory_before"]) / idle["slots"][0] / 1024)


def _longest(results: dict[str, Any]) -> float:
    return float(results["scale"]["by_matches"][-1]["ratio"])


def _unanswered(results: dict[str, Any]) -> float:
    idle = _ours("idle", "hold")(results)
    return float(idle["slots"][0] - idle["done"])


def _two_workers(results: dict[str, Any]) -> float:
    one, two, *_ = results["scale"]["by_workers"]
    return float(two["us_each"] / one["us_each"])


_RATE = "ratio_of_rates"
GOALS = (
    Goal("an association for each query, of prepared bytes", _mode("load", "associate", _RATE), 0.75),
    Goal("queries on open associations, of prepared bytes", _mode("load", "open", _RATE), 0.70),
    Goal("echo, of prepared bytes", _mode("load", "echo", _RATE), 0.70),
    Goal("answers of 10,000 matches, of prepared bytes", _longest, 0.70),
    Goal("associations while 20 entries a second change", _mode("changes", "associate", _RATE), 0.65),
    Goal("queries while 20 entries a second change", _mode("changes", "open", _RATE), 0.45),
    Goal("times pynetdicom", _times("pynetdicom"), 300),
    Goal("times wlmscpfs", _times("wlmscpfs"), 400),
    Goal("times Orthanc", _times("Orthanc"), 400),
    Goal(
        "time of a query from 1,000 to 100,000 entries, times",
        lambda results: float(results["scale"]["server_cpu_the_same_without_caches"]),
        1.5,
        at_most=True,
    ),
    Goal("processor time of an association on two DICOM processes, of one", _two_workers, 1.1, at_most=True),
    Goal("queries without an answer, of 10,000", _unanswered, 0, at_most=True),
    Goal("an idle association, KiB", _idle_kib, 8, at_most=True),
    Goal(
        "1,000 modalities once in 5 s: p99, ms",
        lambda results: float(_ours("storm", "storm")(results)["milliseconds"]["answered"]["p99"]),
        10,
        at_most=True,
    ),
    Goal("two segments with Nagle on, times faster", lambda results: float(results["quickack"]["ratio"]), 2),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where to write (bench/results)")
    parser.add_argument("--only", nargs="+", choices=RUNS, metavar="NAME", help=f"some of {', '.join(RUNS)}")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.smoke and not arguments.out:
        with tempfile.TemporaryDirectory(prefix="mwl-bench-") as folder:
            return _run(Path(folder), arguments)
    return _run(arguments.out or Path(__file__).with_name("results"), arguments)


def _run(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {}
    failed = []
    for name in arguments.only or RUNS:
        if RUNS[name][0] in _NEED_GENERATOR and find_compiler() is None:
            console.print(f"{name} is left out: {NO_COMPILER}", highlight=False)
            continue
        path = folder / f"{name}.json"
        command = [sys.executable, "-m", "bench", "--json", str(path), *(["--smoke"] if arguments.smoke else [])]
        command += [part.format(folder=folder) for part in RUNS[name]]
        console.print(f"[bold]{name}[/]: python -m bench {' '.join(RUNS[name])}", highlight=False)
        if subprocess.run(command, check=False).returncode:
            console.print(f"[red]{name} failed[/]")
            failed.append(name)
            continue
        results[name] = json.loads(path.read_text())
    if not arguments.smoke:
        console.print(_against_goals(results))
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")
    return {"written_to": str(folder)}


def _against_goals(results: dict[str, Any]) -> Table:
    shown = Table(title="What it is held against", title_justify="left")
    for column in ("", "goal", "is"):
        shown.add_column(column, justify="right" if column else "left")
    for goal in GOALS:
        try:
            value = goal.value(results)
        except KeyError:  # it was not measured
            continue
        reached = value <= goal.bound if goal.at_most else value >= goal.bound
        bound = f"{'at most' if goal.at_most else 'at least'} {goal.bound:g}"
        shown.add_row(goal.text, bound, f"[{'green' if reached else 'red'}]{value:,.3g}[/]")
    return shown
