from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.dimse_messages import _MESSAGE_TYPES, DIMSEMessage
from pynetdicom.dsutils import decode as pydicom_decode
from pynetdicom.pdu_primitives import P_DATA
from strategies import command_sets

from dulproto.dimse import (
    DATA_SET,
    NO_DATA_SET,
    REQUIRED_FIELDS,
    RESPONSE,
    CommandField,
    CommandSet,
    ResponseTemplate,
    decode_command,
    encode_command,
    encode_message,
)
from dulproto.errors import LocalProtocolError, RemoteProtocolError
from dulproto.pdu import decode_p_data_tf
from dulproto.status import Status
from dulproto.uids import MODALITY_WORKLIST_FIND, VERIFICATION

# PS3.7 Tables 9.3-1 to 10.3-12: the elements each message must have besides 0000, 0100 and 0800.  What a
# service table marks U(=) in a response may be absent: a request that lacks its instance must be answered, too.
MESSAGES = {
    "C_ECHO_RQ": (0x0030, "0002 0110"),
    "C_ECHO_RSP": (0x8030, "0120 0900"),
    "C_FIND_RQ": (0x0020, "0002 0110 0700"),
    "C_FIND_RSP": (0x8020, "0002 0120 0900"),
    "C_CANCEL_RQ": (0x0FFF, "0120"),
    "C_STORE_RQ": (0x0001, "0002 0110 0700 1000"),
    "C_STORE_RSP": (0x8001, "0002 0120 0900"),
    "C_GET_RQ": (0x0010, "0002 0110 0700"),
    "C_GET_RSP": (0x8010, "0002 0120 0900"),
    "C_MOVE_RQ": (0x0021, "0002 0110 0600 0700"),
    "C_MOVE_RSP": (0x8021, "0002 0120 0900"),
    "N_CREATE_RQ": (0x0140, "0002 0110"),
    "N_CREATE_RSP": (0x8140, "0120 0900"),
    "N_SET_RQ": (0x0120, "0003 0110 1001"),
    "N_SET_RSP": (0x8120, "0120 0900"),
    "N_ACTION_RQ": (0x0130, "0003 0110 1001 1008"),
    "N_ACTION_RSP": (0x8130, "0120 0900"),
    "N_EVENT_REPORT_RQ": (0x0100, "0002 0110 1000 1002"),
    "N_EVENT_REPORT_RSP": (0x8100, "0120 0900"),
    "N_GET_RQ": (0x0110, "0003 0110 1001"),
    "N_GET_RSP": (0x8110, "0120 0900"),
    "N_DELETE_RQ": (0x0150, "0003 0110 1001"),
    "N_DELETE_RSP": (0x8150, "0120 0900"),
}
# Element number, name, a value, and the value as it is written.
ELEMENTS: dict[int, tuple[str, Any, bytes]] = {
    0x0002: ("affected_sop_class_uid", "1.2.3", b"1.2.3\0"),
    0x0003: ("requested_sop_class_uid", "1.2.34", b"1.2.34"),
    0x0110: ("message_id", 0x0102, b"\x02\x01"),
    0x0120: ("message_id_being_responded_to", 7, b"\x07\x00"),
    0x0600: ("move_destination", "DEST1", b"DEST1 "),
    0x0700: ("priority", 2, b"\x02\x00"),
    0x0900: ("status", 0xFF00, b"\x00\xff"),
    0x0901: ("offending_element", (0x00100020, 0x00400100), b"\x10\x00\x20\x00\x40\x00\x00\x01"),
    0x0902: ("error_comment", "bad", b"bad "),
    0x0903: ("error_id", 0xA710, b"\x10\xa7"),
    0x1000: ("affected_sop_instance_uid", "1.2.3.4", b"1.2.3.4\0"),
    0x1001: ("requested_sop_instance_uid", "1.2.3.45", b"1.2.3.45"),
    0x1002: ("event_type_id", 1, b"\x01\x00"),
    0x1005: ("attribute_identifier_list", (0x00100010,), b"\x10\x00\x10\x00"),
    0x1008: ("action_type_id", 1, b"\x01\x00"),
    0x1020: ("number_of_remaining_sub_operations", 4, b"\x04\x00"),
    0x1021: ("number_of_completed_sub_operations", 3, b"\x03\x00"),
    0x1022: ("number_of_failed_sub_operations", 2, b"\x02\x00"),
    0x1023: ("number_of_warning_sub_operations", 1, b"\x01\x00"),
    0x1030: ("move_originator_ae_title", "CT1", b"CT1 "),
    0x1031: ("move_originator_message_id", 0xFFFF, b"\xff\xff"),
}


