import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import hl7 as hl7_package
import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from mwl.config import Hl7
from mwl.errors import MwlError
from mwl.hl7 import mllp
from mwl.hl7.mapping import load_mapping
from mwl.hl7.message import decode_message
from mwl.hl7.mllp import FrameReader, FrameTooLong, Hl7Server, frame, serve_hl7
from mwl.hl7.sender import Sent, send
from mwl.store import Store

MAPPING = load_mapping()
LOOPBACK = Hl7(host="127.0.0.1", port=0)


def order(number: int, *, start: str = "20240705100000") -> bytes:
    return "\r".join(
        [
            f"MSH|^~\\&|RIS|HOSP|MWL|RAD|20240705||ORM^O01|M{number}|P|2.3.1",
            "PID|||4711^^^HOSP||Muster^Erika",
            f"ORC|NW||F{number}||||^^^{start}",
            f"OBR|1||F{number}|CT^CT||||||||||||||A{number}|RP{number}|S{number}||||CT",
            f"ZDS|1.2.{number}",
            "",
        ]
    ).encode()


# --- framing ------------------------------------------------------------------------------------------------------

ONE, TWO = order(1), order(2)
STREAM = frame(ONE) + frame(TWO)


@pytest.mark.parametrize(
    "stream",
    [
        STREAM,
        frame(ONE) + b"\r\n noise \x00" + frame(TWO),
        ONE + b"\x1c\r" + TWO + b"\x1c\r",  # no VT
        b"\x0b" + ONE + b"\x1c\x0b" + TWO + b"\x1c",  # no CR behind FS
        b"\x0b" + ONE + frame(TWO),  # the end of the first one is lost
        b"\x0b\x0b" + ONE + b"\x1c\r\n" + frame(TWO) + b"\n\n",
        b"garbage\x0b" + ONE + b"\x1c\r" + frame(TWO),
    ],
)
def test_messages_are_cut_out_of_what_is_sent(stream: bytes) -> None:
    reader = FrameReader()
    assert reader.receive(stream) == [ONE, TWO]
    assert reader.rest() == []


@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_any_pieces_give_the_same_messages(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(STREAM)]
    reader = FrameReader()
    pieces = [STREAM[start:stop] for start, stop in pairwise(places)]
    assert [message for piece in pieces for message in reader.receive(piece)] == [ONE, TWO]


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_garbage_never_costs_the_next_good_message(before: bytes, after: bytes) -> None:
    reader = FrameReader()
    messages = reader.receive(before + b"\x1c" + frame(ONE) + after.replace(b"\x1c", b"") + frame(TWO))
    assert ONE in messages
    assert messages[-1] == TWO


def test_a_frame_without_an_end_is_refused_at_the_limit() -> None:
    reader = FrameReader(limit=1000)
    reader.receive(b"\x0b" + b"x" * 999)
    with pytest.raises(FrameTooLong):
        reader.receive(b"x")
    with pytest.raises(FrameTooLong):
        FrameReader(limit=1000).receive(b"\x0b" + b"x" * 1000 + b"\x1c\r")


def test_a_message_nobody_ended_is_a_message_if_it_begins_like_one() -> None:
    reader = FrameReader()
    assert reader.receive(b"\x0b" + ONE) == []
    assert reader.is_within()
    assert reader.rest() == [ONE]
    reader.receive(b"noise")
    assert not reader.is_within()
    assert reader.rest() == []


# --- over the wire ------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "worklist.db")
    yield store
    store.close()


@asynccontextmanager
async def serving(store: Store, config: Hl7 = LOOPBACK, **options: Any) -> AsyncIterator[Hl7Server]:
    server = await serve_hl7(config, store, MAPPING, **options)
    try:
        yield server
    finally:
        await server.close()


async def sent(server: Hl7Server, messages: list[bytes], **options: Any) -> list[Sent]:
    host, port = server.addresses[0]
    return [one async for one in send(host, port, messages, **options)]


