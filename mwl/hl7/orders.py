"""From a message to a plan: orders and appointments, IHE RAD-2, 4 and 13.  Pure.

The plan is the same whether it is shown (`mwl hl7 dry-run`) or carried out.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec

from ..item import (
    Entry,
    ImagingServiceRequest,
    Patient,
    RequestedProcedure,
    ScheduledProcedureStep,
)
from .mapping import Action, Event, Mapping
from .message import Answer, Hl7Fault, Location, Message
from .order_groups import cut_orders
from .order_keys import (
    OrderIds,
    decode_ids,
    find_entries,
    find_step,
    find_unnumbered,
    has_made_uid,
    identify,
    is_buried,
    name_steps,
    rename_step,
    tombstone,
)
from .patients import PATIENT_EVENTS
from .plan import (
    EntryChange,
    Lookup,
    Plan,
    Source,
    View,
    change_patient,
    fill,
    is_of_patient,
    is_older,
    is_open,
    is_same_patient,
)
from .rules import NOW, STATION, Reading, Scope, apply_rules, decode_path
from .values import TARGETS

__all__ = ["make_plan"]

_NEW: Final = Entry(Patient(), RequestedProcedure(), ScheduledProcedureStep(), ImagingServiceRequest())


def make_plan(message: Message, mapping: Mapping, lookup: Lookup, now: datetime) -> Plan:
    """Decide on a message; `now` is the local time."""
    refusal = _check_header(message, mapping)
    if refusal:
        return Plan(Answer("AR", (refusal,)), notes=list(message.notes))
    event = mapping.event(message.header)
    plan = Plan(Answer("AA"), notes=list(message.notes))
    view = View(lookup)
    faults: list[Hl7Fault] = []
    if event is None or event.do == "ignore":
        plan.notes.append(f"{message.header.type} is acknowledged, and does nothing")
    elif event.do in PATIENT_EVENTS:
        PATIENT_EVENTS[event.do](message, mapping, view, now, plan, faults)
    else:
        _Orders(message, mapping, view, now, plan, faults).run(event)
    if faults:
        plan.answer = Answer("AE", tuple(faults))
        plan.changes, plan.links = [], []
    else:
        plan.answer = Answer("AA", warnings=tuple(plan.warnings))
    return plan


def _check_header(message: Message, mapping: Mapping) -> Hl7Fault | None:
    """Find what makes a message not acceptable as such, 2.9.2.1."""
    header, rules = message.header, mapping.rules
    scope = Scope(message, message.segments[:1])
    for text in rules.required_header:
        path = decode_path(text)
        if path and not scope.text(path):
            return Hl7Fault(101, f"{text} is empty", Location("MSH", 1, path.field))
    if header.processing_id and rules.processing_ids and header.processing_id not in rules.processing_ids:
        return Hl7Fault(202, f"{header.processing_id!r} is not taken here", Location("MSH", 1, 11))
    if header.version and rules.versions and not header.version.startswith(rules.versions):
        return Hl7Fault(203, f"{header.version!r} is not taken here", Location("MSH", 1, 12))
    receiver = "|".join(
        text.partition(message.delimiters.component)[0].strip()
        for text in (header.receiving_application, header.receiving_facility)
    )
    if rules.receivers and receiver not in rules.receivers:
        return Hl7Fault(207, f"{receiver} is not known here", Location("MSH", 1, 5))
    if mapping.event(header) is None:
        known = any(name.startswith(f"{header.code}_") for name in mapping.events)
        return Hl7Fault(201 if known else 200, f"{header.type!r} is not taken here", Location("MSH", 1, 9))
    return None


class _Orders:
    """The orders of one message, one after another."""

    def __init__(
        self, message: Message, mapping: Mapping, view: View, now: datetime, plan: Plan, faults: list[Hl7Fault]
    ) -> None:
        self.message, self.mapping, self.view = message, mapping, view
        self.now, self.plan, self.faults = now, plan, faults
        self.is_appointment = False

    def run(self, event: Event) -> None:
        self.is_appointment = event.do == "appointment"
        scopes = cut_orders(self.message, self.is_appointment)
        if not scopes:
            name = "ORC" if event.do == "orders" else "SCH"
            self.faults.append(
                Hl7Fault(100, f"there is no {name} segment", Location(name, 1, 1 if name == "ORC" else 0))
            )
        rules = self.mapping.attributes(self.message.header)
        orders: list[tuple[Scope, Action, list[Reading], OrderIds]] = []
        for scope in scopes:
            action = self._action(scope, event)
            readings = list(apply_rules(rules, scope, self.mapping.zone))
            self.plan.used |= scope.used
            if action and action.action != "ignore":
                orders.append((scope, action, readings, decode_ids(readings)))
        name_steps([ids for _, _, _, ids in orders])
        for scope, action, readings, ids in orders:
            bad = [reading for reading in readings if reading.is_refused and self._matters(reading, action, ids)]
            self.faults += [
                Hl7Fault(102, f"{reading.target.keyword} {reading.fault}", reading.location) for reading in bad
            ]
            if bad:
                continue
            if self.is_appointment and self._is_too_many(ids):
                self.plan.notes.append("the appointment has more parts than the order has steps")
            elif action.action == "status":
                self._set_status(scope, action, ids)
            elif action.action == "create":
                self._create(scope, action, readings, ids)
            else:
                self._change(scope, readings, ids)

    def _is_too_many(self, ids: OrderIds) -> bool:
        """Tell whether a part of an appointment is for the only step of an order, that another part was for."""
        found = find_entries(self.view, ids) if ids.fallback_step_id else []
        known = [entry for entry in found if entry.step.step_id != ids.fallback_step_id]
        made = {change.after.key for change in self.plan.changes if change.after and change.before is None}
        return len(known) == 1 and known[0].key in self.view.changed and known[0].key not in made

    def _action(self, scope: Scope, event: Event) -> Action | None:
        if event.do == "appointment":
            return Action(action=event.action, status=event.status)
        control, status = (scope.text(path) for path in (_ORC_1, _ORC_5))
        if not control:
            self.faults.append(Hl7Fault(101, "the order control is missing", Location("ORC", scope.sequence, 1)))
            return None
        found = self.mapping.action(control, status)
        if found is None:
            known = f"{control} with status {status}" if status else control
            place = Location("ORC", scope.sequence, 1)
            self.faults.append(Hl7Fault(103, f"order control {known} is not in the table", place))
        return found

    def _matters(self, reading: Reading, action: Action, ids: OrderIds) -> bool:
        """Tell whether a value would be taken, if it could be read."""
        if action.action == "status":
            return reading.target.keyword in _IDENTIFYING
        if action.action == "create" or not is_of_patient(reading) or self.mapping.rules.patient_from_changes:
            return True
        return not find_entries(self.view, ids)

    # --- the actions

    def _create(self, scope: Scope, action: Action, readings: list[Reading], ids: OrderIds) -> None:
        found = find_step(self.view, ids, is_part=self.is_appointment)
        if found is None and not ids.has_number:
            found = find_unnumbered(self.view, self._fill(_NEW, readings, {})[0], ids)
        if found is None:
            self._make(scope, action, readings, ids)
            return
        sent = next((reading.value for reading in readings if reading.target.keyword == "PatientID"), ())
        if sent and not any(is_same_patient(one, known) for one in sent for known in found.patient.identifiers):
            survivor = self.view.survivor(sent)
            if not survivor or not any(
                is_same_patient(one, known) for one in survivor.identifiers for known in found.patient.identifiers
            ):
                text = "the order is that of another patient; patients are merged by A40"
                self.faults.append(Hl7Fault(205, text, Location("PID", 1, 3)))
                return
        after, sources = self._fill(found, readings, {})
        after = self._with_survivor(after, sources)
        if action.status and self.mapping.rules.new_order_reopens:
            after = _with_status(after, action.status)
        elif not is_open(found):
            self.plan.notes.append(f"the entry stays {found.step.status}")
        self._keep("changed", found, self._moved(found, after, ids), sources)

    def _make(self, scope: Scope, action: Action, readings: list[Reading], ids: OrderIds) -> None:
        after, sources = self._fill(_NEW, readings, {})
        have = {source.attribute for source in sources if source.value not in (None, "", ())}
        missing = [keyword for keyword in self.mapping.rules.required if keyword not in have]
        if not ids.study_uid and self.mapping.rules.missing_study_uid == "refuse":
            missing.append("StudyInstanceUID")
        self.faults += [Hl7Fault(101, f"{keyword} is missing", self._place(scope, keyword)) for keyword in missing]
        if missing:
            return
        after = self._with_survivor(after, sources)
        after = identify(after, self.view, ids)
        buried = is_buried(self.view, ids)
        if buried:
            self.plan.notes.append("the order was cancelled before it came")
        after = _with_status(after, "CANCELED" if buried else action.status or "SCHEDULED")
        sources += _generated(after, have)
        self._keep("created", None, after, sources)

    def _change(self, scope: Scope, readings: list[Reading], ids: OrderIds) -> None:
        found = find_entries(self.view, ids)
        if not found:
            faults_before = len(self.faults)
            self._make(scope, Action(action="create", status="SCHEDULED"), readings, ids)
            if len(self.faults) > faults_before:
                text = "there is no such order, and too little is sent to make one"
                self.faults.insert(faults_before, Hl7Fault(204, text, self._place_of_key(scope, ids)))
            return
        not_used: dict[str, str] = {}
        if not self.mapping.rules.patient_from_changes:
            reason = "a change of an order does not change patient and visit data, IHE RAD-13"
            not_used = {reading.target.keyword: reason for reading in readings if is_of_patient(reading)}
        for entry in found:
            after, sources = self._fill(entry, readings, not_used)
            if entry.step.status not in ("SCHEDULED", "ARRIVED", "READY"):
                self.plan.notes.append(f"the entry was changed although it is {entry.step.status}")
            if len(found) > 1:  # several steps are meant: each keeps what tells it from the others
                after = msgspec.structs.replace(after, step=rename_step(after.step, entry.step.step_id))
            self._keep("changed", entry, self._moved(entry, after, ids), sources)

    def _set_status(self, scope: Scope, action: Action, ids: OrderIds) -> None:
        found = find_entries(self.view, ids)
        if not found:
            place = self._place_of_key(scope, ids)
            if action.status in ("CANCELED", "DISCONTINUED"):
                stone = tombstone(ids)
                self.plan.tombstones += [stone] if stone else []
                if self.mapping.rules.unknown_cancel == "accept":
                    self.plan.notes.append("there is no such order; should it come, it will not be listed")
                    return
            self.faults.append(Hl7Fault(204, "there is no such order", place))
        for entry in found:
            before = entry.step.status
            if not is_open(entry) and before != action.status:
                self.plan.notes.append(f"an entry stays {before}")
                continue
            if before == "STARTED" and action.status == "CANCELED":
                self.plan.notes.append("the entry was cancelled although it is STARTED")
            rule = f"{action.action} {action.status}"
            source = Source(_STATUS, rule, *self._told_by(scope), action.status, before)
            self._keep("status", entry, _with_status(entry, action.status), [source])

    def _told_by(self, scope: Scope) -> tuple[str, str]:
        control = scope.text(_ORC_1)
        return ("ORC-1", control) if control else ("MSH-9", self.message.header.type)

    def _keep(self, what: str, before: Entry | None, after: Entry, sources: list[Source]) -> None:
        if before is not None and self._is_older(before):
            self.plan.notes.append("the message is older than the last one of its entry, and does nothing")
            return
        if before is not None and before.key != after.key:
            self.plan.changes.append(EntryChange("removed", before, None))
            self.view.changed[before.key] = None
        self.view.changed[after.key] = after
        what = "unchanged" if before == after else what
        self.plan.changes.append(EntryChange(what, before, after, tuple(sources)))

    def _is_older(self, entry: Entry) -> bool:
        if not self.mapping.rules.discard_older:
            return False
        return is_older(self.message.header.time, self.view.lookup.last_message_time(entry.key))

    # --- the parts of a new state

    def _fill(self, entry: Entry, readings: list[Reading], not_used: dict[str, str]) -> tuple[Entry, list[Source]]:
        """Set what was sent; the station is looked up where modality or place are new, or where it is not known."""
        self.plan.warn([one for one in readings if not (one.deletes and entry is _NEW)], not_used)
        now = self.now.replace(microsecond=0)
        ready = [
            msgspec.structs.replace(one, value=(now.date(), now.time())) if one.value == NOW else one
            for one in readings
            if one.value != STATION
        ]
        after, sources = fill(entry, ready, not_used)
        wanted = [one for one in readings if one.value == STATION]
        old, new = entry.step, after.step
        if wanted and (old.modality != new.modality or old.location != new.location or not old.station_ae_titles):
            code = after.procedure.code.value if after.procedure.code else ""
            station = self.mapping.station(self.message.header, new.modality, new.location, code)
            if station:
                values = {"ScheduledStationAETitle": station.ae_titles, "ScheduledStationName": station.names}
                ready = [msgspec.structs.replace(one, value=values[one.target.keyword]) for one in wanted]
                after, more = fill(after, [one for one in ready if one.value])
                sources += more
        return after, sources

    def _with_survivor(self, entry: Entry, sources: list[Source]) -> Entry:
        """Give an order for an identifier that was merged away to the surviving patient."""
        patient = self.view.survivor(entry.patient.identifiers)
        if patient is None:
            return entry
        self.plan.notes.append("the patient's identifier was merged into another one")
        known = [one for one in self.view.of_patient(patient.identifiers[:1]) if is_open(one)]
        survivor = known[0].patient if known else patient
        return change_patient(entry, survivor)

    def _moved(self, before: Entry, after: Entry, ids: OrderIds) -> Entry:
        """Keep the key, unless the Study Instance UID was made here and the real one has come now."""
        key_before, key = before.key, after.key
        if key == key_before:
            return after
        made = ids.study_uid and ids.study_uid != key_before[0] and has_made_uid(before)
        if key[0] != key_before[0] and not made:
            procedure = msgspec.structs.replace(after.procedure, study_instance_uid=key_before[0])
            after = msgspec.structs.replace(after, procedure=procedure)
        if not after.step.step_id:
            after = msgspec.structs.replace(after, step=rename_step(after.step, key_before[1]))
        return after

    # --- where the sender should look

    def _place(self, scope: Scope, keyword: str) -> Location | None:
        rules = dict(self.mapping.attributes(self.message.header)).get(TARGETS[keyword], ())
        return next((scope.location(rule.path) for rule in rules if rule.path), None)

    def _place_of_key(self, scope: Scope, ids: OrderIds) -> Location | None:
        if ids.study_uid:
            return self._place(scope, "StudyInstanceUID")
        keyword = "AccessionNumber" if ids.accession and not ids.filler else "FillerOrderNumberImagingServiceRequest"
        return self._place(scope, keyword)


_STATUS: Final = "ScheduledProcedureStepStatus"
_ORC_1, _ORC_5 = (path for path in map(decode_path, ("ORC-1.1", "ORC-5.1")) if path)
_IDENTIFYING: Final = frozenset(
    {"StudyInstanceUID", "ScheduledProcedureStepID", "RequestedProcedureID", "AccessionNumber"}
    | {"PlacerOrderNumberImagingServiceRequest", "FillerOrderNumberImagingServiceRequest"}
)


def _with_status(entry: Entry, status: str) -> Entry:
    return msgspec.structs.replace(entry, step=msgspec.structs.replace(entry.step, status=status))


def _generated(entry: Entry, sent: set[str]) -> list[Source]:
    made = {
        "StudyInstanceUID": entry.procedure.study_instance_uid,
        "RequestedProcedureID": entry.procedure.procedure_id,
        "ScheduledProcedureStepID": entry.step.step_id,
        _STATUS: entry.step.status,
    }
    rules = dict.fromkeys(made, "made here, none was sent") | {_STATUS: "order control"}
    return [Source(name, rules[name], value=value) for name, value in made.items() if name not in sent]
