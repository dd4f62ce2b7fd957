"""Specific Character Set, PS3.3 C.12.1.1.2 and PS3.5 6.1: text of requests to Unicode, Unicode to responses.

Code extensions are in `iso2022`; everything else is one of Python's codecs.
"""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from typing import Final

import msgspec

from .iso2022 import EXTENSIONS, decode_extended, encode_extended

__all__ = [
    "LATIN_1",
    "CharacterSet",
    "Lost",
    "can_encode",
    "character_set",
    "decode_text",
    "encode_text",
    "is_known_character_set",
    "strip_accents",
]

logger = logging.getLogger("mwl")

# Registration number -> codec, PS3.3 Tables C.12-2 to C.12-4.
# fmt: off
_SINGLE_BYTE: Final = {
    6: "ascii", 13: "shift_jis", 100: "latin_1", 101: "iso8859_2", 109: "iso8859_3", 110: "iso8859_4",
    126: "iso8859_7", 127: "iso8859_6", 138: "iso8859_8", 144: "iso8859_5", 148: "iso8859_9", 166: "tis_620",
    203: "iso8859_15",
}
# fmt: on
# Sets of two bytes, to which only an escape sequence leads, PS3.3 Table C.12-4: alone, they stand for ASCII and it.
_NEVER_FIRST: Final = frozenset({58, 87, 149, 159})
_STAND_ALONE: Final = {"ISO_IR 192": "utf_8", "GB18030": "gb18030", "GBK": "gbk"}

# How devices and people write the terms.
_TERM: Final = re.compile(r"ISO[ _-]*(2022)?[ _-]*IR[ _-]*([0-9]+)")
_ALIASES: Final = {
    **dict.fromkeys(("UTF-8", "UTF8", "UNICODE", "UNICODE UTF-8"), "ISO_IR 192"),
    **dict.fromkeys(("GB18030", "GB 18030", "GB18030-2000", "GB 18030-2000"), "GB18030"),
    **dict.fromkeys(("GBK", "ISO 2022 GBK", "ISO_IR GBK"), "GBK"),
    "ISO 2022 58": "ISO 2022 IR 58",
}


class CharacterSet(msgspec.Struct, frozen=True, gc=False):
    """One value of Specific Character Set: its terms as the standard spells them, and their codecs.

    `extensions` are the registration numbers of the sets if there are code extensions, PS3.3 Table C.12-3.
    """

    terms: tuple[str, ...]
    codecs: tuple[str, ...]
    extensions: tuple[int, ...] = ()

    @property
    def value(self) -> str:
        """The value for (0008,0005)."""
        return "\\".join(self.terms)


def _spell(term: str) -> str:
    """Spell a term as the standard does; an unknown one comes back as it is."""
    text = term.strip(" \0").upper()
    if text in _ALIASES:
        return _ALIASES[text]
    found = _TERM.fullmatch(text)
    if not found:
        return text
    number = int(found[2])
    if number == 192:
        return "ISO_IR 192"
    return f"ISO 2022 IR {number}" if found[1] or number not in _SINGLE_BYTE else f"ISO_IR {number}"


@lru_cache(maxsize=256)
def character_set(value: str) -> CharacterSet:
    """Decode the value of (0008,0005), misspelt terms included.

    Raises:
        ValueError: a term is unknown.
    """
    terms = [_spell(term) for term in value.split("\\")]
    alone = next((term for term in terms if term in _STAND_ALONE), None)
    if alone:  # some devices add it behind another one, where it has no meaning
        return CharacterSet((alone,), (_STAND_ALONE[alone],))
    numbers = [int(term.rsplit(" ", 1)[1]) if _TERM.fullmatch(term) else 0 if term else 6 for term in terms]
    if len(terms) == 1 and not terms[0].startswith("ISO 2022"):
        if numbers[0] not in _SINGLE_BYTE:
            raise ValueError(f"{value!r} is no Specific Character Set")
        return CharacterSet((terms[0] or "ISO_IR 6",), (_SINGLE_BYTE[numbers[0]],))
    if not all(number in EXTENSIONS for number in numbers):
        raise ValueError(f"{value!r} is no Specific Character Set")
    if numbers[0] in _NEVER_FIRST:
        numbers.insert(0, 6)
    extended = tuple(f"ISO 2022 IR {number}" for number in numbers)
    return CharacterSet(extended, tuple(EXTENSIONS[number].codec for number in numbers), tuple(numbers))


