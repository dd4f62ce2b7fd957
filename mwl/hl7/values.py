"""From the text of HL7 v2 data types (chapter 2A) to the values of an entry: names, codes, times, identifiers.

Each reader gets the field or component as sent, and returns a value, or None if there is nothing in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from typing import Any, Final

import msgspec

from ..attributes import BY_KEYWORD_PATH, SPS_SEQUENCE, Attribute
from ..item import Code, Issuer, PatientIdentifier
from .message import Message, decode_message
from .raw import Raw, Unusable, ValueFault, first_part, one_line, plain_text

__all__ = ["EMPTY", "TARGETS", "Target", "constant_fault", "read_moment"]

# What a rule of the mapping can give a value to: DICOM's keyword, where the value lies in an `Entry`, how it is read.
# An identifier is never cut to the length of its VR; text is, and it is told.
_TARGETS: Final = """
ScheduledProcedureStepStartDateTime               step.start_date                   moment
Modality                                          step.modality                     code-string
ScheduledStationAETitle                           step.station_ae_titles            ids
ScheduledStationName                              step.station_names                texts
ScheduledProcedureStepLocation                    step.location                     text
ScheduledPerformingPhysicianName                  step.performing_physician         person
ScheduledProcedureStepDescription                 step.description                  text
ScheduledProtocolCodeSequence                     step.protocol_codes               codes
ScheduledProcedureStepID                          step.step_id                      id
PreMedication                                     step.pre_medication               text
RequestedContrastAgent                            step.contrast_agent               text
BodyPartExamined                                  step.body_part_examined           code-string
RequestedProcedureID                              procedure.procedure_id            id
RequestedProcedureDescription                     procedure.description             text
RequestedProcedureCodeSequence                    procedure.code                    code
StudyInstanceUID                                  procedure.study_instance_uid      uid
RequestedProcedurePriority                        procedure.priority                text
ReasonForTheRequestedProcedure                    procedure.reason                  text
PatientTransportArrangements                      procedure.transport_arrangements  text
RequestedProcedureComments                        procedure.comments                lines
AccessionNumber                                   request.accession_number          id
IssuerOfAccessionNumberSequence                   request.accession_issuer          issuer
PlacerOrderNumberImagingServiceRequest            request.placer_order_number       id
OrderPlacerIdentifierSequence                     request.placer_issuer             issuer
FillerOrderNumberImagingServiceRequest            request.filler_order_number       id
OrderFillerIdentifierSequence                     request.filler_issuer             issuer
RequestingPhysician                               request.requesting_physician      person
RequestingService                                 request.requesting_service        text
InstitutionName                                   request.institution_name          text
ImagingServiceRequestComments                     request.comments                  lines
PatientState                                      request.patient_state             text
ConfidentialityConstraintOnPatientDataDescription request.confidentiality           text
PregnancyStatus                                   request.pregnancy_status          pregnancy
PatientWeight                                     request.patient_weight            number
PatientSize                                       request.patient_size              number
ReferringPhysicianName                            request.referring_physician       person
AdmissionID                                       request.admission_id              id
IssuerOfAdmissionIDSequence                       request.admission_issuer          issuer
RouteOfAdmissions                                 request.route_of_admissions       text
CurrentPatientLocation                            request.current_patient_location  text
PatientName                                       patient.name                      name
PatientID                                         patient.identifiers               identifiers
PatientBirthDate                                  patient.birth_date                date
PatientSex                                        patient.sex                       code-string
PatientPrimaryLanguageCodeSequence                patient.languages                 codes
EthnicGroup                                       patient.ethnic_group              text
PatientAddress                                    patient.address                   address
PatientMotherBirthName                            patient.mother_birth_name         name
PatientComments                                   patient.comments                  lines
MedicalAlerts                                     patient.medical_alerts            texts
Allergies                                         patient.allergies                 texts
SpecialNeeds                                      patient.special_needs             text
AdditionalPatientHistory                          patient.additional_history        lines
"""


_LONGEST: Final = {"AE": 16, "CS": 16, "LO": 64, "LT": 10240, "PN": 64, "SH": 16, "UI": 64}


class Target(msgspec.Struct, frozen=True, gc=False):
    """An attribute that a mapping can fill."""

    keyword: str
    owner: str
    field: str
    reader: str
    vr: str
    longest: int
    every: bool  # whether all occurrences of a segment count, not only the first
    read: Callable[[Raw, Message, Target, tzinfo | None], Any]


# --- text and identifiers ------------------------------------------------------------------------------------------


def _read_text(raw: Raw, message: Message, target: Target, zone: tzinfo | None) -> str | None:
    return raw.cut(one_line(first_part(raw, message)), target.longest) or None


def _read_id(raw: Raw, message: Message, target: Target, zone: tzinfo | None) -> str | None:
    return _whole(one_line(first_part(raw, message)), target) or None


def _whole(text: str, target: Target) -> str:
    """Check the length of what must not be cut, Q-73."""
    if len(text) > target.longest:
        raise ValueFault(f"has {len(text)} characters, {target.vr} holds {target.longest}")
    return text


def _read_ids(raw: Raw, message: Message, target: Target, zone: tzinfo | None) -> tuple[str, ...] | None:
    found = (_whole(one_line((raw.parts(message, text) or [""])[0]), target) for text in raw.repetitions())
    return tuple(dict.fromkeys(text for text in found if text)) or None


def _read_texts(raw: Raw, message: Message, target: Target, zone: tzinfo | None) -> tuple[str, ...] | None:
    lines = (one_line((raw.parts(message, text) or [""])[0]) for text in raw.repetitions())
    found = (raw.cut(line, target.longest) for line in lines)
    return tuple(dict.fromkeys(text for text in found if text)) or None


def _read_lines(raw: Raw, message: Message, target: Target, zone: tzinfo | None) -> str | None:
    # In free text a `^` that nobody escaped is text.
    lines = [plain_text(text, message) for text in raw.repetitions()]
    return raw.cut("\n".join(lines).replace("\f", "\n").strip(), target.longest) or None


def _read_code_string(raw: Raw, message: Message, target: Target, zone: tzinfo | None) -> str | None:
    text = _whole(one_line(first_part(raw, message)).upper(), target)
    if not re.fullmatch(r"[A-Z0-9 _]*", text):
        raise ValueFault("has characters that CS does not have")
    return text or None


def _read_uid(raw: Raw, message: Message, target: Target, zone: tzinfo | None) -> str | None:
    text = first_part(raw, message)
    if text and not (len(text) <= 64 and re.fullmatch(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+", text)):
        raise ValueFault("is no UID")
    return text or None


def _read_number(raw: Raw, message: Message, target: Target, zone: tzinfo | None) -> float | None:
    text = first_part(raw, message).replace(",", ".")
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{0,6})?", text):
        raise Unusable("is no number")
    return float(text)


def _read_pregnancy(raw: Raw, message: Message, target: Target, zone: tzinfo | None) -> int | None:
    text = first_part(raw, message)
    if text and text not in ("1", "2", "3", "4"):
        raise Unusable("is none of 1, 2, 3 and 4: a map is missing")
    return int(text) if text else None


# --- names --------------------------------------------------------------------------------------------------------

_IDEOGRAPHIC, _PHONETIC = "I", "P"


def _read_name(raw: Raw, message: Message, target: Target, zone: tzinfo | None) -> str | None:
    """XPN: family^given^middle^suffix^prefix^degree^type^representation."""
    return _person_name(raw, message, shift=0, type_at=6, representation_at=7)


def _read_person(raw: Raw, message: Message, target: Target, zone: tzinfo | None) -> str | None:
    """XCN, or CNN below: as XPN, behind an identifier."""
    name = _person_name(raw, message, shift=1, type_at=9, representation_at=14)
    if name is None and (text := first_part(raw, message)) and not re.search("[0-9]", text):
        # The name stands where its code should be.
        name = raw.cut(one_line(text).replace("^", " ").replace("=", " "), 64)
    return name


def _person_name(raw: Raw, message: Message, shift: int, type_at: int, representation_at: int) -> str | None:
    """Put a name in DICOM's order: prefix before suffix, and a degree behind the suffix, PS3.5 6.2.1."""
    groups: dict[str, str] = {}
    chosen_type = ""
    for text in raw.repetitions():
        parts = raw.split(text)
        parts += [""] * (representation_at + 1 - len(parts))
        components = [_name_part(part, message) for part in parts[shift : shift + 6]]
        family, given, middle, suffix, prefix, degree = components
        name = "^".join((family, given, middle, prefix, f"{suffix} {degree}".strip())).rstrip("^")
        representation, kind = parts[representation_at].strip(), parts[type_at].strip()
        group = representation if representation in (_IDEOGRAPHIC, _PHONETIC) else "A"
        if name and (group not in groups or (kind == "L" and chosen_type not in ("", "L") and group == "A")):
            groups[group] = raw.cut(name, 64)
            chosen_type = kind if group == "A" else chosen_type
    return "=".join((groups.get("A", ""), groups.get("I", ""), groups.get("P", ""))).rstrip("=") or None


