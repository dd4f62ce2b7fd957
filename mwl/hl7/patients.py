"""From an ADT message to a plan: patient data, arrival, merges and changed identifiers; IHE RAD-12.  Pure."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final

import msgspec

from ..item import (
    Entry,
    ImagingServiceRequest,
    Patient,
    PatientIdentifier,
    RequestedProcedure,
    ScheduledProcedureStep,
)
from .mapping import Mapping
from .message import Hl7Fault, Location, Message, Segment
from .plan import EntryChange, Link, Plan, Source, View, change_patient, fill, is_of_patient, is_open, is_same_patient
from .rules import Reading, Rule, Scope, apply_rules, decode_path
from .values import TARGETS

__all__ = ["PATIENT_EVENTS"]

_NOBODY: Final = Entry(Patient(), RequestedProcedure(), ScheduledProcedureStep(), ImagingServiceRequest())
_MRG_1 = decode_path("MRG-1")
_MRG_RULES: Final = ((TARGETS["PatientID"], (Rule("MRG-1", _MRG_1),)),)


def _update(
    message: Message, mapping: Mapping, view: View, now: datetime, plan: Plan, faults: list[Hl7Fault]
) -> None:
    """Replace patient and visit data of a patient's open entries."""
    for scope in _groups(message):
        readings, identifiers = _patient_readings(scope, mapping, plan, faults)
        for entry in _open_entries(view, identifiers):
            after, sources = _filled(plan, view, entry, readings)
            _keep(plan, view, "changed", entry, after, sources)


def _arrive(
    message: Message, mapping: Mapping, view: View, now: datetime, plan: Plan, faults: list[Hl7Fault]
) -> None:
    """As `_update`, and what is scheduled for today is ARRIVED."""
    for scope in _groups(message):
        readings, identifiers = _patient_readings(scope, mapping, plan, faults)
        for entry in _open_entries(view, identifiers):
            after, sources = _filled(plan, view, entry, readings)
            if entry.step.status == "SCHEDULED" and entry.step.start_date == now.date():
                after = msgspec.structs.replace(after, step=msgspec.structs.replace(after.step, status="ARRIVED"))
                sources.append(
                    Source("ScheduledProcedureStepStatus", "arrival", value="ARRIVED", before=entry.step.status)
                )
            _keep(plan, view, "changed", entry, after, sources)


def _merge(message: Message, mapping: Mapping, view: View, now: datetime, plan: Plan, faults: list[Hl7Fault]) -> None:
    """Give all entries of MRG-1 to the patient in PID, ended ones too; the old identifiers stay as other ones."""
    for scope, readings, identifiers, prior in _merge_groups(message, mapping, plan, faults):
        survivor = view.survivor(identifiers)
        target = (survivor.identifiers if survivor else identifiers)[:1]
        prior = tuple(one for one in prior if not any(is_same_patient(one, other) for other in target))
        if not prior:
            text = "is merged into this one already, a loop" if survivor else "is the surviving one itself"
            faults.append(Hl7Fault(205, f"the prior identifier {text}", Location("MRG", scope.sequence, 1)))
            continue
        here = _entries(view, target)
        moved = _entries(view, prior)
        known = here[0].patient if here else survivor
        if known is None:  # it is one person: what the message leaves out stays as it was
            known = msgspec.structs.replace(moved[0].patient if moved else Patient(), identifiers=())
        base = msgspec.structs.replace(_NOBODY, patient=known)
        told = [one for one in readings if one.target.owner == "patient"]
        plan.warn(told, {})
        merged, _ = fill(base, told)
        patient = merged.patient
        if survivor:
            patient = msgspec.structs.replace(patient, identifiers=survivor.identifiers)
        plan.links += [Link(one, patient) for one in prior]
        for entry in moved:
            after = change_patient(entry, patient)
            sources = [
                Source("PatientID", "merge", "PID-3", "", after.patient.identifiers, entry.patient.identifiers),
                Source("PatientName", "merge", "PID-5", "", after.patient.name, entry.patient.name),
            ]
            _keep(plan, view, "merged", entry, after, sources)
        for entry in here:
            if is_open(entry) and entry.key not in view.changed:
                after, sources = _filled(plan, view, entry, readings)
                _keep(plan, view, "changed", entry, after, sources)


def _change_id(
    message: Message, mapping: Mapping, view: View, now: datetime, plan: Plan, faults: list[Hl7Fault]
) -> None:
    """Replace the identifier in MRG-1 by those in PID-3; nobody is merged, and the old one is gone."""
    for _, readings, identifiers, prior in _merge_groups(message, mapping, plan, faults):
        for entry in _entries(view, prior):
            kept = tuple(
                one for one in entry.patient.identifiers if not any(is_same_patient(one, other) for other in prior)
            )
            patient = msgspec.structs.replace(entry.patient, identifiers=kept)
            taken = readings if is_open(entry) else [one for one in readings if one.target.keyword == "PatientID"]
            after, sources = _filled(plan, view, msgspec.structs.replace(entry, patient=patient), taken)
            _keep(plan, view, "changed", entry, after, sources)
        new, _ = _filled(plan, view, _NOBODY, readings)
        plan.links += [Link(one, new.patient) for one in prior if one not in identifiers]


