"""PS3.8 Table 9-10, cell by cell, through the association that bytes and local primitives drive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from pair import NO_TIMERS, AssociationPair, echo_rq, find_rq, make_ac, make_rq

from dulproto import (
    Aborted,
    Accepted,
    Associate,
    AssociateRj,
    Association,
    Limits,
    LocalProtocolError,
    Message,
    Rejected,
    Release,
    Released,
    State,
)
from dulproto.pdu import RELEASE_RP, RELEASE_RQ, encode_associate_ac, encode_associate_rj, encode_associate_rq

# fmt: off
TABLE_9_10 = """
        1     2     3     4     5     6     7     8     9     10    11    12    13
E1      AE-1  .     .     .     .     .     .     .     .     .     .     .     .
E2      .     .     .     AE-2  .     .     .     .     .     .     .     .     .
E3      .     AA-1  AA-8  .     AE-3  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
E4      .     AA-1  AA-8  .     AE-4  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
E5      AE-5  .     .     .     .     .     .     .     .     .     .     .     .
E6      .     AE-6  AA-8  .     AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-7
E7      .     .     AE-7  .     .     .     .     .     .     .     .     .     .
E8      .     .     AE-8  .     .     .     .     .     .     .     .     .     .
E9      .     .     .     .     .     DT-1  .     AR-7  .     .     .     .     .
E10     .     AA-1  AA-8  .     AA-8  DT-2  AR-6  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
E11     .     .     .     .     .     AR-1  .     .     .     .     .     .     .
E12     .     AA-1  AA-8  .     AA-8  AR-2  AR-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
E13     .     AA-1  AA-8  .     AA-8  AA-8  AR-3  AA-8  AA-8  AR-10 AR-3  AA-8  AA-6
E14     .     .     .     .     .     .     .     AR-4  AR-9  .     .     AR-4  .
E15     .     .     AA-1  AA-2  AA-1  AA-1  AA-1  AA-1  AA-1  AA-1  AA-1  AA-1  .
E16     .     AA-2  AA-3  .     AA-3  AA-3  AA-3  AA-3  AA-3  AA-3  AA-3  AA-3  AA-2
E17     .     AA-5  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AR-5
E18     .     AA-2  .     .     .     .     .     .     .     .     .     .     AA-2
E19     .     AA-1  AA-8  .     AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-7
"""
# fmt: on

RQ = make_rq()
OTHER_RQ = make_rq(maximum_length=0)
AC = make_ac(RQ)
RJ = AssociateRj(1, 1, 7)
RQ_PDU, AC_PDU, RJ_PDU = encode_associate_rq(RQ), encode_associate_ac(AC), encode_associate_rj(RJ)
P_DATA = echo_rq()
ABORT_BY_PEER = bytes.fromhex("07 00 00000004 0000 02 05")  # service-provider, unexpected-PDU-parameter
UNRECOGNIZED = bytes.fromhex("7F 00 00000000")

ARTIM = 30.0
DRIVEN, NOW = 100.0, 107.0  # when a state was reached, and when the event happens

REQUESTOR, ACCEPTOR = True, False


def abort_pdu(source: int, reason: int) -> bytes:
    return bytes([7, 0, 0, 0, 0, 4, 0, 0, source, reason])


# --- each state, by legal means ------------------------------------------------------------------------------


def _requestor(*received: bytes) -> Association:
    association = Association(is_requestor=True, limits=NO_TIMERS)
    association.request(RQ)
    association.transport_opened(DRIVEN)
    for data in received:
        association.receive_data(data, DRIVEN)
    return association


def _acceptor(*, accept: bool = True) -> Association:
    association = Association(is_requestor=False, limits=NO_TIMERS)
    association.transport_opened(DRIVEN)
    association.receive_data(RQ_PDU, DRIVEN)
    if accept:
        association.accept(AC, DRIVEN)
    return association


def _idle(is_requestor: bool) -> Association:
    return Association(is_requestor=is_requestor, limits=NO_TIMERS)


def _awaiting_rq() -> Association:
    association = Association(is_requestor=False, limits=NO_TIMERS)
    association.transport_opened(DRIVEN)
    return association


def _awaiting_transport() -> Association:
    association = Association(is_requestor=True, limits=NO_TIMERS)
    association.request(RQ)
    return association


def _established(is_requestor: bool) -> Association:
    return _requestor(AC_PDU) if is_requestor else _acceptor()


def _releasing(is_requestor: bool) -> Association:
    association = _established(is_requestor)
    association.release()
    return association


def _release_indicated(is_requestor: bool) -> Association:
    association = _established(is_requestor)
    association.receive_data(RELEASE_RQ, DRIVEN)
    return association


def _collided(is_requestor: bool) -> Association:
    association = _releasing(is_requestor)
    association.receive_data(RELEASE_RQ, DRIVEN)
    return association


def _collided_requestor_has_answered() -> Association:
    association = _collided(REQUESTOR)
    association.respond_release(DRIVEN)
    return association


def _collided_acceptor_has_confirmation() -> Association:
    association = _collided(ACCEPTOR)
    association.receive_data(RELEASE_RP, DRIVEN)
    return association


def _aborted(is_requestor: bool) -> Association:
    association = _established(is_requestor)
    association.abort(DRIVEN)
    return association


WAYS: dict[tuple[int, bool], Callable[[], Association]] = {
    (1, REQUESTOR): lambda: _idle(REQUESTOR),
    (1, ACCEPTOR): lambda: _idle(ACCEPTOR),
    (2, ACCEPTOR): _awaiting_rq,
    (3, ACCEPTOR): lambda: _acceptor(accept=False),
    (4, REQUESTOR): _awaiting_transport,
    (5, REQUESTOR): _requestor,
    (6, REQUESTOR): lambda: _established(REQUESTOR),
    (6, ACCEPTOR): lambda: _established(ACCEPTOR),
    (7, REQUESTOR): lambda: _releasing(REQUESTOR),
    (7, ACCEPTOR): lambda: _releasing(ACCEPTOR),
    (8, REQUESTOR): lambda: _release_indicated(REQUESTOR),
    (8, ACCEPTOR): lambda: _release_indicated(ACCEPTOR),
    (9, REQUESTOR): lambda: _collided(REQUESTOR),
    (10, ACCEPTOR): lambda: _collided(ACCEPTOR),
    (11, REQUESTOR): _collided_requestor_has_answered,
    (12, ACCEPTOR): _collided_acceptor_has_confirmation,
    (13, REQUESTOR): lambda: _aborted(REQUESTOR),
    (13, ACCEPTOR): lambda: _aborted(ACCEPTOR),
}

# --- each event ----------------------------------------------------------------------------------------------


def _transport_opened(association: Association, *, is_requestor: bool) -> list[Any]:
    # Which of Evt2 and Evt5 it is depends on the side; a side that is opened as the other one must refuse, too.
    side, association.is_requestor = association.is_requestor, is_requestor
    try:
        association.transport_opened(NOW)
    finally:
        association.is_requestor = side
    return []


def _local(primitive: Callable[[Association], None]) -> Callable[[Association], list[Any]]:
    def apply(association: Association) -> list[Any]:
        primitive(association)
        return []

    return apply


def _bytes(data: bytes) -> Callable[[Association], list[Any]]:
    return lambda association: association.receive_data(data, NOW)


def _artim_expired(association: Association) -> list[Any]:
    return association.time_passed(DRIVEN + ARTIM)


EVENTS: dict[int, Callable[[Association], list[Any]]] = {
    1: _local(lambda association: association.request(OTHER_RQ)),
    2: lambda association: _transport_opened(association, is_requestor=True),
    3: _bytes(AC_PDU),
    4: _bytes(RJ_PDU),
    5: lambda association: _transport_opened(association, is_requestor=False),
    6: _bytes(RQ_PDU),
    7: _local(lambda association: association.accept(AC, NOW)),
    8: _local(lambda association: association.reject(RJ, NOW)),
    9: _local(lambda association: association.send_p_data(P_DATA, NOW)),
    10: _bytes(P_DATA),
    11: _local(lambda association: association.release()),
    12: _bytes(RELEASE_RQ),
    13: _bytes(RELEASE_RP),
    14: _local(lambda association: association.respond_release(NOW)),
    15: _local(lambda association: association.abort(NOW)),
    16: _bytes(ABORT_BY_PEER),
    17: lambda association: association.transport_closed(),
    18: _artim_expired,
    19: _bytes(UNRECOGNIZED),
}
PDU_EVENTS = {3, 4, 6, 10, 12, 13, 16, 19}

# --- what each action does -----------------------------------------------------------------------------------

START, STOP, KEEP = "start", "stop", "keep"


class Effect(NamedTuple):
    next_state: int
    sent: bytes = b""
    events: tuple[type, ...] = ()
    artim: str = KEEP


def effect_of(action: str, event: int, is_requestor: bool) -> Effect:
    """PS3.8 Tables 9-6 to 9-9."""
    reason = 1 if event == 19 else 2  # unrecognized-PDU, unexpected-PDU
    provider_abort = abort_pdu(2, reason)
    return {
        "AE-1": Effect(4),
        "AE-2": Effect(5, RQ_PDU),
        "AE-3": Effect(6, events=(Accepted,)),
        "AE-4": Effect(1, events=(Rejected,)),
        "AE-5": Effect(2, artim=START),
        "AE-6": Effect(3, events=(Associate,), artim=STOP),
        "AE-7": Effect(6, AC_PDU),
        "AE-8": Effect(13, RJ_PDU, artim=START),
        "DT-1": Effect(6, P_DATA),
        "DT-2": Effect(6, events=(Message,)),
        "AR-1": Effect(7, RELEASE_RQ),
        "AR-2": Effect(8, events=(Release,)),
        "AR-3": Effect(1, events=(Released,)),
        "AR-4": Effect(13, RELEASE_RP, artim=START),
        "AR-5": Effect(1, artim=STOP),
        "AR-6": Effect(7, events=(Message,)),
        "AR-7": Effect(8, P_DATA),
        "AR-8": Effect(9 if is_requestor else 10, events=(Release,)),
        "AR-9": Effect(11, RELEASE_RP),
        "AR-10": Effect(12, events=(Released,)),
        "AA-1": Effect(13, abort_pdu(0, 0), (Aborted,) if event in PDU_EVENTS else (), artim=START),
        "AA-2": Effect(1, artim=STOP),
        "AA-3": Effect(1, events=(Aborted,)),
        "AA-4": Effect(1, events=(Aborted,)),
        "AA-5": Effect(1, artim=STOP),
        "AA-6": Effect(13),
        "AA-7": Effect(13, provider_abort),
        "AA-8": Effect(13, provider_abort, (Aborted,), artim=START),
    }[action]


def cells() -> list[Any]:
    head, *rows = TABLE_9_10.strip("\n").splitlines()
    states = [int(word) for word in head.split()]
    return [
        pytest.param(state, role, int(row[0][1:]), cell, id=f"{row[0]}-Sta{state}-{side}-{cell}")
        for row in (line.split() for line in rows)
        for state, cell in zip(states, row[1:], strict=True)
        for role, side in ((REQUESTOR, "requestor"), (ACCEPTOR, "acceptor"))
        if (state, role) in WAYS
    ]


def snapshot(association: Association) -> tuple[Any, ...]:
    return (
        association.state,
        association.rq,
        association.ac,
        dict(association.contexts),
        association.maximum_length,
        association.next_deadline(),
        association.error,
    )


def test_the_walk_visits_all_247_cells() -> None:
    visited = {(parameters.values[0], parameters.values[2]) for parameters in cells()}
    assert visited == {(state, event) for state in range(1, 14) for event in range(1, 20)}


@pytest.mark.parametrize(("state", "role"), WAYS)
def test_each_state_is_reached_by_legal_means(state: int, role: bool) -> None:
    association = WAYS[state, role]()
    assert association.state == state
    deadline = DRIVEN + ARTIM if state in (2, 13) else None
    assert association.next_deadline() == deadline


@pytest.mark.parametrize(("state", "role", "event", "action"), cells())
def test_each_cell_sends_signals_times_and_goes_on_as_printed(
    state: int, role: bool, event: int, action: str
) -> None:
    association = WAYS[state, role]()
    association.data_to_send()
    before = snapshot(association)
    if action == ".":
        cannot_happen(association, state, event)
        assert snapshot(association) == before
        assert association.data_to_send() == b""
        assert association.time_passed(NOW) == []
        return
    effect = effect_of(action, event, role)
    events = EVENTS[event](association)
    assert association.state == effect.next_state
    assert association.data_to_send() == effect.sent
    assert tuple(type(item) for item in events) == effect.events
    deadline = {START: NOW + ARTIM, STOP: None, KEEP: before[5]}[effect.artim]
    assert association.next_deadline() == deadline


def cannot_happen(association: Association, state: int, event: int) -> None:
    """What is impossible raises; what only is not running, or not there, does nothing."""
    nothing_to_abort = event == 15
    not_running = event == 18
    closed_already = event == 17 or (event in PDU_EVENTS and state == 1)
    if nothing_to_abort or not_running or closed_already:
        assert EVENTS[event](association) == []
    else:
        with pytest.raises(LocalProtocolError, match="not possible in state"):
            EVENTS[event](association)


# --- what events carry ---------------------------------------------------------------------------------------


def test_an_abort_by_the_peer_is_indicated_with_its_source_and_reason() -> None:
    (event,) = _established(ACCEPTOR).receive_data(ABORT_BY_PEER, NOW)
    assert isinstance(event, Aborted)
    assert (event.source, event.reason) == (2, 5)
    assert event.text == "the peer aborted by the service-provider, unexpected-pdu-parameter"


def test_a_closed_connection_is_indicated_as_an_abort() -> None:
    (event,) = _established(REQUESTOR).transport_closed()
    assert event == Aborted("the peer closed the connection")


def test_a_provider_abort_names_the_pdu_the_state_and_the_offset_and_keeps_the_error() -> None:
    association = _established(ACCEPTOR)
    (event,) = association.receive_data(AC_PDU, NOW)
    assert event == Aborted("ASSOCIATE_AC in state ESTABLISHED [PDU-type at byte 0]", 2, 2)
    assert str(association.error) == event.text
    assert (association.error.field, association.error.offset) == ("PDU-type", 0)


def test_the_first_error_is_kept_when_more_follow() -> None:
    association = _established(ACCEPTOR)
    association.data_to_send()
    association.receive_data(AC_PDU, NOW)
    first = association.error
    association.receive_data(RQ_PDU, NOW)
    association.receive_data(UNRECOGNIZED, NOW)
    assert association.error is first
    assert association.data_to_send() == abort_pdu(2, 2) + abort_pdu(2, 2) + abort_pdu(2, 1)


def test_accepted_carries_what_the_peer_answered_and_contexts_are_negotiated() -> None:
    association = _requestor()
    (event,) = association.receive_data(AC_PDU, NOW)
    assert event == Accepted(AC)
    assert list(association.contexts) == [1, 3]


def test_rejected_carries_the_three_codes() -> None:
    assert _requestor().receive_data(RJ_PDU, NOW) == [Rejected(RJ)]


@pytest.mark.parametrize(
    ("pdu", "field"),
    [
        (bytes.fromhex("02 00 00000004 00000000"), "A-ASSOCIATE-AC"),
        (bytes.fromhex("03 00 00000002 0001"), "A-ASSOCIATE-RJ"),
    ],
)
def test_an_answer_that_cannot_be_decoded_is_an_invalid_pdu(pdu: bytes, field: str) -> None:
    association = _requestor()
    association.data_to_send()
    (event,) = association.receive_data(pdu, NOW)
    assert isinstance(event, Aborted)
    assert association.data_to_send() == abort_pdu(2, 6)
    assert association.error.field == field
    assert association.contexts == {}


@pytest.mark.parametrize("event", [3, 4, 6, 10, 12, 13, 16, 19])
def test_nothing_a_peer_sends_is_looked_at_once_the_association_has_ended(event: int) -> None:
    association = _requestor(RJ_PDU)
    before = snapshot(association)
    assert EVENTS[event](association) == []
    assert snapshot(association) == before


@pytest.mark.parametrize(
    ("peers", "sends"), [(None, 16384), (0, 65536), (4096, 4096), (65537, 65536), (2**32 - 1, 65536), (8, 8)]
)
def test_the_length_to_send_is_the_lesser_of_the_peers_and_ours(peers: int | None, sends: int) -> None:
    pair = AssociationPair.established(make_rq(maximum_length=peers))
    assert pair.acceptor.maximum_length == sends


# --- release collision ---------------------------------------------------------------------------------------


def test_release_collision_ends_with_both_sides_idle() -> None:
    pair = AssociationPair.established()
    pair.requestor.release()
    pair.acceptor.release()
    pair.exchange()
    assert pair.states == (
        State.COLLISION_REQUESTOR_AWAIT_LOCAL_RESPONSE,
        State.COLLISION_ACCEPTOR_AWAIT_RELEASE_RP,
    )
    assert (pair.requestor_events, pair.acceptor_events) == ([Release()], [Release()])
    pair.requestor.respond_release(pair.now)
    pair.exchange()
    assert pair.states == (
        State.COLLISION_REQUESTOR_AWAIT_RELEASE_RP,
        State.COLLISION_ACCEPTOR_AWAIT_LOCAL_RESPONSE,
    )
    pair.acceptor.respond_release(pair.now)
    pair.exchange()
    assert pair.states == (State.IDLE, State.AWAIT_CLOSE)
    assert (pair.requestor_events[-1], pair.acceptor_events[-1]) == (Released(), Released())
    assert pair.acceptor.transport_closed() == []
    assert pair.states == (State.IDLE, State.IDLE)


def test_data_that_crosses_a_release_request_is_delivered_and_may_be_answered() -> None:
    pair = AssociationPair.established()
    pair.acceptor.send_p_data(echo_rq(7), pair.now)
    pair.requestor.release()
    pair.exchange()
    (message,) = pair.requestor_events
    assert isinstance(message, Message)
    assert message.command.message_id == 7
    assert pair.states == (State.AWAIT_RELEASE_RP, State.AWAIT_LOCAL_RELEASE_RESPONSE)
    pair.acceptor.send_p_data(echo_rq(8), pair.now)
    pair.acceptor.respond_release(pair.now)
    pair.exchange()
    assert [type(event) for event in pair.requestor_events] == [Message, Message, Released]


# --- timers --------------------------------------------------------------------------------------------------


def timed(**seconds: float) -> Association:
    """An established acceptor with these timers only."""
    limits = Limits(**{"artim": ARTIM, "half_pdu": 0.0, "idle": 0.0, **seconds})
    association = Association(is_requestor=False, limits=limits)
    association.transport_opened(DRIVEN)
    association.receive_data(RQ_PDU, DRIVEN)
    association.accept(AC, DRIVEN)
    association.data_to_send()
    return association


def test_an_idle_association_is_aborted_as_the_user_and_closed_at_artim() -> None:
    association = timed(idle=600)
    assert association.next_deadline() == DRIVEN + 600
    assert association.time_passed(DRIVEN + 599.9) == []
    assert association.time_passed(DRIVEN + 600) == [Aborted("idle for 600 s", 0)]
    assert association.data_to_send() == abort_pdu(0, 0)
    assert association.next_deadline() == DRIVEN + 600 + ARTIM
    assert association.time_passed(DRIVEN + 630) == []
    assert association.state is State.IDLE


@pytest.mark.parametrize(
    "action",
    [
        lambda association: association.receive_data(P_DATA, DRIVEN + 500),
        lambda association: association.send_p_data(P_DATA, DRIVEN + 500),
    ],
    ids=["received", "sent"],
)
def test_each_message_restarts_the_idle_timer(action: Callable[[Association], None]) -> None:
    association = timed(idle=600)
    action(association)
    assert association.next_deadline() == DRIVEN + 1100


def test_a_byte_is_no_message_and_does_not_restart_the_idle_timer() -> None:
    association = timed(idle=600)
    association.receive_data(P_DATA[:-1], DRIVEN + 500)
    assert association.next_deadline() == DRIVEN + 600


@pytest.mark.parametrize("size", [1, 5, 6, 11, 12, len(P_DATA) - 1])
def test_a_pdu_half_received_is_aborted_after_its_time(size: int) -> None:
    association = timed(half_pdu=20)
    association.receive_data(P_DATA[:size], NOW)
    assert association.next_deadline() == NOW + 20
    assert association.time_passed(NOW + 20) == [Aborted("a PDU was not complete after 20 s", 0)]
    assert association.data_to_send() == abort_pdu(0, 0)
    assert association.state is State.AWAIT_CLOSE


def test_bytes_that_drip_do_not_put_off_the_deadline_of_their_pdu() -> None:
    association = timed(half_pdu=20)
    for second, byte in enumerate(P_DATA[:20]):
        association.receive_data(bytes([byte]), NOW + second)
    assert association.next_deadline() == NOW + 20


@pytest.mark.parametrize("pdu", [P_DATA, RELEASE_RQ, find_rq(identifier=b"12")])
def test_the_rest_of_a_pdu_stops_its_timer(pdu: bytes) -> None:
    association = timed(half_pdu=20)
    association.receive_data(pdu[:-1], NOW)
    association.receive_data(pdu[-1:], NOW + 1)
    assert association.next_deadline() is None


def test_the_next_half_pdu_has_a_deadline_of_its_own() -> None:
    association = timed(half_pdu=20)
    association.receive_data(P_DATA[:9], NOW)
    association.receive_data(P_DATA[9:] + P_DATA[:3], NOW + 15)
    assert association.next_deadline() == NOW + 35


def test_a_half_pdu_before_the_association_is_left_to_artim() -> None:
    association = Association(is_requestor=False, limits=Limits(artim=30, half_pdu=20, idle=0))
    association.transport_opened(DRIVEN)
    association.receive_data(RQ_PDU[:50], DRIVEN)
    assert association.time_passed(DRIVEN + 20) == []
    assert association.state is State.AWAIT_ASSOCIATE_RQ
    assert association.next_deadline() == DRIVEN + 30
    assert association.time_passed(DRIVEN + 30) == []
    assert association.state is State.IDLE


def test_what_is_left_unread_while_closing_has_no_deadline_but_artim() -> None:
    association = timed(half_pdu=20)
    association.abort(NOW)
    association.receive_data(P_DATA[:9], NOW + 1)
    assert association.time_passed(NOW + 21) == []
    assert association.state is State.AWAIT_CLOSE
    assert association.next_deadline() == NOW + ARTIM


def test_an_artim_of_0_never_expires() -> None:
    association = Association(is_requestor=False, limits=Limits(artim=0, half_pdu=0, idle=0))
    association.transport_opened(DRIVEN)
    assert association.next_deadline() is None
    assert association.time_passed(DRIVEN + 1e6) == []
    assert association.state is State.AWAIT_ASSOCIATE_RQ
