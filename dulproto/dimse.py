"""DIMSE command sets, PS3.7 6.3.1 and Annex E: every message of PS3.7 9.3 and 10.3, as tables.

A command set is always Implicit VR Little Endian, whatever was negotiated.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from operator import add
from struct import Struct
from typing import Any, Final

import msgspec

from .errors import AbortReason, LocalProtocolError, RemoteProtocolError
from .pdu import COMMAND, encode_fragments
from .status import Status


class CommandField(IntEnum):
    """PS3.7 Table E.1-1, (0000,0100); a response is its request with the highest bit set."""

    C_STORE_RQ = 0x0001
    C_STORE_RSP = 0x8001
    C_GET_RQ = 0x0010
    C_GET_RSP = 0x8010
    C_FIND_RQ = 0x0020
    C_FIND_RSP = 0x8020
    C_MOVE_RQ = 0x0021
    C_MOVE_RSP = 0x8021
    C_ECHO_RQ = 0x0030
    C_ECHO_RSP = 0x8030
    N_EVENT_REPORT_RQ = 0x0100
    N_EVENT_REPORT_RSP = 0x8100
    N_GET_RQ = 0x0110
    N_GET_RSP = 0x8110
    N_SET_RQ = 0x0120
    N_SET_RSP = 0x8120
    N_ACTION_RQ = 0x0130
    N_ACTION_RSP = 0x8130
    N_CREATE_RQ = 0x0140
    N_CREATE_RSP = 0x8140
    N_DELETE_RQ = 0x0150
    N_DELETE_RSP = 0x8150
    C_CANCEL_RQ = 0x0FFF


RESPONSE: Final = 0x8000
NO_DATA_SET: Final = 0x0101
DATA_SET: Final = 0x0102  # any value but 0101H will do; this is the one that old peers expect


class CommandSet(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The elements of a command set, PS3.7 Annex E.1; one that is absent is None."""

    command_field: int
    affected_sop_class_uid: str | None = None
    requested_sop_class_uid: str | None = None
    message_id: int | None = None
    message_id_being_responded_to: int | None = None
    move_destination: str | None = None
    priority: int | None = None
    command_data_set_type: int = NO_DATA_SET
    status: int | None = None
    offending_element: tuple[int, ...] | None = None
    error_comment: str | None = None
    error_id: int | None = None
    affected_sop_instance_uid: str | None = None
    requested_sop_instance_uid: str | None = None
    event_type_id: int | None = None
    attribute_identifier_list: tuple[int, ...] | None = None
    action_type_id: int | None = None
    number_of_remaining_sub_operations: int | None = None
    number_of_completed_sub_operations: int | None = None
    number_of_failed_sub_operations: int | None = None
    number_of_warning_sub_operations: int | None = None
    move_originator_ae_title: str | None = None
    move_originator_message_id: int | None = None

    @property
    def has_data_set(self) -> bool:
        """Whether a data set follows, (0000,0800)."""
        return self.command_data_set_type != NO_DATA_SET


# PS3.7 Table E.1-1: element number in group 0000, VR, field.  Retired elements are not here: they are skipped.
_ELEMENTS: Final[dict[int, tuple[str, str]]] = {
    0x0002: ("UI", "affected_sop_class_uid"),
    0x0003: ("UI", "requested_sop_class_uid"),
    0x0100: ("US", "command_field"),
    0x0110: ("US", "message_id"),
    0x0120: ("US", "message_id_being_responded_to"),
    0x0600: ("AE", "move_destination"),
    0x0700: ("US", "priority"),
    0x0800: ("US", "command_data_set_type"),
    0x0900: ("US", "status"),
    0x0901: ("AT", "offending_element"),
    0x0902: ("LO", "error_comment"),
    0x0903: ("US", "error_id"),
    0x1000: ("UI", "affected_sop_instance_uid"),
    0x1001: ("UI", "requested_sop_instance_uid"),
    0x1002: ("US", "event_type_id"),
    0x1005: ("AT", "attribute_identifier_list"),
    0x1008: ("US", "action_type_id"),
    0x1020: ("US", "number_of_remaining_sub_operations"),
    0x1021: ("US", "number_of_completed_sub_operations"),
    0x1022: ("US", "number_of_failed_sub_operations"),
    0x1023: ("US", "number_of_warning_sub_operations"),
    0x1030: ("AE", "move_originator_ae_title"),
    0x1031: ("US", "move_originator_message_id"),
}

_ID, _ANSWERED = "message_id", "message_id_being_responded_to"
_AFFECTED, _REQUESTED = "affected_sop_class_uid", "requested_sop_class_uid"
_INSTANCE, _REQUESTED_INSTANCE = "affected_sop_instance_uid", "requested_sop_instance_uid"

