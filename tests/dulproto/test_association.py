"""What an association makes of bytes: byte by byte, in any cut, in bounded memory."""

from __future__ import annotations

import logging
import sys
import tracemalloc
from collections import Counter
from itertools import pairwise
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pair import (
    NO_TIMERS,
    POLICY,
    TITLES,
    AssociationPair,
    cancel_rq,
    echo_rq,
    find_rq,
    make_ac,
    make_rq,
)

from dulproto import (
    EXPLICIT_BE,
    EXPLICIT_LE,
    IMPLICIT_LE,
    MODALITY_WORKLIST_FIND,
    VERIFICATION,
    Aborted,
    Associate,
    AssociateAc,
    Association,
    AssociationEvent,
    CommandField,
    CommandSet,
    LocalProtocolError,
    Message,
    ProposedContext,
    Release,
    Requestor,
    ResponseTemplate,
    State,
    Tolerated,
    encode_command,
    negotiate,
)
from dulproto.items import encode_item, encode_proposed_context, encode_user_information
from dulproto.pdu import RELEASE_RP, RELEASE_RQ, encode_associate_ac, encode_associate_rq, encode_fragments

COMMAND, LAST = 1, 2
RQ = make_rq()
RQ_PDU = encode_associate_rq(RQ)
IDENTIFIER = bytes.fromhex("10001000 00000000")
STREAM = (
    echo_rq(1)
    + find_rq(2, IDENTIFIER)
    + cancel_rq(2)
    + encode_fragments(
        1, COMMAND, encode_command(CommandSet(command_field=0x8030, message_id_being_responded_to=9, status=0)), 20
    )
    + find_rq(3, IDENTIFIER * 300)
    + RELEASE_RQ
)


def established(limits: Any = NO_TIMERS) -> Association:
    """An acceptor with Verification on context 1 and the worklist on context 3, nothing left to send."""
    association = AssociationPair.established(RQ, limits).acceptor
    assert association.data_to_send() == b""
    return association


def awaiting_rq() -> Association:
    association = Association(is_requestor=False, limits=NO_TIMERS)
    association.transport_opened(0)
    return association


def pdu(pdu_type: int, content: bytes = b"", *, length: int | None = None) -> bytes:
    return bytes([pdu_type, 0]) + (len(content) if length is None else length).to_bytes(4, "big") + content


def pdv(context_id: int, control: int, fragment: bytes = b"", *, length: int | None = None) -> bytes:
    size = len(fragment) + 2 if length is None else length
    return size.to_bytes(4, "big") + bytes([context_id, control]) + fragment


def p_data(*pdvs: bytes) -> bytes:
    return pdu(4, b"".join(pdvs))


def associate_rq(*items: bytes, version: int = 1, titles: bytes = TITLES) -> bytes:
    return pdu(1, version.to_bytes(2, "big") + bytes(2) + titles + b"".join(items))


APPLICATION_CONTEXT = encode_item(0x10, b"1.2.840.10008.3.1.1.1")
CONTEXT = encode_proposed_context(ProposedContext(1, VERIFICATION, (IMPLICIT_LE,)))
USER = encode_user_information(RQ.user_information)


def aborts(association: Association, data: bytes, *, source: int, reason: int) -> str:
    """The data ends in this A-ABORT, whole and byte by byte alike; return what the log gets to know."""
    before = association.state
    events = association.receive_data(data, 0)
    assert association.data_to_send() == bytes([7, 0, 0, 0, 0, 4, 0, 0, source, reason])
    assert association.state is State.AWAIT_CLOSE
    assert isinstance(events[-1], Aborted)
    assert events[-1].text == str(association.error)
    dripped = established() if before is State.ESTABLISHED else awaiting_rq()
    events_of_drip = [event for byte in data for event in dripped.receive_data(bytes([byte]), 0)]
    assert events_of_drip == events
    assert dripped.data_to_send() == bytes([7, 0, 0, 0, 0, 4, 0, 0, source, reason])
    return events[-1].text


# --- any cut ----------------------------------------------------------------------------------------------------


def receive(pieces: list[bytes]) -> list[AssociationEvent]:
    association = established()
    return [event for piece in pieces for event in association.receive_data(piece, 0)]


WHOLE = receive([STREAM])


