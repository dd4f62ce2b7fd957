"""HL7 v2 messages, chapter 2: read lazily, with any separators and in any character set, and acknowledged.

Text stays as it was sent, with its separators and escapes, until somebody asks for a field: most fields are never
looked at.  Only then `Message.unescape` makes plain text of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from itertools import pairwise
from typing import Final

import msgspec

from .charset import codec_of, decode_bytes

__all__ = [
    "ERROR_TEXTS",
    "NULL",
    "Answer",
    "Delimiters",
    "Header",
    "Hl7Fault",
    "Location",
    "Message",
    "MessageError",
    "Segment",
    "decode_header",
    "decode_message",
    "encode_ack",
    "split_messages",
]

NULL: Final = '""'
"""The HL7 null: delete what is stored.  An empty field says nothing about it, 2.5.3."""

ERROR_TEXTS: Final = {
    100: "Segment sequence error",
    101: "Required field missing",
    102: "Data type error",
    103: "Table value not found",
    200: "Unsupported message type",
    201: "Unsupported event code",
    202: "Unsupported processing id",
    203: "Unsupported version id",
    204: "Unknown key identifier",
    205: "Duplicate key identifier",
    206: "Application record locked",
    207: "Application internal error",
}
"""HL7 table 0357, message error condition codes."""


class Location(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A place in a message: which segment of its name, its field, and what is below; all from 1, 0 = whole."""

    segment: str
    sequence: int = 1
    field: int = 0
    repetition: int = 0
    component: int = 0
    subcomponent: int = 0

    def __str__(self) -> str:
        text = self.segment if self.sequence == 1 else f"{self.segment}[{self.sequence}]"
        text += f"-{self.field}" if self.field else ""
        text += f"~{self.repetition}" if self.repetition > 1 else ""
        text += f".{self.component}" if self.component else ""
        return text + (f".{self.subcomponent}" if self.subcomponent else "")


