"""One association, PS3.8: bytes and `now` in, events and bytes out.  No I/O; both roles.

The adapter that owns the transport connection does three things: it passes received bytes to `receive_data`, sends
what `data_to_send` returns after every call, and closes the connection once `state` is IDLE again.  `next_deadline`
tells when `time_passed` must be called.
"""

from __future__ import annotations

import logging
from typing import Final

from .acse import PresentationContext
from .assembler import MessageAssembler
from .errors import AbortReason, RemoteProtocolError
from .events import AssociationEvent, Limits
from .fsm import Event, State
from .machine import Machine
from .pdu import PDU_HEADER, PDV_HEADER, AssociateAc, AssociateRq, PduType, check_pdv_length

logger = logging.getLogger("dulproto.association")

# Aliases of what the hot path compares, with `is`.
_IDLE: Final = State.IDLE
_ESTABLISHED: Final = State.ESTABLISHED
_P_DATA_TF: Final = int(PduType.P_DATA_TF)

_PDU_EVENTS: Final[dict[int, Event]] = {
    PduType.ASSOCIATE_RQ: Event.ASSOCIATE_RQ_PDU,
    PduType.ASSOCIATE_AC: Event.ASSOCIATE_AC_PDU,
    PduType.ASSOCIATE_RJ: Event.ASSOCIATE_RJ_PDU,
    PduType.P_DATA_TF: Event.P_DATA_TF_PDU,
    PduType.RELEASE_RQ: Event.RELEASE_RQ_PDU,
    PduType.RELEASE_RP: Event.RELEASE_RP_PDU,
    PduType.ABORT: Event.ABORT_PDU,
}
_ASSOCIATE_PDUS: Final = frozenset({PduType.ASSOCIATE_RQ, PduType.ASSOCIATE_AC})
# What strangers on the port begin with.
_GUESSES: Final = {0x16: ": a TLS client on a plain port", **dict.fromkeys(b"CDGHOP", ": an HTTP client")}


