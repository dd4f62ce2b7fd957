"""MLLP, the framing of HL7 v2 on TCP, and a listener that feeds the store.

A frame is VT, a message, FS and CR.  Several messages may be on their way on one connection; they are answered in
their order, each when the store has what it changed.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, cast

from ..config import Hl7
from ..logs import place_of
from ..store import Store
from .feed import Feed
from .mapping import Mapping

__all__ = ["FS", "VT", "FrameReader", "FrameTooLong", "Hl7Server", "frame", "serve_hl7"]

logger = logging.getLogger(__name__)

MAX_FRAME: Final = 16 * 1024 * 1024
HALF_FRAME_SECONDS: Final = 30.0  # then a frame that nobody ended counts as ended, Q-81

VT, FS = b"\x0b", b"\x1c"
_NEXT_MESSAGE: Final = re.compile(rb"\x0b(?=(?:\xef\xbb\xbf)?MSH)")


def frame(message: bytes) -> bytes:
    """Put a message in its frame."""
    return b"%s%s%s\r" % (VT, message, FS)


class FrameTooLong(ValueError):
    """A peer sends more than a message may have."""


class FrameReader:
    """Cuts what a peer sends into messages, in whatever pieces it comes."""

    def __init__(self, limit: int = MAX_FRAME) -> None:
        self._buffer = bytearray()
        self._searched = 0
        self._limit = limit

    def receive(self, data: bytes) -> list[bytes]:
        """Take bytes, and give the messages that are complete now.

        Raises:
            FrameTooLong: a message has no end within the limit.
        """
        buffer = self._buffer
        buffer += data
        found: list[bytes] = []
        start = 0
        while (end := buffer.find(FS, max(start, self._searched))) >= 0:
            if end - start > self._limit:
                raise FrameTooLong
            found += _messages(bytes(buffer[start:end]))
            start = end + 1
        if start:
            del buffer[:start]
        self._searched = len(buffer)
        if len(buffer) > self._limit:
            raise FrameTooLong
        return found

    def is_within(self) -> bool:
        """Tell whether a message has begun and not ended."""
        return b"MSH" in self._buffer

    def rest(self) -> list[bytes]:
        """Take what has no end for a message if it begins like one."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        self._searched = 0
        return [message for message in _messages(rest) if message.startswith(b"MSH")]


def _messages(content: bytes) -> list[bytes]:
    """Give what stands in a frame; noise before it is dropped, and a message whose end was lost is one of its own."""
    pieces = _NEXT_MESSAGE.split(content)
    if len(pieces) > 1 and b"MSH" not in pieces[0]:
        pieces = pieces[1:]
    stripped = (piece.strip(b"\x0b\r\n") for piece in pieces)
    return [piece + b"\r" for piece in stripped if piece]


# --- the listener -------------------------------------------------------------------------------------------------


