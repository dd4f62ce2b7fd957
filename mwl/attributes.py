"""The attributes of a worklist entry, PS3.4 Table K.6-1, as one table that every other module reads."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

__all__ = [
    "ATTRIBUTES",
    "BY_KEYWORD_PATH",
    "BY_PATH",
    "CHILDREN",
    "SPS_SEQUENCE",
    "Attribute",
    "Kind",
    "Mode",
    "is_supported",
    "kinds",
]

Mode = Literal["all", "statement"]
Kind = Literal["single", "wildcard", "range", "uid-list", "sequence"]


class Attribute(msgspec.Struct, frozen=True, gc=False):
    """One row of the table: a supported key, which matching it has, and where its value comes from.

    `source` is a dotted path from an `Entry`, or below a sequence from the object that the item stands for.
    One that starts with `=` is computed, by the function of that name in `derived`.
    """

    row: int
    path: tuple[int, ...]
    vr: str
    multiple: bool
    keyword: str
    statement: tuple[Kind, ...]
    key_type: str
    return_type: str
    source: str
    keyword_path: str

    @property
    def tag(self) -> int:
        """The attribute's own tag, the last of its path."""
        return self.path[-1]


# `#` is 0 for keys beyond the conformance statement that this provider reproduces.  `match` is that statement's:
# S single value, R range, W wild card, C without regard to case, Q sequence, - return only.  `std` is the matching
# key type of PS3.4 Table K.6-1 (R required, O optional, - never matched), `ret` its return key type.
# fmt: off
_TABLE = """
#  tag         VR VM  keyword                                           match std ret source
1  0008,0005   CS 1-n SpecificCharacterSet                              -     -   1C  =character_set
28 0008,0020   DA 1   StudyDate                                         -     O   3   procedure.study_date
29 0008,0030   TM 1   StudyTime                                         -     O   3   procedure.study_time
37 0008,0050   SH 1   AccessionNumber                                   S     O   2   request.accession_number
0  0008,0051   SQ 1   IssuerOfAccessionNumberSequence                   -     O   3   request.accession_issuer
0  >0040,0031  UT 1   LocalNamespaceEntityID                            -     O   1C  namespace
0  >0040,0032  UT 1   UniversalEntityID                                 -     O   1C  universal_id
0  >0040,0033  CS 1   UniversalEntityIDType                             -     O   1C  universal_id_type
0  0008,0080   LO 1   InstitutionName                                   -     O   3   request.institution_name
40 0008,0090   PN 1   ReferringPhysicianName                            -     O   2   request.referring_physician
30 0008,1110   SQ 1   ReferencedStudySequence                           -     O   2   =referenced_study
31 >0008,1150  UI 1   ReferencedSOPClassUID                             -     O   1   sop_class_uid
32 >0008,1155  UI 1   ReferencedSOPInstanceUID                          -     O   1   sop_instance_uid
44 0008,1120   SQ 1   ReferencedPatientSequence                         -     O   2   =referenced_patient
45 0010,0010   PN 1   PatientName                                       SWC   R   1   patient.name
46 0010,0020   LO 1   PatientID                                         S     R   1   =patient_id
47 0010,0021   LO 1   IssuerOfPatientID                                 -     O   3   =issuer_of_patient_id
48 0010,0022   CS 1   TypeOfPatientID                                   -     O   3   =type_of_patient_id
0  0010,0024   SQ 1   IssuerOfPatientIDQualifiersSequence               -     O   3   =issuer_qualifiers
0  >0040,0032  UT 1   UniversalEntityID                                 -     O   3   universal_id
0  >0040,0033  CS 1   UniversalEntityIDType                             -     O   1C  universal_id_type
54 0010,0030   DA 1   PatientBirthDate                                  -     O   2   patient.birth_date
55 0010,0040   CS 1   PatientSex                                        -     O   2   patient.sex
57 0010,0101   SQ 1   PatientPrimaryLanguageCodeSequence                -     O   3   patient.languages
58 >0008,0100  SH 1   CodeValue                                         -     O   1C  short_value
59 >0008,0102  SH 1   CodingSchemeDesignator                            -     O   1C  scheme
60 >0008,0103  SH 1   CodingSchemeVersion                               -     O   1C  version
61 >0008,0104  LO 1   CodeMeaning                                       -     O   1   meaning
0  >0008,0119  UC 1   LongCodeValue                                     -     O   1C  long_value
0  >0008,0120  UR 1   URNCodeValue                                      -     O   1C  urn_value
49 0010,1000   LO 1-n OtherPatientIDs                                   -     O   3   =other_patient_ids
50 0010,1002   SQ 1   OtherPatientIDsSequence                           -     O   3   =other_identifiers
51 >0010,0020  LO 1   PatientID                                         -     O   3   value
52 >0010,0021  LO 1   IssuerOfPatientID                                 -     O   3   issuer
53 >0010,0022  CS 1   TypeOfPatientID                                   -     O   3   type_of_id
0  >0010,0024  SQ 1   IssuerOfPatientIDQualifiersSequence               -     O   3   qualifiers
0  >>0040,0032 UT 1   UniversalEntityID                                 -     O   3   universal_id
0  >>0040,0033 CS 1   UniversalEntityIDType                             -     O   1C  universal_id_type
56 0010,1010   AS 1   PatientAge                                        -     O   3   =age
62 0010,1020   DS 1   PatientSize                                       -     O   3   request.patient_size
63 0010,1030   DS 1   PatientWeight                                     -     O   2   request.patient_weight
0  0010,1040   LO 1   PatientAddress                                    -     O   3   patient.address
0  0010,1060   PN 1   PatientMotherBirthName                            -     O   3   patient.mother_birth_name
69 0010,2000   LO 1-n MedicalAlerts                                     -     O   2   patient.medical_alerts
70 0010,2110   LO 1-n Allergies                                         -     O   2   patient.allergies
64 0010,2160   SH 1   EthnicGroup                                       -     O   3   patient.ethnic_group
68 0010,21B0   LT 1   AdditionalPatientHistory                          -     O   3   patient.additional_history
67 0010,21C0   US 1   PregnancyStatus                                   -     O   2   =pregnancy_status
0  0010,4000   LT 1   PatientComments                                   -     O   3   patient.comments
27 0020,000D   UI 1   StudyInstanceUID                                  -     O   1   procedure.study_instance_uid
38 0032,1032   PN 1   RequestingPhysician                               -     O   2   request.requesting_physician
39 0032,1033   LO 1   RequestingService                                 -     O   3   request.requesting_service
21 0032,1060   LO 1   RequestedProcedureDescription                     -     O   1C  procedure.description
22 0032,1064   SQ 1   RequestedProcedureCodeSequence                    -     O   1C  procedure.code
23 >0008,0100  SH 1   CodeValue                                         -     O   1C  short_value
24 >0008,0102  SH 1   CodingSchemeDesignator                            -     O   1C  scheme
25 >0008,0103  SH 1   CodingSchemeVersion                               -     O   3   version
26 >0008,0104  LO 1   CodeMeaning                                       -     O   3   meaning
0  >0008,0119  UC 1   LongCodeValue                                     -     O   1C  long_value
0  >0008,0120  UR 1   URNCodeValue                                      -     O   1C  urn_value
42 0038,0010   LO 1   AdmissionID                                       -     O   2   request.admission_id
0  0038,0014   SQ 1   IssuerOfAdmissionIDSequence                       -     O   3   request.admission_issuer
0  >0040,0031  UT 1   LocalNamespaceEntityID                            -     O   1C  namespace
0  >0040,0032  UT 1   UniversalEntityID                                 -     O   1C  universal_id
0  >0040,0033  CS 1   UniversalEntityIDType                             -     O   1C  universal_id_type
0  0038,0016   LO 1   RouteOfAdmissions                                 -     O   3   request.route_of_admissions
71 0038,0050   LO 1   SpecialNeeds                                      -     O   2   patient.special_needs
43 0038,0300   LO 1   CurrentPatientLocation                            -     O   2   request.current_patient_location
66 0038,0500   LO 1   PatientState                                      -     O   2   request.patient_state
0  0040,0026   SQ 1   OrderPlacerIdentifierSequence                     -     O   3   request.placer_issuer
0  >0040,0031  UT 1   LocalNamespaceEntityID                            -     O   1C  namespace
0  >0040,0032  UT 1   UniversalEntityID                                 -     O   1C  universal_id
0  >0040,0033  CS 1   UniversalEntityIDType                             -     O   1C  universal_id_type
0  0040,0027   SQ 1   OrderFillerIdentifierSequence                     -     O   3   request.filler_issuer
0  >0040,0031  UT 1   LocalNamespaceEntityID                            -     O   1C  namespace
0  >0040,0032  UT 1   UniversalEntityID                                 -     O   1C  universal_id
0  >0040,0033  CS 1   UniversalEntityIDType                             -     O   1C  universal_id_type
2  0040,0100   SQ 1   ScheduledProcedureStepSequence                    Q     R   1   step
6  >0008,0060  CS 1   Modality                                          S     R   1   modality
0  >0018,0015  CS 1   BodyPartExamined                                  -     O   3   body_part_examined
18 >0032,1070  LO 1   RequestedContrastAgent                            -     O   2C  contrast_agent
3  >0040,0001  AE 1-n ScheduledStationAETitle                           S     R   1   station_ae_titles
4  >0040,0002  DA 1   ScheduledProcedureStepStartDate                   SR    R   1   start_date
5  >0040,0003  TM 1   ScheduledProcedureStepStartTime                   SR    R   1   start_time
7  >0040,0006  PN 1   ScheduledPerformingPhysicianName                  SWC   R   2   performing_physician
8  >0040,0007  LO 1   ScheduledProcedureStepDescription                 -     O   1C  description
9  >0040,0008  SQ 1   ScheduledProtocolCodeSequence                     -     O   1C  protocol_codes
10 >>0008,0100 SH 1   CodeValue                                         -     O   1C  short_value
11 >>0008,0102 SH 1   CodingSchemeDesignator                            -     O   1C  scheme
12 >>0008,0103 SH 1   CodingSchemeVersion                               -     O   3   version
13 >>0008,0104 LO 1   CodeMeaning                                       -     O   3   meaning
0  >>0008,0119 UC 1   LongCodeValue                                     -     O   1C  long_value
0  >>0008,0120 UR 1   URNCodeValue                                      -     O   1C  urn_value
17 >0040,0009  SH 1   ScheduledProcedureStepID                          -     O   1   step_id
0  >0040,000B  SQ 1   ScheduledPerformingPhysicianIdentificationSequence - O   3   performing_physician_ids
0  >>0040,1101 SQ 1   PersonIdentificationCodeSequence                  -     O   1   person_codes
0  >>>0008,0100 SH 1  CodeValue                                         -     O   1C  short_value
0  >>>0008,0102 SH 1  CodingSchemeDesignator                            -     O   1C  scheme
0  >>>0008,0103 SH 1  CodingSchemeVersion                               -     O   3   version
0  >>>0008,0104 LO 1  CodeMeaning                                       -     O   3   meaning
0  >>>0008,0119 UC 1  LongCodeValue                                     -     O   1C  long_value
0  >>>0008,0120 UR 1  URNCodeValue                                      -     O   1C  urn_value
14 >0040,0010  SH 1-n ScheduledStationName                              -     O   2   station_names
15 >0040,0011  SH 1   ScheduledProcedureStepLocation                    -     O   2   location
16 >0040,0012  LO 1   PreMedication                                     -     O   2C  pre_medication
19 >0040,0020  CS 1   ScheduledProcedureStepStatus                      -     O   3   status
20 0040,1001   SH 1   RequestedProcedureID                              -     O   1   procedure.procedure_id
0  0040,1002   LO 1   ReasonForTheRequestedProcedure                    -     O   3   procedure.reason
33 0040,1003   SH 1   RequestedProcedurePriority                        -     O   2   procedure.priority
34 0040,1004   LO 1   PatientTransportArrangements                      -     O   2   procedure.transport_arrangements
36 0040,1010   PN 1-n NamesOfIntendedRecipientsOfResults                -     O   3   procedure.intended_recipients
35 0040,1400   LT 1   RequestedProcedureComments                        -     O   3   procedure.comments
0  0040,2016   LO 1   PlacerOrderNumberImagingServiceRequest            -     O   3   request.placer_order_number
0  0040,2017   LO 1   FillerOrderNumberImagingServiceRequest            -     O   3   request.filler_order_number
41 0040,2400   LT 1   ImagingServiceRequestComments                     -     O   3   request.comments
65 0040,3001   LO 1   ConfidentialityConstraintOnPatientDataDescription -     O   2   request.confidentiality
"""
# fmt: on

_LETTERS: Final[dict[str, Kind]] = {"S": "single", "R": "range", "W": "wildcard", "Q": "sequence"}

# PS3.4 C.2.2.2: which kinds of matching a VR has; a VR not named has single value matching only.
_KINDS_OF_VR: Final[dict[str, tuple[Kind, ...]]] = {
    **dict.fromkeys(("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"), ("single", "wildcard")),
    **dict.fromkeys(("DA", "DT", "TM"), ("single", "range")),
    "SQ": ("sequence",),
    "UI": ("uid-list",),
}


def _decode_table(text: str) -> tuple[Attribute, ...]:
    found: list[Attribute] = []
    parents: list[tuple[int, str]] = []
    for line in text.strip().splitlines()[1:]:
        row, place, vr, vm, keyword, match, key_type, return_type, source = line.split()
        depth = place.count(">")
        tag = int(place.lstrip(">").replace(",", ""), 16)
        parents[depth:] = [(tag, keyword)]
        attribute = Attribute(
            row=int(row),
            path=tuple(tag for tag, _ in parents),
            vr=vr,
            multiple=vm != "1",
            keyword=keyword,
            statement=tuple(_LETTERS[letter] for letter in match if letter in _LETTERS),
            key_type=key_type,
            return_type=return_type,
            source=source,
            keyword_path="/".join(name for _, name in parents),
        )
        found.append(attribute)
    return tuple(found)


