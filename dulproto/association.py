"""One association, PS3.8: bytes and `now` in, events and bytes out.  No I/O; both roles.

The adapter that owns the transport connection does three things: it passes received bytes to `receive_data`, sends
what `data_to_send` returns after every call, and closes the connection once `state` is IDLE again.  `next_deadline`
tells when `time_passed` must be called.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from .acse import DEFAULT_MAXIMUM_LENGTH, PresentationContext, negotiated_contexts
from .assembler import MessageAssembler
from .errors import AbortReason, AbortSource, LocalProtocolError, RemoteProtocolError, abort_text
from .events import Aborted, Accepted, Associate, AssociationEvent, Limits, Rejected, Release, Released
from .fsm import NEXT_STATES, TABLE, Action, Event, State
from .pdu import (
    PDU_HEADER,
    PDV_HEADER,
    RELEASE_RP,
    RELEASE_RQ,
    Abort,
    AssociateAc,
    AssociateRj,
    AssociateRq,
    PduType,
    check_pdv_length,
    decode_abort,
    decode_associate_ac,
    decode_associate_rj,
    decode_associate_rq,
    encode_abort,
    encode_associate_ac,
    encode_associate_rj,
    encode_associate_rq,
)

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
# Actions that need nothing of the PDU but its type: they are taken at its header, its content is skipped.
_AT_HEADER: Final = frozenset({Action.AA_1, Action.AA_6, Action.AA_7, Action.AA_8})
_ASSOCIATE_PDUS: Final = frozenset({PduType.ASSOCIATE_RQ, PduType.ASSOCIATE_AC})
# What strangers on the port begin with.
_GUESSES: Final = {0x16: ": a TLS client on a plain port", **dict.fromkeys(b"CDGHOP", ": an HTTP client")}
_CAN_SEND: Final = frozenset({State.ESTABLISHED, State.AWAIT_LOCAL_RELEASE_RESPONSE})


class Association:
    """The protocol machine of one association; `is_requestor` tells which end of it this is.

    Attributes of interest once it is established: `rq`, `ac`, `contexts` (accepted presentation contexts by id),
    `maximum_length` (of the P-DATA-TF PDUs to send).  `error` keeps what the peer did wrong, for the log.
    """

    def __init__(self, *, is_requestor: bool, limits: Limits | None = None) -> None:
        self.is_requestor = is_requestor
        self.limits = limits or Limits()
        self.state = State.IDLE
        self.rq: AssociateRq | None = None
        self.ac: AssociateAc | None = None
        self.contexts: dict[int, PresentationContext] = {}
        self.maximum_length = DEFAULT_MAXIMUM_LENGTH
        self.error: RemoteProtocolError | None = None
        self._assembler = MessageAssembler(self.contexts, self.limits.command_set, self.limits.data_set)
        self._events: list[AssociationEvent] = []
        self._out: list[bytes] = []
        self._unread = bytearray()
        self._needed = 0  # bytes that must be there before it is worth looking at _unread again
        self._skip = 0  # bytes of a PDU whose content does not matter
        self._pdu_length = 0  # of the P-DATA-TF that is being read
        self._pdu_left = 0
        self._fragment_left = 0
        self._deaf = False  # the framing is lost: what follows is not looked at
        self._now = 0.0
        self._artim: float | None = None
        self._half_pdu: float | None = None
        self._idle: float | None = None
        self.debug = logger.isEnabledFor(logging.DEBUG)

    # --- local primitives ------------------------------------------------------------------------------

    def request(self, rq: AssociateRq) -> None:
        """A-ASSOCIATE request: the adapter must open the transport connection now."""
        self.rq = rq
        self._on(Event.ASSOCIATE_REQUEST)

    def transport_opened(self, now: float) -> None:
        """The transport connection is open, on either side."""
        self._now = now
        self._on(Event.TRANSPORT_CONNECT_CONFIRM if self.is_requestor else Event.TRANSPORT_CONNECT_INDICATION)

    def accept(self, ac: AssociateAc, now: float) -> None:
        """A-ASSOCIATE response, accepting."""
        self._now = now
        self._on(Event.LOCAL_ACCEPT, ac)

    def reject(self, rj: AssociateRj, now: float) -> None:
        """A-ASSOCIATE response, refusing."""
        self._now = now
        self._on(Event.LOCAL_REJECT, rj)

    def send_p_data(self, pdus: bytes, now: float) -> None:
        """P-DATA request: P-DATA-TF PDUs as `dimse.encode_message` makes them for our `maximum_length`."""
        if self.state is _ESTABLISHED:  # DT-1, spelled out for the hot path
            self._out.append(pdus)
        else:
            self._on(Event.P_DATA_REQUEST, pdus)
        self._restart_idle(now)

    def release(self) -> None:
        """A-RELEASE request."""
        self._on(Event.RELEASE_REQUEST)

    def respond_release(self, now: float) -> None:
        """A-RELEASE response."""
        self._now = now
        self._on(Event.RELEASE_RESPONSE)

    def abort(self, now: float) -> None:
        """A-ABORT request; no matter where there is no association to abort."""
        self._now = now
        if (self.state, Event.ABORT_REQUEST) in TABLE:
            self._on(Event.ABORT_REQUEST)

    def transport_closed(self) -> list[AssociationEvent]:
        """The transport connection is closed, by whoever."""
        if self.state is not _IDLE:
            self._on(Event.TRANSPORT_CLOSED)
        return self._take_events()

    def data_to_send(self) -> bytes:
        """Return and forget the bytes that must be sent now."""
        if not self._out:
            return b""
        data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
        self._out.clear()
        return data

    @property
    def can_send(self) -> bool:
        """Whether P-DATA may be sent: established, or the peer waits for the answer to its release request."""
        return self.state in _CAN_SEND

    @property
    def in_message(self) -> bool:
        """Whether what was received ends inside a PDU or a message: the peer has more to send."""
        return bool(self._unread) or self._pdu_left > 0 or self._assembler.in_message

    # --- timers ----------------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """Return when to call `time_passed`: the earliest of ARTIM, a half-received PDU and idleness."""
        deadlines = [d for d in (self._artim, self._half_pdu, self._idle) if d is not None]
        return min(deadlines, default=None)

    def time_passed(self, now: float) -> list[AssociationEvent]:
        """Act on the timers that have expired."""
        self._now = now
        if self._artim is not None and now >= self._artim:
            self._on(Event.ARTIM_EXPIRED)
        elif self._half_pdu is not None and now >= self._half_pdu:
            self._abort_overdue(f"a PDU was not complete after {self.limits.half_pdu:g} s")
        elif self._idle is not None and now >= self._idle:
            self._abort_overdue(f"idle for {self.limits.idle:g} s")
        return self._take_events()

    def _abort_overdue(self, text: str) -> None:
        self._half_pdu = self._idle = None
        if (self.state, Event.ABORT_REQUEST) in TABLE:
            self._on(Event.ABORT_REQUEST)
            self._events.append(Aborted(text, AbortSource.SERVICE_USER))

    def _restart_idle(self, now: float) -> None:
        self._idle = now + self.limits.idle if self.limits.idle and self.state is _ESTABLISHED else None

    # --- receiving -------------------------------------------------------------------------------------

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
        action = TABLE[self.state, event]
        if self.debug:
            logger.debug("< %s, %d bytes, %s", PduType(pdu_type).name, length, action.value)
        if action in _AT_HEADER:
            self._skip = length
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
            self._restart_idle(self._now)

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

    # --- Table 9-10 ------------------------------------------------------------------------------------

    def _on(self, event: Event, parameter: Any = None) -> None:
        """Run the action of Table 9-10 and enter its next state; an action that raises changes nothing."""
        action = TABLE.get((self.state, event))
        if action is None:
            raise LocalProtocolError(f"{event.name} is not possible in state {self.state.name}")
        _ACTIONS[action](self, parameter)
        states = NEXT_STATES[action]
        self.state = states[0] if action is not Action.AR_8 or self.is_requestor else states[1]
        if self.state is State.AWAIT_CLOSE:  # the rest of a PDU that was being read does not matter any more
            self._skip += self._pdu_left
            self._pdu_left = self._fragment_left = 0
        self._restart_idle(self._now)

    def _take_events(self) -> list[AssociationEvent]:
        events, self._events = self._events, []
        return events

    def _nothing(self, _: Any) -> None:
        pass

    def _send_associate_rq(self, _: Any) -> None:
        assert self.rq is not None  # request() came first, or Evt2 cannot happen
        self._out.append(encode_associate_rq(self.rq))

    def _confirm_accept(self, pdu: bytes) -> None:
        assert self.rq is not None
        ac = decode_associate_ac(pdu)
        self._establish(self.rq, ac, ac.user_information.maximum_length)
        self._events.append(Accepted(ac))

    def _confirm_reject(self, pdu: bytes) -> None:
        self._events.append(Rejected(decode_associate_rj(pdu)))

    def _indicate_associate(self, pdu: bytes) -> None:
        self.rq = decode_associate_rq(pdu)
        self._artim = None
        self._events.append(Associate(self.rq))

    def _send_associate_ac(self, ac: AssociateAc) -> None:
        assert self.rq is not None
        self._out.append(encode_associate_ac(ac))
        self._establish(self.rq, ac, self.rq.user_information.maximum_length)

    def _establish(self, rq: AssociateRq, ac: AssociateAc, peer_maximum: int | None) -> None:
        """Keep what was negotiated; the peer's maximum length bounds what we send, PS3.8 D.1."""
        self.ac = ac
        self.contexts.update(negotiated_contexts(rq, ac))
        maximum = DEFAULT_MAXIMUM_LENGTH if peer_maximum is None else peer_maximum
        self.maximum_length = min(maximum or self.limits.send_pdu, self.limits.send_pdu)

    def _send_associate_rj(self, rj: AssociateRj) -> None:
        self._out.append(encode_associate_rj(rj))
        self._start_artim(None)

    def _start_artim(self, _: Any) -> None:
        self._artim = self._now + self.limits.artim

    def _stop_artim(self, _: Any) -> None:
        self._artim = None

    def _send_data(self, pdus: bytes) -> None:
        self._out.append(pdus)

    def _send_release_rq(self, _: Any) -> None:
        self._out.append(RELEASE_RQ)

    def _indicate_release(self, _: Any) -> None:
        self._events.append(Release())

    def _confirm_release(self, _: Any) -> None:
        self._events.append(Released())

    def _send_release_rp(self, _: Any) -> None:
        self._out.append(RELEASE_RP)

    def _send_release_rp_and_wait(self, _: Any) -> None:
        self._out.append(RELEASE_RP)
        self._start_artim(None)

    def _abort_as_user(self, error: RemoteProtocolError | None) -> None:
        """AA-1: the local user asked for it, or the peer's first PDU was no A-ASSOCIATE-RQ."""
        if error is not None:
            self.error = error
            self._events.append(Aborted(str(error), AbortSource.SERVICE_USER))
        self._out.append(encode_abort(Abort(AbortSource.SERVICE_USER)))
        self._start_artim(None)

    def _abort_again(self, error: RemoteProtocolError) -> None:
        self._out.append(encode_abort(Abort(AbortSource.SERVICE_PROVIDER, error.reason)))

    def _abort_as_provider(self, error: RemoteProtocolError) -> None:
        self.error = error
        self._out.append(encode_abort(Abort(AbortSource.SERVICE_PROVIDER, error.reason)))
        self._events.append(Aborted(str(error), AbortSource.SERVICE_PROVIDER, error.reason))
        self._start_artim(None)

    def _indicate_abort(self, pdu: bytes) -> None:
        abort = decode_abort(pdu)
        text = f"the peer aborted {abort_text(abort.source, abort.reason)}"
        self._events.append(Aborted(text, abort.source, abort.reason))

    def _indicate_closed(self, _: Any) -> None:
        self._events.append(Aborted("the peer closed the connection"))


