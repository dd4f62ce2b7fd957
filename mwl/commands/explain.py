"""`mwl explain`: how a query is answered, step by step, and why a worklist is empty."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from datetime import datetime
from typing import Final

import msgspec

import dulproto

from ..config import Config
from ..errors import MwlError
from ..explain import Explanation, explain
from ..keys import query_keys
from ..query import IdentifierError
from ..rules import Rules
from ..store import StoreReader
from ..table import format_table
from ..worklist import Worklist
from .options import add_config, add_json, add_keys, load_config, read_store

__all__ = ["ARGUMENTS", "to_text"]


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument("--called", metavar="TITLE", help="the called AE title (default: the first [[ae]])")
    parser.add_argument("--calling", default="ANY", metavar="TITLE", help="the calling AE title (default: any)")
    add_keys(parser, "a key as the modality sends it, such as Modality=CT or PatientName=DOE*; repeat for more")
    add_json(parser, "the explanation as JSON")
    parser.set_defaults(run=run_explain)


def run_explain(options: argparse.Namespace) -> int:
    """Explain how a query on the stored entries is answered now."""
    config = load_config(options)
    called = options.called or config.ae[0].title
    if config.find_ae(called) is None:
        titles = ", ".join(ae.title for ae in config.ae)
        raise MwlError(f"no [[ae]] has the title {called!r}: an association with it is rejected (there are {titles})")
    with read_store(options) as reader:
        explanation = explain_stored(reader, config, called, options.calling, options.keys)
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(explanation)).decode())
    else:
        for line in to_text(explanation, called, options.calling):
            print(line.replace("ScheduledProcedureStepSequence/", "SPS/"))
    return 0


def explain_stored(reader: StoreReader, config: Config, called: str, calling: str, keys: list[str]) -> Explanation:
    """Explain the answer that a caller gets to a query."""
    worklist = Worklist()
    for entry in reader.load()[1]:
        worklist.put(entry)
    rules = Rules.of(config.policy(called, calling), calling)
    identifier = dulproto.encode_data_set(query_keys(keys), dulproto.EXPLICIT_LE)
    try:
        return explain(identifier, dulproto.EXPLICIT_LE, rules.query, rules.view, worklist, datetime.now())
    except IdentifierError as exc:
        raise MwlError(f"the query is answered with status {exc.status:04X}H: {exc.comment}") from exc


def to_text(explanation: Explanation, called: str, calling: str) -> Iterator[str]:
    """Say it in words."""
    yield f"{explanation.entries:,} entries are in the worklist.  {calling} asks {called}."
    yield ""
    asked = [key for key in explanation.keys if key.text or key.kind not in ("universal", "unsupported")]
    rows = [(key.path, key.text, key.kind, f"{key.alone:,}", f"{key.left:,}", key.reason) for key in asked]
    if rows:
        yield from format_table(("Key", "Value", "Matching", "Alone", "Left", ""), rows)
    else:
        yield "No key has a value: all entries match."
    unsupported = [key.path for key in explanation.keys if key.kind == "unsupported"]
    if unsupported:
        yield f"Not supported, and left out of the answer: {', '.join(unsupported)}"
    if explanation.killer:
        yield f"{explanation.killer} leaves nothing."
    yield ""
    yield f"{explanation.found:,} entries match the keys."
    for hidden in explanation.hidden:
        yield f"  {hidden.entries:,} of them are hidden by the filter {hidden.filter}: {', '.join(hidden.values)}"
    yield f"{len(explanation.listed):,} are listed, each with status {explanation.pending_status:04X}H."
    if explanation.near_misses:
        yield ""
        yield "Nearly found:"
        yield from (f"  {near.text}" for near in explanation.near_misses)
    if explanation.unheeded:
        yield f"Mind: {explanation.unheeded}"
    yield from (f"Note: {note}" for note in explanation.notes)


ARGUMENTS: Final = {"explain": _arguments}
