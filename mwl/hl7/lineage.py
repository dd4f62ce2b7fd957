"""Where the values of an entry came from: the newest message, field and rule for each attribute."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from ..store import Logged

__all__ = ["Origin", "origins", "show_value"]

_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode


class Origin(msgspec.Struct, frozen=True):
    """The last change of an attribute."""

    attribute: str
    value: Any
    field: str
    raw: str
    rule: str
    message: str
    sender: str
    sent_at: str  # MSH-7
    revision: int
    at: float
    note: str = ""


def origins(history: Sequence[Logged]) -> list[Origin]:
    """Give the newest origin of each attribute that a message has set, in the order of their keywords.

    What was set otherwise, by an import or by hand, is not among them; the history of the entry has it.
    """
    found: dict[str, Origin] = {}
    for line in history:
        if line.entry is None:
            found.clear()
        if not line.lineage:
            continue
        record = _decode(line.lineage)
        message = record["message"]
        for keyword, source in record["attributes"].items():
            found[keyword] = Origin(
                attribute=keyword,
                value=source["value"],
                field=source["field"],
                raw=source["raw"],
                rule=source["rule"],
                message=f"{message['type']} {message['control_id']}",
                sender=message["sender"],
                sent_at=message["time"],
                revision=line.revision,
                at=line.at,
                note=source.get("note", ""),
            )
    return [found[keyword] for keyword in sorted(found)]


def show_value(value: Any) -> str:
    """Write a value of an entry, as JSON has it, for people."""
    if value in (None, "", [], ()):
        return ""
    if isinstance(value, dict):
        return "^".join(show_value(part) for part in value.values() if part)
    if isinstance(value, (list, tuple)):
        return ", ".join(show_value(part) for part in value if part is not None)
    return str(value)
