"""`mwl find` and `mwl echo`: ask a worklist provider, this one or another."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from typing import Final

import dulproto
from dulproto import DataSet

from ..errors import MwlError
from ..keys import KeysError, decode_keys, query_keys
from ..scu import Address, Answer, connection, echo, find, to_csv, to_json, to_table
from ..table import format_table

__all__ = ["ARGUMENTS"]


def _add_association(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("address", metavar="TITLE@HOST:PORT", help="the provider, such as WORKLIST@127.0.0.1:11112")
    parser.add_argument("-aet", default="MWL", metavar="TITLE", help="the calling AE title (default: %(default)s)")
    parser.add_argument("-aec", metavar="TITLE", help="the called AE title, in place of the one in the address")
    syntaxes = parser.add_mutually_exclusive_group()
    for option, name in (("-xi", "implicit-le"), ("-xe", "explicit-le"), ("-xb", "explicit-be")):
        syntaxes.add_argument(
            option, dest="syntax", action="store_const", const=name, help=f"propose the transfer syntax {name} only"
        )
    parser.add_argument(
        "--max-pdu", type=int, default=65536, metavar="BYTES", help="the longest P-DATA-TF to receive"
    )
    parser.add_argument(
        "--timeout", type=float, default=30.0, metavar="SECONDS", help="how long to wait for an answer"
    )


def _connection(options: argparse.Namespace) -> dulproto.connect:
    try:
        address = Address.decode(options.address)
        if options.aec:
            address = Address(address.host, address.port, options.aec)
        syntaxes = (
            [dulproto.TRANSFER_SYNTAXES[options.syntax]] if options.syntax else dulproto.TRANSFER_SYNTAXES.values()
        )
        return connection(address, options.aet, syntaxes, options.max_pdu, options.timeout)
    except (ValueError, dulproto.LocalProtocolError) as exc:
        raise MwlError(str(exc)) from exc


# --- echo ---------------------------------------------------------------------------------------------------------


def _echo_arguments(parser: argparse.ArgumentParser) -> None:
    _add_association(parser)
    parser.set_defaults(run=run_echo)


def run_echo(options: argparse.Namespace) -> int:
    """Verify that the provider answers."""
    return asyncio.run(_echo(options))


async def _echo(options: argparse.Namespace) -> int:
    try:
        async with _connection(options) as association:
            answer = await echo(association)
    except (OSError, dulproto.DulError) as exc:
        raise _explained(options, exc) from exc
    print(answer)
    return 0 if answer.ok else 1


def _explained(options: argparse.Namespace, exc: OSError | dulproto.DulError) -> MwlError:
    """Say where it happened, and what the operating system or the peer said."""
    if isinstance(exc, OSError) and not isinstance(exc, TimeoutError):
        said = os.strerror(exc.errno) if exc.errno and exc.errno > 0 else exc.strerror or exc
        return MwlError(f"{options.address}: {said}: is the provider running there?")
    return MwlError(f"{options.address}: {exc}")


# --- find ---------------------------------------------------------------------------------------------------------


def _find_arguments(parser: argparse.ArgumentParser) -> None:
    _add_association(parser)
    parser.add_argument(
        "-k",
        dest="keys",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a key, such as PatientName=DOE*, 0010,0020=4711, SPS/Modality=CT or Modality=CT; repeat for more",
    )
    parser.add_argument(
        "--only", action="store_true", help="ask for the given keys only, not for the usual ones as well"
    )
    parser.add_argument("--cancel", type=int, metavar="N", help="cancel the query after N matches")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="print a DICOM JSON array")
    output.add_argument("--csv", action="store_true", help="print comma-separated values")
    parser.set_defaults(run=run_find)


def run_find(options: argparse.Namespace) -> int:
    """Query, and print what matches."""
    try:
        keys = decode_keys(options.keys) if options.only else query_keys(options.keys)
    except KeysError as exc:
        raise MwlError(str(exc)) from exc
    return asyncio.run(_find(options, keys))


async def _find(options: argparse.Namespace, keys: DataSet) -> int:
    matches: list[DataSet] = []
    answer = Answer(0)
    try:
        async with _connection(options) as association:
            async for result in find(association, keys, options.cancel):
                if isinstance(result, Answer):
                    answer = result
                else:
                    matches.append(result)
    except (OSError, dulproto.DulError) as exc:
        raise _explained(options, exc) from exc
    if options.json:
        print(json.dumps([to_json(match) for match in matches], ensure_ascii=False, indent=1))
    elif options.csv:
        print(to_csv(matches), end="")
    elif matches:
        for line in format_table(*to_table(matches)):
            print(line)
    print(f"{len(matches):,} entries, {answer}", file=sys.stderr)
    return 0 if answer.ok else 1


ARGUMENTS: Final = {"echo": _echo_arguments, "find": _find_arguments}