# What each message must carry besides (0000,0000), (0000,0100) and (0000,0800): PS3.7 Tables 9.3-1 to 10.3-12.
REQUIRED_FIELDS: Final[dict[int, tuple[str, ...]]] = {
    CommandField.C_STORE_RQ: (_AFFECTED, _ID, "priority", _INSTANCE),
    CommandField.C_STORE_RSP: (_AFFECTED, _ANSWERED, "status"),
    CommandField.C_GET_RQ: (_AFFECTED, _ID, "priority"),
    CommandField.C_GET_RSP: (_AFFECTED, _ANSWERED, "status"),
    CommandField.C_FIND_RQ: (_AFFECTED, _ID, "priority"),
    CommandField.C_FIND_RSP: (_AFFECTED, _ANSWERED, "status"),
    CommandField.C_MOVE_RQ: (_AFFECTED, _ID, "priority", "move_destination"),
    CommandField.C_MOVE_RSP: (_AFFECTED, _ANSWERED, "status"),
    CommandField.C_ECHO_RQ: (_AFFECTED, _ID),
    CommandField.C_ECHO_RSP: (_ANSWERED, "status"),
    CommandField.N_EVENT_REPORT_RQ: (_AFFECTED, _ID, _INSTANCE, "event_type_id"),
    CommandField.N_EVENT_REPORT_RSP: (_ANSWERED, "status"),
    CommandField.N_GET_RQ: (_REQUESTED, _ID, _REQUESTED_INSTANCE),
    CommandField.N_GET_RSP: (_ANSWERED, "status"),
    CommandField.N_SET_RQ: (_REQUESTED, _ID, _REQUESTED_INSTANCE),
    CommandField.N_SET_RSP: (_ANSWERED, "status"),
    CommandField.N_ACTION_RQ: (_REQUESTED, _ID, _REQUESTED_INSTANCE, "action_type_id"),
    CommandField.N_ACTION_RSP: (_ANSWERED, "status"),
    CommandField.N_CREATE_RQ: (_AFFECTED, _ID),
    CommandField.N_CREATE_RSP: (_ANSWERED, "status"),
    CommandField.N_DELETE_RQ: (_REQUESTED, _ID, _REQUESTED_INSTANCE),
    CommandField.N_DELETE_RSP: (_ANSWERED, "status"),
    CommandField.C_CANCEL_RQ: (_ANSWERED,),
}

# Group 0000 u16 | element u16 | length u32 | value
_ELEMENT: Final = Struct("<HHI")
_GROUP_LENGTH: Final = Struct("<HHII")
_US: Final = Struct("<H")
_AT: Final = Struct("<HH")


def decode_command(data: bytes) -> CommandSet:
    """Decode a command set, PS3.7 6.3.1.

    A wrong or missing group length is no matter, since the last PDV delimits; unknown and retired elements are
    skipped; the first of two equal elements counts.

    Raises:
        RemoteProtocolError: a length runs past the end, or there is no Command Field.
    """
    fields: dict[str, Any] = {}
    pos, end = 0, len(data)
    while pos < end:
        if end - pos < 8:
            raise _invalid(f"{end - pos} bytes are too few for an element", "Command-set", pos)
        group, number, length = _ELEMENT.unpack_from(data, pos)
        start, pos = pos + 8, pos + 8 + length
        if pos > end:
            field = f"({group:04X},{number:04X})"
            raise _invalid(f"length {length} runs past the end of the command set", field, start - 4)
        known = _ELEMENTS.get(number) if group == 0 else None
        if known is not None and length:
            vr, name = known
            value = _decode_value(vr, data[start:pos])
            if value not in ("", ()):  # nothing but padding
                fields.setdefault(name, value)
    if fields.get("command_field") is None:
        raise _invalid("the command set has no Command Field", "(0000,0100)", end)
    return CommandSet(**fields)


