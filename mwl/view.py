"""What of the worklist a caller sees at all, before any key: the filters of the called AE and of the remote AE."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

from .attributes import BY_KEYWORD_PATH
from .conditions import Condition, Days, on_days, texts
from .datetime_keys import LAST_DAY
from .derived import getter
from .item import LISTABLE, LISTED
from .text_keys import Lookup, canonical

__all__ = ["ListFilter", "View", "compile_view"]


class ListFilter(Protocol):
    """A filter as the configuration has it; an empty list and a missing number of days let everything through."""

    @property
    def modality(self) -> Sequence[str]:
        """Modalities."""

    @property
    def station_ae_title(self) -> Sequence[str]:
        """Scheduled Station AE Titles."""

    @property
    def location(self) -> Sequence[str]:
        """Scheduled Procedure Step Locations."""

    @property
    def status(self) -> Sequence[str]:
        """Scheduled Procedure Step Statuses."""

    @property
    def days_back(self) -> int | None:
        """How many days before today a step may start."""

    @property
    def days_ahead(self) -> int | None:
        """How many days after today a step may start."""


class View(msgspec.Struct, frozen=True):
    """A compiled filter: conditions on entries, each with the name of its key in the configuration."""

    conditions: tuple[Condition, ...]
    names: tuple[str, ...]


_KEYWORDS: Final = {
    "modality": "Modality",
    "station_ae_title": "ScheduledStationAETitle",
    "location": "ScheduledProcedureStepLocation",
    "status": "ScheduledProcedureStepStatus",
}


def compile_view(**filters: ListFilter) -> View:
    """Compile filters that all have to let an entry through; the arguments' names are those that people know."""
    conditions: list[Condition] = []
    names: list[str] = []
    if not any(each.status for each in filters.values()):
        conditions.append(_one_of("ScheduledProcedureStepStatus", LISTED))
        names.append("status")
    for name, each in filters.items():
        for key, keyword in _KEYWORDS.items():
            wanted = getattr(each, key)
            if wanted:
                conditions.append(_one_of(keyword, [one for one in wanted if key != "status" or one in LISTABLE]))
                names.append(f"{name}.{key}")
        if each.days_back is not None or each.days_ahead is not None:
            conditions.append(_window(each.days_back, each.days_ahead))
            names.append(f"{name}.days_back, days_ahead")
    return View(tuple(conditions), tuple(names))


def _one_of(keyword: str, wanted: Sequence[str]) -> Condition:
    attribute = BY_KEYWORD_PATH[f"ScheduledProcedureStepSequence/{keyword}"]
    vr = attribute.vr

    values = frozenset(canonical(vr, value) for value in wanted)

    def matches(value: str) -> bool:
        return canonical(vr, value) in values

    lookups = [Lookup(value) for value in values]
    return texts(attribute, "single", getter(attribute, prefix="step."), matches, lookups, exact=True)


def _window(days_back: int | None, days_ahead: int | None) -> Condition:
    attribute = BY_KEYWORD_PATH["ScheduledProcedureStepSequence/ScheduledProcedureStepStartDate"]
    low = -LAST_DAY if days_back is None else -days_back
    days = Days(low, LAST_DAY if days_ahead is None else days_ahead, relative=True)
    return on_days(attribute, "range", getter(attribute, prefix="step."), [days])
