from __future__ import annotations

from datetime import date, datetime, time
from typing import Any

import pytest
from samples import NOW, answer, compiled, data_set, element, entry, step_of, value, worklist
from test_item import FULL

from dulproto import EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE, DataSet
from mwl.charset import LATIN_1
from mwl.config import Rules
from mwl.derived import age
from mwl.item import Code, Entry, PatientIdentifier
from mwl.query import QueryPolicy
from mwl.response import ResponsePolicy, response_encoder

IDS = (PatientIdentifier("1", "CITY"), PatientIdentifier("2", "TRUST", "1.2.3", "ISO"), PatientIdentifier("3"))


def get(one: Entry, keyword: str, policy: ResponsePolicy | None = None, now: datetime = NOW) -> bytes:
    return value(answer(one, compiled(None, **{keyword: ""}), policy, now), keyword)


def items(answered: DataSet, keyword: str) -> tuple[DataSet, ...]:
    return next(each for tag, each in answered.items() if each.tag == element(keyword).tag).items


# --- which attributes ---------------------------------------------------------------------------------------------


def test_R_049_only_what_was_asked_for_is_returned_and_specific_character_set() -> None:
    answered = answer(FULL, compiled({"Modality": ""}, PatientName="", PatientID=""))
    assert set(answered) == {0x00080005, 0x00100010, 0x00100020, 0x00400100}
    assert set(step_of(answered)) == {0x00080060}


def test_R_049_what_has_no_value_is_returned_empty() -> None:
    answered = answer(entry(), compiled({"PreMedication": ""}, PatientBirthDate="", PatientWeight="", PatientAge=""))
    assert [value(answered, keyword) for keyword in ("PatientBirthDate", "PatientWeight", "PatientAge")] == [b""] * 3
    assert value(step_of(answered), "PreMedication") == b""


def test_R_049_there_are_no_empty_items() -> None:
    code = [data_set([element("CodeValue"), element("CodeMeaning")])]
    answered = answer(
        entry(),
        compiled(
            {"ScheduledProtocolCodeSequence": code}, RequestedProcedureCodeSequence=[], OtherPatientIDsSequence=[]
        ),
    )
    for keyword in ("RequestedProcedureCodeSequence", "OtherPatientIDsSequence"):
        assert items(answered, keyword) == ()
    assert items(step_of(answered), "ScheduledProtocolCodeSequence") == ()


def test_the_step_sequence_has_one_item_even_if_all_of_it_is_empty() -> None:
    assert value(step_of(answer(entry(), compiled({"PreMedication": ""}))), "PreMedication") == b""


def test_R_048_an_empty_sequence_key_returns_the_whole_item() -> None:
    step = step_of(answer(FULL, compiled({})))
    assert value(step, "Modality") == b"CT"
    assert value(step, "ScheduledStationAETitle") == b"CT1\\CT2"
    assert value(step, "ScheduledProcedureStepStartTime") == b"100001.500000"
    assert len(items(step, "ScheduledProtocolCodeSequence")) == 2


def test_Q_15_keys_of_the_step_at_the_root_come_back_empty_beside_the_sequence() -> None:
    answered = answer(FULL, compiled(None, Modality="CT"))
    assert value(answered, "Modality") == b""
    assert value(step_of(answered), "Modality") == b"CT"


def test_only_the_asked_keys_of_an_item_are_returned() -> None:
    answered = answer(FULL, compiled(None, RequestedProcedureCodeSequence=[data_set([element("CodeMeaning")])]))
    (item,) = items(answered, "RequestedProcedureCodeSequence")
    assert set(item) == {0x00080104}


def test_a_long_code_has_its_own_attribute() -> None:
    step = step_of(answer(FULL, compiled({"ScheduledProtocolCodeSequence": []})))
    long, urn = items(step, "ScheduledProtocolCodeSequence")
    assert (value(long, "CodeValue"), value(long, "LongCodeValue")) == (b"", b"A-VERY-LONG-CODE-VALUE")
    assert value(urn, "URNCodeValue") == b"urn:oid:1.2.3"
    assert 0x00080119 not in urn