@asynccontextmanager
async def connected(server: Hl7Server) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host, port = server.addresses[0]
    reader, writer = await asyncio.open_connection(host, port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def answers(reader: asyncio.StreamReader, count: int) -> list[tuple[str, str]]:
    """Read acknowledgements: MSA-1 and MSA-2 of each."""
    found = []
    for _ in range(count):
        ack = await asyncio.wait_for(reader.readuntil(b"\x1c\r"), 10)
        segment = decode_message(ack).segments[1]
        found.append((segment.field(1), segment.field(2)))
    return found


async def test_an_order_is_on_disk_when_it_is_acknowledged(store: Store) -> None:
    async with serving(store) as server:
        for number in range(1, 6):
            (one,) = await sent(server, [order(number)])
            assert (one.code, one.control_id) == ("AA", f"M{number}")
            assert store.count() == number


async def test_what_was_committed_is_told_before_the_acknowledgement(store: Store) -> None:
    told: list[int] = []

    async def tell(revision: int) -> None:
        await asyncio.sleep(0)
        told.append(revision)

    async with serving(store, committed=tell) as server:
        await sent(server, [ONE])
        assert told == [1]


async def test_messages_sent_at_once_are_answered_in_their_order(store: Store) -> None:
    async with serving(store) as server, connected(server) as (reader, writer):
        writer.write(b"".join(frame(order(number)) for number in range(500)))
        assert await answers(reader, 500) == [("AA", f"M{number}") for number in range(500)]
    assert store.count() == 500


async def test_a_later_message_on_a_connection_sees_the_earlier_one(store: Store) -> None:
    move = ONE.replace(b"ORC|NW", b"ORC|XO").replace(b"100000", b"110000").replace(b"|M1|", b"|M2|")
    cancel = ONE.replace(b"ORC|NW", b"ORC|CA").replace(b"|M1|", b"|M3|")
    async with serving(store) as server, connected(server) as (reader, writer):
        writer.write(frame(ONE) + frame(move) + frame(cancel))
        assert [code for code, _ in await answers(reader, 3)] == ["AA", "AA", "AA"]
    (entry,) = store.load()[1]
    assert (str(entry.step.start_time), entry.step.status) == ("11:00:00", "CANCELED")


async def test_a_sender_that_closes_its_side_still_gets_its_answers(store: Store) -> None:
    async with serving(store) as server, connected(server) as (reader, writer):
        writer.write(STREAM)
        writer.write_eof()
        assert await answers(reader, 2) == [("AA", "M1"), ("AA", "M2")]
        assert await reader.read() == b""


async def test_what_a_sender_broke_off_is_not_taken(store: Store) -> None:
    async with serving(store) as server, connected(server) as (reader, writer):
        writer.write(b"\x0b" + ONE)
        writer.write_eof()
        assert await reader.read() == b""
    assert store.count() == 0


async def test_garbage_is_dropped_and_the_next_message_is_answered(store: Store) -> None:
    async with serving(store) as server, connected(server) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\n\r\n\x1c\r" + frame(b"\xff\x00") + frame(ONE))
        assert await answers(reader, 1) == [("AA", "M1")]


async def test_a_message_that_can_be_named_but_not_read_gets_ar_and_is_kept(store: Store) -> None:
    async with serving(store) as server:
        (one,) = await sent(server, [b"MSH|^^^^|RIS|HOSP|||20240705||ORM^O01|M9|P|2.3\r"])
    assert one.code == "AR"
    assert store.read(lambda connection: connection.execute("SELECT control_id FROM hl7_failed").get) == "M9"


async def test_a_frame_over_the_limit_ends_its_connection_and_no_other(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mllp.FrameReader.__init__, "__defaults__", (10_000,))
    async with (
        serving(store) as server,
        connected(server) as (reader, writer),
        connected(server) as (other_reader, other_writer),
    ):
        writer.write(frame(ONE) + b"\x0b" + b"x" * 20_000)
        other_writer.write(frame(TWO))
        assert await answers(other_reader, 1) == [("AA", "M2")]
        await reader.read()
        other_writer.write(frame(order(3)))
        assert await answers(other_reader, 1) == [("AA", "M3")]


async def test_an_idle_sender_is_disconnected(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mllp, "HALF_FRAME_SECONDS", 0.01)
    async with (
        serving(store, Hl7(host="127.0.0.1", port=0, idle_seconds=0.03)) as server,
        connected(server) as (reader, _),
    ):
        assert await asyncio.wait_for(reader.read(), 10) == b""


async def test_a_message_without_an_end_is_taken_after_a_while(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mllp, "HALF_FRAME_SECONDS", 0.01)
    async with serving(store) as server, connected(server) as (reader, writer):
        writer.write(b"\x0b" + ONE)
        assert await answers(reader, 1) == [("AA", "M1")]


async def test_connections_beyond_the_limit_are_closed_at_once(store: Store) -> None:
    async with (
        serving(store, Hl7(host="127.0.0.1", port=0, max_connections=1)) as server,
        connected(server) as (first_reader, first_writer),
    ):
        first_writer.write(frame(ONE))
        await answers(first_reader, 1)
        async with connected(server) as (reader, _):
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.wait_for(reader.read(), 10) == b""


async def test_a_sender_that_does_not_read_is_held_back(store: Store) -> None:
    async with (
        serving(store, Hl7(host="127.0.0.1", port=0, in_flight=4)) as server,
        connected(server) as (reader, writer),
    ):
        writer.write(b"".join(frame(order(number)) for number in range(300)))
        assert len(await answers(reader, 300)) == 300


async def test_the_store_that_cannot_be_written_answers_ae_and_the_sender_can_come_again(store: Store) -> None:
    async with serving(store) as server:
        store.close()
        (one,) = await sent(server, [ONE])
        assert one.code == "AE"
        assert "send it again" in one.ack.decode()


async def test_draining_answers_what_was_taken(store: Store) -> None:
    server = await serve_hl7(LOOPBACK, store, MAPPING)
    async with connected(server) as (reader, writer):
        writer.write(b"".join(frame(order(number)) for number in range(50)))
        first = await answers(reader, 1)
        await server.close()
        rest = (await reader.read()).count(b"MSA|AA|")
    assert first == [("AA", "M0")]
    assert store.count() == 1 + rest


async def test_a_connection_that_does_not_end_in_time_is_cut(store: Store) -> None:
    server = await serve_hl7(LOOPBACK, store, MAPPING)
    async with connected(server) as (reader, writer):
        writer.write(frame(ONE))
        await answers(reader, 1)
        await server.close(drain_seconds=0)
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 10) == b""


