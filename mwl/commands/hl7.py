"""`mwl hl7`: what a message would do, a sender, and the messages that were refused."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ssl
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from ..config import Hl7
from ..errors import MwlError
from ..hl7.feed import Failed, Feed, Memory, NothingKnown, failed_messages, forget_failed, read_message
from ..hl7.lineage import show_value
from ..hl7.mapping import Mapping, load_mapping
from ..hl7.mapping_table import HEADINGS, mapping_rows, to_markdown
from ..hl7.message import Answer, Message, MessageError, encode_ack, split_messages
from ..hl7.orders import make_plan
from ..hl7.plan import EntryChange, Lookup, Plan, Rehearsal, Source, unused_fields
from ..hl7.sender import send
from ..store import StoreReader
from ..table import format_table
from .options import DEFAULT_CONFIG, add_config, add_json, load_config, open_store, read_store

__all__ = ["ARGUMENTS"]

Number = TypeVar("Number", int, float)


def _arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="hl7_command", required=True, metavar="COMMAND")
    for name, (add, summary) in _COMMANDS.items():
        add(commands.add_parser(name, help=summary, description=f"{summary.capitalize()}."))


def _mapping(options: argparse.Namespace, hl7: Hl7 | None) -> Mapping:
    return load_mapping(options.mapping or (hl7.mapping if hl7 else None))


def _print_json(value: Any) -> None:
    print(msgspec.json.format(msgspec.json.encode(value)).decode())


# --- dry-run ------------------------------------------------------------------------------------------------------


def _dry_run_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_json(parser, "a JSON array, one object for each message")
    parser.add_argument(
        "--mapping", type=Path, metavar="FILE", help="a mapping to try, in place of the configured one"
    )
    parser.add_argument("--empty", action="store_true", help="as if the store were empty")
    parser.add_argument("files", metavar="FILE", nargs="+", help="one or several messages; - is standard input")
    parser.set_defaults(run=dry_run)


def dry_run(options: argparse.Namespace) -> int:
    """Show what messages would do, one after another, and why; nothing is changed."""
    messages = [message for name in options.files for message in _read_messages(name)]
    with _known(options) as (lookup, mapping):
        rehearsal = Rehearsal(lookup)
        outcomes = [_rehearse(raw, mapping, rehearsal) for raw in messages]
    if options.json:
        _print_json([_outcome_json(*outcome) for outcome in outcomes])
    else:
        for number, outcome in enumerate(outcomes, 1):
            _print_outcome(number, *outcome)
    return 0 if all(plan.answer.code == "AA" for _, plan, _ in outcomes) else 1


Outcome = tuple[Message | None, Plan, bytes]


def _read_messages(name: str) -> list[bytes]:
    raw = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    messages = split_messages(raw)
    if not messages:
        raise MwlError(f"{name}: there is no HL7 message in it")
    return messages


@contextlib.contextmanager
def _known(options: argparse.Namespace) -> Iterator[tuple[Lookup, Mapping]]:
    """Give what is known before the messages; without a configuration nothing is."""
    if options.config == DEFAULT_CONFIG and not options.config.exists():
        yield NothingKnown(), load_mapping(options.mapping)
        return
    config = load_config(options)
    mapping = _mapping(options, config.hl7)
    if options.empty or not config.store.path.exists():
        yield NothingKnown(), mapping
        return
    reader = StoreReader(config.store.path)
    try:
        yield reader.read(lambda connection: Memory(connection, mapping, datetime.now().timestamp())), mapping
    finally:
        reader.close()


def _rehearse(raw: bytes, mapping: Mapping, rehearsal: Rehearsal) -> Outcome:
    now = datetime.now()
    try:
        message = read_message(raw, mapping)
    except MessageError as exc:
        answer = Answer("AR", (exc.fault,))
        ack = encode_ack(exc.header, answer, now, "DRY-RUN", exc.delimiters) if exc.header else b""
        return None, Plan(answer), ack
    plan = make_plan(message, mapping, rehearsal, now)
    rehearsal.take(plan, message.header.time)  # a cancel that is refused is remembered, too
    return message, plan, encode_ack(message.header, plan.answer, now, "DRY-RUN", message.delimiters)


def _outcome_json(message: Message | None, plan: Plan, ack: bytes) -> dict[str, Any]:
    unused = unused_fields(message, plan) if message else []
    return {
        "message": message.header if message else None,
        "answer": plan.answer.code,
        "faults": [str(fault) for fault in plan.answer.faults],
        "ack": ack.decode("utf_8", "replace"),
        "changes": [
            {"what": change.what, "key": _key(change), "attributes": change.sources} for change in plan.changes
        ],
        "merged": plan.links,
        "warnings": [warning.brief for warning in plan.answer.warnings],
        "notes": plan.notes,
        "not_used": {str(location): text for location, text in unused},
    }


def _key(change: EntryChange) -> str:
    entry = change.after or change.before
    assert entry is not None
    return "/".join(entry.key)


def _print_outcome(number: int, message: Message | None, plan: Plan, ack: bytes) -> None:
    header = message.header if message else None
    title = f"{header.type} {header.control_id} from {header.sender}" if header else "unreadable"
    print(f"message {number}: {title}")
    for line in ack.decode("utf_8", "replace").split("\r")[1:-1]:
        print(f"  answer: {line}")
    for change in plan.changes:
        print(f"\n  {change.what}: {_key(change)}")
        used = [source for source in change.sources if not source.not_used]
        if used:
            _print_table(("Attribute", "Value", "Before", "From", "Sent", "Rule"), [_source_row(one) for one in used])
        for source in change.sources:
            if source.not_used:
                print(f"    not taken: {source.attribute} from {source.field}: {source.not_used}")
    for warning in plan.answer.warnings:
        print(f"  warning: {warning.brief}")
    for note in plan.notes:
        print(f"  note: {note}")
    unused = unused_fields(message, plan) if message else []
    if unused:
        print("\n  not used:")
        _print_table(("Field", "Sent"), [(str(location), _short(text)) for location, text in unused])
    print()


def _print_table(headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    for line in format_table(headings, rows):
        print(f"    {line}")


def _source_row(source: Source) -> tuple[str, ...]:
    value, before = (show_value(msgspec.to_builtins(each)) for each in (source.value, source.before))
    return (
        source.attribute,
        _short(value),
        "=" if value == before else _short(before),
        source.field,
        _short(source.raw),
        _short(source.rule),
    )


def _short(text: str) -> str:
    text = text.replace("\n", " / ")
    return text if len(text) <= 44 else f"{text[:43]}…"


# --- send ---------------------------------------------------------------------------------------------------------


def _send_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("address", type=_address, metavar="HOST:PORT", help="the listener")
    parser.add_argument("files", metavar="FILE", nargs="+", help="files of one or several messages each")
    parser.add_argument("--rate", type=_positive(float), default=0.0, metavar="N", help="messages a second, at most")
    parser.add_argument(
        "--repeat", type=_positive(int), default=1, metavar="N", help="send all of them so many times"
    )
    parser.add_argument(
        "--timeout",
        type=_positive(float),
        default=30.0,
        metavar="SECONDS",
        help="how long to wait for an answer",
    )
    parser.add_argument("--tls", action="store_true", help="speak TLS")
    parser.add_argument("--ca", type=Path, metavar="FILE", help="the authority of the listener's certificate")
    parser.add_argument("--certificate", type=Path, metavar="FILE", help="our certificate and its private key, PEM")
    add_json(parser, "one JSON object for each message")
    parser.set_defaults(run=send_files)


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise argparse.ArgumentTypeError(f"{text}: HOST:PORT is wanted")
    return host.strip("[]"), int(port)


def _positive(kind: type[Number]) -> Callable[[str], Number]:
    def read(text: str) -> Number:
        try:
            number = kind(text)
        except ValueError:
            number = kind(0)
        if not 0 < number < float("inf"):
            raise argparse.ArgumentTypeError(f"{text}: a number above 0 is wanted")
        return number

    return read


def send_files(options: argparse.Namespace) -> int:
    """Send messages, and show how they are answered."""
    messages = [message for name in options.files for message in _read_messages(name)]
    return asyncio.run(_send(messages, options))


async def _send(messages: list[bytes], options: argparse.Namespace) -> int:
    context = _tls(options) if options.tls or options.ca or options.certificate else None
    refused = 0
    timings = {"rate": options.rate, "times": options.repeat, "timeout_seconds": options.timeout}
    host, port = options.address
    async for sent in send(host, port, messages, tls=context, **timings):
        refused += sent.code not in ("AA", "CA")
        lines = sent.ack.decode("utf_8", "replace").replace("\r", "\n").strip().split("\n")
        if options.json:
            line = {"control_id": sent.control_id, "code": sent.code, "seconds": sent.seconds, "ack": lines}
            print(msgspec.json.encode(line).decode())
        else:
            print(f"{sent.code or '??'}  {sent.control_id}  {sent.seconds * 1000:.1f} ms")
            print("".join(f"    {line}\n" for line in lines[1:] if sent.code != "AA" or sent.is_warned), end="")
    return 1 if refused else 0


def _tls(options: argparse.Namespace) -> ssl.SSLContext:
    context = ssl.create_default_context()
    for path, load in ((options.ca, context.load_verify_locations), (options.certificate, context.load_cert_chain)):
        try:
            if path:
                load(path)
        except OSError as exc:  # which does not say what file
            raise MwlError(f"{path}: {exc.strerror or exc}") from exc
    return context


# --- failed, retry ------------------------------------------------------------------------------------------------


def _failed_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_json(parser, "JSON")
    parser.add_argument(
        "number", metavar="NUMBER", type=int, nargs="?", help="show this message, and why it was refused"
    )
    parser.add_argument("--forget", action="store_true", help="drop the message")
    parser.set_defaults(run=show_failed)


def show_failed(options: argparse.Namespace) -> int:
    """List the messages that were refused, show one, or drop it."""
    with read_store(options) as reader:
        having = {} if options.number is None else {"id": options.number}
        found = reader.read(lambda connection: failed_messages(connection, **having))
    if options.number is not None and not found:
        raise MwlError(f"there is no refused message {options.number}: `mwl hl7 failed` lists them")
    if options.forget:
        if options.number is None:
            raise MwlError("name the message to forget")
        with open_store(options) as store:
            store.commit_now([forget_failed(options.number)], "mwl hl7 failed")
        print(f"forgotten {options.number}")
    elif options.json:
        _print_json([{**msgspec.structs.asdict(one), "message": _text(one)} for one in found])
    elif options.number is not None:
        for failed in found:
            print(f"{failed.reason}\n\n{_text(failed)}")
    else:
        rows = [_failed_row(failed) for failed in found]
        for line in format_table(("Number", "Last", "Times", "Sender", "Type", "Control id", "Reason"), rows):
            print(line)
    return 0


def _text(failed: Failed) -> str:
    return failed.message.decode("utf_8", "replace").replace("\r", "\n").strip()


def _failed_row(failed: Failed) -> tuple[str, ...]:
    when = f"{datetime.fromtimestamp(failed.at):%Y-%m-%d %H:%M:%S}"
    reason = failed.reason.split("\n")[0]
    return str(failed.id), when, str(failed.times), failed.sender, failed.type, failed.control_id, reason


def _retry_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument(
        "numbers", metavar="NUMBER", type=int, nargs="*", help="messages of `mwl hl7 failed`; none: all"
    )
    parser.add_argument("--mapping", type=Path, metavar="FILE", help="a mapping in place of the configured one")
    parser.add_argument("--overwrite", action="store_true", help="also set anew what newer messages have set")
    parser.set_defaults(run=retry)


def retry(options: argparse.Namespace) -> int:
    """Take refused messages again, oldest first; what newer messages have set since is not set anew."""
    config = load_config(options)
    mapping = _mapping(options, config.hl7)
    refused = 0
    with read_store(options) as reader:
        failed = reader.read(failed_messages)
    unknown = set(options.numbers) - {one.id for one in failed}
    if unknown:
        raise MwlError(f"there is no refused message {', '.join(map(str, sorted(unknown)))}")
    with open_store(options) as store:
        feed = Feed(store, mapping)
        for one in failed:
            if options.numbers and one.id not in options.numbers:
                continue
            answer = feed.receive_now(one.message, is_late=not options.overwrite)
            refused += answer.code != "AA"
            told = [*map(str, answer.faults), *(warning.brief for warning in answer.warnings)]
            print(f"{answer.code}  {one.id}  {'; '.join(told)}".rstrip())
            if any(fault.code == 206 for fault in answer.faults):
                print(f"    --overwrite takes it all the same, `mwl hl7 failed {one.id} --forget` drops it")
    return 1 if refused else 0


# --- mapping ------------------------------------------------------------------------------------------------------


def _mapping_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_json(parser, "JSON")
    parser.add_argument("--mapping", type=Path, metavar="FILE", help="a mapping in place of the configured one")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.set_defaults(run=show_mapping)


def show_mapping(options: argparse.Namespace) -> int:
    """Show which fields each attribute comes from, as the site's mapping has it."""
    is_default = options.config == DEFAULT_CONFIG and not options.config.exists()
    mapping = load_mapping(options.mapping) if is_default else _mapping(options, load_config(options).hl7)
    rows = mapping_rows(mapping)
    if options.json:
        _print_json([dict(zip(HEADINGS, row, strict=True)) for row in rows])
    else:
        for line in to_markdown(rows) if options.markdown else format_table(HEADINGS, rows):
            print(line)
    return 0


_COMMANDS: Final = {
    "dry-run": (_dry_run_arguments, "show what messages would do and why, and change nothing"),
    "send": (_send_arguments, "send messages to a listener"),
    "failed": (_failed_arguments, "list the messages that were refused, or show one"),
    "mapping": (_mapping_arguments, "show which fields each attribute comes from"),
    "retry": (_retry_arguments, "take refused messages again"),
}

ARGUMENTS: Final = {"hl7": _arguments}