def test_Q_71_the_identifiers_that_a_modality_needs_are_always_there() -> None:
    answered = answer(FULL, compiled({"ScheduledProcedureStepID": ""}, StudyInstanceUID="", RequestedProcedureID=""))
    assert value(answered, "StudyInstanceUID") == b"1.2.840.113619.2.1"
    assert value(answered, "RequestedProcedureID") == b"RP1"
    assert value(step_of(answered), "ScheduledProcedureStepID") == b"SPS1"


@pytest.mark.parametrize("transfer_syntax", [IMPLICIT_LE, EXPLICIT_LE, EXPLICIT_BE])
def test_every_transfer_syntax_carries_the_same(transfer_syntax: str) -> None:
    query = compiled(
        {}, PatientName="", PregnancyStatus=b"", PatientSize="", StudyDate="", OtherPatientIDsSequence=[]
    )
    assert answer(FULL, query, transfer_syntax=transfer_syntax) == answer(FULL, query)


# --- character sets -----------------------------------------------------------------------------------------------


def test_R_050_every_answer_has_the_configured_character_set_whatever_the_request_names() -> None:
    for declared in ("", "ISO_IR 192", "ISO_IR 144"):
        answered = answer(FULL, compiled(None, SpecificCharacterSet=declared, PatientName=""))
        assert value(answered, "SpecificCharacterSet") == b"ISO_IR 100"
    assert value(answer(FULL, compiled(None, PatientName="")), "SpecificCharacterSet") == b"ISO_IR 100"


def test_R_050_text_is_encoded_in_the_set_that_is_named() -> None:
    name = "Müller^Łukasz"
    for term, expected in (
        ("ISO_IR 100", b"M\xfcller^Lukasz"),
        ("ISO_IR 192", name.encode()),
        ("ISO_IR 6", b"Muller^Lukasz"),
        ("ISO_IR 101", name.encode("iso8859_2")),
    ):
        assert get(entry(name=name), "PatientName", ResponsePolicy(character_set=term)) == expected


@pytest.mark.parametrize(
    ("name", "term", "expected"),
    [
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "ISO_IR 100", b"Yamada^Tarou"),
        ("Yamada^Tarou=山田^太郎=ﾔﾏﾀﾞ^ﾀﾛｳ", "ISO_IR 13", b"Yamada^Tarou==\xd4\xcf\xc0\xde^\xc0\xdb\xb3"),
        ("山^A=Petrov^P=Пётр", "ISO_IR 100", b"?^A=Petrov^P=Petr"),
        ("=山田^太郎", "ISO_IR 100", b"=??^??"),  # nothing else is there, and a name has a value
    ],
)
def test_R_050_of_a_name_only_the_groups_that_a_set_has_are_answered(name: str, term: str, expected: bytes) -> None:
    assert get(entry(name=name), "PatientName", ResponsePolicy(character_set=term)) == expected


def test_R_050_the_set_can_follow_the_request() -> None:
    policy = ResponsePolicy(character_set="auto")
    for declared, term in (("ISO_IR 192", b"ISO_IR 192"), ("ISO IR 144", b"ISO_IR 144"), ("", b"ISO_IR 100")):
        answered = answer(FULL, compiled(None, SpecificCharacterSet=declared), policy)
        assert value(answered, "SpecificCharacterSet") == term


