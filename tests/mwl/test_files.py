import io
import json
import os
from datetime import date, time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from mwl.dataset import to_dataset
from mwl.demo import sample_entries
from mwl.dicom_json import entry_from_json, entry_to_json
from mwl.files import find_sources, read_entries, read_source, write_json, write_wl_file
from mwl.item import Entry, EntryError

ENTRIES = sample_entries(40, date(2024, 7, 5))
SYNTAXES = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian]

# As dcm4chee-arc answers GET /mwlitems.
DCM4CHEE = """
[{"00080005":{"vr":"CS","Value":["ISO_IR 192"]},"00080050":{"vr":"SH","Value":["A1234"]},
"00080051":{"vr":"SQ","Value":[{"00400031":{"vr":"UT","Value":["RIS"]}}]},"00080090":{"vr":"PN"},
"00081110":{"vr":"SQ"},"00100010":{"vr":"PN","Value":[{"Alphabetic":"Yamada^Tarou","Ideographic":"山田^太郎"}]},
"00100020":{"vr":"LO","Value":["P1"]},"00100021":{"vr":"LO","Value":["ADT"]},
"00100030":{"vr":"DA","Value":["19700228"]},"00100040":{"vr":"CS","Value":["M"]},
"00101030":{"vr":"DS","Value":[81.5]},"001021C0":{"vr":"US","Value":[4]},
"0020000D":{"vr":"UI","Value":["1.2.3.4"]},"00321060":{"vr":"LO","Value":["CT head"]},
"00400100":{"vr":"SQ","Value":[{"00080060":{"vr":"CS","Value":["CT"]},
"00400001":{"vr":"AE","Value":["CT1","CT2"]},"00400002":{"vr":"DA","Value":["20240705"]},
"00400003":{"vr":"TM","Value":["1030"]},"00400009":{"vr":"SH","Value":["SPS1"]},
"00400020":{"vr":"CS","Value":["ARRIVED"]}}]},"00401001":{"vr":"SH","Value":["RP1"]},
"77770010":{"vr":"LO","Value":["a private creator"]}}]
"""


def read(*paths: Path) -> dict[str, Entry | str]:
    return dict(read_entries(paths))


def dicom(
    entry: Entry, syntax: Any = ExplicitVRLittleEndian, *, charset: str = "ISO_IR 192", meta: bool = True
) -> bytes:
    """Write a file as other tools do, with or without a file header."""
    dataset = to_dataset(entry)
    dataset.SpecificCharacterSet = charset.split("\\")
    buffer = io.BytesIO()
    if meta:
        dataset.ensure_file_meta()
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.31"
        dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
        dataset.save_as(buffer, enforce_file_format=True)
    else:
        dataset.save_as(buffer, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian)
    return buffer.getvalue()


# --- there and back -----------------------------------------------------------------------------------------------


def test_entries_exported_as_json_are_equal_after_import(tmp_path: Path) -> None:
    file = io.StringIO()
    write_json(ENTRIES, file)
    (tmp_path / "all.json").write_text(file.getvalue(), "utf-8")
    assert list(read(tmp_path).values()) == ENTRIES


def test_entries_exported_as_files_are_equal_after_import(tmp_path: Path) -> None:
    paths = [write_wl_file(entry, tmp_path) for entry in ENTRIES]
    assert read(tmp_path) == {str(path): entry for path, entry in sorted(zip(paths, ENTRIES, strict=True))}


def test_an_exported_file_is_one_that_pydicom_reads(tmp_path: Path) -> None:
    from pydicom import dcmread

    path = write_wl_file(ENTRIES[0], tmp_path)
    assert dcmread(path).PatientName == ENTRIES[0].patient.name


def test_an_entry_has_the_same_file_each_time(tmp_path: Path) -> None:
    first = write_wl_file(ENTRIES[0], tmp_path)
    before = first.read_bytes()
    assert write_wl_file(ENTRIES[0], tmp_path) == first
    assert first.read_bytes() == before