def element(number: int, value: bytes, group: int = 0) -> bytes:
    """Group u16 LE, element u16 LE, length u32 LE, value: PS3.7 6.3.1."""
    header = group.to_bytes(2, "little") + number.to_bytes(2, "little") + len(value).to_bytes(4, "little")
    return header + value


def by_hand(field: int, numbers: set[int], data_set_type: int) -> bytes:
    """A command set of these elements, ascending, with its group length."""
    values = {number: ELEMENTS[number][2] for number in numbers}
    values |= {0x0100: field.to_bytes(2, "little"), 0x0800: data_set_type.to_bytes(2, "little")}
    body = b"".join([element(number, values[number]) for number in sorted(values)])
    return element(0x0000, len(body).to_bytes(4, "little")) + body


def command_of(field: int, numbers: set[int], data_set_type: int = NO_DATA_SET) -> CommandSet:
    fields = {ELEMENTS[number][0]: ELEMENTS[number][1] for number in numbers}
    return CommandSet(command_field=field, command_data_set_type=data_set_type, **fields)


def required(name: str) -> set[int]:
    return {int(number, 16) for number in MESSAGES[name][1].split()}


def test_the_23_messages_have_the_command_fields_of_table_e_1_1() -> None:
    assert {field.name: int(field) for field in CommandField} == {name: code for name, (code, _) in MESSAGES.items()}
    for name, (code, _) in MESSAGES.items():
        if name.endswith("_RSP"):
            assert code == MESSAGES[name.replace("_RSP", "_RQ")][0] | RESPONSE


def test_each_message_needs_the_elements_of_its_table() -> None:
    needed = {CommandField[name]: {ELEMENTS[number][0] for number in required(name)} for name in MESSAGES}
    assert {field: set(names) for field, names in REQUIRED_FIELDS.items()} == needed


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_with_what_it_needs_is_read_and_written_as_ps3_7_lays_it_out(name: str) -> None:
    field, numbers = MESSAGES[name][0], required(name)
    for data_set_type in (NO_DATA_SET, DATA_SET):
        data, command = by_hand(field, numbers, data_set_type), command_of(field, numbers, data_set_type)
        assert encode_command(command) == data
        assert decode_command(data) == command
        assert command.has_data_set is (data_set_type != 0x0101)


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_that_lacks_an_element_is_not_sent(name: str) -> None:
    field, numbers = MESSAGES[name][0], required(name)
    for number in numbers:
        with pytest.raises(LocalProtocolError, match=f"{name} needs {ELEMENTS[number][0]}$"):
            encode_command(command_of(field, numbers - {number}))


def test_every_element_of_table_e_1_1_is_read_and_written() -> None:
    numbers = set(ELEMENTS)
    assert encode_command(command_of(0x0021, numbers, 0)) == by_hand(0x0021, numbers, 0)
    assert decode_command(by_hand(0x0021, numbers, 0)) == command_of(0x0021, numbers, 0)


def test_a_command_field_that_nobody_knows_is_read_and_needs_nothing() -> None:
    assert decode_command(by_hand(0x0777, {0x0110}, NO_DATA_SET)) == command_of(0x0777, {0x0110})
    assert encode_command(command_of(0x0777, set())) == by_hand(0x0777, set(), NO_DATA_SET)


@given(command_sets())
def test_every_command_set_survives_encoding(command: CommandSet) -> None:
    data = encode_command(command)
    assert decode_command(data) == command
    assert data[:8] == bytes.fromhex("00000000 04000000")
    assert int.from_bytes(data[8:12], "little") == len(data) - 12
    assert len(data) % 2 == 0


