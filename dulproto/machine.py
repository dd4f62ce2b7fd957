"""The protocol machine of one association, PS3.8 9.2: local primitives, timers, and the actions of Table 9-10."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from .acse import DEFAULT_MAXIMUM_LENGTH, PresentationContext, negotiated_contexts
from .errors import AbortReason, AbortSource, LocalProtocolError, RemoteProtocolError, abort_text
from .events import Aborted, Accepted, Associate, AssociationEvent, Limits, Rejected, Release, Released, Tolerated
from .fsm import NEXT_STATES, TABLE, Action, Event, State
from .pdu import (
    RELEASE_RP,
    RELEASE_RQ,
    Abort,
    AssociateAc,
    AssociateRj,
    AssociateRq,
    decode_abort,
    decode_associate_ac,
    decode_associate_rj,
    decode_associate_rq,
    encode_abort,
    encode_associate_ac,
    encode_associate_rj,
    encode_associate_rq,
)

ANY_LENGTH: Final = 1 << 32
_CAN_SEND: Final = frozenset({State.ESTABLISHED, State.AWAIT_LOCAL_RELEASE_RESPONSE})


class Machine:
    """What one end of an association does and remembers, apart from how it reads bytes.

    `is_requestor` tells which end this is.  Attributes of interest once it is established: `rq`, `ac`, `contexts`
    (accepted presentation contexts by id), `maximum_length` (of the P-DATA-TF PDUs to send).  `error` keeps what
    the peer did wrong, for the log.
    """

    def __init__(self, *, is_requestor: bool, limits: Limits | None = None) -> None:
        self.is_requestor = is_requestor
        self.limits = limits or Limits()
        self.state = State.IDLE
        self.rq: AssociateRq | None = None
        self.ac: AssociateAc | None = None
        self.contexts: dict[int, PresentationContext] = {}
        self.maximum_length = DEFAULT_MAXIMUM_LENGTH
        self._announced_length = ANY_LENGTH  # of the P-DATA-TF PDUs to receive
        self.error: RemoteProtocolError | None = None
        self._events: list[AssociationEvent] = []
        self._out: list[bytes] = []
        self._now = 0.0
        self._artim: float | None = None
        self._half_pdu: float | None = None
        self._idle: float | None = None

    # --- local primitives ------------------------------------------------------------------------------

    def request(self, rq: AssociateRq) -> None:
        """A-ASSOCIATE request: the adapter must open the transport connection now."""
        self._on(Event.ASSOCIATE_REQUEST, rq)

    def transport_opened(self, now: float) -> None:
        """The transport connection is open, on either side."""
        self._now = now
        self._on(Event.TRANSPORT_CONNECT_CONFIRM if self.is_requestor else Event.TRANSPORT_CONNECT_INDICATION)

    def accept(self, ac: AssociateAc, now: float) -> None:
        """A-ASSOCIATE response, accepting."""
        self._now = now
        self._on(Event.LOCAL_ACCEPT, ac)

    def accepted_again(
        self, rq: AssociateRq, ac: AssociateAc, contexts: dict[int, PresentationContext], now: float
    ) -> None:
        """Evt6 and Evt7 at once: the request came before with equal bytes, and has been accepted as before."""
        self._step(Event.ASSOCIATE_RQ_PDU)  # or it is not possible now
        self.rq, self.ac, self.contexts = rq, ac, contexts
        self._keep_lengths(rq, ac)
        self._artim = None
        self.state = State.ESTABLISHED
        self.restart_idle(now)

    def reject(self, rj: AssociateRj, now: float) -> None:
        """A-ASSOCIATE response, refusing."""
        self._now = now
        self._on(Event.LOCAL_REJECT, rj)

    def send_p_data(self, pdus: bytes, now: float) -> None:
        """P-DATA request: P-DATA-TF PDUs as `dimse.encode_message` makes them for our `maximum_length`."""
        if self.state is State.ESTABLISHED:  # DT-1, spelled out for the hot path
            self._out.append(pdus)
        else:
            self._on(Event.P_DATA_REQUEST, pdus)
        self.restart_idle(now)

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

    def refuse_data(self, text: str, now: float) -> list[AssociationEvent]:
        """Abort as the service-provider: P-DATA was well-formed, but what it carried no honest peer sends."""
        self._now = now
        reason = AbortReason.INVALID_PDU_PARAMETER_VALUE
        self._on(Event.INVALID_PDU, RemoteProtocolError(text, reason, field="PDV.message-fragment", offset=0))
        return self._take_events()

    def transport_closed(self) -> list[AssociationEvent]:
        """The transport connection is closed, by whoever."""
        if self.state is not State.IDLE:
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

    def restart_idle(self, now: float) -> None:
        """Count idleness from now on, if there is an association to be idle."""
        self._idle = now + self.limits.idle if self.limits.idle and self.state is State.ESTABLISHED else None

    # --- Table 9-10 ------------------------------------------------------------------------------------

    def _on(self, event: Event, parameter: Any = None) -> None:
        """Run the action of Table 9-10 and enter its next state; an action that raises changes nothing."""
        step = self._step(event)
        step.run(self, parameter)
        self.state = step.next_state if self.is_requestor else step.next_state_of_acceptor
        self.restart_idle(self._now)

    def _step(self, event: Event) -> Step:
        """Look up the cell of Table 9-10."""
        step = _STEPS[self.state][event]
        if step is None:
            raise LocalProtocolError(f"{event.name} is not possible in state {self.state.name}")
        return step

    def _take_events(self) -> list[AssociationEvent]:
        events, self._events = self._events, []
        return events

    def _nothing(self, _: Any) -> None:
        pass

    def _keep_associate_rq(self, rq: AssociateRq) -> None:
        self.rq = rq  # sent when the adapter has opened the connection

    def _send_associate_rq(self, _: Any) -> None:
        assert self.rq is not None  # request() came first, or Evt2 cannot happen
        self._out.append(encode_associate_rq(self.rq))

    def _confirm_accept(self, pdu: bytes) -> None:
        assert self.rq is not None
        ac = decode_associate_ac(pdu)
        self._establish(self.rq, ac)
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
        self._establish(self.rq, ac)

    def _establish(self, rq: AssociateRq, ac: AssociateAc) -> None:
        """Keep what was negotiated."""
        self.ac = ac
        self.contexts.update(negotiated_contexts(rq, ac))
        self._keep_lengths(rq, ac)

    def _keep_lengths(self, rq: AssociateRq, ac: AssociateAc) -> None:
        """Bound what we send by the peer's maximum length, and know what it should keep to, PS3.8 D.1."""
        asked, answered = rq.user_information.maximum_length, ac.user_information.maximum_length
        theirs, ours = (answered, asked) if self.is_requestor else (asked, answered)
        maximum = DEFAULT_MAXIMUM_LENGTH if theirs is None else theirs
        self.maximum_length = min(maximum or self.limits.send_pdu, self.limits.send_pdu)
        self._announced_length = ours or ANY_LENGTH

    def _tolerate_length(self, length: int) -> None:
        """Go on with a P-DATA-TF longer than we announced, which is read as a stream; tell of the first one."""
        text = f"P_DATA_TF of {length} bytes, more than the {self._announced_length} announced"
        self._events.append(Tolerated(f"{text} [PDU-length at byte 2]"))
        self._announced_length = ANY_LENGTH

    def _send_associate_rj(self, rj: AssociateRj) -> None:
        self._out.append(encode_associate_rj(rj))
        self._start_artim(None)

    def _start_artim(self, _: Any) -> None:
        self._artim = self._now + self.limits.artim if self.limits.artim else None

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


