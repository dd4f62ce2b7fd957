"""`mwl list`, `show`, `cancel` and `remove`: the entries, one by one."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime
from typing import Final

import msgspec

from dulproto import EXPLICIT_LE, encode_data_set

from ..conditions import Condition
from ..dataset import to_dataset
from ..dicom_json import entry_to_json
from ..errors import MwlError
from ..files import write_json
from ..hl7.lineage import Origin, origins, show_value
from ..item import Entry
from ..keys import decode_keys
from ..query import IdentifierError, QueryPolicy, compile_query
from ..store import Change, Logged, Remove, StoreReader, Update
from ..table import format_table
from .options import add_config, add_json, add_keys, open_store, read_store

__all__ = ["ARGUMENTS"]

_CHARACTER_SET: Final = 0x00080005  # `decode_keys` adds it
_HEADINGS: Final = (
    *("Date", "Time", "Station", "Modality", "Patient", "ID", "Birth date", "Sex"),
    *("Accession", "Step", "Description", "Status"),
)


# --- list ---------------------------------------------------------------------------------------------------------


def _list_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_json(parser, "a DICOM JSON array")
    add_keys(parser, "list only what this key matches, such as Modality=CT or PatientName=DOE*; repeat for more")
    parser.set_defaults(run=list_entries)


def list_entries(options: argparse.Namespace) -> int:
    """List entries in the order of their start."""
    conditions = _conditions(options.keys)
    today = date.today()
    with read_store(options) as reader:
        found = (entry for entry in reader.load()[1] if all(each.test(entry, today) for each in conditions))
        entries = sorted(found, key=_start)
    if options.json:
        write_json(entries, sys.stdout)
    else:
        for line in format_table(_HEADINGS, [_row(entry) for entry in entries]):
            print(line)
    return 0


def _conditions(keys: Sequence[str]) -> tuple[Condition, ...]:
    """Read keys as a query of a modality is read; one that would be ignored there is a fault here."""
    identifier = encode_data_set(decode_keys(keys), EXPLICIT_LE)
    try:
        query = compile_query(identifier, EXPLICIT_LE, QueryPolicy(strict=True))
    except IdentifierError as exc:
        raise MwlError(str(exc)) from exc
    unused = [key for key in query.keys if key.kind in ("ignored", "unsupported") and key.tag != _CHARACTER_SET]
    if unused:
        raise MwlError("\n".join(f"{key.path}: {key.reason}" for key in unused))
    return query.conditions


def _start(entry: Entry) -> tuple[str, str, tuple[str, str]]:
    return str(entry.step.start_date), str(entry.step.start_time), entry.key


def _row(entry: Entry) -> tuple[str, ...]:
    patient, step = entry.patient, entry.step
    return (
        str(step.start_date or ""),
        f"{step.start_time:%H:%M}" if step.start_time else "",
        "\\".join(step.station_ae_titles),
        step.modality,
        patient.name,
        patient.identifiers[0].value if patient.identifiers else "",
        str(patient.birth_date or ""),
        patient.sex,
        entry.request.accession_number,
        step.step_id,
        step.description or entry.procedure.description,
        step.status,
    )


# --- show ---------------------------------------------------------------------------------------------------------


def _add_entry(parser: argparse.ArgumentParser, number: str | None = None) -> None:
    help_text = "a step id, STUDY_UID/STEP_ID, or an accession number"
    parser.add_argument("entry", metavar="ENTRY", nargs=number, help=help_text)


def _show_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_json(parser, "DICOM JSON")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--history", action="store_true", help="list all changes of the entry, and who made them")
    what.add_argument("--lineage", action="store_true", help="list which message and field each attribute came from")
    _add_entry(parser)
    parser.set_defaults(run=show_entry)


def show_entry(options: argparse.Namespace) -> int:
    """Show the attributes of an entry, its history, or where its values came from."""
    with read_store(options) as reader:
        (entry,) = _find(reader, [options.entry])
        history = reader.history(entry.key)
    if options.history:
        _print_history(history, as_json=options.json)
    elif options.lineage:
        _print_lineage(origins(history), as_json=options.json)
    elif options.json:
        print(msgspec.json.format(msgspec.json.encode(entry_to_json(entry))).decode())
    else:
        print(to_dataset(entry))
    return 0


def _print_history(history: list[Logged], *, as_json: bool) -> None:
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(history)).decode())
        return
    rows = [
        (
            str(line.revision),
            _when(line.at),
            line.entry.step.status if line.entry else "removed",
            line.origin,
        )
        for line in history
    ]
    for text in format_table(("Revision", "When", "Status", "By"), rows):
        print(text)


def _print_lineage(found: list[Origin], *, as_json: bool) -> None:
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(found)).decode())
        return
    headings = ("Attribute", "Value", "From", "Sent", "Rule", "Message", "Sender", "When")
    rows = [
        (one.attribute, show_value(one.value), one.field, one.raw, one.rule, one.message, one.sender, _when(one.at))
        for one in found
    ]
    for text in format_table(headings, rows):
        print(text)
    for one in found:
        if one.note:
            print(f"{one.attribute} {one.note}")


def _when(at: float) -> str:
    return f"{datetime.fromtimestamp(at):%Y-%m-%d %H:%M:%S}"


# --- cancel, remove -----------------------------------------------------------------------------------------------


def _change_arguments(run: Callable[[argparse.Namespace], int]) -> Callable[[argparse.ArgumentParser], None]:
    def add(parser: argparse.ArgumentParser) -> None:
        add_config(parser)
        _add_entry(parser, "+")
        parser.set_defaults(run=run)

    return add


def cancel_entries(options: argparse.Namespace) -> int:
    """Set the status of steps to CANCELED."""
    return _change(options, "canceled", lambda entry: Update(entry.key, _canceled))


def remove_entries(options: argparse.Namespace) -> int:
    """Remove entries."""
    return _change(options, "removed", lambda entry: Remove(entry.key))


def _change(options: argparse.Namespace, done: str, change: Callable[[Entry], Change]) -> int:
    """Change all the named entries, or none if one of them is not to be found."""
    with open_store(options) as store:
        entries = _find(store, options.entry)
        store.commit_now([change(entry) for entry in entries], origin=f"mwl {options.command}")
    for entry in entries:
        print(f"{done} {'/'.join(entry.key)}")
    return 0


def _canceled(entry: Entry) -> Entry:
    return msgspec.structs.replace(entry, step=msgspec.structs.replace(entry.step, status="CANCELED"))


def _find(reader: StoreReader, names: Iterable[str]) -> list[Entry]:
    """Find entries by what people call them; each name must mean one entry."""
    known: dict[str, dict[tuple[str, str], Entry]] = {}
    for entry in reader.load()[1]:
        for name in ("/".join(entry.key), entry.step.step_id, entry.request.accession_number):
            known.setdefault(name, {})[entry.key] = entry
    found = [list(known.get(name, {}).values()) if name else [] for name in names]
    faults = [_fault(name, entries) for name, entries in zip(names, found, strict=True) if len(entries) != 1]
    if faults:
        raise MwlError("\n".join(faults))
    return [entry for (entry,) in found]


def _fault(name: str, entries: list[Entry]) -> str:
    if not entries:
        return f"there is no entry {name}: `mwl list` has their step ids and accession numbers"
    return "\n  ".join([f"{name} is several entries, name one of them:", *("/".join(entry.key) for entry in entries)])


ARGUMENTS: Final = {
    "list": _list_arguments,
    "show": _show_arguments,
    "cancel": _change_arguments(cancel_entries),
    "remove": _change_arguments(remove_entries),
}