async def test_a_fault_in_this_program_ends_no_connection(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = asyncio.Event()

    async def fail(raw: bytes) -> bytes:
        failed.set()
        raise ZeroDivisionError

    async with serving(store) as server, connected(server) as (reader, writer):
        with monkeypatch.context() as patch:
            patch.setattr(server.feed, "receive", fail)
            writer.write(frame(ONE))
            await asyncio.wait_for(failed.wait(), 10)
        writer.write(frame(TWO))
        assert await answers(reader, 1) == [("AA", "M2")]


async def test_a_message_is_read_with_the_mapping_of_its_time(store: Store, tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text('[attributes]\nModality = { value = "MR", when = { "MSH-3" = "RIS" } }\n')
    async with serving(store) as server:
        await sent(server, [ONE])
        server.use(load_mapping(tmp_path / "site.toml"))
        await sent(server, [TWO])
    assert [entry.step.modality for entry in store.load()[1]] == ["CT", "MR"]


# --- TLS ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return authority


def client_context(authority: trustme.CA, *, with_certificate: bool = False) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if with_certificate:
        authority.issue_cert("sender@example.org").configure_cert(context)
    return context


async def test_the_listener_speaks_tls(store: Store, tmp_path: Path, authority: trustme.CA) -> None:
    async with serving(store, Hl7(host="127.0.0.1", port=0, certificate=tmp_path / "server.pem")) as server:
        (one,) = await sent(server, [ONE], tls=client_context(authority))
    assert one.code == "AA"


async def test_a_sender_without_the_wanted_certificate_is_refused(
    store: Store, tmp_path: Path, authority: trustme.CA
) -> None:
    config = Hl7(host="127.0.0.1", port=0, certificate=tmp_path / "server.pem", client_ca=tmp_path / "ca.pem")
    async with serving(store, config) as server:
        with pytest.raises((MwlError, OSError)):
            await sent(server, [ONE], tls=client_context(authority))
        (one,) = await sent(server, [ONE], tls=client_context(authority, with_certificate=True))
    assert one.code == "AA"


# --- the sender ---------------------------------------------------------------------------------------------------


@asynccontextmanager
async def listening(answer: Callable[[bytes], bytes]) -> AsyncIterator[tuple[str, int, list[bytes]]]:
    """Listen in the place of some other system: what it received, and its answers."""
    received: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            received.append(data)
            writer.write(answer(data))
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()[:2]
        yield host, port, received


async def test_a_file_with_line_feeds_is_sent_as_the_standard_wants_it() -> None:
    async with listening(lambda data: frame(b"MSH|^~\\&|X\rMSA|AA|M1\r")) as (host, port, received):
        (one,) = [one async for one in send(host, port, [ONE.replace(b"\r", b"\n")])]
    assert received == [frame(ONE)]
    assert hl7_package.parse(received[0].strip(b"\x0b\x1c\r").decode() + "\r").segment("PID")
    assert one.code == "AA"


async def test_repeated_messages_have_control_ids_of_their_own(store: Store) -> None:
    async with serving(store) as server:
        found = await sent(server, [ONE, TWO], times=3)
    assert [one.control_id for one in found] == ["M1", "M2", "M1-2", "M2-2", "M1-3", "M2-3"]
    assert {one.code for one in found} == {"AA"}


async def test_the_rate_is_kept(store: Store) -> None:
    loop = asyncio.get_running_loop()
    async with serving(store) as server:
        begin = loop.time()
        await sent(server, [ONE], times=5, rate=50)
        assert loop.time() - begin >= 4 / 50


async def test_a_listener_that_is_not_there_is_named() -> None:
    async with listening(lambda data: b"") as (host, port, _):
        pass
    with pytest.raises(MwlError, match=f"{host}:{port} cannot be reached"):
        [one async for one in send(host, port, [ONE])]


async def test_a_listener_that_does_not_answer_is_named() -> None:
    async with listening(lambda data: b"") as (host, port, _):
        with pytest.raises(MwlError, match="did not answer"):
            [one async for one in send(host, port, [ONE], timeout_seconds=0.3)]


async def test_an_answer_that_is_none_has_no_code() -> None:
    async with listening(lambda data: b"\x0bhello\x1c\r") as (host, port, _):
        (one,) = [one async for one in send(host, port, [ONE])]
    assert one.code == ""
