"""One object for equal values: what thousands of entries have in common takes memory once."""

from __future__ import annotations

from typing import Any, Final

from msgspec.structs import force_setattr

from .item import Entry

__all__ = ["Pool"]

# Fields with few distinct values.  Names, numbers and comments are as good as unique.
_SHARED: Final = {
    "patient": ("sex", "languages", "ethnic_group"),
    "procedure": ("description", "code", "study_date", "study_time", "priority", "transport_arrangements"),
    "step": (
        *("station_ae_titles", "start_date", "start_time", "modality", "performing_physician", "description"),
        "performing_physician_ids",
        *("protocol_codes", "station_names", "location", "pre_medication", "contrast_agent", "body_part_examined"),
        "status",
    ),
    "request": (
        *("accession_issuer", "placer_issuer", "filler_issuer", "requesting_physician", "requesting_service"),
        "referring_physician",
        *("institution_name", "admission_issuer", "current_patient_location", "patient_state"),
    ),
}
_MOST: Final = 100_000  # distinct values; beyond, what was thought to be common is not, and the pool starts anew


class Pool:
    """The values seen so far."""

    def __init__(self) -> None:
        self._values: dict[Any, Any] = {}

    def share(self, entry: Entry) -> None:
        """Put the pool's objects in the place of an entry's own equal ones, which nobody can tell apart."""
        values = self._values
        if len(values) > _MOST:
            values.clear()
        for part_name, fields in _SHARED.items():
            part = getattr(entry, part_name)
            for field in fields:
                own = getattr(part, field)
                if own:
                    shared = values.setdefault(own, own)
                    if shared is not own:
                        force_setattr(part, field, shared)
        for identifier in entry.patient.identifiers:
            if identifier.issuer:
                force_setattr(identifier, "issuer", values.setdefault(identifier.issuer, identifier.issuer))
