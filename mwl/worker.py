"""A DICOM process: one of several that share the port.  `workers` starts it, and tells it what to do.

It has a worklist of its own, which follows the store, and only reads there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys

import apsw

from . import logs
from .channel import Drain, Follow, Reply, Request, Start, Tell, Use, receive_request, send
from .errors import MwlError
from .places import SharedAssociations
from .process import DRAIN_SECONDS, raise_file_limit, run
from .replica import FOLLOW_SECONDS, TIDY_SECONDS, Replica, again_and_again
from .report import report_of
from .store import StoreReader

logger = logging.getLogger("mwl")


class Worker:
    """The process at work."""

    def __init__(self, replica: Replica, places: SharedAssociations) -> None:
        self.replica = replica
        self.places = places
        self.over = asyncio.Event()
        self._draining: set[asyncio.Task[None]] = set()

    def answer(self, request: Request) -> Reply:
        """Do what the supervisor asks for."""
        match request:
            case Use(config, resolved, columns):
                self.places.columns.update(columns)
                self.replica.put_in_force(config, resolved)
            case Follow():
                with contextlib.suppress(apsw.Error):  # the next look at the store will log it
                    self.replica.follow()
            case Tell(associations):
                return Reply(report=report_of(self.replica.server, associations=associations))
            case Drain(seconds):
                self.drain(seconds)
        return Reply()

    def drain(self, seconds: float = DRAIN_SECONDS) -> None:
        """Stop listening, let what runs end, and end; once more with less patience ends it sooner."""
        assert self.replica.server is not None
        task = asyncio.ensure_future(self.replica.server.close(seconds))
        self._draining.add(task)
        task.add_done_callback(lambda _: self.over.set())

    async def obey(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer requests for as long as there is a supervisor; without one, or with a fault in this program, end."""
        try:
            while (request := await receive_request(reader)) is not None:
                send(writer, self.answer(request))
        except Exception:
            logger.exception("a DICOM process cannot do what it is told to, and ends")
        self.drain()


async def work(channel: socket.socket, memory: int) -> None:
    """Serve from the first request on, until told to end."""
    reader, writer = await asyncio.open_unix_connection(sock=channel)
    start = await receive_request(reader)
    if not isinstance(start, Start):
        return  # the supervisor has gone
    logs.set_up(sys.stderr, **start.logging)
    use = start.use
    with contextlib.ExitStack() as stack:
        try:
            store = stack.enter_context(contextlib.closing(StoreReader(use.config.store.path)))
            worker = Worker(Replica(use.config, store), SharedAssociations(memory, start.row))
            worker.places.columns.update(use.columns)
            worker.replica.load()
            await worker.replica.listen(start.port, use.resolved, worker.places)
        except (MwlError, OSError) as exc:
            send(writer, Reply(fault=str(exc)))
            await writer.drain()
            return
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.drain)
        send(writer, Reply())
        tasks = [
            asyncio.create_task(again_and_again(worker.replica.follow, FOLLOW_SECONDS)),
            asyncio.create_task(again_and_again(worker.replica.expire, TIDY_SECONDS)),
            asyncio.create_task(worker.obey(reader, writer)),
        ]
        await worker.over.wait()
        for task in tasks:
            task.cancel()


def main() -> None:
    """Run the process; its arguments are the file descriptors of the channel and of the shared memory."""
    for name in (signal.SIGINT, signal.SIGHUP):  # meant for the supervisor, which tells what to do
        signal.signal(name, signal.SIG_IGN)
    raise_file_limit()
    channel, memory = map(int, sys.argv[1:])
    run(work(socket.socket(fileno=channel), memory))


if __name__ == "__main__":
    main()
