"""The requests on an association we accepted: which is served, which wait, and how fast answers go out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterable, Iterator
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from .assembler import Message
from .dimse import REQUIRED_FIELDS, CommandField, ResponseTemplate
from .errors import ElementError, ElementLimitError, LocalProtocolError
from .repeat import Answer
from .service import Operation, handler_for, is_request, place_of, printable
from .status import Status

if TYPE_CHECKING:
    from .acceptor import Acceptor

__all__ = ["Requests", "log_failure"]

logger = logging.getLogger("dulproto")

TURN_BYTES: Final = 64 << 10  # of one answer in one turn of the loop, so that others are served in between
TURN_SECONDS: Final = 0.0005  # or as long as it takes to begin what comes next
QUEUED_MESSAGES: Final = 16  # requests that wait behind the one being served, before reading stops
QUEUED_BYTES: Final = 1 << 20


class Requests:
    """The requests on one association, served one after the other, PS3.7 D.3.3.3.

    `current` is the one being served; `answer` that of the one served last, if it was given as a whole.
    """

    def __init__(self, connection: Acceptor) -> None:
        self.connection = connection
        self.association = connection.association
        self.loop = connection.loop
        self.current: Operation | None = None
        self.answer: Answer | None = None
        self.queue: dict[int, Operation] = {}  # those that wait, by Message ID
        self._queued_bytes = 0
        self._reading = True
        self._templates: dict[tuple[int, int], ResponseTemplate] = {}
        self._responses: Iterator[bytes] | None = None
        self._turn: asyncio.Handle | None = None  # the next one of the answer
        self._task: asyncio.Task[None] | None = None
        self._resumed: asyncio.Event | None = None

    def receive(self, message: Message) -> None:
        """Take a message: serve it, let it wait, or cancel what it names."""
        command = message.command
        if command.command_field == CommandField.C_CANCEL_RQ:
            self._cancel(command.message_id_being_responded_to)
            return
        if not is_request(command.command_field):
            logger.info("%s sent a response to nothing, %04XH: ignored", self.connection.peer, command.command_field)
            return
        operation = self._operation(message)
        if self.current is None and self.connection.writable:
            self._start(operation)
        elif self._is_outstanding(operation.message_id):
            self._finish_with(operation, Status.DUPLICATE_INVOCATION)
            if not self.connection.writable:  # or a peer that repeats itself and never reads would fill our memory
                self._set_reading(False)
        else:
            self.queue[operation.message_id] = operation
            self._queued_bytes += len(message.data)
            if self._queue_is_full:
                self._set_reading(False)

    def _is_outstanding(self, message_id: int) -> bool:
        current = self.current
        is_current = current is not None and current.message_id == message_id and current.final_status is None
        return is_current or message_id in self.queue

    def _operation(self, message: Message) -> Operation:
        context = self.association.contexts[message.context_id]
        key = context.context_id, message.command.command_field
        template = self._templates.get(key)
        if template is None:
            template = ResponseTemplate(*key, context.abstract_syntax, self.association.maximum_length)
            if key[1] in REQUIRED_FIELDS:  # not for each number that a peer may think of
                self._templates[key] = template
        return Operation(
            message,
            context,
            template,
            called_ae_title=self.connection.called_ae_title,
            calling_ae_title=self.connection.calling_ae_title,
            requestor=self.connection.requestor,
        )

    def _start(self, operation: Operation) -> None:
        self.current = operation
        self.connection.operations += 1
        try:
            responses = handler_for(operation, self.connection.server.services)(operation)
        except Exception as error:
            self._fail(operation, error)
            return
        if isinstance(responses, Answer):
            operation.final_status = responses.status
            self.answer = responses
            self._send(responses.encode(operation.message_id))
            self._end_turn(operation)
        elif isinstance(responses, AsyncIterable):
            self._task = self.loop.create_task(self._serve_async(operation, responses))
        else:
            self._responses = iter(responses)
            self._advance()

    def _advance(self) -> None:
        """Send responses until the operation ends, the transport is full, or this turn's share is used up."""
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        operation, responses = self.current, self._responses
        if operation is None or responses is None:
            return
        sent = 0
        end = perf_counter() + TURN_SECONDS
        while self.connection.writable and sent < TURN_BYTES:
            try:
                data = next(responses, None)
            except Exception as error:
                self._fail(operation, error)
                break
            if data is None:
                self._finish(operation)
                break
            self._send(data)
            sent += len(data)
            if perf_counter() > end:
                break
        self.connection.flush()
        if self._responses is responses and self.connection.writable:
            self._turn = self.loop.call_soon(self._advance)

    async def _serve_async(self, operation: Operation, responses: AsyncIterable[bytes]) -> None:
        sent = 0
        try:
            async for data in responses:
                self._send(data)
                self.connection.flush()
                sent += len(data)
                if sent >= TURN_BYTES:
                    sent = 0
                    await asyncio.sleep(0)
                while not self.connection.writable:
                    self._resumed = asyncio.Event()
                    await self._resumed.wait()
        except Exception as error:
            self._fail(operation, error)
        else:
            self._finish(operation)
        finally:
            if hasattr(responses, "aclose"):
                await responses.aclose()
        self.connection.flush()

    def _send(self, data: bytes) -> None:
        if self.association.can_send:
            self.association.send_p_data(data, self.loop.time())

    def _finish(self, operation: Operation) -> None:
        """End an operation whose handler is through, with success unless the handler has ended it otherwise."""
        self._task = self._responses = None
        self._finish_with(operation, Status.SUCCESS)
        self._end_turn(operation)

    def _fail(self, operation: Operation, error: Exception) -> None:
        """End an operation whose handler raised."""
        self._stop_responses()
        if isinstance(error, LocalProtocolError):
            self._give_up(error)
            return
        if isinstance(error, ElementLimitError):
            for event in self.association.refuse_data(str(error), self.loop.time()):
                self.connection.handle(event)
            return
        status = Status.UNABLE_TO_PROCESS
        if isinstance(error, ElementError):  # names tags and offsets only, so it may be logged
            status = Status.IDENTIFIER_CANNOT_BE_DECODED
            text = "%s: the identifier of message %d cannot be decoded, %s"
            logger.warning(text, self._who, operation.message_id, error)
        else:
            log_failure(self._who, error)
        self._finish_with(operation, status)
        self._end_turn(operation)

    def _finish_with(self, operation: Operation, status: int) -> None:
        """Send the final response, unless the handler has made one."""
        if operation.final_status is not None:
            return
        try:
            self._send(operation.final(status))
        except LocalProtocolError as error:
            self._give_up(error)

    def _give_up(self, error: LocalProtocolError) -> None:
        """Abort: what must be sent cannot be, since the peer's maximum length is too small for any message."""
        self.association.abort(self.loop.time())
        self.connection.end(f"aborted, {error}", logging.WARNING)

    def _end_turn(self, operation: Operation) -> None:
        """Go on by way of the loop: what came behind it in the same read must not keep other connections waiting."""
        self.loop.call_soon(self._next, operation)

    def _next(self, ended: Operation) -> None:
        if self.current is ended:
            self.current = None
            self.connection.server.changed.set()
            self._begin_queued()

    def _begin_queued(self) -> None:
        """Begin what waits, unless the peer does not read: what it asks for would fill our memory."""
        if self.current is None and self.queue and self.connection.writable:
            operation = self.queue.pop(next(iter(self.queue)))
            self._queued_bytes -= len(operation.message.data)
            self._start(operation)
            self.connection.flush()
        self._set_reading(not self._queue_is_full)

    def _cancel(self, message_id: int | None) -> None:
        """C-CANCEL-RQ, PS3.7 9.3.2.3; one that names no outstanding operation comes too late, and is no fault."""
        queued = self.queue.pop(message_id, None) if message_id is not None else None
        if queued is not None:
            self._queued_bytes -= len(queued.message.data)
            self._finish_with(queued, Status.CANCEL)
        elif self.current is not None and self.current.message_id == message_id:
            self._stop_responses()
            self._finish_with(self.current, Status.CANCEL)
            self._end_turn(self.current)

    def _stop_responses(self) -> None:
        """Close the handler's generator, so that it can let go of what it holds."""
        responses, self._responses = self._responses, None
        close: Any = getattr(responses, "close", None)
        if close is not None:
            try:
                close()
            except Exception as error:
                log_failure(self._who, error)
        task, self._task = self._task, None
        if task is not None and task is not asyncio.current_task(self.loop):
            task.cancel()

    def resume(self) -> None:
        """Go on: the peer reads again."""
        self._set_reading(not self._queue_is_full)
        if self._resumed is not None:
            self._resumed.set()
        if self.current is None:
            self._begin_queued()
        else:
            self._advance()

    def end(self) -> None:
        """Stop what runs and forget what waits: the association has ended."""
        if self.current is not None:
            self._stop_responses()
            self.current = None
        self.queue.clear()
        self._queued_bytes = 0

    @property
    def _who(self) -> str:
        return f"{self.connection.peer} {printable(self.connection.calling_ae_title)}"

    @property
    def _queue_is_full(self) -> bool:
        return len(self.queue) >= QUEUED_MESSAGES or self._queued_bytes >= QUEUED_BYTES

    def _set_reading(self, reading: bool) -> None:
        transport = self.connection.transport
        if transport is not None and reading is not self._reading:
            self._reading = reading
            if reading:
                transport.resume_reading()
            else:
                transport.pause_reading()


def log_failure(who: str, error: Exception) -> None:
    """Log that a handler, or a check, failed; what its exception says may be a patient's data."""
    logger.error("%s: a handler failed, %s", who, place_of(error))
    logger.debug("the failure in full", exc_info=error)
