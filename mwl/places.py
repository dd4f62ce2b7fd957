"""The associations that are open in all DICOM processes together, counted in memory that the processes share."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any, Final

import dulproto

__all__ = ["COLUMNS", "SharedAssociations", "shared_memory"]

COLUMNS: Final = 4096
_CELL: Final = "i"
_ROW_BYTES: Final = COLUMNS * 4


@contextmanager
def shared_memory(rows: int) -> Iterator[int]:
    """Make the memory for so many processes, all zero; gives its file descriptor."""
    memory = os.memfd_create("mwl-associations")
    try:
        os.truncate(memory, rows * _ROW_BYTES)
        yield memory
    finally:
        os.close(memory)


class SharedAssociations(dulproto.Associations):
    """How many associations are open, whichever process they are in.

    Each process has a row of the memory, which nobody else writes while it lives, and each AE title a column.
    """

    def __init__(self, memory: int, row: int = 0) -> None:
        super().__init__()
        self.columns: dict[str, int] = {}
        self._cells = memoryview(mmap.mmap(memory, 0)).cast(_CELL)
        self._first = row * COLUMNS

    def __getitem__(self, ae: str) -> int:
        return sum(self._cells[self.columns[ae] :: COLUMNS])

    def get(self, ae: str, default: Any = None) -> Any:
        """Give the number for an AE title that has a column."""
        return self[ae] if ae in self.columns else default

    def take(self, ae: str, limit: int) -> bool:
        """Count one that begins here, unless there are `limit` of them; 0 = no limit."""
        # First count, then look: of two processes that want the last place each sees the other, and the limit holds.
        place = self._first + self.columns[ae]
        self._cells[place] += 1
        if 0 < limit < self[ae]:
            self._cells[place] -= 1
            return False
        return True

    def give_back(self, ae: str) -> None:
        """Count one that has ended here."""
        self._cells[self._first + self.columns[ae]] -= 1

    def add_columns(self, titles: Iterable[str]) -> bool:
        """Give each AE title a column for good; False if there are too many, and none has got one."""
        new = [title for title in titles if title not in self.columns]
        if len(self.columns) + len(new) > COLUMNS:
            return False
        self.columns.update(zip(new, count(len(self.columns)), strict=False))
        return True

    def clear_row(self, row: int) -> None:
        """Forget the associations of a process that has died."""
        self._cells[row * COLUMNS : (row + 1) * COLUMNS] = memoryview(bytes(_ROW_BYTES)).cast(_CELL)
