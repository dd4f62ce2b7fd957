"""A place in the worklist."""

from __future__ import annotations

from typing import Any

import msgspec

from .item import Entry

__all__ = ["Slot"]


class Slot(msgspec.Struct, gc=False):
    """An entry in the worklist: its number in the index, its place in an answer, and the answers made from it so far.

    A changed entry gets a new slot, so whoever still holds the old one keeps a consistent view.
    """

    number: int
    entry: Entry
    order: tuple[int, str, str]
    encoded: tuple[Any, ...] = ()