def test_a_stream_gives_its_messages_in_order() -> None:
    *messages, release = WHOLE
    assert [(m.context_id, m.command.command_field, len(m.data)) for m in messages] == [
        (1, CommandField.C_ECHO_RQ, 0),
        (3, CommandField.C_FIND_RQ, 8),
        (3, CommandField.C_CANCEL_RQ, 0),
        (1, CommandField.C_ECHO_RSP, 0),
        (3, CommandField.C_FIND_RQ, 2400),
    ]
    assert release == Release()


def test_a_stream_byte_by_byte_gives_the_same_messages() -> None:
    assert receive([bytes([byte]) for byte in STREAM]) == WHOLE


@pytest.mark.parametrize("at", range(0, 400, 7))
def test_a_stream_in_two_pieces_gives_the_same_messages(at: int) -> None:
    assert receive([STREAM[:at], STREAM[at:]]) == WHOLE


@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_any_split_gives_the_same_messages(cuts: list[int]) -> None:
    assert receive([STREAM[a:b] for a, b in pairwise([0, *sorted(cuts), len(STREAM)])]) == WHOLE


def test_two_messages_in_one_packet_are_two_messages() -> None:
    assert receive([echo_rq(1) * 2]) == receive([echo_rq(1)]) * 2


@given(data=st.binary(max_size=200), is_established=st.booleans())
def test_no_input_raises(data: bytes, is_established: bool) -> None:
    association = established() if is_established else awaiting_rq()
    association.receive_data(data, 0)
    if association.error is not None:
        assert association.state is State.AWAIT_CLOSE
        assert association.data_to_send()[0] == 7


# --- P-DATA -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", range(6))
def test_a_p_data_too_short_for_a_pdv_aborts_as_an_invalid_parameter(length: int) -> None:
    text = aborts(established(), pdu(4, length=length), source=2, reason=6)
    assert text == f"{length} bytes are too few for a PDV [P-DATA-TF at byte 6]"


@pytest.mark.parametrize("left", range(1, 6))
def test_bytes_left_behind_the_last_pdv_abort_with_their_offset(left: int) -> None:
    first = pdv(1, COMMAND, b"1234")
    text = aborts(established(), pdu(4, first + bytes(left)), source=2, reason=6)
    assert text == f"{left} bytes are too few for a PDV [P-DATA-TF at byte {6 + len(first)}]"


@pytest.mark.parametrize("length", [0, 1, 7, 0xFFFFFFFF])
def test_a_pdv_length_that_does_not_fit_aborts_with_its_offset(length: int) -> None:
    text = aborts(established(), pdu(4, pdv(1, COMMAND, b"1234", length=length)), source=2, reason=6)
    assert text == f"PDV length {length} does not fit the PDU [PDV-item-length at byte 6]"


@pytest.mark.parametrize("context_id", [0, 2, 5, 255])
def test_a_pdv_on_a_context_that_was_not_accepted_aborts(context_id: int) -> None:
    text = aborts(established(), p_data(pdv(context_id, 3, b"12")), source=2, reason=6)
    assert text == (f"presentation context {context_id} was not accepted [PDV.presentation-context-ID at byte 10]")


def test_a_data_fragment_without_a_command_is_an_unexpected_pdu() -> None:
    text = aborts(established(), p_data(pdv(3, LAST, b"1234")), source=2, reason=2)
    assert text == "a data set fragment without a command [PDV.message-control-header at byte 11]"


def test_a_data_fragment_before_the_command_is_complete_is_an_unexpected_pdu() -> None:
    text = aborts(established(), p_data(pdv(3, COMMAND, b"1234"), pdv(3, LAST, b"1234")), source=2, reason=2)
    assert text == "a data set fragment without a command [PDV.message-control-header at byte 21]"


def test_a_command_in_the_middle_of_a_data_set_is_an_unexpected_pdu() -> None:
    half = find_rq(1, b"1234")[:-10] + pdv(3, 0, b"1234")
    association = established()
    assert association.receive_data(half, 0) == []
    (event,) = association.receive_data(echo_rq(context_id=3), 0)
    assert association.data_to_send() == bytes.fromhex("07 00 00000004 0000 02 02")
    assert event.text == "a command fragment where a data set must follow [PDV.message-control-header at byte 11]"