_ACTIONS: Final[dict[Action, Callable[[Machine, Any], None]]] = {
    Action.AE_1: Machine._keep_associate_rq,
    Action.AE_2: Machine._send_associate_rq,
    Action.AE_3: Machine._confirm_accept,
    Action.AE_4: Machine._confirm_reject,
    Action.AE_5: Machine._start_artim,
    Action.AE_6: Machine._indicate_associate,
    Action.AE_7: Machine._send_associate_ac,
    Action.AE_8: Machine._send_associate_rj,
    Action.DT_1: Machine._send_data,
    Action.DT_2: Machine._nothing,  # PDVs are delivered as they come
    Action.AR_1: Machine._send_release_rq,
    Action.AR_2: Machine._indicate_release,
    Action.AR_3: Machine._confirm_release,
    Action.AR_4: Machine._send_release_rp_and_wait,
    Action.AR_5: Machine._stop_artim,
    Action.AR_6: Machine._nothing,  # PDVs are delivered as they come
    Action.AR_7: Machine._send_data,
    Action.AR_8: Machine._indicate_release,
    Action.AR_9: Machine._send_release_rp,
    Action.AR_10: Machine._confirm_release,
    Action.AA_1: Machine._abort_as_user,
    Action.AA_2: Machine._stop_artim,
    Action.AA_3: Machine._indicate_abort,
    Action.AA_4: Machine._indicate_closed,
    Action.AA_5: Machine._stop_artim,
    Action.AA_6: Machine._nothing,
    Action.AA_7: Machine._abort_again,
    Action.AA_8: Machine._abort_as_provider,
}


class Step(NamedTuple):
    """A cell of Table 9-10, ready to be taken."""

    action: Action
    run: Callable[[Machine, Any], None]
    next_state: State
    next_state_of_acceptor: State  # another one in a release collision
    at_header: bool  # the action needs nothing of a PDU but its type


_AT_HEADER: Final = frozenset({Action.AA_1, Action.AA_6, Action.AA_7, Action.AA_8})


def _cell(state: int, event: int) -> Step | None:
    action = TABLE.get((State(state), Event(event))) if state and event else None
    if action is None:
        return None
    states = NEXT_STATES[action]
    collision = states[1] if action is Action.AR_8 else states[0]
    return Step(action, _ACTIONS[action], states[0], collision, action in _AT_HEADER)


# By number, since a look-up by two enums costs 0.5 us: _STEPS[state][event].
_STEPS: Final = [[_cell(state, event) for event in range(len(Event) + 1)] for state in range(len(State) + 1)]