def test_every_entry_has_a_file_of_its_own(tmp_path: Path) -> None:
    ids = ["S/1", "S_1", "s_1", "S 1", "検査1", "検査2"]
    entries = [replace(ENTRIES[0], step=replace(ENTRIES[0].step, step_id=step_id)) for step_id in ids]
    paths = [write_wl_file(entry, tmp_path) for entry in entries]
    assert len({str(path).lower() for path in paths}) == len(ids)  # some file systems do not tell S from s
    assert sorted(outcome.step.step_id for outcome in read(tmp_path).values() if isinstance(outcome, Entry)) == (
        sorted(ids)
    )


def test_nothing_is_written_as_an_empty_array() -> None:
    file = io.StringIO()
    write_json([], file)
    assert json.loads(file.getvalue()) == []


# --- DICOM files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("meta", [True, False])
@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_dicom_file_is_read_in_every_transfer_syntax_with_and_without_a_header(
    tmp_path: Path, syntax: Any, meta: bool
) -> None:
    (tmp_path / "a.wl").write_bytes(dicom(ENTRIES[3], syntax, meta=meta))
    assert read(tmp_path) == {str(tmp_path / "a.wl"): ENTRIES[3]}


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        ("ISO_IR 100", "Müller^Jörg"),
        ("ISO_IR 144", "Иванов^Иван"),
        ("ISO_IR 192", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("\\ISO 2022 IR 87", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("\\ISO 2022 IR 149", "Hong^Gildong=洪^吉洞=홍^길동"),
        ("GB18030", "Wang^XiaoDong=王^小东"),
    ],
)
def test_names_are_read_in_the_character_set_of_the_file(tmp_path: Path, charset: str, name: str) -> None:
    dataset = to_dataset(ENTRIES[0])
    dataset.PatientName = name
    dataset.ScheduledProcedureStepSequence[0].ScheduledPerformingPhysicianName = name
    dataset.SpecificCharacterSet = charset.split("\\")
    dataset.save_as(tmp_path / "a.wl", implicit_vr=False, little_endian=True)
    (entry,) = read(tmp_path).values()
    assert isinstance(entry, Entry)
    assert (entry.patient.name, entry.step.performing_physician) == (name, name)


def test_bytes_that_the_character_set_does_not_have_are_a_fault_not_a_wrong_name(tmp_path: Path) -> None:
    content = dicom(ENTRIES[0], meta=False).replace(ENTRIES[0].patient.name.encode()[:2], b"\xff\xff", 1)
    (tmp_path / "a.wl").write_bytes(content.replace(b"ISO_IR 192", b"GB18030   "))
    (fault,) = read(tmp_path).values()
    assert fault == "PatientName has bytes that its character set does not have"


def test_an_unknown_character_set_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "a.wl").write_bytes(dicom(ENTRIES[0], meta=False).replace(b"ISO_IR 192", b"ISO_IR 999"))
    assert list(read(tmp_path).values()) == ["SpecificCharacterSet is unknown"]


def test_every_fault_of_a_file_is_named_with_its_attribute_and_the_other_files_are_kept(tmp_path: Path) -> None:
    dataset = to_dataset(ENTRIES[0])
    del dataset.PatientID
    dataset.ScheduledProcedureStepSequence[0]["ScheduledProcedureStepStartDate"]._value = "2024-99"
    dataset.save_as(tmp_path / "bad.wl", implicit_vr=False, little_endian=True)
    good = write_wl_file(ENTRIES[1], tmp_path)
    found = read(tmp_path)
    assert found[str(good)] == ENTRIES[1]
    assert found[str(tmp_path / "bad.wl")] == (
        "ScheduledProcedureStepSequence/ScheduledProcedureStepStartDate cannot be read as DA; PatientID is missing"
    )


@pytest.mark.parametrize("content", [b"", b"hello, world, this is no DICOM", b"\0" * 200, b"\0" * 128 + b"DICM"])
def test_what_is_no_dicom_file_is_said_to_be_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.dcm").write_bytes(content)
    (fault,) = read(tmp_path).values()
    assert str(fault).startswith("file is no DICOM file")


def test_a_file_that_is_cut_short_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "a.wl").write_bytes(dicom(ENTRIES[0])[:-30])
    (fault,) = read(tmp_path).values()
    assert "file is no DICOM file" in str(fault)


