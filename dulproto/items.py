"""Items and sub-items of A-ASSOCIATE-RQ and -AC, PS3.8 9.3.2-9.3.3 and Annex D, PS3.7 Annex D.

Each item is one frozen struct with its two functions below it, in wire order.  All of them begin alike:
type 1 | reserved 1 | length 2 | content.  Items of an unknown type are kept and change nothing, PS3.8 9.3.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Final

import msgspec

from .errors import AbortReason, LocalProtocolError, RemoteProtocolError

ITEM_HEADER: Final = Struct(">BxH")
_UINT16: Final = Struct(">H")
MAX_CONTENT: Final = 0xFFFF


class Item(msgspec.Struct, frozen=True, gc=False):
    """An item of a type this package does not know."""

    item_type: int
    content: bytes


class ProposedContext(msgspec.Struct, frozen=True, gc=False):
    """A presentation context as proposed, PS3.8 Table 9-13.

    A peer may leave out the abstract syntax (then it is "") or the transfer syntaxes; it gets results 3 and 4.
    """

    context_id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


class ContextResult(msgspec.Struct, frozen=True, gc=False):
    """The answer to a proposed presentation context, PS3.8 Table 9-18; 0 is acceptance."""

    context_id: int
    result: int
    transfer_syntax: str


class RoleSelection(msgspec.Struct, frozen=True, gc=False):
    """SCP/SCU role selection, PS3.7 Table D.3-9."""

    sop_class_uid: str
    scu_role: int
    scp_role: int


class ExtendedNegotiation(msgspec.Struct, frozen=True, gc=False):
    """SOP class extended negotiation, PS3.7 Table D.3-11."""

    sop_class_uid: str
    application_information: bytes


class CommonExtendedNegotiation(msgspec.Struct, frozen=True, gc=False):
    """SOP class common extended negotiation, PS3.7 Table D.3-12; the second byte of the item is its version."""

    sop_class_uid: str
    service_class_uid: str
    related_general_sop_class_uids: tuple[str, ...] = ()
    version: int = 0


class UserIdentity(msgspec.Struct, frozen=True, gc=False):
    """User identity, PS3.7 Table D.3-14: 1 username, 2 with passcode, 3 Kerberos, 4 SAML, 5 JSON Web Token."""

    identity_type: int
    primary_field: bytes
    secondary_field: bytes = b""
    positive_response_requested: bool = False


class UserInformation(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The user information item, PS3.8 Annex D and PS3.7 Annex D; sub-items that are absent are None or empty."""

    maximum_length: int | None = None
    implementation_class_uid: str = ""
    asynchronous_operations_window: tuple[int, int] | None = None
    role_selections: tuple[RoleSelection, ...] = ()
    implementation_version_name: str = ""
    extended_negotiations: tuple[ExtendedNegotiation, ...] = ()
    common_extended_negotiations: tuple[CommonExtendedNegotiation, ...] = ()
    user_identity: UserIdentity | None = None
    user_identity_response: bytes | None = None
    unknown: tuple[Item, ...] = ()


# --- the common frame -----------------------------------------------------------------------------


def walk(data: bytes, pos: int, end: int, field: str) -> Iterator[tuple[int, int, int]]:
    """Yield the type, first byte and end of each item between `pos` and `end`; check each length against `field`."""
    while pos < end:
        if end - pos < 4:
            raise _invalid(f"{end - pos} bytes are left over", field, pos)
        item_type, length = ITEM_HEADER.unpack_from(data, pos)
        start, stop = pos + 4, pos + 4 + length
        if stop > end:
            raise _invalid(f"length {length} of item {item_type:02X}H does not fit", field, pos + 2)
        yield item_type, start, stop
        pos = stop


def encode_item(item_type: int, content: bytes) -> bytes:
    """Frame the content of an item; raises LocalProtocolError if there is more than its length can say."""
    if len(content) > MAX_CONTENT:
        raise LocalProtocolError(f"item {item_type:02X}H cannot hold {len(content)} bytes")
    return ITEM_HEADER.pack(item_type, len(content)) + content


def _invalid(message: str, field: str, offset: int) -> RemoteProtocolError:
    return RemoteProtocolError(message, AbortReason.INVALID_PDU_PARAMETER_VALUE, field=field, offset=offset)


def _fixed(data: bytes, pos: int, end: int, layout: Struct, field: str) -> tuple[int, ...]:
    """Unpack a layout of fixed size; bytes behind it are ignored, as reserved ones are."""
    if end - pos < layout.size:
        raise _invalid(f"{end - pos} bytes are too few", field, pos)
    return layout.unpack_from(data, pos)


def _counted(data: bytes, pos: int, end: int, field: str) -> tuple[bytes, int]:
    """Decode a 2-byte length and as many bytes; return them and the offset behind them."""
    (length,) = _fixed(data, pos, end, _UINT16, field)
    stop = pos + 2 + length
    if stop > end:
        raise _invalid(f"length {length} does not fit the item", field, pos)
    return data[pos + 2 : stop], stop


