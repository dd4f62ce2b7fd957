"""The adapter between association and transport: what it sets, when it writes, when it closes."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from pair import NO_TIMERS, echo_rq, find_rq, make_ac, make_rq
from wire import RawPeer, WireLoop, WireSocket, WireTransport, settle

from dulproto import Aborted, Associate, Association, AssociationEvent, State
from dulproto.pdu import encode_associate_ac, encode_associate_rq
from dulproto.transport import TCP_QUICKACK, Connection

PORT = 104
QUICKACK = (socket.IPPROTO_TCP, TCP_QUICKACK)
ABORT_PDU = bytes.fromhex("07 00 00000004 0000 00 00")


class Accepting(Connection):
    """A connection that accepts every request and keeps the events."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(Association(is_requestor=False, limits=NO_TIMERS), loop)
        self.events: list[AssociationEvent] = []

    def handle(self, event: AssociationEvent) -> None:
        self.events.append(event)
        if isinstance(event, Associate):
            self.association.accept(make_ac(event.rq), self.loop.time())


async def connected() -> tuple[RawPeer, Accepting, WireTransport]:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, WireLoop)
    connection = Accepting(loop)
    await loop.create_server(lambda: connection, "worklist", PORT)
    _, peer = await loop.create_connection(RawPeer, "worklist", PORT)
    return peer, connection, loop.transports[1]


async def established() -> tuple[RawPeer, Accepting, WireTransport]:
    peer, connection, transport = await connected()
    peer.send(encode_associate_rq(make_rq()))
    await peer.pdu()
    connection.events.clear()
    transport.socket.options.clear()
    return peer, connection, transport


async def test_a_connection_knows_its_peer() -> None:
    _, connection, _ = await connected()
    assert connection.peer == "10.0.0.1"


@pytest.mark.parametrize(("peername", "peer"), [("", ""), (None, ""), ("/run/sock", "/run/sock")])
async def test_a_connection_that_is_not_tcp_gets_no_tcp_options(peername: Any, peer: str) -> None:
    loop = asyncio.get_running_loop()
    connection = Accepting(loop)
    transport = WireTransport(loop, connection, ("", 0), ("", 0))
    transport.socket.family = socket.AF_UNIX
    transport._extra["peername"] = peername
    connection.connection_made(transport)
    connection.data_received(encode_associate_rq(make_rq())[:50])
    assert transport.socket.options == []
    assert connection.peer == peer


async def test_a_transport_without_a_socket_will_do() -> None:
    loop = asyncio.get_running_loop()
    connection = Accepting(loop)
    transport = WireTransport(loop, connection, ("", 0), ("10.0.0.9", 0))
    del transport._extra["socket"]
    connection.connection_made(transport)
    connection.data_received(encode_associate_rq(make_rq())[:50])
    assert connection.peer == "10.0.0.9"


@pytest.mark.parametrize(
    ("data", "is_unfinished"),
    [
        (echo_rq(), False),
        (find_rq(1, b"12"), False),
        (find_rq(1, b"12")[:-14], True),  # the command; the identifier is to come
        (find_rq(1, b"12")[:-1], True),
        (echo_rq()[:3], True),
        (echo_rq() + echo_rq()[:20], True),
    ],
)
async def test_an_ack_is_hurried_only_inside_an_unfinished_message(data: bytes, is_unfinished: bool) -> None:
    peer, _, transport = await established()
    peer.send(data)
    await settle()
    assert transport.socket.options == ([QUICKACK] if is_unfinished else [])


async def test_without_quickack_in_the_system_nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dulproto.transport.TCP_QUICKACK", None)
    peer, connection, transport = await established()
    peer.send(echo_rq()[:20])
    await settle()
    assert connection.association.in_message
    assert transport.socket.options == []


async def test_the_answer_to_one_read_is_one_write() -> None:
    peer, connection, transport = await established()
    writes: list[int] = []
    write = transport.write
    transport.write = lambda data: (writes.append(len(data)), write(data))[1]  # type: ignore[method-assign]
    connection.association.send_p_data(b"one", 0)
    connection.association.send_p_data(b"two", 0)
    assert writes == []
    connection.flush()
    connection.flush()
    assert writes == [6]
    await peer.until(lambda: bytes(peer.received) == b"onetwo")


