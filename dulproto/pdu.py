"""The seven protocol data units, PS3.8 9.3.

Layout, decoder and encoder stand together, in wire order.  Decoders take a whole PDU, header included, so that
offsets in errors count from its first byte.  All PDUs begin alike: type 1 | reserved 1 | length 4 | content.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from struct import Struct
from typing import Any, Final

import msgspec

from .errors import AbortReason, LocalProtocolError, RemoteProtocolError
from .items import (
    APPLICATION_CONTEXT_ITEM,
    CONTEXT_RESULT_ITEM,
    PROPOSED_CONTEXT_ITEM,
    USER_INFORMATION_ITEM,
    ContextResult,
    Item,
    ProposedContext,
    UserInformation,
    decode_context_result,
    decode_proposed_context,
    decode_uid,
    decode_user_information,
    encode_context_result,
    encode_item,
    encode_proposed_context,
    encode_user_information,
    walk,
)
from .uids import APPLICATION_CONTEXT


class PduType(IntEnum):
    """PS3.8 Tables 9-11 to 9-26, byte 1."""

    ASSOCIATE_RQ = 0x01
    ASSOCIATE_AC = 0x02
    ASSOCIATE_RJ = 0x03
    P_DATA_TF = 0x04
    RELEASE_RQ = 0x05
    RELEASE_RP = 0x06
    ABORT = 0x07


PDU_HEADER: Final = Struct(">BxI")


class AssociateRq(msgspec.Struct, frozen=True, gc=False):
    """A-ASSOCIATE-RQ, PS3.8 Table 9-11.  `titles` is bytes 11-74: called title, calling title, reserved."""

    titles: bytes
    presentation_contexts: tuple[ProposedContext, ...]
    user_information: UserInformation = UserInformation()
    application_context: str = APPLICATION_CONTEXT
    protocol_version: int = 1
    unknown: tuple[Item, ...] = ()

    @property
    def called_ae_title(self) -> str:
        """The AE title that is called, without padding."""
        return decode_ae_title(self.titles[:16])

    @property
    def calling_ae_title(self) -> str:
        """The AE title of the requestor, without padding."""
        return decode_ae_title(self.titles[16:32])


class AssociateAc(msgspec.Struct, frozen=True, gc=False):
    """A-ASSOCIATE-AC, PS3.8 Table 9-17.  `titles` echoes bytes 11-74 of the request and is never tested."""

    titles: bytes
    presentation_contexts: tuple[ContextResult, ...]
    user_information: UserInformation = UserInformation()
    application_context: str = APPLICATION_CONTEXT
    protocol_version: int = 1
    unknown: tuple[Item, ...] = ()


class AssociateRj(msgspec.Struct, frozen=True, gc=False):
    """A-ASSOCIATE-RJ, PS3.8 Table 9-21."""

    result: int
    source: int
    reason: int


class Pdv(msgspec.Struct, frozen=True, gc=False):
    """A presentation data value, PS3.8 Table 9-23; control bit 0: command, bit 1: last fragment."""

    context_id: int
    control: int
    fragment: bytes


class PDataTf(msgspec.Struct, frozen=True, gc=False):
    """P-DATA-TF, PS3.8 Table 9-22."""

    pdvs: tuple[Pdv, ...]


class ReleaseRq(msgspec.Struct, frozen=True, gc=False):
    """A-RELEASE-RQ, PS3.8 Table 9-24."""


class ReleaseRp(msgspec.Struct, frozen=True, gc=False):
    """A-RELEASE-RP, PS3.8 Table 9-25."""


class Abort(msgspec.Struct, frozen=True, gc=False):
    """A-ABORT, PS3.8 Table 9-26."""

    source: int
    reason: int = 0


Pdu = AssociateRq | AssociateAc | AssociateRj | PDataTf | ReleaseRq | ReleaseRp | Abort


# --- 01H, 02H A-ASSOCIATE-RQ and -AC -------------------------------------------------------------------------

# 01H/02H | reserved | 3-6 length | 7-8 protocol version | 9-10 reserved | 11-74 titles:
# 11-26 called AE title | 27-42 calling AE title | 43-74 reserved
_ASSOCIATE: Final = Struct(">BxIH2x64s")


def encode_ae_titles(called: str, calling: str) -> bytes:
    """Encode bytes 11-74 of an A-ASSOCIATE-RQ: two AE titles of 16 bytes and 32 reserved bytes.

    Raises:
        LocalProtocolError: a title is not an AE title, see `check_ae_title`.
    """
    check_ae_title(called)
    check_ae_title(calling)
    return called.ljust(16).encode() + calling.ljust(16).encode() + bytes(32)


def check_ae_title(title: str) -> None:
    """Raise LocalProtocolError unless this is 1 to 16 printable ASCII characters without backslash, PS3.5 6.2."""
    if not (title.strip(" ") and len(title) <= 16 and title.isascii() and title.isprintable()) or "\\" in title:
        raise LocalProtocolError(f"{title!r} is no AE title: 1 to 16 printable ASCII characters, no backslash")


def decode_ae_title(raw: bytes) -> str:
    """Decode an AE title; padding is not significant, PS3.8 Table 9-11, and some peers pad with NUL."""
    return raw.partition(b"\0")[0].decode("latin-1").strip(" ")


def decode_associate_rq(data: bytes) -> AssociateRq:
    """Decode an A-ASSOCIATE-RQ, PS3.8 Table 9-11; items may come in any order."""
    return AssociateRq(*_decode_associate(data, "A-ASSOCIATE-RQ", PROPOSED_CONTEXT_ITEM, decode_proposed_context))


def encode_associate_rq(pdu: AssociateRq) -> bytes:
    """Encode an A-ASSOCIATE-RQ, PS3.8 Table 9-11, its items ascending."""
    contexts = [encode_proposed_context(context) for context in pdu.presentation_contexts]
    return _encode_associate(PduType.ASSOCIATE_RQ, pdu, contexts)


def decode_associate_ac(data: bytes) -> AssociateAc:
    """Decode an A-ASSOCIATE-AC, PS3.8 Table 9-17; items may come in any order."""
    return AssociateAc(*_decode_associate(data, "A-ASSOCIATE-AC", CONTEXT_RESULT_ITEM, decode_context_result))


def encode_associate_ac(pdu: AssociateAc) -> bytes:
    """Encode an A-ASSOCIATE-AC, PS3.8 Table 9-17, its items ascending."""
    results = [encode_context_result(result) for result in pdu.presentation_contexts]
    return _encode_associate(PduType.ASSOCIATE_AC, pdu, results)


def _decode_associate(
    data: bytes, field: str, context_item: int, decode_context: Callable[..., Any]
) -> tuple[Any, ...]:
    """Decode what the two PDUs share, in the order of their fields."""
    if len(data) < _ASSOCIATE.size:
        raise _invalid(f"{len(data)} bytes are too few", field, len(data))
    _, _, version, titles = _ASSOCIATE.unpack_from(data)
    application_context, user_information = "", UserInformation()
    contexts, unknown = [], []
    for item_type, start, stop in walk(data, _ASSOCIATE.size, len(data), field):
        if item_type == context_item:
            contexts.append(decode_context(data, start, stop))
        elif item_type == APPLICATION_CONTEXT_ITEM:
            application_context = decode_uid(data[start:stop])
        elif item_type == USER_INFORMATION_ITEM:
            user_information = decode_user_information(data, start, stop)
        else:
            unknown.append(Item(item_type, data[start:stop]))
    if not application_context:
        raise _invalid("the application context item is missing", "Application-context-item", len(data))
    if not contexts:
        raise _invalid("there is no presentation context item", "Presentation-context-item", len(data))
    return titles, tuple(contexts), user_information, application_context, version, tuple(unknown)


def _encode_associate(pdu_type: PduType, pdu: AssociateRq | AssociateAc, contexts: list[bytes]) -> bytes:
    body = b"".join(
        [
            encode_item(APPLICATION_CONTEXT_ITEM, pdu.application_context.encode("latin-1")),
            *contexts,
            encode_user_information(pdu.user_information),
            *[encode_item(item.item_type, item.content) for item in pdu.unknown],
        ]
    )
    length = _ASSOCIATE.size - PDU_HEADER.size + len(body)
    return _ASSOCIATE.pack(pdu_type, length, pdu.protocol_version, pdu.titles) + body


# --- 03H A-ASSOCIATE-RJ --------------------------------------------------------------------------------------

# 03H | reserved | 3-6 length 4 | 7 reserved | 8 result | 9 source | 10 reason
_ASSOCIATE_RJ: Final = Struct(">BxIxBBB")


def decode_associate_rj(data: bytes) -> AssociateRj:
    """Decode an A-ASSOCIATE-RJ, PS3.8 Table 9-21."""
    if len(data) < _ASSOCIATE_RJ.size:
        raise _invalid(f"{len(data)} bytes are too few", "A-ASSOCIATE-RJ", len(data))
    return AssociateRj(*_ASSOCIATE_RJ.unpack_from(data)[2:])


def encode_associate_rj(pdu: AssociateRj) -> bytes:
    """Encode an A-ASSOCIATE-RJ, PS3.8 Table 9-21."""
    return _ASSOCIATE_RJ.pack(PduType.ASSOCIATE_RJ, 4, pdu.result, pdu.source, pdu.reason)


# --- 04H P-DATA-TF -------------------------------------------------------------------------------------------

# PS3.8 Table 9-23:  1-4 length from the context id on | 5 context id | 6 message control header | 7- fragment
PDV_HEADER: Final = Struct(">IBB")
COMMAND: Final = 1
LAST: Final = 2


def check_pdv_length(length: int, available: int, offset: int) -> None:
    """Check a PDV item length against the bytes that its PDU has left for it, PS3.8 Table 9-23."""
    if length < 2 or length > available:
        raise _invalid(f"PDV length {length} does not fit the PDU", "PDV-item-length", offset)


def decode_p_data_tf(data: bytes) -> PDataTf:
    """Decode a whole P-DATA-TF, PS3.8 Table 9-22; an `Association` reads PDVs as they come instead."""
    pdvs: list[Pdv] = []
    pos, end = PDU_HEADER.size, len(data)
    while pos < end or not pdvs:  # there must be one at least
        if end - pos < PDV_HEADER.size:
            raise _invalid(f"{end - pos} bytes are too few for a PDV", "P-DATA-TF", pos)
        length, context_id, control = PDV_HEADER.unpack_from(data, pos)
        check_pdv_length(length, end - pos - 4, pos)
        pdvs.append(Pdv(context_id, control, data[pos + PDV_HEADER.size : pos + 4 + length]))
        pos += 4 + length
    return PDataTf(tuple(pdvs))


def encode_p_data_tf(pdu: PDataTf) -> bytes:
    """Encode a P-DATA-TF, PS3.8 Table 9-22."""
    parts = []
    for pdv in pdu.pdvs:
        parts += [PDV_HEADER.pack(len(pdv.fragment) + 2, pdv.context_id, pdv.control), pdv.fragment]
    body = b"".join(parts)
    return PDU_HEADER.pack(PduType.P_DATA_TF, len(body)) + body


def encode_fragments(context_id: int, control: int, data: bytes, maximum_length: int) -> bytes:
    """Encode one command set or data set as P-DATA-TF PDUs of at most `maximum_length`, PS3.8 Annex E.

    `control` is COMMAND or 0; `maximum_length` is the peer's limit on the PDU length field, 0 for none.
    """
    if not maximum_length or len(data) + 6 <= maximum_length:
        head = PDU_HEADER.pack(PduType.P_DATA_TF, len(data) + 6)
        return head + PDV_HEADER.pack(len(data) + 2, context_id, control | LAST) + data
    size = (maximum_length - 6) & ~1
    if size < 2:
        raise LocalProtocolError(f"the peer receives at most {maximum_length} bytes, too few for any message")
    out = []
    for start in range(0, len(data), size):
        fragment = data[start : start + size]
        last = LAST if start + size >= len(data) else 0
        out += [
            PDU_HEADER.pack(PduType.P_DATA_TF, len(fragment) + 6),
            PDV_HEADER.pack(len(fragment) + 2, context_id, control | last),
            fragment,
        ]
    return b"".join(out)


# --- 05H, 06H A-RELEASE and 07H A-ABORT ------------------------------------------------------------------------

# 05H/06H | reserved | 3-6 length 4 | 7-10 reserved
_RELEASE: Final = Struct(">BxI4x")
RELEASE_RQ: Final = _RELEASE.pack(PduType.RELEASE_RQ, 4)
RELEASE_RP: Final = _RELEASE.pack(PduType.RELEASE_RP, 4)


def decode_release_rq(data: bytes) -> ReleaseRq:
    """Decode an A-RELEASE-RQ, PS3.8 Table 9-24: nothing in it is tested, not even its length."""
    return ReleaseRq()


def encode_release_rq(pdu: ReleaseRq) -> bytes:
    """Encode an A-RELEASE-RQ, PS3.8 Table 9-24."""
    return RELEASE_RQ


def decode_release_rp(data: bytes) -> ReleaseRp:
    """Decode an A-RELEASE-RP, PS3.8 Table 9-25: nothing in it is tested, not even its length."""
    return ReleaseRp()


def encode_release_rp(pdu: ReleaseRp) -> bytes:
    """Encode an A-RELEASE-RP, PS3.8 Table 9-25."""
    return RELEASE_RP


# 07H | reserved | 3-6 length 4 | 7-8 reserved | 9 source | 10 reason
_ABORT: Final = Struct(">BxI2xBB")


def decode_abort(data: bytes) -> Abort:
    """Decode an A-ABORT, PS3.8 Table 9-26; one that is cut short still aborts."""
    if len(data) < _ABORT.size:
        return Abort(0, 0)
    return Abort(*_ABORT.unpack_from(data)[2:])


def encode_abort(pdu: Abort) -> bytes:
    """Encode an A-ABORT, PS3.8 Table 9-26."""
    return _ABORT.pack(PduType.ABORT, 4, pdu.source, pdu.reason)


# --- by type -------------------------------------------------------------------------------------------------

DECODERS: Final[dict[int, Callable[[bytes], Any]]] = {
    PduType.ASSOCIATE_RQ: decode_associate_rq,
    PduType.ASSOCIATE_AC: decode_associate_ac,
    PduType.ASSOCIATE_RJ: decode_associate_rj,
    PduType.P_DATA_TF: decode_p_data_tf,
    PduType.RELEASE_RQ: decode_release_rq,
    PduType.RELEASE_RP: decode_release_rp,
    PduType.ABORT: decode_abort,
}
ENCODERS: Final[dict[type, Callable[[Any], bytes]]] = {
    AssociateRq: encode_associate_rq,
    AssociateAc: encode_associate_ac,
    AssociateRj: encode_associate_rj,
    PDataTf: encode_p_data_tf,
    ReleaseRq: encode_release_rq,
    ReleaseRp: encode_release_rp,
    Abort: encode_abort,
}


def _invalid(message: str, field: str, offset: int) -> RemoteProtocolError:
    return RemoteProtocolError(message, AbortReason.INVALID_PDU_PARAMETER_VALUE, field=field, offset=offset)
