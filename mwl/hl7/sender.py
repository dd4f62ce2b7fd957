"""A sender of HL7 v2 messages, for a site to test itself with."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Iterable
from itertools import chain, repeat

import msgspec

from ..errors import MwlError
from .message import MessageError, decode_message
from .mllp import FS, VT, frame

__all__ = ["Sent", "send"]


class Sent(msgspec.Struct, frozen=True):
    """One message and its acknowledgement; `code` is MSA-1, empty if there was none to be read.

    It `is_warned` if there is more in MSA-3.
    """

    control_id: str
    code: str
    ack: bytes
    seconds: float
    is_warned: bool = False


async def send(
    host: str,
    port: int,
    messages: Iterable[bytes],
    *,
    rate: float = 0.0,
    times: int = 1,
    tls: ssl.SSLContext | None = None,
    timeout_seconds: float = 30.0,
) -> AsyncIterator[Sent]:
    """Send messages one after another on one connection, each when the one before it is answered.

    `rate` is how many a second at most, 0 = as fast as they are answered.  Repeated ones get control ids of their
    own: with the same one they would be answered without being looked at.

    Raises:
        MwlError: there is no connection, or no answer.
    """
    messages = [_with_cr(message) for message in messages]
    try:
        reader, writer = await asyncio.wait_for(asyncio.open_connection(host, port, ssl=tls), timeout_seconds)
    except (OSError, TimeoutError) as exc:
        raise MwlError(f"{host}:{port} cannot be reached: {exc or 'no answer'}") from exc
    try:
        begin = time.perf_counter()
        turns = chain.from_iterable(zip(messages, repeat(turn)) for turn in range(times))
        for number, (message, turn) in enumerate(turns):
            if rate:
                await asyncio.sleep(max(0.0, begin + number / rate - time.perf_counter()))
            one = _renumbered(message, turn + 1) if turn else message
            sent = time.perf_counter()
            writer.write(frame(one))
            try:
                answer = await asyncio.wait_for(reader.readuntil(FS), timeout_seconds)
            except TimeoutError:
                raise MwlError(f"{host}:{port} did not answer within {timeout_seconds:g} s") from None
            except (asyncio.IncompleteReadError, OSError):
                raise MwlError(f"{host}:{port} closed the connection instead of answering") from None
            ack = answer[answer.find(VT) + 1 : -1]
            seconds = time.perf_counter() - sent
            code, text = _acknowledgement(ack)
            yield Sent(_control_id(one), code, ack, seconds, bool(text))
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def _with_cr(message: bytes) -> bytes:
    """End segments as the standard wants it, where an editor ended all of them with LF."""
    return message if b"\r" in message.rstrip(b"\r\n") else message.strip(b"\r\n").replace(b"\n", b"\r") + b"\r"


def _renumbered(message: bytes, turn: int) -> bytes:
    """Give a message another control id, MSH-10."""
    separator = message[3:4]
    end = min((at for at in (message.find(b"\r"), message.find(b"\n")) if at >= 0), default=len(message))
    fields = message[:end].split(separator)
    if len(fields) > 9:
        fields[9] += b"-%d" % turn
    return separator.join(fields) + message[end:]


def _control_id(message: bytes) -> str:
    fields = message[:4096].split(b"\r", 1)[0].split(message[3:4])
    return fields[9].decode("latin_1") if len(fields) > 9 else ""


def _acknowledgement(ack: bytes) -> tuple[str, str]:
    """Read MSA-1 and MSA-3."""
    try:
        segment = decode_message(ack).first("MSA")
    except MessageError:
        return "", ""
    return (segment.field(1), segment.field(3)) if segment else ("", "")
