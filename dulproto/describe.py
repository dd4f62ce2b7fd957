"""Annotated bytes: what each byte of a stream of PDUs means, with the clause of the standard that says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from .acse import PresentationContext, negotiated_contexts
from .assembler import MessageAssembler
from .dictionary import tag_text
from .dimse import CommandField, CommandSet
from .elements import DataSet, decode_data_set
from .errors import DulError, abort_text, reject_text
from .items import UserIdentity, decode_uid, decode_user_information, walk
from .pdu import (
    COMMAND,
    LAST,
    PDU_HEADER,
    AssociateRq,
    PduType,
    decode_abort,
    decode_ae_title,
    decode_associate_ac,
    decode_associate_rj,
    decode_associate_rq,
    decode_p_data_tf,
)
from .status import category
from .uids import uid_name

_RESULTS: Final = {
    0: "acceptance",
    1: "user-rejection",
    2: "no-reason",
    3: "abstract-syntax-not-supported",
    4: "transfer-syntaxes-not-supported",
}
_CLAUSES: Final = {
    PduType.ASSOCIATE_RQ: ("A-ASSOCIATE-RQ", "PS3.8 Table 9-11"),
    PduType.ASSOCIATE_AC: ("A-ASSOCIATE-AC", "PS3.8 Table 9-17"),
    PduType.ASSOCIATE_RJ: ("A-ASSOCIATE-RJ", "PS3.8 Table 9-21"),
    PduType.P_DATA_TF: ("P-DATA-TF", "PS3.8 Table 9-22"),
    PduType.RELEASE_RQ: ("A-RELEASE-RQ", "PS3.8 Table 9-24"),
    PduType.RELEASE_RP: ("A-RELEASE-RP", "PS3.8 Table 9-25"),
    PduType.ABORT: ("A-ABORT", "PS3.8 Table 9-26"),
}
# Values are patient data more often than not: they are shown only when asked for.
_MAX_VALUE: Final = 64


class Line(msgspec.Struct, frozen=True):
    """One line of a description; `offset` counts from the start of the stream, None for what is spread over it."""

    offset: int | None
    depth: int
    text: str
    clause: str = ""


def describe(stream: bytes, *, values: bool = True) -> Iterator[Line]:
    """Describe the PDUs of a stream, of one direction or of both; what cannot be read is described as such.

    With `values` false, the values of data sets are left out: they are patient data.
    """
    return _Describer(values).stream(stream)


class _Describer:
    """What an observer of a stream remembers: the request, the contexts, the message that is being sent."""

    def __init__(self, values: bool) -> None:
        self.values = values
        self.rq: AssociateRq | None = None
        self.contexts: dict[int, PresentationContext] = {}
        # A stream without its negotiation is read all the same: every context is taken for accepted.
        self.assembler = MessageAssembler(_Anything(), 1 << 20, 1 << 30)

    def stream(self, stream: bytes) -> Iterator[Line]:
        pos = 0
        while pos < len(stream):
            if len(stream) - pos < PDU_HEADER.size:
                yield Line(pos, 0, f"{len(stream) - pos} bytes are too few for a PDU", "PS3.8 9.3.1")
                return
            pdu_type, length = PDU_HEADER.unpack_from(stream, pos)
            name, clause = _CLAUSES.get(pdu_type, (f"{pdu_type:02X}H: no PDU type", "PS3.8 9.3.1"))
            pdu = stream[pos : pos + PDU_HEADER.size + length]
            missing = PDU_HEADER.size + length - len(pdu)
            cut = f", {missing} of them missing" if missing else ""
            yield Line(pos, 0, f"{name}, {length} bytes{cut}", clause)
            describe_content = _CONTENTS.get(pdu_type)
            if describe_content is None:
                return
            try:
                for line in describe_content(self, pdu):
                    yield line if line.offset is None else msgspec.structs.replace(line, offset=pos + line.offset)
            except DulError as error:
                yield Line(pos, 1, f"invalid: {error}")
            pos += len(pdu)

    # --- A-ASSOCIATE -------------------------------------------------------------------------------------

    def associate(self, pdu: bytes) -> Iterator[Line]:
        if len(pdu) >= 74:
            yield Line(6, 1, f"protocol version {pdu[6]:02X}{pdu[7]:02X}H")
            yield Line(10, 1, f"called AE title {decode_ae_title(pdu[10:26])!r}")
            yield Line(26, 1, f"calling AE title {decode_ae_title(pdu[26:42])!r}")
        for item_type, start, stop in walk(pdu, 74, len(pdu), "A-ASSOCIATE"):
            yield from self.item(pdu, item_type, start, stop)
        if pdu[0] == PduType.ASSOCIATE_RQ:
            self.rq = decode_associate_rq(pdu)
        elif self.rq is not None:
            self.contexts = negotiated_contexts(self.rq, decode_associate_ac(pdu))

    def item(self, pdu: bytes, item_type: int, start: int, stop: int) -> Iterator[Line]:
        at = start - 4
        match item_type:
            case 0x10:
                yield Line(at, 1, f"10H application context {_uid(pdu[start:stop])}", "PS3.8 Table 9-12")
            case 0x20:
                yield Line(at, 1, f"20H presentation context {pdu[start]}", "PS3.8 Table 9-13")
                yield from self.syntaxes(pdu, start + 4, stop)
            case 0x21:
                result = _RESULTS.get(pdu[start + 2], "unknown result")
                text = f"21H presentation context {pdu[start]}: {pdu[start + 2]} {result}"
                yield Line(at, 1, text, "PS3.8 Table 9-18")
                yield from self.syntaxes(pdu, start + 4, stop)
            case 0x50:
                yield Line(at, 1, "50H user information", "PS3.8 Table 9-16")
                for sub_type, sub_start, sub_stop in walk(pdu, start, stop, "User-information-item"):
                    user = decode_user_information(pdu, sub_start - 4, sub_stop)
                    said = [f"{name} {_shown(value)}" for name, value in _given(user)]
                    clause = "PS3.8 Table D.1-1" if sub_type == 0x51 else "PS3.7 Annex D.3.3"
                    yield Line(sub_start - 4, 2, f"{sub_type:02X}H {', '.join(said)}", clause)
            case _:
                yield Line(at, 1, f"{item_type:02X}H unknown item, {stop - start} bytes", "PS3.8 9.3.1")

    def syntaxes(self, pdu: bytes, pos: int, end: int) -> Iterator[Line]:
        names = {0x30: "abstract syntax", 0x40: "transfer syntax"}
        for item_type, start, stop in walk(pdu, pos, end, "Presentation-context-item"):
            name = names.get(item_type, "unknown sub-item")
            yield Line(start - 4, 2, f"{item_type:02X}H {name} {_uid(pdu[start:stop])}")

    # --- the others ---------------------------------------------------------------------------------------

    def reject(self, pdu: bytes) -> Iterator[Line]:
        rj = decode_associate_rj(pdu)
        yield Line(7, 1, reject_text(rj.result, rj.source, rj.reason))

    def abort(self, pdu: bytes) -> Iterator[Line]:
        abort = decode_abort(pdu)
        yield Line(8, 1, abort_text(abort.source, abort.reason))

    def nothing(self, pdu: bytes) -> Iterator[Line]:
        yield from ()

    def p_data(self, pdu: bytes) -> Iterator[Line]:
        offset = PDU_HEADER.size
        for pdv in decode_p_data_tf(pdu).pdvs:
            kind = "command" if pdv.control & COMMAND else "data set"
            last = ", last fragment" if pdv.control & LAST else ""
            text = f"PDV of context {pdv.context_id}: {kind}{last}, {len(pdv.fragment)} bytes"
            yield Line(offset, 1, text, "PS3.8 Table 9-23")
            self.assembler.begin(pdv.context_id, pdv.control, len(pdv.fragment), offset)
            self.assembler.add(pdv.fragment)
            message = self.assembler.end()
            if pdv.control & COMMAND and pdv.control & LAST:
                command = message.command if message is not None else self.assembler.command
                if command is not None:
                    yield from self.command(command)
            elif message is not None:
                yield from self.data_set(message.data, pdv.context_id)
            offset += 6 + len(pdv.fragment)

    def command(self, command: CommandSet) -> Iterator[Line]:
        try:
            name = CommandField(command.command_field).name.replace("_", "-")
        except ValueError:
            name = f"command {command.command_field:04X}H"
        yield Line(None, 2, name, "PS3.7 Annex E.1")
        for field, value in _given(command):
            yield Line(None, 3, f"{field} {_status(value) if field == 'status' else _shown(value)}")

    def data_set(self, data: bytes, context_id: int) -> Iterator[Line]:
        context = self.contexts.get(context_id)
        notes: list[str] = []
        # Without a negotiation the transfer syntax is found by trying.
        syntax = context.transfer_syntax if context is not None else "1.2.840.10008.1.2"
        elements = decode_data_set(data, syntax, notes)
        yield Line(None, 2, f"data set, {uid_name(syntax) if context else 'transfer syntax not known'}", "PS3.5 7")
        yield from self.elements(elements, 3)
        yield from (Line(None, 3, f"note: {note}") for note in notes)

    def elements(self, elements: DataSet, depth: int) -> Iterator[Line]:
        for element in elements.values():
            if element.vr == "SQ":
                yield Line(None, depth, f"{tag_text(element.tag)} SQ, {len(element.items)} items")
                for item in element.items:
                    yield from self.elements(item, depth + 1)
            elif self.values:
                value = element.raw[:_MAX_VALUE].decode("utf-8", "backslashreplace").rstrip("\0 ")
                numeric = element.vr in ("AT", "FD", "FL", "SL", "SS", "UL", "US", "OB", "OW", "UN")
                shown = element.raw[:_MAX_VALUE].hex(" ") if numeric else value
                yield Line(None, depth, f"{tag_text(element.tag)} {element.vr} [{shown}]")
            else:
                yield Line(None, depth, f"{tag_text(element.tag)} {element.vr}, {len(element.raw)} bytes")


_CONTENTS: Final[dict[int, Callable[[_Describer, bytes], Iterator[Line]]]] = {
    PduType.ASSOCIATE_RQ: _Describer.associate,
    PduType.ASSOCIATE_AC: _Describer.associate,
    PduType.ASSOCIATE_RJ: _Describer.reject,
    PduType.P_DATA_TF: _Describer.p_data,
    PduType.RELEASE_RQ: _Describer.nothing,
    PduType.RELEASE_RP: _Describer.nothing,
    PduType.ABORT: _Describer.abort,
}


class _Anything(dict[int, object]):
    def __contains__(self, key: object) -> bool:
        return True


def _uid(raw: bytes) -> str:
    uid = decode_uid(raw)
    name = uid_name(uid)
    return uid if name == uid else f"{uid} {name}"


def _given(struct: msgspec.Struct) -> Iterator[tuple[str, object]]:
    """Yield the fields that were there, by name."""
    for field in msgspec.structs.fields(struct):
        value = getattr(struct, field.name)
        if value != field.default and value is not None:
            yield field.name.replace("_", " "), value


def _shown(value: object) -> str:
    if isinstance(value, UserIdentity):  # the primary field names the user for types 1 and 2, else it is a secret
        named = (
            f" {value.primary_field.decode('utf-8', 'backslashreplace')!r}" if value.identity_type in (1, 2) else ""
        )
        return f"type {value.identity_type}{named}"
    if isinstance(value, str):
        name = uid_name(value)
        return value if name == value else f"{value} {name}"
    return repr(value)


def _status(value: object) -> str:
    assert isinstance(value, int)
    return f"{value:04X}H {category(value).value}"