def _decode_value(vr: str, raw: bytes) -> Any:
    if vr == "US":
        return int.from_bytes(raw[:2], "little")
    if vr == "AT":
        whole = raw[: len(raw) // 4 * 4]
        return tuple([group << 16 | number for group, number in _AT.iter_unpack(whole)])
    return raw.decode("latin-1").strip("\0 ")


def encode_command(command: CommandSet) -> bytes:
    """Encode a command set with its group length, PS3.7 6.3.1: elements ascending, even lengths.

    Raises:
        LocalProtocolError: an element that this message must carry is absent.
    """
    missing = [name for name in REQUIRED_FIELDS.get(command.command_field, ()) if getattr(command, name) is None]
    if missing:
        name = CommandField(command.command_field).name
        raise LocalProtocolError(f"{name} needs {', '.join(missing)}")
    parts = []
    for number, (vr, name) in _ELEMENTS.items():
        value = getattr(command, name)
        if value is not None:
            raw = _encode_value(vr, value)
            parts += [_ELEMENT.pack(0, number, len(raw)), raw]
    body = b"".join(parts)
    return _GROUP_LENGTH.pack(0, 0, 4, len(body)) + body


def _encode_value(vr: str, value: Any) -> bytes:
    if vr == "US":
        return _US.pack(value)
    if vr == "AT":
        return b"".join([_AT.pack(tag >> 16, tag & 0xFFFF) for tag in value])
    raw = str(value).encode("latin-1", "replace")
    pad = b"\0" if vr == "UI" else b" "
    return raw + pad if len(raw) & 1 else raw


def encode_message(context_id: int, command: CommandSet, data: bytes, maximum_length: int) -> bytes:
    """Encode a message as P-DATA-TF PDUs, PS3.7 6.3.1; `data` goes along if the command says so."""
    out = encode_fragments(context_id, COMMAND, encode_command(command), maximum_length)
    return out + encode_fragments(context_id, 0, data, maximum_length) if command.has_data_set else out


class ResponseTemplate:
    """The responses to one kind of request on one presentation context: all of it but the message ID made once."""

    def __init__(self, context_id: int, command_field: int, sop_class_uid: str, maximum_length: int) -> None:
        self.context_id = context_id
        self.command_field = command_field | RESPONSE
        self.sop_class_uid = sop_class_uid
        self.maximum_length = maximum_length
        self._around_id: dict[tuple[int, int], tuple[bytes, bytes]] = {}

    def pending(self, message_id: int, data: bytes, status: int = Status.PENDING) -> bytes:
        """Encode a response that carries a data set, command first, as P-DATA-TF PDUs."""
        command = self._command(message_id, status, DATA_SET)
        return command + encode_fragments(self.context_id, 0, data, self.maximum_length)

    def final(self, message_id: int, status: int = Status.SUCCESS, **fields: Any) -> bytes:
        """Encode a response without a data set; `fields` are further ones of `CommandSet`, such as error_comment."""
        if not fields:
            return self._command(message_id, status, NO_DATA_SET)
        command = msgspec.structs.replace(self._command_set(message_id, status, NO_DATA_SET), **fields)
        return encode_message(self.context_id, command, b"", self.maximum_length)

    def segments(self, data_sets: Sequence[bytes], pending: int, final: int) -> list[bytes]:
        """Encode a whole answer as the bytes between its message IDs: `message_id.join(segments)` sends it."""
        around_pending, around_final = self.around_id(pending, DATA_SET), self.around_id(final, NO_DATA_SET)
        head, tail = around_pending
        last, end = around_final
        heads = [head] * len(data_sets) + [last]  # each stands behind the data set of the response before it
        bodies = [tail + encode_fragments(self.context_id, 0, data, self.maximum_length) for data in data_sets]
        return [*map(add, [b"", *bodies], heads), end]

    def around_id(self, status: int, data_set_type: int) -> tuple[bytes, bytes]:
        """Return the bytes before and behind the message ID."""
        key = status, data_set_type
        if key not in self._around_id:
            # The place of the ID is where two encodings with different IDs differ.  Fragments are even and so are
            # the elements: no limit of the peer's can part its two bytes.
            one, other = (self._encode(message_id, status, data_set_type) for message_id in (0x0000, 0xFFFF))
            at = next(place for place, (a, b) in enumerate(zip(one, other, strict=True)) if a != b)
            self._around_id[key] = one[:at], one[at + 2 :]
        return self._around_id[key]

    def _command(self, message_id: int, status: int, data_set_type: int) -> bytes:
        before, behind = self.around_id(status, data_set_type)
        return before + _US.pack(message_id) + behind

    def _encode(self, message_id: int, status: int, data_set_type: int) -> bytes:
        command = encode_command(self._command_set(message_id, status, data_set_type))
        return encode_fragments(self.context_id, COMMAND, command, self.maximum_length)

    def _command_set(self, message_id: int, status: int, data_set_type: int) -> CommandSet:
        return CommandSet(
            command_field=self.command_field,
            affected_sop_class_uid=self.sop_class_uid,
            message_id_being_responded_to=message_id,
            command_data_set_type=data_set_type,
            status=status,
        )


def _invalid(message: str, field: str, offset: int) -> RemoteProtocolError:
    return RemoteProtocolError(message, AbortReason.INVALID_PDU_PARAMETER_VALUE, field=field, offset=offset)
