"""A DICOM client of the test's own, byte by byte from PS3.7 and PS3.8: it shares no code with what is tested."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from struct import pack, unpack_from

VERIFICATION = "1.2.840.10008.1.1"
WORKLIST = "1.2.840.10008.5.1.4.31"
CT_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT_LE = "1.2.840.10008.1.2"
EXPLICIT_LE = "1.2.840.10008.1.2.1"
EXPLICIT_BE = "1.2.840.10008.1.2.2"
JPEG = "1.2.840.10008.1.2.4.50"
ALL_SYNTAXES = (IMPLICIT_LE, EXPLICIT_LE, EXPLICIT_BE)

ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)
NO_DATA_SET = 0x0101

Context = tuple[int, str, Sequence[str]]
CONTEXTS: tuple[Context, ...] = ((1, VERIFICATION, ALL_SYNTAXES), (3, WORKLIST, ALL_SYNTAXES))


def item(kind: int, content: bytes) -> bytes:
    return pack(">BxH", kind, len(content)) + content


def counted(content: bytes) -> bytes:
    return pack(">H", len(content)) + content


def pdu(kind: int, content: bytes) -> bytes:
    return pack(">BxI", kind, len(content)) + content


def maximum_length(size: int) -> bytes:
    return item(0x51, pack(">I", size))


def associate_rq(
    called: str | bytes = "WORKLIST",
    calling: str | bytes = "RAW",
    contexts: Iterable[Context] = CONTEXTS,
    user_items: bytes = maximum_length(16384) + item(0x52, b"1.2.3"),
    version: int = 1,
    application_context: str = "1.2.840.10008.3.1.1.1",
) -> bytes:
    called, calling = (title.encode() if isinstance(title, str) else title for title in (called, calling))
    proposed = [
        item(
            0x20,
            bytes((context_id, 0, 0, 0))
            + item(0x30, abstract.encode())
            + b"".join(item(0x40, syntax.encode()) for syntax in syntaxes),
        )
        for context_id, abstract, syntaxes in contexts
    ]
    return pdu(
        ASSOCIATE_RQ,
        pack(">Hxx16s16s32x", version, called.ljust(16), calling.ljust(16))
        + item(0x10, application_context.encode())
        + b"".join(proposed)
        + item(0x50, user_items),
    )


@dataclass(frozen=True)
class Accepted:
    """What an A-ASSOCIATE-AC says: result and transfer syntax by context id, and the user information sub-items."""

    contexts: dict[int, tuple[int, str]]
    user_items: dict[int, bytes]


@dataclass(frozen=True)
class Rejected:
    """The three codes of an A-ASSOCIATE-RJ."""

    codes: tuple[int, int, int]


def items(content: bytes) -> list[tuple[int, bytes]]:
    found, pos = [], 0
    while pos < len(content):
        kind, length = unpack_from(">BxH", content, pos)
        found.append((kind, content[pos + 4 : pos + 4 + length]))
        pos += 4 + length
    return found


def accepted(content: bytes) -> Accepted:
    found = items(content[68:])
    results = [inner for kind, inner in found if kind == 0x21]
    (user,) = (inner for kind, inner in found if kind == 0x50)
    return Accepted({inner[0]: (inner[2], items(inner[4:])[0][1].decode()) for inner in results}, dict(items(user)))


# --- messages -----------------------------------------------------------------------------------------------------


def element(tag: int, value: bytes) -> bytes:
    """An element in Implicit VR Little Endian."""
    return pack("<HHI", tag >> 16, tag & 0xFFFF, len(value)) + value


def sequence(tag: int, *contents: bytes) -> bytes:
    return element(tag, b"".join(element(0xFFFEE000, content) for content in contents))


def command(fields: dict[int, int | str | bytes]) -> bytes:
    """A command set: a number is US, text is padded with NUL, as UI is."""
    parts = []
    for number, value in sorted(fields.items()):
        if isinstance(value, int):
            value = pack("<H", value)
        elif isinstance(value, str):
            value = value.encode() + b"\0" * (len(value) % 2)
        parts.append(element(number, value))
    return element(0x00000000, pack("<I", sum(map(len, parts)))) + b"".join(parts)


def find_rq(message_id: int = 1, sop_class: str = WORKLIST, data_set_type: int = 0x0102) -> bytes:
    return command({0x0002: sop_class, 0x0100: 0x0020, 0x0110: message_id, 0x0700: 0, 0x0800: data_set_type})


def echo_rq(message_id: int = 1) -> bytes:
    return command({0x0002: VERIFICATION, 0x0100: 0x0030, 0x0110: message_id, 0x0800: NO_DATA_SET})


def cancel_rq(message_id: int) -> bytes:
    return command({0x0100: 0x0FFF, 0x0120: message_id, 0x0800: NO_DATA_SET})


def pdv(context_id: int, control: int, fragment: bytes) -> bytes:
    return pack(">IBB", len(fragment) + 2, context_id, control) + fragment


def message(context_id: int, command_set: bytes, identifier: bytes | None = None) -> bytes:
    """A message in one P-DATA-TF."""
    data = b"" if identifier is None else pdv(context_id, 2, identifier)
    return pdu(P_DATA, pdv(context_id, 3, command_set) + data)


@dataclass(frozen=True)
class Response:
    """One response as it came: where, what its command set says by element number, and its identifier."""

    context_id: int
    fields: dict[int, bytes]
    identifier: bytes

    @property
    def status(self) -> int:
        return int.from_bytes(self.fields[0x0900], "little")

    @property
    def answers(self) -> int:
        """The Message ID that it is a response to."""
        return int.from_bytes(self.fields[0x0120], "little")

    @property
    def comment(self) -> str:
        return self.fields.get(0x0902, b"").decode().strip()


def elements(content: bytes) -> dict[int, bytes]:
    """The elements of one level in Implicit VR Little Endian, as they stand there."""
    found: dict[int, bytes] = {}
    pos = 0
    while pos < len(content):
        group, number, length = unpack_from("<HHI", content, pos)
        found[group << 16 | number] = content[pos + 8 : pos + 8 + length]
        pos += 8 + length
    return found


# --- the connection -----------------------------------------------------------------------------------------------


class RawClient:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, *data: bytes) -> None:
        self.writer.write(b"".join(data))

    async def pdu(self) -> tuple[int, bytes]:
        """The next PDU: its type and its content."""
        async with asyncio.timeout(10):
            kind, length = unpack_from(">BxI", await self.reader.readexactly(6))
            return kind, await self.reader.readexactly(length)

    async def closed(self) -> bytes:
        """Wait until the peer closes; what it sent before that."""
        async with asyncio.timeout(10):
            return await self.reader.read(-1)

    async def associate(self, request: bytes = b"") -> Accepted | Rejected | int:
        """Ask for an association: accepted, rejected, or the type of the PDU that came instead."""
        self.send(request or associate_rq())
        kind, content = await self.pdu()
        if kind == ASSOCIATE_AC:
            return accepted(content)
        return Rejected((content[1], content[2], content[3])) if kind == ASSOCIATE_RJ else kind

    async def response(self) -> Response:
        """Read one response, whatever PDUs its fragments come in."""
        parts: dict[int, bytes] = {0: b"", 1: b""}
        context_id, needed = 0, {1}
        while needed:
            kind, content = await self.pdu()
            assert kind == P_DATA, f"PDU of type {kind} in place of a response"
            self.lengths.append(len(content))
            pos = 0
            while pos < len(content):
                length, context_id, control = unpack_from(">IBB", content, pos)
                parts[control & 1] += content[pos + 6 : pos + 4 + length]
                pos += 4 + length
                if control & 2:
                    needed.discard(control & 1)
                    if control & 1 and elements(parts[1])[0x0800] != pack("<H", NO_DATA_SET):
                        needed.add(0)
        return Response(context_id, elements(parts[1]), parts[0])

    async def responses(self) -> list[Response]:
        """Read all responses to one request, the final one too."""
        found = [await self.response()]
        while found[-1].status in (0xFF00, 0xFF01):
            found.append(await self.response())
        return found

    lengths: list[int]


@asynccontextmanager
async def raw_client(port: int) -> AsyncIterator[RawClient]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    client = RawClient(reader, writer)
    client.lengths = []
    try:
        yield client
    finally:
        writer.transport.abort()
