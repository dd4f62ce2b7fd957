"""Where a key stands in a TOML file, so that a fault in it is found."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["with_line"]

_HEADING: Final = re.compile(r"\s*(\[\[?)\s*([^\]]+?)\s*\]")
_KEY: Final = re.compile(r"""\s*["']?([^"'=\s.]+)["']?\s*=""")


def with_line(fault: str, text: str) -> str:
    """Put the number of its line before a fault, which starts with its key."""
    path = re.sub(r"\.([A-Za-z0-9_*]+)\[[0-9]+\]$", r".\1", fault.split(": ", 1)[0])
    line = next((number for number, key in _keys(text) if _is_within(path, key)), None)
    return fault if line is None else f"line {line}: {fault}"


def _is_within(path: str, key: str) -> bool:
    return bool(key) and (path == key or path.startswith((f"{key}.", f"{key}[")))


def _keys(text: str) -> list[tuple[int, str]]:
    """List the lines where a key begins, the longest keys first, so that the nearest one of a path is found first."""
    found: list[tuple[int, str]] = []
    count: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        if heading := _HEADING.match(line):
            table = heading[2]
            if heading[1] == "[[":
                count[table] = count.get(table, -1) + 1
                table = f"{table}[{count[table]}]"
            found.append((number, table))
        elif key := _KEY.match(line):
            found.append((number, f"{table}.{key[1]}" if table else key[1]))
    return sorted(found, key=lambda line_and_key: -len(line_and_key[1]))
