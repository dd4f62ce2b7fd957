"""What several commands have in common: the configuration, and the store that it names."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ..config import Config, load
from ..store import Store, StoreReader

__all__ = ["add_config", "add_json", "add_keys", "load_config", "open_store", "read_store"]

DEFAULT_CONFIG: Final = Path("mwl.toml")


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add `-c`."""
    parser.add_argument(
        *("-c", "--config"),
        type=Path,
        default=DEFAULT_CONFIG,
        metavar="FILE",
        help="the configuration (default: %(default)s)",
    )


def add_json(parser: argparse.ArgumentParser, what: str) -> None:
    """Add `--json`."""
    parser.add_argument("--json", action="store_true", help=f"print {what}")


def add_keys(parser: argparse.ArgumentParser, what: str) -> None:
    """Add `-k`, which may be repeated; see `mwl.keys`."""
    parser.add_argument("-k", dest="keys", action="append", default=[], metavar="KEY=VALUE", help=what)


def load_config(options: argparse.Namespace) -> Config:
    """Load the configuration that `-c` names."""
    return load(options.config)


@contextmanager
def read_store(options: argparse.Namespace) -> Iterator[StoreReader]:
    """Open the store to read it."""
    reader = StoreReader(load_config(options).store.path)
    try:
        yield reader
    finally:
        reader.close()


@contextmanager
def open_store(options: argparse.Namespace) -> Iterator[Store]:
    """Open the store to write to it; a provider that is serving it takes notice."""
    store = Store(load_config(options).store.path)
    try:
        yield store
    finally:
        store.close()
