"""Where the value of an attribute comes from: the stored ones, and those computed by rule and by date.

`getter` turns a row of the attribute table into a function, once; matching and answering call it for each entry.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import date
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final

import msgspec

from .attributes import Attribute
from .item import Entry, PatientIdentifier

__all__ = ["Getter", "age", "getter", "primary_identifier"]

logger = logging.getLogger("mwl")

Getter = Callable[[Any, date], Any]
"""Takes an entry, or what an item of a sequence stands for, and today's date; gives the plain value."""

DETACHED_STUDY_MANAGEMENT: Final = "1.2.840.10008.3.1.2.3.1"

_NOBODY: Final = PatientIdentifier("")


class Reference(msgspec.Struct, frozen=True, gc=False):
    """An item of Referenced Study Sequence."""

    sop_class_uid: str
    sop_instance_uid: str


def primary_identifier(entry: Entry, issuer: str) -> PatientIdentifier:
    """Find the identifier of the worklist's own domain, or else the first one: PatientID must have a value."""
    identifiers = entry.patient.identifiers
    if issuer:
        for identifier in identifiers:
            if identifier.issuer == issuer:
                return identifier
        _tell(issuer)
    return identifiers[0] if identifiers else _NOBODY


@lru_cache(maxsize=256)
def _tell(issuer: str) -> None:
    """Log, once for each, that not all patients are known to the primary domain."""
    logger.info("a patient has no identifier of %s, the primary domain: the first one is answered", issuer)


def age(birth_date: date | None, today: date) -> str:
    """Give an age as AS, PS3.5 Table 6.2-1: days below one month, months below two years, then years."""
    if birth_date is None or birth_date > today:
        return ""
    months = (today.year - birth_date.year) * 12 + today.month - birth_date.month
    if today.day < birth_date.day:
        months -= 1
    if months < 1:
        return f"{(today - birth_date).days:03}D"
    return f"{months:03}M" if months < 24 else f"{months // 12:03}Y"


def _pregnancy_status(entry: Entry) -> int:
    """Say what the order says; else a man is not pregnant, and of others it is unknown, PS3.3 C.2.4."""
    return entry.request.pregnancy_status or (1 if entry.patient.sex == "M" else 4)


def _others(entry: Entry, issuer: str) -> tuple[PatientIdentifier, ...]:
    primary = primary_identifier(entry, issuer)
    return tuple([identifier for identifier in entry.patient.identifiers if identifier is not primary])


# Computed values by the name that the attribute table has for them; the second argument is the issuer whose
# patient identifiers are the primary ones.
_DERIVED: Final[dict[str, Callable[[Entry, str, date], Any]]] = {
    "=character_set": lambda entry, issuer, today: "",  # of the response, not of the entry
    "=referenced_study": lambda entry, issuer, today: (
        Reference(DETACHED_STUDY_MANAGEMENT, entry.procedure.study_instance_uid),
    ),
    "=referenced_patient": lambda entry, issuer, today: (),
    "=patient_id": lambda entry, issuer, today: primary_identifier(entry, issuer).value,
    "=issuer_of_patient_id": lambda entry, issuer, today: primary_identifier(entry, issuer).issuer,
    "=type_of_patient_id": lambda entry, issuer, today: primary_identifier(entry, issuer).type_of_id,
    "=issuer_qualifiers": lambda entry, issuer, today: primary_identifier(entry, issuer).qualifiers,
    "=other_patient_ids": lambda entry, issuer, today: tuple([other.value for other in _others(entry, issuer)]),
    "=other_identifiers": lambda entry, issuer, today: _others(entry, issuer),
    "=age": lambda entry, issuer, today: age(entry.patient.birth_date, today),
    "=pregnancy_status": lambda entry, issuer, today: _pregnancy_status(entry),
}


def getter(attribute: Attribute, primary_issuer: str = "", prefix: str = "") -> Getter:
    """Make the function that gives an attribute's value; `prefix` leads from the entry to what holds the source."""
    derived = _DERIVED.get(attribute.source)
    if derived is not None:
        return lambda owner, today: derived(owner, primary_issuer, today)
    stored = attrgetter(prefix + attribute.source)
    return lambda owner, today: stored(owner)
