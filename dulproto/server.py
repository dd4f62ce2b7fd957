"""A DICOM server on asyncio: listeners, connections, one timer for all of them, and the end of service."""

from __future__ import annotations

import asyncio
import socket
import ssl as ssl_module
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from .acceptor import Acceptor
from .acse import DEFAULT_TRANSFER_SYNTAXES, Policy
from .events import Limits
from .repeat import Profiles
from .service import Services

STALLED_SECONDS: Final = 60.0  # how long a peer may leave our answer unread; 0 for ever


class Associations(Counter[str]):
    """How many associations are open, by the keys of the policies.

    Where several processes serve one port, a subclass counts those of all, so that a limit holds for them together.
    """

    def take(self, ae: str, limit: int) -> bool:
        """Count one that begins, unless there are `limit` of them; 0 = no limit."""
        if 0 < limit <= self[ae]:
            return False
        self[ae] += 1
        return True

    def give_back(self, ae: str) -> None:
        """Count one that has ended."""
        self[ae] -= 1


class Server:
    """A DICOM server: its listeners, its connections, what it offers.  Made by `serve`.

    `policies` and `services` may be replaced at any time: associations that are open keep what they negotiated.
    """

    def __init__(
        self, policies: Mapping[str, Policy], services: Services, limits: Limits, stalled_seconds: float
    ) -> None:
        self.profiles = Profiles()
        self.policies = policies
        self.services = services
        self.limits = limits
        self.stalled_seconds = stalled_seconds
        self.loop = asyncio.get_running_loop()
        self.connections: set[Acceptor] = set()
        self.associations = Associations()
        # Since the start, counted when an association begins or ends, so that serving a message costs nothing more.
        self.accepted: Counter[str] = Counter()  # by the keys of `policies`
        self.refused: Counter[str] = Counter()  # by the name of the check that decided
        self.operations = 0  # of associations that have ended
        self.congested = False  # refuse new associations for now
        self.max_connections = 0  # with more than so many open, refuse new associations for now; 0 = no limit
        self.changed = asyncio.Event()  # something ended: a connection, an association, an operation
        self._listener: asyncio.Server | None = None
        self._tick: asyncio.TimerHandle | None = None

    @property
    def policies(self) -> Mapping[str, Policy]:
        """What each AE accepts, by its title; "*" stands for every other title."""
        return self._policies

    @policies.setter
    def policies(self, policies: Mapping[str, Policy]) -> None:
        self._policies = policies
        self.profiles.forget()

    @property
    def services(self) -> Services:
        """The handlers."""
        return self._services

    @services.setter
    def services(self, services: Services) -> None:
        self._services = services
        self.profiles.forget()

    async def listen(self, host: str | None, port: int, **options: Any) -> None:
        """Open the listening sockets; `options` go to `loop.create_server`."""
        self._listener = await self.loop.create_server(lambda: Acceptor(self), host, port, **options)
        for sock in self._listener.sockets:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # accepted sockets inherit it
        self._check_timers()

    @property
    def refuses_for_now(self) -> bool:
        """Whether a new association is to be told to come again later."""
        return self.congested or 0 < self.max_connections < len(self.connections)

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of each listening socket."""
        sockets = self._listener.sockets if self._listener is not None else ()
        return [sock.getsockname()[:2] for sock in sockets]

    def _check_timers(self) -> None:
        """Look at every connection's deadlines: one timer for all of them, none for each."""
        now = self.loop.time()
        for connection in list(self.connections):
            connection.check_timers(now)
        seconds = (self.limits.artim, self.limits.half_pdu, self.limits.idle, self.stalled_seconds)
        self._tick = self.loop.call_later(min([1.0, *[limit / 4 for limit in seconds if limit]]), self._check_timers)

    async def serve_forever(self) -> None:
        """Serve until cancelled."""
        await self.loop.create_future()

    async def close(self, drain_seconds: float = 10.0) -> None:
        """Stop: refuse what is new, let what runs end, and after `drain_seconds` abort what is still open."""
        self.congested = True
        if self._listener is not None:
            self._listener.close()
        if not await self._all_closed(drain_seconds):
            self._abort_all()
            await self._all_closed(1.0)
        if self._tick is not None:
            self._tick.cancel()

    def _abort_all(self) -> None:
        for connection in list(self.connections):
            connection.abort()
            connection.close_transport()

    async def _all_closed(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                while self.connections:
                    self.changed.clear()
                    await self.changed.wait()
        except TimeoutError:
            return False
        return True

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close(0)


async def serve(
    services: Services,
    *,
    host: str | None = "127.0.0.1",
    port: int = 11112,
    policies: Mapping[str, Policy] | None = None,
    limits: Limits | None = None,
    ssl: ssl_module.SSLContext | None = None,
    reuse_port: bool = False,
    backlog: int = 1024,
    stalled_seconds: float = STALLED_SECONDS,
    max_connections: int = 0,
    associations: Associations | None = None,
) -> Server:
    """Listen for associations and serve them.

    `services` maps abstract syntax and command field to handlers.  `policies` maps called AE titles to what they
    accept; by default any title is accepted, with every abstract syntax of `services`.  `port` 0 takes a free one,
    see `Server.addresses`.  Associations beyond `max_connections` are refused for now, 0 = no limit.  `associations`
    counts them.
    """
    if policies is None:
        policies = {"*": Policy(abstract_syntaxes=dict.fromkeys(services, DEFAULT_TRANSFER_SYNTAXES))}
    server = Server(policies, services, limits or Limits(), stalled_seconds)
    server.max_connections = max_connections
    if associations is not None:
        server.associations = associations
    await server.listen(host, port, ssl=ssl, reuse_port=reuse_port or None, backlog=backlog)
    return server
