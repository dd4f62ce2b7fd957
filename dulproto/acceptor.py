"""The acceptor's side of a connection: negotiates the association, serves its requests, paces the answers."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterable, Iterator
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from .acse import CONGESTION, Requestor, negotiate
from .assembler import Message
from .association import Association
from .dimse import REQUIRED_FIELDS, CommandField, ResponseTemplate
from .errors import ElementError, ElementLimitError, LocalProtocolError
from .events import Aborted, Associate, AssociationEvent, Release
from .fsm import State
from .pdu import PDU_HEADER, AssociateAc, AssociateRj, encode_associate_ac
from .repeat import SHORTEST, Answer, Negotiated, learn_at, message_id_at
from .service import Operation, handler_for, is_request, place_of, printable
from .status import Status
from .transport import Connection

if TYPE_CHECKING:
    from .server import Server

logger = logging.getLogger("dulproto")

TURN_BYTES: Final = 64 << 10  # of one answer in one turn of the loop, so that others are served in between
TURN_SECONDS: Final = 0.0005  # or as long as it takes to begin what comes next
QUEUED_MESSAGES: Final = 16  # requests that wait behind the one being served, before reading stops
QUEUED_BYTES: Final = 1 << 20


class Acceptor(Connection):
    """An association we accept; its requests are served one after the other, PS3.7 D.3.3.3."""

    def __init__(self, server: Server) -> None:
        super().__init__(Association(is_requestor=False, limits=server.limits), server.loop)
        self.server = server
        self.called_ae_title = ""
        self.calling_ae_title = ""
        self.requestor = Requestor()
        self.operation: Operation | None = None  # the one being served
        self.operations = 0
        self._established = False
        self._negotiated: Negotiated | None = None
        self._answer: Answer | None = None  # of the operation that was served last, if it was given as a whole
        self._responses: Iterator[bytes] | None = None
        self._turn: asyncio.Handle | None = None  # the next one of the answer
        self._task: asyncio.Task[None] | None = None
        self.queue: OrderedDict[int, Operation] = OrderedDict()  # requests that wait, by Message ID
        self._queued_bytes = 0
        self._reading = True
        self._templates: dict[tuple[int, int], ResponseTemplate] = {}
        self._stalled_since: float | None = None
        self._resumed: asyncio.Event | None = None

    # --- the association ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection into the server's care."""
        self.server.connections.add(self)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave the server's care."""
        super().connection_lost(exc)
        self._end("the connection was closed")
        self.server.connections.discard(self)
        self.server.changed.set()

    def data_received(self, data: bytes) -> None:
        """Take bytes; what came before with equal bytes is answered as before, if that is still right."""
        negotiated = self._negotiated
        if negotiated is None:
            if not self._accept_again(data):
                self._learn_association(data, self.receive(data))
        elif self.operation is None and self.writable and len(data) >= SHORTEST and self.association.at_rest:
            at = message_id_at(data)
            request = data[:at] + data[at + 2 :]
            answer = negotiated.answers.get(request)
            if answer is None or not answer.is_good() or self.transport is None:
                self._learn_answer(negotiated, request, data, at)
            else:
                self.operations += 1
                self.association.restart_idle(self.loop.time())
                self.transport.write(data[at : at + 2].join(answer.segments))
        else:
            self.receive(data)

    def _learn_answer(self, negotiated: Negotiated, request: bytes, data: bytes, at: int) -> None:
        """Serve a request, and remember its answer if that was given as a whole and to nothing but this request."""
        self._answer = None
        events = self.receive(data)
        if self._answer is None or len(events) != 1 or not self.association.at_rest:
            return
        if isinstance(events[0], Message) and learn_at(data, events[0].command.message_id) == at:
            self.server.profiles.learn(negotiated, request, self._answer)

    def _accept_again(self, data: bytes) -> bool:
        """Accept an association request that was accepted before, unless the answer may be another one by now."""
        server, association = self.server, self.association
        negotiated = server.profiles.get(data)
        if negotiated is None or association.state is not State.AWAIT_ASSOCIATE_RQ or association.in_message:
            return False
        ae, ac = negotiated.decision.ae, negotiated.decision.pdu
        policy = server.policies[ae]
        if server.refuses_for_now:
            return False
        if self.peer not in negotiated.hosts:
            check = policy.check_requestor
            if check is not None and check(self.peer, negotiated.calling_ae_title) is not None:
                return False
            server.profiles.remember(self.peer, data, negotiated)
        if not server.associations.take(ae, policy.max_associations):
            return False
        assert isinstance(ac, AssociateAc)  # no other is remembered
        now = self.loop.time()
        association.accept_again(negotiated.rq, ac, negotiated.encoded_ac, negotiated.contexts, now)
        self._begin(negotiated)
        self.flush()
        return True

    def _learn_association(self, data: bytes, events: list[AssociationEvent]) -> None:
        """Remember an association request that was accepted, if nothing but its bytes and host decided that."""
        negotiated = self._negotiated
        if negotiated is None or len(events) != 1 or len(data) != PDU_HEADER.size + PDU_HEADER.unpack_from(data)[1]:
            return
        if self.server.policies[negotiated.decision.ae].check_identity is None:
            self._negotiated = self.server.profiles.remember(self.peer, data, negotiated)

    def handle(self, event: AssociationEvent) -> None:
        """Act on an event of the association."""
        if isinstance(event, Message):
            self._receive(event)
        elif isinstance(event, Associate):
            self._negotiate(event)
        elif isinstance(event, Release):
            self._end("released")
            if self.association.state is State.AWAIT_LOCAL_RELEASE_RESPONSE:  # or the same read ended it
                self.association.respond_release(self.loop.time())
        elif isinstance(event, Aborted):
            if self.association.error is None:
                # Devices abort, or just close, where they should release: a normal end.
                self._end(event.text)
            elif self._established:
                self._end(event.text, logging.WARNING)
            else:
                logger.info("%s aborted: %s", self.peer, event.text)

    def _negotiate(self, event: Associate) -> None:
        if self.association.state is not State.AWAIT_LOCAL_ASSOCIATE_RESPONSE:
            return  # the same read brought what ended it
        server, now = self.server, self.loop.time()
        called, calling = event.rq.called_ae_title, event.rq.calling_ae_title
        self.requestor = Requestor(self.peer, server.associations, server.refuses_for_now)
        try:
            decision = negotiate(event.rq, server.policies, self.requestor)
            while isinstance(decision.pdu, AssociateAc) and not server.associations.take(
                decision.ae, server.policies[decision.ae].max_associations
            ):  # another process has taken the last place meanwhile
                decision = negotiate(event.rq, server.policies, self.requestor)
        except Exception as error:  # of a check that a policy carries
            self._log_failure(error)
            self.association.reject(AssociateRj(*CONGESTION), now)
            return
        if isinstance(decision.pdu, AssociateAc):
            self.association.accept(decision.pdu, now)
            encoded, contexts = encode_associate_ac(decision.pdu), self.association.contexts
            self._begin(Negotiated(event.rq, decision, encoded, contexts, called, calling))
            return
        server.refused[decision.checks[-1].name] += 1
        titles = f"{printable(calling)} -> {printable(called)}"
        logger.warning("%s %s refused: %s", self.peer, titles, printable(decision.reason))
        if isinstance(decision.pdu, AssociateRj):
            self.association.reject(decision.pdu, now)
        else:
            self.association.abort(now)

    def _begin(self, negotiated: Negotiated) -> None:
        """Begin an association that has its place; the counters are by the keys of the policies."""
        self._negotiated = negotiated
        self._established = True
        self.called_ae_title, self.calling_ae_title = negotiated.called_ae_title, negotiated.calling_ae_title
        self.server.accepted[negotiated.decision.ae] += 1

    def _end(self, how: str, level: int = logging.INFO) -> None:
        """End what runs and give the place back, which is taken until the association ends, not its socket."""
        self._stop_responses()
        self.operation = None
        self.queue.clear()
        self._queued_bytes = 0
        if not self._established or self._negotiated is None:
            return
        self._established = False
        self.server.associations.give_back(self._negotiated.decision.ae)
        self.server.operations += self.operations
        self.server.changed.set()
        if logger.isEnabledFor(level):
            titles = f"{printable(self.calling_ae_title)} -> {printable(self.called_ae_title)}"
            logger.log(level, "%s %s ended: %s, %d operations", self.peer, titles, how, self.operations)

    # --- requests ----------------------------------------------------------------------------------------

    def _receive(self, message: Message) -> None:
        command = message.command
        if command.command_field == CommandField.C_CANCEL_RQ:
            self._cancel(command.message_id_being_responded_to)
            return
        if not is_request(command.command_field):
            logger.info("%s sent a response to nothing, %04XH: ignored", self.peer, command.command_field)
            return
        operation = self._operation(message)
        if self.operation is None:
            self._start(operation)
        elif operation.message_id == self.operation.message_id or operation.message_id in self.queue:
            self._finish_with(operation, Status.DUPLICATE_INVOCATION)
            if not self.writable:  # or a peer that repeats itself and never reads would fill our memory
                self._set_reading(False)
        else:
            self.queue[operation.message_id] = operation
            self._queued_bytes += len(message.data)
            if self._queue_is_full:
                self._set_reading(False)

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
            called_ae_title=self.called_ae_title,
            calling_ae_title=self.calling_ae_title,
            requestor=self.requestor,
        )

    def _start(self, operation: Operation) -> None:
        self.operation = operation
        self.operations += 1
        try:
            responses = handler_for(operation, self.server.services)(operation)
        except Exception as error:
            self._fail(operation, error)
            return
        if isinstance(responses, Answer):
            operation.final_status = responses.status
            self._answer = responses
            self._send(responses.encode(operation.message_id))
            self._next()
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
        operation, responses = self.operation, self._responses
        if operation is None or responses is None:
            return
        sent = 0
        end = perf_counter() + TURN_SECONDS
        while self.writable and sent < TURN_BYTES:
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
        self.flush()
        if self.operation is operation and self.writable:
            self._turn = self.loop.call_soon(self._advance)

    async def _serve_async(self, operation: Operation, responses: AsyncIterable[bytes]) -> None:
        sent = 0
        try:
            async for data in responses:
                self._send(data)
                self.flush()
                sent += len(data)
                if sent >= TURN_BYTES:
                    sent = 0
                    await asyncio.sleep(0)
                while not self.writable:
                    self._resumed = asyncio.Event()
                    await self._resumed.wait()
        except Exception as error:
            self._fail(operation, error)
        else:
            self._finish(operation)
        finally:
            if hasattr(responses, "aclose"):
                await responses.aclose()
        self.flush()

    def _send(self, data: bytes) -> None:
        if self.association.can_send:
            self.association.send_p_data(data, self.loop.time())

    def _finish(self, operation: Operation) -> None:
        """End an operation whose handler is through, with success unless the handler has ended it otherwise."""
        self._task = None
        self._finish_with(operation, Status.SUCCESS)
        self._next()

    def _fail(self, operation: Operation, error: Exception) -> None:
        """End an operation whose handler raised."""
        self._stop_responses()
        if isinstance(error, LocalProtocolError):
            self._give_up(error)
            return
        if isinstance(error, ElementLimitError):
            for event in self.association.refuse_data(str(error), self.loop.time()):
                self.handle(event)
            return
        status = Status.UNABLE_TO_PROCESS
        if isinstance(error, ElementError):  # names tags and offsets only, so it may be logged
            status = Status.IDENTIFIER_CANNOT_BE_DECODED
            who = f"{self.peer} {printable(self.calling_ae_title)}"
            logger.warning("%s: the identifier of message %d cannot be decoded, %s", who, operation.message_id, error)
        else:
            self._log_failure(error)
        self._finish_with(operation, status)
        self._next()

    def _log_failure(self, error: Exception) -> None:
        caller = printable(self.calling_ae_title)
        logger.error("%s %s: a handler failed, %s", self.peer, caller, place_of(error))
        logger.debug("the failure in full", exc_info=error)

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
        self._end(f"aborted, {error}", logging.WARNING)

    def _next(self) -> None:
        """Begin the next request, by way of the loop: a long queue must not keep other connections waiting."""
        self.operation = self._responses = None
        self.server.changed.set()
        if self.queue:
            _, self.operation = self.queue.popitem(last=False)
            self._queued_bytes -= len(self.operation.message.data)
            self.loop.call_soon(self._start_queued, self.operation)
        self._set_reading(not self._queue_is_full)

    def _start_queued(self, operation: Operation) -> None:
        if self.operation is operation:
            self._start(operation)
            self.flush()

    def _cancel(self, message_id: int | None) -> None:
        """C-CANCEL-RQ, PS3.7 9.3.2.3; one that names no outstanding operation comes too late, and is no fault."""
        operation = self.operation
        if operation is not None and operation.message_id == message_id:
            self._stop_responses()
            self._finish_with(operation, Status.CANCEL)
            self._next()
            return
        queued = self.queue.pop(message_id, None) if message_id is not None else None
        if queued is not None:
            self._queued_bytes -= len(queued.message.data)
            self._finish_with(queued, Status.CANCEL)

    def _stop_responses(self) -> None:
        """Close the handler's generator, so that it can let go of what it holds."""
        responses, self._responses = self._responses, None
        close: Any = getattr(responses, "close", None)
        if close is not None:
            try:
                close()
            except Exception as error:
                self._log_failure(error)
        task, self._task = self._task, None
        if task is not None and task is not asyncio.current_task(self.loop):
            task.cancel()

    # --- flow --------------------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        """Stop producing: the peer reads more slowly than we write."""
        super().pause_writing()
        self._stalled_since = self.loop.time()

    def resume_writing(self) -> None:
        """Go on producing."""
        super().resume_writing()
        self._stalled_since = None
        self._set_reading(not self._queue_is_full)
        if self._resumed is not None:
            self._resumed.set()
        self._advance()

    @property
    def _queue_is_full(self) -> bool:
        return len(self.queue) >= QUEUED_MESSAGES or self._queued_bytes >= QUEUED_BYTES

    def _set_reading(self, reading: bool) -> None:
        if self.transport is not None and reading is not self._reading:
            self._reading = reading
            if reading:
                self.transport.resume_reading()
            else:
                self.transport.pause_reading()

    def check_timers(self, now: float) -> None:
        """Act on deadlines that have passed, and on a peer that does not read."""
        limit = self.server.stalled_seconds
        if limit and self._stalled_since is not None and now - self._stalled_since > limit:
            self._end("an answer was left unread", logging.WARNING)
            self.abort()
            self.close_transport()
        else:
            super().check_timers(now)