def _name_part(text: str, message: Message) -> str:
    family = text.split(message.delimiters.subcomponent, 1)[0]  # FN: surname, and then what it is made of
    if not family:
        return ""
    return one_line(plain_text(family, message)).replace("^", " ").replace("=", " ")


def _read_address(raw: Raw, message: Message, target: Target, zone: tzinfo | None) -> str | None:
    """XAD: street, other designation, city, state, zip, country."""
    parts = raw.parts(message, (raw.repetitions() or [""])[0])
    parts += [""] * (6 - len(parts))
    street = parts[0].split(message.delimiters.subcomponent, 1)[0]
    place = " ".join(part for part in (parts[4], parts[2]) if part)
    found = (one_line(part) for part in (street, parts[1], place, parts[3], parts[5]))
    return raw.cut(", ".join(part for part in found if part), target.longest).rstrip(",") or None


# --- codes and identifiers ----------------------------------------------------------------------------------------


def _read_code(raw: Raw, message: Message, target: Target, zone: tzinfo | None) -> Code | None:
    return _code(raw, message, next(iter(raw.repetitions()), ""))


def _read_codes(raw: Raw, message: Message, target: Target, zone: tzinfo | None) -> tuple[Code, ...] | None:
    codes = (_code(raw, message, text) for text in raw.repetitions())
    return tuple(code for code in codes if code) or None


