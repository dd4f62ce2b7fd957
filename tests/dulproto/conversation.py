"""A requestor that a test plays, and providers to answer it, over a network in memory."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from pair import make_rq
from wire import RawPeer, WireTransport

import dulproto
from dulproto import (
    MODALITY_WORKLIST_FIND,
    VERIFICATION,
    Accepted,
    Association,
    CommandField,
    Limits,
    Operation,
    Server,
    Status,
    answer_echo,
)

PORT = 104
SIZE = 1000  # of an identifier


class Peer(RawPeer):
    """A requestor that sends what a test tells it to and decodes what comes."""

    def __init__(self, rq: dulproto.AssociateRq) -> None:
        super().__init__()
        self.association = Association(is_requestor=True, limits=Limits(idle=0, half_pdu=0))
        self.association.request(rq)
        self.events: list[Any] = []

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.association.transport_opened(0)
        self.send(self.association.data_to_send())

    def data_received(self, data: bytes) -> None:
        self.events += self.association.receive_data(data, 0)
        super().data_received(data)

    async def event(self) -> Any:
        """Take the next event."""
        await self.until(lambda: bool(self.events))
        return self.events.pop(0)

    async def answers(self, count: int = 1) -> list[tuple[int, int]]:
        """Take responses up to so many final ones: message ID and status of each."""
        answers = []
        while count:
            command = (await self.event()).command
            answers.append((command.message_id_being_responded_to, command.status))
            count -= command.status not in (Status.PENDING, Status.PENDING_WARNING)
        return answers

    async def finals(self, count: int = 1) -> list[tuple[int, int]]:
        return [answer for answer in await self.answers(count) if answer[1] != Status.PENDING]

    def release(self) -> None:
        self.association.release()
        self.send(self.association.data_to_send())


class Find:
    """A handler with so many matches; knows how many were asked for, and whether it was closed."""

    def __init__(self, matches: int = 3, *, size: int = SIZE) -> None:
        self.matches, self.size = matches, size
        self.produced = self.closed = 0

    def __call__(self, operation: Operation) -> Iterator[bytes]:
        try:
            for _ in range(self.matches):
                self.produced += 1
                yield operation.pending(bytes(self.size))
        finally:
            self.closed += 1


class AsyncFind(Find):
    """The same as an async generator, which waits for `gate` before each match if it has one."""

    def __init__(self, matches: int = 3, *, size: int = SIZE, gate: asyncio.Semaphore | None = None) -> None:
        super().__init__(matches, size=size)
        self.gate = gate

    async def __call__(self, operation: Operation) -> AsyncIterator[bytes]:  # type: ignore[override]
        try:
            for _ in range(self.matches):
                if self.gate is not None:
                    await self.gate.acquire()
                self.produced += 1
                yield operation.pending(bytes(self.size))
        finally:
            self.closed += 1


FINDS = [Find, AsyncFind]


async def serve(find: Any = None, **options: Any) -> Server:
    services = {
        VERIFICATION: {CommandField.C_ECHO_RQ: answer_echo},
        MODALITY_WORKLIST_FIND: {CommandField.C_FIND_RQ: find or Find()},
    }
    return await dulproto.serve(services, port=PORT, **options)


async def associate(**rq: Any) -> Peer:
    peer = await connect(**rq)
    assert isinstance(await peer.event(), Accepted)
    return peer


async def connect(**rq: Any) -> Peer:
    loop = asyncio.get_running_loop()
    _, peer = await loop.create_connection(lambda: Peer(make_rq(**rq)), "worklist", PORT)
    return peer


def wire_of(peer: Peer) -> WireTransport:
    """The acceptor's end of the connection."""
    transport: WireTransport = peer.transport.peer
    return transport


def messages(caplog: pytest.LogCaptureFixture, level: int = logging.INFO) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= level and record.name == "dulproto"]