@pytest.mark.parametrize(
    ("term", "name"),
    [
        ("ISO_IR 144", "Иванов^Пётр"),
        ("\\ISO 2022 IR 87", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("\\ISO 2022 IR 149", "Hong^Gildong=洪^吉洞=홍^길동"),
        ("GB18030", "Wang^XiaoDong=王^小东"),
        ("ISO_IR 192", "Μπουζούκι^Ğ=山田"),
    ],
)
def test_pydicom_reads_the_names_that_are_sent(term: str, name: str) -> None:
    from io import BytesIO

    from pydicom import dcmread

    one = entry(name=name)
    query, policy = compiled(None, PatientName=""), ResponsePolicy(character_set=term)
    slot = worklist(one).select((), NOW.date())[0]
    encoded = response_encoder(query, EXPLICIT_LE, policy, NOW.date()).encode(slot)
    assert str(dcmread(BytesIO(encoded), force=True).PatientName) == name


def test_Q_70_the_character_set_can_be_left_out_of_answers_in_ascii() -> None:
    policy = ResponsePolicy(omit_ascii_character_set=True)
    assert 0x00080005 not in answer(entry(), compiled({"Modality": ""}, PatientName=""), policy)
    assert 0x00080005 in answer(entry(name="Müller"), compiled(None, PatientName=""), policy)
    assert 0x00080005 in answer(entry(), compiled(None, SpecificCharacterSet=""), policy)
    for term, name in (("\\ISO 2022 IR 87", "山田"), ("\\ISO 2022 IR 149", "洪")):  # in bytes of ASCII, or not
        extended = ResponsePolicy(omit_ascii_character_set=True, character_set=term)
        assert 0x00080005 in answer(entry(name=name), compiled(None, PatientName=""), extended)
        code = Code("1", "99A", name)
        item = data_set([element("CodeMeaning")])
        query = compiled(None, RequestedProcedureCodeSequence=[item])
        assert 0x00080005 in answer(entry(code=code), query, extended)


# --- patient identifiers ------------------------------------------------------------------------------------------


def test_R_056_the_primary_identifier_is_that_of_the_worklist_s_domain() -> None:
    one = entry(identifiers=IDS)
    assert get(one, "PatientID") == b"1"
    assert get(one, "PatientID", ResponsePolicy(primary_patient_id_issuer="TRUST")) == b"2"
    assert get(one, "IssuerOfPatientID", ResponsePolicy(primary_patient_id_issuer="TRUST")) == b"TRUST"
    assert get(one, "PatientID", ResponsePolicy(primary_patient_id_issuer="NOWHERE")) == b"1"


def test_R_057_the_other_identifiers_stand_in_both_attributes() -> None:
    answered = answer(entry(identifiers=IDS), compiled(None, OtherPatientIDs="", OtherPatientIDsSequence=[]))
    assert value(answered, "OtherPatientIDs") == b"2\\3"
    found = items(answered, "OtherPatientIDsSequence")
    assert [value(item, "PatientID") for item in found] == [b"2", b"3"]
    assert [value(item, "IssuerOfPatientID") for item in found] == [b"TRUST", b""]
    assert [value(item, "TypeOfPatientID") for item in found] == [b"TEXT", b"TEXT"]
    ((qualifier,), nothing) = [items(item, "IssuerOfPatientIDQualifiersSequence") for item in found]
    assert (value(qualifier, "UniversalEntityID"), nothing) == (b"1.2.3", ())


def test_R_057_without_other_identifiers_both_are_empty() -> None:
    answered = answer(entry(), compiled(None, OtherPatientIDs="", OtherPatientIDsSequence=[]))
    assert (value(answered, "OtherPatientIDs"), items(answered, "OtherPatientIDsSequence")) == (b"", ())


def test_other_identifiers_can_be_separated_by_commas() -> None:
    assert get(entry(identifiers=IDS), "OtherPatientIDs", ResponsePolicy(other_patient_ids_separator=",")) == b"2,3"


# --- derived values -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("birth_date", "today", "expected"),
    [
        (date(2024, 7, 5), date(2024, 7, 5), "000D"),
        (date(2024, 6, 6), date(2024, 7, 5), "029D"),
        (date(2024, 6, 5), date(2024, 7, 5), "001M"),
        (date(2022, 7, 6), date(2024, 7, 5), "023M"),
        (date(2022, 7, 5), date(2024, 7, 5), "002Y"),
        (date(1970, 7, 6), date(2024, 7, 5), "053Y"),
        (date(1970, 7, 5), date(2024, 7, 5), "054Y"),
        (date(1970, 7, 4), date(2024, 7, 5), "054Y"),
        (date(2000, 2, 29), date(2023, 2, 28), "022Y"),
        (date(2000, 2, 29), date(2023, 3, 1), "023Y"),
        (date(2024, 7, 6), date(2024, 7, 5), ""),
        (None, date(2024, 7, 5), ""),
    ],
)
def test_R_060_age(birth_date: date | None, today: date, expected: str) -> None:
    assert age(birth_date, today) == expected


