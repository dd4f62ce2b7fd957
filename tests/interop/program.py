"""The whole program as a process of its own, for tests that drive it from outside."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx


class Served:
    """A running provider: its process, where it listens, and what it printed before it was ready."""

    def __init__(
        self, process: asyncio.subprocess.Process, dicom: str, hl7: str | None, http: str, printed: str
    ) -> None:
        self.process = process
        self.printed = printed
        self.dicom_port = int(dicom.rpartition(":")[2])
        self.hl7_port = int(hl7.rpartition(":")[2]) if hl7 else 0
        self.url = f"http://{http}"
        self.http = httpx.AsyncClient(base_url=self.url, timeout=30)

    async def log(self, until: str) -> str:
        """Read the log up to a line with some text in it, or to its end."""
        assert self.process.stderr is not None
        text = ""
        async with asyncio.timeout(30):
            while line := (await self.process.stderr.readline()).decode():
                text += line
                if until and until in line:
                    break
        return text

    async def stop(self) -> str:
        """End it by SIGTERM, with status 0; gives the rest of the log."""
        self.process.send_signal(signal.SIGTERM)
        text = await self.log("")
        assert await self.process.wait() == 0
        return text

    def findscu(self, *keys: str, called: str = "WORKLIST") -> tuple[str, ...]:
        options = [part for key in keys for part in ("-k", key)]
        return ("findscu", "-W", "-aec", called, *options, "127.0.0.1", str(self.dicom_port))


@asynccontextmanager
async def served(*arguments: str) -> AsyncIterator[Served]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mwl", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    ready, printed = None, ""
    try:
        async with asyncio.timeout(30):
            while not ready:
                line = (await process.stdout.readline()).decode()
                assert line, "it ended before it was ready"
                printed += line
                ready = re.match(r"ready dicom=(\S+)(?: hl7=(\S+))? http=(\S+)", line)
        made = Served(process, ready[1], ready[2], ready[3], printed)
        async with made.http:
            yield made
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def output(*command: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(60):
        printed, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, printed.decode("utf-8", "replace")