class Hl7Fault(msgspec.Struct, frozen=True, gc=False):
    """What is wrong with a message, by HL7 table 0357, where, and what to mend; the text holds no patient data."""

    code: int
    text: str = ""
    location: Location | None = None

    @property
    def brief(self) -> str:
        """What is wrong where, without the code."""
        return f"{self.location}: {self.text}" if self.location else self.text

    def __str__(self) -> str:
        place = f" at {self.location}" if self.location else ""
        return f"{self.code} {ERROR_TEXTS[self.code]}{place}" + (f": {self.text}" if self.text else "")


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What goes back to the sender: AA stored, AE at fault, AR not acceptable; HL7 table 0008.

    With AA there may be warnings: what could not be taken as it was sent.
    """

    code: str
    faults: tuple[Hl7Fault, ...] = ()
    warnings: tuple[Hl7Fault, ...] = ()


class Delimiters(msgspec.Struct, frozen=True, gc=False):
    """MSH-1 and the characters of MSH-2."""

    field: str = "|"
    component: str = "^"
    repetition: str = "~"
    escape: str = "\\"
    subcomponent: str = "&"


class Header(msgspec.Struct, frozen=True, gc=False):
    """The fields of MSH that decide what is done with a message, and where its answer goes."""

    application: str
    facility: str
    receiving_application: str
    receiving_facility: str
    code: str
    event: str
    control_id: str
    processing_id: str
    version: str
    time: str
    character_sets: str

    @property
    def type(self) -> str:
        """Message code and trigger event: `ORM_O01`."""
        return f"{self.code}_{self.event}" if self.event else self.code

    @property
    def sender(self) -> str:
        """Sending application and facility, the first components of MSH-3 and MSH-4."""
        return f"{self.application}|{self.facility}"


class MessageError(ValueError):
    """A message cannot be read.  With a header it can still be refused, without one it can only be dropped."""

    def __init__(self, fault: Hl7Fault, header: Header | None = None, delimiters: Delimiters | None = None) -> None:
        super().__init__(str(fault))
        self.fault, self.header, self.delimiters = fault, header, delimiters or Delimiters()


class Segment:
    """One segment; its fields are told apart when the first of them is asked for."""

    __slots__ = ("_fields", "_separator", "name", "sequence", "text")

    def __init__(self, name: str, text: str, separator: str, sequence: int) -> None:
        self.name, self.text, self.sequence = name, text, sequence
        self._separator = separator
        self._fields: list[str] | None = None

    @property
    def fields(self) -> list[str]:
        """The fields as sent; number 0 is the name of the segment, so that the numbers are those of the standard."""
        if self._fields is None:
            self._fields = self.text.split(self._separator)
            if self.name == "MSH":
                self._fields.insert(1, self._separator)
        return self._fields

    def field(self, number: int) -> str:
        """Give a field as sent, empty if there is none."""
        fields = self.fields
        return fields[number] if number < len(fields) else ""


class Message:
    """A message in memory: header, segments in order, and what was odd about its bytes."""

    __slots__ = ("codec", "delimiters", "header", "notes", "segments")

    def __init__(
        self, header: Header, delimiters: Delimiters, segments: list[Segment], codec: str, notes: list[str]
    ) -> None:
        self.header, self.delimiters, self.segments = header, delimiters, segments
        self.codec, self.notes = codec, notes

    def first(self, name: str) -> Segment | None:
        """Give the first segment of a name."""
        return next((segment for segment in self.segments if segment.name == name), None)

    def unescape(self, text: str) -> str:
        """Make plain text of what stands between two separators, 2.7."""
        if self.delimiters.escape not in text:
            return text
        pattern, replace = _unescaper(self.delimiters, self.codec)
        return pattern.sub(replace, text)


# --- decode -------------------------------------------------------------------------------------------------------


def decode_message(raw: bytes, default_set: str = "8859/1", forced_set: str = "") -> Message:
    """Read a message; bytes before `MSH` are skipped, and LF or CR LF end a segment as well as CR, Q-81.

    `default_set` decodes what declares no character set, `forced_set` whatever is declared (Q-82).

    Raises:
        MessageError: there is no MSH segment, or one that cannot be read.
    """
    start, header, delimiters = decode_header(raw)
    text, codec, notes = decode_bytes(raw[start:] if start else raw, header.character_sets, default_set, forced_set)
    segments = _segments(text, delimiters.field)
    if not text.isascii() and not segments[0].text.isascii():
        header = _header(segments[0].text, delimiters)
    if not header.event:
        event = next((segment.field(1) for segment in segments if segment.name == "EVN"), "")  # before version 2.3
        header = msgspec.structs.replace(header, event=event)
    return Message(header, delimiters, segments, codec, notes)


def decode_header(raw: bytes) -> tuple[int, Header, Delimiters]:
    """Find MSH in a frame and read it; returns its offset too.

    Raises:
        MessageError: it is not there, or its separators cannot be told apart.
    """
    start = raw.find(b"MSH")
    if start < 0 or len(raw) < start + 8:
        raise MessageError(Hl7Fault(100, "there is no MSH segment"))
    stop = raw.find(b"\r", start, start + _LONGEST_HEADER)
    # Latin-1 stands for any set: what is compared is ASCII, and separators are single bytes.
    line = raw[start : stop if stop > 0 else start + _LONGEST_HEADER].decode("latin_1").partition("\n")[0]
    delimiters, valid = _delimiters(line[:8])
    header = _header(line, delimiters)
    if not valid:
        fault = Hl7Fault(102, "the separators are not five different characters", Location("MSH", 1, 2))
        readable = not delimiters.field.isalnum() and header.control_id
        raise MessageError(fault, header if readable else None)
    return start, header, delimiters


_LONGEST_HEADER: Final = 4096


@lru_cache(maxsize=64)
def _delimiters(beginning: str) -> tuple[Delimiters, bool]:
    """Read MSH-1 and MSH-2, and tell whether they can be used; what is missing has its usual character."""
    field = beginning[3:4] or "|"
    found = beginning[4:].split(field, 1)[0]
    characters = (field, *(found + "^~\\&"[len(found) :]))
    usable = all(one.isprintable() and not one.isalnum() and not one.isspace() for one in characters)
    return Delimiters(*characters), usable and len(set(characters)) == 5


def _header(line: str, delimiters: Delimiters) -> Header:
    fields = line.split(delimiters.field, 18)
    if len(fields) < 18:
        fields += [""] * (18 - len(fields))
    component = delimiters.component
    code, _, rest = fields[8].partition(component)
    return Header(
        fields[2].partition(component)[0].strip(),
        fields[3].partition(component)[0].strip(),
        fields[4],
        fields[5],
        code.strip().upper(),
        rest.partition(component)[0].strip().upper(),
        fields[9].strip(),
        fields[10].partition(component)[0].strip().upper(),
        fields[11].partition(component)[0].strip(),
        fields[6],
        fields[17],
    )


def _segments(text: str, separator: str) -> list[Segment]:
    lines = text.replace("\n", "\r").split("\r") if "\n" in text else text.split("\r")
    found: list[Segment] = []
    count: dict[str, int] = {}
    for line in lines:
        name = line[:3]
        if (line[3:4] == separator or len(line) == 3) and name.isalnum():
            sequence = count[name] = count.get(name, 0) + 1
            found.append(Segment(name, line, separator, sequence))
        elif line.strip() and found:
            # A line that is no segment is the rest of a text with line breaks that nobody escaped.
            found[-1] = Segment(found[-1].name, f"{found[-1].text}\n{line}", separator, found[-1].sequence)
    return found


def split_messages(raw: bytes) -> list[bytes]:
    """Cut a file into messages, which may be framed, or in the envelope of a batch, 2.10.3."""
    starts = [found.start() for found in re.finditer(rb"(?:(?<=[\r\n\x0b\x1c])|\A)(?:\xef\xbb\xbf)?MSH", raw)]
    pieces = [raw[start:stop] for start, stop in pairwise([*starts, len(raw)])]
    return [re.split(rb"\x1c|[\r\n](?:BTS|FTS|BHS|FHS)\b", piece)[0].strip(b"\x0b\r\n") + b"\r" for piece in pieces]


_BREAK: Final = re.compile(r"\.(?:br|sp *\+?([0-9]{0,2})|in.*|ti.*)")


@lru_cache(maxsize=64)
def _unescaper(delimiters: Delimiters, codec: str) -> tuple[re.Pattern[str], Callable[[re.Match[str]], str]]:
    escape = re.escape(delimiters.escape)
    plain = {
        "F": delimiters.field,
        "S": delimiters.component,
        "T": delimiters.subcomponent,
        "R": delimiters.repetition,
        "E": delimiters.escape,
    }

    def replace(found: re.Match[str]) -> str:
        content = found[1]
        if content in plain:
            return plain[content]
        if content.startswith("X"):
            try:
                return bytes.fromhex(content[1:]).decode(codec, errors="replace")
            except ValueError:
                return ""
        if line_break := _BREAK.match(content):
            return "\n" * int(line_break[1] or 1)
        return ""  # highlighting, local escapes, and what nobody knows

    return re.compile(rf"{escape}([A-Z.][^{escape}\n]{{0,64}}){escape}"), replace


# --- encode -------------------------------------------------------------------------------------------------------


def encode_ack(
    header: Header, answer: Answer, now: datetime, control_id: str, delimiters: Delimiters | None = None
) -> bytes:
    """Make the acknowledgement of a message, 2.9.2, in its own version and with its own separators.

    ERR has its fields since 2.5, and may be a warning; before, ERR-1 holds segment, sequence, field and the code as
    one, and a warning is told by MSA-3 only.
    """
    delimiters = delimiters or Delimiters()
    field, component = delimiters.field, delimiters.component
    recent = _version(header.version) >= (2, 5)
    characters = delimiters.component + delimiters.repetition + delimiters.escape + delimiters.subcomponent
    kind = component.join(("ACK", header.event, "ACK")) if recent and header.event else "ACK"
    msh = ["MSH", characters, header.receiving_application, header.receiving_facility, header.application]
    msh += [header.facility, now.strftime("%Y%m%d%H%M%S"), "", kind, control_id, header.processing_id or "P"]
    msh += [header.version or "2.3.1"]
    text = next(iter([*map(str, answer.faults), *(warning.brief for warning in answer.warnings)]), "")
    msa = ["MSA", answer.code, header.control_id, _escape(text[:80], delimiters)]
    lines = [field.join(msh), field.join(msa).rstrip(field)]
    if recent:
        lines += [field.join(_err(fault, "E", delimiters)).rstrip(field) for fault in answer.faults]
        lines += [field.join(_err(warning, "W", delimiters)).rstrip(field) for warning in answer.warnings]
    elif answer.faults:
        lines.append(f"ERR{field}" + delimiters.repetition.join(_eld(fault, delimiters) for fault in answer.faults))
    ack = "".join(f"{line}\r" for line in lines)
    if ack.isascii():
        return ack.encode("ascii")
    codec = codec_of(header.character_sets.split(delimiters.repetition)[0])
    declared = field * 6 + header.character_sets if codec else ""  # MSH-18
    return ack.replace("\r", f"{declared}\r", 1).encode(codec or "utf_8", "replace")


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdecimal())


def _err(fault: Hl7Fault, severity: str, delimiters: Delimiters) -> list[str]:
    code = (str(fault.code), ERROR_TEXTS[fault.code], "HL70357")
    return [
        "ERR",
        "",
        _erl(fault.location, delimiters.component) if fault.location else "",
        delimiters.component.join(code),
        severity,
        "",
        "",
        "",
        _escape(fault.text, delimiters),
    ]


def _erl(location: Location, component: str) -> str:
    numbers = (location.sequence, location.field, location.repetition or 1, location.component, location.subcomponent)
    last = max((at for at, number in enumerate(numbers) if number and at != 2), default=0)
    return component.join([location.segment, *(str(number) for number in numbers[: last + 1])])


def _eld(fault: Hl7Fault, delimiters: Delimiters) -> str:
    place = fault.location or Location("", 0)
    text = ERROR_TEXTS[fault.code] + (f": {fault.text}" if fault.text else "")
    code = delimiters.subcomponent.join((str(fault.code), _escape(text, delimiters), "HL70357"))
    parts = (place.segment, str(place.sequence or ""), str(place.field or ""), code)
    return delimiters.component.join(parts)


def _escape(text: str, delimiters: Delimiters) -> str:
    letters = {delimiters.field: "F", delimiters.component: "S", delimiters.subcomponent: "T"}
    letters |= {delimiters.repetition: "R", delimiters.escape: "E"}
    escaped = (f"{delimiters.escape}{letters[one]}{delimiters.escape}" if one in letters else one for one in text)
    return "".join(escaped).replace("\r", " ").replace("\n", " ")
