"""The running provider: store, worklist, DICOM server, and what keeps them in step."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from .access import resolve_hosts
from .config import Config, ConfigError, Hl7, load
from .lock import lock
from .process import DRAIN_SECONDS, raise_file_limit
from .process import run as run_loop
from .replica import FOLLOW_SECONDS, TIDY_SECONDS, Replica, again_and_again
from .report import Report, report_of, sum_of
from .store import Forget, Store

if TYPE_CHECKING:
    from .hl7.mapping import Mapping as Hl7Mapping
    from .hl7.mllp import Hl7Server
    from .workers import Workers

__all__ = ["Running", "run", "running", "serve"]

logger = logging.getLogger("mwl")

RESOLVE_SECONDS: Final = 300.0  # between look-ups of the host names in the configuration
# What takes effect at the start only.
_AT_START: Final = (
    *(("store", "path"), ("dicom", "host"), ("dicom", "port"), ("dicom", "workers")),
    *(("http", "host"), ("http", "port")),
)


class Running(Replica):
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
        super().__init__(config, store, now)
        self.source = source
        self.store: Store = store
        self.workers: Workers | None = None  # they serve DICOM then, and not this process
        self.hl7: Hl7Server | None = None
        self.resolved: dict[str, tuple[str, ...]] = {}
        """The addresses of each host name in the configuration."""
        self.addresses: dict[str, str] = {}
        """Where each service listens, as HOST:PORT."""
        self.http_answers: Counter[tuple[str, int]] = Counter()
        """How many answers by method and status."""

    # --- the entries ----------------------------------------------------------------------------------------------

    async def committed(self, revision: int) -> None:
        """See that what has just been committed is listed, by every process."""
        self.follow()
        if self.workers is not None:
            await self.workers.follow(revision)

    async def tidy(self) -> None:
        """Let old entries go: from the worklist after `expire_days`, from the store after `retain_days`."""
        self.expire()
        if self.config.store.retain_days:
            await self.store.commit([Forget(self.days_ago(self.config.store.retain_days))], "retention")

    # --- how things are -------------------------------------------------------------------------------------------

    @property
    def associations(self) -> Mapping[str, int]:
        """How many associations are open, by AE title."""
        serving = self.workers or self.server
        return serving.associations if serving is not None else {}

    @property
    def why_not_ready(self) -> str:
        """Say why it is no use to ask now; empty if it is."""
        if self.workers is not None:
            return self.workers.why_not_ready
        return "the provider is stopping" if self.server is None or self.server.congested else ""

    async def report(self, *, associations: bool = False) -> Report:
        """Tell of all that has been served since the start."""
        own = report_of(self.server, associations=associations)
        return own if self.workers is None else sum_of([own, await self.workers.report(associations=associations)])

    async def stop_dicom(self, drain_seconds: float) -> None:
        """Refuse what is new, and let what runs end for so long."""
        serving = self.workers or self.server
        if serving is not None:
            await serving.close(drain_seconds)

    # --- the configuration ----------------------------------------------------------------------------------------

    async def look_up_hosts(self) -> None:
        """Look up host names again: addresses change."""
        config = self.config
        resolved = await resolve_hosts(config)
        if resolved != self.resolved and config is self.config:
            await self._put_in_force(config, resolved)

    async def use(self, config: Config) -> None:
        """Put a configuration in force.

        Raises:
            ConfigError: the HL7 mapping that it names has faults, and nothing has changed.
        """
        if self.workers is not None:
            self.workers.add_columns(config)
        mapping = _mapping(config.hl7) if self.hl7 is not None and config.hl7 is not None else None
        resolved = await resolve_hosts(config)
        if self.hl7 is not None and mapping is not None:
            self.hl7.use(mapping)
        await self._put_in_force(config, resolved)

    async def _put_in_force(self, config: Config, resolved: dict[str, tuple[str, ...]]) -> None:
        self.resolved = resolved
        self.put_in_force(config, resolved)
        if self.workers is not None:
            await self.workers.use(config, resolved)

    async def reload(self) -> None:
        """Read the configuration file again; a faulty one is refused as a whole, and the old one stays in force.

        Raises:
            ConfigError: with every fault.
        """
        if self.source is None:
            raise ConfigError("configuration", ["was not read from a file, there is nothing to reload"])
        config = load(self.source)
        for table, name in _AT_START:
            before, after = getattr(self.config, table), getattr(config, table)
            value = getattr(before, name, None)
            if value != getattr(after, name, None):
                logger.warning("%s.%s has changed: it takes effect at the next start", table, name)
                if before is not None and after is not None:
                    config = replace(config, **{table: replace(after, **{name: value})})
        await self.use(config)
        logger.info("configuration reloaded from %s", self.source)


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
        provider.resolved = await resolve_hosts(config)
        async with _serving_dicom(provider, drain_seconds):
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


@contextlib.asynccontextmanager
async def _serving_dicom(provider: Running, drain_seconds: float) -> AsyncIterator[None]:
    """Listen for DICOM for the length of the block: in this process, or in several others that share the port."""
    config = provider.config
    if config.dicom.processes == 1:
        await provider.listen(config.dicom.port, provider.resolved)
        assert provider.server is not None
        provider.addresses["dicom"] = _host_and_port(*provider.server.addresses[0])
        try:
            yield
        finally:
            await provider.server.close(drain_seconds)
        return
    from .workers import working

    async with working(config.dicom.processes, config, provider.resolved, drain_seconds) as (
        provider.workers,
        address,
    ):
        provider.addresses["dicom"] = _host_and_port(*address)
        yield


@contextlib.asynccontextmanager
async def _serving_hl7(provider: Running, drain_seconds: float) -> AsyncIterator[None]:
    """Listen for HL7 for the length of the block, if it is configured; what is acknowledged is listed."""
    hl7 = provider.config.hl7
    if hl7 is None:
        yield
        return
    from .hl7.mllp import serve_hl7

    provider.hl7 = await serve_hl7(hl7, provider.store, _mapping(hl7), committed=provider.committed)
    provider.addresses["hl7"] = _host_and_port(*provider.hl7.addresses[0])
    try:
        yield
    finally:
        await provider.hl7.close(drain_seconds)


def _mapping(hl7: Hl7) -> Hl7Mapping:
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
        logger.info("stopping: %d connections are open", (await provider.report()).connections)
        draining = asyncio.ensure_future(provider.stop_dicom(DRAIN_SECONDS))
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
    """Serve until told to stop."""
    raise_file_limit()
    run_loop(serve(config, source, announce))


def ready_line(provider: Running) -> str:
    """Give the line that tells that all services listen, and where."""
    addresses = " ".join(f"{name}={address}" for name, address in provider.addresses.items())
    return f"ready {addresses} entries={len(provider.worklist)}"