def test_R_060_the_age_is_not_kept_over_midnight() -> None:
    one = entry(birth_date=date(1970, 7, 6))
    slot = worklist(one).select((), NOW.date())[0]
    query = compiled(None, PatientName="", PatientAge="")

    def on(today: date) -> bytes:
        return response_encoder(query, IMPLICIT_LE, ResponsePolicy(), today).encode(slot)

    assert (b"053Y" in on(date(2024, 7, 5)), b"054Y" in on(date(2024, 7, 6))) == (True, True)


@pytest.mark.parametrize("sex", ["M", "F", "O", ""])
def test_R_061_sex(sex: str) -> None:
    assert get(entry(sex=sex), "PatientSex") == sex.encode()


@pytest.mark.parametrize(
    ("coded", "sex", "expected"),
    [(3, "F", 3), (2, "", 2), (1, "F", 1), (None, "M", 1), (None, "F", 4), (None, "", 4), (2, "M", 2)],
)
def test_R_062_pregnancy_status(coded: int | None, sex: str, expected: int) -> None:
    answered = answer(entry(pregnancy_status=coded, sex=sex), compiled(None, PregnancyStatus=b""))
    assert answered[0x001021C0].raw == bytes((expected, 0))


def test_R_063_fixed_values() -> None:
    query = compiled(None, TypeOfPatientID="", ReferencedStudySequence=[], ReferencedPatientSequence=[])
    answered = answer(entry(), query)
    assert value(answered, "TypeOfPatientID") == b"TEXT"
    (item,) = items(answered, "ReferencedStudySequence")
    assert value(item, "ReferencedSOPClassUID") == b"1.2.840.10008.3.1.2.3.1"
    assert value(item, "ReferencedSOPInstanceUID") == b"1.2.3.1"
    assert items(answered, "ReferencedPatientSequence") == ()


def test_R_063_attributes_can_be_kept_empty_whatever_is_known() -> None:
    empty = ResponsePolicy(
        always_empty=("Allergies", "OtherPatientIDsSequence", "ScheduledProcedureStepSequence/PreMedication")
    )
    query = compiled({"PreMedication": ""}, Allergies="", MedicalAlerts="", OtherPatientIDsSequence=[])
    answered = answer(FULL, query, empty)
    assert (value(answered, "Allergies"), value(answered, "MedicalAlerts")) == (b"", b"PACEMAKER\\MRSA")
    assert items(answered, "OtherPatientIDsSequence") == ()
    assert value(step_of(answered), "PreMedication") == b""


def test_R_064_names_are_person_names() -> None:
    query = compiled({"ScheduledPerformingPhysicianName": ""}, RequestingPhysician="", ReferringPhysicianName="")
    answered = answer(FULL, query)
    assert value(answered, "RequestingPhysician") == b"House^Gregory"
    assert value(answered, "ReferringPhysicianName") == b"Wilson^James"
    assert value(step_of(answered), "ScheduledPerformingPhysicianName") == b"Curie^Marie"


# --- devices that need something else -----------------------------------------------------------------------------


def test_Q_74_names_in_capitals_and_of_three_components() -> None:
    one = entry(name="Müller^Jörg^A^Dr.^jr.=山田^太郎")
    policy = ResponsePolicy("ISO_IR 192", upper_case_names=True, name_components=3)
    assert get(one, "PatientName", policy).decode() == "MÜLLER^JÖRG^A=山田^太郎"


def test_Q_75_the_alphabetic_group_alone() -> None:
    policy = ResponsePolicy("ISO_IR 192", alphabetic_names_only=True)
    assert get(entry(name="Yamada^Tarou=山田^太郎"), "PatientName", policy) == b"Yamada^Tarou"


