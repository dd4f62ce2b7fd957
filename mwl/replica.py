"""The worklist of one process: the entries of the store in memory, kept in step, and the DICOM server on top."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import date, datetime
from typing import Final

import dulproto

from .access import policies
from .config import Config
from .item import Entry
from .process import max_connections
from .scp import Provider
from .store import StoreReader
from .worklist import Worklist

__all__ = ["FOLLOW_SECONDS", "TIDY_SECONDS", "Replica", "again_and_again"]

logger = logging.getLogger("mwl")

FOLLOW_SECONDS: Final = 0.1  # between looks for what other processes, such as `mwl import`, have committed
TIDY_SECONDS: Final = 3600.0  # between looks for entries that are too old

_FIRST_DAY: Final = date(2, 1, 1).toordinal()


class Replica:
    """The entries of a store in memory, and what answers from them."""

    def __init__(self, config: Config, store: StoreReader, now: Callable[[], datetime] = datetime.now) -> None:
        self.config = config
        self.store = store
        self.worklist = Worklist()
        self.revision = 0
        self.provider = Provider(self.worklist, config, now)
        self.server: dulproto.Server | None = None

    # --- the entries ----------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Fill the worklist from the store."""
        gc.disable()  # nothing of what is loaded is garbage: 0.4 s against 1.2 s for 100,000 entries
        try:
            revision, entries = self.store.load()
            # Of what is loaded again, the removals since the last look are yet to be followed.
            self.revision = self.revision or revision
            for entry in entries:
                if not self.is_expired(entry):
                    self.worklist.put(entry)
            self.worklist.make_ready()
        finally:
            gc.enable()
            gc.freeze()
            gc.set_threshold(20_000, 20, 100)  # an association leaves no cycles: python -m bench load

    def follow(self) -> None:
        """Take over what has been committed to the store; while that fails, queries are not answered, R-070."""
        self.provider.source_is_down = True
        for logged in self.store.follow(self.revision):
            if logged.entry is None or self.is_expired(logged.entry):
                self.worklist.remove(logged.key)
            else:
                self.worklist.put(logged.entry)
            self.revision = logged.revision
        self.provider.source_is_down = False

    def is_expired(self, entry: Entry) -> bool:
        """Tell whether an entry started so long ago that it is not listed to anybody any more."""
        days, start = self.config.store.expire_days, entry.step.start_date
        return days > 0 and start is not None and start < self.days_ago(days)

    def days_ago(self, days: int) -> date:
        """Give the day so many days before today, or the first one that can also be told as seconds."""
        return date.fromordinal(max(self.provider.now().date().toordinal() - days, _FIRST_DAY))

    def expire(self) -> None:
        """Let entries go that have become too old."""
        for entry in [entry for entry in self.worklist if self.is_expired(entry)]:
            self.worklist.remove(entry.key)

    # --- the server -----------------------------------------------------------------------------------------------

    async def listen(
        self,
        port: int,
        resolved: Mapping[str, Collection[str]],
        associations: dulproto.Associations | None = None,
    ) -> None:
        """Begin to serve; a port for which the associations of several processes are counted is shared by them.

        Raises:
            OSError: the address cannot be listened on.
        """
        self.server = await dulproto.serve(
            self.provider.services(),
            host=self.config.dicom.host,
            port=port,
            policies=policies(self.config, resolved),
            limits=limits(self.config),
            reuse_port=associations is not None,
            stalled_seconds=self.config.dicom.send_seconds,
            max_connections=max_connections(),
            associations=associations,
        )

    def put_in_force(self, config: Config, resolved: Mapping[str, Collection[str]]) -> None:
        """Serve by another configuration, or by the same one with addresses of host names that have changed."""
        if self.server is not None:
            self.server.policies = policies(config, resolved)
            self.server.limits = limits(config)
        if config is self.config:
            return
        before, self.config = self.config, config
        self.provider.use(config)
        if config.store.expire_days != before.store.expire_days:
            self.load()
            self.expire()


def limits(config: Config) -> dulproto.Limits:
    """Give the limits of the association layer."""
    return dulproto.Limits(artim=config.dicom.artim_seconds, idle=config.dicom.idle_seconds)


async def again_and_again(function: Callable[[], Awaitable[object] | None], seconds: float) -> None:
    """Call a function at the start and every so many seconds; what fails once may go well the next time."""
    failure = ""
    while True:
        try:
            pending = function()
            if pending is not None:
                await pending
        except Exception as error:
            if failure != str(error):  # once, not ten times a second
                failure = str(error)
                logger.exception("%s failed, and is tried again every %g s", function.__name__, seconds)
        else:
            if failure:
                failure = ""
                logger.info("%s works again", function.__name__)
        await asyncio.sleep(seconds)
