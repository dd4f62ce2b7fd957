"""Any bytes in any cut.  `make fuzz` runs these for longer."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import SYNTAXES, command_sets, cuts, data_sets, mutated, p_data_streams, pdus, split

from dulproto.acse import DEFAULT_TRANSFER_SYNTAXES, Policy, Requestor, negotiate
from dulproto.assembler import Message
from dulproto.association import Association
from dulproto.dimse import decode_command, encode_command
from dulproto.elements import decode_data_set, encode_data_set
from dulproto.errors import ElementError, RemoteProtocolError
from dulproto.events import Aborted, Accepted, Associate, AssociationEvent, Limits, Release, Released
from dulproto.fsm import State
from dulproto.items import ContextResult, ProposedContext, UserInformation
from dulproto.pdu import (
    DECODERS,
    ENCODERS,
    RELEASE_RP,
    RELEASE_RQ,
    Abort,
    AssociateAc,
    AssociateRj,
    AssociateRq,
    encode_abort,
    encode_ae_titles,
    encode_associate_ac,
    encode_associate_rq,
)
from dulproto.uids import IMPLICIT_LE, MODALITY_WORKLIST_FIND, VERIFICATION

CONTEXTS = (1, 3, 5)
POLICIES = {
    "*": Policy(abstract_syntaxes=dict.fromkeys((VERIFICATION, MODALITY_WORKLIST_FIND), DEFAULT_TRANSFER_SYNTAXES))
}
TITLES = encode_ae_titles("WORKLIST", "CT1")
RQ = AssociateRq(
    TITLES,
    tuple(ProposedContext(number, MODALITY_WORKLIST_FIND, DEFAULT_TRANSFER_SYNTAXES) for number in CONTEXTS),
    UserInformation(maximum_length=16384, implementation_class_uid="1.2.3"),
)
AC = AssociateAc(
    TITLES, tuple(ContextResult(number, 0, IMPLICIT_LE) for number in CONTEXTS), UserInformation(maximum_length=16384)
)
NOW = 1000.0
LIMITS = Limits(command_set=4096, data_set=4096)


class Wire:
    """One association and what it said; answers indications as an adapter does, or leaves them unanswered."""

    def __init__(self, *, is_requestor: bool = False, answers: bool = True) -> None:
        self.association = Association(is_requestor=is_requestor, limits=LIMITS)
        self.answers = answers
        self.events: list[AssociationEvent] = []
        self.sent = b""
        if is_requestor:
            self.association.request(RQ)
        self.association.transport_opened(NOW)
        self.sent += self.association.data_to_send()

    def feed(self, *pieces: bytes) -> None:
        for piece in pieces:
            for event in self.association.receive_data(piece, NOW):
                self.events.append(event)
                if self.answers:
                    self.answer(event)
            self.sent += self.association.data_to_send()

    def answer(self, event: AssociationEvent) -> None:
        state = self.association.state
        if isinstance(event, Associate) and state is State.AWAIT_LOCAL_ASSOCIATE_RESPONSE:
            decision = negotiate(event.rq, POLICIES, Requestor())
            if isinstance(decision.pdu, AssociateAc):
                self.association.accept(decision.pdu, NOW)
            elif isinstance(decision.pdu, AssociateRj):
                self.association.reject(decision.pdu, NOW)
            else:
                self.association.abort(NOW)
        elif isinstance(event, Release) and state is State.AWAIT_LOCAL_RELEASE_RESPONSE:
            self.association.respond_release(NOW)

    @property
    def pdus_sent(self) -> list[object]:
        """What was sent, each PDU read again: nothing but well-formed PDUs may go out."""
        found, rest = [], self.sent
        while rest:
            size = 6 + int.from_bytes(rest[2:6], "big")
            found.append(DECODERS[rest[0]](rest[:size]))
            rest = rest[size:]
        return found


def established(*, answers: bool = True) -> Wire:
    wire = Wire()
    wire.feed(encode_associate_rq(RQ))
    assert wire.association.state is State.ESTABLISHED
    wire.answers = answers
    wire.events.clear()
    wire.sent = b""
    return wire


def ends_well(wire: Wire) -> None:
    """Nothing ends in silence: it was aborted, refused or released on the wire, it ended, or a timer runs."""
    association = wire.association
    last = wire.pdus_sent[-1] if wire.sent else None
    if association.state is State.IDLE:
        assert association.next_deadline() is None
    elif association.state is State.AWAIT_CLOSE:
        assert isinstance(last, Abort | AssociateRj) or RELEASE_RP in wire.sent
        assert association.next_deadline() is not None
    else:
        assert not any(isinstance(event, Aborted) for event in wire.events)
        assert association.error is None
        if association.state in (State.AWAIT_ASSOCIATE_RQ, State.ESTABLISHED):  # elsewhere it is the owner's turn
            assert association.next_deadline() is not None
        assert isinstance(last, None | Abort | AssociateRq | AssociateAc)
    for _ in range(3):
        deadline = association.next_deadline()
        if deadline is None:
            break
        for event in association.time_passed(deadline):
            assert isinstance(event, Aborted)
        association.data_to_send()
    assert association.next_deadline() is None
    association.transport_closed()
    assert association.state is State.IDLE


garbage = st.binary(max_size=200)
p_data = p_data_streams(CONTEXTS)
ends = st.sampled_from((b"", RELEASE_RQ, encode_abort(Abort(0)), encode_abort(Abort(2, 6))))
streams = st.builds(lambda messages, end: messages + end, p_data, ends)
other_pdus = pdus.map(lambda pdu: ENCODERS[type(pdu)](pdu))
any_streams = st.lists(p_data | other_pdus | st.just(RELEASE_RQ), max_size=4).map(b"".join)


# --- valid streams -----------------------------------------------------------------------------------------------


@given(streams, cuts)
def test_any_cut_of_a_valid_stream_gives_the_same_events_and_the_same_answer(stream: bytes, cuts: list[int]) -> None:
    whole, cut, bytewise = established(), established(), established()
    whole.feed(stream)
    cut.feed(*split(stream, cuts))
    bytewise.feed(*[stream[n : n + 1] for n in range(len(stream))])
    assert whole.events == cut.events == bytewise.events
    assert whole.sent == cut.sent == bytewise.sent
    assert whole.association.state is cut.association.state is bytewise.association.state
    assert whole.association.error is None
    ends_well(whole)


@given(p_data, p_data)
def test_two_valid_streams_in_one_packet_are_read_as_one_after_the_other(first: bytes, second: bytes) -> None:
    together, apart = established(), established()
    together.feed(first + second)
    apart.feed(first, second)
    assert together.events == apart.events
    assert all(isinstance(event, Message) for event in together.events)


@given(cuts, streams)
def test_any_cut_of_a_request_gives_the_same_association(cuts: list[int], stream: bytes) -> None:
    wire = Wire()
    wire.feed(*split(encode_associate_rq(RQ), cuts))
    assert wire.events == [Associate(RQ)]
    assert wire.association.state is State.ESTABLISHED
    wire.feed(stream)
    ends_well(wire)


@given(cuts)
def test_any_cut_of_an_acceptance_and_what_follows_it_gives_the_same_association(cuts: list[int]) -> None:
    wire = Wire(is_requestor=True)
    wire.feed(*split(encode_associate_ac(AC) + encode_abort(Abort(0)), cuts))
    assert wire.events[0] == Accepted(AC)
    assert isinstance(wire.events[1], Aborted)
    assert wire.association.state is State.IDLE


# --- streams that are not ----------------------------------------------------------------------------------------


@given(garbage, cuts)
def test_garbage_on_a_new_connection_is_aborted_or_waited_for(stream: bytes, cuts: list[int]) -> None:
    wire = Wire()
    wire.feed(*split(stream, cuts))
    if len(stream) >= 6 and stream[0] not in range(1, 8):
        assert wire.pdus_sent == [Abort(0, 0)]
    ends_well(wire)


@pytest.mark.parametrize(
    "stream",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"SSH-2.0-OpenSSH_9.6\r\n",
    ],
)
def test_Q_64_another_protocol_is_aborted_after_six_bytes(stream: bytes) -> None:
    wire = Wire()
    wire.feed(stream[:5])
    assert wire.sent == b""
    wire.feed(stream[5:6])
    assert wire.pdus_sent == [Abort(0, 0)]
    wire.feed(stream[6:])
    assert wire.pdus_sent == [Abort(0, 0)]
    ends_well(wire)


@given(mutated(st.just(encode_associate_rq(RQ))), cuts)
def test_any_mutation_of_a_request_is_answered_aborted_or_waited_for(stream: bytes, cuts: list[int]) -> None:
    wire = Wire()
    wire.feed(*split(stream, cuts))
    ends_well(wire)


@given(garbage, cuts)
def test_garbage_on_an_association_is_aborted_or_waited_for(stream: bytes, cuts: list[int]) -> None:
    wire = established()
    wire.feed(*split(stream, cuts))
    if len(stream) >= 6 and stream[0] not in range(1, 8):
        assert wire.pdus_sent == [Abort(2, 1)]
    ends_well(wire)


@given(mutated(streams), cuts)
def test_any_mutation_of_a_valid_stream_is_aborted_or_waited_for(stream: bytes, cuts: list[int]) -> None:
    wire = established()
    wire.feed(*split(stream, cuts))
    ends_well(wire)


@given(any_streams, cuts)
def test_any_pdus_in_any_state_are_answered_aborted_or_waited_for(stream: bytes, cuts: list[int]) -> None:
    for wire in (Wire(), established(), established(answers=False), Wire(is_requestor=True)):
        wire.feed(*split(stream, cuts))
        ends_well(wire)


@given(mutated(st.builds(lambda stream: encode_associate_ac(AC) + stream, streams)), cuts)
def test_any_mutation_of_an_acceptance_is_taken_aborted_or_waited_for(stream: bytes, cuts: list[int]) -> None:
    wire = Wire(is_requestor=True)
    wire.feed(*split(stream, cuts))
    ends_well(wire)


@given(mutated(streams) | any_streams, cuts)
def test_any_cut_of_any_stream_gives_the_same_events_and_the_same_answer(stream: bytes, cuts: list[int]) -> None:
    whole, cut = established(answers=False), established(answers=False)
    whole.feed(stream)
    cut.feed(*split(stream, cuts))
    assert whole.events == cut.events
    assert whole.sent == cut.sent
    assert whole.association.state is cut.association.state


@given(st.sampled_from(("release", "release after a message")), mutated(st.just(RELEASE_RP)) | any_streams, cuts)
def test_any_answer_to_our_release_ends_the_association_or_is_waited_for(
    when: str, stream: bytes, cuts: list[int]
) -> None:
    wire = Wire(is_requestor=True)
    wire.feed(encode_associate_ac(AC))
    if when != "release":
        wire.association.send_p_data(b"\4\0\0\0\0\6\0\0\0\2\1\2", NOW)
    wire.association.release()
    wire.sent += wire.association.data_to_send()
    wire.feed(*split(stream, cuts))
    if wire.association.state is State.IDLE:
        assert isinstance(wire.events[-1], Released | Aborted)


# --- what is in the messages -------------------------------------------------------------------------------------


def fault_of(decode: Callable[[bytes], object], data: bytes) -> RemoteProtocolError | ElementError | None:
    """What a decoder has against these bytes; any other exception is a bug."""
    try:
        decode(data)
    except (RemoteProtocolError, ElementError) as fault:
        return fault
    return None


@given(garbage | mutated(command_sets().map(encode_command)))
def test_any_bytes_are_a_command_set_or_the_peers_fault(data: bytes) -> None:
    fault = fault_of(decode_command, data)
    if fault is not None:
        assert isinstance(fault, RemoteProtocolError)
        assert fault.reason == 6
        assert 0 <= fault.offset <= len(data)


@pytest.mark.parametrize("syntax", SYNTAXES)
@given(data=st.data())
def test_any_bytes_are_a_data_set_or_no_data_set(syntax: str, data: st.DataObject) -> None:
    encoded = st.sampled_from(SYNTAXES).flatmap(
        lambda used: data_sets.map(lambda found: encode_data_set(found, used))
    )
    stream = data.draw(garbage | mutated(encoded))
    fault = fault_of(lambda raw: decode_data_set(raw, syntax), stream)
    if fault is not None:
        assert isinstance(fault, ElementError)
        assert 0 <= fault.offset <= len(stream)
    else:
        found = decode_data_set(stream, syntax)
        for used in SYNTAXES:  # and what was read can be sent on
            assert len(encode_data_set(found, used)) % 2 == 0


@given(st.integers(1, 7), garbage | mutated(other_pdus))
def test_any_bytes_are_a_pdu_or_the_peers_fault(pdu_type: int, data: bytes) -> None:
    data = bytes([pdu_type]) + data[1:]
    fault = fault_of(DECODERS[pdu_type], data)
    if fault is not None:
        assert isinstance(fault, RemoteProtocolError)
        assert fault.reason == 6
        assert 0 <= fault.offset <= max(6, len(data))