def test_a_message_that_changes_its_context_is_an_unexpected_pdu() -> None:
    text = aborts(established(), p_data(pdv(1, COMMAND, b"1234"), pdv(3, COMMAND, b"12")), source=2, reason=2)
    assert text == "a PDV of context 3 inside a message of 1 [PDV.message-control-header at byte 20]"


def test_an_empty_data_pdv_behind_a_command_without_data_set_is_skipped() -> None:
    association = established()
    (message,) = association.receive_data(echo_rq() + p_data(pdv(1, LAST)), 0)
    assert isinstance(message, Message)
    assert association.state is State.ESTABLISHED
    assert association.receive_data(echo_rq(2), 0)[0].command.message_id == 2


def test_empty_pdvs_anywhere_in_a_message_are_no_matter() -> None:
    command = find_rq(1, b"")[12:-12]
    data = p_data(
        pdv(3, COMMAND),
        pdv(3, COMMAND, command[:10]),
        pdv(3, COMMAND),
        pdv(3, COMMAND, command[10:]),
        pdv(3, COMMAND | LAST),
        pdv(3, 0),
        pdv(3, 0, b"12"),
        pdv(3, 0, b"34"),
        pdv(3, LAST),
    )
    (message,) = receive([data])
    assert (message.command.message_id, message.data) == (1, b"1234")
    assert receive([bytes([byte]) for byte in data]) == [message]


def test_odd_fragments_are_put_together() -> None:
    command = find_rq(1, b"")[12:-12]
    pdvs = [pdv(3, COMMAND | (LAST if i == len(command) - 1 else 0), command[i : i + 1]) for i in range(len(command))]
    (message,) = receive([p_data(*pdvs, pdv(3, 0, b"1"), pdv(3, LAST, b"23"))])
    assert message.data == b"123"


def test_reserved_bits_of_the_message_control_header_are_not_looked_at() -> None:
    command = echo_rq()[12:]
    (message,) = receive([p_data(pdv(1, 0xFC | COMMAND | LAST, command))])
    assert message.command.message_id == 1


def test_a_reserved_byte_of_a_pdu_header_is_not_looked_at() -> None:
    data = bytearray(echo_rq())
    data[1] = 0xFF
    (message,) = receive([bytes(data)])
    assert message.command.message_id == 1


# --- command sets -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (b"", "the command set has no Command Field [(0000,0100) at byte 0]"),
        (bytes.fromhex("00001001 02000000 0100"), "the command set has no Command Field [(0000,0100) at byte 10]"),
        (
            bytes.fromhex("00000001 04000000 3000"),
            "length 4 runs past the end of the command set [(0000,0100) at byte 4]",
        ),
        (
            bytes.fromhex("00000001 FFFFFFFF 3000"),
            f"length {0xFFFFFFFF} runs past the end of the command set [(0000,0100) at byte 4]",
        ),
        (bytes.fromhex("00000001 0200"), "6 bytes are too few for an element [Command-set at byte 0]"),
    ],
)
def test_a_command_set_that_cannot_be_decoded_aborts_with_element_and_offset(command: bytes, text: str) -> None:
    assert aborts(established(), p_data(pdv(1, 3, command)), source=2, reason=6) == text


@pytest.mark.parametrize(
    "group_length", [b"", bytes.fromhex("00000000 04000000 FFFFFFFF"), bytes.fromhex("00000000 00000000")]
)
def test_a_missing_or_wrong_group_length_is_no_matter(group_length: bytes) -> None:
    command = echo_rq()[12 + 12 :]
    (message,) = receive([p_data(pdv(1, 3, group_length + command))])
    assert message.command.message_id == 1


def test_message_id_0_and_a_missing_one_are_let_through() -> None:
    without = bytes.fromhex("00000001 02000000 3000 00000008 02000000 0101")
    zero, missing = receive([echo_rq(0), p_data(pdv(1, 3, without))])
    assert zero.command.message_id == 0
    assert missing.command.message_id is None


# --- sizes and memory -------------------------------------------------------------------------------------------