class _Connection(asyncio.Protocol):
    """One sender: its messages are taken as they come, and answered in this order."""

    def __init__(self, server: Hl7Server) -> None:
        self._server = server
        self._config = server.config
        self._reader = FrameReader()
        self._waiting: deque[asyncio.Task[bytes | None]] = deque()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._last_read = 0.0
        self._is_paused = self._is_full = self._is_ending = False
        self._is_lost = server.loop.create_future()
        self.peer = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # those of uvloop are none by their class
        self.peer = str((transport.get_extra_info("peername") or ("?",))[0])
        if not self._server.admit(self):
            logger.warning("%s: more than %d HL7 connections", self.peer, self._config.max_connections)
            self._transport.abort()
            return
        self._last_read = self._server.loop.time()
        self._watch(HALF_FRAME_SECONDS)

    def data_received(self, data: bytes) -> None:
        self._last_read = self._server.loop.time()
        try:
            messages = self._reader.receive(data)
        except FrameTooLong:
            logger.warning("%s: a message of more than %d bytes, closed", self.peer, MAX_FRAME)
            self._end()
            return
        for message in messages:
            self._take(message)

    def _take(self, message: bytes) -> None:
        task = self._server.loop.create_task(self._answer(message))
        self._waiting.append(task)
        task.add_done_callback(self._write_answers)
        if len(self._waiting) >= self._config.in_flight:
            self._is_full = True
            self._read_or_not()

    async def _answer(self, message: bytes) -> bytes | None:
        try:
            return await self._server.feed.receive(message)
        except Exception as exc:
            logger.error("%s: a message could not be taken, a fault in this program: %s", self.peer, place_of(exc))
            return None

    def _write_answers(self, _: asyncio.Task[bytes | None]) -> None:
        answers: list[bytes] = []
        while self._waiting and self._waiting[0].done():
            task = self._waiting.popleft()
            answer = None if task.cancelled() else task.result()
            if answer is not None:
                answers.append(frame(answer))
        if self._transport and answers and not self._transport.is_closing():
            self._transport.write(b"".join(answers))
        if self._is_full and len(self._waiting) <= self._config.in_flight // 2:
            self._is_full = False
            self._read_or_not()
        if self._is_ending and not self._waiting and self._transport:
            self._transport.close()

    def pause_writing(self) -> None:
        self._is_paused = True  # who does not read answers gets no further questions in
        self._read_or_not()

    def resume_writing(self) -> None:
        self._is_paused = False
        self._read_or_not()

    def _read_or_not(self) -> None:
        if self._transport and not self._transport.is_closing():
            if self._is_paused or self._is_full or self._is_ending:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def eof_received(self) -> bool:
        # What is incomplete is not taken: a sender that broke off will send it again.
        self._is_ending = True
        return bool(self._waiting) and self._transport is not None and not self._is_tls()

    def _is_tls(self) -> bool:
        return self._transport is not None and self._transport.get_extra_info("sslcontext") is not None

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._timer:
            self._timer.cancel()
        self._server.forget(self)
        if not self._is_lost.done():
            self._is_lost.set_result(None)

    def _watch(self, seconds: float) -> None:
        self._timer = self._server.loop.call_later(seconds, self._look)

    def _look(self) -> None:
        """See to what should have come: the end of a message, or the next message."""
        quiet = self._server.loop.time() - self._last_read
        if quiet >= HALF_FRAME_SECONDS and self._reader.is_within():
            for message in self._reader.rest():
                logger.warning("%s: a message without an end", self.peer)
                self._take(message)
        idle = self._config.idle_seconds
        if idle and quiet >= idle and not self._waiting:
            logger.info("%s: nothing for %.0f s, closed", self.peer, quiet)
            self._end()
            return
        self._watch(HALF_FRAME_SECONDS)

    def _end(self) -> None:
        """Close as soon as what was taken is answered."""
        self._is_ending = True
        self._read_or_not()
        if self._transport and not self._waiting:
            self._transport.close()

    async def drain(self) -> None:
        """Take nothing more, answer what was taken, close."""
        self._end()
        await self._is_lost

    def abort(self) -> None:
        """Close without further answers."""
        if self._transport:
            self._transport.abort()


class Hl7Server:
    """The listener; `serve_hl7` makes one."""

    def __init__(self, config: Hl7, feed: Feed, tls: ssl.SSLContext | None) -> None:
        self.config, self.feed = config, feed
        self.loop = asyncio.get_running_loop()
        self._tls = tls
        self._connections: set[_Connection] = set()
        self._listener: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the address cannot be listened on.
        """
        self._listener = await self.loop.create_server(
            lambda: _Connection(self), self.config.host, self.config.port, ssl=self._tls, reuse_address=True
        )

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where it listens."""
        assert self._listener is not None
        return [listening.getsockname()[:2] for listening in self._listener.sockets]

    def use(self, mapping: Mapping) -> None:
        """Put another mapping in force, for the messages that come from now on."""
        self.feed.mapping = mapping

    def admit(self, connection: _Connection) -> bool:
        """Count a connection, unless there are too many."""
        if len(self._connections) >= self.config.max_connections:
            return False
        self._connections.add(connection)
        return True

    def forget(self, connection: _Connection) -> None:
        """Stop counting a connection."""
        self._connections.discard(connection)

    async def close(self, drain_seconds: float = 10.0) -> None:
        """Stop listening, and end the connections when what they sent is answered."""
        assert self._listener is not None
        self._listener.close()
        ending = [self.loop.create_task(connection.drain()) for connection in self._connections]
        if ending:
            _, late = await asyncio.wait(ending, timeout=drain_seconds)
            if late:
                for connection in list(self._connections):
                    connection.abort()
                await asyncio.wait(late)


async def serve_hl7(
    config: Hl7,
    store: Store,
    mapping: Mapping,
    *,
    committed: Callable[[int], Awaitable[None]] | None = None,
    tls: ssl.SSLContext | None = None,
) -> Hl7Server:
    """Listen for HL7 v2 messages and keep what they say in a store.

    `committed` is called with the store's revision after each message, and waited for before it is acknowledged.

    Raises:
        OSError: the address cannot be listened on.
    """
    server = Hl7Server(config, Feed(store, mapping, committed), tls or tls_context(config))
    await server.start()
    return server


def tls_context(config: Hl7) -> ssl.SSLContext | None:
    """Make the TLS side of a listener, if it has a certificate; with `client_ca`, senders need one too.

    Raises:
        OSError: a file cannot be read, or is no certificate.
    """
    if config.certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(config.certificate, config.private_key)
    if config.client_ca is not None:
        context.load_verify_locations(config.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context
