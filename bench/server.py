"""A worklist provider in a process of its own, to be measured."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Provider:
    """A running provider: where it listens, and what its process takes."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.port = port

    def resident_bytes(self) -> int:
        """Resident memory of the process now."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024


@contextmanager
def provider(entries: int) -> Iterator[Provider]:
    """Run `mwl demo` with so many entries on a free port."""
    command = [sys.executable, "-m", "mwl", "demo", "--entries", str(entries), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if found := re.match(r"ready .*\bdicom=\S*:(\d+)", line):
                    yield Provider(process, int(found[1]))
                    return
            raise RuntimeError("the provider ended before it was ready")
        finally:
            process.terminate()
