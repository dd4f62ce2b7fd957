"""Text as it stands in a message, and what is made of it so that it fits an attribute."""

from __future__ import annotations

import unicodedata

import msgspec

from .message import NULL, Message

__all__ = ["Raw", "Unusable", "ValueFault", "first_part", "one_line", "plain_text"]


class ValueFault(ValueError):
    """A value cannot be used; says why without saying the value."""


class Unusable(ValueFault):
    """A value cannot be used, and is left out: no order is lost for a weight that is no number."""


class Raw(msgspec.Struct, gc=False):
    """What a rule found: the texts of one or more occurrences, and what separates their parts."""

    texts: list[str]
    repetition: str  # empty within a component
    part: str
    first: int = 0  # which parts are meant, when a rule names a range of components
    last: int = 0
    note: str = ""  # what was done with the value to make it fit

    def parts(self, message: Message, text: str) -> list[str]:
        """Split a text into its parts, as plain text; null is empty."""
        found = self.split(text)
        if self.first:
            found = found[self.first - 1 : self.last]
        return [plain_text(part, message) for part in found]

    def split(self, text: str) -> list[str]:
        """Split a text into its parts, as they were sent."""
        return text.split(self.part) if self.part else [text]

    def repetitions(self) -> list[str]:
        """Give each repetition of each occurrence."""
        if not self.repetition:
            return self.texts
        return [one for text in self.texts for one in text.split(self.repetition)]

    def cut(self, text: str, longest: int) -> str:
        """Cut a text to what its attribute can hold, and take note of it."""
        if len(text) <= longest:
            return text
        self.note = f"is cut to {longest} of {len(text)} characters"
        return text[:longest].rstrip()


def plain_text(text: str, message: Message) -> str:
    """Give the plain text of what stands between two separators; null is empty."""
    return "" if text == NULL else message.unescape(text).strip()


def one_line(text: str) -> str:
    """Make a text fit for a VR of one line, PS3.5 6.2: no control characters, and no separator of values."""
    if text.isprintable() and "\\" not in text:
        return text  # as nearly always
    return "".join([_replacement(character) for character in text]).strip()


def _replacement(character: str) -> str:
    if character == "\\":
        return "/"
    if character.isprintable():
        return character
    return "" if unicodedata.category(character) == "Cf" else " "  # marks of direction, and other spaces


def first_part(raw: Raw, message: Message) -> str:
    """Give the first part of the first repetition that has one."""
    if raw.first <= 1 and raw.texts[0].isalnum():
        return raw.texts[0]  # nothing to split, as in most fields
    for text in raw.repetitions():
        if part := raw.parts(message, text)[:1]:
            return part[0]
    return ""