def test_Q_76_default_values_stand_in_for_what_is_not_known() -> None:
    policy = ResponsePolicy(default_values=(("PatientWeight", "70"), ("PatientBirthDate", "19000101")))
    assert get(entry(), "PatientWeight", policy) == b"70"
    assert get(entry(patient_weight=81.5), "PatientWeight", policy) == b"81.5"
    assert get(entry(birth_date=date(1970, 1, 1)), "PatientBirthDate", policy) == b"19700101"


# --- what is kept -------------------------------------------------------------------------------------------------


def test_an_answer_is_made_once_and_again_when_the_entry_changed() -> None:
    made = worklist(entry())
    query = compiled({"Modality": ""})
    encoder = response_encoder(query, IMPLICIT_LE, ResponsePolicy(), NOW.date())
    (slot,) = made.select((), NOW.date())
    assert encoder.encode(slot) is encoder.encode(slot)
    made.put(entry(modality="MR"))
    (changed,) = made.select((), NOW.date())
    assert b"MR" in encoder.encode(changed)


def test_queries_with_the_same_return_keys_share_an_encoder() -> None:
    one, other = compiled({"Modality": "CT"}), compiled({"Modality": "MR"})
    encoders = {response_encoder(each, IMPLICIT_LE, ResponsePolicy(), NOW.date()) for each in (one, other)}
    assert len(encoders) == 1


def test_what_is_kept_with_an_entry_is_bounded() -> None:
    (slot,) = worklist(entry()).select((), NOW.date())
    for keyword in ("PatientName", "PatientID", "PatientSex", "StudyInstanceUID", "AccessionNumber", "Allergies"):
        response_encoder(compiled(None, **{keyword: ""}), IMPLICIT_LE, ResponsePolicy(), NOW.date()).encode(slot)
    assert len(slot.encoded) == 8


def test_policies_are_taken_from_the_configuration_s_rules() -> None:
    rules = Rules(strict=True, character_set="ISO_IR 192", default_values={"PatientWeight": "70"})
    assert QueryPolicy.of(rules).strict
    assert ResponsePolicy.of(rules).default_values == (("PatientWeight", "70"),)
    for policy in (QueryPolicy.of(rules), ResponsePolicy.of(rules)):
        hash(policy)
    assert set(QueryPolicy.__struct_fields__) <= set(Rules.__struct_fields__)
    assert QueryPolicy.of(Rules()) == QueryPolicy()
    assert ResponsePolicy.of(Rules()) == ResponsePolicy()
    assert LATIN_1.value == ResponsePolicy().character_set


def test_dates_times_and_numbers_are_written_as_their_vr_wants() -> None:
    born = date(1, 1, 1)  # as some systems write that they do not know
    day, at = date(2024, 1, 2), time(3, 4, 5)
    one = entry(study_date=day, study_time=at, patient_size=1.8, patient_weight=70.25, birth_date=born)
    expected: dict[str, Any] = {
        "PatientBirthDate": b"00010101",
        "StudyDate": b"20240102",
        "StudyTime": b"030405",
        "PatientSize": b"1.8",
        "PatientWeight": b"70.25",
    }
    for keyword, text in expected.items():
        assert get(one, keyword) == text


def test_a_code_sequence_is_returned_whole() -> None:
    answered = answer(entry(code=Code("A", "B", "C")), compiled(None, RequestedProcedureCodeSequence=[]))
    (item,) = items(answered, "RequestedProcedureCodeSequence")
    assert value(item, "CodeMeaning") == b"C"


def test_of_a_sequence_that_is_matched_only_the_matching_items_are_returned() -> None:
    one = entry(protocol_codes=(Code("A", "X", "first"), Code("B", "Y", "second"), Code("A", "Z", "third")))
    item = data_set([element("CodeValue", "A"), element("CodeMeaning")])
    step = step_of(answer(one, compiled({"ScheduledProtocolCodeSequence": [item]})))
    found = items(step, "ScheduledProtocolCodeSequence")
    assert [value(each, "CodeMeaning") for each in found] == [b"first", b"third"]


def test_R_055_one_answer_has_identifiers_of_several_domains() -> None:
    assert [get(entry(identifiers=(each,)), "IssuerOfPatientID") for each in IDS] == [b"CITY", b"TRUST", b""]