@given(st.binary(max_size=400))
def test_no_bytes_are_worse_than_a_fault(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.wl"
    path.write_bytes(content)
    assert all(isinstance(outcome, str) for outcome in read(path).values())


# --- JSON ---------------------------------------------------------------------------------------------------------


def test_a_json_array_as_of_dcm4chee_is_read(tmp_path: Path) -> None:
    (tmp_path / "mwl.json").write_text(DCM4CHEE, "utf-8")
    (entry,) = read(tmp_path).values()
    assert isinstance(entry, Entry)
    assert entry.key == ("1.2.3.4", "SPS1")
    assert entry.patient.name == "Yamada^Tarou=山田^太郎"
    assert entry.step.station_ae_titles == ("CT1", "CT2")
    assert entry.step.start_time == time(10, 30)
    assert (entry.request.patient_weight, entry.request.pregnancy_status) == (81.5, 4)


def test_json_may_be_one_object_an_array_or_one_object_a_line(tmp_path: Path) -> None:
    objects = [entry_to_json(entry) for entry in ENTRIES[:3]]
    (tmp_path / "one.json").write_text(json.dumps(objects[0], indent=2))
    (tmp_path / "array.json").write_text(json.dumps(objects))
    (tmp_path / "lines.jsonl").write_text("\n".join(map(json.dumps, objects)) + "\n\n")
    assert read(tmp_path) == {
        **{f"{tmp_path}/array.json[{number}]": ENTRIES[number] for number in range(3)},
        **{f"{tmp_path}/lines.jsonl:{number + 1}": ENTRIES[number] for number in range(3)},
        f"{tmp_path}/one.json": ENTRIES[0],
    }


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(entry_to_json(ENTRIES[0])), "utf-8-sig")
    assert list(read(tmp_path).values()) == [ENTRIES[0]]


def test_a_faulty_object_is_named_by_its_place_and_the_others_are_kept(tmp_path: Path) -> None:
    objects = [entry_to_json(entry) for entry in ENTRIES[:3]]
    objects[1]["00100030"]["Value"] = ["yesterday"]
    (tmp_path / "array.json").write_text(json.dumps(objects))
    found = read(tmp_path)
    assert found[f"{tmp_path}/array.json[1]"] == "PatientBirthDate cannot be read as DA"
    assert [type(outcome) for outcome in found.values()] == [Entry, str, Entry]


def test_a_line_that_is_no_json_is_named_and_the_others_are_kept(tmp_path: Path) -> None:
    line = json.dumps(entry_to_json(ENTRIES[0]))
    (tmp_path / "a.jsonl").write_text(f"{line}\n{line[:50]}\n")
    outcomes = list(read(tmp_path).values())
    assert outcomes[0] == ENTRIES[0]
    assert str(outcomes[1]).startswith("file is no JSON")


