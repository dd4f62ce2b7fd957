"""The running provider: store, worklist, DICOM server, and what keeps them in step."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import dulproto

from .access import policies, resolve_hosts
from .config import Config, ConfigError, Hl7, load
from .item import Entry
from .lock import lock
from .scp import Provider
from .store import Forget, Store
from .worklist import Worklist

if TYPE_CHECKING:
    from .hl7.mapping import Mapping
    from .hl7.mllp import Hl7Server

__all__ = ["Running", "run", "running", "serve"]

logger = logging.getLogger("mwl")

FOLLOW_SECONDS: Final = 0.1  # between looks for what other processes, such as `mwl import`, have committed
RESOLVE_SECONDS: Final = 300.0  # between look-ups of the host names in the configuration
TIDY_SECONDS: Final = 3600.0  # between looks for entries that are too old
DRAIN_SECONDS: Final = 10.0

# What takes effect at the start only.
_AT_START: Final = (("store", "path"), ("dicom", "host"), ("dicom", "port"), ("http", "host"), ("http", "port"))
RESERVED_FILES: Final = 100  # open files that are not for DICOM connections: the store, HTTP, HL7, logs


_FIRST_DAY: Final = date(2, 1, 1).toordinal()


class Running:
    """A provider that serves; `running` makes one and ends it.

    `reload` puts another configuration in force: associations that are open go on, with what they negotiated.
    """

    def __init__(
        self,
        config: Config,
        source: Path | None,
        store: Store,
        now: Callable[[], datetime],
    ) -> None:
        self.config = config
        self.source = source
        self.store = store
        self.worklist = Worklist()
        self.revision = 0
        self.provider = Provider(self.worklist, config, now)
        self.server: dulproto.Server | None = None
        self.hl7: Hl7Server | None = None
        self._resolved: dict[str, tuple[str, ...]] = {}
        self.addresses: dict[str, str] = {}
        """Where each service listens, as HOST:PORT."""
        self.http_answers: Counter[tuple[str, int]] = Counter()
        """How many answers by method and status."""

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

    def load(self) -> None:
        """Fill the worklist from the store."""
        gc.disable()  # nothing of what is loaded is garbage: 0.4 s against 1.2 s for 100,000 entries
        try:
            self.revision, entries = self.store.load()
            for entry in entries:
                if not self.is_expired(entry):
                    self.worklist.put(entry)
        finally:
            gc.enable()
            gc.freeze()
            gc.set_threshold(20_000, 20, 100)  # an association leaves no cycles: python -m bench load

    def is_expired(self, entry: Entry) -> bool:
        """Tell whether an entry started so long ago that it is not listed to anybody any more."""
        days, start = self.config.store.expire_days, entry.step.start_date
        return days > 0 and start is not None and start < self.days_ago(days)

    def days_ago(self, days: int) -> date:
        """Give the day so many days before today, or the first one that can also be told as seconds."""
        return date.fromordinal(max(self.provider.now().date().toordinal() - days, _FIRST_DAY))

    async def tidy(self) -> None:
        """Let old entries go: from the worklist after `expire_days`, from the store after `retain_days`."""
        for entry in [entry for entry in self.worklist if self.is_expired(entry)]:
            self.worklist.remove(entry.key)
        if self.config.store.retain_days:
            await self.store.commit([Forget(self.days_ago(self.config.store.retain_days))], "retention")

    async def look_up_policies(self, config: Config | None = None) -> dict[str, dulproto.Policy]:
        """Make the policies of a configuration, by default of the one in force, with host names looked up anew."""
        config = config or self.config
        self._resolved = await resolve_hosts(config)
        return policies(config, self._resolved)

    async def look_up_hosts(self) -> None:
        """Look up host names again: addresses change."""
        before = self._resolved
        found = await self.look_up_policies()
        if self._resolved != before and self.server is not None:
            self.server.policies = found

    async def use(self, config: Config) -> None:
        """Put a configuration in force.

        Raises:
            ConfigError: the HL7 mapping that it names has faults, and nothing has changed.
        """
        assert self.server is not None
        if self.hl7 is not None and config.hl7 is not None:
            self.hl7.use(_mapping(config.hl7))
        self.server.policies = await self.look_up_policies(config)
        self.server.limits = limits(config)
        before, self.config = self.config, config
        self.provider.use(config)
        if config.store.expire_days != before.store.expire_days:
            self.load()
            await self.tidy()

    async def reload(self) -> None:
        """Read the configuration file again; a faulty one is refused as a whole, and the old one stays in force.

        Raises:
            ConfigError: with every fault.
        """
        if self.source is None:
            raise ConfigError("configuration", ["was not read from a file, there is nothing to reload"])
        config = load(self.source)
        for table, name in _AT_START:
            if getattr(getattr(config, table), name, None) != getattr(getattr(self.config, table), name, None):
                logger.warning("%s.%s has changed: it takes effect at the next start", table, name)
        await self.use(config)
        logger.info("configuration reloaded from %s", self.source)


def limits(config: Config) -> dulproto.Limits:
    """Give the limits of the association layer."""
    return dulproto.Limits(artim=config.dicom.artim_seconds, idle=config.dicom.idle_seconds)


@contextlib.asynccontextmanager
async def running(
    config: Config,
    source: Path | None = None,
    drain_seconds: float = 0,
    now: Callable[[], datetime] = datetime.now,
) -> AsyncIterator[Running]:
    """Run a provider for the length of the block; `now` tells what day and time it is.

    Raises:
        StoreError: the store cannot be used, or another provider serves it.
        OSError, ListenError: an address cannot be listened on.
    """
    with lock(config.store.path), contextlib.closing(Store(config.store.path)) as store:
        provider = Running(config, source, store, now)
        provider.load()
        provider.server = await dulproto.serve(
            provider.provider.services(),
            host=config.dicom.host,
            port=config.dicom.port,
            policies=await provider.look_up_policies(),
            limits=limits(config),
            stalled_seconds=config.dicom.send_seconds,
            max_connections=max_connections(),
        )
        provider.addresses["dicom"] = _host_and_port(*provider.server.addresses[0])
        tasks = [
            asyncio.create_task(again_and_again(provider.follow, FOLLOW_SECONDS)),
            asyncio.create_task(again_and_again(provider.look_up_hosts, RESOLVE_SECONDS)),
            asyncio.create_task(again_and_again(provider.tidy, TIDY_SECONDS)),
        ]
        try:
            async with _serving_hl7(provider, drain_seconds), _serving_http(provider):
                yield provider
        finally:
            for task in tasks:
                task.cancel()
            await provider.server.close(drain_seconds)


@contextlib.asynccontextmanager
async def _serving_hl7(provider: Running, drain_seconds: float) -> AsyncIterator[None]:
    """Listen for HL7 for the length of the block, if it is configured; what is acknowledged is listed."""
    hl7 = provider.config.hl7
    if hl7 is None:
        yield
        return
    from .hl7.mllp import serve_hl7

    provider.hl7 = await serve_hl7(hl7, provider.store, _mapping(hl7), committed=lambda revision: provider.follow())
    provider.addresses["hl7"] = _host_and_port(*provider.hl7.addresses[0])
    try:
        yield
    finally:
        await provider.hl7.close(drain_seconds)


def _mapping(hl7: Hl7) -> Mapping:
    from .hl7.mapping import MappingError, load_mapping

    try:
        return load_mapping(hl7.mapping)
    except MappingError as exc:
        raise ConfigError("hl7.mapping", exc.faults) from exc


@contextlib.asynccontextmanager
async def _serving_http(provider: Running) -> AsyncIterator[None]:
    """Serve HTTP for the length of the block, if it is configured."""
    http = provider.config.http
    if http is None:
        yield
        return
    from .http.rest import application  # 0.2 s that a provider without HTTP does not need
    from .http.web import listening

    async with listening(application(provider, http), http.host, http.port) as address:
        provider.addresses["http"] = _host_and_port(*address)
        yield


def _host_and_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def again_and_again(function: Callable[[], Awaitable[None] | None], seconds: float) -> None:
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


async def serve(config: Config, source: Path | None, announce: Callable[[Running], None]) -> None:
    """Serve until SIGTERM or SIGINT, then drain; SIGHUP reloads.  A second signal ends the draining."""
    loop = asyncio.get_running_loop()
    stop, stop_now = asyncio.Event(), asyncio.Event()

    def on_stop() -> None:
        (stop_now if stop.is_set() else stop).set()

    async with running(config, source) as provider:

        def on_reload() -> None:
            background.add(task := asyncio.ensure_future(_reload(provider)))
            task.add_done_callback(background.discard)

        background: set[asyncio.Future[None]] = set()
        handlers: dict[str, Callable[[], None]] = {"SIGTERM": on_stop, "SIGINT": on_stop, "SIGHUP": on_reload}
        for name, handler in handlers.items():
            if hasattr(signal, name) and sys.platform != "win32":
                loop.add_signal_handler(getattr(signal, name), handler)
        announce(provider)
        await stop.wait()
        assert provider.server is not None
        logger.info("stopping: %d connections are open", len(provider.server.connections))
        draining = asyncio.ensure_future(provider.server.close(DRAIN_SECONDS))
        at_once = asyncio.ensure_future(stop_now.wait())
        await asyncio.wait([draining, at_once], return_when=asyncio.FIRST_COMPLETED)
        at_once.cancel()
        draining.cancel()


async def _reload(provider: Running) -> None:
    try:
        await provider.reload()
    except ConfigError as error:
        logger.error("the configuration is not reloaded, the old one stays in force: %s", error)


def run(config: Config, source: Path | None, announce: Callable[[Running], None]) -> None:
    """Serve, on uvloop where there is one."""
    raise_file_limit()
    runner: Any = asyncio.run
    with contextlib.suppress(ImportError):
        import uvloop

        runner = uvloop.run
    runner(serve(config, source, announce))


def raise_file_limit() -> None:
    """Let this process have as many open files, and so associations, as the system allows it."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def max_connections() -> int:
    """Say how many connections the open files of this process allow, with some left for everything else; 0 = any."""
    try:
        import resource
    except ImportError:
        return 0
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 0 if soft == resource.RLIM_INFINITY else max(soft - RESERVED_FILES, 1)


def ready_line(provider: Running) -> str:
    """Give the line that tells that all services listen, and where."""
    addresses = " ".join(f"{name}={address}" for name, address in provider.addresses.items())
    return f"ready {addresses} entries={len(provider.worklist)}"
