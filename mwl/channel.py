"""What the supervisor and its DICOM processes say to each other, over a pair of connected sockets.

Each request of the supervisor has one reply, and replies come in the order of the requests.  When one side is gone,
the other one reads the end of the stream.
"""

from __future__ import annotations

import asyncio
from struct import Struct
from typing import Any, Final

import msgspec

from .config import Config
from .report import Report

__all__ = ["Drain", "Follow", "Reply", "Request", "Start", "Tell", "Use", "receive_reply", "receive_request", "send"]

_LENGTH: Final = Struct(">I")


class Use(msgspec.Struct, frozen=True, tag=True):
    """Serve by this configuration from now on."""

    config: Config
    resolved: dict[str, tuple[str, ...]]  # addresses of host names
    columns: dict[str, int]  # of the shared associations


class Start(msgspec.Struct, frozen=True, tag=True):
    """Begin to serve: the first request.  The reply tells a fault, or that it listens."""

    row: int  # of the shared associations
    port: int
    use: Use
    logging: dict[str, bool]


class Follow(msgspec.Struct, frozen=True, tag=True):
    """Take over at once what has been committed to the store."""


class Tell(msgspec.Struct, frozen=True, tag=True):
    """Reply with a report."""

    associations: bool


class Drain(msgspec.Struct, frozen=True, tag=True):
    """Stop listening, let what runs end for so long, and end."""

    seconds: float


Request = Start | Use | Follow | Tell | Drain


class Reply(msgspec.Struct, frozen=True):
    """The reply to a request."""

    fault: str = ""
    report: Report | None = None


_encode: Final = msgspec.msgpack.Encoder(enc_hook=str).encode  # paths
_decode_reply: Final = msgspec.msgpack.Decoder(Reply).decode
_decode_request: Final = msgspec.msgpack.Decoder(Request, dec_hook=lambda kind, raw: kind(raw)).decode


def send(writer: asyncio.StreamWriter, message: Request | Reply) -> None:
    """Send a message."""
    data = _encode(message)
    writer.write(_LENGTH.pack(len(data)) + data)


async def receive_request(reader: asyncio.StreamReader) -> Request | None:
    """Receive a request; None if the supervisor is gone."""
    data = await _receive(reader)
    return None if data is None else _decode_request(data)


async def receive_reply(reader: asyncio.StreamReader) -> Reply | None:
    """Receive a reply; None if the process is gone."""
    data = await _receive(reader)
    return None if data is None else _decode_reply(data)


async def _receive(reader: asyncio.StreamReader) -> Any:
    try:
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        return await reader.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
