"""The mapping as a table for people: which fields each attribute comes from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from .mapping import Mapping
from .message import Header
from .values import TARGETS

__all__ = ["HEADINGS", "mapping_rows", "to_markdown"]

HEADINGS: Final = ("Attribute", "ORM", "OMG", "OMI", "SIU")
_HEADER: Final = Header("", "", "", "", "", "", "", "", "", "", "")
_SAME: Final = "="


def mapping_rows(mapping: Mapping) -> list[tuple[str, ...]]:
    """Give a row for each attribute: the rules for an ORM, and for other messages where they differ, else `=`."""
    by_code = [
        {target.keyword: rules for target, rules in mapping.attributes(msgspec.structs.replace(_HEADER, code=code))}
        for code in HEADINGS[1:]
    ]
    rows = []
    for keyword in TARGETS:
        texts = ["; ".join(rule.text for rule in rules.get(keyword, ())) for rules in by_code]
        rows.append((keyword, texts[0], *(_SAME if text == texts[0] else text for text in texts[1:])))
    return rows


def to_markdown(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Write rows as a Markdown table."""
    yield f"| {' | '.join(HEADINGS)} |"
    yield "|" + "---|" * len(HEADINGS)
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
