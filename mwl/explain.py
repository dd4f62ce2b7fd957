"""Why an answer is what it is: each key as it was read, what it leaves, what the filters hide, what was nearly found.

Everything comes from compiling and matching the query itself, or the same query under one changed rule.  An
explanation holds patient data: it is for people, never for the log.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import date, datetime
from difflib import get_close_matches
from typing import Any, Final, Literal

import msgspec

from .attributes import SPS_SEQUENCE, Attribute
from .conditions import Condition
from .derived import getter
from .item import Entry, dicom_text
from .query import Key, Query, QueryPolicy, compile_query
from .view import View
from .worklist import Worklist, in_order

__all__ = ["Explanation", "Hidden", "KeyStep", "NearMiss", "explain"]


class KeyStep(msgspec.Struct, frozen=True):
    """One key: how it was read, how many entries it finds alone, and how many it leaves of those before it."""

    path: str
    text: str
    kind: str
    reason: str
    alone: int
    left: int


class Hidden(msgspec.Struct, frozen=True):
    """Entries that the keys find and a filter does not show; `filter` is its name in the configuration."""

    filter: str
    entries: int
    values: tuple[str, ...]


class NearMiss(msgspec.Struct, frozen=True):
    """What would have been found but for one key, in words."""

    path: str
    kind: Literal["case", "wild card", "date", "unknown value", "other value"]
    entries: int
    text: str


class Explanation(msgspec.Struct, frozen=True):
    """How a query is answered, step by step; `killer` is the path of the key that leaves nothing."""

    entries: int
    keys: tuple[KeyStep, ...]
    killer: str
    found: int
    hidden: tuple[Hidden, ...]
    listed: tuple[tuple[str, str], ...]
    near_misses: tuple[NearMiss, ...]
    unheeded: str
    notes: tuple[str, ...]
    pending_status: int


def explain(
    identifier: bytes, transfer_syntax: str, policy: QueryPolicy, view: View, worklist: Worklist, now: datetime
) -> Explanation:
    """Explain the answer to a query.

    Raises:
        IdentifierError: the query has no answer but this status.
    """
    query, today = compile_query(identifier, transfer_syntax, policy), now.date()
    steps = tuple(_steps(query, worklist, today))
    found = worklist.select(query.conditions, today)
    listed = in_order(worklist.select((*query.conditions, *view.conditions), today))
    what_if = _WhatIf(identifier, transfer_syntax, policy, view, worklist, today)
    return Explanation(
        entries=len(worklist),
        keys=steps,
        killer=next((step.path for step in steps if step.left == 0), "") if len(worklist) else "",
        found=len(found),
        hidden=tuple(_hidden([slot.entry for slot in found], view, today)),
        listed=tuple(slot.entry.key for slot in listed),
        near_misses=() if listed else tuple(what_if.near_misses(query)),
        unheeded=what_if.unheeded(len(listed)),
        notes=query.notes,
        pending_status=query.pending_status,
    )


def _steps(query: Query, worklist: Worklist, today: date) -> Iterator[KeyStep]:
    applied: list[Condition] = []
    for key in query.keys:
        own = [condition for condition in query.conditions if condition is key.condition]
        applied += own
        alone, left = len(worklist.select(own, today)), len(worklist.select(applied, today))
        yield KeyStep(key.path, key.text, key.kind, key.reason, alone, left)


def _hidden(entries: list[Entry], view: View, today: date) -> Iterator[Hidden]:
    for name, condition in zip(view.names, view.conditions, strict=True):
        dropped = [entry for entry in entries if not condition.test(entry, today)]
        if dropped:
            yield Hidden(name, len(dropped), _values(dropped, condition.attribute, today))


def _values(entries: list[Entry], attribute: Attribute, today: date) -> tuple[str, ...]:
    """Give the most frequent values of an attribute, as people read them."""
    get = getter(attribute, prefix="step." if attribute.path[0] == SPS_SEQUENCE else "")
    counted = Counter(text for entry in entries for text in _texts(get(entry, today)))
    return tuple(value for value, _ in counted.most_common(5))


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, tuple) else (value,)
    return [
        str(dicom_text(each)) for each in values if each not in (None, "") and not isinstance(each, msgspec.Struct)
    ]


# Rules that a near miss is tried under, with what to say if it would have found something.
_RULES: Final[tuple[tuple[str, Literal["case", "wild card"], str], ...]] = (
    ("ae_key_ignore_case", "case", "differs in case alone"),
    ("wildcards_in_single_value_keys", "wild card", "has `*` or `?`, which stand for themselves in this key"),
)


class _WhatIf:
    """The same query with one thing changed."""

    def __init__(
        self,
        identifier: bytes,
        transfer_syntax: str,
        policy: QueryPolicy,
        view: View,
        worklist: Worklist,
        today: date,
    ) -> None:
        self.identifier = identifier
        self.transfer_syntax = transfer_syntax
        self.policy = policy
        self.view = view
        self.worklist = worklist
        self.today = today

    def unheeded(self, listed: int) -> str:
        """Say what keys would have done that this caller's configuration does not honour."""
        if self.policy.honour_matching_keys:
            return ""
        would = len(self.entries(self.compile(honour_matching_keys=True).conditions))
        return f"matching keys are not honoured (honour_matching_keys): {would} of {listed} entries match them"

    def compile(self, **changes: Any) -> Query:
        policy = msgspec.structs.replace(self.policy, **changes)
        return compile_query(self.identifier, self.transfer_syntax, policy)

    def entries(self, conditions: tuple[Condition, ...]) -> list[Entry]:
        return [slot.entry for slot in self.worklist.select((*conditions, *self.view.conditions), self.today)]

    def near_misses(self, query: Query) -> Iterator[NearMiss]:
        """Leave out, or loosen, one key at a time."""
        for key in query.keys:
            others = tuple(condition for condition in query.conditions if condition is not key.condition)
            if key.condition is None or len(others) == len(query.conditions):
                continue
            near = self.entries(others)
            if near:
                yield self.near_miss(key, key.condition, near)

    def near_miss(self, key: Key, condition: Condition, near: list[Entry]) -> NearMiss:
        """Say in what the entries differ that all the other keys find."""
        attribute, sent = condition.attribute, key.text
        for rule, kind, words in _RULES:
            loosened = self.compile(**{rule: True})
            changed = next((each.condition for each in loosened.keys if each.path == key.path), None)
            hits = [entry for entry in near if changed is not None and changed.test(entry, self.today)]
            if hits:
                return NearMiss(
                    key.path, kind, len(hits), f"{key.path} {sent!r} {words}: {_count(len(hits))} ({rule})"
                )
        values = _values(near, attribute, self.today)
        same = [value for value in values if value.casefold() == sent.casefold()]
        if same:
            return NearMiss(
                key.path, "case", len(near), f"{key.path} {sent!r} differs from {same[0]!r} in case alone"
            )
        listed = ", ".join(values) or "no value"
        if attribute.vr == "DA":
            text = f"{key.path} {sent or 'today'!r}: {_count(len(near))} on {listed}"
            return NearMiss(key.path, "date", len(near), text)
        close = get_close_matches(sent.upper(), [value.upper() for value in values], n=1, cutoff=0.6)
        unknown = not self.worklist.select((condition,), self.today)
        hint = f", did you mean {close[0]}?" if close else ""
        who = "no entry has" if unknown else "these keys together with"
        text = f"{who} {key.path} {sent!r}: without it {_count(len(near))}, with {listed}{hint}"
        return NearMiss(key.path, "unknown value" if unknown else "other value", len(near), text)


def _count(number: int) -> str:
    return "1 entry" if number == 1 else f"{number} entries"