# --- tolerance and faults ----------------------------------------------------------------------------------------

ECHO = by_hand(0x0030, {0x0002, 0x0110}, NO_DATA_SET)


@pytest.mark.parametrize(
    "group_length", [b"", element(0, b"\0\0\0\0"), element(0, b"\xff\xff\xff\xff"), element(0, b"")]
)
def test_a_missing_or_wrong_group_length_is_no_matter(group_length: bytes) -> None:
    assert decode_command(group_length + ECHO[12:]) == decode_command(ECHO)


@pytest.mark.parametrize("number", [0x0001, 0x0010, 0x0200, 0x0300, 0x0400, 0x0850, 0x0860, 0x4000, 0x5010, 0x51B0])
def test_retired_and_unknown_elements_are_skipped(number: int) -> None:
    assert decode_command(ECHO + element(number, b"\1\2\3\4")) == decode_command(ECHO)
    assert decode_command(element(number, b"") + ECHO) == decode_command(ECHO)


def test_elements_of_other_groups_are_skipped() -> None:
    assert decode_command(ECHO + element(0x0110, b"\x09\x00", group=8)) == decode_command(ECHO)


def test_the_first_of_two_equal_elements_counts() -> None:
    assert decode_command(ECHO + element(0x0110, b"\x09\x00")).message_id == 0x0102


def test_an_empty_element_is_as_good_as_none() -> None:
    data = element(0x0100, b"\x20\x00") + element(0x0110, b"") + element(0x0002, b"") + element(0x0901, b"")
    assert decode_command(data) == CommandSet(command_field=0x0020)


@pytest.mark.parametrize("value", [b"\0\0", b"  ", b" \0"])
def test_a_text_of_nothing_but_padding_is_as_good_as_none(value: bytes) -> None:
    data = element(0x0100, b"\x20\x00") + element(0x0002, value) + element(0x0901, value)
    assert decode_command(data) == CommandSet(command_field=0x0020)


def test_Q_01_values_of_odd_length_are_read_as_they_are() -> None:
    data = element(0x0002, b"1.2.3") + element(0x0100, b"\x20\x00") + element(0x0110, b"\x07")
    command = decode_command(data)
    assert (command.affected_sop_class_uid, command.message_id) == ("1.2.3", 7)


def test_padding_of_text_is_dropped_whatever_it_is() -> None:
    data = element(0x0100, b"\x20\x00") + element(0x0002, b"1.2 \0 ") + element(0x0600, b" CT1\0\0")
    command = decode_command(data)
    assert (command.affected_sop_class_uid, command.move_destination) == ("1.2", "CT1")


def test_a_list_of_tags_drops_what_is_no_whole_tag() -> None:
    data = element(0x0100, b"\x10\x81") + element(0x0901, b"\x10\x00\x20\x00\x40")
    assert decode_command(data).offending_element == (0x00100020,)


def test_without_a_data_set_type_no_data_set_follows() -> None:
    assert not decode_command(element(0x0100, b"\x20\x00")).has_data_set


@pytest.mark.parametrize("value", [0x0000, 0x0001, 0x0100, 0x0102, 0xFFFF])
def test_any_data_set_type_but_0101H_announces_a_data_set(value: int) -> None:
    assert CommandSet(command_field=0x0020, command_data_set_type=value).has_data_set


@pytest.mark.parametrize(
    ("data", "field", "offset"),
    [
        (b"\0", "Command-set", 0),
        (ECHO + b"\0" * 7, "Command-set", len(ECHO)),
        (ECHO[:-1], "(0000,0800)", len(ECHO) - 6),
        (element(0x0002, b"1.2.34")[:-1], "(0000,0002)", 4),
        (ECHO + bytes.fromhex("08001100 ffffffff"), "(0008,0011)", len(ECHO) + 4),
        (b"", "(0000,0100)", 0),
        (element(0x0110, b"\1\0"), "(0000,0100)", 10),
        (element(0x0100, b""), "(0000,0100)", 8),
    ],
)
def test_a_command_set_that_cannot_be_read_is_blamed_on_its_element_and_offset(
    data: bytes, field: str, offset: int
) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        decode_command(data)
    assert (caught.value.reason, caught.value.field, caught.value.offset) == (6, field, offset)


