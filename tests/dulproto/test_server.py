"""The server on both event loops: listening, congestion, draining, and replacing what it offers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pair import make_rq

import dulproto
from dulproto import (
    MODALITY_WORKLIST_FIND,
    VERIFICATION,
    AssociationAborted,
    AssociationRejected,
    CommandField,
    Element,
    Limits,
    Operation,
    Policy,
    Server,
    answer_echo,
)
from dulproto.pdu import AssociateRj, encode_associate_rj, encode_associate_rq

ECHO = {VERIFICATION: {CommandField.C_ECHO_RQ: answer_echo}}
KEYS = {0x00100010: Element(0x00100010, "PN")}


def connect(server: Server, **options: Any) -> dulproto.connect:
    host, port = server.addresses[0]
    return dulproto.connect(host, port, **options)


class Gated:
    """A worklist whose one match waits until it is let through."""

    def __init__(self) -> None:
        self.begun, self.gate = asyncio.Event(), asyncio.Event()

    async def __call__(self, operation: Operation) -> AsyncIterator[bytes]:
        self.begun.set()
        await self.gate.wait()
        yield operation.pending({})

    @property
    def services(self) -> Any:
        return {**ECHO, MODALITY_WORKLIST_FIND: {CommandField.C_FIND_RQ: self}}


async def find(association: dulproto.ClientAssociation) -> list[int]:
    return [status async for status, _ in association.c_find(KEYS)]


async def test_port_0_takes_a_free_one_and_tells_which() -> None:
    async with await dulproto.serve(ECHO, port=0) as one, await dulproto.serve(ECHO, port=0) as other:
        assert one.addresses[0][0] == "127.0.0.1"
        assert one.addresses != other.addresses
        async with connect(one) as association:
            assert await association.c_echo() == 0


async def test_a_server_that_does_not_listen_has_no_addresses() -> None:
    server = Server({}, ECHO, Limits(), 60)
    assert server.addresses == []
    await server.close()


async def test_every_title_and_every_offered_syntax_is_accepted_by_default() -> None:
    async with await dulproto.serve(ECHO, port=0) as server:
        async with connect(server, called_ae_title="WHOEVER") as association:
            assert [context.abstract_syntax for context in association.contexts.values()] == [VERIFICATION]
            assert server.associations.total() == 1
            assert [connection.is_established for connection in server.connections] == [True]
        assert server.associations.total() == 0


async def test_policies_and_services_may_be_replaced_for_those_who_come_later() -> None:
    policy = Policy(abstract_syntaxes={VERIFICATION: dulproto.DEFAULT_TRANSFER_SYNTAXES})
    server = await dulproto.serve(ECHO, port=0, policies={"OLD": policy})
    async with server, connect(server, called_ae_title="OLD") as association:
        server.policies = {"NEW": policy}
        assert await association.c_echo() == 0
        with pytest.raises(AssociationRejected, match="called-AE-title-not-recognized"):
            await connect(server, called_ae_title="OLD")
        async with connect(server, called_ae_title="NEW") as other:
            assert await other.c_echo() == 0


async def test_a_congested_server_refuses_for_now() -> None:
    async with await dulproto.serve(ECHO, port=0) as server:
        server.congested = True
        with pytest.raises(AssociationRejected) as caught:
            await connect(server)
        assert (caught.value.result, caught.value.source, caught.value.reason) == (2, 3, 1)
        server.congested = False
        async with connect(server) as association:
            assert await association.c_echo() == 0


async def test_draining_lets_what_runs_end() -> None:
    gated = Gated()
    server = await dulproto.serve(gated.services, port=0)
    association = await connect(server)
    asking = asyncio.ensure_future(find(association))
    await gated.begun.wait()
    closing = asyncio.ensure_future(server.close(drain_seconds=30))
    await asyncio.sleep(0)
    assert not closing.done()
    gated.gate.set()
    assert await asking == [0xFF00, 0]
    await association.release()
    await closing
    assert server.connections == set()


async def test_draining_refuses_those_who_are_connected_and_come_too_late() -> None:
    server = await dulproto.serve(ECHO, port=0)
    reader, writer = await asyncio.open_connection(*server.addresses[0])
    association = await connect(server)  # so the connection before it has been accepted, too
    closing = asyncio.ensure_future(server.close(drain_seconds=30))
    await asyncio.sleep(0)
    writer.write(encode_associate_rq(make_rq()))
    assert await reader.readexactly(10) == encode_associate_rj(AssociateRj(2, 3, 1))
    writer.close()
    await association.release()
    await closing


async def test_after_the_drain_time_what_is_open_is_aborted() -> None:
    gated = Gated()
    server = await dulproto.serve(gated.services, port=0)
    association = await connect(server)
    asking = asyncio.ensure_future(find(association))
    await gated.begun.wait()
    await server.close(drain_seconds=0.01)
    assert server.connections == set()
    with pytest.raises(AssociationAborted, match="the peer aborted by the service-user"):
        await asking


async def test_a_closed_server_does_not_listen() -> None:
    server = await dulproto.serve(ECHO, port=0)
    host, port = server.addresses[0]
    await server.close()
    assert server.addresses == []
    with pytest.raises(ConnectionRefusedError):
        await dulproto.connect(host, port)


async def test_serve_forever_ends_when_it_is_cancelled() -> None:
    async with await dulproto.serve(ECHO, port=0) as server:
        serving = asyncio.ensure_future(server.serve_forever())
        async with connect(server) as association:
            assert await association.c_echo() == 0
        assert not serving.done()
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving


async def test_timers_of_all_connections_are_looked_at() -> None:
    async with await dulproto.serve(ECHO, port=0, limits=Limits(idle=0.02, artim=0.02)) as server:
        associations = [await connect(server) for _ in range(3)]
        for association in associations:
            with pytest.raises(AssociationAborted, match="the peer aborted by the service-user"):
                await association._wait(10, "nothing happened")
        while server.connections:
            server.changed.clear()
            await server.changed.wait()


async def test_a_server_without_any_time_limit_serves() -> None:
    limits = Limits(artim=0, half_pdu=0, idle=0)
    server = await dulproto.serve(ECHO, port=0, limits=limits, stalled_seconds=0)
    async with server, connect(server) as association:
        assert await association.c_echo() == 0


async def test_two_servers_share_a_port_when_asked_to() -> None:
    async with await dulproto.serve(ECHO, port=0, reuse_port=True) as one:
        port = one.addresses[0][1]
        async with await dulproto.serve(ECHO, port=port, reuse_port=True) as other:
            assert other.addresses == one.addresses
            async with connect(other) as association:
                assert await association.c_echo() == 0


async def test_no_host_listens_on_every_interface() -> None:
    server = await dulproto.serve(ECHO, host=None, port=0)
    port = dict(server.addresses)["0.0.0.0"]  # each family has a free port of its own
    async with server, dulproto.connect("127.0.0.1", port) as association:
        assert await association.c_echo() == 0


async def test_associations_beyond_the_most_connections_are_refused_for_now() -> None:
    async with await dulproto.serve(ECHO, port=0, max_connections=2) as server:
        first, _ = await connect(server), await connect(server)
        with pytest.raises(AssociationRejected, match="temporary-congestion"):
            await connect(server)
        await first.release()
        while len(server.connections) > 1:
            server.changed.clear()
            await server.changed.wait()
        async with connect(server) as association:
            assert await association.c_echo() == 0


async def test_both_ends_send_at_once_and_are_kept_alive() -> None:
    services = {dulproto.VERIFICATION: {dulproto.CommandField.C_ECHO_RQ: dulproto.answer_echo}}
    server = await dulproto.serve(services, port=0)
    async with server, dulproto.connect(*server.addresses[0]) as association:
        await association.c_echo()
        (accepted,) = server.connections
        for connection in (association, accepted):
            assert connection.transport is not None
            sock = connection.transport.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


class SharedPlaces(dulproto.Associations):
    """Places that another process takes too: whenever we want one, it has been faster."""

    wants_them = False

    def take(self, ae: str, limit: int) -> bool:
        self[ae] += self.wants_them
        return super().take(ae, limit)


@pytest.mark.parametrize("calling", ["CT1", "CT2"], ids=["by bytes that came before", "by negotiation"])
async def test_the_last_place_that_another_process_takes_meanwhile_is_not_given_twice(calling: str) -> None:
    policy = Policy(abstract_syntaxes={VERIFICATION: (dulproto.IMPLICIT_LE,)}, max_associations=2)
    places = SharedPlaces()
    async with await dulproto.serve(ECHO, port=0, policies={"*": policy}, associations=places) as server:
        await connect(server, calling_ae_title="CT1")
        places.wants_them = True
        with pytest.raises(AssociationRejected, match="local-limit-exceeded"):
            await connect(server, calling_ae_title=calling)
        assert (places["*"], server.accepted["*"], server.refused["associations"]) == (2, 1, 1)
