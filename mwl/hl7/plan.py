"""What a message is going to change, and why: the outcome of `orders`, the same for a dry run and for the store."""

from __future__ import annotations

from typing import Any, Final, Protocol

import msgspec

from ..item import Entry, Patient, PatientIdentifier, ScheduledProcedureStep
from .message import Answer, Header, Hl7Fault, Location, Message
from .rules import Reading
from .values import EMPTY

__all__ = [
    "EntryChange",
    "Link",
    "Lookup",
    "Plan",
    "Rehearsal",
    "Source",
    "Tombstone",
    "View",
    "change_patient",
    "fill",
    "is_older",
    "is_open",
    "is_same_patient",
    "lineage",
    "unused_fields",
]


class Lookup(Protocol):
    """What is known before a message."""

    def of_study(self, study_uid: str) -> list[Entry]:
        """Give the entries of a study."""

    def having(self, kind: str, value: str) -> list[Entry]:
        """Give the entries with an identifier of a kind: `patient`, `accession`, `filler` or `placer`."""

    def merged_into(self, identifier: PatientIdentifier) -> Patient | None:
        """Give the patient that an identifier was merged into."""

    def has_tombstone(self, kind: str, value: str) -> bool:
        """Tell whether an order was cancelled before it came, Q-88."""

    def last_message_time(self, key: tuple[str, str]) -> str:
        """Give MSH-7 of the message that an entry is from, as far as it is from one."""