def is_known_character_set(value: str) -> bool:
    """Tell whether text can be decoded from, and encoded in, this value of Specific Character Set."""
    try:
        character_set(value)
    except ValueError:
        return False
    return True


LATIN_1: Final = character_set("ISO_IR 100")
_UTF_8: Final = character_set("ISO_IR 192")


# --- decode -------------------------------------------------------------------------------------------------------


def decode_text(raw: bytes, declared: CharacterSet | None, default: CharacterSet = LATIN_1) -> tuple[str, ...]:
    """Decode a value of a request: its reading, or where the device's word is doubtful both readings.

    UTF-8 is recognised where nothing but ASCII was declared, and as a second reading where Latin-1 was: many
    devices declare one and send the other.
    """
    if raw.isascii() and b"\x1b" not in raw:
        return (raw.decode("ascii"),)
    try:
        utf_8 = raw.decode("utf_8")
    except UnicodeDecodeError:
        utf_8 = ""
    escaped = b"\x1b" in raw
    plain = "" if escaped else utf_8
    if declared is None:
        return (plain or _decode(raw, default),)
    if declared.codecs in (("ascii",), ("utf_8",)) or (declared.codecs[0] == "ascii" and not escaped):
        return (plain or _decode(raw, _beyond_ascii(declared)),)
    text = _decode(raw, declared)
    return (text, utf_8) if declared == LATIN_1 and utf_8 else (text,)


def _beyond_ascii(declared: CharacterSet) -> CharacterSet:
    """Find the set that a device means which declares ASCII, or leaves out the escape sequence to the second set."""
    if not declared.extensions:
        return LATIN_1
    in_g1 = [EXTENSIONS[number].codec for number in declared.extensions[1:2] if not EXTENSIONS[number].in_g0]
    return CharacterSet((), tuple(in_g1)) if in_g1 else declared


def _decode(raw: bytes, declared: CharacterSet) -> str:
    if declared.extensions:
        return decode_extended(raw, EXTENSIONS[declared.extensions[0]])
    return raw.decode(declared.codecs[0], errors="replace")


# --- encode -------------------------------------------------------------------------------------------------------


class Lost:
    """How many characters had to become `?` since the start; an answer that is kept counts once."""

    characters = 0


def encode_text(text: str, target: CharacterSet, *, transliterate: bool = True) -> bytes:
    """Encode text; a character outside the set is transliterated if it can be, and otherwise becomes `?`."""
    encode = _encoder(target)
    try:
        return encode(text)
    except UnicodeEncodeError:
        written = _write(text, encode, transliterate)
        Lost.characters += written.count(None)
        encoded = encode("".join(["?" if one is None else one for one in written]))
        if "".join(filter(None, written)) != unicodedata.normalize("NFC", text):
            _tell(target)
        return encoded


def can_encode(text: str, target: CharacterSet, *, transliterate: bool = True) -> bool:
    """Tell whether text can be encoded without a single `?`."""
    encode = _encoder(target)
    try:
        encode(text)
    except UnicodeEncodeError:
        return None not in _write(text, encode, transliterate)
    return True


@lru_cache(maxsize=256)
def _tell(target: CharacterSet) -> None:
    """Log, once for each set, that it does not do for this worklist."""
    logger.info(
        "some text has characters that %s does not have: they are answered in Latin letters or as `?`;"
        " character_set of [[ae]] or [[remote]] chooses another set",
        target.value,
    )


# The sign for micro.  Unicode has two; one is a Greek letter as well, which is written `m` as is milli.
_MICRO: Final = re.compile("(?<![\u0370-\u03ff\u1f00-\u1fff])[µμ](?![\u0370-\u03ff\u1f00-\u1fff])")


_DELIMITERS: Final = "\\^="


