"""The adapter between an association and an asyncio transport, thin enough to check by eye."""

from __future__ import annotations

import asyncio
import socket
from typing import Final, cast

from .association import Association
from .events import AssociationEvent
from .fsm import State

# Linux only.  A peer with Nagle's algorithm on sends a command and waits for our ACK before it sends the identifier;
# a delayed ACK then costs 40 ms a query.  bench/quickack.py shows it.
TCP_QUICKACK: Final[int | None] = getattr(socket, "TCP_QUICKACK", None)


class Connection(asyncio.Protocol):
    """One transport connection and the association on it; `handle` is what a role makes of events."""

    transport: asyncio.Transport | None = None
    writable = True
    peer = ""

    def __init__(self, association: Association | None, loop: asyncio.AbstractEventLoop) -> None:
        self._association = association
        self.loop = loop

    @property
    def association(self) -> Association:
        """The association; a role may leave it to be made when it is first needed."""
        if self._association is None:
            self._association = self.make_association()
        return self._association

    def make_association(self) -> Association:
        """Make the association, in the state that the connection is in."""
        raise NotImplementedError

    def handle(self, event: AssociationEvent) -> None:
        """Act on an event of the association."""
        raise NotImplementedError

    def take(self, transport: asyncio.BaseTransport) -> None:
        """Take a transport that is open.  Nagle's algorithm is off: asyncio and uvloop see to that."""
        self.transport = cast(asyncio.Transport, transport)
        address = transport.get_extra_info("peername")
        self.peer = address[0] if isinstance(address, tuple) else str(address or "")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start: the transport is open."""
        self.take(transport)
        self.association.transport_opened(self.loop.time())
        self.flush()

    def data_received(self, data: bytes) -> None:
        """Take bytes, act on what they amount to, send the answer."""
        self.receive(data)

    def receive(self, data: bytes) -> list[AssociationEvent]:
        """Do what `data_received` must; return what there was."""
        at_end = self.association.state is State.AWAIT_CLOSE
        events = self.association.receive_data(data, self.loop.time())
        for event in events:
            self.handle(event)
        if TCP_QUICKACK is not None and self.association.in_message:
            self._acknowledge_now(TCP_QUICKACK)
        self.flush()
        if at_end and not self.writable:  # it goes on sending and reads nothing: no answer will ever reach it
            self.close_transport()
        return events

    def _acknowledge_now(self, option: int) -> None:
        sock = self.transport.get_extra_info("socket") if self.transport is not None else None
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, option, 1)

    def connection_lost(self, exc: Exception | None) -> None:
        """End: the transport is closed, by whoever."""
        for event in self.association.transport_closed():
            self.handle(event)
        self.transport = None

    def pause_writing(self) -> None:
        """Stop producing: the peer reads more slowly than we write."""
        self.writable = False

    def resume_writing(self) -> None:
        """Go on producing."""
        self.writable = True

    def check_timers(self, now: float) -> None:
        """Act on deadlines that have passed."""
        deadline = self.association.next_deadline()
        if deadline is not None and deadline <= now:
            for event in self.association.time_passed(now):
                self.handle(event)
            self.flush()

    def abort(self) -> None:
        """A-ABORT the association; the transport closes when the peer has, or at ARTIM."""
        self.association.abort(self.loop.time())
        self.flush()

    def flush(self) -> None:
        """Write what the association wants sent; close the transport once the association has ended."""
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        data = self.association.data_to_send()
        if data:
            transport.write(data)
        if self.association.state is State.IDLE:
            self.close_transport()

    def close_transport(self) -> None:
        """Close at once: what a peer has not read by now it may never read, and to wait for it could be for ever."""
        transport = self.transport
        if transport is None:
            return
        if transport.get_write_buffer_size():
            transport.abort()
        else:
            transport.close()