def _encode_counted(content: bytes) -> bytes:
    if len(content) > MAX_CONTENT:
        raise LocalProtocolError(f"a field of an item cannot hold {len(content)} bytes")
    return _UINT16.pack(len(content)) + content


def decode_uid(raw: bytes) -> str:
    """Decode a UID of an item; it should not be padded, PS3.8 Annex F, but is by some."""
    return raw.decode("latin-1").strip("\0 ")


# --- 20H, 21H presentation contexts ------------------------------------------------------------------------

APPLICATION_CONTEXT_ITEM: Final = 0x10
PROPOSED_CONTEXT_ITEM: Final = 0x20
CONTEXT_RESULT_ITEM: Final = 0x21
ABSTRACT_SYNTAX_ITEM: Final = 0x30
TRANSFER_SYNTAX_ITEM: Final = 0x40
USER_INFORMATION_ITEM: Final = 0x50

_RQ_FIELD: Final = "Presentation-context-item"

# PS3.8 Table 9-13, behind the item header:  5 context id | 6-8 reserved | 9- 30H and 40H sub-items
_PROPOSED_CONTEXT: Final = Struct(">B3x")


def decode_proposed_context(data: bytes, pos: int, end: int) -> ProposedContext:
    """Decode a presentation context item of an A-ASSOCIATE-RQ, PS3.8 Table 9-13."""
    (context_id,) = _fixed(data, pos, end, _PROPOSED_CONTEXT, _RQ_FIELD)
    abstract_syntax = ""
    transfer_syntaxes = []
    for item_type, start, stop in walk(data, pos + 4, end, _RQ_FIELD):
        if item_type == ABSTRACT_SYNTAX_ITEM:
            abstract_syntax = abstract_syntax or decode_uid(data[start:stop])
        elif item_type == TRANSFER_SYNTAX_ITEM:
            transfer_syntaxes.append(decode_uid(data[start:stop]))
    return ProposedContext(context_id, abstract_syntax, tuple(transfer_syntaxes))


def encode_proposed_context(context: ProposedContext) -> bytes:
    """Encode a presentation context item of an A-ASSOCIATE-RQ, PS3.8 Table 9-13."""
    content = [_PROPOSED_CONTEXT.pack(context.context_id)]
    if context.abstract_syntax:
        content.append(encode_item(ABSTRACT_SYNTAX_ITEM, context.abstract_syntax.encode("latin-1")))
    content += [encode_item(TRANSFER_SYNTAX_ITEM, uid.encode("latin-1")) for uid in context.transfer_syntaxes]
    return encode_item(PROPOSED_CONTEXT_ITEM, b"".join(content))


# PS3.8 Table 9-18, behind the item header:  5 context id | 6 reserved | 7 result | 8 reserved | 9- one 40H sub-item
_CONTEXT_RESULT: Final = Struct(">BxBx")


def decode_context_result(data: bytes, pos: int, end: int) -> ContextResult:
    """Decode a presentation context item of an A-ASSOCIATE-AC, PS3.8 Table 9-18."""
    context_id, result = _fixed(data, pos, end, _CONTEXT_RESULT, _RQ_FIELD)
    transfer_syntax = ""
    for item_type, start, stop in walk(data, pos + 4, end, _RQ_FIELD):
        if item_type == TRANSFER_SYNTAX_ITEM:
            transfer_syntax = decode_uid(data[start:stop])
    return ContextResult(context_id, result, transfer_syntax)


def encode_context_result(result: ContextResult) -> bytes:
    """Encode a presentation context item of an A-ASSOCIATE-AC, PS3.8 Table 9-18."""
    transfer_syntax = encode_item(TRANSFER_SYNTAX_ITEM, result.transfer_syntax.encode("latin-1"))
    return encode_item(CONTEXT_RESULT_ITEM, _CONTEXT_RESULT.pack(result.context_id, result.result) + transfer_syntax)


# --- 50H user information: sub-items 51H to 59H --------------------------------------------------------------

# PS3.8 Table D.1-1:  5-8 maximum length of the P-DATA-TF PDUs that the sender of this item receives
_MAXIMUM_LENGTH: Final = Struct(">I")
# PS3.7 Table D.3-7:  5-6 maximum number operations invoked | 7-8 maximum number operations performed
_ASYNCHRONOUS_OPERATIONS_WINDOW: Final = Struct(">HH")
# PS3.7 Table D.3-9, behind the UID:  SCU role | SCP role
_ROLES: Final = Struct(">BB")
# PS3.7 Table D.3-14:  5 type | 6 positive response requested | 7-8 length, primary | length, secondary
_USER_IDENTITY: Final = Struct(">BB")