async def test_an_association_that_ends_closes_its_connection() -> None:
    peer, connection, _ = await established()
    peer.send(ABORT_PDU)
    await peer.closed()
    assert [type(event) for event in connection.events] == [Aborted]
    assert connection.transport is None


async def test_a_connection_that_is_lost_ends_its_association() -> None:
    peer, connection, _ = await established()
    peer.transport.abort()
    await peer.closed()
    await settle()
    assert connection.association.state is State.IDLE
    assert connection.events == [Aborted("the peer closed the connection")]


async def test_after_the_end_flush_and_close_do_nothing() -> None:
    peer, connection, transport = await established()
    peer.send(ABORT_PDU)
    await peer.closed()
    written = transport.written
    connection.flush()
    connection.close_transport()
    assert transport.written == written


async def test_an_abort_is_sent_and_the_connection_stays_until_the_peer_closes_it() -> None:
    peer, connection, transport = await established()
    connection.abort()
    assert await peer.pdu() == ABORT_PDU
    assert not transport.is_closing()
    peer.transport.close()
    await settle()
    assert connection.association.state is State.IDLE


async def test_a_deadline_is_acted_on_when_it_has_passed_and_not_before() -> None:
    peer, connection, _ = await established()
    connection.check_timers(1e9)  # there is none
    connection.abort()
    now = connection.loop.time()
    connection.check_timers(now + 29.9)
    await settle()
    assert not peer.lost
    connection.check_timers(now + 30)
    await peer.closed()


async def test_an_idle_time_is_told_and_flushed() -> None:
    peer, connection, _ = await established()
    connection.association._idle = 5.0
    connection.check_timers(5)
    assert await peer.pdu() == ABORT_PDU
    assert [type(event) for event in connection.events] == [Aborted]


async def test_a_connection_with_unsent_bytes_is_reset_rather_than_waited_for() -> None:
    peer, connection, transport = await established()
    transport.kernel = 0
    peer.transport.pause_reading()
    connection.association.send_p_data(bytes(100_000), 0)
    connection.flush()
    assert not connection.writable
    connection.close_transport()
    await peer.closed()
    assert isinstance(peer.error, ConnectionResetError)


async def test_a_connection_whose_bytes_are_sent_is_closed_in_order() -> None:
    peer, connection, _ = await established()
    connection.association.send_p_data(bytes(100_000), 0)
    connection.flush()
    connection.close_transport()
    await peer.closed()
    assert peer.error is None
    assert len(peer.received) == 100_000


async def test_pause_and_resume_follow_the_peer() -> None:
    peer, connection, transport = await established()
    transport.kernel = 0
    peer.transport.pause_reading()
    connection.association.send_p_data(bytes(100_000), 0)
    connection.flush()
    assert not connection.writable
    peer.transport.resume_reading()
    await settle()
    assert connection.writable


async def test_a_peer_that_ends_an_unread_answer_still_gets_the_end_of_it() -> None:
    peer, connection, transport = await established()
    transport.kernel = 0
    peer.transport.pause_reading()
    connection.association.send_p_data(bytes(100_000), 0)
    connection.flush()
    peer.send(encode_associate_ac(make_ac(make_rq())))  # no place for it: A-ABORT
    await settle()
    assert not transport.is_closing()
    peer.transport.resume_reading()
    await peer.until(lambda: len(peer.received) == 100_010)


async def test_a_role_must_say_what_it_makes_of_events() -> None:
    connection = Connection(Association(is_requestor=False), asyncio.get_running_loop())
    with pytest.raises(NotImplementedError):
        connection.handle(Aborted(""))


def test_the_wire_keeps_the_options_of_its_sockets() -> None:
    sock = WireSocket(("", 0))
    sock.setsockopt(1, 2, 1)
    assert sock.options == [(1, 2)]
