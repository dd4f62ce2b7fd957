"""A poll that is answered as before is answered as any other: no peer can tell a server that knows its bytes.

Random conversations are held with two servers over a network in memory: one has seen all of it before, one remembers
nothing.  They must write the same bytes at the same moments, close alike, count alike and log alike.
"""

from __future__ import annotations

import contextlib
import logging
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pair import cancel_rq, echo_rq, find_rq, make_rq
from wire import RawPeer, WireLoop, passes, settle

import dulproto
from dulproto import MODALITY_WORKLIST_FIND, VERIFICATION, Answer, CommandField, Limits, Operation, Status
from dulproto.pdu import RELEASE_RP, RELEASE_RQ, encode_associate_rq
from dulproto.repeat import Negotiated, Profiles

PORT = 104
LIMITS = Limits(artim=8, half_pdu=3, idle=20)
RQ = encode_associate_rq(make_rq())
ABORT = bytes.fromhex("07 00 00000004 0000 00 00")
QUERY = find_rq(5, b"\x10\0\x10\0\0\0\0\0")

# What is sent in one go, or how many seconds nothing is.
STEPS: dict[str, bytes | float] = {
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


def find(operation: Operation) -> Answer:
    identifier = b"\x10\0\x10\0\4\0\0\0A^B "
    return Answer(operation.template.segments([identifier], Status.PENDING, Status.SUCCESS), Status.SUCCESS)


SERVICES = {
    VERIFICATION: {CommandField.C_ECHO_RQ: dulproto.answer_echo},
    MODALITY_WORKLIST_FIND: {CommandField.C_FIND_RQ: find},
}


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


async def converse(server: dulproto.Server, loop: WireLoop, script: list[str], end: str) -> list[Any]:
    """Play a script on a new connection; tell what came back after each step."""
    _, peer = await loop.create_connection(RawPeer, "10.0.0.9", PORT)
    seen: list[Any] = []
    for name in script:
        step = STEPS[name]
        if isinstance(step, bytes):
            peer.send(step)
            await settle()
        else:
            await passes(step)
        seen.append((name, bytes(peer.received), peer.lost))
    (acceptor,) = server.connections or [None]
    if acceptor is not None:
        acceptor.abort() if end == "abort" else peer.transport.close()
    await settle()
    seen.append((end, bytes(peer.received), peer.lost))
    return seen


async def held(loop: WireLoop, script: list[str], end: str, *, remembers: bool) -> list[Any]:
    """Hold a conversation with a server that has, or has not, heard all of it; tell all that can be seen of it."""
    async with await dulproto.serve(SERVICES, port=PORT, limits=LIMITS) as server:
        if not remembers:
            server.profiles = Forgetful()
        for _ in range(2):
            await converse(server, loop, [*POLL, "ask"], "close")
        assert (server.profiles.get(RQ) is not None) is remembers
        counted = server.accepted.total(), server.operations
        handler = Lines()
        logger = logging.getLogger("dulproto")
        logger.addHandler(handler)
        level = logger.level
        logger.setLevel(logging.INFO)
        try:
            seen = await converse(server, loop, script, end)
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)
        counts = server.accepted.total() - counted[0], server.operations - counted[1], server.associations.total()
        return [*seen, counts, handler.lines]


def hold(script: list[str], end: str, *, remembers: bool) -> list[Any]:
    with contextlib.closing(WireLoop()) as loop:
        return loop.run_until_complete(held(loop, script, end, remembers=remembers))


@given(script=st.lists(st.sampled_from(sorted(STEPS)), max_size=8), end=st.sampled_from(["close", "abort"]))
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
        async with await dulproto.serve(SERVICES, port=PORT, limits=LIMITS) as server:
            await converse(server, loop, POLL, "close")
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
