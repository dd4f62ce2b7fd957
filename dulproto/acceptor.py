"""The acceptor's side of a connection: negotiates the association, serves its requests, paces the answers."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from .acse import CONGESTION, Requestor, negotiate
from .assembler import Message
from .association import Association
from .events import Aborted, Associate, AssociationEvent, Release, Tolerated
from .fsm import State
from .pdu import RELEASE_RP, RELEASE_RQ, AssociateAc, AssociateRj, encode_associate_ac
from .repeat import SHORTEST, Negotiated, learn_at, message_id_at
from .requests import Requests, log_failure
from .service import printable
from .transport import Connection

if TYPE_CHECKING:
    from .server import Server

logger = logging.getLogger("dulproto")


class Acceptor(Connection):
    """An association we accept; its requests are served one after the other, PS3.7 D.3.3.3.

    A poll that came before with equal bytes, from the association request to the release, needs no protocol machine:
    it is answered as before.  Whatever else comes finds one, in the state that the connection is in.
    """

    # What a connection begins with, and most polls never change: kept here, so that it costs them nothing.
    operations = 0
    _established = False
    _negotiated: Negotiated | None = None
    _requests: Requests | None = None  # those that had to be read
    _stalled_since: float | None = None

    def __init__(self, server: Server) -> None:
        super().__init__(None, server.loop)
        self.server = server
        self._since = 0.0  # when the connection came to be as it is, as long as it has no machine

    @property
    def is_established(self) -> bool:
        """Whether the association has begun and not ended."""
        return self._established

    @property
    def called_ae_title(self) -> str:
        """The one asked for; empty before the association is accepted."""
        return self._negotiated.called_ae_title if self._negotiated is not None else ""

    @property
    def calling_ae_title(self) -> str:
        """The peer's; empty before the association is accepted."""
        return self._negotiated.calling_ae_title if self._negotiated is not None else ""

    def make_association(self) -> Association:
        """Make the machine, and take it to the state that the connection has come to without one."""
        association, negotiated = Association(is_requestor=False, limits=self.server.limits), self._negotiated
        association.transport_opened(self._since)
        if negotiated is not None:
            ac = negotiated.decision.pdu
            assert isinstance(ac, AssociateAc)  # no other is remembered
            association.accepted_again(negotiated.rq, ac, negotiated.contexts, self._since)
            if not self._established:
                association.receive_data(RELEASE_RQ, self._since)
                association.respond_release(self._since)
                association.data_to_send()  # has been sent
        return association

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection into the server's care."""
        self.take(transport)
        self._since = self.loop.time()
        self.server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave the server's care."""
        if self._association is not None or self._established:
            super().connection_lost(exc)
        self.transport = None
        self.end("the connection was closed")
        self._requests = None
        self.server.connections.discard(self)
        self.server.changed.set()

    def data_received(self, data: bytes) -> None:
        """Take bytes; what came before with equal bytes is answered as before, if that is still right."""
        negotiated, transport = self._negotiated, self.transport
        if negotiated is None:
            if self._association is not None:
                self.receive(data)
            elif not self._accept_again(data):
                self._learn_association(data, self.receive(data))
        elif transport is None or not self._is_at_rest:
            self.receive(data)
        elif len(data) >= SHORTEST:
            at = message_id_at(data)
            request = data[:at] + data[at + 2 :]
            answer = negotiated.answers.get(request)
            if answer is None or not answer.is_good():
                self._learn_answer(negotiated, request, data, at)
            else:
                self.operations += 1
                self._restart_idle()
                transport.write(data[at : at + 2].join(answer.segments))
        elif data == RELEASE_RQ and self._association is None:
            self._restart_idle()  # which is ARTIM from now on
            self.end("released")
            transport.write(RELEASE_RP)
        else:
            self.receive(data)

    @property
    def _is_at_rest(self) -> bool:
        """Whether an association is established on which nothing goes on."""
        if not self._established or not self.writable:
            return False
        if self._association is None:
            return True
        return self._association.at_rest and (self._requests is None or self._requests.current is None)

    def _restart_idle(self) -> None:
        now = self._since = self.loop.time()
        if self._association is not None:
            self._association.restart_idle(now)

    def _learn_answer(self, negotiated: Negotiated, request: bytes, data: bytes, at: int) -> None:
        """Serve a request, and remember its answer if that was given as a whole and to nothing but this request."""
        if self._requests is None:
            self._requests = Requests(self)
        self._requests.answer = None
        events = self.receive(data)
        answer = self._requests.answer
        if answer is None or not answer.is_good() or len(events) != 1 or not self.association.at_rest:
            return
        if isinstance(events[0], Message) and learn_at(data, events[0].command.message_id) == at:
            self.server.profiles.learn(negotiated, request, answer)

    def _accept_again(self, data: bytes) -> bool:
        """Accept an association request that was accepted before, unless the answer may be another one by now."""
        server, transport = self.server, self.transport
        negotiated = server.profiles.get(data)
        if negotiated is None or transport is None:
            return False
        ae = negotiated.decision.ae
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
        self._since = self.loop.time()
        self._begin(negotiated)
        transport.write(negotiated.encoded_ac)
        return True

    def _learn_association(self, data: bytes, events: list[AssociationEvent]) -> None:
        """Remember an association request that was accepted, if nothing but its bytes and host decided that."""
        negotiated = self._negotiated
        if negotiated is None or len(events) != 1 or not self.association.at_rest:
            return
        if self.server.policies[negotiated.decision.ae].check_identity is None:
            self._negotiated = self.server.profiles.remember(self.peer, data, negotiated)

    def handle(self, event: AssociationEvent) -> None:
        """Act on an event of the association."""
        if isinstance(event, Message):
            if self._requests is None:
                self._requests = Requests(self)
            self._requests.receive(event)
        elif isinstance(event, Associate):
            self._negotiate(event)
        elif isinstance(event, Release):
            self.end("released")
            if self.association.state is State.AWAIT_LOCAL_RELEASE_RESPONSE:  # or the same read ended it
                self.association.respond_release(self.loop.time())
        elif isinstance(event, Tolerated):
            logger.info("%s %s: %s", self.peer, printable(self.calling_ae_title), event.text)
        elif isinstance(event, Aborted):
            if self.association.error is None:
                # Devices abort, or just close, where they should release: a normal end.
                self.end(event.text)
            elif self._established:
                self.end(event.text, logging.WARNING)
            else:
                logger.info("%s aborted: %s", self.peer, event.text)

    def _negotiate(self, event: Associate) -> None:
        if self.association.state is not State.AWAIT_LOCAL_ASSOCIATE_RESPONSE:
            return  # the same read brought what ended it
        server, now = self.server, self.loop.time()
        called, calling = event.rq.called_ae_title, event.rq.calling_ae_title
        titles = f"{printable(calling)} -> {printable(called)}"
        try:
            decision = negotiate(event.rq, server.policies, self.requestor)
            while isinstance(decision.pdu, AssociateAc) and not server.associations.take(
                decision.ae, server.policies[decision.ae].max_associations
            ):  # another process has taken the last place meanwhile
                decision = negotiate(event.rq, server.policies, self.requestor)
        except Exception as error:  # of a check that a policy carries
            log_failure(f"{self.peer} {titles}", error)
            self.association.reject(AssociateRj(*CONGESTION), now)
            return
        if isinstance(decision.pdu, AssociateAc):
            self.association.accept(decision.pdu, now)
            encoded, contexts = encode_associate_ac(decision.pdu), self.association.contexts
            self._begin(Negotiated(event.rq, decision, encoded, contexts, called, calling, titles))
            return
        server.refused[decision.checks[-1].name] += 1
        logger.warning("%s %s refused: %s", self.peer, titles, printable(decision.reason))
        if isinstance(decision.pdu, AssociateRj):
            self.association.reject(decision.pdu, now)
        else:
            self.association.abort(now)

    @property
    def requestor(self) -> Requestor:
        """Who asks, and what is true of the server now."""
        return Requestor(self.peer, self.server.associations, self.server.refuses_for_now)

    def _begin(self, negotiated: Negotiated) -> None:
        """Begin an association that has its place; the counters are by the keys of the policies."""
        self._negotiated = negotiated
        self._established = True
        self.server.accepted[negotiated.decision.ae] += 1

    def end(self, how: str, level: int = logging.INFO) -> None:
        """End what runs and give the place back, which is taken until the association ends, not its socket."""
        if self._requests is not None:
            self._requests.end()
        negotiated = self._negotiated
        if not self._established or negotiated is None:
            return
        self._established = False
        self.server.associations.give_back(negotiated.decision.ae)
        self.server.operations += self.operations
        self.server.changed.set()
        logger.log(level, "%s %s ended: %s, %d operations", self.peer, negotiated.titles, how, self.operations)

    # --- flow --------------------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        """Stop producing: the peer reads more slowly than we write."""
        super().pause_writing()
        self._stalled_since = self.loop.time()

    def resume_writing(self) -> None:
        """Go on producing."""
        super().resume_writing()
        self._stalled_since = None
        if self._requests is not None:
            self._requests.resume()

    def check_timers(self, now: float) -> None:
        """Act on deadlines that have passed, and on a peer that does not read."""
        limit = self.server.stalled_seconds
        if limit and self._stalled_since is not None and now - self._stalled_since > limit:
            self.abort()
            self.end("an answer was left unread", logging.WARNING)
            self.close_transport()
        elif self._association is not None or 0 < self._patience <= now - self._since:
            awaited = self.association.state is State.AWAIT_ASSOCIATE_RQ
            super().check_timers(now)
            if awaited and self.association.state is State.IDLE:
                logger.info("%s closed: no association request within %g s", self.peer, self.server.limits.artim)

    @property
    def _patience(self) -> float:
        """How many seconds the connection may stay as it is."""
        return self.server.limits.idle if self._established else self.server.limits.artim