def _code(raw: Raw, message: Message, text: str) -> Code | None:
    """CE and CWE: code, text, coding system."""
    value, meaning, scheme = ([one_line(part) for part in raw.parts(message, text)] + ["", "", ""])[:3]
    # A code without a scheme is none, PS3.3 8.2; one of the site's own is 99LOCAL.
    return Code(value, raw.cut(scheme, 16) or "99LOCAL", raw.cut(meaning, 64) or value[:64]) if value else None


def _read_issuer(raw: Raw, message: Message, target: Target, zone: tzinfo | None) -> Issuer | None:
    """HD: namespace, universal id and its type."""
    parts = raw.parts(message, next(iter(raw.repetitions()), ""))
    namespace, universal_id, kind = ([one_line(part) for part in parts] + ["", "", ""])[:3]
    return Issuer(namespace, universal_id, raw.cut(kind, 16).upper()) if namespace or universal_id else None


def _read_identifiers(
    raw: Raw, message: Message, target: Target, zone: tzinfo | None
) -> tuple[PatientIdentifier, ...] | None:
    """CX, each repetition: identifier, check digit and scheme, assigning authority (HD)."""
    found: list[PatientIdentifier] = []
    for text in raw.repetitions():
        parts = [*raw.split(text), "", "", "", ""]
        value = _whole(one_line(plain_text(parts[0], message)), target)
        authority = [one_line(plain_text(part, message)) for part in parts[3].split(message.delimiters.subcomponent)]
        namespace, universal_id, kind = [*authority, "", ""][:3]
        if value:
            issuer = raw.cut(namespace, 64), universal_id, raw.cut(kind, 16).upper()
            found.append(PatientIdentifier(value, *issuer))
    return tuple(dict.fromkeys(found)) or None


# --- dates and times ----------------------------------------------------------------------------------------------

_TS: Final = re.compile(
    r"([0-9]{4})(?:([0-9]{2})(?:([0-9]{2})(?:([0-9]{2})(?:([0-9]{2})(?:([0-9]{2})(?:\.([0-9]{1,6}))?)?)?)?)?)?"
    r"([+-][0-9]{4})?"
)


