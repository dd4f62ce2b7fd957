from datetime import date, time

import msgspec
import pytest
from pydicom.dataset import Dataset

from mwl.dataset import check, from_dataset, to_dataset
from mwl.item import (
    Code,
    Entry,
    EntryError,
    ImagingServiceRequest,
    Issuer,
    Patient,
    PatientIdentifier,
    PersonIdentification,
    RequestedProcedure,
    ScheduledProcedureStep,
    complete,
)

FULL = Entry(
    Patient(
        name="Müller^Jörg^^Dr.=山田^太郎",
        identifiers=(
            PatientIdentifier("4711", "CITY", "1.2.3", "ISO"),
            PatientIdentifier("99-1", "TRUST"),
            PatientIdentifier("X7"),
        ),
        birth_date=date(1970, 2, 28),
        sex="M",
        languages=(Code("de", "RFC5646", "German"),),
        ethnic_group="unknown",
        address="Main Street 1",
        mother_birth_name="Schmidt^Anna",
        medical_alerts=("PACEMAKER", "MRSA"),
        allergies=("IODINE",),
        special_needs="wheelchair",
        additional_history="line one\nline two",
        comments="none",
    ),
    RequestedProcedure(
        study_instance_uid="1.2.840.113619.2.1",
        procedure_id="RP1",
        description="CT head",
        code=Code("70450", "CPT", "CT head", "2024"),
        study_date=date(2024, 7, 5),
        study_time=time(9, 30),
        priority="STAT",
        reason="headache",
        transport_arrangements="bed",
        intended_recipients=("House^Gregory", "Wilson^James"),
        comments="as soon as possible",
    ),
    ScheduledProcedureStep(
        step_id="SPS1",
        station_ae_titles=("CT1", "CT2"),
        start_date=date(2024, 7, 5),
        start_time=time(10, 0, 1, 500000),
        modality="CT",
        performing_physician="Curie^Marie",
        performing_physician_ids=(PersonIdentification((Code("P17", "99STAFF", "Marie Curie"),)),),
        description="CT head native",
        protocol_codes=(Code("A-VERY-LONG-CODE-VALUE", "99X", "long"), Code("urn:oid:1.2.3", "99U", "urn")),
        station_names=("CTROOM",),
        location="R1",
        pre_medication="none",
        contrast_agent="iodine",
        body_part_examined="HEAD",
        status="ARRIVED",
    ),
    ImagingServiceRequest(
        accession_number="ACC1",
        accession_issuer=Issuer("RIS", "1.2.3.4", "ISO"),
        placer_issuer=Issuer("HIS"),
        filler_issuer=Issuer("RIS", "1.2.3.4", "ISO"),
        placer_order_number="P1",
        filler_order_number="F1",
        requesting_physician="House^Gregory",
        requesting_service="Neurology",
        referring_physician="Wilson^James",
        institution_name="General Hospital",
        comments="call first",
        admission_id="V1",
        admission_issuer=Issuer("ADT"),
        route_of_admissions="E",
        current_patient_location="W3",
        patient_state="stable",
        pregnancy_status=1,
        patient_size=1.83,
        patient_weight=81.5,
        confidentiality="V",
    ),
)


def minimal() -> Dataset:
    step = Dataset()
    step.Modality = "CT"
    step.ScheduledProcedureStepStartDate = "20240705"
    dataset = Dataset()
    dataset.PatientName = "A^B"
    dataset.PatientID = "1"
    dataset.ScheduledProcedureStepSequence = [step]
    return dataset


def faults_of(dataset: Dataset) -> dict[str, str]:
    with pytest.raises(EntryError) as caught:
        from_dataset(dataset)
    return {fault.attribute: fault.reason for fault in caught.value.faults}


def test_an_entry_survives_the_way_through_a_data_set() -> None:
    assert from_dataset(to_dataset(FULL)) == FULL


def test_an_entry_survives_the_way_through_dicom_json() -> None:
    assert from_dataset(Dataset.from_json(to_dataset(FULL).to_json())) == FULL


def test_an_entry_survives_the_way_through_json() -> None:
    assert msgspec.json.decode(msgspec.json.encode(FULL), type=Entry) == FULL


def test_every_field_of_an_entry_is_in_the_round_trip() -> None:
    for part in (FULL.patient, FULL.procedure, FULL.step, FULL.request):
        for name in part.__struct_fields__:
            assert getattr(part, name) not in (None, "", ()), name


def test_missing_identifiers_are_made_and_the_same_ones_each_time() -> None:
    first, second = from_dataset(minimal()), from_dataset(minimal())
    assert first == second
    assert all(first.key)
    assert first.procedure.procedure_id
    assert first.procedure.study_instance_uid.startswith("2.25.")


def test_a_missing_procedure_id_is_the_accession_number() -> None:
    dataset = minimal()
    dataset.AccessionNumber = "ACC9"
    entry = from_dataset(dataset)
    assert (entry.procedure.procedure_id, entry.step.step_id) == ("ACC9", "ACC9")


def test_two_orders_do_not_get_the_same_study_uid() -> None:
    one, other = minimal(), minimal()
    one.AccessionNumber, other.AccessionNumber = "ACC1", "ACC2"
    assert from_dataset(one).key[0] != from_dataset(other).key[0]


def test_complete_leaves_given_identifiers_alone() -> None:
    assert complete(FULL) is FULL


