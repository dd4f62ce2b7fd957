"""The event loops: in memory for the adapters, and both real ones for the server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop
from wire import WireLoop

Loops = Mapping[str, Callable[[], asyncio.AbstractEventLoop]]

REAL: Loops = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
LOOPS: dict[str, Loops] = {
    "test_acceptor.py": {"wire": WireLoop},
    "test_client.py": {"wire": WireLoop},
    "test_requests.py": {"wire": WireLoop},
    "test_transport.py": {"wire": WireLoop},
    "test_server.py": REAL,
}


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Loops:
    return LOOPS.get(item.path.name, {"asyncio": asyncio.new_event_loop})


@pytest.fixture
async def loop() -> WireLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, WireLoop)
    return loop
