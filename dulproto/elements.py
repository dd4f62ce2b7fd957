"""Data elements, PS3.5 7: Implicit VR Little Endian, Explicit VR Little Endian and Explicit VR Big Endian.

A data set is a plain `dict` from tag to `Element`.  Values stay bytes: text is not decoded here, and numbers are
little endian whatever the transfer syntax was, so that nobody above this module has to know it.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from typing import Final

import msgspec

from .dictionary import VR_OF_TAG, VRS_OF_TAG, tag_text
from .errors import ElementError, ElementLimitError, LocalProtocolError
from .uids import EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE

__all__ = ["DataSet", "Element", "decode_data_set", "encode_data_set", "encode_element"]

MAX_NESTING: Final = 16
MAX_ELEMENTS: Final = 100_000

UNDEFINED_LENGTH: Final = 0xFFFFFFFF
ITEM: Final = 0xFFFEE000
ITEM_DELIMITATION: Final = 0xFFFEE00D
SEQUENCE_DELIMITATION: Final = 0xFFFEE0DD

# VRs whose explicit form has two reserved bytes and a 32-bit length, PS3.5 7.1.2.
_LONG_VRS: Final = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"})
_SHORT_VRS: Final = frozenset(
    {"AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO", "LT", "PN", "SH", "SL", "SS", "ST", "TM"}
    | {"UI", "UL", "US"}
)
_VR_OF_BYTES: Final = {vr.encode(): vr for vr in _LONG_VRS | _SHORT_VRS}
# Bytes in one word of a number, PS3.5 7.3: what byte order applies to.
_WORD_SIZE: Final = {
    **dict.fromkeys(("AT", "OW", "SS", "US"), 2),
    **dict.fromkeys(("FL", "OF", "OL", "SL", "UL"), 4),
    **dict.fromkeys(("FD", "OD", "OV", "SV", "UV"), 8),
}
_NUL_PADDED: Final = frozenset({"OB", "UI", "UN"})

# Data element header: tag 2 + 2 | VR 2 | length 2, or reserved 2 | length 4.  Implicit: tag 2 + 2 | length 4.
_IMPLICIT_LE, _IMPLICIT_BE = Struct("<HHI"), Struct(">HHI")
_EXPLICIT_LE, _EXPLICIT_BE = Struct("<HH2sH"), Struct(">HH2sH")
_LENGTH_LE, _LENGTH_BE = Struct("<I"), Struct(">I")


class Element(msgspec.Struct, frozen=True, gc=False):
    """One data element, PS3.5 7.1: a value of bytes, or for SQ the items of the sequence."""

    tag: int
    vr: str
    value: bytes | tuple[DataSet, ...] = b""

    @property
    def items(self) -> tuple[DataSet, ...]:
        """The items of a sequence; none for any other VR."""
        return () if isinstance(self.value, bytes) else self.value

    @property
    def raw(self) -> bytes:
        """The value field as bytes; empty for a sequence."""
        return self.value if isinstance(self.value, bytes) else b""


DataSet = dict[int, Element]


# --- decode -----------------------------------------------------------------------------------------------------


def decode_data_set(data: bytes, transfer_syntax: str, notes: list[str] | None = None) -> DataSet:
    """Decode a data set, PS3.5 7, as leniently as devices in the field need it.

    What had to be tolerated is appended to `notes`, one line each, without values.  Group lengths, elements of
    groups below 0008 and a file preamble are skipped.  Data that cannot be read in the negotiated transfer
    syntax is tried in the others, since some devices negotiate one and send another.

    Raises:
        ElementError: the bytes are no data set.
        ElementLimitError: more than 16 levels of nesting or 100,000 elements.
    """
    notes = [] if notes is None else notes
    start = 0
    # A value may hold these letters, too: a preamble is zero as a rule, and group 0002 stands behind it.
    if data[128:132] == b"DICM" and (data[132:134] == b"\x02\x00" or not data[:128].strip(b"\0")):
        start = _skip_file_meta_information(data)
        notes.append("a file preamble was skipped")
    for candidate in dict.fromkeys((transfer_syntax, EXPLICIT_LE, IMPLICIT_LE, EXPLICIT_BE)):
        if _first_element_is_plausible(data, start, candidate):
            if candidate != transfer_syntax:
                notes.append("data is not in the negotiated transfer syntax")
            return _Decoder(data, candidate, notes).decode(start)
    return _Decoder(data, transfer_syntax, notes).decode(start)


def _first_element_is_plausible(data: bytes, pos: int, transfer_syntax: str) -> bool:
    """Tell whether the first element can be one of this transfer syntax: a known tag, and a length that fits."""
    if pos >= len(data):
        return True
    try:
        tag, vr, length, value = _Decoder(data, transfer_syntax, []).header(pos, len(data))
    except ElementError:
        return False
    known = tag in VR_OF_TAG or tag >> 16 & 1 or tag & 0xFFFF == 0
    fits = length <= len(data) - value or (length == UNDEFINED_LENGTH and vr in ("SQ", "UN"))
    return bool(known) and fits


def _skip_file_meta_information(data: bytes) -> int:
    """Find the end of a preamble and of the group 0002 behind it, which is always Explicit VR LE, PS3.10 7.1."""
    decoder, pos = _Decoder(data, EXPLICIT_LE, []), 132
    while pos + 8 <= len(data) and data[pos : pos + 2] == b"\x02\x00":
        _, _, length, value = decoder.header(pos, len(data))
        pos = min(value + length, len(data))
    return pos


class _Decoder:
    """Position-free walk over one data set; holds what does not change on the way and counts elements."""

    def __init__(self, data: bytes, transfer_syntax: str, notes: list[str]) -> None:
        self.data = data
        self.notes = notes
        self.count = 0
        self.explicit = transfer_syntax != IMPLICIT_LE
        self.big_endian = transfer_syntax == EXPLICIT_BE
        self.header_struct = _EXPLICIT_BE if self.big_endian else _EXPLICIT_LE
        self.length_struct = _LENGTH_BE if self.big_endian else _LENGTH_LE
        self.item_struct = _IMPLICIT_BE if self.big_endian else _IMPLICIT_LE

    def decode(self, pos: int) -> DataSet:
        return self.data_set(pos, len(self.data), 0, delimited=False)[0]

    def header(self, pos: int, end: int) -> tuple[int, str, int, int]:
        """Decode one element header: tag, VR, length, offset of the value."""
        if end - pos < 8:
            raise ElementError(f"{end - pos} bytes are too few for an element", offset=pos)
        group, number, length = self.item_struct.unpack_from(self.data, pos)
        tag = group << 16 | number
        if group == 0xFFFE:
            return tag, "", length, pos + 8
        if not self.explicit:
            vr = VR_OF_TAG.get(tag) or ("SQ" if length == UNDEFINED_LENGTH else "UN")
            return tag, vr, length, pos + 8
        _, _, letters, length = self.header_struct.unpack_from(self.data, pos)
        sent = _VR_OF_BYTES.get(letters)
        if sent is None:
            raise ElementError(f"{letters!r} at {tag_text(tag)} is no VR", offset=pos + 4)
        if sent not in _LONG_VRS:
            return tag, sent, length, pos + 8
        if end - pos < 12:
            raise ElementError(f"the header of {tag_text(tag)} is cut short", offset=pos)
        (length,) = self.length_struct.unpack_from(self.data, pos + 8)
        return tag, sent, length, pos + 12

    def data_set(self, pos: int, end: int, depth: int, *, delimited: bool) -> tuple[DataSet, int]:
        """Decode elements up to `end`, or up to the item delimiter of an item of undefined length."""
        found: DataSet = {}
        last = -1
        while pos < end:
            if end - pos < 8 and not self.data[pos:end].strip(b"\0"):
                self.notes.append("zero bytes behind the last element were skipped")
                return found, end
            tag, sent, length, value = self.header(pos, end)
            if not sent:
                if tag == ITEM_DELIMITATION and delimited:
                    return found, min(value + length, end)
                if depth and tag != ITEM_DELIMITATION:
                    self.notes.append("a missing item delimiter was supplied")
                    return found, pos
                self.notes.append(f"a stray {tag_text(tag)} was skipped")
                pos = value + length
                continue
            self.count += 1
            if self.count > MAX_ELEMENTS:
                raise ElementLimitError(f"more than {MAX_ELEMENTS} elements", offset=pos)
            element, pos = self.element(tag, sent, length, value, end, depth)
            if tag >> 16 < 0x0008 or tag & 0xFFFF == 0:
                self.notes.append(f"{tag_text(tag)} does not belong here and was skipped")
                continue
            if tag in found:
                self.notes.append(f"{tag_text(tag)} is there twice, the first one counts")
                continue
            if tag < last:
                self.notes.append(f"{tag_text(tag)} is out of order")
            found[tag] = element
            last = tag
        if delimited:
            self.notes.append("a missing item delimiter was supplied")
        return found, end

    def element(self, tag: int, sent: str, length: int, pos: int, end: int, depth: int) -> tuple[Element, int]:
        """Decode the value of one element; the dictionary's VR counts, the length as sent."""
        vr = VR_OF_TAG.get(tag, sent)
        if vr != sent and sent in VRS_OF_TAG.get(tag, ()):
            vr = sent
        is_sequence = sent == "SQ" or (vr == "SQ" and sent == "UN")
        if length == UNDEFINED_LENGTH:
            if not is_sequence and sent != "UN":
                raise ElementError(f"undefined length in {tag_text(tag)}, which is no sequence", offset=pos)
            is_sequence, stop = True, end
        else:
            stop = pos + length
            if stop > end:
                raise ElementError(f"length {length} of {tag_text(tag)} runs past the end", offset=pos)
        if is_sequence:
            # An UN that holds a sequence is encoded as Implicit VR Little Endian, PS3.5 6.2.2 note 2.
            decoder = _Decoder(self.data, IMPLICIT_LE, self.notes) if sent == "UN" and self.explicit else self
            decoder.count = self.count
            items, pos = decoder.items(tag, pos, stop, depth + 1, delimited=length == UNDEFINED_LENGTH)
            self.count = decoder.count
            return Element(tag, "SQ", items), pos
        if length & 1:
            self.notes.append(f"{tag_text(tag)} has an odd length")
        if vr == "SQ":
            if length:
                self.notes.append(f"{tag_text(tag)} was sent as {sent} and holds no sequence")
            return Element(tag, "SQ", ()), stop
        if vr != sent and sent != "UN":
            self.notes.append(f"{tag_text(tag)} was sent as {sent}")
        content = self.data[pos:stop]
        if self.big_endian and sent != "UN" and vr in _WORD_SIZE:
            content = _swap(content, _WORD_SIZE.get(sent, _WORD_SIZE[vr]))  # the words are those that were sent
        return Element(tag, vr, content), stop

    def items(self, tag: int, pos: int, end: int, depth: int, *, delimited: bool) -> tuple[tuple[DataSet, ...], int]:
        """Decode the items of a sequence, PS3.5 7.5: defined and undefined lengths, mixed."""
        if depth > MAX_NESTING:
            raise ElementLimitError(f"more than {MAX_NESTING} levels of sequences", offset=pos)
        items: list[DataSet] = []
        while pos < end:
            if end - pos < 8:
                raise ElementError(f"{tag_text(tag)} is cut short", offset=pos)
            group, number, length = self.item_struct.unpack_from(self.data, pos)
            marker, value = group << 16 | number, pos + 8
            if marker == ITEM:
                self.count += 1  # empty items count too, or a sequence of them would have no limit
                if self.count > MAX_ELEMENTS:
                    raise ElementLimitError(f"more than {MAX_ELEMENTS} elements", offset=pos)
                if length == UNDEFINED_LENGTH:
                    item, pos = self.data_set(value, end, depth, delimited=True)
                elif value + length > end:
                    raise ElementError(f"an item of {tag_text(tag)} runs past the end", offset=pos)
                else:
                    item, _ = self.data_set(value, value + length, depth, delimited=False)
                    pos = value + length
                items.append(item)
            elif marker == SEQUENCE_DELIMITATION and delimited:
                return tuple(items), min(value + length, end)
            elif marker in (SEQUENCE_DELIMITATION, ITEM_DELIMITATION):
                self.notes.append(f"a stray delimiter in {tag_text(tag)} was skipped")
                pos = min(value + length, end)
            elif delimited:
                self.notes.append("a missing sequence delimiter was supplied")
                return tuple(items), pos
            else:
                raise ElementError(f"{tag_text(marker)} in {tag_text(tag)} is no item", offset=pos)
        if delimited:
            self.notes.append("a missing sequence delimiter was supplied")
        return tuple(items), end