def peak_while(association: Association, pieces: list[bytes]) -> int:
    tracemalloc.start()
    try:
        for piece in pieces:
            association.receive_data(piece, 0)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(pdu(1, length=0xFFFFFFFF), id="A-ASSOCIATE-RQ"),
        pytest.param(pdu(3, length=0xFFFFFFFF), id="A-ASSOCIATE-RJ"),
        pytest.param(pdu(4, pdv(1, 3, length=0xFFFFFFFB), length=0xFFFFFFFF), id="P-DATA-TF"),
        pytest.param(pdu(5, length=0xFFFFFFFF), id="A-RELEASE-RQ"),
        pytest.param(pdu(7, length=0xFFFFFFFF), id="A-ABORT"),
        pytest.param(pdu(0x99, length=0xFFFFFFFF), id="unknown"),
    ],
)
@pytest.mark.parametrize("state", ["awaiting", "established", "closing"])
def test_a_length_of_4_gib_takes_no_memory_whatever_the_pdu_and_the_state(header: bytes, state: str) -> None:
    association = awaiting_rq() if state == "awaiting" else established()
    if state == "closing":
        association.abort(0)
    piece = bytes(16384)
    assert peak_while(association, [header] + [piece] * 200) < 100_000
    assert association.state is State.AWAIT_CLOSE


def test_a_p_data_of_4_gib_is_read_pdv_by_pdv() -> None:
    association = established()
    association.receive_data(pdu(4, length=0xFFFFFFFF), 0)
    message = pdv(1, 3, echo_rq()[12:])
    received = 0

    def receive_many() -> int:
        return sum(len(association.receive_data(message * 100, 0)) for _ in range(100))

    tracemalloc.start()
    try:
        received = receive_many()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert received == 10_000
    assert peak < 300_000
    assert association.in_message


@pytest.mark.parametrize(
    ("control", "limit", "what", "lead"),
    [(COMMAND, 64 << 10, "command", b""), (0, 1 << 20, "data set", find_rq(1, b"")[:-12])],
)
def test_a_message_may_reach_its_limit_and_no_more(control: int, limit: int, what: str, lead: bytes) -> None:
    association = established()
    association.receive_data(lead, 0)
    fragment = bytes(8192)
    for _ in range(limit // len(fragment)):
        assert association.receive_data(p_data(pdv(3, control, fragment)), 0) == []
    (event,) = association.receive_data(p_data(pdv(3, control, b"1")), 0)
    assert association.data_to_send() == bytes.fromhex("07 00 00000004 0000 02 06")
    assert event.text == f"more than {limit} bytes of {what} [PDV.message-fragment at byte 6]"


def test_a_fragment_over_the_limit_is_refused_at_its_header() -> None:
    association = established()
    header = pdu(4, pdv(1, COMMAND, length=(64 << 10) + 3), length=1 << 20)
    _, event = association.receive_data(header, 0)
    assert event.text == "more than 65536 bytes of command [PDV.message-fragment at byte 6]"


def test_a_p_data_longer_than_what_we_announced_is_accepted_and_told_of_once() -> None:
    long = find_rq(1, bytes(500_000))
    told, *messages = receive([long + long])
    assert told == Tolerated("P_DATA_TF of 500006 bytes, more than the 16384 announced [PDU-length at byte 2]")
    assert [len(message.data) for message in messages] == [500_000] * 2


@pytest.mark.parametrize("maximum_length", [0, 2**32 - 1])
def test_no_p_data_is_too_long_where_no_limit_was_announced(maximum_length: int) -> None:
    pair = AssociationPair.established(make_rq(maximum_length=maximum_length))
    (message,) = pair.acceptor.receive_data(find_rq(1, bytes(500_000)), 0)
    assert isinstance(message, Message)


@pytest.mark.parametrize(
    ("pdu_type", "limit"), [(1, 1 << 20), (2, 1 << 20), (3, 1024), (5, 1024), (6, 1024), (7, 1024)]
)
def test_a_pdu_over_its_limit_is_an_invalid_pdu_at_its_header(pdu_type: int, limit: int) -> None:
    if pdu_type in (2, 3):
        association = Association(is_requestor=True, limits=NO_TIMERS)
        association.request(RQ)
        association.transport_opened(0)
        source, reason = 2, 6
    elif pdu_type == 1:
        association, source, reason = awaiting_rq(), 0, 0
    else:
        association, source, reason = established(), 2, 6
        if pdu_type == 6:
            association.release()
    association.data_to_send()
    (event,) = association.receive_data(pdu(pdu_type, length=limit + 1), 0)
    assert association.data_to_send() == bytes([7, 0, 0, 0, 0, 4, 0, 0, source, reason])
    assert event.text.endswith(f"of {limit + 1} bytes, more than {limit} [PDU-length at byte 2]")


@pytest.mark.parametrize("length", [0, 3, 4, 1024])
def test_a_release_or_an_abort_of_any_length_up_to_1_kib_is_taken(length: int) -> None:
    assert receive([pdu(5, bytes(length))]) == [Release()]
    association = established()
    (event,) = association.receive_data(pdu(7, bytes(length)), 0)
    assert isinstance(event, Aborted)
    assert association.state is State.IDLE
    assert association.data_to_send() == b""


# --- association requests ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_pdu", "text"),
    [
        (pdu(1), "6 bytes are too few [A-ASSOCIATE-RQ at byte 6]"),
        (associate_rq(), "the application context item is missing [Application-context-item at byte 74]"),
        (
            associate_rq(APPLICATION_CONTEXT, USER),
            "there is no presentation context item [Presentation-context-item at byte",
        ),
        (
            associate_rq(APPLICATION_CONTEXT, b"\x20\0\xff\xff"),
            "length 65535 of item 20H does not fit [A-ASSOCIATE-RQ at byte",
        ),
        (associate_rq(APPLICATION_CONTEXT, CONTEXT, b"\x50\0"), "2 bytes are left over [A-ASSOCIATE-RQ at byte"),
    ],
)
def test_a_malformed_request_is_aborted_as_the_service_user(request_pdu: bytes, text: str) -> None:
    assert aborts(awaiting_rq(), request_pdu, source=0, reason=0).startswith(text)


