"""Which entries an order is about, and what identifies a new one."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import msgspec

from ..item import Entry, Issuer, ScheduledProcedureStep, complete
from .plan import Tombstone, View, is_open
from .rules import NOW, Reading

__all__ = [
    "OrderIds",
    "decode_ids",
    "find_entries",
    "find_step",
    "find_unnumbered",
    "has_made_uid",
    "identify",
    "is_buried",
    "name_steps",
    "rename_step",
    "tombstone",
]


class OrderIds(msgspec.Struct):
    """What identifies an order, as it was sent."""

    study_uid: str
    step_id: str
    procedure_id: str
    accession: str
    filler: str
    placer: str
    issuers: dict[str, Issuer | None]  # of accession, filler and placer number
    starts_now: bool = False  # for want of a start
    fallback_step_id: str = ""

    @property
    def has_number(self) -> bool:
        """Whether there is anything that tells the order from others."""
        return bool(self.study_uid or self.procedure_id or self.accession or self.filler or self.placer)


def decode_ids(readings: list[Reading]) -> OrderIds:
    """Gather the identifiers that a message has for an order."""
    sent = {one.target.keyword: one.value for one in readings if not one.fault and not one.deletes}
    return OrderIds(
        sent.get("StudyInstanceUID", ""),
        sent.get("ScheduledProcedureStepID", ""),
        sent.get("RequestedProcedureID", ""),
        sent.get("AccessionNumber", ""),
        sent.get("FillerOrderNumberImagingServiceRequest", ""),
        sent.get("PlacerOrderNumberImagingServiceRequest", ""),
        {
            "accession": sent.get("IssuerOfAccessionNumberSequence"),
            "filler": sent.get("OrderFillerIdentifierSequence"),
            "placer": sent.get("OrderPlacerIdentifierSequence"),
        },
        sent.get("ScheduledProcedureStepStartDateTime") == NOW,
    )


def name_steps(orders: list[OrderIds]) -> None:
    """Give several orders of one procedure that have no step ids different ones, the same when they come again."""
    groups: dict[tuple[str, ...], list[OrderIds]] = {}
    for ids in orders:
        if not ids.step_id:
            shared = next((key for key in _shared_by_steps(ids) if any(key)), None)
            if shared:
                groups.setdefault(shared, []).append(ids)
    for group in groups.values():
        if len(group) == 1:
            continue
        for kind in ("filler", "placer"):
            numbers = [getattr(ids, kind) for ids in group]
            if len(set(numbers)) == len(numbers) and all(0 < len(number) <= 16 for number in numbers):
                break
        else:
            first = group[0]
            names = (first.procedure_id, first.accession, first.filler, first.placer)
            base = next((one for one in names if one), "STEP")
            numbers = [f"{base[:13]}-{number}" for number in range(1, len(group) + 1)]
        for ids, number in zip(group, numbers, strict=True):
            ids.fallback_step_id = number


def _shared_by_steps(ids: OrderIds) -> Iterator[tuple[str, ...]]:
    """Give what the steps of one procedure have in common, the best of it first."""
    yield ("study", ids.study_uid) if ids.study_uid else ()
    yield (ids.accession, ids.procedure_id)
    yield ("", ids.filler, ids.placer)


def tombstone(ids: OrderIds) -> Tombstone | None:
    """Name an order that was cancelled before it came by the best of its identifiers; a step by study and step."""
    if ids.study_uid:
        return Tombstone("study", f"{ids.study_uid}/{ids.step_id}" if ids.step_id else ids.study_uid)
    return next((Tombstone(kind, value) for kind, value in _numbers(ids) if value), None)


def _numbers(ids: OrderIds) -> Iterator[tuple[str, str]]:
    """Give the numbers of an order with their issuers, the best one first: those of two issuers may be the same."""
    for kind in ("filler", "accession", "placer"):
        number, issuer = getattr(ids, kind), ids.issuers[kind]
        yield kind, f"{number}^{issuer.namespace}^{issuer.universal_id}" if number and issuer else number


def is_buried(view: View, ids: OrderIds) -> bool:
    """Tell whether an order was cancelled before it came, Q-88."""
    named = [("study", ids.study_uid), ("study", f"{ids.study_uid}/{ids.step_id}"), *_numbers(ids)]
    return any(value and view.lookup.has_tombstone(kind, value) for kind, value in named)


def find_entries(view: View, ids: OrderIds) -> list[Entry]:
    """Find the entries of an order: by study, else by filler order number, accession or placer order number."""
    found = _candidates(view, ids)
    if ids.step_id:
        exact = [entry for entry in found if entry.step.step_id == ids.step_id]
        is_meant = len(found) == 1 and (not ids.study_uid or has_made_uid(found[0]))
        return exact or (found if is_meant else [])
    named = [entry for entry in found if entry.step.step_id == ids.fallback_step_id]
    if named:
        return named
    for kind in ("filler", "placer"):
        number = getattr(ids, kind)
        narrowed = [one for one in found if number and getattr(one.request, f"{kind}_order_number") == number]
        if narrowed:
            return narrowed
    return found


def _candidates(view: View, ids: OrderIds) -> list[Entry]:
    return (view.of_study(ids.study_uid) if ids.study_uid else []) or _by_number(view, ids)


def _by_number(view: View, ids: OrderIds) -> list[Entry]:
    """Find the entries of an order by its numbers, the best one first that finds any."""
    for kind in ("filler", "accession", "placer"):
        number = getattr(ids, kind)
        found = [one for one in view.having(kind, number) if _may_be(one, ids, kind)] if number else []
        if found:
            return found
    return []


def _may_be(entry: Entry, ids: OrderIds, kind: str) -> bool:
    """Tell whether an entry with the same number is of the same procedure; its ids may have been made here."""
    made = has_made_uid(entry)
    if ids.study_uid and not made:
        return False
    if not _same_issuer(getattr(entry.request, f"{kind}_issuer"), ids.issuers[kind]):
        return False
    if not ids.procedure_id or entry.procedure.procedure_id == ids.procedure_id:
        return True
    return made and (kind != "accession" or entry.procedure.procedure_id == ids.accession)


def has_made_uid(entry: Entry) -> bool:
    """Tell whether the Study Instance UID was made here, and the sender's may still come."""
    uid = entry.procedure.study_instance_uid
    if not uid.startswith("2.25."):
        return False
    # It was made from what was known of the order then: any part of its numbers may have come later, or been made.
    request = entry.request
    unissued = msgspec.structs.replace(request, accession_issuer=None, filler_issuer=None, placer_issuer=None)
    return uid in _made_uids(entry) or uid in _made_uids(msgspec.structs.replace(entry, request=unissued))


