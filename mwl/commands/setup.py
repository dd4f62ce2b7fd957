"""`mwl check` and `mwl backup`: what is in force, and a copy of the store."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from ..config import ConfigError
from ..hl7.mapping import MappingError, load_mapping
from ..store import StoreReader
from .options import add_config, add_json, load_config, read_store

__all__ = ["ARGUMENTS", "to_toml"]


# --- check --------------------------------------------------------------------------------------------------------


def _check_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_json(parser, "what is in force, or the faults, as JSON")
    parser.set_defaults(run=check_config)


def check_config(options: argparse.Namespace) -> int:
    """Check the configuration: print each fault with its key, or all that is in force."""
    try:
        config = load_config(options)
        if config.hl7:
            load_mapping(config.hl7.mapping)
    except (ConfigError, MappingError) as exc:
        if not options.json:
            raise
        print(json.dumps({"faults": exc.faults}))
        return 1
    tables = config.in_force()
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(tables)).decode())
        return 0
    print(f"# {options.config} is right.  In force, with all defaults, is:\n")
    print("\n".join(to_toml(tables)))
    if config.dicom.workers == 0:
        print(f"# dicom.workers = 0 are {config.dicom.processes} here, one per core.", file=sys.stderr)
    if config.store.path.exists():  # a provider that starts with this configuration has to read it
        reader = StoreReader(config.store.path)
        print(f"# {config.store.path} has {reader.count():,} entries.", file=sys.stderr)
        reader.close()
    return 0


def to_toml(tables: dict[str, Any]) -> Iterator[str]:
    """Write tables of a configuration as a TOML file has them."""
    for name, table in tables.items():
        for entry in table if isinstance(table, list) else [table]:
            yield f"[[{name}]]" if isinstance(table, list) else f"[{name}]"
            yield from (f"{key} = {_toml_value(value)}" for key, value in entry.items())
            yield ""


def _toml_key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key)


def _toml_value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml_key(key)} = {_toml_value(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml_value, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


# --- backup -------------------------------------------------------------------------------------------------------


def _backup_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument("file", metavar="FILE", type=Path, help="a file that is not there yet")
    parser.set_defaults(run=back_up)


def back_up(options: argparse.Namespace) -> int:
    """Copy the store as it is now; the copy is a store like any other."""
    with read_store(options) as reader:
        reader.backup(options.file)
    copy = StoreReader(options.file)
    print(f"{options.file}: {copy.count():,} entries up to revision {copy.revision():,}")
    copy.close()
    return 0


ARGUMENTS: Final = {"check": _check_arguments, "backup": _backup_arguments}
