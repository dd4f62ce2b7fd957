"""A small worklist for peers of other makers, on both event loops; their programs run as processes beside it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any, NamedTuple

import pytest
import uvloop

import dulproto
from dulproto import (
    MODALITY_WORKLIST_FIND,
    VERIFICATION,
    CommandField,
    DataSet,
    Element,
    Operation,
    Server,
    answer_echo,
)

PATIENT_NAME, PATIENT_ID = 0x00100010, 0x00100020
STEP, MODALITY = 0x00400100, 0x00080060
CT, MR = b"CT", b"MR"


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    loops = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
    if item.path.name.startswith("test_mwl"):
        del loops["uvloop"]  # the program that is tested chooses its loop itself
    return loops


def entry(name: str, number: int, modality: bytes) -> DataSet:
    return {
        PATIENT_NAME: Element(PATIENT_NAME, "PN", name.encode()),
        PATIENT_ID: Element(PATIENT_ID, "LO", b"%06d" % number),
        STEP: Element(STEP, "SQ", ({MODALITY: Element(MODALITY, "CS", modality)},)),
    }


ENTRIES = [entry("Doe^Jane", 1, CT), entry("Roe^Rachel", 2, MR), entry("Poe^Edgar", 3, CT)]


class Worklist:
    """A provider whose entries a test may replace; it matches by modality."""

    def __init__(self) -> None:
        self.entries = ENTRIES
        self.produced = 0
        self.server: Server

    @property
    def services(self) -> Any:
        return {
            VERIFICATION: {CommandField.C_ECHO_RQ: answer_echo},
            MODALITY_WORKLIST_FIND: {CommandField.C_FIND_RQ: self.find},
        }

    @property
    def port(self) -> int:
        return self.server.addresses[0][1]

    def find(self, operation: Operation) -> Iterator[bytes]:
        keys = operation.data_set()
        step = keys.get(STEP)
        wanted = step.items[0][MODALITY].raw.strip() if step is not None and step.items else b""
        for found in self.entries:
            if wanted in (b"", found[STEP].items[0][MODALITY].raw):
                self.produced += 1
                yield operation.pending({tag: found.get(tag, key) for tag, key in keys.items()})


@pytest.fixture
async def worklist() -> AsyncIterator[Worklist]:
    worklist = Worklist()
    async with await dulproto.serve(worklist.services, port=0) as worklist.server:
        yield worklist


class Result(NamedTuple):
    code: int
    output: str


Run = Callable[..., Awaitable[Result]]


@pytest.fixture
def run() -> Run:
    async def run(*arguments: object) -> Result:
        process = await asyncio.create_subprocess_exec(
            *map(str, arguments), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        try:
            async with asyncio.timeout(60):
                output, _ = await process.communicate()
        except BaseException:
            process.kill()
            await process.wait()
            raise
        assert process.returncode is not None
        return Result(process.returncode, output.decode("latin-1"))

    return run
