from __future__ import annotations

from collections.abc import Iterator

import pytest

from dulproto.acse import PresentationContext, Requestor
from dulproto.assembler import Message
from dulproto.dimse import DATA_SET, RESPONSE, CommandField, CommandSet, ResponseTemplate, decode_command
from dulproto.elements import Element
from dulproto.errors import ElementError
from dulproto.pdu import Pdv, decode_p_data_tf
from dulproto.repeat import Answer
from dulproto.service import (
    Operation,
    Services,
    answer_echo,
    handler_for,
    is_request,
)
from dulproto.status import Status
from dulproto.uids import EXPLICIT_LE, IMPLICIT_LE, MODALITY_WORKLIST_FIND, VERIFICATION

MWL = MODALITY_WORKLIST_FIND
CT_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
REQUESTS = [field for field in CommandField if not field & RESPONSE and field is not CommandField.C_CANCEL_RQ]
IDENTIFIER = bytes.fromhex("1000 1000 0200 0000 2a20")  # (0010,0010) "* ", Implicit VR Little Endian


def find(operation: Operation) -> Iterator[bytes]:
    for tag, element in operation.data_set().items():
        yield operation.pending({tag: element})


SERVICES: Services = {
    VERIFICATION: {CommandField.C_ECHO_RQ: answer_echo},
    MWL: {CommandField.C_FIND_RQ: find},
}


def operation(
    field: int,
    abstract_syntax: str = MWL,
    *,
    sop_class: str | None = None,
    message_id: int | None = 7,
    data: bytes = b"",
    transfer_syntax: str = IMPLICIT_LE,
    instance: str | None = None,
) -> Operation:
    command = CommandSet(
        command_field=field,
        affected_sop_class_uid=sop_class,
        message_id=message_id,
        affected_sop_instance_uid=instance,
        command_data_set_type=DATA_SET if data else 0x0101,
    )
    context = PresentationContext(5, abstract_syntax, transfer_syntax)
    return Operation(Message(5, command, data), context, ResponseTemplate(5, field, abstract_syntax, 0))


def pdvs(stream: bytes) -> list[Pdv]:
    found: list[Pdv] = []
    while stream:
        end = 6 + int.from_bytes(stream[2:6], "big")
        found += decode_p_data_tf(stream[:end]).pdvs
        stream = stream[end:]
    return found


def answer(operation: Operation, services: Services = SERVICES) -> CommandSet:
    """The one response to a request, by whichever handler is found."""
    given = handler_for(operation, services)(operation)
    if isinstance(given, Answer):
        operation.final_status = given.status
        given = [given.encode(operation.message_id)]
    (stream,) = given  # type: ignore[misc]
    (pdv,) = pdvs(stream)
    assert pdv.context_id == operation.context.context_id
    response = decode_command(pdv.fragment)
    assert response.command_field == operation.message.command.command_field | 0x8000
    assert not response.has_data_set
    assert operation.final_status == response.status
    return response


# --- what an unfit command gets, row by row ---


@pytest.mark.parametrize("field", [f for f in REQUESTS if f not in (CommandField.C_ECHO_RQ, CommandField.C_FIND_RQ)])
@pytest.mark.parametrize("abstract_syntax", [MWL, VERIFICATION])
def test_a_command_field_that_nobody_serves_is_answered_with_0211(field: int, abstract_syntax: str) -> None:
    response = answer(operation(field, abstract_syntax, data=b"dropped!"))
    assert (response.status, response.message_id_being_responded_to) == (0x0211, 7)


@pytest.mark.parametrize("field", [0x0002, 0x0777, 0x7FFF])
def test_a_command_field_that_no_standard_knows_is_answered_with_0211(field: int) -> None:
    assert answer(operation(field)).status == 0x0211


def test_a_find_on_a_verification_context_is_answered_with_0122() -> None:
    response = answer(operation(CommandField.C_FIND_RQ, VERIFICATION, sop_class=VERIFICATION, data=IDENTIFIER))
    assert response.status == 0x0122
    assert response.error_comment


def test_an_affected_sop_class_that_is_not_the_contexts_is_answered_with_0122() -> None:
    assert answer(operation(CommandField.C_FIND_RQ, sop_class="1.2.840.10008.5.1.4.1.2.1.1")).status == 0x0122


@pytest.mark.parametrize("sop_class", [VERIFICATION, MWL, None])
def test_Q_31_an_echo_on_a_worklist_context_succeeds(sop_class: str | None) -> None:
    response = answer(operation(CommandField.C_ECHO_RQ, MWL, sop_class=sop_class))
    assert (response.status, response.affected_sop_class_uid) == (0x0000, MWL)


def test_an_echo_on_a_verification_context_succeeds() -> None:
    response = answer(
        operation(CommandField.C_ECHO_RQ, VERIFICATION, sop_class=VERIFICATION),
        {VERIFICATION: {CommandField.C_ECHO_RQ: answer_echo}},
    )
    assert (response.status, response.message_id_being_responded_to) == (0x0000, 7)


def test_an_echo_succeeds_even_where_nobody_serves_it() -> None:
    assert answer(operation(CommandField.C_ECHO_RQ, MWL), {}).status == 0x0000


@pytest.mark.parametrize("sop_class", [MWL, None])
def test_Q_63_a_missing_affected_sop_class_is_that_of_the_context(sop_class: str | None) -> None:
    assert handler_for(operation(CommandField.C_FIND_RQ, sop_class=sop_class), SERVICES) is find


