"""The `dulproto` command: instruments for the study of associations."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from . import __version__
from .describe import describe


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return 0 done, 1 failed.  Wrong usage exits with 2."""
    parser = argparse.ArgumentParser(prog="dulproto", description="Instruments for the study of DICOM associations.")
    parser.add_argument("--version", action="version", version=f"dulproto {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    decode = commands.add_parser(
        "decode",
        help="annotate the bytes of PDUs with the clauses of the standard",
        description="Annotate the bytes of PDUs: one direction of a connection, or both in the order of time.",
    )
    decode.add_argument("file", metavar="FILE", help="raw bytes or hexadecimal text; - is standard input")
    decode.add_argument(
        "--no-values", action="store_true", help="leave out the values of data sets, which are patient data"
    )
    decode.add_argument("--json", action="store_true", help="one JSON object a line")
    chosen = parser.parse_args(arguments)
    try:
        data = sys.stdin.buffer.read() if chosen.file == "-" else Path(chosen.file).read_bytes()
    except OSError as error:
        print(f"dulproto: {chosen.file} cannot be read: {error.strerror}", file=sys.stderr)
        return 1
    for line in describe(read_bytes(data), values=not chosen.no_values):
        if chosen.json:
            print(json.dumps(msgspec.to_builtins(line)))
        else:
            offset = "      " if line.offset is None else f"{line.offset:06X}"
            print(f"{offset}  {'  ' * line.depth + line.text:80}  {line.clause}".rstrip())
    return 0


def read_bytes(data: bytes) -> bytes:
    """Read hexadecimal text as the bytes it stands for; anything else is taken as it is."""
    text = re.sub(rb"0x|[\s,:]", b"", data)
    if text and len(text) % 2 == 0 and re.fullmatch(rb"[0-9A-Fa-f]+", text):
        return bytes.fromhex(text.decode("ascii"))
    return data