@pytest.mark.parametrize(
    "content",
    [
        *(b'{"00100010": {"Value": ["M\xfcller"]}}', b'[{"00100010": {"Value": ["M\xfcller"]}}]'),
        *(b"[" * 100_000, b'{"00100010":' * 100_000),
        *(b'[{"00100010":' + b"[" * 100_000, b"{}\n" + b'{"00100010":' * 100_000),
    ],
)
def test_json_that_cannot_be_decoded_is_named_and_the_other_files_are_kept(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    (tmp_path / "b.json").write_text(json.dumps(entry_to_json(ENTRIES[0])))
    *faults, kept = read(tmp_path).values()
    assert kept == ENTRIES[0]
    assert "file is no JSON" in str(faults[-1])


def test_a_file_name_that_is_no_text_is_told_in_another_way(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/M\xfcller.json")
    try:
        Path(path).write_text("{}")
    except OSError:
        pytest.skip("this file system has text only")
    (where,) = read(tmp_path)
    assert where == f"{tmp_path}/M\\udcfcller.json"


@pytest.mark.parametrize("text", ["[1,", '{"00100010":', "{}", "[[]]", "[1]", '[{"00100010": 1}]'])
def test_json_that_is_no_entry_is_one_fault(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    (fault,) = read(tmp_path).values()
    assert isinstance(fault, str)


@pytest.mark.parametrize(
    ("tag", "element", "fault"),
    [
        ("00100010", {"vr": "PN", "Value": "Doe^Jane"}, "PatientName is not written as DICOM JSON has PN"),
        ("00100010", {"vr": "PN", "InlineBinary": "AAAA"}, "PatientName is not written as DICOM JSON has PN"),
        ("00100010", ["Doe^Jane"], "PatientName is not written as DICOM JSON has PN"),
        ("00100010", {"vr": "PN", "Value": [["Doe"]]}, "PatientName is not written as DICOM JSON has PN"),
        ("00100020", {"vr": "LO", "Value": [True]}, "PatientID is not written as DICOM JSON has LO"),
        ("00101030", {"vr": "DS", "Value": ["heavy"]}, "PatientWeight cannot be read as DS"),
        ("00080050", {"vr": "SH", "Value": ["A" * 17]}, "AccessionNumber has 17 characters, SH holds 16"),
    ],
)
def test_a_faulty_element_is_named_once(tag: str, element: object, fault: str) -> None:
    with pytest.raises(EntryError) as caught:
        entry_from_json({**entry_to_json(ENTRIES[0]), tag: element})
    assert str(caught.value) == fault


def test_a_name_may_be_a_text_and_tags_in_lower_case() -> None:
    raw = {tag.lower(): element for tag, element in entry_to_json(ENTRIES[0]).items()}
    raw["00100010"] = {"vr": "PN", "Value": ["Doe^Jane"]}
    assert entry_from_json(raw).patient.name == "Doe^Jane"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["vr", "Value", "Alphabetic", "00100010", "00400100", "00080060"]), inner)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(sorted(entry_to_json(ENTRIES[0]))), _JSON, max_size=4))
def test_no_json_is_worse_than_a_fault(elements: dict[str, Any]) -> None:
    try:
        assert isinstance(entry_from_json({**entry_to_json(ENTRIES[0]), **elements}), Entry)
    except EntryError as exc:
        assert exc.faults  # noqa: PT017


# --- where files are ----------------------------------------------------------------------------------------------


def test_folders_are_searched_to_the_bottom_for_worklist_files_in_order(tmp_path: Path) -> None:
    (tmp_path / "b" / "c").mkdir(parents=True)
    for name in ("b/c/2.WL", "b/1.dcm", "a.wl", "lockfile", "notes.txt", "wklist.dump"):
        (tmp_path / name).write_bytes(dicom(ENTRIES[0]))
    assert [source.where for source in find_sources([tmp_path])] == [
        str(tmp_path / name) for name in ("a.wl", "b/1.dcm", "b/c/2.WL")
    ]


def test_a_file_that_is_named_is_read_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "IM0001").write_bytes(dicom(ENTRIES[0]))
    assert read(tmp_path / "IM0001") == {str(tmp_path / "IM0001"): ENTRIES[0]}


def test_a_path_that_is_not_there_is_a_fault(tmp_path: Path) -> None:
    (source,) = find_sources([tmp_path / "none"])
    with pytest.raises(EntryError, match="file cannot be read"):
        read_source(source)


def test_a_fault_never_quotes_a_value_of_the_patient() -> None:
    raw = {**entry_to_json(ENTRIES[0]), "00100030": {"vr": "DA", "Value": ["19991399"]}}
    with pytest.raises(EntryError) as caught:
        entry_from_json(raw)
    assert "1999" not in str(caught.value)


def test_an_item_may_have_a_character_set_of_its_own(tmp_path: Path) -> None:
    dataset = to_dataset(ENTRIES[0])
    assert isinstance(dataset, Dataset)
    step = dataset.ScheduledProcedureStepSequence[0]
    step.SpecificCharacterSet = "ISO_IR 100"
    step.ScheduledPerformingPhysicianName = "Müller^Jörg"
    dataset.save_as(tmp_path / "a.wl", implicit_vr=False, little_endian=True)
    (entry,) = read(tmp_path).values()
    assert isinstance(entry, Entry)
    assert entry.step.performing_physician == "Müller^Jörg"