@pytest.mark.parametrize(("message_id", "answered"), [(None, 0), (0, 0), (0xFFFF, 0xFFFF)])
def test_Q_62_a_missing_message_id_is_answered_as_0(message_id: int | None, answered: int) -> None:
    response = answer(operation(CommandField.C_ECHO_RQ, message_id=message_id))
    assert response.message_id_being_responded_to == answered


def test_a_response_and_a_cancel_are_no_requests() -> None:
    assert [field for field in CommandField if is_request(field)] == REQUESTS
    assert not is_request(0x8777)


def test_a_handler_may_be_found_by_the_plain_number() -> None:
    services: Services = {MWL: {0x0020: find}}
    assert handler_for(operation(CommandField.C_FIND_RQ), services) is find
    assert handler_for(operation(0x0020), SERVICES) is find


# --- operations --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", [CommandField.C_STORE_RQ, CommandField.N_CREATE_RQ, CommandField.N_EVENT_REPORT_RQ])
def test_a_response_names_the_instance_of_its_request(field: int) -> None:
    response = answer(operation(field, CT_STORAGE, instance="1.2.3.4"))
    assert response.affected_sop_instance_uid == "1.2.3.4"
    assert answer(operation(field, CT_STORAGE)).affected_sop_instance_uid is None


def test_a_response_to_a_request_for_an_instance_names_it() -> None:
    command = CommandSet(command_field=0x0110, message_id=7, requested_sop_instance_uid="1.2.3.4")
    template = ResponseTemplate(5, 0x0110, MWL, 0)
    one = Operation(Message(5, command), PresentationContext(5, MWL, IMPLICIT_LE), template)
    assert answer(one).affected_sop_instance_uid == "1.2.3.4"


def test_a_handler_may_name_another_instance() -> None:
    one = operation(CommandField.N_CREATE_RQ, instance="1.2.3.4")
    (pdv,) = pdvs(one.final(0, affected_sop_instance_uid="1.2.9"))
    assert decode_command(pdv.fragment).affected_sop_instance_uid == "1.2.9"


@pytest.mark.parametrize("transfer_syntax", [IMPLICIT_LE, EXPLICIT_LE])
def test_a_pending_response_is_command_and_data_set_in_the_contexts_transfer_syntax(transfer_syntax: str) -> None:
    one = operation(CommandField.C_FIND_RQ, transfer_syntax=transfer_syntax)
    command, data = pdvs(one.pending({0x00100010: Element(0x00100010, "PN", b"Doe^Jane")}, Status.PENDING_WARNING))
    response = decode_command(command.fragment)
    assert (response.status, response.has_data_set, response.message_id_being_responded_to) == (0xFF01, True, 7)
    vr = b"" if transfer_syntax == IMPLICIT_LE else b"PN"
    length = (8).to_bytes(4 if transfer_syntax == IMPLICIT_LE else 2, "little")
    assert data.fragment == bytes.fromhex("10001000") + vr + length + b"Doe^Jane"
    assert (one.responses, one.final_status) == (1, None)


def test_a_data_set_that_is_encoded_already_goes_out_as_it_is() -> None:
    one = operation(CommandField.C_FIND_RQ)
    command, data = pdvs(one.pending(IDENTIFIER))
    assert (decode_command(command.fragment).status, data.fragment) == (0xFF00, IDENTIFIER)
    one.pending(IDENTIFIER)
    assert one.responses == 2


def test_the_data_set_of_the_request_is_read_in_the_contexts_transfer_syntax() -> None:
    notes: list[str] = []
    one = operation(CommandField.C_FIND_RQ, data=IDENTIFIER)
    assert one.data_set(notes) == {0x00100010: Element(0x00100010, "PN", b"* ")}
    assert notes == []
    with pytest.raises(ElementError):
        operation(CommandField.C_FIND_RQ, data=b"no data set").data_set()


def test_an_error_comment_is_cut_to_the_64_characters_of_an_lo() -> None:
    one = operation(CommandField.C_FIND_RQ)
    (pdv,) = pdvs(one.final(Status.UNABLE_TO_PROCESS, error_comment="x" * 70, offending_element=(0x00100010,)))
    response = decode_command(pdv.fragment)
    assert (response.status, response.error_comment) == (0xC000, "x" * 64)
    assert response.offending_element == (0x00100010,)


def test_an_operation_knows_who_asks() -> None:
    message, context = Message(1, CommandSet(command_field=0x20)), PresentationContext(1, MWL, IMPLICIT_LE)
    template = ResponseTemplate(1, 0x20, MWL, 0)
    one = Operation(
        message, context, template, called_ae_title="W", calling_ae_title="CT1", requestor=Requestor("10.0.0.1")
    )
    assert (one.called_ae_title, one.calling_ae_title, one.requestor.host) == ("W", "CT1", "10.0.0.1")
    assert Operation(message, context, template).requestor == Requestor()


def test_a_whole_answer_by_a_handler() -> None:
    one = operation(CommandField.C_FIND_RQ, data=IDENTIFIER)
    (stream,) = handler_for(one, SERVICES)(one)  # type: ignore[misc]
    assert [pdv.fragment for pdv in pdvs(stream)][1] == IDENTIFIER
    assert one.final_status is None
