"""The requestor on asyncio: `connect` makes an association, with C-ECHO, C-FIND and any other request on it."""

from __future__ import annotations

import asyncio
import socket
import ssl as ssl_module
from collections import deque
from collections.abc import AsyncGenerator, Generator, Iterable
from contextlib import aclosing
from types import TracebackType
from typing import Any, Final

import msgspec

from .acse import DEFAULT_TRANSFER_SYNTAXES, PresentationContext
from .assembler import Message
from .association import Association
from .dimse import DATA_SET, CommandField, CommandSet, encode_message
from .elements import DataSet, decode_data_set, encode_data_set
from .errors import (
    AssociationAborted,
    AssociationError,
    AssociationRejected,
    AssociationTimeout,
    LocalProtocolError,
)
from .events import Aborted, AssociationEvent, Limits, Rejected, Release, Released
from .fsm import State
from .items import ProposedContext, UserIdentity, UserInformation
from .pdu import AssociateRq, encode_ae_titles
from .status import StatusCategory, category
from .transport import Connection
from .uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, MODALITY_WORKLIST_FIND, VERIFICATION

QUEUED_RESPONSES: Final = 64  # received and not yet taken by the caller, before reading stops
MEDIUM: Final = 0  # priority, PS3.7 Table 9.3-1


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds to wait; None waits for ever."""

    connect: float | None = 10.0  # TCP connection and TLS handshake
    associate: float | None = 30.0  # A-ASSOCIATE-AC or -RJ
    response: float | None = 60.0  # each next response to a request
    release: float | None = 10.0  # A-RELEASE-RP


def propose(
    *abstract_syntaxes: str, transfer_syntaxes: Iterable[str] = DEFAULT_TRANSFER_SYNTAXES
) -> tuple[ProposedContext, ...]:
    """Make a presentation context for each abstract syntax, with the ids 1, 3, 5, ..., PS3.8 Table 9-13."""
    syntaxes = tuple(transfer_syntaxes)
    return tuple(ProposedContext(2 * n + 1, uid, syntaxes) for n, uid in enumerate(abstract_syntaxes))


class ClientAssociation(Connection):
    """An association we requested.  Made by `connect`; one request at a time, PS3.7 D.3.3.3."""

    def __init__(self, association: Association, timeouts: Timeouts) -> None:
        super().__init__(association, asyncio.get_running_loop())
        self.timeouts = timeouts
        self._received: deque[Message] = deque()
        self._news = asyncio.Event()  # a response, a confirmation, or the end
        self._end: AssociationError | None = None
        self._lost = False
        self._last_message_id = 0
        self._unfinished: int | None = None  # Message ID of a request whose final response is still to come
        self._awaited = False  # whether somebody waits for it
        self._context_of_request: PresentationContext | None = None
        self._closing: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start: the transport is open; a peer that is unplugged is noticed some day."""
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        super().connection_made(transport)

    # --- what was negotiated -----------------------------------------------------------------------------

    @property
    def contexts(self) -> dict[int, PresentationContext]:
        """The accepted presentation contexts, by id."""
        return self.association.contexts

    def context_for(self, abstract_syntax: str) -> PresentationContext:
        """Return the first accepted presentation context of an abstract syntax; raises LocalProtocolError."""
        for context in self.contexts.values():
            if context.abstract_syntax == abstract_syntax:
                return context
        raise LocalProtocolError(f"the peer accepted no presentation context for {abstract_syntax}")

    # --- requests ----------------------------------------------------------------------------------------

    async def c_echo(self) -> int:
        """Verify the association, PS3.7 9.1.5; return the status."""
        command = CommandSet(command_field=CommandField.C_ECHO_RQ, affected_sop_class_uid=VERIFICATION)
        async for response in self.request(self.context_for(VERIFICATION), command):
            return response.command.status or 0
        raise AssertionError("a request ends with a response or an error")

    async def c_find(
        self,
        identifier: DataSet | bytes,
        sop_class_uid: str = MODALITY_WORKLIST_FIND,
        *,
        context: PresentationContext | None = None,
        priority: int = MEDIUM,
    ) -> AsyncGenerator[tuple[int, DataSet | None], None]:
        """Query, PS3.7 9.1.2: yield status and identifier of each response, the final one too.

        Leaving the loop early cancels the query.
        """
        context = context or self.context_for(sop_class_uid)
        command = CommandSet(
            command_field=CommandField.C_FIND_RQ, affected_sop_class_uid=sop_class_uid, priority=priority
        )
        data = identifier if isinstance(identifier, bytes) else encode_data_set(identifier, context.transfer_syntax)
        async with aclosing(self.request(context, command, data)) as responses:
            async for response in responses:
                answer = decode_data_set(response.data, context.transfer_syntax) if response.data else None
                yield response.command.status or 0, answer

    def c_cancel(self) -> None:
        """Cancel the running request, PS3.7 9.3.2.3; its final response still comes.  None running: no matter."""
        if self._unfinished is None or self._context_of_request is None or not self.association.can_send:
            return
        command = CommandSet(command_field=CommandField.C_CANCEL_RQ, message_id_being_responded_to=self._unfinished)
        self._send(self._context_of_request, command, b"")

    async def request(
        self, context: PresentationContext, command: CommandSet, data: bytes = b""
    ) -> AsyncGenerator[Message, None]:
        """Send any request and yield its responses up to the final one; the Message ID is filled in.

        Raises:
            AssociationTimeout: no response within `timeouts.response`; the association is aborted.
            AssociationAborted: the association ended first.
            LocalProtocolError: another request is waiting for its response, or was made before this one had ended.
        """
        if self._awaited:
            raise LocalProtocolError("another request waits for its response: one at a time, PS3.7 D.3.3.3")
        if self._unfinished is not None:
            await self._drain()
        self._last_message_id = message_id = self._last_message_id % 0xFFFF + 1
        command = msgspec.structs.replace(
            command,
            message_id=message_id,
            command_data_set_type=DATA_SET if data else command.command_data_set_type,
        )
        self._send(context, command, data)
        self._context_of_request, self._unfinished = context, message_id
        try:
            while True:
                response = await self._response(message_id)
                is_last = self._unfinished is None
                yield response
                if is_last:
                    return
                if self._unfinished != message_id:
                    raise LocalProtocolError("another request was made before this one had ended: it is cut short")
        finally:
            if self._unfinished == message_id and self._end is None:
                self.c_cancel()

    async def _response(self, message_id: int) -> Message:
        """Wait for the next response to a request."""
        while True:
            while not self._received:
                self._awaited = True
                try:
                    await self._wait(self.timeouts.response, "no response")
                finally:
                    self._awaited = False
            message = self._received.popleft()
            if len(self._received) == QUEUED_RESPONSES // 2:
                self._resume_reading()
            if message.command.message_id_being_responded_to != message_id:
                continue
            if category(message.command.status or 0) is not StatusCategory.PENDING:
                self._unfinished = None
            return message

    def _resume_reading(self) -> None:
        if self.transport is not None:
            self.transport.resume_reading()

    async def _drain(self) -> None:
        """Let a request that the caller left run to its end."""
        while self._unfinished is not None:
            await self._response(self._unfinished)

    def _send(self, context: PresentationContext, command: CommandSet, data: bytes) -> None:
        if self._end is not None:
            raise self._end
        pdus = encode_message(context.context_id, command, data, self.association.maximum_length)
        self.association.send_p_data(pdus, self.loop.time())
        self.flush()

    # --- the end -----------------------------------------------------------------------------------------

    async def release(self) -> None:
        """End the association in order, PS3.8 7.2; one that has ended already is no matter."""
        if self._end is not None:
            return
        self.association.release()
        self.flush()
        try:
            while self._end is None:
                self._received.clear()
                self._resume_reading()
                await self._wait(self.timeouts.release, "no answer to the release request")
        except AssociationTimeout:
            raise
        except AssociationError:
            pass  # gone is gone: peers that close in place of A-RELEASE-RP mean the same
        await self._closed()

    def abort(self) -> None:
        """End the association at once, PS3.8 7.3."""
        super().abort()
        self._ended(AssociationAborted("we aborted the association"))
        self.close_transport()

    async def _closed(self) -> None:
        while not self._lost:
            self._news.clear()
            await self._news.wait()

    # --- events ------------------------------------------------------------------------------------------

    def handle(self, event: AssociationEvent) -> None:
        """Act on an event of the association."""
        if isinstance(event, Message):
            self._received.append(event)
            if len(self._received) == QUEUED_RESPONSES and self.transport is not None:
                self.transport.pause_reading()
        elif isinstance(event, Rejected):
            self._ended(AssociationRejected(event.rj.result, event.rj.source, event.rj.reason))
        elif isinstance(event, Aborted):
            self._ended(AssociationAborted(event.text, event.source, event.reason))
        elif isinstance(event, Released):
            self._ended(AssociationError("the association has been released"))
        elif isinstance(event, Release):
            self._answer_release()
        self._news.set()

    def _answer_release(self) -> None:
        if self.association.state is State.COLLISION_REQUESTOR_AWAIT_LOCAL_RESPONSE:
            self.association.respond_release(self.loop.time())  # the answer to our own request is still to come
        elif self.association.state is State.AWAIT_LOCAL_RELEASE_RESPONSE:  # or the same read brought the end
            self.association.respond_release(self.loop.time())
            self._ended(AssociationError("the peer released the association"))

    def connection_lost(self, exc: Exception | None) -> None:
        """End: the transport is closed, by whoever."""
        super().connection_lost(exc)
        self._lost = True
        if self._closing is not None:
            self._closing.cancel()
        self._ended(AssociationAborted("the connection was closed"))

    def _ended(self, why: AssociationError) -> None:
        self._end = self._end or why
        self._news.set()
        if not self._lost and self._closing is None:  # the peer closes; ARTIM is for the one that does not
            self._closing = self.loop.call_later(self.association.limits.artim, self.close_transport)

    async def established(self) -> None:
        """Wait for the answer to the association request."""
        while self.association.state is not State.ESTABLISHED:
            await self._wait(self.timeouts.associate, "no answer to the association request")

    async def _wait(self, seconds: float | None, what: str) -> None:
        """Wait until something happened; raise what ended the association, or abort it when time is up."""
        if self._end is not None:
            raise self._end
        self._news.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            self.abort()
            raise AssociationTimeout(f"{what} within {seconds:g} s") from None
        if self._end is not None and not self._received:
            raise self._end


