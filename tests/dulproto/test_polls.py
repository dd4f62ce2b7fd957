"""A poll that is answered as before is answered as any other: no peer can tell a server that knows its bytes.

Random conversations are held with two servers over a network in memory: one has seen all of it before, one remembers
nothing.  They must write the same bytes at the same moments, close alike, count alike and log alike, whatever becomes
of what they offer and of whom they let in meanwhile.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pair import cancel_rq, echo_rq, find_rq, make_rq
from wire import RawPeer, WireLoop, passes, settle

import dulproto
from dulproto import MODALITY_WORKLIST_FIND, VERIFICATION, Answer, CommandField, Limits, Operation, Status
from dulproto.acse import DEFAULT_TRANSFER_SYNTAXES
from dulproto.pdu import RELEASE_RP, RELEASE_RQ, encode_associate_rq
from dulproto.repeat import Negotiated, Profiles

PORT = 104
LIMITS = Limits(artim=8, half_pdu=3, idle=20)
RQ = encode_associate_rq(make_rq())
ABORT = bytes.fromhex("07 00 00000004 0000 00 00")
QUERY = find_rq(5, b"\x10\0\x10\0\0\0\0\0")
MUCH = b"\x30\0\x10\0\0\0\0\0"


class Worklist:
    """A list that can change; an answer is good for as long as it has not."""

    def __init__(self) -> None:
        self.name = b"A^B "

    def find(self, operation: Operation) -> Answer:
        identifier = b"\x10\0\x10\0\4\0\0\0" + self.name
        matches = 1000 if operation.message.data == MUCH else 1
        segments = operation.template.segments([identifier] * matches, Status.PENDING, Status.SUCCESS)
        return Listed(segments, Status.SUCCESS, self)


class Listed(Answer):
    __slots__ = ("name", "worklist")

    def __init__(self, segments: list[bytes], status: int, worklist: Worklist) -> None:
        super().__init__(segments, status)
        self.worklist, self.name = worklist, worklist.name

    def is_good(self) -> bool:
        return self.worklist.name == self.name


def services(worklist: Worklist) -> dulproto.Services:
    return {
        VERIFICATION: {CommandField.C_ECHO_RQ: dulproto.answer_echo},
        MODALITY_WORKLIST_FIND: {CommandField.C_FIND_RQ: worklist.find},
    }


# --- what happens meanwhile ---------------------------------------------------------------------------------------


class Scene(NamedTuple):
    server: dulproto.Server
    worklist: Worklist
    peer: RawPeer


def stop_reading(scene: Scene) -> None:
    scene.peer.transport.peer.kernel = 0
    scene.peer.transport.pause_reading()


def read_again(scene: Scene) -> None:
    scene.peer.transport.resume_reading()


def change(scene: Scene) -> None:
    scene.worklist.name = b"C^D "


def offer_another(scene: Scene) -> None:
    other = Worklist()
    other.name = b"E^F "
    scene.server.services = services(other)


def be_congested(scene: Scene) -> None:
    scene.server.congested = not scene.server.congested


def let_in(**options: Any) -> Callable[[Scene], None]:
    def let_in(scene: Scene) -> None:
        scene.server.policies = {"*": msgspec.structs.replace(scene.server.policies["*"], **options)}

    return let_in


# What is sent in one go, how many seconds nothing is, what else happens, or whence a new connection comes.
STEPS: dict[str, bytes | float | Callable[[Scene], None] | str] = {
    "connect anew": "10.0.0.1",
    "connect anew from elsewhere": "10.0.0.2",
    "stop reading": stop_reading,
    "read again": read_again,
    "the list changes": change,
    "another list is offered": offer_another,
    "congestion comes or goes": be_congested,
    "all may come": let_in(check_requestor=None, max_associations=0),
    "one host may come": let_in(check_requestor=lambda host, _: None if host == "10.0.0.1" else "unknown host"),
    "one at a time may come": let_in(max_associations=1),
    "Verification is all that is offered": let_in(abstract_syntaxes={VERIFICATION: DEFAULT_TRANSFER_SYNTAXES}),
    "associate": RQ,
    "begin to associate": RQ[:70],
    "end to associate": RQ[70:],
    "associate and ask": RQ + QUERY,
    "ask": QUERY,
    "ask with another id": find_rq(6, b"\x10\0\x10\0\0\0\0\0"),
    "ask for something else": find_rq(5, b"\x20\0\x10\0\0\0\0\0"),
    "ask twice": QUERY + find_rq(6, b"\x10\0\x10\0\0\0\0\0"),
    "ask and release": QUERY + RELEASE_RQ,
    "begin to ask": QUERY[:60],
    "end to ask": QUERY[60:],
    "ask for much": find_rq(5, MUCH),
    "ask for much twice": find_rq(5, MUCH) + find_rq(6, MUCH),
    "echo": echo_rq(7),
    "cancel": cancel_rq(5),
    "release": RELEASE_RQ,
    "release and more": RELEASE_RQ + b"more",
    "release with a reserved byte": RELEASE_RQ[:-1] + b"\1",
    "begin to release": RELEASE_RQ[:4],
    "end to release": RELEASE_RQ[4:],
    "answer a release": RELEASE_RP,
    "abort": ABORT,
    "speak HTTP": b"GET / HTTP/1.1\r\n",
    "wait a little": 2.0,
    "wait for a half PDU": 4.0,
    "wait nearly for ARTIM": 7.0,
    "wait for ARTIM": 9.0,
    "wait nearly to be idle": 19.0,
    "wait to be idle": 21.0,
}
POLL = ["associate", "ask", "echo", "ask with another id", "release"]


class Forgetful(Profiles):
    """Remembers nothing."""

    def remember(self, host: str, pdu: bytes, negotiated: Negotiated) -> Negotiated:
        return negotiated

    def learn(self, negotiated: Negotiated, request: bytes, answer: Answer) -> None:
        pass


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


async def converse(
    server: dulproto.Server, worklist: Worklist, loop: WireLoop, script: list[str], end: str
) -> list[Any]:
    """Play a script on a new connection, or on several; tell what came back after each step."""
    _, peer = await loop.create_connection(RawPeer, "10.0.0.9", PORT)
    peers = [peer]
    seen: list[Any] = []
    for name in script:
        step = STEPS[name]
        if isinstance(step, bytes):
            peer.send(step)
        elif isinstance(step, float):
            await passes(step)
        elif isinstance(step, str):
            loop.host = step
            _, peer = await loop.create_connection(RawPeer, "10.0.0.9", PORT)
            peers.append(peer)
        else:
            step(Scene(server, worklist, peer))
        await settle()
        seen.append((name, bytes(peer.received), peer.lost))
    if end == "abort":
        for acceptor in list(server.connections):
            acceptor.abort()
    else:
        for each in peers:
            each.transport.close()
    await settle()
    seen += [(end, bytes(each.received), each.lost) for each in peers]
    return seen


async def held(loop: WireLoop, script: list[str], end: str, *, remembers: bool) -> list[Any]:
    """Hold a conversation with a server that has, or has not, heard all of it; tell all that can be seen of it."""
    worklist = Worklist()
    async with await dulproto.serve(services(worklist), port=PORT, limits=LIMITS, stalled_seconds=6) as server:
        if not remembers:
            server.profiles = Forgetful()
        for _ in range(2):
            await converse(server, worklist, loop, [*POLL, "ask"], "close")
        assert (server.profiles.get(RQ) is not None) is remembers
        counted = server.accepted.total(), server.operations
        handler = Lines()
        logger = logging.getLogger("dulproto")
        logger.addHandler(handler)
        level = logger.level
        logger.setLevel(logging.INFO)
        try:
            seen = await converse(server, worklist, loop, script, end)
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)
        counts = server.accepted.total() - counted[0], server.operations - counted[1], server.associations.total()
        return [*seen, counts, server.refused, sorted(handler.lines)]  # connections are a set


def hold(script: list[str], end: str, *, remembers: bool) -> list[Any]:
    with contextlib.closing(WireLoop()) as loop:
        return loop.run_until_complete(held(loop, script, end, remembers=remembers))


@given(script=st.lists(st.sampled_from(sorted(STEPS)), max_size=12), end=st.sampled_from(["close", "abort"]))
@example(script=POLL, end="close")
@example(script=POLL, end="abort")
@example(script=[*POLL, "wait for ARTIM"], end="close")
@example(script=[*POLL, "ask"], end="close")
@example(script=[*POLL, "abort"], end="close")
@example(script=["associate", "ask", "wait to be idle"], end="close")
@example(script=["wait for ARTIM"], end="close")
@example(script=["associate", "wait a little", "release", "wait nearly for ARTIM", "wait a little"], end="close")
@example(script=["associate", "wait nearly to be idle", "ask", "wait nearly to be idle", "ask"], end="close")
@example(script=["wait a little", "associate", "wait nearly to be idle", "wait a little"], end="close")
@example(script=["associate", "ask", "the list changes", "ask", "connect anew", "associate", "ask"], end="close")
@example(script=["associate", "another list is offered", "ask", "connect anew", "associate", "ask"], end="close")
@example(script=["one at a time may come", "associate", "connect anew", "associate", "release"], end="close")
@example(script=["one host may come", "associate", "connect anew from elsewhere", "associate"], end="close")
@example(script=["associate", "stop reading", "ask for much", "ask", "ask twice", "read again"], end="close")
@example(script=["associate", "stop reading", "ask for much", "release", "wait for ARTIM"], end="close")
@example(script=["congestion comes or goes", "associate", "connect anew", "associate"], end="close")
def test_no_peer_can_tell_a_server_that_knows_its_bytes(script: list[str], end: str) -> None:
    assert hold(script, end, remembers=True) == hold(script, end, remembers=False)


@given(script=st.lists(st.sampled_from(sorted(STEPS)), max_size=6))
def test_the_same_holds_in_the_middle_of_a_poll(script: list[str]) -> None:
    for begun in (1, 2, 4, 5):
        whole = [*POLL[:begun], *script]
        assert hold(whole, "close", remembers=True) == hold(whole, "close", remembers=False)


@pytest.mark.parametrize("begun", range(1, len(POLL) + 1))
def test_a_known_poll_needs_no_machine(begun: int) -> None:
    async def play(loop: WireLoop) -> None:
        worklist = Worklist()
        async with await dulproto.serve(services(worklist), port=PORT, limits=LIMITS, stalled_seconds=6) as server:
            await converse(server, worklist, loop, POLL, "close")
            _, peer = await loop.create_connection(RawPeer, "10.0.0.9", PORT)
            for name in POLL[:begun]:
                step = STEPS[name]
                assert isinstance(step, bytes)
                peer.send(step)
                await settle()
            (acceptor,) = server.connections
            assert acceptor._association is None
            assert acceptor.operations == min(max(begun - 1, 0), 3)

    with contextlib.closing(WireLoop()) as loop:
        loop.run_until_complete(play(loop))
