"""The `mwl` command: a table of commands, each in a module that is imported only when its command is given."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper
from typing import Final, NamedTuple

from .errors import MwlError

__all__ = ["main"]


class Command(NamedTuple):
    """A command: what `ARGUMENTS[name]` in the module adds to the parser, and what `--help` says."""

    module: str
    summary: str


COMMANDS: Final = {
    "demo": Command("provider", "serve a generated worklist, to try things out"),
    "serve": Command("provider", "serve the worklist"),
    "check": Command("setup", "check the configuration and print what is in force"),
    "import": Command("files", "take in entries from DICOM files, DICOM JSON, and folders of them"),
    "export": Command("files", "write the entries as DICOM JSON or as worklist files"),
    "list": Command("entries", "list the entries"),
    "show": Command("entries", "show all of an entry, or what became of it"),
    "cancel": Command("entries", "cancel steps, so that they are no longer listed to modalities"),
    "remove": Command("entries", "remove entries"),
    "explain": Command("explain", "explain how a query is answered, and why a worklist is empty"),
    "find": Command("network", "query a worklist provider"),
    "echo": Command("network", "verify that a provider answers"),
    "hl7": Command("hl7", "try, send and retry HL7 v2 messages"),
    "backup": Command("setup", "copy the store while it is in use"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return 0 done, 1 refused or failed.  Wrong usage exits with 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parser(arguments[:1]).parse_args(arguments)
    if isinstance(sys.stdout, TextIOWrapper) and not sys.stdout.isatty():
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")  # JSON is, whatever the locale says
    try:
        status: int = options.run(options)
        sys.stdout.flush()
    except MwlError as exc:
        print(f"mwl {options.command}: {exc}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads: `mwl list | head`
        return 1
    except OSError as exc:
        where = f"{exc.filename}: " if exc.filename else ""
        print(f"mwl {options.command}: {where}{exc.strerror or exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return status


def _parser(given: Sequence[str]) -> argparse.ArgumentParser:
    """Make the parser of all commands, with the arguments of the given one only: a module costs time to import."""
    parser = argparse.ArgumentParser(prog="mwl", description="A Modality Worklist provider.")
    parser.add_argument("--version", action=_Version, help="print the version and exit")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        subparser = commands.add_parser(name, help=command.summary, description=f"{command.summary.capitalize()}.")
        if name in given:
            import_module(f".commands.{command.module}", __package__).ARGUMENTS[name](subparser)
    return parser


class _Version(argparse.Action):
    def __init__(self, option_strings: Sequence[str], dest: str, **options: object) -> None:
        super().__init__(option_strings, dest, nargs=0, help=str(options["help"]))

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from dulproto import __version__

        print(f"mwl {__version__}")
        parser.exit()
