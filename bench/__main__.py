"""`python -m bench NAME`: each measurement is a module with `add_arguments` and `run`, which returns its figures."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path
from typing import Any

from . import machine
from .generator import GeneratorError
from .probe import WrongAnswer

MEASUREMENTS = {
    "load": "load of several kinds on the provider, next to a server that only writes prepared bytes",
    "hl7": "HL7 messages: time to read one, acknowledged a second, and time until a query sees them",
    "peers": "the same load on DCMTK, Orthanc, pynetdicom, ours, and a server that only writes prepared bytes",
    "scale": "growth with entries, with matches of a query, with associations that are open",
    "micro": "decode, negotiate, compile, match, encode: nanoseconds each",
    "suite": "a selection of these, five minutes; writes figures and plots",
    "fairness": "what small queries take while others ask for very much, or misbehave",
    "associations": "memory of an open association, and a query on each of many",
    "worklist": "a whole provider with many entries: start, memory of an entry, growth of a match",
    "matching": "the worklist in memory: its size, and how long a match takes, by the number of entries",
    "quickack": "time of a query whose command and identifier come in two segments, with and without TCP_QUICKACK",
    "store": "commits per second, and the time to open a store and load all of it",
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--json", metavar="FILE", help="also write the figures to FILE, - for standard output")
    parser.add_argument("--smoke", action="store_true", help="a short run, to see that it works")
    names = parser.add_subparsers(dest="name", required=True, metavar="NAME")
    for name, purpose in MEASUREMENTS.items():
        importlib.import_module(f"bench.{name}").add_arguments(names.add_parser(name, help=purpose))
    arguments = parser.parse_args()
    try:
        figures: dict[str, Any] = importlib.import_module(f"bench.{arguments.name}").run(arguments)
    except (GeneratorError, WrongAnswer) as exc:
        print(f"bench {arguments.name}: {exc}", file=sys.stderr)
        return 1
    for key, value in figures.items():
        if isinstance(value, (dict, list)):
            continue
        shown = f"{value:,.3f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else value
        print(f"{key.replace('_', ' '):40} {shown}")
    if arguments.json:
        text = json.dumps({"measurement": arguments.name, **figures, "machine": machine.describe()}, indent=1)
        if arguments.json == "-":
            print(text)
        else:
            Path(arguments.json).write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
