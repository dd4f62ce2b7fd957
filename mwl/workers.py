"""The supervisor's side of several DICOM processes: start them, tell them what to do, replace those that die."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, Final

from . import logs
from .channel import Drain, Follow, Reply, Request, Start, Tell, Use, receive_reply, send
from .config import Config, ConfigError
from .errors import MwlError
from .places import COLUMNS, SharedAssociations, shared_memory
from .replica import again_and_again
from .report import Report, sum_of

__all__ = ["WorkerError", "Workers", "working"]

logger = logging.getLogger("mwl")

_STEADY_SECONDS: Final = 10.0  # who dies sooner is started again with a pause, and a longer one each time
_LONGEST_PAUSE: Final = 30.0
_REPLY_SECONDS: Final = 1.0  # how long others wait for a process that is busy
_WATCH_SECONDS: Final = 1.0  # between two reports: what is counted meanwhile is lost when a process is killed
_STUCK_SECONDS: Final = 60.0  # who does not answer for so long is killed: to load all entries again takes less
_END_SECONDS: Final = 5.0  # to be gone, when there is nothing more to do

_Resolved = dict[str, tuple[str, ...]]


class WorkerError(MwlError):
    """A DICOM process does not start."""


class _Worker:
    """One DICOM process, seen from the supervisor."""

    def __init__(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.process = process
        self.listens = False
        self.report = Report()
        self._reader, self._writer = reader, writer
        self._waiting: deque[tuple[float, asyncio.Future[Reply | None]]] = deque()
        self.channel = asyncio.create_task(self._read())

    def ask(self, request: Request) -> asyncio.Future[Reply | None]:
        """Send a request; the future is its reply, or None if the process ends before."""
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[Reply | None] = loop.create_future()
        if self.channel.done():
            reply.set_result(None)
        else:
            self._waiting.append((loop.time(), reply))
            send(self._writer, request)
        return reply

    def silent_seconds(self) -> float:
        """Tell for how long a request is without its reply."""
        return asyncio.get_running_loop().time() - self._waiting[0][0] if self._waiting else 0

    async def _read(self) -> None:
        while (reply := await receive_reply(self._reader)) is not None:
            self.report = reply.report or self.report
            self._settle(reply)
        self.listens = False
        while self._waiting:
            self._settle(None)

    def _settle(self, reply: Reply | None) -> None:
        _, waiting = self._waiting.popleft()
        if not waiting.done():  # or nobody waits any more
            waiting.set_result(reply)

    async def end(self) -> int:
        """Wait for the end of a process that has closed its channel, kill any other; gives its exit status."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.process.wait(), _END_SECONDS if self.channel.done() else 0)
        if self.process.returncode is None:
            self.process.kill()
        status = await self.process.wait()
        await asyncio.wait([self.channel])
        self._writer.close()
        return status


