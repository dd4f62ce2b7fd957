"""A worklist for peers of other makers, on both event loops; their programs run as processes beside it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
import uvloop
from peers import Result, Run, Worklist

import dulproto


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    loops = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
    if item.path.name.startswith("test_mwl"):
        del loops["uvloop"]  # the program that is tested chooses its loop itself
    return loops


@pytest.fixture
async def worklist() -> AsyncIterator[Worklist]:
    worklist = Worklist()
    async with await dulproto.serve(worklist.services, port=0) as worklist.server:
        yield worklist


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
