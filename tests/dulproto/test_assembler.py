from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import cuts, message_pdvs, split

from dulproto.assembler import Message, MessageAssembler
from dulproto.dimse import DATA_SET, CommandSet, decode_command, encode_command
from dulproto.errors import RemoteProtocolError
from dulproto.pdu import Pdv

COMMAND, LAST = 1, 2
ECHO = CommandSet(command_field=0x0030, affected_sop_class_uid="1.2.840.10008.1.1", message_id=7)
FIND = CommandSet(
    command_field=0x0020,
    affected_sop_class_uid="1.2.840.10008.5.1.4.31",
    message_id=9,
    priority=0,
    command_data_set_type=DATA_SET,
)
ECHO_BYTES, FIND_BYTES = encode_command(ECHO), encode_command(FIND)


def assembler(command_limit: int = 65536, data_set_limit: int = 1 << 20) -> MessageAssembler:
    return MessageAssembler({1: "one", 3: "three"}, command_limit, data_set_limit)


def feed(assembler: MessageAssembler, *pdvs: tuple[int, int, bytes], cuts: list[int] | None = None) -> list[Message]:
    """Give PDVs, each fragment in these cuts; return the messages that became complete."""
    messages = []
    for context_id, control, fragment in pdvs:
        assembler.begin(context_id, control, len(fragment), 6)
        for piece in split(fragment, cuts or []):
            if piece:
                assembler.add(piece)
        message = assembler.end()
        if message is not None:
            messages.append(message)
    return messages


def test_a_command_without_data_set_is_a_message() -> None:
    assert feed(assembler(), (1, COMMAND | LAST, ECHO_BYTES)) == [Message(1, ECHO, b"")]


def test_a_command_and_its_data_set_are_a_message() -> None:
    assert feed(assembler(), (3, COMMAND | LAST, FIND_BYTES), (3, LAST, b"data")) == [Message(3, FIND, b"data")]


def test_an_empty_data_set_is_one() -> None:
    assert feed(assembler(), (3, COMMAND | LAST, FIND_BYTES), (3, LAST, b"")) == [Message(3, FIND, b"")]


def test_empty_pdvs_among_fragments_are_no_matter() -> None:
    pdvs = [
        (3, COMMAND, b""),
        (3, COMMAND, FIND_BYTES[:10]),
        (3, COMMAND, b""),
        (3, COMMAND | LAST, FIND_BYTES[10:]),
        (3, 0, b""),
        (3, 0, b"da"),
        (3, 0, b"ta"),
        (3, LAST, b""),
    ]
    assert feed(assembler(), *pdvs) == [Message(3, FIND, b"data")]


@pytest.mark.parametrize("control", [0, LAST])
def test_an_empty_data_pdv_behind_a_message_without_data_set_is_skipped(control: int) -> None:
    pdvs = [(1, COMMAND | LAST, ECHO_BYTES), (1, control, b""), (3, COMMAND | LAST, FIND_BYTES), (3, LAST, b"data")]
    assert feed(assembler(), *pdvs) == [Message(1, ECHO), Message(3, FIND, b"data")]


def test_bits_2_to_7_of_the_control_header_are_not_checked() -> None:
    assert feed(assembler(), (3, 0xFF, FIND_BYTES), (3, 0xFE, b"data")) == [Message(3, FIND, b"data")]


def test_fragments_may_have_odd_lengths() -> None:
    pdvs = [(3, COMMAND, FIND_BYTES[:7]), (3, COMMAND | LAST, FIND_BYTES[7:]), (3, 0, b"d"), (3, LAST, b"ata")]
    assert feed(assembler(), *pdvs) == [Message(3, FIND, b"data")]


@given(st.lists(st.sampled_from((1, 3)).flatmap(message_pdvs), max_size=3), cuts)
def test_any_fragments_in_any_cut_give_the_same_messages(messages: list[list[Pdv]], cuts: list[int]) -> None:
    expected = []
    for pdvs in messages:
        command = b"".join([pdv.fragment for pdv in pdvs if pdv.control & COMMAND])
        data = b"".join([pdv.fragment for pdv in pdvs if not pdv.control & COMMAND])
        expected.append(Message(pdvs[0].context_id, decode_command(command), data))
    stream = [(pdv.context_id, pdv.control, pdv.fragment) for pdvs in messages for pdv in pdvs]
    assert feed(assembler(), *stream, cuts=cuts) == expected


def test_a_fragment_given_byte_by_byte_is_the_same() -> None:
    every = list(range(200))
    assert feed(assembler(), (3, 3, FIND_BYTES), (3, 2, b"data"), cuts=every) == [Message(3, FIND, b"data")]


def test_the_bytes_of_a_message_are_not_those_of_the_next() -> None:
    messages = feed(assembler(), *[(3, 3, FIND_BYTES), (3, 0, b"a"), (3, 2, b"b"), (3, 3, FIND_BYTES), (3, 2, b"c")])
    assert [message.data for message in messages] == [b"ab", b"c"]
    assert all(type(message.data) is bytes for message in messages)