@pytest.mark.parametrize(
    "request_pdu",
    [
        associate_rq(APPLICATION_CONTEXT, CONTEXT, USER),
        associate_rq(USER, CONTEXT, APPLICATION_CONTEXT),
        associate_rq(APPLICATION_CONTEXT, encode_item(0x77, b"vendor"), CONTEXT, USER),
        associate_rq(APPLICATION_CONTEXT, CONTEXT),
        associate_rq(APPLICATION_CONTEXT, CONTEXT, USER, version=0xFFFF),
    ],
    ids=["as printed", "any order", "unknown item", "no user information", "further version bits"],
)
def test_odd_requests_are_accepted(request_pdu: bytes) -> None:
    association = awaiting_rq()
    (event,) = association.receive_data(request_pdu, 0)
    assert isinstance(event, Associate)
    assert isinstance(negotiate(event.rq, {"*": POLICY}, Requestor()).pdu, AssociateAc)


def answer(rq: Any) -> tuple[Association, AssociateAc]:
    pair = AssociationPair.connected(rq)
    decision = negotiate(pair.acceptor.rq, {"*": POLICY}, Requestor())
    assert isinstance(decision.pdu, AssociateAc)
    pair.acceptor.accept(decision.pdu, 0)
    pair.exchange()
    assert pair.states == (State.ESTABLISHED, State.ESTABLISHED)
    assert pair.requestor.contexts == pair.acceptor.contexts
    return pair.acceptor, decision.pdu


def test_128_contexts_are_all_answered_and_all_usable() -> None:
    contexts = tuple(ProposedContext(i, MODALITY_WORKLIST_FIND, (IMPLICIT_LE,)) for i in range(1, 256, 2))
    association, ac = answer(make_rq(contexts))
    assert [result.context_id for result in ac.presentation_contexts] == list(range(1, 256, 2))
    for context_id in range(1, 256, 2):
        (message,) = association.receive_data(find_rq(1, IDENTIFIER, context_id), 0)
        assert message.context_id == context_id


def test_three_equal_contexts_are_three_contexts() -> None:
    contexts = tuple(ProposedContext(i, MODALITY_WORKLIST_FIND, (EXPLICIT_LE,)) for i in (1, 3, 5))
    association, ac = answer(make_rq(contexts))
    assert [result.result for result in ac.presentation_contexts] == [0, 0, 0]
    messages = [association.receive_data(find_rq(1, IDENTIFIER, i), 0)[0] for i in (5, 1, 3)]
    assert [message.context_id for message in messages] == [5, 1, 3]


