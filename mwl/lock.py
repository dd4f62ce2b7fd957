"""The lock that keeps a second provider off the same store.

Commands may write to a store that is being served; only `mwl serve` takes the lock.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from .store import StoreError

__all__ = ["lock"]

if sys.platform == "win32":
    import msvcrt

    def _lock(file: IO[str]) -> None:
        file.seek(100)  # a locked byte cannot be read, and the process id is to be
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(file: IO[str]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextlib.contextmanager
def lock(store: Path) -> Iterator[None]:
    """Hold the lock of a store, until the block ends or the process does, however it dies.

    Raises:
        StoreError: another process holds it.
    """
    path = store.with_name(f"{store.name}.lock")
    try:
        file = path.open("a+", encoding="ascii")
    except OSError as exc:
        raise StoreError(f"{path} cannot be opened: {exc.strerror}") from exc
    with file:  # the file stays: removing it would let two processes lock two files of the same name
        try:
            _lock(file)
        except OSError:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            raise StoreError(f"{store} is served by another process already (process id {owner})") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