def test_a_message_is_begun_from_its_first_byte_to_its_last() -> None:
    one = assembler()
    begun = [one.in_message]
    for pdv in [(3, 1, b""), (3, 1, FIND_BYTES[:8]), (3, 3, FIND_BYTES[8:]), (3, 0, b"da"), (3, 2, b"ta")]:
        feed(one, pdv)
        begun.append(one.in_message)
    assert begun == [False, False, True, True, True, False]


# Sequences that are faults in their last PDV: reason, field, offset behind the start of that PDV.
CONTROL, CONTEXT, FRAGMENT = "PDV.message-control-header", "PDV.presentation-context-ID", "PDV.message-fragment"
FAULTS: list[tuple[str, list[tuple[int, int, bytes]], tuple[int, str, int]]] = [
    ("context not accepted", [(5, 3, ECHO_BYTES)], (6, CONTEXT, 4)),
    ("context 0", [(0, 3, ECHO_BYTES)], (6, CONTEXT, 4)),
    ("empty PDV on a context not accepted", [(5, 2, b"")], (6, CONTEXT, 4)),
    ("another context inside a command", [(1, 1, ECHO_BYTES[:8]), (3, 3, ECHO_BYTES[8:])], (2, CONTROL, 4)),
    ("another context for the data set", [(3, 3, FIND_BYTES), (1, 2, b"data")], (2, CONTROL, 4)),
    ("another context inside a data set", [(3, 3, FIND_BYTES), (3, 0, b"da"), (1, 2, b"ta")], (2, CONTROL, 4)),
    ("data set without a command", [(1, 2, b"data")], (2, CONTROL, 5)),
    ("data set behind a message without one", [(1, 3, ECHO_BYTES), (1, 2, b"data")], (2, CONTROL, 5)),
    ("data set inside a command", [(1, 1, ECHO_BYTES[:8]), (1, 2, b"data")], (2, CONTROL, 5)),
    ("empty data PDV inside a command", [(1, 1, ECHO_BYTES[:8]), (1, 2, b"")], (2, CONTROL, 5)),
    ("command in place of a data set", [(3, 3, FIND_BYTES), (3, 3, FIND_BYTES)], (2, CONTROL, 5)),
    ("command inside a data set", [(3, 3, FIND_BYTES), (3, 0, b"da"), (3, 3, FIND_BYTES)], (2, CONTROL, 5)),
    ("command of one byte too much", [(1, 1, bytes(100)), (1, 1, bytes(1))], (6, FRAGMENT, 0)),
    ("command too long at once", [(1, 3, bytes(101))], (6, FRAGMENT, 0)),
    ("data set of one byte too much", [(3, 3, FIND_BYTES), (3, 0, bytes(200)), (3, 2, bytes(1))], (6, FRAGMENT, 0)),
    ("data set too long at once", [(3, 3, FIND_BYTES), (3, 2, bytes(201))], (6, FRAGMENT, 0)),
]


@pytest.mark.parametrize(("name", "pdvs", "fault"), FAULTS, ids=[name for name, _, _ in FAULTS])
def test_a_fault_is_seen_at_the_header_and_blamed_on_its_field_and_offset(
    name: str, pdvs: list[tuple[int, int, bytes]], fault: tuple[int, str, int]
) -> None:
    one = assembler(command_limit=100, data_set_limit=200)
    feed(one, *pdvs[:-1])
    context_id, control, fragment = pdvs[-1]
    with pytest.raises(RemoteProtocolError) as caught:
        one.begin(context_id, control, len(fragment), 60)
    reason, field, offset = fault
    assert (caught.value.reason, caught.value.field, caught.value.offset) == (reason, field, 60 + offset)


def test_what_a_limit_just_allows_is_received() -> None:
    one = assembler(command_limit=len(FIND_BYTES), data_set_limit=200)
    pdvs = [(3, 1, FIND_BYTES[:50]), (3, 3, FIND_BYTES[50:]), (3, 0, bytes(199)), (3, 2, bytes(1))]
    assert feed(one, *pdvs) == [Message(3, FIND, bytes(200))]


def test_a_command_that_cannot_be_read_is_a_fault_of_the_peer() -> None:
    one = assembler()
    one.begin(1, 3, 4, 6)
    one.add(b"junk")
    with pytest.raises(RemoteProtocolError) as caught:
        one.end()
    assert (caught.value.reason, caught.value.field) == (6, "Command-set")


def test_an_empty_command_is_a_fault_of_the_peer() -> None:
    one = assembler()
    one.begin(1, 3, 0, 6)
    with pytest.raises(RemoteProtocolError) as caught:
        one.end()
    assert (caught.value.reason, caught.value.field) == (6, "(0000,0100)")
