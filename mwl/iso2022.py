"""Code extensions by escape sequences, ISO 2022 as PS3.3 Tables C.12-3 and C.12-4 and PS3.5 6.1.2.5 use it.

A value starts in the first set of Specific Character Set, and returns to it at each delimiter.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import msgspec

__all__ = ["EXTENSIONS", "Extension", "decode_extended", "encode_extended"]


class Extension(msgspec.Struct, frozen=True, gc=False):
    """A set that an escape sequence switches to; one in G0 takes the place of ASCII until ASCII is called back."""

    escape: bytes
    codec: str
    in_g0: bool = False


EXTENSIONS: Final = {
    6: Extension(b"\x1b(B", "ascii", in_g0=True),
    13: Extension(b"\x1b)I", "shift_jis"),
    14: Extension(b"\x1b(J", "shift_jis", in_g0=True),
    58: Extension(b"\x1b$)A", "gb2312"),
    87: Extension(b"\x1b$B", "iso2022_jp", in_g0=True),
    159: Extension(b"\x1b$(D", "iso2022_jp_1", in_g0=True),
    100: Extension(b"\x1b-A", "latin_1"),
    101: Extension(b"\x1b-B", "iso8859_2"),
    109: Extension(b"\x1b-C", "iso8859_3"),
    110: Extension(b"\x1b-D", "iso8859_4"),
    126: Extension(b"\x1b-F", "iso8859_7"),
    127: Extension(b"\x1b-G", "iso8859_6"),
    138: Extension(b"\x1b-H", "iso8859_8"),
    144: Extension(b"\x1b-L", "iso8859_5"),
    148: Extension(b"\x1b-M", "iso8859_9"),
    149: Extension(b"\x1b$)C", "euc_kr"),
    166: Extension(b"\x1b-T", "tis_620"),
    203: Extension(b"\x1b-b", "iso8859_15"),
}
_ASCII: Final = EXTENSIONS[6]
_OF_ESCAPE: Final = {extension.escape: extension for extension in EXTENSIONS.values()}
_ESCAPE: Final = re.compile(rb"\x1b(?:\$[()]?.|[()-].)", re.DOTALL)
_DELIMITERS: Final = "\\^=\r\n\t\f"
_DELIMITER: Final = re.compile(rb"[\\^=\r\n\t\f]")


def decode_extended(raw: bytes, first: Extension) -> str:
    """Decode a value; bytes that are in no set come back as replacement characters."""
    parts: list[str] = []
    place, current = 0, first
    for found in [*_ESCAPE.finditer(raw), None]:
        end = found.start() if found else len(raw)
        parts.append(_decode_part(raw[place:end], current, first))
        if found is not None:
            place, current = found.end(), _OF_ESCAPE.get(found[0], first)
    return "".join(parts)


def _decode_part(raw: bytes, current: Extension, first: Extension) -> str:
    if current.codec.startswith("iso2022"):  # two bytes a character: none of them is a delimiter
        return (current.escape + raw).decode(current.codec, errors="replace")
    if current is first or current is _ASCII:
        return raw.decode(first.codec, errors="replace")
    delimiter = _DELIMITER.search(raw)
    end = delimiter.start() if delimiter else len(raw)
    # Behind a delimiter the first set is back; Korean devices often forget to leave it again.
    rest = current if first is _ASCII and not raw[end:].isascii() else first
    return raw[:end].decode(current.codec, errors="replace") + raw[end:].decode(rest.codec, errors="replace")


def encode_extended(text: str, sets: Sequence[Extension]) -> bytes:
    """Encode text, in the first set as far as that goes, in which each component and the value also end.

    Raises:
        UnicodeEncodeError: a character is in none of the sets.
    """
    first = current = sets[0]
    parts: list[bytes] = []
    for character in text:
        if character.isascii():
            if current.in_g0 and current is not first:
                parts.append(_call_back(first))
                current = first
            if character in _DELIMITERS:
                current = first
            parts.append(character.encode("ascii"))
            continue
        wanted, encoded = _encode_character(character, sets)
        if wanted is not current:
            if current.in_g0 and current is not first and not wanted.in_g0:
                parts.append(_call_back(first))
                current = first
            if wanted is not current:
                parts.append(wanted.escape)
            current = wanted
        parts.append(encoded)
    if current.in_g0 and current is not first:
        parts.append(_call_back(first))
    return b"".join(parts)


def _encode_character(character: str, sets: Sequence[Extension]) -> tuple[Extension, bytes]:
    for extension in sets:
        try:
            encoded = character.encode(extension.codec)
        except UnicodeEncodeError:
            continue
        if extension.codec.startswith("iso2022"):
            if not encoded.startswith(extension.escape):
                continue
            encoded = encoded[len(extension.escape) : -len(_ASCII.escape)]
        elif extension.codec == "shift_jis" and (len(encoded) > 1 or encoded.isascii()):
            continue  # of Shift JIS, ISO-IR 13 is the characters of one byte; the sign for yen is a backslash there
        return extension, encoded
    raise UnicodeEncodeError("ISO 2022", character, 0, 1, "in none of the sets")


def _call_back(first: Extension) -> bytes:
    """Give the escape sequence that puts the first set's half back into G0."""
    return EXTENSIONS[14].escape if first.codec == "shift_jis" else _ASCII.escape