def test_of_a_context_id_proposed_twice_the_first_counts() -> None:
    contexts = (
        ProposedContext(1, MODALITY_WORKLIST_FIND, (EXPLICIT_BE,)),
        ProposedContext(1, VERIFICATION, (IMPLICIT_LE,)),
    )
    association, ac = answer(make_rq(contexts))
    assert [result.result for result in ac.presentation_contexts] == [0, 2]
    assert association.contexts[1].abstract_syntax == MODALITY_WORKLIST_FIND
    assert association.contexts[1].transfer_syntax == EXPLICIT_BE


def test_a_context_that_was_refused_cannot_be_used() -> None:
    contexts = (ProposedContext(1, VERIFICATION, (IMPLICIT_LE,)), ProposedContext(3, "1.2.3", (IMPLICIT_LE,)))
    association, ac = answer(make_rq(contexts))
    assert [result.result for result in ac.presentation_contexts] == [0, 3]
    association.receive_data(echo_rq(context_id=3), 0)
    assert association.data_to_send() == bytes.fromhex("07 00 00000004 0000 02 06")


@pytest.mark.parametrize("maximum_length", [None, 0, 1, 7, 8, 128, 16384, 2**32 - 1])
def test_the_maximum_length_comes_back_on_the_wire_as_it_was_sent(maximum_length: int | None) -> None:
    pair = AssociationPair.connected(make_rq(maximum_length=maximum_length))
    pair.acceptor.accept(make_ac(pair.acceptor.rq), 0)
    expected = 16384 if maximum_length is None else maximum_length
    assert b"\x51\x00\x00\x04" + expected.to_bytes(4, "big") in pair.acceptor.data_to_send()


@pytest.mark.parametrize("maximum_length", [8, 9, 128, 16384])
def test_what_we_send_keeps_to_the_peers_maximum_length_and_arrives_whole(maximum_length: int) -> None:
    pair = AssociationPair.established(make_rq(maximum_length=maximum_length))
    template = ResponseTemplate(3, CommandField.C_FIND_RQ, MODALITY_WORKLIST_FIND, pair.acceptor.maximum_length)
    identifier = bytes(range(256)) * 100
    data = template.pending(7, identifier)
    pos = 0
    while pos < len(data):
        length = int.from_bytes(data[pos + 2 : pos + 6], "big")
        assert 8 <= length <= maximum_length
        pos += 6 + length
    assert pos == len(data)
    pair.acceptor.send_p_data(data, 0)
    pair.exchange()
    (message,) = pair.requestor_events
    assert (message.command.message_id_being_responded_to, message.data) == (7, identifier)


@pytest.mark.parametrize("maximum_length", range(1, 8))
def test_a_maximum_length_that_leaves_no_room_is_accepted_until_something_must_be_sent(maximum_length: int) -> None:
    pair = AssociationPair.established(make_rq(maximum_length=maximum_length))
    with pytest.raises(LocalProtocolError, match=f"at most {maximum_length} bytes"):
        echo_rq(maximum_length=pair.acceptor.maximum_length)
    assert pair.acceptor.state is State.ESTABLISHED


# --- work -------------------------------------------------------------------------------------------------------