ATTRIBUTES: Final = _decode_table(_TABLE)
BY_PATH: Final = {attribute.path: attribute for attribute in ATTRIBUTES}
BY_KEYWORD_PATH: Final = {attribute.keyword_path: attribute for attribute in ATTRIBUTES}
CHILDREN: Final = {
    path: tuple(attribute for attribute in ATTRIBUTES if attribute.path[:-1] == path)
    for path in {attribute.path[:-1] for attribute in ATTRIBUTES}
}
"""The rows directly below a sequence, by its path; those of the data set itself below `()`."""

SPS_SEQUENCE: Final = 0x00400100
"""Scheduled Procedure Step Sequence: always exactly one item in a response, PS3.4 Table K.6-1."""


def is_supported(attribute: Attribute, mode: Mode) -> bool:
    """Tell whether a key is one of this provider, or of the conformance statement that it reproduces."""
    return mode == "all" or attribute.row > 0


def kinds(attribute: Attribute, mode: Mode) -> tuple[Kind, ...]:
    """Name the kinds of matching that a key has: those of its VR, or only those of the conformance statement."""
    if attribute.key_type == "-":
        return ()  # Specific Character Set is never matched, PS3.4 K.2.2.2
    return attribute.statement if mode == "statement" else _KINDS_OF_VR.get(attribute.vr, ("single",))