def _made_uids(entry: Entry) -> Iterator[str]:
    request, procedure = entry.request, entry.procedure
    numbers = (procedure.procedure_id, request.accession_number, request.filler_order_number)
    for told in product(*({number, ""} for number in (*numbers, request.placer_order_number))):
        then = msgspec.structs.replace(
            entry,
            procedure=msgspec.structs.replace(procedure, study_instance_uid="", procedure_id=told[0]),
            request=msgspec.structs.replace(
                request, accession_number=told[1], filler_order_number=told[2], placer_order_number=told[3]
            ),
        )
        yield complete(then).procedure.study_instance_uid


def find_step(view: View, ids: OrderIds, *, is_part: bool = False) -> Entry | None:
    """Find the entry that a new order is about, if it is there already; another step of its study is not it.

    What `is_part` of an appointment may be about the only step of its order, whatever that is called.
    """
    found = _candidates(view, ids)
    step_id = ids.step_id or ids.fallback_step_id
    if step_id:
        made = [one for one in _by_number(view, ids) if has_made_uid(one)] if ids.study_uid else []
        exact = next((entry for entry in (*found, *made) if entry.step.step_id == step_id), None)
        if exact is None and len(made) == 1 and len(found) == 1 and found == made:
            return made[0]  # its real Study Instance UID has come, and the step's real id with it
        if is_part and not ids.step_id and len(found) == 1 and found[0].key not in view.changed:
            return exact or found[0]
        return exact
    for kind in ("filler", "placer"):
        number = getattr(ids, kind)
        same = [one for one in found if number and getattr(one.request, f"{kind}_order_number") == number]
        if same:
            return same[0]
        if number and any(getattr(one.request, f"{kind}_order_number") for one in found):
            return None
    return found[0] if len(found) == 1 else None


def find_unnumbered(view: View, entry: Entry, ids: OrderIds) -> Entry | None:
    """Find the open entry of an order that nothing identifies but its patient, its start and what is done."""
    same = [one for one in view.of_study(_uid_without_number(entry, ids)) if one.key not in view.changed]
    return next((one for one in same if is_open(one) and ids.step_id in ("", one.step.step_id)), None)


def _uid_without_number(entry: Entry, ids: OrderIds) -> str:
    if ids.starts_now:  # of a start that was not sent, the day must do
        entry = msgspec.structs.replace(entry, step=msgspec.structs.replace(entry.step, start_time=None))
    return complete(entry).procedure.study_instance_uid


def identify(entry: Entry, view: View, ids: OrderIds) -> Entry:
    """Supply the identifiers that were not sent: from the entries of the same procedure, or made, Q-71."""
    if not ids.has_number:
        uid = _uid_without_number(entry, ids)
        procedure = msgspec.structs.replace(entry.procedure, study_instance_uid=uid)
        entry = msgspec.structs.replace(entry, procedure=procedure)
    if not ids.study_uid and ids.accession:
        same = [
            one
            for one in view.having("accession", ids.accession)
            if _same_issuer(one.request.accession_issuer, ids.issuers["accession"])
            and (not ids.procedure_id or one.procedure.procedure_id == ids.procedure_id)
        ]
        if same:
            first = same[0].procedure
            procedure = msgspec.structs.replace(
                entry.procedure,
                study_instance_uid=first.study_instance_uid,
                procedure_id=entry.procedure.procedure_id or first.procedure_id,
            )
            entry = msgspec.structs.replace(entry, procedure=procedure)
    if not entry.step.step_id and ids.fallback_step_id:
        entry = msgspec.structs.replace(entry, step=rename_step(entry.step, ids.fallback_step_id))
    named = complete(entry)
    if not ids.step_id:
        taken = {one.step.step_id for one in view.of_study(named.procedure.study_instance_uid)}
        choices = [named.step.step_id, ids.filler, ids.placer]
        choices += [f"{named.step.step_id[:13]}-{number}" for number in range(2, 100)]
        free = next((one for one in choices if one and len(one) <= 16 and one not in taken), named.step.step_id)
        named = msgspec.structs.replace(named, step=rename_step(named.step, free))
    return named


def _same_issuer(one: Issuer | None, other: Issuer | None) -> bool:
    """Compare issuers; one that a side does not name, or names otherwise, is not held against it."""
    if one is None or other is None:
        return True
    if one.universal_id and other.universal_id:
        return one.universal_id == other.universal_id
    return one.namespace == other.namespace or not one.namespace or not other.namespace


def rename_step(step: ScheduledProcedureStep, step_id: str) -> ScheduledProcedureStep:
    """Give a step another id."""
    return msgspec.structs.replace(step, step_id=step_id)