class Workers:
    """The DICOM processes of a provider; `working` makes them and ends them."""

    def __init__(self, number: int, port: int, memory: int, config: Config, resolved: _Resolved) -> None:
        self.number = number
        self.associations = SharedAssociations(memory)
        self.restarts = 0
        self.is_stopping = False
        self._port, self._memory = port, memory
        self._running: dict[int, _Worker] = {}  # by row of the memory
        self._keeping: list[asyncio.Task[None]] = []
        self._ended = Report()  # what was counted by processes that are no more
        self._followed: asyncio.Future[Any] | None = None
        self._revision = 0
        self.add_columns(config)
        self._use = Use(config, resolved, self.associations.columns)

    # --- their lives ----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start all, and wait until all listen.

        Raises:
            WorkerError: one did not start.
        """
        listening = [asyncio.get_running_loop().create_future() for _ in range(self.number)]
        self._keeping = [asyncio.create_task(self._keep(row, first)) for row, first in enumerate(listening)]
        await asyncio.gather(*listening)

    async def _keep(self, row: int, listens: asyncio.Future[None]) -> None:
        """Keep a process running in a row; `listens` is for the first one."""
        loop, failures = asyncio.get_running_loop(), 0
        while True:
            began = loop.time()
            try:
                how = await self._run(row, listens)
            except Exception as error:  # there are too many processes, or too little memory
                how = f"did not start: {error}"
            if not listens.done():
                listens.set_exception(WorkerError(f"DICOM process {row + 1} {how}"))
                return
            if self.is_stopping:
                return
            failures = failures + 1 if loop.time() - began < _STEADY_SECONDS else 1
            pause = min(2.0 ** (failures - 2), _LONGEST_PAUSE) if failures > 1 else 0.0
            when = f"in {pause:g} s" if pause else "now"
            logger.error("DICOM process %d of %d %s, another one is started %s", row + 1, self.number, how, when)
            self.restarts += 1
            await asyncio.sleep(pause)

    async def _run(self, row: int, listens: asyncio.Future[None]) -> str:
        """Run a process to its end; gives in words how that came."""
        worker = self._running[row] = await _spawn(self._memory)
        try:
            reply = await worker.ask(Start(row, self._port, self._use, logs.options()))
            worker.listens = reply is not None and not reply.fault
            if worker.listens and not listens.done():
                listens.set_result(None)
            await asyncio.wait([worker.channel])
        finally:
            status = await worker.end()
            del self._running[row]
            self.associations.clear_row(row)
            self._ended = sum_of([self._ended, worker.report.counters()])
        if reply is not None and reply.fault:
            return f"did not start: {reply.fault}"
        return f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"

    async def close(self, drain_seconds: float) -> None:
        """End all: they stop listening, and let what runs end for so long."""
        self.is_stopping = True
        for row, task in enumerate(self._keeping):
            if row in self._running:
                self._running[row].ask(Drain(drain_seconds))
            else:
                task.cancel()
        if self._keeping:
            await asyncio.wait(self._keeping, timeout=drain_seconds + _END_SECONDS)
        for task in self._keeping:
            task.cancel()
        await asyncio.gather(*self._keeping, return_exceptions=True)

    # --- what they are told, and tell -----------------------------------------------------------------------------

    @property
    def listening(self) -> list[_Worker]:
        """Those that serve."""
        return [worker for worker in self._running.values() if worker.listens]

    @property
    def why_not_ready(self) -> str:
        """Say why it is no use to ask them now; empty if it is."""
        if self.is_stopping:
            return "the provider is stopping"
        number = len(self.listening)
        return f"{number} of {self.number} DICOM processes listen" if number < self.number else ""

    def add_columns(self, config: Config) -> None:
        """Make ready to count the associations of what a configuration offers.

        Raises:
            ConfigError: there are too many AE titles.
        """
        if not self.associations.add_columns(ae.title for ae in config.ae):
            raise ConfigError("configuration", [f"ae: more than {COLUMNS:,} titles since the start, with all before"])

    async def use(self, config: Config, resolved: _Resolved) -> None:
        """Put a configuration in force in all processes, those that are just being started included."""
        self._use = Use(config, resolved, self.associations.columns)
        asked = [worker.ask(self._use) for worker in self._running.values()]
        if asked:
            await asyncio.wait(asked)

    async def follow(self, revision: int) -> None:
        """See that all list what was committed up to a revision."""
        if self._followed is None or revision > self._revision:
            self._revision = revision
            self._followed = asyncio.ensure_future(self._ask(Follow()))
        await asyncio.shield(self._followed)

    async def report(self, *, associations: bool = False) -> Report:
        """Add up what all tell, and what those told that are no more."""
        told = await self._ask(Tell(associations))
        reports = [told.get(worker) or worker.report for worker in self._running.values()]
        return sum_of([self._ended, *reports])

    async def watch(self) -> None:
        """Have all tell how they are, and kill those that cannot."""
        for worker in self.listening:
            if worker.silent_seconds() > _STUCK_SECONDS:
                logger.error("DICOM process %d does not answer and is killed", worker.process.pid)
                worker.process.kill()
        await self.report()

    async def _ask(self, request: Request) -> dict[_Worker, Report | None]:
        """Ask all that are not known to be busy, and wait a little; gives the reports of those that reply."""
        asked = {worker.ask(request): worker for worker in self.listening if worker.silent_seconds() < _REPLY_SECONDS}
        if not asked:
            return {}
        done, _ = await asyncio.wait(asked, timeout=_REPLY_SECONDS)
        return {asked[each]: reply.report for each in done if (reply := each.result())}


@contextlib.asynccontextmanager
async def working(
    number: int, config: Config, resolved: _Resolved, drain_seconds: float
) -> AsyncIterator[tuple[Workers, tuple[str, int]]]:
    """Run so many DICOM processes for the length of the block; gives them, and the address that they listen on.

    Raises:
        OSError: the address cannot be listened on.
        WorkerError: a process does not start.
    """
    with _reserved(config.dicom.host, config.dicom.port) as reserved, shared_memory(number) as memory:
        host, port = reserved.getsockname()[:2]
        workers = Workers(number, port, memory, config, resolved)
        watching = asyncio.create_task(again_and_again(workers.watch, _WATCH_SECONDS))
        try:
            await workers.start()
            yield workers, (host, port)
        finally:
            watching.cancel()
            await workers.close(drain_seconds)


async def _spawn(memory: int) -> _Worker:
    """Start a process, which waits for its first request then."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "mwl.worker", str(theirs.fileno()), str(memory)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            pass_fds=(theirs.fileno(), memory),
            start_new_session=True,  # so that Ctrl-C in a terminal is ours alone
        )
    return _Worker(process, *await asyncio.open_unix_connection(sock=ours))


def _reserved(host: str, port: int) -> socket.socket:
    """Take the port: a socket that is bound and does not listen keeps it while processes come and go.

    Raises:
        OSError: the address cannot be listened on.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        if port:
            # Another program that shares ports as well must not get a part of our callers, nor we of its.
            for family, *_, address in found:
                _bound(family, address, reuse_port=False).close()
        family, *_, address = found[0]
        return _bound(family, address, reuse_port=True)
    except OSError as exc:
        raise OSError(exc.errno, f"cannot listen for DICOM on {host} port {port}: {exc.strerror}") from exc


def _bound(family: int, address: Any, *, reuse_port: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, reuse_port)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock
