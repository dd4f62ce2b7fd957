"""One entry of the worklist: a scheduled procedure step with its procedure, its request and its patient.

Values are plain: Unicode text, `datetime.date` and `datetime.time`, floats in metres and kilograms.  DICOM bytes
are made from them in `response`, and only there.  `msgspec.json` encodes an entry as the store keeps it.
"""

from __future__ import annotations

from base64 import b32encode
from datetime import date, time
from typing import Final
from uuid import UUID, uuid5

import msgspec

__all__ = [
    "LISTABLE",
    "LISTED",
    "STATUSES",
    "Code",
    "Entry",
    "EntryError",
    "Fault",
    "ImagingServiceRequest",
    "Issuer",
    "Patient",
    "PatientIdentifier",
    "PersonIdentification",
    "RequestedProcedure",
    "ScheduledProcedureStep",
    "complete",
    "dicom_text",
]

STATUSES: Final = (
    *("SCHEDULED", "ARRIVED", "READY", "STARTED", "DEPARTED"),  # the defined terms of PS3.3 C.4.10
    *("COMPLETED", "CANCELED", "DISCONTINUED"),  # ends of a life cycle that no term is defined for
)
"""The states of a scheduled procedure step; an entry without one counts as SCHEDULED."""

LISTED: Final = ("SCHEDULED", "ARRIVED", "READY")
"""The states that are listed where no filter names any."""

LISTABLE: Final = (*LISTED, "STARTED")
"""The states that a filter may list; in any other the step is over."""


