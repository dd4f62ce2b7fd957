"""Character sets of HL7 v2, table 0211, and what to do about messages that declare the wrong one, Q-82."""

from __future__ import annotations

import codecs
import re
from functools import lru_cache
from typing import Final

__all__ = ["codec_of", "decode_bytes"]

_CODECS: Final = {
    **{f"8859/{part}": f"iso8859_{part}" for part in (1, 2, 3, 4, 5, 6, 7, 8, 9, 15)},
    **dict.fromkeys(("ISO IR6", "ASCII", "ISO IR14", "ISO IR13"), "shift_jis"),  # of which these are the halves
    **dict.fromkeys(("ISO IR87", "ISO IR159"), "iso2022_jp_2"),
    "KS X 1001": "euc_kr",
    **dict.fromkeys(("UNICODE", "UNICODE UTF-8", "UTF-8"), "utf_8"),
    "GB 18030-2000": "gb18030",
    "BIG-5": "big5",
}
_CODECS["ASCII"] = _CODECS["ISO IR6"] = "ascii"
# Declarations that are not taken at their word.
_DOUBTFUL: Final = frozenset((None, "ascii", "utf_8", *(codec for codec in _CODECS.values() if "8859" in codec)))
_C1: Final = re.compile(rb"[\x80-\x9f]")
# Python has codecs for other things too, and some that are no supersets of ASCII.
_OF_TEXT: Final = re.compile("ascii|big5|cp[0-9]|euc|gb|iso8859|koi8|shift_jis|tis|utf-8")
_ESCAPE: Final = b"\x1b"
_SEPARATORS: Final = re.compile(rb"[\r\n]")


@lru_cache(maxsize=128)
def codec_of(name: str) -> str | None:
    """Name Python's codec for a character set of MSH-18, also as other standards spell it; None if it is unknown."""
    name = name.strip().upper()
    if name in _CODECS:
        return _CODECS[name]
    try:
        found = codecs.lookup(name.replace(" ", "-")).name
    except (LookupError, ValueError):
        return None
    return found.replace("-", "_") if _OF_TEXT.match(found) else None


def decode_bytes(raw: bytes, declared: str, default_set: str, forced_set: str = "") -> tuple[str, str, list[str]]:
    """Decode a message; returns its text, the codec, and what was wrong with the declaration.

    Bytes tell more than MSH-18 does: valid UTF-8 beyond ASCII is UTF-8, whatever single byte set is declared, since
    in any of these it would be gibberish.
    """
    codec, notes = _declared(declared)
    if raw.isascii() and _ESCAPE not in raw:
        return raw.decode("ascii"), codec or "ascii", []
    if forced_set:
        codec = codec_of(forced_set) or "latin_1"
        return raw.decode(codec, "replace"), codec, []
    if _ESCAPE in raw:
        return _decode_extensions(raw), "iso2022_jp_2", list(notes)
    if codec in _DOUBTFUL:
        utf_8 = _decode_strictly(raw, "utf_8")
        if utf_8 is not None:
            wrong = (f"MSH-18 says {declared}, the bytes are UTF-8",) if codec not in (None, "utf_8") else ()
            return utf_8, "utf_8", [*notes, *wrong]
        if codec in (None, "ascii", "utf_8"):
            notes = (*notes, f"MSH-18 says {declared}, the bytes are not; taken as {default_set}") if codec else notes
            codec = codec_of(default_set) or "iso8859_1"
    assert codec is not None  # None is doubtful
    text = _decode_strictly(raw, codec)
    if text is None:
        return raw.decode(codec, "replace"), codec, [*notes, f"some bytes are not of {codec}"]
    if codec == "iso8859_1" and _C1.search(raw):
        return raw.decode("cp1252", "replace"), "cp1252", [*notes, "the bytes are Windows-1252 rather than 8859/1"]
    return text, codec, list(notes)


@lru_cache(maxsize=128)
def _declared(declared: str) -> tuple[str | None, tuple[str, ...]]:
    """Read MSH-18: the codec of its first repetition, the default set, and a note for each set that is unknown."""
    names = [name.strip() for name in declared.split("~")]
    notes = tuple(f"MSH-18 has an unknown character set {name!r}" for name in names if name and not codec_of(name))
    return (codec_of(names[0]) if names[0] else None), notes


def _decode_strictly(raw: bytes, codec: str) -> str | None:
    try:
        return raw.decode(codec)
    except UnicodeDecodeError:
        return None


def _decode_extensions(raw: bytes) -> str:
    """Decode code extensions of ISO 2022; each segment starts in the default set anew."""
    return "\r".join(_decode_extended_line(line) for line in _SEPARATORS.split(raw.replace(b"\r\n", b"\r")))


def _decode_extended_line(line: bytes) -> str:
    if _ESCAPE not in line:
        return _decode_strictly(line, "utf_8") or line.decode("latin_1")
    # KS X 1001 is announced once and then stands in the upper half, without shifts.
    if b"\x1b$)C" in line:
        return line.replace(b"\x1b$)C", b"").decode("euc_kr", "replace")
    text = _decode_strictly(line, "iso2022_jp_ext")
    return line.decode("iso2022_jp_2", "replace") if text is None else text