def test_a_request_that_drips_in_is_looked_at_a_few_times_not_at_every_byte() -> None:
    syntaxes = tuple(f"1.2.840.10008.1.2.4.{n}" for n in range(30))
    rq = make_rq(tuple(ProposedContext(i, f"1.2.3.{i}", syntaxes) for i in range(1, 256, 2)))
    data = encode_associate_rq(rq)
    assert len(data) > 100_000
    association = awaiting_rq()
    calls: Counter[str] = Counter()

    def count(frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            calls[frame.f_code.co_name] += 1

    pieces = [data[i : i + 1] for i in range(len(data))]
    events: list[AssociationEvent] = []
    sys.setprofile(count)
    try:
        for piece in pieces:
            events += association.receive_data(piece, 0)
    finally:
        sys.setprofile(None)
    assert [type(event) for event in events] == [Associate]
    assert calls["receive_data"] == len(data)
    assert calls["_read"] <= 8  # each byte of the header, and the whole


# --- strangers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"GET / HTTP/1.1\r\n", "47H is no PDU type: an HTTP client [PDU-type at byte 0]"),
        (b"POST / HTTP/1.1\r\n", "50H is no PDU type: an HTTP client [PDU-type at byte 0]"),
        (
            bytes.fromhex("16030100F5010000F1"),
            "16H is no PDU type: a TLS client on a plain port [PDU-type at byte 0]",
        ),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "53H is no PDU type [PDU-type at byte 0]"),
        (bytes(6), "00H is no PDU type [PDU-type at byte 0]"),
    ],
)
def test_strangers_are_aborted_after_six_bytes(data: bytes, text: str) -> None:
    association = awaiting_rq()
    assert association.receive_data(data[:5], 0) == []
    assert association.data_to_send() == b""
    (event,) = association.receive_data(data[5:6], 0)
    assert event == Aborted(text, 0)
    assert association.data_to_send() == bytes.fromhex("07 00 00000004 0000 00 00")
    assert association.receive_data(data[6:] + RQ_PDU, 0) == []
    assert association.data_to_send() == b""


def test_an_unknown_pdu_type_in_an_association_is_an_unrecognized_pdu() -> None:
    assert aborts(established(), pdu(8, b"1234"), source=2, reason=1) == "08H is no PDU type [PDU-type at byte 0]"


# --- in the middle of things ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", range(1, len(find_rq(1, IDENTIFIER))))
def test_a_message_is_unfinished_after_each_byte_but_its_last(size: int) -> None:
    data = find_rq(1, IDENTIFIER)
    association = established()
    association.receive_data(data[:size], 0)
    assert association.in_message
    association.receive_data(data[size:], 0)
    assert not association.in_message


def test_a_release_request_is_awaited_to_its_end_and_nothing_after_it_is() -> None:
    association = established()
    association.receive_data(RELEASE_RQ[:9], 0)
    assert association.in_message
    association.receive_data(RELEASE_RQ[9:], 0)
    assert not association.in_message


def test_after_a_local_abort_the_rest_of_the_pdu_is_skipped_and_an_abort_is_still_seen() -> None:
    association = established()
    data = find_rq(1, bytes(1000))
    association.receive_data(data[:500], 0)
    association.abort(0)
    association.data_to_send()
    assert association.receive_data(data[500:700], 0) == []
    assert association.receive_data(data[700:] + bytes.fromhex("07 00 00000004 0000 00 00"), 0) == []
    assert association.state is State.IDLE
    assert association.data_to_send() == b""


@pytest.mark.parametrize("cut", range(1, 10))
def test_a_pdu_to_ignore_is_ignored_in_any_cut(cut: int) -> None:
    association = established()
    association.abort(0)
    association.data_to_send()
    data = RELEASE_RP + encode_associate_ac(make_ac(RQ)) + RELEASE_RQ
    for start in range(0, len(data), cut):
        assert association.receive_data(data[start : start + cut], 0) == []
    assert association.state is State.AWAIT_CLOSE
    assert association.data_to_send() == b""


def test_what_comes_behind_a_broken_pdu_is_not_looked_at() -> None:
    association = established()
    (event,) = association.receive_data(pdu(4, length=0) + echo_rq() + RELEASE_RQ, 0)
    assert isinstance(event, Aborted)
    association.data_to_send()
    assert association.receive_data(RQ_PDU, 0) == []
    assert association.data_to_send() == b""


def test_what_comes_before_a_broken_pdu_is_delivered() -> None:
    message, aborted = receive([echo_rq() + pdu(9)])
    assert isinstance(message, Message)
    assert isinstance(aborted, Aborted)


# --- the log ----------------------------------------------------------------------------------------------------


def test_pdus_and_messages_are_logged_at_debug_without_what_they_carry(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "dulproto.association"):
        association = established()
        association.receive_data(find_rq(1, b"Doe^Jane") + RELEASE_RQ, 0)
    lines = [record.getMessage() for record in caplog.records]
    assert "< message 0020H, 8 bytes" in lines
    assert "< RELEASE_RQ, 4 bytes, AR-2" in lines
    assert "Doe" not in "".join(lines)


def test_nothing_is_logged_above_debug(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        receive([STREAM])
        receive([pdu(9)])
    assert caplog.records == []