# --- pynetdicom as oracle ----------------------------------------------------------------------------------------


def pynetdicom_reads(stream: bytes) -> DIMSEMessage:
    message = DIMSEMessage()
    done = False
    while stream:
        assert not done, "bytes behind the end of the message"
        length = int.from_bytes(stream[2:6], "big")
        primitive = P_DATA()
        primitive.presentation_data_value_list = [
            [pdv.context_id, bytes([pdv.control]) + pdv.fragment]
            for pdv in decode_p_data_tf(stream[: 6 + length]).pdvs
        ]
        done = message.decode_msg(primitive)
        stream = stream[6 + length :]
    assert done
    return message


@pytest.mark.parametrize("name", MESSAGES)
@pytest.mark.parametrize("maximum_length", [0, 8, 30, 16384])
def test_pynetdicom_reads_each_message_of_ours_as_it_was_meant(name: str, maximum_length: int) -> None:
    field, numbers = MESSAGES[name][0], required(name)
    stream = encode_message(3, command_of(field, numbers, DATA_SET), b"data set", maximum_length)
    message = pynetdicom_reads(stream)
    assert type(message) is _MESSAGE_TYPES[field][1]
    assert (message.context_id, message.data_set.getvalue()) == (3, b"data set")
    assert message.command_set.CommandField == field
    assert {e.tag.element for e in message.command_set} == numbers | {0, 0x0100, 0x0800}
    for number in numbers & {0x0110, 0x0120, 0x0900, 0x0700, 0x0002, 0x1000}:
        assert message.command_set[0, number].value == ELEMENTS[number][1]


@given(command_sets())
def test_pydicom_finds_in_our_command_set_what_we_put_in(command: CommandSet) -> None:
    data = encode_command(command)
    theirs = pydicom_decode(BytesIO(data), True, True)
    assert theirs.CommandGroupLength == len(data) - 12
    assert theirs.CommandField == command.command_field
    for keyword, name in (
        ("AffectedSOPClassUID", "affected_sop_class_uid"),
        ("MessageID", "message_id"),
        ("Status", "status"),
        ("ErrorComment", "error_comment"),
        ("MoveDestination", "move_destination"),
        ("ActionTypeID", "action_type_id"),
    ):
        assert theirs.get(keyword) == getattr(command, name)
    offending = theirs.get("OffendingElement", ())
    assert tuple(offending if hasattr(offending, "__iter__") else (offending,)) == (command.offending_element or ())


@pytest.mark.parametrize("name", MESSAGES)
def test_we_read_each_message_of_pynetdicom_as_it_was_meant(name: str) -> None:
    field, numbers = MESSAGES[name][0], required(name)
    message = _MESSAGE_TYPES[field][1]()
    for e in list(message.command_set):
        if e.tag.element not in numbers | {0, 0x0100, 0x0800}:
            del message.command_set[e.tag]
    for number in numbers:
        message.command_set[0, number].value = ELEMENTS[number][1]
    message.command_set.CommandField, message.command_set.CommandDataSetType = field, NO_DATA_SET
    message.command_set.CommandGroupLength = 0
    message.data_set = None
    (primitive,) = message.encode_msg(5, 16384)
    ((context_id, pdv),) = primitive.presentation_data_value_list
    assert (context_id, pdv[0]) == (5, 3)
    assert decode_command(bytes(pdv[1:])) == command_of(field, numbers)


# --- messages and response templates -----------------------------------------------------------------------------


def test_a_response_to_a_store_may_leave_out_the_instance() -> None:
    template = ResponseTemplate(9, CommandField.C_STORE_RQ, "1.2.840.10008.5.1.4.1.1.2", 0)
    assert decode_command(decode_p_data_tf(template.final(1, 0x0211)).pdvs[0].fragment).status == 0x0211