class Association(Machine):
    """One end of an association: the machine of Table 9-10, and the reader that feeds it.

    PDUs are buffered whole only where they must be; P-DATA-TF is read as a stream of PDVs, so that a peer may
    announce any length and only what it really sends of one message takes memory.
    """

    def __init__(self, *, is_requestor: bool, limits: Limits | None = None) -> None:
        super().__init__(is_requestor=is_requestor, limits=limits)
        self._assembler = MessageAssembler(self.contexts, self.limits.command_set, self.limits.data_set)
        self._unread = bytearray()
        self._needed = 0  # bytes that must be there before it is worth looking at _unread again
        self._skip = 0  # bytes of a PDU whose content does not matter
        self._pdu_length = 0  # of the P-DATA-TF that is being read
        self._pdu_left = 0
        self._fragment_left = 0
        self._deaf = False  # the framing is lost: what follows is not looked at
        self.debug = logger.isEnabledFor(logging.DEBUG)

    @property
    def in_message(self) -> bool:
        """Whether what was received ends inside a PDU or a message: the peer has more to send."""
        return bool(self._unread) or self._pdu_left > 0 or self._assembler.in_message

    @property
    def at_rest(self) -> bool:
        """Whether an association is established, and the next byte is the first one of a message."""
        return not (self.state is not _ESTABLISHED or self._unread or self._pdu_left or self._assembler.in_message)

    def accepted_again(
        self, rq: AssociateRq, ac: AssociateAc, contexts: dict[int, PresentationContext], now: float
    ) -> None:
        """Evt6 and Evt7 at once: the request came before with equal bytes, and has been accepted as before."""
        super().accepted_again(rq, ac, contexts, now)
        self._assembler.contexts = contexts

    def receive_data(self, data: bytes, now: float) -> list[AssociationEvent]:
        """Take bytes from the peer in any cut; return what they amount to.  Never raises for what a peer sends."""
        self._now = now
        if self._unread:
            self._unread += data
            if len(self._unread) < self._needed:
                return []
            data = bytes(self._unread)
            self._unread.clear()
        self._needed = 0
        try:
            pos = self._read(data)
        except RemoteProtocolError as error:
            self._fail(error)
            pos = len(data)
        if self._deaf or self.state is _IDLE:
            self._forget_partial()
        else:
            if pos < len(data):
                self._unread += data[pos:]
            if self._half_pdu is None and self.limits.half_pdu and (self._unread or self._pdu_left or self._skip):
                self._half_pdu = now + self.limits.half_pdu
        return self._take_events()

    def _read(self, data: bytes) -> int:
        """Read PDUs, and P-DATA-TF as a stream of PDVs; return how far it got."""
        pos, end = 0, len(data)
        while pos < end and not self._deaf and self.state is not _IDLE:
            if self._pdu_left and self.state is State.AWAIT_CLOSE:  # what was being read matters no more
                self._skip, self._pdu_left, self._fragment_left = self._pdu_left, 0, 0
            if self._skip:
                step = min(self._skip, end - pos)
                self._skip -= step
                pos += step
                if not self._skip:
                    self._half_pdu = None
            elif self._fragment_left:
                step = min(self._fragment_left, end - pos)
                self._assembler.add(data[pos : pos + step])
                self._fragment_left -= step
                self._pdu_left -= step
                pos += step
                if not self._fragment_left:
                    self._end_pdv()
            elif self._pdu_left:
                if end - pos < PDV_HEADER.size <= self._pdu_left:
                    break
                pos += self._begin_pdv(data, pos)
            else:
                if end - pos < PDU_HEADER.size:
                    break
                step = self._begin_pdu(data, pos, end - pos)
                if not step:
                    break
                pos += step
        return pos

    def _begin_pdu(self, data: bytes, pos: int, available: int) -> int:
        """Read a PDU from its header; return the bytes used, 0 if more must come first."""
        pdu_type: int
        length: int
        pdu_type, length = PDU_HEADER.unpack_from(data, pos)
        if pdu_type == _P_DATA_TF and self.state is _ESTABLISHED:  # DT-2, spelled out for the hot path
            return self._begin_p_data(length)
        event = _PDU_EVENTS.get(pdu_type)
        if event is None:
            text = f"{pdu_type:02X}H is no PDU type{_GUESSES.get(pdu_type, '')}"
            raise RemoteProtocolError(text, AbortReason.UNRECOGNIZED_PDU, field="PDU-type", offset=0)
        step = self._step(event)
        if self.debug:
            logger.debug("< %s, %d bytes, %s", PduType(pdu_type).name, length, step.action.value)
        if step.at_header:
            self._skip = length  # its content does not matter
            self._on(event, self._unexpected(pdu_type))
            return PDU_HEADER.size
        if pdu_type == _P_DATA_TF:
            return self._begin_p_data(length)
        limit = self.limits.associate_pdu if pdu_type in _ASSOCIATE_PDUS else self.limits.control_pdu
        if length > limit:
            raise RemoteProtocolError(
                f"{PduType(pdu_type).name} of {length} bytes, more than {limit}",
                AbortReason.INVALID_PDU_PARAMETER_VALUE,
                field="PDU-length",
                offset=2,
            )
        size = PDU_HEADER.size + length
        if available < size:
            self._needed = size
            return 0
        self._half_pdu = None
        self._on(event, data[pos : pos + size])
        return size

    def _begin_p_data(self, length: int) -> int:
        self._pdu_length = self._pdu_left = length
        if length > self._announced_length:
            self._tolerate_length(length)
        self._check_room_for_pdv()
        return PDU_HEADER.size

    def _check_room_for_pdv(self) -> int:
        """Return the offset of the next PDV in its PDU; what is left of the PDU must hold a PDV header."""
        offset = PDU_HEADER.size + self._pdu_length - self._pdu_left
        if self._pdu_left < PDV_HEADER.size:
            raise RemoteProtocolError(
                f"{self._pdu_left} bytes are too few for a PDV",
                AbortReason.INVALID_PDU_PARAMETER_VALUE,
                field="P-DATA-TF",
                offset=offset,
            )
        return offset

    def _begin_pdv(self, data: bytes, pos: int) -> int:
        offset = self._check_room_for_pdv()
        length, context_id, control = PDV_HEADER.unpack_from(data, pos)
        check_pdv_length(length, self._pdu_left - 4, offset)
        self._assembler.begin(context_id, control, length - 2, offset)
        self._pdu_left -= PDV_HEADER.size
        self._fragment_left = length - 2
        if not self._fragment_left:
            self._end_pdv()
        return PDV_HEADER.size

    def _end_pdv(self) -> None:
        if not self._pdu_left:
            self._half_pdu = None
        message = self._assembler.end()
        if message is not None:
            if self.debug:
                logger.debug("< message %04XH, %d bytes", message.command.command_field, len(message.data))
            self._events.append(message)
            self.restart_idle(self._now)

    def _unexpected(self, pdu_type: int) -> RemoteProtocolError:
        return RemoteProtocolError(
            f"{PduType(pdu_type).name} in state {self.state.name}",
            AbortReason.UNEXPECTED_PDU,
            field="PDU-type",
            offset=0,
        )

    def _fail(self, error: RemoteProtocolError) -> None:
        """Evt19: the peer sent what is no PDU; the framing cannot be trusted any more."""
        self._on(Event.INVALID_PDU, error)
        self._deaf = True

    def _forget_partial(self) -> None:
        self._unread.clear()
        self._skip = self._pdu_left = self._fragment_left = 0
        self._half_pdu = None
