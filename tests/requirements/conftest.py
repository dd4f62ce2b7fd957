"""`serve` runs providers for the length of a test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from outside import Outside, Serve, serving
from samples import NOW

from mwl.item import Entry


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    """Start a provider with entries; `tables` are those of a configuration, other names keys of its one [[ae]]."""
    async with AsyncExitStack() as stack:

        async def start(
            *entries: Entry, tables: dict[str, Any] | None = None, now: datetime = NOW, **ae: Any
        ) -> Outside:
            tables = {"ae": [{"title": "WORKLIST", **ae}], **(tables or {})}
            return await stack.enter_async_context(serving(tmp_path, entries, tables, now))

        yield start