def test_a_message_takes_its_data_along_only_if_the_command_says_so() -> None:
    find = command_of(0x0020, {0x0002, 0x0110, 0x0700}, DATA_SET)
    stream = encode_message(1, find, b"identifier", 0)
    first = 6 + int.from_bytes(stream[2:6], "big")
    assert decode_p_data_tf(stream[first:]).pdvs[0].fragment == b"identifier"
    echo = command_of(0x0030, {0x0002, 0x0110})
    assert encode_message(1, echo, b"identifier", 0) == encode_message(1, echo, b"", 0)


def expected(
    field: int, message_id: int, status: int, data: bytes | None, maximum_length: int, **fields: Any
) -> bytes:
    command = CommandSet(
        command_field=field | 0x8000,
        affected_sop_class_uid=MODALITY_WORKLIST_FIND,
        message_id_being_responded_to=message_id,
        command_data_set_type=NO_DATA_SET if data is None else DATA_SET,
        status=status,
        **fields,
    )
    return encode_message(9, command, data or b"", maximum_length)


@pytest.mark.parametrize("maximum_length", [0, *range(8, 201)])
def test_a_response_template_gives_what_the_generic_encoding_gives(maximum_length: int) -> None:
    template = ResponseTemplate(9, CommandField.C_FIND_RQ, MODALITY_WORKLIST_FIND, maximum_length)
    data = bytes(range(50))
    for message_id in (0, 1, 0x00FF, 0x0100, 0x1234, 0xFFFF):
        for status in (Status.PENDING, Status.PENDING_WARNING):
            assert template.pending(message_id, data, status) == expected(
                0x0020, message_id, status, data, maximum_length
            )
        for status in (Status.SUCCESS, Status.CANCEL, 0xC003):
            assert template.final(message_id, status) == expected(0x0020, message_id, status, None, maximum_length)
        assert template.final(message_id, 0xC003, error_comment="no") == expected(
            0x0020, message_id, 0xC003, None, maximum_length, error_comment="no"
        )
    assert template.pending(1, data) == template.pending(1, data, 0xFF00)
    assert template.final(1) == template.final(1, 0x0000)


@given(
    st.sampled_from([field for field in CommandField if field < RESPONSE and field != CommandField.C_CANCEL_RQ]),
    st.integers(0, 0xFFFF),
    st.sampled_from((0, 8, 9, 10, 31, 64, 65536)),
)
def test_the_bytes_around_the_id_are_the_response_without_it(
    field: int, message_id: int, maximum_length: int
) -> None:
    template = ResponseTemplate(9, field, VERIFICATION, maximum_length)
    before, behind = template.around_id(0, NO_DATA_SET)
    assert before + message_id.to_bytes(2, "little") + behind == template.final(message_id)


@pytest.mark.parametrize("maximum_length", [0, 8, 9, 50, 65536])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_the_segments_of_a_whole_answer_joined_by_the_id_are_its_responses(maximum_length: int, count: int) -> None:
    template = ResponseTemplate(9, CommandField.C_FIND_RQ, MODALITY_WORKLIST_FIND, maximum_length)
    data_sets = [bytes([n]) * (20 * n + 2) for n in range(count)]
    segments = template.segments(data_sets, Status.PENDING, Status.SUCCESS)
    for message_id in (0, 0x1234, 0xFFFF):
        responses = [template.pending(message_id, data) for data in data_sets] + [template.final(message_id)]
        assert message_id.to_bytes(2, "little").join(segments) == b"".join(responses)


@pytest.mark.parametrize("maximum_length", [1, 6, 7])
def test_a_template_cannot_answer_a_peer_that_receives_too_little(maximum_length: int) -> None:
    template = ResponseTemplate(9, CommandField.C_FIND_RQ, MODALITY_WORKLIST_FIND, maximum_length)
    with pytest.raises(LocalProtocolError):
        template.final(1)
    with pytest.raises(LocalProtocolError):
        template.pending(1, b"")
