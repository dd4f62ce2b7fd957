"""Serving DIMSE requests: which handler answers a message, and what an unfit message gets, PS3.7 9.1 and Annex C.

A handler takes an `Operation` and yields P-DATA bytes that the operation encodes:

    def find(operation: Operation) -> Iterator[bytes]:
        for entry in matches(operation.data_set()):
            yield operation.pending(entry)

It may be a generator or an async generator.  A final response with status 0000H follows by itself, unless the
handler has sent one (`operation.final(status)`).  The generator is closed when the peer cancels or goes away.  A
handler that has all of its answer at once may return it as an `Answer`, see `ResponseTemplate.segments`.
"""

from __future__ import annotations

import traceback
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from .acse import PresentationContext, Requestor
from .assembler import Message
from .dimse import RESPONSE, CommandField, ResponseTemplate
from .elements import DataSet, decode_data_set, encode_data_set
from .repeat import Answer
from .status import Status

Handler = Callable[["Operation"], Iterable[bytes] | AsyncIterable[bytes] | Answer]
Services = Mapping[str, Mapping[Any, Handler]]
"""Handlers by abstract syntax and command field, an int or a `CommandField`."""

MAX_ERROR_COMMENT: Final = 64  # characters of an LO


class Operation:
    """One request that is being served."""

    def __init__(
        self,
        message: Message,
        context: PresentationContext,
        template: ResponseTemplate,
        *,
        called_ae_title: str = "",
        calling_ae_title: str = "",
        requestor: Requestor | None = None,
    ) -> None:
        self.message = message
        self.context = context
        self.template = template
        self.called_ae_title = called_ae_title
        self.calling_ae_title = calling_ae_title
        self.requestor = requestor or Requestor()
        self.message_id = message.command.message_id or 0  # a missing one is answered as 0
        self.responses = 0
        self.final_status: int | None = None

    def data_set(self, notes: list[str] | None = None) -> DataSet:
        """Decode the data set of the request; raises ElementError."""
        return decode_data_set(self.message.data, self.context.transfer_syntax, notes)

    def pending(self, data_set: DataSet | bytes, status: int = Status.PENDING) -> bytes:
        """Encode a response with a data set."""
        data = data_set if isinstance(data_set, bytes) else encode_data_set(data_set, self.context.transfer_syntax)
        self.responses += 1
        return self.template.pending(self.message_id, data, status)

    def final(self, status: int = Status.SUCCESS, **fields: Any) -> bytes:
        """Encode the final response; `fields` are further ones of `CommandSet`, such as error_comment."""
        self.final_status = status
        command = self.message.command
        instance = command.affected_sop_instance_uid or command.requested_sop_instance_uid
        if instance is not None:  # a response names the instance of its request, PS3.7 Table 9.1-1, 10.1-3
            fields.setdefault("affected_sop_instance_uid", instance)
        if "error_comment" in fields:
            fields["error_comment"] = fields["error_comment"][:MAX_ERROR_COMMENT]
        return self.template.final(self.message_id, status, **fields)


def answer_echo(operation: Operation) -> Answer:
    """Answer a C-ECHO-RQ: always success, PS3.7 9.1.5."""
    return Answer(operation.template.segments((), Status.PENDING, Status.SUCCESS), Status.SUCCESS)


def handler_for(operation: Operation, services: Services) -> Handler:
    """Find the handler of a request; one that cannot be served gets a handler that says why."""
    command = operation.message.command
    field = command.command_field
    abstract_syntax = operation.context.abstract_syntax
    if command.affected_sop_class_uid not in (None, abstract_syntax) and field != CommandField.C_ECHO_RQ:
        return _refuse_sop_class
    handler = services.get(abstract_syntax, {}).get(field)
    if handler is not None:
        return handler
    if field == CommandField.C_ECHO_RQ:
        return answer_echo  # devices send it on any context they have
    if any(field in handlers for handlers in services.values()):
        return _refuse_sop_class
    return _refuse_operation


def _refuse_sop_class(operation: Operation) -> Iterator[bytes]:
    comment = "the SOP class is not that of the presentation context"
    yield operation.final(Status.SOP_CLASS_NOT_SUPPORTED, error_comment=comment)


def _refuse_operation(operation: Operation) -> Iterator[bytes]:
    yield operation.final(Status.UNRECOGNIZED_OPERATION)


def is_request(command_field: int) -> bool:
    """Tell a request from a response, and from C-CANCEL, which is never answered."""
    return not command_field & RESPONSE and command_field != CommandField.C_CANCEL_RQ


def printable(text: str) -> str:
    """Keep what a peer sent from breaking the line of the log."""
    return text if text.isprintable() else ascii(text)


def place_of(error: Exception) -> str:
    """Tell where a handler failed; the text of an exception may be a patient's data, its place is not."""
    _, *frames = traceback.extract_tb(error.__traceback__)
    places = [f"{frame.name} ({frame.filename.rpartition('/')[2]}:{frame.lineno})" for frame in frames]
    return f"{type(error).__name__} in {' > '.join(places)}"