# --- encode -----------------------------------------------------------------------------------------------------


def encode_data_set(data_set: DataSet, transfer_syntax: str) -> bytes:
    """Encode a data set, PS3.5 7: tags ascending, even lengths, sequences and items of defined length."""
    return b"".join([encode_element(data_set[tag], transfer_syntax) for tag in sorted(data_set)])


def encode_element(element: Element, transfer_syntax: str) -> bytes:
    """Encode one element; a value over 65,534 bytes of a VR with a 16-bit length goes out as UN, PS3.5 6.2.2."""
    big_endian = transfer_syntax == EXPLICIT_BE
    vr, value = element.vr, element.value
    if isinstance(value, bytes):
        content = value
        if len(content) & 1:
            content += b"\0" if vr in _NUL_PADDED or vr in _WORD_SIZE else b" "
        if len(content) > 0xFFFF and vr not in _LONG_VRS and transfer_syntax != IMPLICIT_LE:
            vr = "UN"  # which has no byte order
        if big_endian and vr in _WORD_SIZE:
            content = _swap(content, _WORD_SIZE[vr])
    else:
        content = _encode_items(value, transfer_syntax)
    group, number = element.tag >> 16, element.tag & 0xFFFF
    if transfer_syntax == IMPLICIT_LE:
        return _IMPLICIT_LE.pack(group, number, len(content)) + content
    if transfer_syntax not in (EXPLICIT_LE, EXPLICIT_BE):
        raise LocalProtocolError(f"transfer syntax {transfer_syntax} is not implemented")
    header = _EXPLICIT_BE if big_endian else _EXPLICIT_LE
    length = _LENGTH_BE if big_endian else _LENGTH_LE
    if vr in _LONG_VRS:
        return header.pack(group, number, vr.encode(), 0) + length.pack(len(content)) + content
    return header.pack(group, number, vr.encode(), len(content)) + content


def _encode_items(items: Iterable[DataSet], transfer_syntax: str) -> bytes:
    item_header = _IMPLICIT_BE if transfer_syntax == EXPLICIT_BE else _IMPLICIT_LE
    parts = []
    for item in items:
        content = encode_data_set(item, transfer_syntax)
        parts += [item_header.pack(ITEM >> 16, ITEM & 0xFFFF, len(content)), content]
    return b"".join(parts)


def _swap(value: bytes, size: int) -> bytes:
    """Reverse the bytes of each word; a value that is no whole number of words is left as it is."""
    if len(value) % size:
        return value
    swapped = bytearray(value)
    for place in range(size):
        swapped[place::size] = value[size - 1 - place :: size]
    return bytes(swapped)