class Code(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A coded entry, PS3.3 8.8."""

    value: str
    scheme: str = ""
    meaning: str = ""
    version: str = ""

    # PS3.4 Table 8-2a: a code value has at most 16 characters; a longer one, or a URN or URL, has its own attribute.

    @property
    def urn_value(self) -> str:
        """The code value if it is a URN or a URL."""
        return self.value if self.value.startswith(("urn:", "http://", "https://")) else ""

    @property
    def short_value(self) -> str:
        """The code value if it has at most 16 characters."""
        return self.value if len(self.value) <= 16 and not self.urn_value else ""

    @property
    def long_value(self) -> str:
        """The code value if it has more than 16 characters."""
        return self.value if len(self.value) > 16 and not self.urn_value else ""


class Issuer(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Who issued an identifier, PS3.3 10.14: an HL7 v2 hierarchic designator."""

    namespace: str = ""
    universal_id: str = ""
    universal_id_type: str = ""


class PersonIdentification(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Who a person is by code, PS3.3 10.1."""

    person_codes: tuple[Code, ...] = ()


class PatientIdentifier(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One of a patient's identifiers with its assigning authority, PS3.3 C.2.2."""

    value: str
    issuer: str = ""
    universal_id: str = ""
    universal_id_type: str = ""

    @property
    def type_of_id(self) -> str:
        """Type of Patient ID: always text, neither RFID nor barcode."""
        return "TEXT"

    @property
    def qualifiers(self) -> tuple[Issuer, ...]:
        """The item of Issuer of Patient ID Qualifiers Sequence, if there is anything to say in it."""
        return (Issuer("", self.universal_id, self.universal_id_type),) if self.universal_id else ()


class Patient(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A patient; the first identifier is the primary one unless a worklist prefers another issuer.

    Names here and elsewhere are written as DICOM does: `family^given^middle^prefix^suffix`, groups joined by `=`.
    """

    name: str = ""
    identifiers: tuple[PatientIdentifier, ...] = ()
    birth_date: date | None = None
    sex: str = ""
    languages: tuple[Code, ...] = ()
    ethnic_group: str = ""
    address: str = ""
    mother_birth_name: str = ""
    medical_alerts: tuple[str, ...] = ()
    allergies: tuple[str, ...] = ()
    special_needs: str = ""
    additional_history: str = ""
    comments: str = ""


class ImagingServiceRequest(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """An order, the visit it belongs to, and what it says of the patient's condition."""

    accession_number: str = ""
    accession_issuer: Issuer | None = None
    placer_order_number: str = ""
    placer_issuer: Issuer | None = None
    filler_order_number: str = ""
    filler_issuer: Issuer | None = None
    requesting_physician: str = ""
    requesting_service: str = ""
    referring_physician: str = ""
    institution_name: str = ""
    comments: str = ""
    admission_id: str = ""
    admission_issuer: Issuer | None = None
    route_of_admissions: str = ""
    current_patient_location: str = ""
    patient_state: str = ""
    pregnancy_status: int | None = None  # 1 not, 2 possibly, 3 definitely pregnant, 4 unknown, PS3.3 C.2.4
    patient_size: float | None = None
    patient_weight: float | None = None
    confidentiality: str = ""


class RequestedProcedure(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A requested procedure, PS3.3 C.4.11."""

    study_instance_uid: str = ""
    procedure_id: str = ""
    description: str = ""
    code: Code | None = None
    study_date: date | None = None
    study_time: time | None = None
    priority: str = ""
    reason: str = ""
    transport_arrangements: str = ""
    intended_recipients: tuple[str, ...] = ()
    comments: str = ""


class ScheduledProcedureStep(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A scheduled procedure step, PS3.3 C.4.10."""

    step_id: str = ""
    station_ae_titles: tuple[str, ...] = ()
    start_date: date | None = None
    start_time: time | None = None
    modality: str = ""
    performing_physician: str = ""
    performing_physician_ids: tuple[PersonIdentification, ...] = ()
    description: str = ""
    protocol_codes: tuple[Code, ...] = ()
    station_names: tuple[str, ...] = ()
    location: str = ""
    pre_medication: str = ""
    contrast_agent: str = ""
    body_part_examined: str = ""
    status: str = "SCHEDULED"


class Entry(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One scheduled procedure step and all that belongs to it: one C-FIND response, PS3.4 K.6.1.2.1."""

    patient: Patient
    procedure: RequestedProcedure
    step: ScheduledProcedureStep
    request: ImagingServiceRequest = ImagingServiceRequest()

    @property
    def key(self) -> tuple[str, str]:
        """What identifies the entry: Study Instance UID and Scheduled Procedure Step ID."""
        return self.procedure.study_instance_uid, self.step.step_id


class Fault(msgspec.Struct, frozen=True, gc=False):
    """What is wrong with one attribute; `attribute` is its keyword, below a sequence `Sequence/Keyword`."""

    attribute: str
    reason: str

    def __str__(self) -> str:
        return f"{self.attribute} {self.reason}"


class EntryError(ValueError):
    """An entry cannot be kept: carries every fault that was found.  The text holds no patient data."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__("; ".join(map(str, faults)))
        self.faults = faults


def dicom_text(value: str | int | float | date | time) -> str | int:
    """Write a single value as its VR wants it, PS3.5 Table 6.2-1: text, but for US."""
    if isinstance(value, date):
        return value.isoformat().replace("-", "")  # strftime writes year 1, which stands for "unknown", without zeros
    if isinstance(value, time):
        return value.strftime("%H%M%S.%f" if value.microsecond else "%H%M%S")
    if isinstance(value, float):
        return f"{value:.6f}".rstrip("0").rstrip(".")
    return value


# --- identifiers that a modality needs and that nobody sent -------------------------------------------------------

_NAMESPACE: Final = UUID("7a6c1c0e-6f0b-5c5e-9d0e-3f6a1a6f5b52")


def complete(entry: Entry) -> Entry:
    """Supply a missing Study Instance UID, Requested Procedure ID and Scheduled Procedure Step ID.

    They are made from what identifies the order, so that the same order sent again gets the same ones.
    """
    request, procedure, step = entry.request, entry.procedure, entry.step
    study_uid, procedure_id, step_id = procedure.study_instance_uid, procedure.procedure_id, step.step_id
    if study_uid and procedure_id and step_id:
        return entry
    name = _order_name(entry)
    accession = request.accession_number
    procedure_id = procedure_id or (accession if 0 < len(accession) <= 16 else _generate_id(study_uid or name))
    study_uid = study_uid or f"2.25.{uuid5(_NAMESPACE, name).int}"
    step_id = step_id or procedure_id
    return msgspec.structs.replace(
        entry,
        procedure=msgspec.structs.replace(procedure, study_instance_uid=study_uid, procedure_id=procedure_id),
        step=msgspec.structs.replace(step, step_id=step_id),
    )


def _order_name(entry: Entry) -> str:
    """Name an order by the best of its identifiers that it has, or else by patient, time and what is done."""
    request, procedure, step = entry.request, entry.procedure, entry.step
    if request.accession_number or procedure.procedure_id:
        issuer = _issuer_names(request.accession_issuer)
        return _join("procedure", *issuer, request.accession_number, procedure.procedure_id)
    if request.filler_order_number or request.placer_order_number:
        filler = (request.filler_order_number, *_issuer_names(request.filler_issuer))
        return _join("order", *filler, request.placer_order_number, *_issuer_names(request.placer_issuer))
    patient = [part for identifier in entry.patient.identifiers[:1] for part in (identifier.value, identifier.issuer)]
    done = (step.modality, step.description, procedure.code.value if procedure.code else "")
    return _join("step", *patient, str(step.start_date), str(step.start_time), *done)


def _issuer_names(issuer: Issuer | None) -> tuple[str, str]:
    return (issuer.namespace, issuer.universal_id) if issuer else ("", "")


def _join(*parts: str) -> str:
    return "\0".join(parts)


def _generate_id(name: str) -> str:
    """Make an identifier of 16 letters and digits, the most that SH holds."""
    return b32encode(uuid5(_NAMESPACE, name).bytes[:10]).decode()
