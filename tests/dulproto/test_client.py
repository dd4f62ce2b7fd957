"""The client over a network in memory: answers, and what each way of a peer to misbehave looks like to the caller."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from typing import Any

import pytest
from pair import echo_rq, make_ac, make_rq
from wire import UNREACHABLE, RawPeer, WireLoop, passes, settle

import dulproto
from dulproto import (
    EXPLICIT_BE,
    MODALITY_WORKLIST_FIND,
    VERIFICATION,
    AssociationAborted,
    AssociationError,
    AssociationRejected,
    AssociationTimeout,
    CommandField,
    CommandSet,
    Element,
    Limits,
    LocalProtocolError,
    Operation,
    ResponseTemplate,
    Timeouts,
    UserIdentity,
    answer_echo,
    decode_command,
    propose,
)
from dulproto.client import QUEUED_RESPONSES
from dulproto.pdu import (
    RELEASE_RP,
    RELEASE_RQ,
    decode_associate_rq,
    encode_associate_ac,
    encode_associate_rj,
)

PORT = 104
HOST = "worklist"
NAME = 0x00100010
KEYS = {NAME: Element(NAME, "PN")}


# --- against our own server -------------------------------------------------------------------------------------


class Worklist:
    """A worklist with so many entries."""

    def __init__(self, entries: int) -> None:
        self.entries = entries
        self.produced = self.closed = 0

    def __call__(self, operation: Operation) -> Iterator[bytes]:
        try:
            for number in range(self.entries):
                self.produced += 1
                yield operation.pending({NAME: Element(NAME, "PN", b"Doe^%06d" % number)})
        finally:
            self.closed += 1


async def serve(worklist: Worklist) -> dulproto.Server:
    services = {
        VERIFICATION: {CommandField.C_ECHO_RQ: answer_echo},
        MODALITY_WORKLIST_FIND: {CommandField.C_FIND_RQ: worklist},
    }
    return await dulproto.serve(services, port=PORT)


async def names(responses: AsyncIterator[tuple[int, Any]]) -> list[bytes]:
    return [entry[NAME].raw async for status, entry in responses if entry is not None]


async def test_echo_and_find_then_release() -> None:
    async with await serve(Worklist(2)) as server:
        async with dulproto.connect(HOST, PORT) as association:
            assert await association.c_echo() == 0
            found = [(status, entry) async for status, entry in association.c_find(KEYS)]
        await settle()
        assert server.connections == set()
    assert [status for status, _ in found] == [0xFF00, 0xFF00, 0]
    assert [entry[NAME].raw for _, entry in found[:2]] == [b"Doe^000000", b"Doe^000001"]
    assert found[2][1] is None


async def test_an_association_can_be_awaited_and_is_released_by_hand() -> None:
    async with await serve(Worklist(0)):
        association = await dulproto.connect(HOST, PORT)
        assert await association.c_echo() == 0
        await association.release()
        await association.release()
        with pytest.raises(AssociationError, match="the association has been released"):
            await association.c_echo()


async def test_all_responses_of_a_long_answer_arrive_in_order_however_slowly_they_are_taken() -> None:
    async with await serve(Worklist(5000)), dulproto.connect(HOST, PORT) as association:
        numbers = []
        async for _, entry in association.c_find(KEYS):
            if entry is not None:
                numbers.append(int(entry[NAME].raw[4:]))
                if len(numbers) % 500 == 0:
                    await passes(1)
    assert numbers == list(range(5000))


async def test_what_the_caller_does_not_take_stops_the_reading(loop: WireLoop) -> None:
    worklist = Worklist(100_000)
    async with await serve(worklist), dulproto.connect(HOST, PORT) as association:
        transport = loop.transports[1]
        transport.kernel = 0
        responses = association.c_find(KEYS)
        await anext(responses)
        await settle(200)
        assert not loop.transports[0].reading
        assert worklist.produced < 10_000
        await responses.aclose()


async def test_leaving_a_find_cancels_it_and_the_next_request_works() -> None:
    worklist = Worklist(100_000)
    async with await serve(worklist), dulproto.connect(HOST, PORT) as association:
        async for _ in association.c_find(KEYS):
            break
        assert await association.c_echo() == 0
        assert worklist.closed == 1
        assert worklist.produced < 100_000
        worklist.entries = 3
        assert len(await names(association.c_find(KEYS))) == 3


async def test_a_find_that_another_request_cut_short_says_so_and_does_not_look_complete() -> None:
    async with await serve(Worklist(5)), dulproto.connect(HOST, PORT) as association:
        responses = association.c_find(KEYS)
        assert (await anext(responses))[0] == 0xFF00
        assert await association.c_echo() == 0
        with pytest.raises(LocalProtocolError, match="another request was made before this one had ended"):
            await anext(responses)
        assert len(await names(association.c_find(KEYS))) == 5


async def test_a_request_may_follow_the_final_response_at_once() -> None:
    async with await serve(Worklist(1)), dulproto.connect(HOST, PORT) as association:
        async for status, _ in association.c_find(KEYS):
            if status == 0:
                assert await association.c_echo() == 0


async def test_closing_a_find_cancels_it_at_once(loop: WireLoop) -> None:
    worklist = Worklist(100_000)
    async with await serve(worklist), dulproto.connect(HOST, PORT) as association:
        async with aclosing(association.c_find(KEYS)) as responses:
            await anext(responses)
        await settle()
        assert worklist.closed == 1


@pytest.mark.parametrize("entries", [10, 100_000])
async def test_leaving_a_find_and_the_association_releases_it(
    entries: int, loop: WireLoop, caplog: pytest.LogCaptureFixture
) -> None:
    begin = loop.time()
    async with await serve(Worklist(entries)) as server:
        async with dulproto.connect(HOST, PORT) as association:
            async for _ in association.c_find(KEYS):
                break
        assert server.associations.total() == 0
    assert loop.time() == begin  # no timeout ended it
    assert caplog.records == []


async def test_release_works_while_reading_is_stopped(loop: WireLoop) -> None:
    begin = loop.time()
    async with await serve(Worklist(100_000)):
        async with dulproto.connect(HOST, PORT) as association:
            responses = association.c_find(KEYS)
            await anext(responses)
            await settle(200)
            assert not loop.transports[0].reading
        assert loop.time() == begin
        await responses.aclose()


async def test_cancel_ends_the_answer_with_fe00() -> None:
    worklist = Worklist(100_000)
    async with await serve(worklist), dulproto.connect(HOST, PORT) as association:
        statuses = set()
        async for status, _ in association.c_find(KEYS):
            if not statuses:
                association.c_cancel()
            statuses.add(status)
        assert statuses == {0xFF00, 0xFE00}
        assert worklist.produced < 100_000
        association.c_cancel()  # none running
        assert await association.c_echo() == 0


async def test_message_ids_go_on_and_start_again_behind_the_last_one() -> None:
    seen: list[int] = []

    def echo(operation: Operation) -> Iterator[bytes]:
        seen.append(operation.message_id)
        yield operation.final()

    async with (
        await dulproto.serve({VERIFICATION: {CommandField.C_ECHO_RQ: echo}}, port=PORT),
        dulproto.connect(HOST, PORT) as association,
    ):
        await association.c_echo()
        await association.c_echo()
        association._last_message_id = 0xFFFF
        await association.c_echo()
    assert seen == [1, 2, 1]


async def test_a_block_that_raises_aborts() -> None:
    async with await serve(Worklist(0)) as server:
        with pytest.raises(KeyError):
            async with dulproto.connect(HOST, PORT):
                raise KeyError
        await settle()
        assert server.connections == set()


async def test_the_context_is_the_first_accepted_one_and_none_is_an_error_of_ours() -> None:
    contexts = propose("1.2.3", MODALITY_WORKLIST_FIND, MODALITY_WORKLIST_FIND)
    async with await serve(Worklist(1)), dulproto.connect(HOST, PORT, contexts=contexts) as association:
        assert association.context_for(MODALITY_WORKLIST_FIND).context_id == 3
        with pytest.raises(LocalProtocolError, match=r"no presentation context for 1\.2\.3"):
            association.context_for("1.2.3")
        with pytest.raises(LocalProtocolError, match="no presentation context"):
            await association.c_echo()
        assert len(await names(association.c_find(KEYS, context=association.contexts[5]))) == 1


async def test_an_identifier_may_be_bytes_and_any_transfer_syntax() -> None:
    contexts = propose(MODALITY_WORKLIST_FIND, transfer_syntaxes=[EXPLICIT_BE])
    async with await serve(Worklist(1)), dulproto.connect(HOST, PORT, contexts=contexts) as association:
        assert await names(association.c_find(bytes.fromhex("0010 0010 504E 0000"))) == [b"Doe^000000"]


async def test_a_request_that_cannot_be_sent_leaves_the_association_usable(loop: WireLoop) -> None:
    begin = loop.time()
    async with await serve(Worklist(1)), dulproto.connect(HOST, PORT) as association:
        command = CommandSet(command_field=CommandField.C_FIND_RQ)
        with pytest.raises(LocalProtocolError, match="C_FIND_RQ needs"):
            await anext(association.request(association.contexts[3], command, b"12"))
        assert await association.c_echo() == 0
    assert loop.time() == begin


# --- against a peer that a test plays ---------------------------------------------------------------------------


class Listener:
    def __init__(self) -> None:
        self.peer = RawPeer()
        self.connected = asyncio.Event()

    async def accepted(self, *, maximum_length: int = 16384) -> RawPeer:
        """Answer the association request."""
        peer = await self.requested()
        peer.send(encode_associate_ac(make_ac(make_rq(maximum_length=maximum_length))))
        return peer

    async def requested(self) -> RawPeer:
        await self.connected.wait()
        await self.peer.pdu()
        return self.peer

    def __call__(self) -> RawPeer:
        self.connected.set()
        return self.peer


@pytest.fixture
async def listener(loop: WireLoop) -> Listener:
    listener = Listener()
    await loop.create_server(listener, HOST, PORT)
    return listener


def connect(**options: Any) -> asyncio.Task[dulproto.ClientAssociation]:
    async def run() -> dulproto.ClientAssociation:
        return await dulproto.connect(HOST, PORT, **options)

    return asyncio.get_running_loop().create_task(run())


def echo_rsp(message_id: int, status: int = 0) -> bytes:
    return ResponseTemplate(1, CommandField.C_ECHO_RQ, VERIFICATION, 16384).final(message_id, status)


def pending(message_id: int) -> bytes:
    return ResponseTemplate(3, CommandField.C_FIND_RQ, MODALITY_WORKLIST_FIND, 16384).pending(message_id, b"")


async def test_the_request_says_what_was_asked_for(listener: Listener) -> None:
    identity = UserIdentity(1, b"nurse")
    opening = connect(called_ae_title="A", calling_ae_title="B", maximum_length=0, user_identity=identity)
    await listener.connected.wait()
    rq = decode_associate_rq(await listener.peer.pdu())
    assert (rq.called_ae_title, rq.calling_ae_title) == ("A", "B")
    assert rq.presentation_contexts == propose(VERIFICATION, MODALITY_WORKLIST_FIND)
    assert rq.user_information.maximum_length == 0
    assert rq.user_information.user_identity == identity
    opening.cancel()


async def test_a_rejection_carries_its_codes_and_their_names(listener: Listener) -> None:
    opening = connect()
    peer = await listener.requested()
    peer.send(encode_associate_rj(dulproto.AssociateRj(2, 3, 2)))
    with pytest.raises(AssociationRejected, match="transient, local-limit-exceeded") as caught:
        await opening
    assert (caught.value.result, caught.value.source, caught.value.reason) == (2, 3, 2)
    await peer.closed()


@pytest.mark.parametrize(
    ("answer", "text", "source", "reason"),
    [
        (bytes.fromhex("07 00 00000004 0000 02 01"), "the peer aborted by the service-provider, unrec", 2, 1),
        (b"HTTP/1.1 400 Bad Request\r\n", "48H is no PDU type: an HTTP client", 2, 1),
        (bytes.fromhex("02 00 00000004 00000000"), "10 bytes are too few", 2, 6),
    ],
)
async def test_an_answer_that_is_none_is_an_abort(
    answer: bytes, text: str, source: int, reason: int, listener: Listener
) -> None:
    opening = connect()
    peer = await listener.requested()
    peer.send(answer)
    with pytest.raises(AssociationAborted, match=text) as caught:
        await opening
    assert (caught.value.source, caught.value.reason) == (source, reason)
    await peer.closed()  # at ARTIM, where the peer does not


async def test_a_peer_that_closes_instead_of_an_answer_is_an_abort(listener: Listener) -> None:
    opening = connect()
    (await listener.requested()).transport.close()
    with pytest.raises(AssociationAborted, match="the peer closed the connection"):
        await opening


async def test_no_answer_to_the_request_is_a_timeout_and_an_abort(listener: Listener, loop: WireLoop) -> None:
    opening = connect(timeouts=Timeouts(associate=7))
    peer = await listener.requested()
    with pytest.raises(AssociationTimeout, match="no answer to the association request within 7 s"):
        await opening
    assert loop.time() == 1007
    assert await peer.pdu() == bytes.fromhex("07 00 00000004 0000 00 00")
    await peer.closed()


async def test_no_connection_is_a_timeout(loop: WireLoop) -> None:
    with pytest.raises(AssociationTimeout, match=f"no connection to {HOST}:{UNREACHABLE} within 5 s"):
        await dulproto.connect(HOST, UNREACHABLE, timeouts=Timeouts(connect=5))
    assert loop.time() == 1005


async def test_a_refused_connection_is_an_os_error() -> None:
    with pytest.raises(ConnectionRefusedError):
        await dulproto.connect(HOST, PORT)


async def test_giving_up_while_the_answer_is_awaited_aborts(listener: Listener) -> None:
    opening = connect()
    peer = await listener.requested()
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert await peer.pdu() == bytes.fromhex("07 00 00000004 0000 00 00")


async def test_no_response_is_a_timeout_and_an_abort(listener: Listener, loop: WireLoop) -> None:
    opening = connect(timeouts=Timeouts(response=9))
    peer = await listener.accepted()
    association = await opening
    with pytest.raises(AssociationTimeout, match="no response within 9 s"):
        await association.c_echo()
    assert loop.time() == 1009
    await peer.pdu()
    assert await peer.pdu() == bytes.fromhex("07 00 00000004 0000 00 00")
    with pytest.raises(AssociationAborted, match="we aborted the association"):
        await association.c_echo()


async def test_the_time_allowed_is_for_each_response(listener: Listener) -> None:
    opening = connect(timeouts=Timeouts(response=9))
    peer = await listener.accepted()
    association = await opening
    found = asyncio.ensure_future(names(association.c_find(KEYS)))
    for _ in range(3):
        await passes(8)
        peer.send(pending(1))
    await passes(8)
    assert not found.done()
    with pytest.raises(AssociationTimeout):
        await found


@pytest.mark.parametrize(
    ("end", "text"),
    [
        (lambda peer: peer.send(bytes.fromhex("07 00 00000004 0000 00 00")), "the peer aborted by the service-user"),
        (lambda peer: peer.transport.close(), "the peer closed the connection"),
        (lambda peer: peer.transport.abort(), "the peer closed the connection"),
        (lambda peer: peer.send(RELEASE_RQ), "the peer released the association"),
        (lambda peer: peer.send(RELEASE_RQ + RELEASE_RQ), "the peer released|RELEASE_RQ in state"),
        (lambda peer: peer.send(RELEASE_RQ + bytes.fromhex("07 00 00000004 0000 00 00")), "the peer"),
        (lambda peer: peer.send(bytes(6)), "00H is no PDU type"),
    ],
)
async def test_an_association_that_ends_while_a_response_is_awaited_says_how(
    end: Callable[[RawPeer], None], text: str, listener: Listener, loop: WireLoop, caplog: pytest.LogCaptureFixture
) -> None:
    opening = connect()
    peer = await listener.accepted()
    association = await opening
    echo = asyncio.ensure_future(association.c_echo())
    await settle()
    end(peer)
    with pytest.raises(AssociationError, match=text):
        await echo
    assert loop.time() == 1000
    await passes(60)
    assert peer.lost
    assert caplog.records == []


async def test_what_was_received_before_the_end_is_still_given(listener: Listener) -> None:
    opening = connect()
    peer = await listener.accepted()
    association = await opening
    responses = association.c_find(KEYS)
    first = asyncio.ensure_future(anext(responses))
    await settle()
    peer.send(pending(1) * 3 + bytes.fromhex("07 00 00000004 0000 00 00"))
    assert (await first)[0] == 0xFF00
    assert (await anext(responses))[0] == 0xFF00
    assert (await anext(responses))[0] == 0xFF00
    with pytest.raises(AssociationAborted, match="by the service-user"):
        await anext(responses)


async def test_two_tasks_cannot_make_requests_at_once(listener: Listener) -> None:
    opening = connect()
    peer = await listener.accepted()
    association = await opening
    first = asyncio.ensure_future(association.c_echo())
    await peer.pdu()
    with pytest.raises(LocalProtocolError, match="one at a time"):
        await association.c_echo()
    peer.send(echo_rsp(1))
    assert await first == 0
    association.abort()


async def test_a_response_to_another_request_is_passed_over(listener: Listener) -> None:
    opening = connect()
    peer = await listener.accepted()
    association = await opening
    echo = asyncio.ensure_future(association.c_echo())
    await settle()
    peer.send(echo_rsp(77, 0x0110) + echo_rsp(1, 0x0122))
    assert await echo == 0x0122


async def test_a_request_of_the_peer_is_passed_over(listener: Listener) -> None:
    opening = connect()
    peer = await listener.accepted()
    association = await opening
    echo = asyncio.ensure_future(association.c_echo())
    await settle()
    peer.send(echo_rq(1) + echo_rsp(1))
    assert await echo == 0


async def test_no_answer_to_a_release_is_a_timeout(listener: Listener, loop: WireLoop) -> None:
    opening = connect(timeouts=Timeouts(release=4))
    peer = await listener.accepted()
    association = await opening
    with pytest.raises(AssociationTimeout, match="no answer to the release request within 4 s"):
        await association.release()
    assert loop.time() == 1004
    assert await peer.pdu() == RELEASE_RQ
    await peer.closed()


@pytest.mark.parametrize("how", ["close", "abort", "release"])
async def test_a_peer_that_just_goes_when_it_is_released_is_no_error(how: str, listener: Listener) -> None:
    opening = connect()
    peer = await listener.accepted()
    association = await opening
    release = asyncio.ensure_future(association.release())
    assert await peer.pdu() == RELEASE_RQ
    peer.send({"close": b"", "abort": bytes.fromhex("07 00 00000004 0000 00 00"), "release": RELEASE_RP}[how])
    if how == "close":
        peer.transport.close()
    await release
    await peer.closed()


async def test_a_release_collision_ends_in_order(listener: Listener, loop: WireLoop) -> None:
    opening = connect()
    peer = await listener.accepted()
    association = await opening
    release = asyncio.ensure_future(association.release())
    assert await peer.pdu() == RELEASE_RQ
    peer.send(RELEASE_RQ)
    assert await peer.pdu() == RELEASE_RP
    peer.send(RELEASE_RP)
    await release
    assert loop.time() == 1000


async def test_a_peer_that_releases_and_does_not_close_is_closed_at_artim(listener: Listener, loop: WireLoop) -> None:
    opening = connect(limits=Limits(artim=11, idle=0))
    peer = await listener.accepted()
    await opening
    peer.send(RELEASE_RQ)
    assert await peer.pdu() == RELEASE_RP
    await peer.closed()
    assert loop.time() == 1011


async def test_a_cancel_names_its_request(listener: Listener) -> None:
    opening = connect()
    peer = await listener.accepted()
    association = await opening
    responses = association.c_find(KEYS)
    first = asyncio.ensure_future(anext(responses))
    await settle()
    peer.received.clear()
    peer.send(pending(1))
    await first
    await responses.aclose()
    data = await peer.pdu()
    command = decode_command(data[12:])
    assert (command.command_field, command.message_id_being_responded_to) == (CommandField.C_CANCEL_RQ, 1)
    assert data[10] == 3


async def test_leaving_an_association_that_has_ended_is_quiet(
    listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    opening = connect()
    peer = await listener.accepted()
    association = await opening
    responses = association.c_find(KEYS)
    first = asyncio.ensure_future(anext(responses))
    await settle()
    peer.send(pending(1) + RELEASE_RQ)
    await first
    await responses.aclose()
    await settle()
    assert caplog.records == []


async def test_a_peer_that_can_receive_nothing_is_an_error_of_ours(listener: Listener) -> None:
    opening = connect()
    await listener.accepted(maximum_length=4)
    association = await opening
    with pytest.raises(LocalProtocolError, match="at most 4 bytes"):
        await association.c_echo()


async def test_nothing_is_logged_of_what_an_answer_holds(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        async with await serve(Worklist(QUEUED_RESPONSES)), dulproto.connect(HOST, PORT) as association:
            await names(association.c_find(KEYS))
    assert "Doe" not in caplog.text