def read_moment(text: str, zone: tzinfo | None) -> tuple[date, time | None] | None:
    """Read TS: a day, and a time if it has one; with an offset it is converted to the time of this place.

    Raises:
        ValueFault: it is none; None is a year or a month only.
    """
    found = _TS.fullmatch(text)
    if not found:
        raise ValueFault("is no time: YYYYMMDD[HH[MM[SS]]] is wanted")
    year, month, day, hour, minute, second, fraction, offset = found.groups()
    if day is None:
        return None
    try:
        if hour is None:
            return date(int(year), int(month), int(day)), None
        leap = second == "60"
        moment = datetime(
            *(int(year), int(month), int(day), int(hour) % 24 if hour == "24" else int(hour), int(minute or 0)),
            59 if leap else int(second or 0),
            int((fraction or "0").ljust(6, "0")),
        )
        if hour == "24":
            moment += timedelta(days=1)
        if offset:
            sign = -1 if offset[0] == "-" else 1
            away = timezone(sign * timedelta(hours=int(offset[1:3]), minutes=int(offset[3:])))
            moment = moment.replace(tzinfo=away).astimezone(zone).replace(tzinfo=None)
    except (ValueError, OverflowError) as exc:
        raise ValueFault("is no time of any day") from exc
    return moment.date(), moment.time()


def _read_moment(raw: Raw, message: Message, target: Target, zone: tzinfo | None) -> tuple[date, time | None] | None:
    text = first_part(raw, message).partition(" ")[0]
    if not text:
        return None
    moment = read_moment(text, zone)
    if moment is None:
        raise ValueFault("is no whole day")
    return moment


def _read_date(raw: Raw, message: Message, target: Target, zone: tzinfo | None) -> date | None:
    text = first_part(raw, message)[:8]  # an offset must not move a birthday
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{4}([0-9]{2}){0,2}", text):
        raise ValueFault("is no date: YYYYMMDD is wanted")
    year, month, day = int(text[:4]), int(text[4:6] or 0), int(text[6:8] or 0)
    if not month or not day:
        raise Unusable("is no whole day")  # DICOM has no date without month and day
    try:
        return date(year, month, day)
    except ValueError as exc:
        raise ValueFault("is no day of the calendar") from exc


# --- the table ----------------------------------------------------------------------------------------------------

_READERS: Final[dict[str, Callable[[Raw, Message, Target, tzinfo | None], Any]]] = {
    "address": _read_address,
    "code": _read_code,
    "code-string": _read_code_string,
    "codes": _read_codes,
    "date": _read_date,
    "id": _read_id,
    "identifiers": _read_identifiers,
    "ids": _read_ids,
    "issuer": _read_issuer,
    "lines": _read_lines,
    "moment": _read_moment,
    "name": _read_name,
    "number": _read_number,
    "person": _read_person,
    "pregnancy": _read_pregnancy,
    "text": _read_text,
    "texts": _read_texts,
    "uid": _read_uid,
}


def _decode_table(text: str) -> dict[str, Target]:
    found: dict[str, Target] = {}
    step = next(one.keyword for one in BY_KEYWORD_PATH.values() if one.path == (SPS_SEQUENCE,))
    for line in text.strip().splitlines():
        keyword, source, reader = line.split()
        owner, _, field = source.partition(".")
        attribute: Attribute | None = BY_KEYWORD_PATH.get(keyword) or BY_KEYWORD_PATH.get(f"{step}/{keyword}")
        vr = attribute.vr if attribute else "DT"
        every = reader in ("lines", "texts")
        found[keyword] = Target(keyword, owner, field, reader, vr, _LONGEST.get(vr, 1024), every, _READERS[reader])
    return found


TARGETS: Final = _decode_table(_TARGETS)

_NO_MESSAGE: Final = decode_message(rb"MSH|^~\&|")


def constant_fault(target: Target, text: str) -> str:
    """Tell why an attribute cannot have a constant of a mapping; nothing if it can."""
    raw = Raw([text], "", "")
    try:
        target.read(raw, _NO_MESSAGE, target, None)
    except ValueFault as exc:
        return str(exc)
    return raw.note


EMPTY: Final[dict[str, Any]] = {
    **dict.fromkeys(("ids", "texts", "codes", "identifiers"), ()),
    **dict.fromkeys(("code", "date", "issuer", "moment", "number", "pregnancy"), None),
    **dict.fromkeys(("address", "code-string", "id", "lines", "name", "person", "text", "uid"), ""),
}
"""What an attribute is without a value, by its reader."""