class connect:  # noqa: N801 - called like a function
    """Open an association: `async with connect(...) as association`, or `association = await connect(...)`.

    `contexts` are the presentation contexts to propose, see `propose`; by default Verification and the Modality
    Worklist.  `maximum_length` is the longest P-DATA-TF to receive, 0 for any.  At the end of the `async with`
    block the association is released, or aborted if the block raised.

    Raises:
        AssociationRejected: the peer refused, with result, source and reason.
        AssociationAborted: the peer aborted, broke the protocol or closed the connection.
        AssociationTimeout: the peer did not answer, or could not be reached, in time.
        OSError: no connection could be made.
    """

    def __init__(
        self,
        host: str,
        port: int = 11112,
        *,
        called_ae_title: str = "ANY-SCP",
        calling_ae_title: str = "DULPROTO",
        contexts: Iterable[ProposedContext] = propose(VERIFICATION, MODALITY_WORKLIST_FIND),
        maximum_length: int = 65536,
        user_identity: UserIdentity | None = None,
        timeouts: Timeouts | None = None,
        limits: Limits | None = None,
        ssl: ssl_module.SSLContext | None = None,
        **options: Any,
    ) -> None:
        self.address = host, port
        self.timeouts = timeouts or Timeouts()
        self.limits = limits or Limits(idle=0)
        self.options = {"ssl": ssl, **options}
        self.rq = AssociateRq(
            encode_ae_titles(called_ae_title, calling_ae_title),
            tuple(contexts),
            UserInformation(
                maximum_length=maximum_length,
                implementation_class_uid=IMPLEMENTATION_CLASS_UID,
                implementation_version_name=IMPLEMENTATION_VERSION_NAME,
                user_identity=user_identity,
            ),
        )
        self._association: ClientAssociation | None = None

    async def _connect(self) -> ClientAssociation:
        association = Association(is_requestor=True, limits=self.limits)
        association.request(self.rq)
        connection = ClientAssociation(association, self.timeouts)
        host, port = self.address
        seconds = self.timeouts.connect
        try:
            async with asyncio.timeout(seconds):
                await connection.loop.create_connection(lambda: connection, host, port, **self.options)
        except TimeoutError:
            raise AssociationTimeout(f"no connection to {host}:{port} within {seconds:g} s") from None
        try:
            await connection.established()
        except asyncio.CancelledError:
            connection.abort()
            raise
        return connection

    def __await__(self) -> Generator[Any, None, ClientAssociation]:
        return self._connect().__await__()

    async def __aenter__(self) -> ClientAssociation:
        self._association = await self._connect()
        return self._association

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        association = self._association
        assert association is not None  # __aenter__ came first
        if kind is None:
            await association.release()
        else:
            association.abort()
