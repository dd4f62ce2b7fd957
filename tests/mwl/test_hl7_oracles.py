"""Two other HL7 v2 parsers, `hl7` and `hl7apy`, read what our sender sends as our parser reads it, field by field."""

import asyncio
from pathlib import Path

import hl7
import pytest
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.parser import parse_message

from mwl.hl7.message import decode_message
from mwl.hl7.mllp import frame
from mwl.hl7.sender import send

FOLDER = Path(__file__).parents[1] / "hl7"
NAMES = sorted(path.stem for path in FOLDER.glob("*.hl7"))

# What hl7apy leaves out or writes anew, by sample: fields that a version of HL7 does not define, and escapes.
UNKNOWN_TO_HL7APY = {
    "orm_full": {("ORC", 28)},
    "orm_second_choices": {("ORC", 28)},
    "orm_version_2_1": {("MSH", 17)},
    "orm_escapes": {("OBR", 30), ("OBR", 31)},
}


@pytest.fixture(scope="module")
def transmitted() -> dict[str, bytes]:
    """Send all samples with our sender; gives what arrived of each."""
    received: list[bytes] = []

    async def record(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 20):
            received.append(data)
            writer.write(frame(b"MSH|^~\\&|X\rMSA|AA|1\r"))
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(record, "127.0.0.1", 0)
        async with server:
            host, port = server.sockets[0].getsockname()[:2]
            messages = [(FOLDER / f"{name}.hl7").read_bytes() for name in NAMES]
            assert [sent.code async for sent in send(host, port, messages)] == ["AA"] * len(NAMES)

    asyncio.run(run())
    return dict(zip(NAMES, received, strict=True))


def unframed(data: bytes) -> bytes:
    assert (data[:1], data[-2:]) == (b"\x0b", b"\x1c\r")
    return data[1:-2]


@pytest.mark.parametrize("name", NAMES)
def test_hl7_reads_every_field_as_we_do(name: str, transmitted: dict[str, bytes]) -> None:
    ours = decode_message(unframed(transmitted[name]))
    theirs = hl7.parse("".join(f"{segment.text}\r".replace("\n", " ") for segment in ours.segments))
    for segment, other in zip(ours.segments, theirs, strict=True):
        assert [field.replace("\n", " ") for field in segment.fields] == [str(field) for field in other]


@pytest.mark.parametrize("name", [name for name in NAMES if name != "orm_version_3"])
def test_hl7apy_reads_every_field_as_we_do(name: str, transmitted: dict[str, bytes]) -> None:
    ours = decode_message(unframed(transmitted[name]))
    text = "".join(f"{segment.text}\r".replace("\n", " ") for segment in ours.segments)
    theirs = parse_message(text, validation_level=VALIDATION_LEVEL.TOLERANT, find_groups=False)
    compared = 0
    for segment, other in zip(ours.segments, theirs.children, strict=True):
        fields: dict[int, list[str]] = {}
        for child in other.children:
            number = (
                int(child.name.rsplit("_", 1)[1]) if child.name else 0
            )  # it has no name for what it does not know
            fields.setdefault(number, []).append(child.to_er7(theirs.encoding_chars))
        for number, field in enumerate(segment.fields):
            is_separator = segment.name == "MSH" and number < 3
            if number == 0 or is_separator or (segment.name, number) in UNKNOWN_TO_HL7APY.get(name, ()):
                continue
            assert ours.delimiters.repetition.join(fields.get(number, [])) == field.replace("\n", " ")
            compared += 1
    assert compared
