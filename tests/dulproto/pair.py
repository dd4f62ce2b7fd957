"""Two associations on a wire in memory, with a clock that stands still until a test moves it."""

from __future__ import annotations

from dulproto import (
    MODALITY_WORKLIST_FIND,
    VERIFICATION,
    AssociateAc,
    AssociateRq,
    Association,
    AssociationEvent,
    CommandField,
    CommandSet,
    Limits,
    Policy,
    ProposedContext,
    Requestor,
    State,
    UserInformation,
    encode_ae_titles,
    encode_message,
    negotiate,
    propose,
)
from dulproto.acse import DEFAULT_TRANSFER_SYNTAXES
from dulproto.uids import IMPLEMENTATION_CLASS_UID

NO_TIMERS = Limits(artim=30, half_pdu=0, idle=0)
POLICY = Policy(
    abstract_syntaxes={
        VERIFICATION: DEFAULT_TRANSFER_SYNTAXES,
        MODALITY_WORKLIST_FIND: DEFAULT_TRANSFER_SYNTAXES,
    }
)
TITLES = encode_ae_titles("WORKLIST", "CT1")


def make_rq(
    contexts: tuple[ProposedContext, ...] = propose(VERIFICATION, MODALITY_WORKLIST_FIND),
    maximum_length: int | None = 16384,
) -> AssociateRq:
    information = UserInformation(maximum_length=maximum_length, implementation_class_uid=IMPLEMENTATION_CLASS_UID)
    return AssociateRq(TITLES, contexts, information)


def make_ac(rq: AssociateRq) -> AssociateAc:
    pdu = negotiate(rq, {"*": POLICY}, Requestor()).pdu
    assert isinstance(pdu, AssociateAc)
    return pdu


def echo_rq(message_id: int = 1, context_id: int = 1, maximum_length: int = 16384) -> bytes:
    command = CommandSet(
        command_field=CommandField.C_ECHO_RQ, affected_sop_class_uid=VERIFICATION, message_id=message_id
    )
    return encode_message(context_id, command, b"", maximum_length)


def find_rq(message_id: int = 1, identifier: bytes = b"", context_id: int = 3) -> bytes:
    command = CommandSet(
        command_field=CommandField.C_FIND_RQ,
        affected_sop_class_uid=MODALITY_WORKLIST_FIND,
        message_id=message_id,
        priority=0,
        command_data_set_type=0x0102,
    )
    return encode_message(context_id, command, identifier, 0)


def cancel_rq(message_id: int = 1, context_id: int = 3) -> bytes:
    command = CommandSet(command_field=CommandField.C_CANCEL_RQ, message_id_being_responded_to=message_id)
    return encode_message(context_id, command, b"", 0)


class AssociationPair:
    """A requestor and an acceptor; `exchange` carries bytes until neither has more to say."""

    def __init__(self, limits: Limits = NO_TIMERS) -> None:
        self.requestor = Association(is_requestor=True, limits=limits)
        self.acceptor = Association(is_requestor=False, limits=limits)
        self.now = 100.0
        self.requestor_events: list[AssociationEvent] = []
        self.acceptor_events: list[AssociationEvent] = []

    @classmethod
    def connected(cls, rq: AssociateRq, limits: Limits = NO_TIMERS) -> AssociationPair:
        """A pair whose acceptor has to answer the request."""
        pair = cls(limits)
        pair.requestor.request(rq)
        pair.requestor.transport_opened(pair.now)
        pair.acceptor.transport_opened(pair.now)
        pair.exchange()
        return pair

    @classmethod
    def established(cls, rq: AssociateRq | None = None, limits: Limits = NO_TIMERS) -> AssociationPair:
        rq = rq or make_rq()
        pair = cls.connected(rq, limits)
        pair.acceptor.accept(make_ac(rq), pair.now)
        pair.exchange()
        assert pair.states == (State.ESTABLISHED, State.ESTABLISHED)
        pair.requestor_events.clear()
        pair.acceptor_events.clear()
        return pair

    def exchange(self) -> None:
        while True:
            to_acceptor, to_requestor = self.requestor.data_to_send(), self.acceptor.data_to_send()
            if not to_acceptor and not to_requestor:
                return
            self.acceptor_events += self.acceptor.receive_data(to_acceptor, self.now)
            self.requestor_events += self.requestor.receive_data(to_requestor, self.now)

    @property
    def states(self) -> tuple[State, State]:
        return self.requestor.state, self.acceptor.state