def test_every_fault_of_a_data_set_is_named_at_once() -> None:
    dataset = minimal()
    del dataset.PatientID
    step = dataset.ScheduledProcedureStepSequence[0]
    step["ScheduledProcedureStepStartDate"]._value = "2024-13-45"
    step["Modality"]._value = "CT\\MR"
    dataset.add_new(0x00080050, "SH", "A" * 16)
    dataset["AccessionNumber"]._value = "A" * 17
    dataset.add_new(0x00101030, "DS", "70")
    dataset["PatientWeight"]._value = "heavy"
    assert faults_of(dataset) == {
        "PatientID": "is missing",
        "ScheduledProcedureStepSequence/ScheduledProcedureStepStartDate": "cannot be read as DA",
        "ScheduledProcedureStepSequence/Modality": "holds a backslash or a control character",
        "AccessionNumber": "has 17 characters, SH holds 16",
        "PatientWeight": "cannot be read as DS",
    }


def test_a_fault_never_quotes_a_value() -> None:
    dataset = minimal()
    dataset.add_new(0x00100030, "DA", "")
    dataset["PatientBirthDate"]._value = "19700231"
    assert "19700231" not in str(faults_of(dataset))


def test_a_data_set_without_a_step_is_refused() -> None:
    dataset = minimal()
    dataset.ScheduledProcedureStepSequence = []
    assert "ScheduledProcedureStepSequence" in faults_of(dataset)


def test_a_data_set_with_two_steps_is_refused() -> None:
    dataset = minimal()
    dataset.ScheduledProcedureStepSequence.append(Dataset())
    assert "2 items" in faults_of(dataset)["ScheduledProcedureStepSequence"]


def test_an_unknown_status_is_refused() -> None:
    dataset = minimal()
    dataset.ScheduledProcedureStepSequence[0].ScheduledProcedureStepStatus = "MAYBE"
    assert "ScheduledProcedureStepSequence/ScheduledProcedureStepStatus" in faults_of(dataset)


@pytest.mark.parametrize("status", [0, 5, -1, 70_000])
def test_R_062_a_pregnancy_status_that_is_none_is_refused_and_spoils_no_answer(status: int) -> None:
    entry = msgspec.structs.replace(FULL, request=ImagingServiceRequest(pregnancy_status=status))
    assert [str(fault) for fault in check(entry)] == ["PregnancyStatus is none of 1, 2, 3 and 4"]


@pytest.mark.parametrize("written", ["nan", "inf", "-Infinity", "1e300"])
def test_a_weight_that_is_no_number_of_dicom_is_refused(written: str) -> None:
    dataset = minimal()
    dataset.add_new(0x00101030, "DS", "70")
    dataset["PatientWeight"]._value = written
    assert list(faults_of(dataset)) == ["PatientWeight"]


@pytest.mark.parametrize("name", ["山田　太郎", "علی\u200cرضا", "Jean\u00a0Luc^\u200eA"])
def test_other_spaces_and_marks_of_direction_are_text(name: str) -> None:
    assert check(msgspec.structs.replace(FULL, patient=msgspec.structs.replace(FULL.patient, name=name))) == ()


def test_what_nobody_sees_at_the_end_of_an_identifier_is_no_part_of_it() -> None:
    dataset = minimal()
    dataset.PatientID = "\u200e4711\u00a0"
    assert from_dataset(dataset).patient.identifiers[0].value == "4711"


@pytest.mark.parametrize("name", ["Doe\nJohn", "Doe\x1b", "Doe\x85", "Doe\\John", "Doe\ud800"])
def test_control_characters_are_no_text(name: str) -> None:
    entry = msgspec.structs.replace(FULL, patient=msgspec.structs.replace(FULL.patient, name=name))
    assert [fault.attribute for fault in check(entry)] == ["PatientName"]


def test_a_wrong_uid_is_refused() -> None:
    entry = msgspec.structs.replace(FULL, procedure=RequestedProcedure(study_instance_uid="1.2.x"))
    assert [str(fault) for fault in check(entry)] == ["StudyInstanceUID is no UID"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10", time(10)),
        ("1030", time(10, 30)),
        ("103015.25", time(10, 30, 15, 250000)),
        ("10:30:15", time(10, 30, 15)),
    ],
)
def test_a_start_time_may_be_written_short(text: str, expected: time) -> None:
    dataset = minimal()
    dataset.ScheduledProcedureStepSequence[0].add_new(0x00400003, "TM", "10")
    dataset.ScheduledProcedureStepSequence[0]["ScheduledProcedureStepStartTime"]._value = text
    assert from_dataset(dataset).step.start_time == expected


def test_ids_of_the_retired_attribute_are_taken_over() -> None:
    dataset = minimal()
    dataset.OtherPatientIDs = ["7", "8"]
    assert from_dataset(dataset).patient.identifiers == tuple(map(PatientIdentifier, ("1", "7", "8")))


@pytest.mark.parametrize(("written", "kept"), [("M", "M"), ("f", "F"), ("O", "O"), ("A", "O"), ("N", "O"), ("U", "")])
def test_R_061_a_sex_that_dicom_does_not_enumerate_is_other_or_unknown(written: str, kept: str) -> None:
    dataset = minimal()
    dataset.PatientSex = written.upper()
    dataset["PatientSex"]._value = written
    assert from_dataset(dataset).patient.sex == kept
