"""TCP in every cut, and one peer that stalls, drips or floods beside others that must not notice."""

from __future__ import annotations

import asyncio
import socket
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from peers import CT, MODALITY, PATIENT_NAME, STEP, Worklist, entry

import dulproto
from dulproto import (
    IMPLICIT_LE,
    MODALITY_WORKLIST_FIND,
    CommandField,
    CommandSet,
    Element,
    Message,
    Released,
    encode_data_set,
    encode_message,
    propose,
)
from dulproto.pdu import RELEASE_RQ, encode_associate_rq
from dulproto.requests import TURN_BYTES

KEYS = {
    PATIENT_NAME: Element(PATIENT_NAME, "PN"),
    STEP: Element(STEP, "SQ", ({MODALITY: Element(MODALITY, "CS", CT)},)),
}
ALL = {PATIENT_NAME: Element(PATIENT_NAME, "PN")}
# In all more than the buffers of the system hold, so that half way is half way.
MANY = [entry("Doe^" + f"{n:06}" * 100, n, CT) for n in range(10_000)]
RQ = dulproto.connect("", contexts=propose(MODALITY_WORKLIST_FIND, transfer_syntaxes=[IMPLICIT_LE])).rq


def find_rq(keys: dulproto.DataSet = KEYS, message_id: int = 1) -> bytes:
    command = CommandSet(
        command_field=CommandField.C_FIND_RQ,
        affected_sop_class_uid=MODALITY_WORKLIST_FIND,
        message_id=message_id,
        priority=0,
        command_data_set_type=0x0102,
    )
    return encode_message(1, command, encode_data_set(keys, IMPLICIT_LE), 0)


def cancel_rq(message_id: int = 1) -> bytes:
    command = CommandSet(command_field=CommandField.C_CANCEL_RQ, message_id_being_responded_to=message_id)
    return encode_message(1, command, b"", 0)


class RawClient:
    """A client whose every segment a test decides."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.association = dulproto.Association(is_requestor=True)
        self.association.request(RQ)
        self.association.transport_opened(0)
        self.events: list[object] = []

    @classmethod
    async def connected(cls, port: int, *, receive_buffer: int = 0) -> RawClient:
        sock = socket.socket()
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        limit = 4096 if receive_buffer else 1 << 16
        return cls(*await asyncio.open_connection(sock=sock, limit=limit))

    def read_quickly(self) -> None:
        """Give up the small window that kept the peer waiting."""
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def read(self, size: int) -> None:
        data = await self.reader.read(size)
        assert data, "the connection was closed"
        self.events += self.association.receive_data(data, 0)

    async def event(self, size: int = 65536) -> object:
        while not self.events:
            await self.read(size)
        return self.events.pop(0)

    async def statuses(self) -> list[int]:
        """Read the responses to one request."""
        statuses = [0xFF00]
        while statuses[-1] == 0xFF00:
            message = await self.event()
            assert isinstance(message, Message)
            assert message.command.status is not None
            statuses.append(message.command.status)
        return statuses[1:]

    async def associate(self) -> None:
        await self.send(self.association.data_to_send())
        assert isinstance(await self.event(), dulproto.Accepted)


Connect = Callable[..., Awaitable[RawClient]]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Connect raw clients, and close them in the end."""
    clients: list[RawClient] = []

    async def connect(port: int, **options: int) -> RawClient:
        clients.append(await RawClient.connected(port, **options))
        return clients[-1]

    yield connect
    for client in clients:
        client.writer.close()
    await asyncio.gather(*[client.writer.wait_closed() for client in clients], return_exceptions=True)


async def test_a_query_cut_at_every_byte_has_the_same_answer(worklist: Worklist, connect: Connect) -> None:
    query = find_rq()
    client = await connect(worklist.port)
    await client.associate()
    for cut in range(1, len(query)):
        await client.send(query[:cut])
        await client.send(query[cut:])
        assert await client.statuses() == [0xFF00, 0xFF00, 0]


async def test_a_conversation_in_segments_of_one_byte_is_understood(worklist: Worklist, connect: Connect) -> None:
    client = await connect(worklist.port)
    for byte in encode_associate_rq(RQ):
        await client.send(bytes([byte]))
    assert isinstance(await client.event(), dulproto.Accepted)
    for byte in find_rq():
        await client.send(bytes([byte]))
    assert await client.statuses() == [0xFF00, 0xFF00, 0]
    client.association.release()
    for byte in RELEASE_RQ:
        await client.send(bytes([byte]))
    assert isinstance(await client.event(), Released)


async def test_pipelined_queries_in_one_segment_are_answered_in_order(worklist: Worklist, connect: Connect) -> None:
    client = await connect(worklist.port)
    await client.associate()
    await client.send(find_rq(KEYS, 1) + find_rq(ALL, 2) + find_rq(KEYS, 3))
    assert [await client.statuses() for _ in range(3)] == [[0xFF00] * n + [0] for n in (2, 3, 2)]


async def test_peers_that_idle_drip_flood_and_talk_nonsense_delay_nobody(
    worklist: Worklist, connect: Connect
) -> None:
    await connect(worklist.port)  # and silent for ever
    dripping = await connect(worklist.port)
    await dripping.send(encode_associate_rq(RQ)[:-1])
    nonsense = await connect(worklist.port)
    await nonsense.send(b"GET / HTTP/1.1\r\n\r\n")
    flooding = await connect(worklist.port)
    await flooding.associate()
    flooding.writer.write(b"".join(find_rq(ALL, message_id) for message_id in range(1, 5000)))
    async with asyncio.timeout(10), dulproto.connect("127.0.0.1", worklist.port) as association:
        for _ in range(20):
            assert await association.c_echo() == 0


async def test_10000_matches_to_a_slow_reader_take_little_memory_and_delay_nobody(
    worklist: Worklist, connect: Connect
) -> None:
    worklist.entries = MANY
    slow = await connect(worklist.port, receive_buffer=4096)
    await slow.associate()
    tracemalloc.start()
    try:
        await slow.send(find_rq())
        (connection,) = worklist.server.connections
        async with dulproto.connect("127.0.0.1", worklist.port) as other:
            for _ in range(50):
                await slow.read(1024)
                assert await other.c_echo() == 0
                assert connection.transport is not None
                assert connection.transport.get_write_buffer_size() <= (64 << 10) + 2 * TURN_BYTES
            first = [status async for status, _ in other.c_find(ALL) if status != 0xFF00]
            assert first == [0]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20
    produced = worklist.produced - 10_000
    assert produced < 10_000
    slow.read_quickly()
    statuses = await slow.statuses()
    assert statuses[-1] == 0


@pytest.mark.parametrize("read_before", [1024, 200_000])
async def test_a_cancel_half_way_through_10000_matches_ends_with_fe00(
    worklist: Worklist, connect: Connect, read_before: int
) -> None:
    worklist.entries = MANY
    slow = await connect(worklist.port, receive_buffer=4096)
    await slow.associate()
    await slow.send(find_rq())
    received = 0
    while received < read_before:
        await slow.read(1024)
        received += 1024
    await slow.send(cancel_rq())
    slow.read_quickly()
    statuses = await slow.statuses()
    assert statuses[-1] == 0xFE00
    assert worklist.produced < 10_000
