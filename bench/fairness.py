"""What small queries take while others ask for very much, or misbehave: on one process, at a steady rate."""

from __future__ import annotations

import argparse
import resource
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from datetime import date
from functools import partial
from typing import Any

from rich.table import Table

from . import machine
from .generator import Load, associate_plan, find_plan, generator
from .load import check, console, figures, measure
from .probe import associate_rq
from .sample import Query, entries, identifier, queries
from .server import Provider, worklist

Trouble = Callable[[Provider], AbstractContextManager[Any]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--entries", type=int, default=100_000, help="entries, and matches of a long answer (100,000)"
    )
    parser.add_argument("--rate", type=float, default=200, help="small queries a second, an association each (200)")
    parser.add_argument("--silent", type=int, default=10_000, help="connections that say nothing (10,000)")
    parser.add_argument("--dripping", type=int, default=200, help="connections that send a byte a second (200)")
    parser.add_argument("--seconds", type=float, default=5, help="of each (5)")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.smoke:
        arguments.entries, arguments.silent, arguments.dripping, arguments.seconds = 2000, 200, 20, 0.5
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    cores, own = machine.cores()
    machine.pin(0, own)
    asked = queries(entries(arguments.entries, 25, date.today()), 25)
    everything = Query(identifier({}, {}), frozenset(map(str, range(arguments.entries))))
    long_answers = Load(slots=1, per_association=False, seconds=600, warmup=0)
    everything_asked = partial(_background, plan=find_plan([everything], 1), load=long_answers)
    flood = Load(slots=200, seconds=600, warmup=0)
    troubles: dict[str, Trouble] = {
        "nobody else": lambda server: nullcontext(),
        f"one asks for {arguments.entries:,} the first time": everything_asked,
        f"one asks for {arguments.entries:,} again and again": everything_asked,
        f"{arguments.silent:,} connections say nothing": partial(_silent, count=arguments.silent),
        f"{arguments.dripping:,} send a byte a second": partial(_dripping, count=arguments.dripping),
        "200 are refused again and again": partial(
            _background, plan=associate_plan(associate_rq(called="NOBODY")), load=flood
        ),
        "200 send rubbish again and again": partial(
            _background, plan=associate_plan(b"GET / HTTP/1.0\r\n\r\n"), load=flood
        ),
    }
    load = Load(rate=arguments.rate, slots=500, seconds=arguments.seconds, drain=5)
    plan = find_plan(asked, 40)
    shown = Table(title=f"{arguments.rate:g} small queries a second, ms", title_justify="left")
    for column in ("meanwhile", "p50", "p99", "max", "failed", "others"):
        shown.add_column(column, justify="left" if column == "meanwhile" else "right", no_wrap=True)
    found = {}
    with worklist(entries(arguments.entries, 25, date.today()), cores) as server:
        check({"mwl": server}, asked)
        for name, trouble in troubles.items():
            with trouble(server):
                of = figures([measure(server, plan, load)])
            times = of["milliseconds"]["answered"]
            found[name] = {"milliseconds": times, "failures": of["failures"], "disturbance": of["disturbance"]}
            shown.add_row(
                name,
                *[f"{times[which]:,.2f}" for which in ("p50", "p99", "max")],
                f"{sum(of['failures'].values()):,}",
                f"{of['disturbance']:.0%}",
            )
    console.print(shown)
    return {"rate": arguments.rate, "meanwhile": found}


# --- those who make trouble ---------------------------------------------------------------------------------------


@contextmanager
def _background(server: Provider, plan: bytes, load: Load) -> Iterator[None]:
    with generator(server.port, plan, load, machine.cores()[1]):
        yield


@contextmanager
def _silent(server: Provider, count: int) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        yield [stack.enter_context(_connect(server, number)) for number in range(count)]


@contextmanager
def _dripping(server: Provider, count: int) -> Iterator[None]:
    stop = threading.Event()

    def drip(sockets: list[socket.socket]) -> None:
        for byte in associate_rq():
            for each in sockets:
                try:
                    each.send(bytes([byte]))
                except OSError:  # the server has had enough of it
                    continue
            if stop.wait(1):
                return

    with _silent(server, count) as sockets:
        thread = threading.Thread(target=drip, args=(sockets,), daemon=True)
        thread.start()
        yield
        stop.set()
        thread.join()


def _connect(server: Provider, number: int) -> socket.socket:
    source = f"127.72.{number // 250}.{number % 250 + 1}"
    return socket.create_connection(("127.0.0.1", server.port), timeout=10, source_address=(source, 0))