class Source(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where an attribute got its value from: the rule, the field and the text in it, and what it was before.

    `not_used` says why the value was not taken, if it was not; `note` what was done with it to make it fit.
    """

    attribute: str
    rule: str
    field: str = ""
    raw: str = ""
    value: Any = None
    before: Any = None
    not_used: str = ""
    note: str = ""


class EntryChange(msgspec.Struct, frozen=True):
    """One entry before and after: `created`, `changed`, `status`, `merged`, `unchanged`, or `removed` (no after)."""

    what: str
    before: Entry | None
    after: Entry | None
    sources: tuple[Source, ...] = ()


class Link(msgspec.Struct, frozen=True):
    """An identifier was merged away, or changed: who has it now."""

    prior: PatientIdentifier
    survivor: Patient


class Tombstone(msgspec.Struct, frozen=True):
    """An order that was cancelled before it came, by one of its identifiers."""

    kind: str
    value: str


class Plan(msgspec.Struct):
    """All that a message does: the answer, and unless that is an error the changes."""

    answer: Answer
    changes: list[EntryChange] = []
    links: list[Link] = []
    tombstones: list[Tombstone] = []
    notes: list[str] = []
    warnings: list[Hl7Fault] = []
    used: set[tuple[int, int]] = set()  # fields that something came of

    def warn(self, readings: list[Reading], not_used: dict[str, str]) -> None:
        """Warn of what cannot be done as it was sent; not of what is not taken anyway."""
        for one in readings:
            text = f"{one.fault}: it is left out" if one.fault else one.note
            text = text or ("cannot be deleted" if _is_kept(one) else "")
            if text and one.target.keyword not in not_used:
                warning = Hl7Fault(102, f"{one.target.keyword} {text}", one.location)
                if warning not in self.warnings:
                    self.warnings.append(warning)


class View:
    """What is known, as the first orders of a message have changed it for the later ones."""

    def __init__(self, lookup: Lookup) -> None:
        self.lookup = lookup
        self.changed: dict[tuple[str, str], Entry | None] = {}

    def of_study(self, study_uid: str) -> list[Entry]:
        """Give the entries of a study."""
        here = [entry for entry in self.changed.values() if entry and entry.key[0] == study_uid]
        return [*self._untouched(self.lookup.of_study(study_uid)), *here]

    def having(self, kind: str, value: str) -> list[Entry]:
        """Give the entries with an identifier."""
        here = [entry for entry in self.changed.values() if entry and _has(entry, kind, value)]
        return [*self._untouched(self.lookup.having(kind, value)), *here]

    def _untouched(self, entries: list[Entry]) -> list[Entry]:
        return [entry for entry in entries if entry.key not in self.changed] if self.changed else entries

    def of_patient(self, identifiers: tuple[PatientIdentifier, ...]) -> list[Entry]:
        """Give the entries of a patient, known by any of the identifiers."""
        found: dict[tuple[str, str], Entry] = {}
        for identifier in identifiers:
            for entry in self.having("patient", identifier.value):
                if any(is_same_patient(identifier, one) for one in entry.patient.identifiers):
                    found[entry.key] = entry
        return list(found.values())

    def survivor(self, identifiers: tuple[PatientIdentifier, ...]) -> Patient | None:
        """Follow merges to their end: A into B into C, Q-89."""
        found: Patient | None = None
        for identifier in identifiers[:1]:
            following: PatientIdentifier | None = identifier
            seen: set[PatientIdentifier] = set()
            while following and following not in seen:
                seen.add(following)
                patient = self.lookup.merged_into(following)
                found = patient or found
                following = patient.identifiers[0] if patient and patient.identifiers else None
        return found


class Rehearsal(View):
    """What would be known if the plans so far had been carried out: several messages of a file, one after another."""

    def __init__(self, lookup: Lookup) -> None:
        super().__init__(lookup)
        self._links: list[Link] = []
        self._tombstones: set[tuple[str, str]] = set()
        self._times: dict[tuple[str, str], str] = {}

    def take(self, plan: Plan, message_time: str = "") -> None:
        """Pretend that a plan was carried out."""
        self._times |= {change.after.key: message_time for change in plan.changes if change.after}
        for change in plan.changes:
            if change.before:
                self.changed[change.before.key] = None
            if change.after:
                self.changed[change.after.key] = change.after
        self._links += plan.links
        self._tombstones |= {(stone.kind, stone.value) for stone in plan.tombstones}

    def merged_into(self, identifier: PatientIdentifier) -> Patient | None:
        """Give the patient that an identifier was merged into."""
        for link in reversed(self._links):
            if is_same_patient(link.prior, identifier):
                return link.survivor
            if is_same_patient(link.survivor.identifiers[0], identifier):
                return None  # changed back
        return self.lookup.merged_into(identifier)

    def has_tombstone(self, kind: str, value: str) -> bool:
        """Tell whether an order was cancelled before it came."""
        return (kind, value) in self._tombstones or self.lookup.has_tombstone(kind, value)

    def last_message_time(self, key: tuple[str, str]) -> str:
        """Give MSH-7 of the message that an entry is from."""
        return self._times.get(key) or self.lookup.last_message_time(key)


def _has(entry: Entry, kind: str, value: str) -> bool:
    request = entry.request
    if kind == "patient":
        return any(identifier.value == value for identifier in entry.patient.identifiers)
    by_kind = {
        "accession": request.accession_number,
        "filler": request.filler_order_number,
        "placer": request.placer_order_number,
    }
    return by_kind[kind] == value


def is_open(entry: Entry) -> bool:
    """Tell whether an entry is kept up to date: it has not ended."""
    return entry.step.status not in ("COMPLETED", "CANCELED", "DISCONTINUED")


def is_same_patient(one: PatientIdentifier, other: PatientIdentifier) -> bool:
    """Compare identifiers; an authority that one side does not name, or names otherwise, is not held against them."""
    if one.value != other.value:
        return False
    if one.universal_id and one.universal_id == other.universal_id:
        return True
    return one.issuer == other.issuer or not one.issuer or not other.issuer


def is_older(time: str, other: str) -> bool:
    """Compare MSH-7 of two messages, as far as both tell."""
    digits = min(len(time), len(other), 14)
    return time[:digits] < other[:digits]


# --- values into entries ------------------------------------------------------------------------------------------

_PATIENT_SEGMENTS: Final = frozenset({"PID", "PD1", "PV1", "PV2", "AL1", "NK1", "MRG"})
_IDENTITY: Final = frozenset(
    {"PatientID", "PatientName", "StudyInstanceUID", "ScheduledProcedureStepID", "RequestedProcedureID", "Modality"}
    | {"ScheduledProcedureStepStartDateTime"}
)


def is_of_patient(reading: Reading) -> bool:
    """Tell whether a value comes from the part of a message that speaks of patient and visit."""
    return reading.rule.path is not None and reading.rule.path.segment[:3] in _PATIENT_SEGMENTS


def _is_kept(reading: Reading) -> bool:
    return reading.deletes and reading.target.keyword in _IDENTITY


def fill(entry: Entry, readings: list[Reading], not_used: dict[str, str] | None = None) -> tuple[Entry, list[Source]]:
    """Set the attributes of an entry; `not_used` names those that are not taken, and why."""
    not_used = not_used or {}
    owners: dict[str, Any] = {name: getattr(entry, name) for name in ("patient", "procedure", "request", "step")}
    changes: dict[str, dict[str, Any]] = {}
    sources: list[Source] = []
    for reading in readings:
        target = reading.target
        owner = owners[target.owner]
        before = _value_before(owner, reading)
        reason = not_used.get(target.keyword, reading.fault)
        empty = before is None or before == EMPTY[target.reader]
        if reading.rule.is_default and not empty:
            continue
        if _is_kept(reading):
            reason = "this attribute cannot be deleted"
        value = before if reason else _combined(before, reading)
        if not reason:
            here = changes.setdefault(target.owner, {})
            if target.reader == "moment":
                here["start_date"], here["start_time"] = value or (None, None)
            else:
                here[target.field] = value
        location = str(reading.location) if reading.location else ""
        shown = reading.value if reason else value
        note = "" if reason else reading.note
        sources.append(Source(target.keyword, reading.rule.text, location, reading.raw, shown, before, reason, note))
    for name, values in changes.items():
        owners[name] = msgspec.structs.replace(owners[name], **values)
    return msgspec.structs.replace(entry, **owners), sources


def _value_before(owner: Any, reading: Reading) -> Any:
    if reading.target.reader == "moment":
        step: ScheduledProcedureStep = owner
        return (step.start_date, step.start_time) if step.start_date else None
    return getattr(owner, reading.target.field)


def _combined(before: Any, reading: Reading) -> Any:
    """Give the value to set; identifiers of before stay as other ones, since a merge may have brought them."""
    if reading.target.reader != "identifiers":
        return reading.value
    return _joined(reading.value, before)


def _joined(
    first: tuple[PatientIdentifier, ...], rest: tuple[PatientIdentifier, ...]
) -> tuple[PatientIdentifier, ...]:
    return (*first, *(one for one in rest if not any(is_same_patient(one, other) for other in first)))


def change_patient(entry: Entry, patient: Patient) -> Entry:
    """Give an entry to another patient: it is one person, so identifiers stay, and what is not known of the other."""
    known = {name: value for name in patient.__struct_fields__ if (value := getattr(patient, name))}
    known["identifiers"] = _joined(patient.identifiers, entry.patient.identifiers)
    return msgspec.structs.replace(entry, patient=msgspec.structs.replace(entry.patient, **known))


# --- what is kept of it, and what is told -------------------------------------------------------------------------

_encode = msgspec.json.Encoder().encode


def lineage(header: Header, change: EntryChange) -> str:
    """Write down where the values came from that this change set, as the store keeps it with the change."""
    attributes = {
        source.attribute: {
            "rule": source.rule,
            "field": source.field,
            "raw": source.raw,
            "value": source.value,
            **({"note": source.note} if source.note else {}),
        }
        for source in change.sources
        if not source.not_used and source.value != source.before
    }
    message = {"type": header.type, "control_id": header.control_id, "sender": header.sender, "time": header.time}
    return _encode({"what": change.what, "message": message, "attributes": attributes}).decode()


def unused_fields(message: Message, plan: Plan) -> list[tuple[Location, str]]:
    """List the fields with something in them that nothing came of; numbers of sets are left out."""
    return [
        (Location(segment.name, segment.sequence, number), text)
        for segment in message.segments
        if segment.name not in ("MSH", "EVN")
        for number, text in enumerate(segment.fields)
        if number and text and (id(segment), number) not in plan.used and not (number == 1 and text.isdecimal())
    ]
