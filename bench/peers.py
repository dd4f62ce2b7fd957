"""The same load on several worklist providers in turns: DCMTK, Orthanc, pynetdicom, ours, and prepared bytes."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import date
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from rich.progress import Progress

from mwl.files import write_wl_file

from . import machine, plot
from .generator import Load, find_plan
from .load import MODES, Round, check, console, cpu_ratio, figures, measure, own_servers, ratio, show
from .probe import Probe, WrongAnswer
from .sample import Query, entries
from .server import Provider, started

_START_SECONDS = 30
_ORTHANC_PLUGINS = ("/usr/share/orthanc/plugins/libModalityWorklists.so", "/usr/lib/orthanc/libModalityWorklists.so")


class Peer(NamedTuple):
    """A provider to compare with: how to start it on a folder of worklist files, or why it is left out."""

    name: str
    start: Callable[[Path, set[int]], AbstractContextManager[Provider]] | None
    missing: str = ""
    version: str = ""


# --- the peers ----------------------------------------------------------------------------------------------------


def peers(count: int, matches: int) -> list[Peer]:
    """Find what is installed."""
    return [_wlmscpfs(), _orthanc(), _pynetdicom(count, matches)]


def _wlmscpfs() -> Peer:
    program = shutil.which("wlmscpfs")
    if program is None:
        return Peer("wlmscpfs", None, "not installed: Debian has it in the package dcmtk")
    command = [program, "--quiet", "--max-associations", "1000", "--disable-host-lookup", "--keep-char-set"]

    def start(folder: Path, cores: set[int]) -> AbstractContextManager[Provider]:
        port = _free_port()
        return _listening([*command, "--data-files-path", str(folder), str(port)], port, cores)

    return Peer("wlmscpfs", start, version=_version(program))


def _orthanc() -> Peer:
    program = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
    plugin = next((path for path in _ORTHANC_PLUGINS if Path(path).exists()), None)
    if program is None or plugin is None:
        return Peer(
            "Orthanc", None, "not installed, with its worklist plugin: Debian has both in the package orthanc"
        )

    @contextmanager
    def start(folder: Path, cores: set[int]) -> Iterator[Provider]:
        port = _free_port()
        with tempfile.TemporaryDirectory(prefix="mwl-bench-") as own:
            configuration = {
                "StorageDirectory": own,
                "IndexDirectory": own,
                "DicomAet": "WORKLIST",
                "DicomPort": port,
                "DicomAlwaysAllowEcho": True,
                "DicomAlwaysAllowFind": True,
                "DicomAlwaysAllowFindWorklist": True,
                "DicomThreadsCount": 100,
                "HttpServerEnabled": False,
                "Plugins": [plugin],
                "Worklists": {"Enable": True, "Database": str(folder / "WORKLIST"), "LimitAnswers": 0},
            }
            path = Path(own) / "orthanc.json"
            path.write_text(json.dumps(configuration))
            with _listening([program, str(path)], port, cores) as server:
                yield server

    return Peer("Orthanc", start, version=_version(program))


def _pynetdicom(count: int, matches: int) -> Peer:
    if find_spec("pynetdicom") is None:
        return Peer("pynetdicom", None, "not installed: pip install pynetdicom")

    def start(folder: Path, cores: set[int]) -> AbstractContextManager[Provider]:
        port = _free_port()
        return started([sys.executable, "-m", "bench.pynetdicom_scp", str(count), str(matches), str(port)], cores)

    return Peer("pynetdicom", start)


def _version(program: str) -> str:
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    return next(iter(done.stdout.splitlines()), "")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def _listening(command: list[str], port: int, cores: set[int]) -> Iterator[Provider]:
    """Run a program that says nothing, and wait until it answers."""
    with subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TCP_NODELAY": "1"},
        preexec_fn=partial(machine.pin, 0, cores),
    ) as process:
        try:
            until = time.monotonic() + _START_SECONDS
            while True:
                try:
                    with Probe(port) as probe:
                        probe.release()
                    break
                except (OSError, WrongAnswer) as exc:
                    if time.monotonic() > until or process.poll() is not None:
                        raise RuntimeError(f"{command[0]} does not answer: {exc}") from exc
                    time.sleep(0.1)
            yield Provider(process.pid, port)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


# --- the command --------------------------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--entries", type=int, default=1000, help="entries in each worklist (1000)")
    parser.add_argument("--matches", type=int, default=25, help="matches of each query (25)")
    parser.add_argument("--slots", type=int, default=100, help="associations at once (100)")
    parser.add_argument("--few", type=int, default=10, help="associations at once on a peer that does no better (10)")
    parser.add_argument("--seconds", type=float, default=3, help="of each round (3)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each server (3)")
    parser.add_argument("--plot", metavar="FILE", help="where to draw the figures, .svg or .png")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.smoke:
        arguments.seconds, arguments.rounds = 0.5, 1
    found: dict[str, Any] = {}
    versions = {}
    there = []
    for peer in peers(arguments.entries, arguments.matches):
        if peer.start is None:
            console.print(f"{peer.name} is left out: {peer.missing}")
            continue
        versions[peer.name] = peer.version
        there.append(peer)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mwl-bench-")))
        _write_files(folder / "WORKLIST", arguments.entries, arguments.matches)
        own, asked, _ = stack.enter_context(own_servers(arguments.entries, arguments.matches))
        modes = ("associate",) if arguments.smoke else ("associate", "open")
        for mode in modes:
            rounds = _in_turns(own, there, folder, asked, mode, arguments)
            show(MODES[mode], rounds)
            found[mode] = {
                "servers": {name: figures(each) for name, each in rounds.items()},
                "times_by_rate": _times(rounds, ratio),
                "times_by_server_cpu": _times(rounds, cpu_ratio),
            }
    out: dict[str, Any] = {"entries": arguments.entries, "matches": arguments.matches, "versions": versions, **found}
    for mode in modes:
        for name, times in found[mode]["times_by_rate"].items():
            out[f"{mode}:_times_{name}_by_rate"] = times
            out[f"{mode}:_times_{name}_by_server_cpu"] = found[mode]["times_by_server_cpu"][name]
    if arguments.plot:
        plot.peers(out, Path(arguments.plot))
    return out


def _write_files(folder: Path, count: int, matches: int) -> None:
    folder.mkdir()
    (folder / "lockfile").touch()
    for entry in entries(count, matches, date.today()):
        write_wl_file(entry, folder)


def _in_turns(
    own: Mapping[str, Provider],
    there: list[Peer],
    folder: Path,
    asked: list[Query],
    mode: str,
    arguments: argparse.Namespace,
) -> dict[str, list[Round]]:
    """Measure all in turns; of a peer, the better of many and of few associations at once counts."""
    cores, _ = machine.cores()
    plan = find_plan(asked, 40)
    tries = (arguments.few,) if arguments.smoke else (arguments.few, arguments.slots)
    sample = asked[:: len(asked) // (4 if arguments.smoke else 20) + 1]
    rounds: dict[str, list[Round]] = {name: [] for name in (*own, *[peer.name for peer in there])}

    def load(slots: int) -> Load:
        return Load(slots=slots, seconds=arguments.seconds, per_association=mode == "associate", timeout=15)

    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        if not arguments.smoke:
            for name, server in own.items():
                measure(server, plan, load(arguments.slots), progress, f"{mode}: {name}, to warm up")
        for number in range(arguments.rounds):
            for name, server in own.items():
                rounds[name].append(measure(server, plan, load(arguments.slots), progress, f"{mode}: {name}"))
            for peer in there:
                assert peer.start is not None
                tried = []
                for slots in tries:  # each begins anew, free of what the other left behind
                    with peer.start(folder, cores) as server:
                        if number == 0 and slots == arguments.few:
                            check({peer.name: server}, sample)
                        tried.append(measure(server, plan, load(slots), progress, f"{mode}: {peer.name}"))
                rounds[peer.name].append(max(tried, key=lambda each: each.result.rate))
    return rounds


def _times(
    rounds: Mapping[str, list[Round]], compare: Callable[[list[Round], list[Round]], float]
) -> dict[str, float]:
    """Say how many times each server ours is; nothing for one that answered nothing."""
    answering = [name for name, each in rounds.items() if name != "mwl" and any(one.result.done for one in each)]
    return {name: compare(rounds["mwl"], rounds[name]) for name in answering}
