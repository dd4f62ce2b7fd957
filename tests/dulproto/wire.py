"""A network in memory and a clock that jumps: an event loop for the adapters, without ports and without waiting.

`WireLoop` is a real event loop whose `create_server` and `create_connection` join two `WireTransport`s, and whose
time goes on only when nothing is left to do: then it is the time of the next timer at once.
"""

from __future__ import annotations

import asyncio
import selectors
import socket
from collections.abc import Callable
from typing import Any

HIGH_WATER, LOW_WATER = 64 << 10, 16 << 10  # as in asyncio
READ_SIZE = 256 << 10
DAY = 86400.0


class _Selector(selectors.DefaultSelector):
    loop: WireLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if events or timeout == 0:
            return events
        if timeout is None:
            raise RuntimeError("nothing will ever happen")
        self.loop.now += timeout
        if self.loop.now > self.loop.end:
            self.loop.end = float("inf")
            raise RuntimeError("nothing happened for a day")
        return []


class WireSocket:
    """Remembers the options that are set."""

    family = socket.AF_INET

    def __init__(self, name: tuple[str, int]) -> None:
        self.name = name
        self.options: list[tuple[int, int]] = []

    def setsockopt(self, level: int, option: int, value: int) -> None:
        assert value == 1
        self.options.append((level, option))

    def getsockname(self) -> tuple[str, int]:
        return self.name


class WireTransport(asyncio.Transport):
    """One end of a connection.  Of what is written, `kernel` bytes are under way, and more is in our buffer.

    While the peer does not read (`pause_reading`, as any protocol can), nothing leaves.
    """

    def __init__(self, loop: WireLoop, protocol: Any, local: tuple[str, int], remote: tuple[str, int]) -> None:
        self.socket = WireSocket(local)
        super().__init__({"socket": self.socket, "peername": remote})
        self.loop = loop
        self.protocol = protocol
        self.peer: WireTransport
        self.kernel = 1 << 20
        self.written = 0
        self.reading = True
        self.is_lost = False
        self._bytes = bytearray()
        self._paused = False
        self._closing = False
        self._at_end = False  # no more will be written
        self._end_seen = False

    def get_write_buffer_size(self) -> int:
        return max(0, len(self._bytes) - self.kernel)

    def write(self, data: bytes) -> None:
        if self._closing:
            return
        self.written += len(data)
        self._bytes += data
        if not self._paused and self.get_write_buffer_size() > HIGH_WATER:
            self._paused = True
            self.protocol.pause_writing()
        self.loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        peer = self.peer
        if not peer.reading or peer.is_lost:
            return
        if self._bytes:
            data = bytes(self._bytes[:READ_SIZE])
            del self._bytes[: len(data)]
            if self._paused and self.get_write_buffer_size() <= LOW_WATER:
                self._paused = False
                self.loop.call_soon(self.protocol.resume_writing)
            self.loop.call_soon(self._deliver)
            if not peer._closing:
                peer._receive(data)
        elif self._at_end and not self._end_seen:
            self._end_seen = True
            self._lose(None)
            peer.close()

    def _receive(self, data: bytes) -> None:
        try:
            self.protocol.data_received(data)
        except Exception:
            self.abort()  # as every loop does: a protocol that raises is cut off
            raise

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        if not self.reading:
            self.reading = True
            self.loop.call_soon(self.peer._deliver)

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = self._at_end = self.reading = True
            if not self.get_write_buffer_size():
                self.loop.call_soon(self._lose, None)
            self.loop.call_soon(self._deliver)

    def abort(self) -> None:
        self._closing = self._at_end = True
        self._bytes.clear()
        self.loop.call_soon(self._lose, None)
        self.peer._closing = True
        self.loop.call_soon(self.peer._lose, ConnectionResetError("reset by the peer"))

    def _lose(self, error: Exception | None) -> None:
        if not self.is_lost:
            self.is_lost = True
            self.protocol.connection_lost(error)


class WireListener:
    def __init__(self, loop: WireLoop, name: tuple[str, int]) -> None:
        self.loop = loop
        self.sockets = [WireSocket(name)]

    def close(self) -> None:
        for sock in self.sockets:
            self.loop.listeners.pop(sock.name[1], None)
        self.sockets = []


class WireLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.now = 1000.0
        self.end = DAY
        selector = _Selector()
        selector.loop = self
        self.host = "10.0.0.1"  # of those who connect
        self.listeners: dict[int, Callable[[], Any]] = {}
        self.transports: list[WireTransport] = []  # each connection: its requestor's end, its acceptor's end
        super().__init__(selector)

    def time(self) -> float:
        return self.now

    async def create_server(self, factory: Callable[[], Any], host: Any, port: int, **_: Any) -> Any:  # type: ignore[override]
        number = port or 1024 + len(self.listeners)
        self.listeners[number] = factory
        return WireListener(self, (host, number))

    async def create_connection(self, factory: Callable[[], Any], host: Any, port: int, **_: Any) -> Any:  # type: ignore[override]
        if port == UNREACHABLE:
            await self.create_future()
        if port not in self.listeners:
            raise ConnectionRefusedError(port)
        here, there = (self.host, 40000 + len(self.transports)), (host, port)
        requestor = WireTransport(self, factory(), here, there)
        acceptor = WireTransport(self, self.listeners[port](), there, here)
        requestor.peer, acceptor.peer = acceptor, requestor
        self.transports += [requestor, acceptor]
        acceptor.protocol.connection_made(acceptor)
        requestor.protocol.connection_made(requestor)
        return requestor, requestor.protocol


UNREACHABLE = 9


class RawPeer(asyncio.Protocol):
    """A peer that a test plays byte by byte."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.lost = False
        self.error: Exception | None = None
        self._news = asyncio.Event()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._news.set()

    def data_received(self, data: bytes) -> None:
        self.received += data
        self._news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost, self.error = True, exc
        self._news.set()

    def send(self, data: bytes) -> None:
        self.transport.write(data)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something has arrived that makes this true."""
        while not condition():
            if self.lost:
                raise ConnectionError(f"the connection was closed after {bytes(self.received[-40:])!r}")
            self._news.clear()
            await self._news.wait()

    async def pdu(self) -> bytes:
        """Wait for the next PDU and take it."""
        await self.until(lambda: len(self.received) >= 6)
        size = 6 + int.from_bytes(self.received[2:6], "big")
        await self.until(lambda: len(self.received) >= size)
        data = bytes(self.received[:size])
        del self.received[:size]
        return data

    async def closed(self) -> None:
        while not self.lost:
            self._news.clear()
            await self._news.wait()


def pdus(data: bytes) -> list[bytes]:
    """Split a stream into its PDUs."""
    out = []
    while data:
        size = 6 + int.from_bytes(data[2:6], "big")
        out.append(data[:size])
        data = data[size:]
    return out


async def settle(turns: int = 20) -> None:
    """Let the loop go round; no time passes."""
    for _ in range(turns):
        await asyncio.sleep(0)


async def passes(seconds: float) -> None:
    """Let time pass on the clock of a `WireLoop`: no waiting is in it."""
    await asyncio.sleep(seconds)
