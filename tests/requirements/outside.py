"""A provider that serves from a store in a temporary folder, and what a device on the network sees of it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import apsw
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from samples import NOW, data_set, element

import dulproto
from dulproto import EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE, MODALITY_WORKLIST_FIND, CommandField, CommandSet
from mwl.config import from_table
from mwl.item import Entry
from mwl.server import Running, running
from mwl.store import Put, Store

ALL_SYNTAXES = (IMPLICIT_LE, EXPLICIT_LE, EXPLICIT_BE)


@dataclass(frozen=True)
class Answer:
    """All responses to one query: their statuses, and the identifiers of the pending ones as pydicom reads them."""

    statuses: list[int]
    matches: list[Dataset]
    identifiers: list[bytes]
    comment: str = ""
    offending: tuple[int, ...] = ()

    @property
    def steps(self) -> list[str]:
        """Scheduled Procedure Step IDs, in the order of the answer."""
        return [str(match.ScheduledProcedureStepSequence[0].ScheduledProcedureStepID) for match in self.matches]

    @property
    def one(self) -> Dataset:
        """The only match."""
        (match,) = self.matches
        return match

    @property
    def step(self) -> Dataset:
        """The step of the only match."""
        (step,) = self.one.ScheduledProcedureStepSequence
        assert isinstance(step, Dataset)
        return step


def identifier(step: dict[str, Any] | None = None, encoding: str = "utf_8", **root: Any) -> dulproto.DataSet:
    """Keys of the step as a dict, or None for no step at all, those at the root by keyword."""
    found = [element(keyword, value, encoding) for keyword, value in root.items()]
    if step is not None:
        items = [data_set(element(keyword, value, encoding) for keyword, value in step.items())]
        found.append(element("ScheduledProcedureStepSequence", items))
    return data_set(found)


async def ask(
    association: dulproto.ClientAssociation,
    keys: dulproto.DataSet | bytes,
    context: dulproto.PresentationContext | None = None,
) -> Answer:
    """Query on an open association."""
    context = context or association.context_for(MODALITY_WORKLIST_FIND)
    data = keys if isinstance(keys, bytes) else dulproto.encode_data_set(keys, context.transfer_syntax)
    command = CommandSet(
        command_field=CommandField.C_FIND_RQ, affected_sop_class_uid=context.abstract_syntax, priority=0
    )
    responses = [response async for response in association.request(context, command, data)]
    found = [response.data for response in responses if response.command.has_data_set]
    implicit, little = context.transfer_syntax == IMPLICIT_LE, context.transfer_syntax != EXPLICIT_BE
    matches = [read_dataset(BytesIO(each), is_implicit_VR=implicit, is_little_endian=little) for each in found]
    final = responses[-1].command
    return Answer(
        [response.command.status or 0 for response in responses],
        matches,
        found,
        final.error_comment or "",
        tuple(final.offending_element or ()),
    )


connects: list[Any] = []
"""The addresses that this process, provider and client alike, has connected to."""
sys.addaudithook(lambda event, values: connects.append(values[1]) if event == "socket.connect" else None)


class Outside:
    """A running provider, as devices see it; `running` is for what an operator does meanwhile."""

    def __init__(self, provider: Running, clock: Clock) -> None:
        self.running = provider
        self.clock = clock
        self.port = int(provider.addresses["dicom"].rpartition(":")[2])

    def connect(self, called: str = "WORKLIST", calling: str = "CT1", **options: Any) -> dulproto.connect:
        return dulproto.connect("127.0.0.1", self.port, called_ae_title=called, calling_ae_title=calling, **options)

    async def ask(
        self,
        keys: dulproto.DataSet | bytes,
        called: str = "WORKLIST",
        calling: str = "CT1",
        transfer_syntaxes: Sequence[str] = ALL_SYNTAXES,
        **options: Any,
    ) -> Answer:
        """Query on an association of its own."""
        contexts = dulproto.propose(MODALITY_WORKLIST_FIND, transfer_syntaxes=transfer_syntaxes)
        async with self.connect(called, calling, contexts=contexts, **options) as association:
            return await ask(association, keys)

    async def find(self, step: dict[str, Any] | None = None, calling: str = "CT1", **root: Any) -> Answer:
        """Query for these keys, and the step's id where no step is asked for otherwise."""
        step = {} if step is None else step
        return await self.ask(identifier({"ScheduledProcedureStepID": "", **step}, **root), calling=calling)

    async def eventually(self, holds: Callable[[Answer], bool]) -> Answer:
        """Query for everything until the answer is as it should be."""
        async with asyncio.timeout(10), self.connect() as association:
            while not holds(answer := await ask(association, identifier({"ScheduledProcedureStepID": ""}))):
                pass
        return answer

    def put(self, *entries: Entry) -> None:
        """Commit entries to the store, and have them taken over."""
        self.running.store.commit_now([Put(entry) for entry in entries])
        self.running.follow()


def break_store(site: Outside) -> apsw.Connection:
    """Do to the provider what a broken disk does: the log of its store cannot be read any more."""
    connection = apsw.Connection(str(site.running.config.store.path))
    connection.execute("ALTER TABLE log RENAME TO lost")
    return connection


class Clock:
    """The clock of the site, which stands still until it is set."""

    def __init__(self, now: datetime = NOW) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


Serve = Callable[..., Any]


@asynccontextmanager
async def serving(
    folder: Path, entries: Sequence[Entry], tables: dict[str, Any], now: datetime
) -> AsyncIterator[Outside]:
    """Run a provider on a free port, for callers from this machine."""
    tables = {**tables, "dicom": {"host": "127.0.0.1", "port": 0, **tables.get("dicom", {})}}
    config = from_table(tables, base=folder)
    with closing(Store(config.store.path)) as store:
        store.commit_now([Put(entry) for entry in entries])
    clock = Clock(now)
    async with running(config, now=clock) as provider:
        yield Outside(provider, clock)