def decode_user_information(data: bytes, pos: int, end: int) -> UserInformation:
    """Decode the content of a user information item; sub-items may come in any order, PS3.8 9.3.2.3."""
    maximum_length: int | None = None
    window: tuple[int, int] | None = None
    identity: UserIdentity | None = None
    identity_response: bytes | None = None
    class_uid = version_name = ""
    roles, extended, common, unknown = [], [], [], []
    for item_type, start, stop in walk(data, pos, end, "User-information-item"):
        match item_type:
            case 0x51:
                (maximum_length,) = _fixed(data, start, stop, _MAXIMUM_LENGTH, "Maximum-length-sub-item")
            case 0x52:
                class_uid = decode_uid(data[start:stop])
            case 0x53:
                invoked, performed = _fixed(
                    data, start, stop, _ASYNCHRONOUS_OPERATIONS_WINDOW, "Asynchronous-operations-window-sub-item"
                )
                window = (invoked, performed)
            case 0x54:
                uid, at = _counted(data, start, stop, "Role-selection-sub-item")
                scu, scp = _fixed(data, at, stop, _ROLES, "Role-selection-sub-item")
                roles.append(RoleSelection(decode_uid(uid), scu, scp))
            case 0x55:
                version_name = data[start:stop].decode("latin-1").strip("\0 ")
            case 0x56:
                uid, at = _counted(data, start, stop, "SOP-class-extended-negotiation-sub-item")
                extended.append(ExtendedNegotiation(decode_uid(uid), data[at:stop]))
            case 0x57:
                common.append(_decode_common_extended_negotiation(data, start, stop))
            case 0x58:
                identity = _decode_user_identity(data, start, stop)
            case 0x59:
                identity_response, _ = _counted(data, start, stop, "User-identity-sub-item")
            case _:
                unknown.append(Item(item_type, data[start:stop]))
    return UserInformation(
        maximum_length=maximum_length,
        implementation_class_uid=class_uid,
        asynchronous_operations_window=window,
        role_selections=tuple(roles),
        implementation_version_name=version_name,
        extended_negotiations=tuple(extended),
        common_extended_negotiations=tuple(common),
        user_identity=identity,
        user_identity_response=identity_response,
        unknown=tuple(unknown),
    )


def _decode_common_extended_negotiation(data: bytes, pos: int, end: int) -> CommonExtendedNegotiation:
    field = "SOP-class-common-extended-negotiation-sub-item"
    sop_class, at = _counted(data, pos, end, field)
    service_class, at = _counted(data, at, end, field)
    (length,) = _fixed(data, at, end, _UINT16, field)
    at, stop = at + 2, at + 2 + length
    if stop > end:
        raise _invalid(f"length {length} of the related classes does not fit", field, at - 2)
    related = []
    while at < stop:
        uid, at = _counted(data, at, stop, field)
        related.append(decode_uid(uid))
    version = data[pos - 3]
    return CommonExtendedNegotiation(decode_uid(sop_class), decode_uid(service_class), tuple(related), version)


def _decode_user_identity(data: bytes, pos: int, end: int) -> UserIdentity:
    identity_type, response = _fixed(data, pos, end, _USER_IDENTITY, "User-identity-sub-item")
    primary, at = _counted(data, pos + 2, end, "User-identity-sub-item")
    # Peers with nothing to say leave out the secondary length, too.
    secondary = _counted(data, at, end, "User-identity-sub-item")[0] if at < end else b""
    return UserIdentity(identity_type, primary, secondary, bool(response))


def encode_user_information(user: UserInformation) -> bytes:
    """Encode a user information item, its sub-items ascending, as older peers expect."""
    out = []
    if user.maximum_length is not None:
        out.append(encode_item(0x51, _MAXIMUM_LENGTH.pack(user.maximum_length)))
    if user.implementation_class_uid:
        out.append(encode_item(0x52, user.implementation_class_uid.encode("latin-1")))
    if user.asynchronous_operations_window is not None:
        out.append(encode_item(0x53, _ASYNCHRONOUS_OPERATIONS_WINDOW.pack(*user.asynchronous_operations_window)))
    for role in user.role_selections:
        uid = _encode_counted(role.sop_class_uid.encode("latin-1"))
        out.append(encode_item(0x54, uid + _ROLES.pack(role.scu_role, role.scp_role)))
    if user.implementation_version_name:
        out.append(encode_item(0x55, user.implementation_version_name.encode("latin-1")))
    for extended in user.extended_negotiations:
        uid = _encode_counted(extended.sop_class_uid.encode("latin-1"))
        out.append(encode_item(0x56, uid + extended.application_information))
    out += [_encode_common_extended_negotiation(common) for common in user.common_extended_negotiations]
    if user.user_identity is not None:
        identity = user.user_identity
        head = _USER_IDENTITY.pack(identity.identity_type, identity.positive_response_requested)
        fields = _encode_counted(identity.primary_field) + _encode_counted(identity.secondary_field)
        out.append(encode_item(0x58, head + fields))
    if user.user_identity_response is not None:
        out.append(encode_item(0x59, _encode_counted(user.user_identity_response)))
    out += [encode_item(item.item_type, item.content) for item in user.unknown]
    return encode_item(USER_INFORMATION_ITEM, b"".join(out))


def _encode_common_extended_negotiation(common: CommonExtendedNegotiation) -> bytes:
    related = b"".join([_encode_counted(uid.encode("latin-1")) for uid in common.related_general_sop_class_uids])
    content = (
        _encode_counted(common.sop_class_uid.encode("latin-1"))
        + _encode_counted(common.service_class_uid.encode("latin-1"))
        + _encode_counted(related)
    )
    return bytes((0x57, common.version)) + _encode_counted(content)