PatientEvent = Callable[[Message, Mapping, View, datetime, Plan, list[Hl7Fault]], None]
PATIENT_EVENTS: Final[dict[str, PatientEvent]] = {
    "patient": _update,
    "arrive": _arrive,
    "merge": _merge,
    "change_id": _change_id,
}
"""What the mapping's [events] can say of a message about patients."""


# --- parts --------------------------------------------------------------------------------------------------------


def _groups(message: Message) -> list[Scope]:
    """Cut a message at each PID: A40 may merge several patients."""
    found: list[list[Segment]] = []
    for segment in message.segments:
        if segment.name == "PID":
            found.append([segment])
        elif found:
            found[-1].append(segment)
    return [Scope(message, segments, segments[0].sequence) for segments in found] or [Scope(message, [])]


def _patient_readings(
    scope: Scope, mapping: Mapping, plan: Plan, faults: list[Hl7Fault]
) -> tuple[list[Reading], tuple[PatientIdentifier, ...]]:
    rules = mapping.attributes(scope.message.header)
    found = [
        one
        for one in apply_rules(rules, scope, mapping.zone)
        if is_of_patient(one) and one.target.owner in ("patient", "request")
    ]
    plan.used |= scope.used
    faults += [Hl7Fault(102, f"{one.target.keyword} {one.fault}", one.location) for one in found if one.is_refused]
    readings = [one for one in found if not one.is_refused]
    identifiers = next((one.value for one in readings if one.target.keyword == "PatientID" and not one.deletes), ())
    if not identifiers and not any(one.target.keyword == "PatientID" for one in found if one.fault):
        faults.append(Hl7Fault(101, "PatientID is missing", Location("PID", scope.sequence, 3)))
    return readings, identifiers


def _merge_groups(
    message: Message, mapping: Mapping, plan: Plan, faults: list[Hl7Fault]
) -> list[tuple[Scope, list[Reading], tuple[PatientIdentifier, ...], tuple[PatientIdentifier, ...]]]:
    found = []
    for scope in _groups(message):
        readings, identifiers = _patient_readings(scope, mapping, plan, faults)
        prior = next((one for one in apply_rules(_MRG_RULES, scope, mapping.zone)), None)
        plan.used |= scope.used
        place = Location("MRG", scope.sequence, 1)
        if prior is None or prior.deletes:
            faults.append(Hl7Fault(101, "the prior identifier is missing", place))
        elif prior.fault:
            faults.append(Hl7Fault(102, f"the prior identifier {prior.fault}", place))
        elif identifiers:
            found.append((scope, readings, identifiers, prior.value))
    return found


def _entries(view: View, identifiers: tuple[PatientIdentifier, ...]) -> list[Entry]:
    """Give the entries of a patient, those first that are kept up to date."""
    return sorted(view.of_patient(identifiers), key=is_open, reverse=True)


def _open_entries(view: View, identifiers: tuple[PatientIdentifier, ...]) -> list[Entry]:
    """Give the open entries of a patient; of one who was merged away, all those of the survivor."""
    survivor = view.survivor(identifiers)
    known = (*identifiers, *survivor.identifiers[:1]) if survivor else identifiers
    return [entry for entry in view.of_patient(known) if is_open(entry)]


def _filled(plan: Plan, view: View, entry: Entry, readings: list[Reading]) -> tuple[Entry, list[Source]]:
    """Set patient and visit data, but not those of another visit, and not the order of merged identifiers."""
    visit = next((one.value for one in readings if one.target.keyword == "AdmissionID"), "")
    not_used: dict[str, str] = {}
    if visit and entry.request.admission_id and visit != entry.request.admission_id:
        not_used = {one.target.keyword: "this is another visit" for one in readings if one.target.owner == "request"}
    plan.warn(readings, not_used)
    after, sources = fill(entry, readings, not_used)
    survivor = view.survivor(after.patient.identifiers)
    if survivor:
        known = after.patient.identifiers
        first = tuple(one for one in known if one in survivor.identifiers)
        identifiers = (*first, *(one for one in known if one not in first))
        after = msgspec.structs.replace(
            after, patient=msgspec.structs.replace(after.patient, identifiers=identifiers)
        )
    return after, sources


def _keep(plan: Plan, view: View, what: str, before: Entry, after: Entry, sources: list[Source]) -> None:
    view.changed[after.key] = after
    plan.changes.append(EntryChange("unchanged" if before == after else what, before, after, tuple(sources)))