_ACTIONS: Final[dict[Action, Callable[[Association, Any], None]]] = {
    Action.AE_1: Association._nothing,  # the adapter opens the connection
    Action.AE_2: Association._send_associate_rq,
    Action.AE_3: Association._confirm_accept,
    Action.AE_4: Association._confirm_reject,
    Action.AE_5: Association._start_artim,
    Action.AE_6: Association._indicate_associate,
    Action.AE_7: Association._send_associate_ac,
    Action.AE_8: Association._send_associate_rj,
    Action.DT_1: Association._send_data,
    Action.DT_2: Association._nothing,  # PDVs are delivered as they come
    Action.AR_1: Association._send_release_rq,
    Action.AR_2: Association._indicate_release,
    Action.AR_3: Association._confirm_release,
    Action.AR_4: Association._send_release_rp_and_wait,
    Action.AR_5: Association._stop_artim,
    Action.AR_6: Association._nothing,  # PDVs are delivered as they come
    Action.AR_7: Association._send_data,
    Action.AR_8: Association._indicate_release,
    Action.AR_9: Association._send_release_rp,
    Action.AR_10: Association._confirm_release,
    Action.AA_1: Association._abort_as_user,
    Action.AA_2: Association._stop_artim,
    Action.AA_3: Association._indicate_abort,
    Action.AA_4: Association._indicate_closed,
    Action.AA_5: Association._stop_artim,
    Action.AA_6: Association._nothing,
    Action.AA_7: Association._abort_again,
    Action.AA_8: Association._abort_as_provider,
}