def _write(text: str, encode: Callable[[str], bytes], transliterate: bool) -> list[str | None]:
    """Write text with what a set has, character by character; None where there is no way."""

    def has(text: str) -> bool:
        try:
            encode(text)
        except UnicodeEncodeError:
            return False
        return True

    text = unicodedata.normalize("NFC", text)
    if not transliterate:
        return [one if has(one) else None for one in text]
    text = unicodedata.normalize("NFC", "".join([one if has(one) else _compatible(one) for one in text]))
    text = _MICRO.sub(next(filter(has, "µμu")), text)
    return [one if has(one) else next(filter(has, _latin_forms(one)), None) for one in text]


def _compatible(character: str) -> str:
    """Write half-width Katakana, ligatures and the like with common letters.

    10² must not become 102, and a wide equals sign in a name no delimiter of groups.
    """
    common = unicodedata.normalize("NFKC", character)
    return character if unicodedata.category(character) == "No" or common in _DELIMITERS else common


@lru_cache(maxsize=256)
def _encoder(target: CharacterSet) -> Callable[[str], bytes]:
    if target.extensions:
        sets = [EXTENSIONS[number] for number in target.extensions]
        return lambda text: text.encode("ascii") if text.isascii() else encode_extended(text, sets)
    if target.codecs == ("shift_jis",):
        return _encode_katakana
    codec = target.codecs[0]
    return lambda text: text.encode(codec)


def _encode_katakana(text: str) -> bytes:
    """Encode ISO-IR 13 and 14, of which Shift JIS is a superset: its characters of two bytes are none of them."""
    encoded = text.encode("shift_jis")
    if len(encoded) != len(text) or encoded.count(b"\\") != text.count("\\"):  # which the sign for yen would be
        raise UnicodeEncodeError("ISO_IR 13", text, 0, len(text), "more than half-width Katakana")
    return encoded


# Latin letters that have no accent to lose, signs, and Cyrillic and Greek as passports write them (ICAO Doc 9303,
# ISO 843).
_LATIN: Final = """
    ß=ss æ=ae Æ=AE ð=d Ð=D þ=th Þ=Th œ=oe Œ=OE ı=i ŋ=ng ĸ=k
    ‘=' ’=' ‚=' “=" ”=" „=" ‐=- ‑=- −=- –=- —=- …=... €=EUR ·=.
    а=a б=b в=v г=g д=d е=e з=z и=i й=i к=k л=l м=m н=n о=o п=p р=r с=s т=t у=u ф=f х=kh ц=ts ж=zh ч=ch ш=sh
    щ=shch ъ=ie ы=y ь= э=e ю=iu я=ia ё=e і=i ї=i є=ie ґ=g
    α=a β=v γ=g δ=d ε=e ζ=z η=i θ=th ι=i κ=k λ=l μ=m ν=n ξ=x ο=o π=p ρ=r σ=s ς=s τ=t υ=y φ=f χ=ch ψ=ps ω=o
    """
_LATIN_OF: Final = dict(pair.split("=") for pair in _LATIN.split())


def _latin_forms(character: str) -> list[str]:
    """Say how a character may be written in Latin letters, the best way first."""
    lower = character.lower()
    latin = _LATIN_OF.get(character) or _LATIN_OF.get(lower)
    if latin is not None and character != lower and lower in _LATIN_OF:
        latin = _LATIN_OF.get(character, latin.capitalize())
    forms = [latin]
    if character.isalpha():  # the stroke of ≠ is no accent
        forms += [strip_accents(character), _LATIN_OF.get(strip_accents(lower))]
    return [form for form in forms if form is not None]


_STROKES: Final = str.maketrans("øØłŁđĐħĦŧŦ", "oOlLdDhHtT")


def strip_accents(text: str) -> str:
    """Write letters without accents and strokes; signs that make a syllable of another script are left in place."""
    if text.isascii():
        return text
    parts = unicodedata.normalize("NFD", text).translate(_STROKES)
    return unicodedata.normalize("NFC", "".join([part for part in parts if not "\u0300" <= part <= "\u036f"]))
