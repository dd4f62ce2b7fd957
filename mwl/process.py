"""What a process of the provider asks of its system: an event loop, open files, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Coroutine
from typing import Any, Final

__all__ = ["DRAIN_SECONDS", "cores", "max_connections", "raise_file_limit", "run"]

DRAIN_SECONDS: Final = 10.0  # how long what is under way may take when a process is told to end
RESERVED_FILES: Final = 100  # open files that are not for DICOM connections: the store, HTTP, HL7, logs


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a program, on uvloop where there is one."""
    runner: Any = asyncio.run
    with contextlib.suppress(ImportError):
        import uvloop

        runner = uvloop.run
    runner(main)


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


def cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
