"""What comes again with equal bytes is answered as before, and only for as long as that is right."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

import dulproto
from dulproto import (
    Answer,
    AssociateRq,
    CommandField,
    CommandSet,
    Message,
    Operation,
    Policy,
    Status,
    UserInformation,
)
from dulproto.pdu import RELEASE_RQ, encode_associate_rq
from dulproto.repeat import LONGEST, MOST_BYTES, Negotiated, Profiles, learn_at, message_id_at

FIND = dulproto.MODALITY_WORKLIST_FIND
RQ = encode_associate_rq(
    AssociateRq(
        dulproto.encode_ae_titles("WORKLIST", "CT1"),
        dulproto.propose(dulproto.VERIFICATION, FIND),
        UserInformation(maximum_length=16384),
    )
)


def find_rq(message_id: int, data: bytes = b"\x10\0\x10\0\0\0\0\0", uid: str = FIND, context: int = 3) -> bytes:
    command = CommandSet(
        command_field=CommandField.C_FIND_RQ,
        affected_sop_class_uid=uid,
        message_id=message_id,
        priority=0,
        command_data_set_type=0x0102,
    )
    return dulproto.encode_message(context, command, data, 0)


# --- where the Message ID is ----------------------------------------------------------------------------


@pytest.mark.parametrize("uid", [FIND, dulproto.VERIFICATION, "1.2", "1." + "2" * 62])
def test_the_message_id_is_found_in_a_request_as_everybody_sends_it(uid: str) -> None:
    data = find_rq(0x1234, uid=uid)
    at = learn_at(data, 0x1234)
    assert at == message_id_at(data)
    assert data[at : at + 2] == b"\x34\x12"


def test_a_request_with_its_elements_elsewhere_is_not_learnt() -> None:
    data = find_rq(7)
    assert learn_at(data, 8) == 0
    assert learn_at(data, None) == 0
    assert learn_at(b"\5" + data[1:], 7) == 0
    assert learn_at(data[:40], 7) == 0
    moved = data.replace(b"\0\0\x10\1", b"\0\0\0\7")
    assert learn_at(moved, 7) == 0


# --- what is remembered ----------------------------------------------------------------------------------


def test_what_is_remembered_is_bounded_in_bytes() -> None:
    profiles = Profiles()
    negotiated = profiles.remember("h", RQ, _negotiated())
    for number in range(MOST_BYTES // 1000):
        profiles.learn(negotiated, number.to_bytes(4, "big") * 200, Answer([], 0))
        assert profiles._bytes <= MOST_BYTES
    assert len(negotiated.answers) < MOST_BYTES // 1000


def test_what_is_long_is_not_remembered() -> None:
    profiles = Profiles()
    negotiated = profiles.remember("h", bytes(LONGEST + 1), _negotiated())
    profiles.learn(negotiated, bytes(LONGEST + 1), Answer([], 0))
    assert profiles.get(bytes(LONGEST + 1)) is None
    assert negotiated.answers == {}


def test_the_same_request_from_two_hosts_is_kept_once() -> None:
    profiles = Profiles()
    first = profiles.remember("one", RQ, _negotiated())
    assert profiles.remember("other", RQ, _negotiated()) is first
    assert first.hosts == {"one", "other"}


def test_an_association_that_outlives_what_is_remembered_keeps_no_old_answer() -> None:
    profiles = Profiles()
    negotiated = profiles.remember("h", RQ, _negotiated())
    profiles.forget()
    profiles.learn(negotiated, b"request", Answer([], 0))
    profiles.forget()
    assert negotiated.answers == {}


def _negotiated() -> Negotiated:
    rq = AssociateRq(dulproto.encode_ae_titles("A", "B"), dulproto.propose(FIND))
    decision = dulproto.negotiate(rq, {"*": Policy(abstract_syntaxes={})}, dulproto.Requestor())
    return Negotiated(rq, decision, b"", {}, "A", "B", "B -> A")


# --- over a connection -----------------------------------------------------------------------------------


class Counting:
    """A provider that counts how often it is asked, and whose answer can be made stale."""

    def __init__(self) -> None:
        self.asked = 0
        self.good = True
        self.text = b"A^B "

    def find(self, operation: Operation) -> Answer:
        self.asked += 1
        outer = self

        class Now(Answer):
            __slots__ = ()

            def is_good(self) -> bool:
                return outer.good

        identifier = b"\x10\0\x10\0\4\0\0\0" + self.text
        return Now(operation.template.segments([identifier], Status.PENDING, Status.SUCCESS), Status.SUCCESS)


class Peer:
    """A client that writes bytes and reads messages."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.association = dulproto.Association(is_requestor=True)
        self.events: list[object] = []

    async def associate(self, rq: bytes = RQ) -> None:
        from dulproto.pdu import decode_associate_rq

        self.association.request(decode_associate_rq(rq))
        self.association.transport_opened(0)
        self.association.data_to_send()
        self.writer.write(rq)
        await self.event()

    async def event(self) -> object:
        while not self.events:
            data = await self.reader.read(65536)
            assert data, "the connection was closed"
            self.events += self.association.receive_data(data, 0)
        return self.events.pop(0)

    async def ask(self, *pieces: bytes) -> list[Message]:
        """Send a request; return all responses to it."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
        responses: list[Message] = []
        while not responses or responses[-1].command.has_data_set:
            event = await self.event()
            assert isinstance(event, Message)
            responses.append(event)
        return responses


@asynccontextmanager
async def peer(server: dulproto.Server, host: str = "127.0.0.1") -> AsyncIterator[Peer]:
    reader, writer = await asyncio.open_connection(*server.addresses[0], local_addr=(host, 0))
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    yield Peer(reader, writer)
    writer.close()
    await writer.wait_closed()


@pytest.fixture
async def provider() -> Counting:
    return Counting()


@pytest.fixture
async def server(provider: Counting) -> AsyncIterator[dulproto.Server]:
    services = {
        dulproto.VERIFICATION: {CommandField.C_ECHO_RQ: dulproto.answer_echo},
        FIND: {CommandField.C_FIND_RQ: provider.find},
    }
    async with await dulproto.serve(services, port=0) as made:
        yield made


def ids(responses: list[Message]) -> set[int | None]:
    return {response.command.message_id_being_responded_to for response in responses}


async def test_a_request_with_equal_bytes_is_answered_without_asking_again(
    server: dulproto.Server, provider: Counting
) -> None:
    async with peer(server) as client:
        await client.associate()
        answers = [await client.ask(find_rq(number)) for number in (1, 2, 0xFFFF)]
    assert [ids(answer) for answer in answers] == [{1}, {2}, {0xFFFF}]
    assert len({tuple(response.data for response in answer) for answer in answers}) == 1
    assert provider.asked == 1


async def test_the_same_holds_for_the_next_association_of_the_same_kind(
    server: dulproto.Server, provider: Counting
) -> None:
    for number in range(3):
        async with peer(server) as client:
            await client.associate()
            assert ids(await client.ask(find_rq(number))) == {number}
    assert provider.asked == 1
    assert sum(server.accepted.values()) == 3


async def test_an_answer_that_is_good_no_more_is_not_sent(server: dulproto.Server, provider: Counting) -> None:
    async with peer(server) as client:
        await client.associate()
        before = await client.ask(find_rq(1))
        provider.good, provider.text = False, b"C^D "
        after = await client.ask(find_rq(2))
    assert before[0].data.endswith(b"A^B ")
    assert after[0].data.endswith(b"C^D ")
    assert provider.asked == 2


async def test_an_answer_that_is_never_good_is_not_kept(server: dulproto.Server, provider: Counting) -> None:
    provider.good = False
    async with peer(server) as client:
        await client.associate()
        await client.ask(find_rq(1))
        await client.ask(find_rq(2))
    assert provider.asked == 2
    kept = server.profiles.get(RQ)
    assert kept is not None
    assert kept.answers == {}


async def test_another_identifier_is_another_request(server: dulproto.Server, provider: Counting) -> None:
    async with peer(server) as client:
        await client.associate()
        await client.ask(find_rq(1))
        await client.ask(find_rq(2, b"\x10\0\x20\0\0\0\0\0"))
    assert provider.asked == 2


async def test_a_request_in_two_segments_is_answered_too(server: dulproto.Server, provider: Counting) -> None:
    async with peer(server) as client:
        await client.associate()
        whole = find_rq(1)
        for at in (5, 40, 75, len(whole) - 1):
            assert ids(await client.ask(whole[:at], whole[at:])) == {1}
        assert ids(await client.ask(find_rq(9))) == {9}


async def test_bytes_that_look_like_a_known_request_inside_a_message_are_that_message(
    server: dulproto.Server, provider: Counting
) -> None:
    known = find_rq(1)
    identifier = b"\x09\0\x10\0" + len(known).to_bytes(4, "little") + known
    async with peer(server) as client:
        await client.associate()
        await client.ask(known)
        whole = find_rq(2, identifier)
        start = len(whole) - len(known)
        assert ids(await client.ask(whole[:start], whole[start:])) == {2}
    assert provider.asked == 2


async def test_a_request_with_something_behind_it_is_not_taken_for_one_alone(
    server: dulproto.Server, provider: Counting
) -> None:
    async with peer(server) as client:
        await client.associate()
        client.writer.write(find_rq(1) + RELEASE_RQ)
        assert isinstance(await client.event(), Message)
    async with peer(server) as client:
        await client.associate()
        assert ids(await client.ask(find_rq(1))) == {1}
    assert provider.asked == 2


async def test_a_known_request_on_a_context_that_was_refused_is_aborted(
    server: dulproto.Server, provider: Counting
) -> None:
    async with peer(server) as client:
        await client.associate()
        await client.ask(find_rq(1))
    other = encode_associate_rq(
        AssociateRq(
            dulproto.encode_ae_titles("WORKLIST", "CT1"), dulproto.propose(dulproto.VERIFICATION, "1.2.3", FIND)
        )
    )
    async with peer(server) as client:
        await client.associate(other)
        client.writer.write(find_rq(1))
        assert isinstance(await client.event(), dulproto.Aborted)


async def test_new_services_are_asked_and_new_policies_are_heeded(
    server: dulproto.Server, provider: Counting
) -> None:
    async with peer(server) as client:
        await client.associate()
        await client.ask(find_rq(1))
        fresh = Counting()
        server.services = {FIND: {CommandField.C_FIND_RQ: fresh.find}}
        await client.ask(find_rq(2))
    assert fresh.asked == 1
    server.policies = {"OTHER": Policy(abstract_syntaxes={})}
    async with peer(server) as client:
        await client.associate()
        assert client.association.state is not dulproto.State.ESTABLISHED


async def test_limits_hold_for_associations_that_came_before(server: dulproto.Server) -> None:
    server.policies = {
        "*": Policy(abstract_syntaxes=dict.fromkeys((FIND,), (dulproto.IMPLICIT_LE,)), max_associations=1)
    }
    async with peer(server) as first:
        await first.associate()
        async with peer(server) as second:
            await second.associate()
            assert first.association.state is dulproto.State.ESTABLISHED
            assert second.association.state is not dulproto.State.ESTABLISHED


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8")
async def test_a_host_that_has_not_called_before_is_checked(server: dulproto.Server) -> None:
    known = {"127.0.0.1"}

    def check(host: str, calling: str) -> str | None:
        return None if host in known else "unknown host"

    syntaxes = {FIND: (dulproto.IMPLICIT_LE,)}
    server.policies = {"*": Policy(abstract_syntaxes=syntaxes, check_requestor=check)}
    states = []
    for host in ("127.0.0.1", "127.0.0.2", "127.0.0.1"):
        async with peer(server, host) as client:
            await client.associate()
            states.append(client.association.state is dulproto.State.ESTABLISHED)
    assert states == [True, False, True]
    known.add("127.0.0.2")
    async with peer(server, "127.0.0.2") as client:
        await client.associate()
        assert client.association.state is dulproto.State.ESTABLISHED
    kept = server.profiles.get(RQ)
    assert kept is not None
    assert kept.hosts == known


async def test_who_has_to_identify_is_asked_every_time(server: dulproto.Server) -> None:
    checked = []

    def check(identity: object) -> bytes | None:
        checked.append(identity)
        return b""

    syntaxes = {FIND: (dulproto.IMPLICIT_LE,)}
    server.policies = {"*": Policy(abstract_syntaxes=syntaxes, check_identity=check)}
    for _ in range(2):
        async with peer(server) as client:
            await client.associate()
    assert len(checked) == 2


def _one(operation: Operation) -> Iterator[bytes]:
    yield operation.final()


async def test_a_handler_that_gives_responses_one_by_one_is_asked_every_time(server: dulproto.Server) -> None:
    asked = []

    def find(operation: Operation) -> Iterator[bytes]:
        asked.append(operation.message_id)
        return _one(operation)

    server.services = {FIND: {CommandField.C_FIND_RQ: find}}
    async with peer(server) as client:
        await client.associate()
        await client.ask(find_rq(1))
        await client.ask(find_rq(2))
    assert asked == [1, 2]
