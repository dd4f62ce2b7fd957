"""Requests over a network in memory: one after the other, answers in turns, cancelled, slowly read, failing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from conversation import FINDS, SIZE, AsyncFind, Find, associate, connect, messages, serve, wire_of
from pair import cancel_rq, echo_rq, find_rq
from wire import HIGH_WATER, WireLoop, passes, settle

from dulproto import (
    MODALITY_WORKLIST_FIND,
    VERIFICATION,
    Accepted,
    Answer,
    CommandField,
    CommandSet,
    Operation,
    Status,
    encode_message,
)
from dulproto.requests import QUEUED_MESSAGES, TURN_BYTES

# --- answers ----------------------------------------------------------------------------------------------------


async def test_an_echo_is_answered_with_success() -> None:
    async with await serve():
        peer = await associate()
        peer.send(echo_rq(7))
        assert await peer.answers() == [(7, 0)]


@pytest.mark.parametrize("find", FINDS)
async def test_each_match_is_pending_and_the_last_response_is_success(find: type[Find]) -> None:
    handler = find(3)
    async with await serve(handler):
        peer = await associate()
        peer.send(find_rq(9, b"12"))
        assert await peer.answers() == [(9, 0xFF00)] * 3 + [(9, 0)]
        assert handler.closed == 1


@pytest.mark.parametrize("find", FINDS)
async def test_no_match_is_one_success(find: type[Find]) -> None:
    async with await serve(find(0)):
        peer = await associate()
        peer.send(find_rq(9, b"12"))
        assert await peer.answers() == [(9, 0)]


async def test_a_handler_may_return_a_list() -> None:
    async with await serve(lambda operation: [operation.pending(b"12")]):
        peer = await associate()
        peer.send(find_rq(9, b"12"))
        assert await peer.answers() == [(9, 0xFF00), (9, 0)]


async def test_an_async_iterable_need_not_be_a_generator() -> None:
    class Once:
        def __init__(self, operation: Operation) -> None:
            self.left = [operation.pending(b"12")]

        def __aiter__(self) -> Once:
            return self

        async def __anext__(self) -> bytes:
            if not self.left:
                raise StopAsyncIteration
            return self.left.pop()

    async with await serve(Once):
        peer = await associate()
        peer.send(find_rq(9, b"12"))
        assert await peer.answers() == [(9, 0xFF00), (9, 0)]


async def test_a_handler_may_end_with_a_status_of_its_own() -> None:
    def find(operation: Operation) -> Iterator[bytes]:
        yield operation.final(Status.OUT_OF_RESOURCES, error_comment="too many")

    async with await serve(find):
        peer = await associate()
        peer.send(find_rq(9, b"12") + echo_rq(10))
        assert await peer.answers(2) == [(9, 0xA700), (10, 0)]


async def test_an_operation_knows_who_asks_whom_for_what() -> None:
    seen: list[Operation] = []

    def find(operation: Operation) -> list[bytes]:
        seen.append(operation)
        return []

    async with await serve(find):
        peer = await associate()
        peer.send(find_rq(9, b"12"))
        await peer.answers()
    (operation,) = seen
    assert (operation.calling_ae_title, operation.called_ae_title) == ("CT1", "WORKLIST")
    assert operation.requestor.host == "10.0.0.1"
    assert (operation.message_id, operation.message.data) == (9, b"12")


@pytest.mark.parametrize(
    ("field", "context_id", "status"),
    [
        (CommandField.C_STORE_RQ, 3, 0x0211),
        (CommandField.N_CREATE_RQ, 3, 0x0211),
        (0x0555, 3, 0x0211),
        (CommandField.C_FIND_RQ, 1, 0x0122),
        (CommandField.C_ECHO_RQ, 3, 0x0000),
    ],
)
async def test_what_a_context_is_not_for_is_refused_with_a_status(field: int, context_id: int, status: int) -> None:
    syntax = {1: VERIFICATION, 3: MODALITY_WORKLIST_FIND}[context_id]
    command = CommandSet(
        command_field=field,
        affected_sop_class_uid=syntax,
        message_id=5,
        priority=0,
        affected_sop_instance_uid="1.2.3",
        command_data_set_type=0x0102,
    )
    async with await serve():
        peer = await associate()
        peer.send(encode_message(context_id, command, b"1234", 0))
        message = await peer.event()
        assert message.command.status == status
        assert message.command.command_field == field | 0x8000
        assert message.context_id == context_id
        peer.send(echo_rq(6))  # the data set was read and dropped
        assert await peer.answers() == [(6, 0)]


async def test_a_sop_class_that_is_not_the_contexts_is_refused() -> None:
    command = CommandSet(
        command_field=CommandField.C_FIND_RQ, affected_sop_class_uid="1.2.3", message_id=5, priority=0
    )
    async with await serve():
        peer = await associate()
        peer.send(encode_message(3, command, b"", 0))
        assert await peer.answers() == [(5, 0x0122)]


async def test_a_request_without_message_id_is_answered_as_0() -> None:
    without = bytes.fromhex("00000001 02000000 3000 00000008 02000000 0101")
    size = len(without)
    async with await serve():
        peer = await associate()
        peer.send(b"\4\0" + (size + 6).to_bytes(4, "big") + (size + 2).to_bytes(4, "big") + b"\1\3" + without)
        assert await peer.answers() == [(0, 0)]


async def test_a_response_to_nothing_is_ignored_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    response = CommandSet(command_field=CommandField.C_ECHO_RSP, message_id_being_responded_to=3, status=0)
    with caplog.at_level(logging.INFO):
        async with await serve():
            peer = await associate()
            peer.send(encode_message(1, response, b"", 0) + echo_rq(4))
            assert await peer.answers() == [(4, 0)]
    assert "10.0.0.1 sent a response to nothing, 8030H: ignored" in messages(caplog)


async def test_a_p_data_longer_than_announced_leaves_a_line_and_is_answered(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        async with await serve():
            peer = await associate(maximum_length=1000)
            peer.send(find_rq(9, bytes(2000)))
            assert await peer.finals() == [(9, 0)]
    fault = "P_DATA_TF of 2006 bytes, more than the 1000 announced [PDU-length at byte 2]"
    assert f"10.0.0.1 CT1: {fault}" in messages(caplog)


# --- turns ------------------------------------------------------------------------------------------------------

PER_TURN = TURN_BYTES // SIZE + 1  # matches of SIZE bytes in one turn, at most


async def most_in_a_turn(find: Find) -> int:
    """Run the loop turn by turn to the end of the answer; return the most matches made in one of them."""
    most, before, closed = 0, find.produced, find.closed
    while find.closed == closed:
        await settle(1)
        most, before = max(most, find.produced - before), find.produced
    return most


@pytest.mark.parametrize("find", FINDS)
async def test_an_answer_takes_no_more_than_its_share_of_a_turn(find: type[Find]) -> None:
    handler = find(2000)
    async with await serve(handler):
        peer = await associate()
        wire_of(peer).kernel = 1 << 30  # the connection never fills
        peer.send(find_rq(1, b"12"))
        assert await most_in_a_turn(handler) <= PER_TURN
        assert (await peer.finals()) == [(1, 0)]


@pytest.mark.parametrize("find", FINDS)
async def test_others_are_served_between_the_turns_of_a_long_answer(find: type[Find]) -> None:
    handler = find(5000)
    async with await serve(handler):
        slow, quick = await associate(), await associate()
        wire_of(slow).kernel = 1 << 30
        slow.send(find_rq(1, b"12"))
        for message_id in range(10):
            quick.send(echo_rq(message_id))
            assert await quick.answers() == [(message_id, 0)]
        assert 0 < handler.produced < 5000
        assert (await slow.finals()) == [(1, 0)]


async def test_an_answer_behind_a_cancelled_one_has_one_share_of_a_turn() -> None:
    handler = Find(2000)
    async with await serve(handler):
        peer = await associate()
        wire_of(peer).kernel = 1 << 30
        for message_id in range(1, 6):  # each leaves a turn behind that it does not need any more
            peer.send(find_rq(message_id, b"12") + cancel_rq(message_id))
        peer.send(find_rq(9, b"12"))
        await peer.finals(5)
        assert await most_in_a_turn(handler) <= PER_TURN


async def test_a_connection_that_empties_between_turns_adds_no_turn() -> None:
    handler = Find(2000)
    async with await serve(handler) as server:
        peer = await associate()
        wire_of(peer).kernel = 1 << 30
        peer.send(find_rq(1, b"12"))
        (acceptor,) = server.connections
        await settle(5)
        for _ in range(5):
            acceptor.pause_writing()
            acceptor.resume_writing()
        assert await most_in_a_turn(handler) <= PER_TURN


# --- a peer that reads slowly -----------------------------------------------------------------------------------


@pytest.mark.parametrize("find", FINDS)
async def test_a_peer_that_does_not_read_stops_the_answer_and_one_that_reads_again_gets_it_all(
    find: type[Find],
) -> None:
    handler = find(2000)
    async with await serve(handler):
        peer = await associate()
        wire = wire_of(peer)
        wire.kernel = 0
        peer.transport.pause_reading()
        peer.send(find_rq(1, b"12"))
        await settle(100)
        assert wire.get_write_buffer_size() <= HIGH_WATER + TURN_BYTES + 2 * SIZE
        stopped_at = handler.produced
        assert stopped_at <= 2 * PER_TURN
        await settle(100)
        assert handler.produced == stopped_at
        peer.transport.resume_reading()
        assert len(await peer.answers()) == 2001


@pytest.mark.parametrize("find", FINDS)
async def test_a_cancel_is_seen_while_the_peer_does_not_read(find: type[Find]) -> None:
    handler = find(2000)
    async with await serve(handler):
        peer = await associate()
        wire_of(peer).kernel = 0
        peer.transport.pause_reading()
        peer.send(find_rq(1, b"12"))
        await settle()
        peer.send(cancel_rq(1))
        await settle()
        assert handler.closed == 1
        peer.transport.resume_reading()
        assert await peer.finals() == [(1, 0xFE00)]


@pytest.mark.parametrize("find", FINDS)
async def test_a_peer_that_leaves_an_answer_unread_is_cut_off(
    find: type[Find], caplog: pytest.LogCaptureFixture
) -> None:
    handler = find(2000)
    async with await serve(handler) as server:
        peer = await associate()
        wire_of(peer).kernel = 0
        peer.transport.pause_reading()
        peer.send(find_rq(1, b"12"))
        await passes(59)
        assert len(server.connections) == 1
        await passes(3)
        assert server.connections == set()
        assert server.associations.total() == 0
        assert handler.closed == 1
    assert messages(caplog, logging.WARNING) == [
        "10.0.0.1 CT1 -> WORKLIST ended: an answer was left unread, 1 operations"
    ]


async def test_a_peer_that_reads_now_and_then_is_not_cut_off() -> None:
    handler = Find(2000)
    async with await serve(handler) as server:
        peer = await associate()
        wire_of(peer).kernel = 0
        peer.send(find_rq(1, b"12"))
        for _ in range(5):
            peer.transport.pause_reading()
            await passes(50)
            peer.transport.resume_reading()
            await passes(1)
        assert len(server.connections) == 1
        assert (await peer.finals()) == [(1, 0)]


async def test_stalled_seconds_of_0_never_cut_off() -> None:
    async with await serve(Find(2000), stalled_seconds=0) as server:
        peer = await associate()
        wire_of(peer).kernel = 0
        peer.transport.pause_reading()
        peer.send(find_rq(1, b"12"))
        await passes(500)
        assert len(server.connections) == 1


# --- C-CANCEL ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("find", FINDS)
async def test_a_cancel_ends_the_answer_with_fe00_and_closes_the_handler(find: type[Find]) -> None:
    handler = find(100_000)
    async with await serve(handler):
        peer = await associate()
        peer.send(find_rq(5, b"12"))
        await peer.until(lambda: len(peer.events) > 200)
        peer.send(cancel_rq(5) + echo_rq(6))
        assert await peer.finals(2) == [(5, 0xFE00), (6, 0)]
        await settle()
        assert handler.closed == 1
        assert handler.produced < 100_000


async def test_a_cancel_of_a_handler_that_waits_ends_it() -> None:
    handler = AsyncFind(gate=asyncio.Semaphore(1))
    async with await serve(handler):
        peer = await associate()
        peer.send(find_rq(5, b"12"))
        assert (await peer.event()).command.status == Status.PENDING
        peer.send(cancel_rq(5))
        assert await peer.answers() == [(5, 0xFE00)]
    assert handler.closed == 1


async def test_a_cancel_of_a_queued_request_leaves_the_others_alone() -> None:
    handler = Find(500)
    async with await serve(handler):
        peer = await associate()
        peer.send(find_rq(1, b"12") + find_rq(2, b"12") + find_rq(3, b"12") + cancel_rq(2))
        assert await peer.finals(3) == [(2, 0xFE00), (1, 0), (3, 0)]
    assert handler.produced == 1000


@pytest.mark.parametrize("message_id", [1, 2, 0xFFFF])
async def test_a_cancel_that_comes_too_late_or_names_nothing_is_ignored(message_id: int) -> None:
    async with await serve():
        peer = await associate()
        peer.send(find_rq(1, b"12"))
        await peer.answers()
        peer.send(cancel_rq(message_id))
        await settle()
        assert peer.events == []
        peer.send(echo_rq(3))
        assert await peer.answers() == [(3, 0)]


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_cancel_behind_the_final_response_brings_no_second_one(is_async: bool) -> None:
    gate = asyncio.Event()

    def find(operation: Operation) -> Iterator[bytes]:
        yield operation.final(Status.OUT_OF_RESOURCES)
        yield b""  # what a handler still has to do

    async def find_async(operation: Operation) -> AsyncIterator[bytes]:
        yield operation.final(Status.OUT_OF_RESOURCES)
        await gate.wait()

    async with await serve(find_async if is_async else find):
        peer = await associate()
        peer.send(find_rq(1, b"12"))
        assert await peer.answers() == [(1, 0xA700)]
        peer.send(cancel_rq(1) + echo_rq(2))
        assert await peer.answers() == [(2, 0)]


# --- several requests at once -----------------------------------------------------------------------------------


@pytest.mark.parametrize("find", FINDS)
async def test_pipelined_requests_are_answered_one_after_the_other(find: type[Find]) -> None:
    async with await serve(find(200)):
        peer = await associate()
        peer.send(find_rq(3, b"12") + find_rq(1, b"12") + echo_rq(2))
        answers = await peer.answers(3)
    assert answers == [(3, 0xFF00)] * 200 + [(3, 0)] + [(1, 0xFF00)] * 200 + [(1, 0), (2, 0)]


async def test_a_message_id_that_is_outstanding_is_a_duplicate_invocation() -> None:
    async with await serve(AsyncFind(1, gate=asyncio.Semaphore(0))):
        peer = await associate()
        peer.send(find_rq(1, b"12") + find_rq(2, b"12") + echo_rq(1) + echo_rq(2))
        assert await peer.answers(2) == [(1, 0x0210), (2, 0x0210)]


async def test_a_message_id_may_come_again_after_its_final_response() -> None:
    async with await serve():
        peer = await associate()
        for _ in range(3):
            peer.send(echo_rq(1))
            assert await peer.answers() == [(1, 0)]


async def test_a_flood_of_requests_stops_reading_and_is_answered_in_order() -> None:
    gate = asyncio.Semaphore(0)
    async with await serve(AsyncFind(1, gate=gate)) as server:
        peer = await associate()
        (acceptor,) = server.connections
        count = 5000
        peer.send(find_rq(1, b"12"))
        for message_id in range(2, count):
            peer.send(echo_rq(message_id))
        await settle(100)
        assert not wire_of(peer).reading
        gate.release()
        most = 0
        answers: list[tuple[int, int]] = []
        while len(answers) < count:
            answers += await peer.answers()
            most = max(most, len(acceptor._requests.queue) if acceptor._requests else 0)
        assert [message_id for message_id, status in answers if status == 0] == list(range(1, count))
        assert wire_of(peer).reading
    one_read = (256 << 10) // len(echo_rq(1)) + 1
    assert most <= QUEUED_MESSAGES + one_read


async def test_requests_of_many_bytes_stop_reading_too() -> None:
    gate = asyncio.Semaphore(0)
    async with await serve(AsyncFind(1, gate=gate)):
        peer = await associate()
        for message_id in range(1, 8):
            peer.send(find_rq(message_id, bytes(900_000)))
        await settle(100)
        assert not wire_of(peer).reading
        for _ in range(7):
            gate.release()
        assert await peer.finals(7) == [(message_id, 0) for message_id in range(1, 8)]
        assert wire_of(peer).reading


async def test_a_peer_that_asks_twice_for_ever_and_never_reads_takes_no_memory() -> None:
    async with await serve(AsyncFind(1, gate=asyncio.Semaphore(0))):
        peer = await associate()
        wire = wire_of(peer)
        wire.kernel = 0
        peer.transport.pause_reading()
        peer.send(find_rq(1, b"12"))
        for _ in range(40):
            peer.send(echo_rq(1) * 1000)
            await settle(10)
        one_read = (256 << 10) // len(echo_rq(1)) * 200
        assert wire.get_write_buffer_size() < HIGH_WATER + one_read
        peer.transport.resume_reading()
        assert set(await peer.answers(40_000)) == {(1, 0x0210)}


async def test_a_peer_that_asks_for_ever_and_never_reads_gets_one_whole_answer_more_than_the_buffer_takes() -> None:
    asked = 0

    def find(operation: Operation) -> Answer:
        nonlocal asked
        asked += 1
        identifiers = [bytes(SIZE)] * 100
        return Answer(operation.template.segments(identifiers, Status.PENDING, Status.SUCCESS), Status.SUCCESS)

    async with await serve(find):
        peer = await associate()
        wire = wire_of(peer)
        wire.kernel = 0
        peer.transport.pause_reading()
        for start in range(1, 4001, 100):
            peer.send(b"".join(find_rq(n, b"12") for n in range(start, start + 100)))
            await settle(10)
        assert asked == 1
        assert wire.get_write_buffer_size() < HIGH_WATER + 110 * SIZE
        peer.transport.resume_reading()
        assert await peer.finals(4000) == [(n, 0) for n in range(1, 4001)]


def _whole(operation: Operation) -> Answer:
    return Answer(operation.template.segments((), Status.PENDING, Status.SUCCESS), Status.SUCCESS)


def _raises(operation: Operation) -> list[bytes]:
    raise ValueError


@pytest.mark.parametrize(
    ("answer", "cancelled", "status"),
    [
        (_whole, False, 0),
        (Find(1), False, 0),
        (lambda operation: [], False, 0),
        (_raises, False, 0xC000),
        (Find(100_000), True, 0xFE00),
    ],
)
async def test_what_came_in_one_read_is_answered_in_turns(answer: Any, cancelled: bool, status: int) -> None:
    served: list[int] = []

    def find(operation: Operation) -> Any:
        served.append(operation.message_id)
        return answer(operation)

    async with await serve(find):
        peer = await associate()
        peer.send(b"".join(find_rq(n, b"12") + cancel_rq(n) * cancelled for n in range(1, 101)))
        finals = asyncio.ensure_future(peer.finals(100))
        while not finals.done():
            before = len(served)
            await settle(1)
            assert len(served) - before <= 1
        assert sorted(await finals) == [(n, status) for n in range(1, 101)]


async def test_a_peer_that_requests_for_ever_after_its_end_and_never_reads_takes_no_memory() -> None:
    async with await serve() as server:
        peer = await associate()
        wire = wire_of(peer)
        wire.kernel = 0
        peer.transport.pause_reading()
        peer.send(bytes([2, 0, 0, 0, 0, 0]))  # an A-ASSOCIATE-AC: aborted
        for _ in range(40):
            peer.send(bytes([1, 0, 0, 0, 0, 0]) * 10_000)
            await settle(10)
        assert wire.written < 2_000_000
        assert server.connections == set()


# --- handlers that fail -----------------------------------------------------------------------------------------


class SecretError(Exception):
    pass


def _raises_at_once(operation: Operation) -> Iterator[bytes]:
    raise SecretError("Doe^Jane")


def _raises_when_started(operation: Operation) -> Iterator[bytes]:
    raise SecretError("Doe^Jane")
    yield b""


def _raises_behind_a_match(operation: Operation) -> Iterator[bytes]:
    yield operation.pending(b"12")
    raise SecretError("Doe^Jane")


async def _raises_async(operation: Operation) -> AsyncIterator[bytes]:
    yield operation.pending(b"12")
    raise SecretError("Doe^Jane")


@pytest.mark.parametrize("find", [_raises_at_once, _raises_when_started, _raises_behind_a_match, _raises_async])
async def test_a_handler_that_raises_ends_with_c000_and_the_next_request_is_served(
    find: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        async with await serve(find):
            peer = await associate()
            peer.send(find_rq(1, b"12") + echo_rq(2))
            assert await peer.finals(2) == [(1, 0xC000), (2, 0)]
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "10.0.0.1 CT1" in record.getMessage()
    assert "SecretError" in record.getMessage()
    assert find.__name__ in record.getMessage()
    assert "Doe" not in caplog.text  # an exception's text may be a patient's data


async def test_an_identifier_that_cannot_be_decoded_is_c003_and_one_line_with_the_offset(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def find(operation: Operation) -> Iterator[bytes]:
        yield operation.pending(operation.data_set())

    broken = bytes.fromhex("10001000 FF000000") + b"Doe^Jane"
    async with await serve(find):
        peer = await associate()
        peer.send(find_rq(1, broken) + find_rq(2, bytes.fromhex("10001000 00000000")))
        assert await peer.answers(2) == [(1, 0xC003), (2, 0xFF00), (2, 0)]
    (line,) = messages(caplog, logging.WARNING)
    assert line.startswith("10.0.0.1 CT1: the identifier of message 1 cannot be decoded, ")
    assert "[data set, byte " in line
    assert "Doe" not in caplog.text


async def test_an_identifier_nested_too_deeply_aborts_as_the_service_provider(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def find(operation: Operation) -> Iterator[bytes]:
        yield operation.pending(operation.data_set())

    bomb = b""
    for _ in range(20):
        item = bytes.fromhex("FEFF00E0") + len(bomb).to_bytes(4, "little") + bomb
        bomb = bytes.fromhex("40000001") + len(item).to_bytes(4, "little") + item
    async with await serve(find):
        peer = await associate()
        peer.send(find_rq(1, bomb))
        event = await peer.event()
        assert (event.source, event.reason) == (2, 6)
    (line,) = messages(caplog, logging.WARNING)
    assert "more than 16 levels of sequences" in line


async def test_the_text_of_a_handlers_exception_is_logged_at_debug(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        async with await serve(_raises_at_once):
            peer = await associate()
            peer.send(find_rq(1, b"12"))
            await peer.finals()
    assert "Doe^Jane" in caplog.text


async def test_a_handler_that_raises_behind_its_final_response_sends_no_second_one() -> None:
    def find(operation: Operation) -> Iterator[bytes]:
        yield operation.final(Status.OUT_OF_RESOURCES)
        raise SecretError

    async with await serve(find):
        peer = await associate()
        peer.send(find_rq(1, b"12") + echo_rq(2))
        assert await peer.answers(2) == [(1, 0xA700), (2, 0)]


async def test_a_handler_that_fails_to_close_gives_its_place_back(caplog: pytest.LogCaptureFixture) -> None:
    def find(operation: Operation) -> Iterator[bytes]:
        try:
            while True:
                yield operation.pending(bytes(SIZE))
        finally:
            raise SecretError("Doe^Jane")

    async with await serve(find) as server:
        peer = await associate()
        peer.send(find_rq(1, b"12"))
        await peer.event()
        peer.transport.abort()
        await peer.closed()
        await server.changed.wait()
        assert server.connections == set()
        assert server.associations.total() == 0
    assert "SecretError" in caplog.text
    assert "Doe" not in caplog.text


# --- a peer that can receive nothing ----------------------------------------------------------------------------


@pytest.mark.parametrize("find", FINDS)
async def test_a_maximum_length_too_small_for_a_response_aborts_at_the_first_one(
    find: type[Find], caplog: pytest.LogCaptureFixture
) -> None:
    async with await serve(find(1)) as server:
        peer = await connect(maximum_length=4)
        assert isinstance(await peer.event(), Accepted)
        peer.send(find_rq(1, b"12") + echo_rq(2))
        event = await peer.event()
        assert (event.source, event.reason) == (0, 0)
        assert server.associations.total() == 0
    (line,) = messages(caplog, logging.WARNING)
    assert "aborted, the peer receives at most 4 bytes" in line


async def test_a_maximum_length_too_small_for_a_refusal_aborts_as_well(loop: WireLoop) -> None:
    begin = loop.time()
    async with await serve(AsyncFind(1, gate=asyncio.Semaphore(0))):
        peer = await connect(maximum_length=4)
        await peer.event()
        peer.send(find_rq(1, b"12") + echo_rq(1))
        event = await peer.event()
        assert event.text == "the peer aborted by the service-user"
        assert loop.time() == begin  # no timer did it
