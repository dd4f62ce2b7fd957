"""Text as matching compares it: padding, wild cards, and the folding of person names, PS3.4 C.2.2.2."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Final

import msgspec

from .charset import strip_accents

__all__ = [
    "Lookup",
    "NameKey",
    "canonical",
    "compile_name",
    "compile_text",
    "fold_group",
    "has_wildcard",
    "is_everything",
]
__all__ += ["name_groups", "text_lookup", "trim"]

# VRs in which spaces in front count, PS3.5 Table 6.2-1.
_TRAILING_ONLY: Final = frozenset({"LT", "ST", "UC", "UT"})
# VRs whose letters never differ in case only: CS has capitals alone, and AE titles are typed by people.
_FOLDED: Final = frozenset({"AE", "CS"})


def trim(vr: str, text: str) -> str:
    """Take padding off a value, PS3.5 6.2; a NUL inside ends it, and a name of delimiters alone is none."""
    end = text.find("\0")
    if end >= 0:
        text = text[:end]
    if vr == "PN" and not text.strip("^= "):  # a form whose fields were left blank
        return ""
    return text.rstrip(" ") if vr in _TRAILING_ONLY else text.strip(" ")


def canonical(vr: str, text: str) -> str:
    """Write a stored value as the index and a key compare it."""
    return text.upper() if vr in _FOLDED else text


def has_wildcard(text: str) -> bool:
    """Tell whether a key is one for wild card matching."""
    return "*" in text or "?" in text


def is_everything(text: str) -> bool:
    """Tell whether a key is `*` alone, which also finds what has no value, PS3.4 C.2.2.2.4."""
    return bool(text) and not text.strip("*")


class Lookup(msgspec.Struct, frozen=True):
    """What an index is to look at: the value that equals `prefix`, or those that begin with it and are accepted.

    What is accepted has `part` somewhere in it.
    """

    prefix: str
    accepts: Callable[[str], bool] | None = None
    part: str = ""


def text_lookup(text: str) -> Lookup:
    """Say where an index of canonical text has what a key matches."""
    if not has_wildcard(text):
        return Lookup(text)
    return Lookup(re.split(r"[*?]", text, maxsplit=1)[0], compile_text(text), _longest_part(text))


def _longest_part(text: str) -> str:
    """Give the longest piece of a key between wild cards, which every value that matches has."""
    return max(re.split(r"[*?]", text.rstrip("^*")), key=len)


def _pattern(text: str) -> str:
    """Write a key as a regular expression, in which each piece between wild cards is looked for once.

    The first place where a piece fits is as good as any, since what follows has most room then.  Without atomic
    groups a key like `*A*A*A*A*B` would try them all, and nobody else be served for minutes.
    """
    first, *rest = [re.escape(piece).replace(r"\?", ".") for piece in re.split(r"\*+", text)]
    if not rest:
        return first
    return first + "".join([f"(?>.*?{piece})" for piece in rest[:-1]]) + ".*" + rest[-1]


def compile_text(text: str) -> Callable[[str], bool]:
    """Make the test for a key with wild cards."""
    if "?" not in text and text.find("*") == len(text) - 1:
        start = text[:-1]
        return lambda value: value.startswith(start)
    return _compile_pattern(text, _pattern(text))


def _compile_pattern(text: str, pattern: str) -> Callable[[str], bool]:
    """Make a test by a regular expression, which costs five times as much as looking for its longest literal."""
    match = re.compile(pattern, re.DOTALL).fullmatch
    literal = _longest_part(text)
    return lambda value: literal in value and match(value) is not None


# --- person names -------------------------------------------------------------------------------------------------


# Marks of direction and of joining, which are copied along with names and nobody sees.
_INVISIBLE: Final = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]")


def fold_group(group: str, *, accents: bool = True) -> str:
    """Write a component group so that equal names are equal: NFKC, case, spaces and empty components at the end."""
    if group.isascii():
        text = group.lower()
    else:
        text = unicodedata.normalize("NFKC", _INVISIBLE.sub("", group)).casefold()
        text = unicodedata.normalize("NFKC", text)
        text = text.replace("i\u0307", "i").replace("ı", "i")  # Turkish writes i as İ and ı as I
        if not accents:
            text = strip_accents(text)
    if " " in text or not text.isascii():
        text = "^".join([" ".join(part.split()) for part in text.split("^")])
    return text.rstrip("^")


def name_groups(name: str, *, accents: bool = True) -> list[str]:
    """Fold the component groups of a name: alphabetic, ideographic, phonetic."""
    return [fold_group(group, accents=accents) for group in name.split("=")]


class NameKey(msgspec.Struct, frozen=True):
    """One value of a PN key: a test on names, and how an index finds candidates for it."""

    test: Callable[[str], bool]
    lookups: tuple[Lookup, ...]


def compile_name(text: str, *, accents: bool) -> NameKey:
    """Make the test for a PN key.

    Without `=` any group of a name may match; with it, each group of the key that is not empty must match the
    group in its place.
    """
    groups = [_compile_group(group, accents=accents) if group.strip(" ") else None for group in text.split("=")]
    lookups = _lookups(next((group for group in text.split("=") if group.strip(" ")), ""))
    only = groups[0]
    if len(groups) == 1 and only is not None:
        matches = only
        return NameKey(lambda name: any(map(matches, filter(None, name_groups(name, accents=accents)))), lookups)

    def test(name: str) -> bool:
        found = name_groups(name, accents=accents)
        return all(
            key is None or (place < len(found) and found[place] != "" and key(found[place]))
            for place, key in enumerate(groups)
        )

    return NameKey(test, lookups)


def _compile_group(group: str, *, accents: bool) -> Callable[[str], bool]:
    folded = fold_group(group, accents=accents)
    return _compile_folded(folded) if has_wildcard(folded) else folded.__eq__


def _compile_folded(folded: str) -> Callable[[str], bool]:
    body = folded.rstrip("^*")
    end = folded[len(body) :]
    # `A^*` finds `A` alone too: components that a key leaves open may be missing.  `A*^` is `A*`.
    tail = ".*" if end.startswith("*") else r"(\^.*)?" if "*" in end else ""
    return _compile_pattern(body, _pattern(body) + tail)


def _lookups(group: str) -> tuple[Lookup, ...]:
    folded = fold_group(group, accents=False)
    if not has_wildcard(folded):
        return (Lookup(folded),)
    literal = re.split(r"[*?]", folded, maxsplit=1)[0]
    if folded == f"{literal}*" and literal.endswith("^"):  # as most devices ask: `SMITH^*`
        return Lookup(literal.rstrip("^")), Lookup(literal, _compile_folded(folded))
    # A character that is an accent alone is missing in the index, so `?` may stand for none there.
    folded = folded.replace("?", "*")
    return (Lookup(literal.rstrip("^"), _compile_folded(folded), _longest_part(folded)),)
