import pytest
from hypothesis import given
from hypothesis import strategies as st

from dulproto.elements import DataSet, Element, decode_data_set, encode_data_set
from dulproto.uids import EXPLICIT_LE
from mwl.attributes import ATTRIBUTES, SPS_SEQUENCE
from mwl.keys import RETURN_KEYS, KeysError, decode_keys, query_keys

MODALITY_CT: DataSet = {SPS_SEQUENCE: Element(SPS_SEQUENCE, "SQ", ({0x00080060: Element(0x00080060, "CS", b"CT")},))}


def faults_of(*texts: str) -> list[str]:
    with pytest.raises(KeysError) as caught:
        decode_keys(texts)
    return caught.value.faults


@pytest.mark.parametrize(
    "text", ["PatientName=DOE*", "0010,0010=DOE*", "(0010,0010)=DOE*", "00100010=DOE*", " PatientName =DOE*"]
)
def test_a_key_is_a_keyword_or_a_tag(text: str) -> None:
    assert decode_keys([text]) == {0x00100010: Element(0x00100010, "PN", b"DOE*")}


@pytest.mark.parametrize(
    "text",
    [
        "ScheduledProcedureStepSequence[0].Modality=CT",
        "ScheduledProcedureStepSequence/Modality=CT",
        "ScheduledProcedureStepSequence.Modality=CT",
        "(0040,0100)[0].(0008,0060)=CT",
        "00400100/00080060=CT",
        "SPS/Modality=CT",
        "SPS[0].0008,0060=CT",
        "Modality=CT",
        "0008,0060=CT",
    ],
)
def test_a_key_of_the_step_finds_its_place(text: str) -> None:
    assert decode_keys([text]) == MODALITY_CT


@pytest.mark.parametrize("text", ["PatientName", "PatientName="])
def test_a_key_without_a_value_asks_for_the_attribute(text: str) -> None:
    assert decode_keys([text]) == {0x00100010: Element(0x00100010, "PN", b"")}


def test_keys_of_one_step_share_its_item() -> None:
    keys = decode_keys(["Modality=CT", "PatientID=1", "ScheduledStationAETitle=CT1"])
    assert sorted(keys[SPS_SEQUENCE].items[0]) == [0x00080060, 0x00400001]


def test_sequences_may_nest() -> None:
    keys = decode_keys(["SPS/ScheduledProtocolCodeSequence/CodeValue=A"])
    assert keys[SPS_SEQUENCE].items[0][0x00400008].items[0][0x00080100].value == b"A"


def test_an_empty_sequence_asks_for_all_of_it() -> None:
    assert decode_keys(["ScheduledProcedureStepSequence="])[SPS_SEQUENCE].items == ()


def test_an_equals_sign_belongs_to_the_value_after_the_first() -> None:
    assert decode_keys(["PatientName=Yamada*=山田*"])[0x00100010].value == "Yamada*=山田*".encode()


def test_the_character_set_is_named_only_where_ascii_does_not_do() -> None:
    assert 0x00080005 not in decode_keys(["PatientName=Muller"])
    assert decode_keys(["PatientName=Müller", "SpecificCharacterSet=ISO_IR 6"])[0x00080005].value == b"ISO_IR 192"


def test_a_number_is_encoded_as_its_vr_wants_it() -> None:
    assert decode_keys(["PregnancyStatus=4"])[0x001021C0].value == b"\4\0"


def test_attributes_outside_the_worklist_may_be_asked_for() -> None:
    assert decode_keys(["StudyDescription=x", "0009,1001=y"]).keys() == {0x00081030, 0x00091001}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("PatientNam=X", 'PatientNam: PatientNam is no DICOM attribute, did you mean "PatientName"?'),
        ("patientname=X", 'patientname: patientname is no DICOM attribute, did you mean "PatientName"?'),
        ("SPS/Modalty=CT", 'SPS/Modalty: Modalty is no DICOM attribute, did you mean "Modality"?'),
        ("Qwxyz=1", "Qwxyz: Qwxyz is no DICOM attribute"),
        ("PatientName/Modality=CT", "PatientName/Modality: PatientName is no sequence, nothing stands below it"),
        (
            "SPS[1].Modality=CT",
            "SPS[1].Modality: [1] is not possible, a sequence in a query has the one item [0]",
        ),
        (
            "ScheduledProcedureStepSequence=CT",
            "ScheduledProcedureStepSequence: is a sequence and has no value: write the key below it,"
            " as in SPS/Modality=CT",
        ),
        ("PregnancyStatus=yes", "PregnancyStatus: 'yes' is no US number"),
        ("PregnancyStatus=70000", "PregnancyStatus: '70000' is no US number"),
        ("0002,0010=1", "0002,0010: (0002,0010) TransferSyntaxUID is not part of a query"),
        ("=X", "'=X': a keyword or a tag like 0010,0010 is wanted"),
        ("Patient Name=X", "Patient Name: a keyword or a tag like 0010,0010 is wanted"),
    ],
)
def test_a_fault_names_the_key_and_what_is_wrong(text: str, fault: str) -> None:
    assert faults_of(text) == [fault]


def test_all_faults_are_named_at_once() -> None:
    assert len(faults_of("PatientNam=X", "PatientID=1", "PatientID=2", "Modalty=CT")) == 3


def test_a_query_returns_what_people_look_for_beside_its_keys() -> None:
    query = query_keys(["Modality=CT", "PatientName=DOE*"])
    assert query[0x00100010].value == b"DOE*"
    assert query[0x00100020].value == b""
    assert query[SPS_SEQUENCE].items[0][0x00080060].value == b"CT"
    assert query[SPS_SEQUENCE].items[0][0x00400001].value == b""


def test_a_query_for_whole_steps_stays_one() -> None:
    assert query_keys(["ScheduledProcedureStepSequence="])[SPS_SEQUENCE].items == ()


def test_return_keys_may_be_left_out() -> None:
    assert query_keys(["Modality=CT"], returned=()) == MODALITY_CT


def test_every_return_key_is_supported() -> None:
    supported = {attribute.keyword_path for attribute in ATTRIBUTES}
    assert {key.replace("SPS/", "ScheduledProcedureStepSequence/") for key in RETURN_KEYS} <= supported


@given(st.sampled_from(ATTRIBUTES))
def test_every_attribute_of_the_worklist_can_be_written_as_key_and_sent(attribute: object) -> None:
    keys = decode_keys([attribute.keyword_path])  # type: ignore[attr-defined]
    assert decode_data_set(encode_data_set(keys, EXPLICIT_LE), EXPLICIT_LE) == keys


@given(st.text())
def test_no_text_is_worse_than_a_fault(text: str) -> None:
    try:
        decode_keys([text])
    except KeysError as exc:
        assert len(exc.faults) == 1  # noqa: PT017
