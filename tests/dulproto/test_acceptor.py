"""The acceptor over a network in memory: negotiation, and every way in which an association ends."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from conversation import FINDS, PORT, Find, associate, connect, messages, serve
from pair import POLICY, cancel_rq, echo_rq, find_rq, make_rq
from wire import RawPeer, WireLoop, passes, settle

import dulproto
from dulproto import (
    VERIFICATION,
    Limits,
    Message,
    Policy,
    ProposedContext,
    Rejected,
    Released,
    State,
)
from dulproto.pdu import RELEASE_RQ, encode_associate_rq

ABORT_PDU = bytes.fromhex("07 00 00000004 0000 00 00")


# --- the end of an association ----------------------------------------------------------------------------------


@pytest.mark.parametrize("find", FINDS)
async def test_a_release_while_answering_stops_the_answer_and_is_answered(find: type[Find]) -> None:
    handler = find(100_000)
    async with await serve(handler) as server:
        peer = await associate()
        peer.send(find_rq(1, b"12"))
        await peer.event()
        peer.release()
        await peer.until(lambda: isinstance(peer.events[-1], Released))
        await settle()
        assert handler.closed == 1
        assert server.associations.total() == 0


@pytest.mark.parametrize("find", FINDS)
@pytest.mark.parametrize("how", ["abort", "close", "reset"])
async def test_a_peer_that_goes_while_it_is_answered_closes_the_handler(
    find: type[Find], how: str, caplog: pytest.LogCaptureFixture
) -> None:
    handler = find(100_000)
    with caplog.at_level(logging.INFO):
        async with await serve(handler) as server:
            peer = await associate()
            peer.send(find_rq(1, b"12"))
            await peer.event()
            if how == "abort":
                peer.send(ABORT_PDU)
            elif how == "close":
                peer.transport.close()
            else:
                peer.transport.abort()
            await server.changed.wait()
            await settle()
            assert handler.closed == 1
            assert server.connections == set()
    assert messages(caplog, logging.WARNING) == []  # a normal end
    assert len([line for line in messages(caplog) if "ended" in line]) == 1


async def test_what_a_peer_asks_before_it_goes_in_the_same_breath_is_not_answered() -> None:
    async with await serve(Find(100_000)) as server:
        peer = await associate()
        peer.send(find_rq(1, b"12") + ABORT_PDU)
        await peer.closed()
        await settle()
        assert server.connections == set()
        assert peer.events == []


@pytest.mark.parametrize("behind", [echo_rq(), RELEASE_RQ, bytes([9, 0, 0, 0, 0, 0]), ABORT_PDU])
async def test_a_release_request_with_something_behind_it_ends_the_association(
    behind: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with await serve() as server:
        peer = await associate()
        peer.send(RELEASE_RQ + behind)
        await server.changed.wait()
        assert server.associations.total() == 0
        if behind != ABORT_PDU:
            assert (await peer.event()).source == 2
    assert [record for record in caplog.records if record.name == "asyncio"] == []


async def test_a_cancel_followed_by_a_release_at_once_ends_in_order(caplog: pytest.LogCaptureFixture) -> None:
    handler = Find(100_000)
    with caplog.at_level(logging.INFO):
        async with await serve(handler):
            peer = await associate()
            peer.send(find_rq(1, b"12"))
            await peer.event()
            peer.send(cancel_rq(1))
            peer.release()
            await peer.until(lambda: isinstance(peer.events[-1], Released))
    statuses = [event.command.status for event in peer.events[:-1]]
    assert set(statuses[:-1]) == {0xFF00}
    assert statuses[-1] == 0xFE00
    assert handler.closed == 1
    assert messages(caplog) == ["10.0.0.1 CT1 -> WORKLIST ended: released, 1 operations"]


async def test_a_place_is_free_when_the_association_has_ended_not_when_its_socket_is_closed() -> None:
    policy = Policy(abstract_syntaxes=POLICY.abstract_syntaxes, max_associations=5)
    async with await serve(policies={"WORKLIST": policy}) as server:
        peers = [await associate() for _ in range(5)]
        sixth = await connect()
        event = await sixth.event()
        assert isinstance(event, Rejected)
        assert (event.rj.result, event.rj.source, event.rj.reason) == (2, 3, 2)
        peers[0].send(RELEASE_RQ)
        peers[0].association.release()
        assert isinstance(await peers[0].event(), Released)
        assert not peers[0].lost
        await associate()
        for peer in peers[1:]:
            peer.send(echo_rq(1))
            assert await peer.answers() == [(1, 0)]
        assert server.associations.total() == 5


async def test_an_ended_association_is_closed_at_artim_when_the_peer_does_not() -> None:
    async with await serve(limits=Limits(artim=30)) as server:
        peer = await associate()
        peer.release()
        await peer.event()
        await passes(29)
        assert not peer.lost
        await passes(2)
        assert peer.lost
        assert server.connections == set()


async def test_an_idle_association_is_aborted_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        async with await serve(limits=Limits(idle=60)):
            peer = await associate()
            await passes(62)
            assert (await peer.event()).source == 0
    assert "10.0.0.1 CT1 -> WORKLIST ended: idle for 60 s, 0 operations" in messages(caplog)


@pytest.mark.parametrize("data", [b"", encode_associate_rq(make_rq())[:100]])
async def test_a_peer_that_makes_no_request_is_closed_at_artim_and_leaves_a_line(
    data: bytes, loop: WireLoop, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        async with await serve(limits=Limits(artim=30)):
            _, peer = await loop.create_connection(RawPeer, "worklist", PORT)
            peer.send(data)
            await passes(29)
            assert not peer.lost
            await passes(2)
            assert peer.lost
            assert peer.received == b""
    assert messages(caplog) == ["10.0.0.1 closed: no association request within 30 s"]


# --- negotiation ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policies", "codes"),
    [
        ({"OTHER": POLICY}, (1, 1, 7)),
        ({"WORKLIST": Policy(abstract_syntaxes={}, check_requestor=lambda host, title: "unknown host")}, (1, 1, 3)),
    ],
)
async def test_a_refusal_is_answered_logged_and_closed_at_artim(
    policies: Any, codes: tuple[int, int, int], caplog: pytest.LogCaptureFixture
) -> None:
    async with await serve(policies=policies):
        peer = await connect()
        event = await peer.event()
        assert (event.rj.result, event.rj.source, event.rj.reason) == codes
        await passes(32)
        assert peer.lost
    (line,) = messages(caplog, logging.WARNING)
    assert line.startswith("10.0.0.1 CT1 -> WORKLIST refused: call")


async def test_an_even_context_id_is_aborted(caplog: pytest.LogCaptureFixture) -> None:
    async with await serve() as server:
        peer = await connect(contexts=(ProposedContext(2, VERIFICATION, ("1.2.840.10008.1.2",)),))
        assert (await peer.event()).source == 0
        assert server.associations.total() == 0
    assert "context id 2 is even" in caplog.text


async def test_an_association_request_is_accepted_in_every_cut(loop: WireLoop) -> None:
    request = encode_associate_rq(make_rq())
    async with await serve() as server:
        for at in range(1, len(request)):
            _, peer = await loop.create_connection(RawPeer, "worklist", PORT)
            peer.send(request[:at])
            await settle(2)
            peer.send(request[at:])
            assert (await peer.pdu())[0] == 2
            peer.send(echo_rq(7))
            assert (await peer.pdu())[0] == 4
            assert server.profiles.get(request[at:]) is None  # it is no request


async def test_a_request_with_garbage_behind_it_is_aborted_and_takes_no_place(loop: WireLoop) -> None:
    async with await serve() as server:
        _, peer = await loop.create_connection(RawPeer, "worklist", PORT)
        peer.send(encode_associate_rq(make_rq()) + echo_rq())
        assert await peer.pdu() == bytes.fromhex("07 00 00000004 0000 02 02")
        assert server.associations.total() == 0


async def test_a_title_cannot_break_the_line_of_the_log(loop: WireLoop, caplog: pytest.LogCaptureFixture) -> None:
    data = encode_associate_rq(make_rq()).replace(b"CT1   ", b"C\nT\x1b[2")
    with caplog.at_level(logging.INFO):
        async with await serve(policies={"OTHER": POLICY}):
            _, peer = await loop.create_connection(RawPeer, "worklist", PORT)
            peer.send(data)
            await peer.pdu()
    for line in messages(caplog):
        assert line.isprintable()


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "10.0.0.1 aborted: 47H is no PDU type: an HTTP client [PDU-type at byte 0]"),
        (echo_rq(), "10.0.0.1 aborted: P_DATA_TF in state AWAIT_ASSOCIATE_RQ [PDU-type at byte 0]"),
    ],
)
async def test_a_stranger_leaves_one_line_in_the_log(
    data: bytes, line: str, loop: WireLoop, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        async with await serve():
            _, peer = await loop.create_connection(RawPeer, "worklist", PORT)
            peer.send(data)
            assert await peer.pdu() == ABORT_PDU
            peer.transport.close()
            await peer.closed()
    assert messages(caplog) == [line]


async def test_a_broken_message_leaves_one_line_with_field_and_offset_and_no_patient(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO):
        async with await serve():
            peer = await associate()
            peer.send(
                find_rq(1, b"Doe^Jane") + find_rq(2, b"Doe^Jane")[:-14] + bytes.fromhex("00000001") + b"Doe^Jane"
            )
            while not isinstance(event := await peer.event(), dulproto.Aborted):
                assert isinstance(event, Message)
    (line,) = messages(caplog, logging.WARNING)
    fault = "PDV length 1 does not fit the PDU [PDV-item-length at byte 6]"
    assert line == f"10.0.0.1 CT1 -> WORKLIST ended: {fault}, 1 operations"
    assert "Doe" not in caplog.text


async def test_an_association_leaves_one_line_with_peer_titles_outcome_and_operations(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO):
        async with await serve():
            peer = await associate()
            peer.send(echo_rq(1) + find_rq(2, b"12"))
            await peer.answers(2)
            peer.release()
            await peer.event()
            assert peer.association.state is State.IDLE
            peer.transport.close()
            await peer.closed()
            await settle()
    assert messages(caplog) == ["10.0.0.1 CT1 -> WORKLIST ended: released, 2 operations"]


async def test_a_check_of_a_policy_that_raises_refuses_for_now_and_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def check(host: str, calling: str) -> str | None:
        raise ValueError("secret")

    syntaxes = {dulproto.VERIFICATION: (dulproto.IMPLICIT_LE,)}
    policies = {"*": dulproto.Policy(abstract_syntaxes=syntaxes, check_requestor=check)}
    async with await dulproto.serve({}, port=PORT, policies=policies):
        with pytest.raises(dulproto.AssociationRejected, match="2/3/1"):
            await dulproto.connect("worklist", PORT)
    assert "ValueError in " in caplog.text
    assert "secret" not in caplog.text
