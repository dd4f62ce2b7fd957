from __future__ import annotations

from struct import pack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from strategies import SYNTAXES, data_sets

from dulproto.elements import (
    MAX_ELEMENTS,
    MAX_NESTING,
    DataSet,
    Element,
    decode_data_set,
    encode_data_set,
    encode_element,
)
from dulproto.errors import ElementError, ElementLimitError, LocalProtocolError
from dulproto.uids import EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE

NAME, PATIENT_ID, MODALITY, SPS, CODE = 0x00100010, 0x00100020, 0x00080060, 0x00400100, 0x00400008
CHARACTER_SET, ROWS = 0x00080005, 0x00280010
UNDEFINED = 0xFFFFFFFF
LONG = {"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"}

by_syntax = pytest.mark.parametrize("syntax", SYNTAXES, ids=["implicit-le", "explicit-le", "explicit-be"])


# --- data elements by hand, from PS3.5 7.1 and 7.5 ---------------------------------------------------------------


def order(syntax: str) -> str:
    return ">" if syntax == EXPLICIT_BE else "<"


def e(syntax: str, tag: int, vr: str, value: bytes = b"", length: int | None = None) -> bytes:
    length, o = len(value) if length is None else length, order(syntax)
    head = pack(f"{o}HH", tag >> 16, tag & 0xFFFF)
    if syntax == IMPLICIT_LE:
        return head + pack("<I", length) + value
    if vr in LONG:
        return head + vr.encode() + b"\0\0" + pack(f"{o}I", length) + value
    return head + vr.encode() + pack(f"{o}H", length) + value


def marker(syntax: str, number: int, value: bytes = b"", length: int | None = None) -> bytes:
    return pack(f"{order(syntax)}HHI", 0xFFFE, number, len(value) if length is None else length) + value


def item(syntax: str, *elements: bytes, undefined: bool = False) -> bytes:
    content = b"".join(elements)
    if undefined:
        return marker(syntax, 0xE000, length=UNDEFINED) + content + marker(syntax, 0xE00D)
    return marker(syntax, 0xE000, content)


def sequence(syntax: str, tag: int, *items: bytes, undefined: bool = False, vr: str = "SQ") -> bytes:
    content = b"".join(items)
    if undefined:
        return e(syntax, tag, vr, length=UNDEFINED) + content + marker(syntax, 0xE0DD)
    return e(syntax, tag, vr, content)


def read(data: bytes, syntax: str) -> tuple[DataSet, list[str]]:
    notes: list[str] = []
    return decode_data_set(data, syntax, notes), notes


def values(data_set: DataSet) -> dict[int, Any]:
    """Tags to bytes, and to lists of the same for sequences."""
    return {
        tag: [values(item) for item in element.items] if element.vr == "SQ" else element.raw
        for tag, element in data_set.items()
    }


def test_an_element_is_written_as_each_transfer_syntax_lays_it_out() -> None:
    name = Element(NAME, "PN", b"Doe^Jane")
    assert encode_element(name, IMPLICIT_LE) == bytes.fromhex("1000 1000 08000000") + b"Doe^Jane"
    assert encode_element(name, EXPLICIT_LE) == bytes.fromhex("1000 1000 504e 0800") + b"Doe^Jane"
    assert encode_element(name, EXPLICIT_BE) == bytes.fromhex("0010 0010 504e 0008") + b"Doe^Jane"
    text = Element(0x0040A160, "UT", b"ab")
    assert encode_element(text, EXPLICIT_LE) == bytes.fromhex("4000 60a1 5554 0000 02000000 6162")
    assert encode_element(text, EXPLICIT_BE) == bytes.fromhex("0040 a160 5554 0000 00000002 6162")


@by_syntax
def test_an_element_is_read_as_its_transfer_syntax_lays_it_out(syntax: str) -> None:
    data = e(syntax, NAME, "PN", b"Doe^Jane") + e(syntax, 0x0040A160, "UT", b"ab")
    assert read(data, syntax) == (
        {NAME: Element(NAME, "PN", b"Doe^Jane"), 0x0040A160: Element(0x0040A160, "UT", b"ab")},
        [],
    )


@by_syntax
def test_nothing_is_an_empty_data_set(syntax: str) -> None:
    assert read(b"", syntax) == ({}, [])
    assert encode_data_set({}, syntax) == b""


@by_syntax
@given(data_sets)
def test_every_data_set_survives_encoding(syntax: str, data_set: DataSet) -> None:
    assert read(encode_data_set(data_set, syntax), syntax) == (data_set, [])


@given(data_sets)
def test_what_was_read_does_not_tell_the_transfer_syntax(data_set: DataSet) -> None:
    first, second, third = (decode_data_set(encode_data_set(data_set, syntax), syntax) for syntax in SYNTAXES)
    assert first == second == third


@by_syntax
def test_elements_are_written_ascending(syntax: str) -> None:
    data_set = {tag: Element(tag, "LO", b"ab") for tag in (PATIENT_ID, 0x00081030, 0x00104000)}
    data = encode_data_set(data_set, syntax)
    assert data == e(syntax, 0x00081030, "LO", b"ab") + e(syntax, PATIENT_ID, "LO", b"ab") + e(
        syntax, 0x00104000, "LO", b"ab"
    )


@by_syntax
@pytest.mark.parametrize(
    ("tag", "vr", "value", "padded"),
    [
        (NAME, "PN", b"Doe", b"Doe "),
        (0x0020000D, "UI", b"1.2", b"1.2\0"),
        (0x00420011, "OB", b"\1", b"\1\0"),
        (0x00091001, "UN", b"\1", b"\1\0"),
        (0x00720060, "AT", b"\1\2\3", b"\1\2\3\0"),
    ],
)
def test_Q_01_an_odd_length_is_never_written(syntax: str, tag: int, vr: str, value: bytes, padded: bytes) -> None:
    data = encode_element(Element(tag, vr, value), syntax)
    assert decode_data_set(data, syntax)[tag].raw == padded


def test_a_long_value_of_a_short_vr_goes_out_as_un() -> None:
    long = Element(NAME, "PN", b"x" * 70000)
    assert encode_element(long, EXPLICIT_LE) == e(EXPLICIT_LE, NAME, "UN", b"x" * 70000)
    assert encode_element(long, IMPLICIT_LE) == e(IMPLICIT_LE, NAME, "PN", b"x" * 70000)
    just = Element(NAME, "PN", b"x" * 65534)
    assert encode_element(just, EXPLICIT_LE) == e(EXPLICIT_LE, NAME, "PN", b"x" * 65534)


@by_syntax
def test_a_long_list_of_numbers_survives_encoding(syntax: str) -> None:
    numbers = Element(0x00281101, "US", pack("<40000H", *range(40000)))
    assert decode_data_set(encode_element(numbers, syntax), syntax) == {numbers.tag: numbers}


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.50", "", "explicit-le"])
def test_a_transfer_syntax_that_is_not_implemented_is_our_own_fault(syntax: str) -> None:
    with pytest.raises(LocalProtocolError):
        encode_element(Element(NAME, "PN", b""), syntax)


def test_an_element_has_either_a_value_or_items() -> None:
    assert Element(SPS, "SQ", ({},)).items == ({},)
    assert Element(SPS, "SQ", ({},)).raw == b""
    assert Element(NAME, "PN", b"ab").items == ()
    assert Element(NAME, "PN", b"ab").raw == b"ab"


# --- byte order --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tag", "vr", "big", "little"),
    [
        (ROWS, "US", "0102 0304", "0201 0403"),
        (0x00280106, "SS", "0102", "0201"),
        (0x00720060, "AT", "0010 0020", "1000 2000"),
        (0x00720078, "UL", "01020304", "04030201"),
        (0x00720064, "IS", "3132", "3132"),
        (0x00720076, "FL", "01020304", "04030201"),
        (0x00720074, "FD", "0102030405060708", "0807060504030201"),
        (0x00720067, "OF", "01020304 05060708", "04030201 08070605"),
        (0x00720069, "OW", "0102 0304", "0201 0403"),
        (0x00720065, "OB", "0102 0304", "0102 0304"),
        (0x00091001, "UN", "01020304", "01020304"),
        (0x00720073, "OD", "0102030405060708", "0807060504030201"),
        (0x00720075, "OL", "01020304", "04030201"),
        (0x00720081, "OV", "0102030405060708", "0807060504030201"),
        (0x00720082, "SV", "0102030405060708", "0807060504030201"),
        (0x00720083, "UV", "0102030405060708", "0807060504030201"),
    ],
)
def test_numbers_are_little_endian_whatever_was_sent(tag: int, vr: str, big: str, little: str) -> None:
    data = e(EXPLICIT_BE, tag, vr, bytes.fromhex(big))
    element = decode_data_set(data, EXPLICIT_BE)[tag]
    assert element.raw == bytes.fromhex(little)
    assert encode_element(Element(tag, vr, bytes.fromhex(little)), EXPLICIT_BE) == data


def test_a_number_that_is_no_whole_word_is_left_as_it_is() -> None:
    data = e(EXPLICIT_BE, ROWS, "US", b"\1\2\3")
    assert decode_data_set(data, EXPLICIT_BE)[ROWS].raw == b"\1\2\3"


def test_the_word_that_was_sent_is_swapped_where_its_vr_is_wrong() -> None:
    data = e(EXPLICIT_BE, ROWS, "UL", b"\0\0\1\2")
    assert decode_data_set(data, EXPLICIT_BE)[ROWS] == Element(ROWS, "US", b"\2\1\0\0")


@pytest.mark.parametrize("syntax", [EXPLICIT_LE, EXPLICIT_BE])
@pytest.mark.parametrize("vr", ["OB", "OW"])
def test_of_two_vrs_that_a_tag_may_have_the_one_that_was_sent_counts(syntax: str, vr: str) -> None:
    pixels = Element(0x7FE00010, vr, b"\1\2\3\4")
    assert read(encode_element(pixels, syntax), syntax) == ({pixels.tag: pixels}, [])
    smallest = Element(0x00280106, "SS", b"\1\2")
    assert read(encode_element(smallest, syntax), syntax) == ({smallest.tag: smallest}, [])


def test_pixel_data_without_a_vr_is_ow() -> None:
    data = e(IMPLICIT_LE, 0x7FE00010, "", b"\1\2\3\4")  # PS3.5 A.1
    assert decode_data_set(data, IMPLICIT_LE)[0x7FE00010].vr == "OW"


# --- what devices send ---


@by_syntax
def test_Q_01_an_odd_length_is_read_as_it_is(syntax: str) -> None:
    data = e(syntax, NAME, "PN", b"Doe") + e(syntax, PATIENT_ID, "LO", b"1")
    found, notes = read(data, syntax)
    assert values(found) == {NAME: b"Doe", PATIENT_ID: b"1"}
    assert notes == ["(0010,0010) PatientName has an odd length", "(0010,0020) PatientID has an odd length"]


@by_syntax
@pytest.mark.parametrize("of_sequence", [False, True], ids=["SQ defined", "SQ undefined"])
@pytest.mark.parametrize("of_item", [False, True], ids=["item defined", "item undefined"])
@pytest.mark.parametrize("inside", [False, True], ids=["inner defined", "inner undefined"])
def test_Q_24_sequences_of_any_length_are_read_alike(
    syntax: str, of_sequence: bool, of_item: bool, inside: bool
) -> None:
    inner = sequence(
        syntax, CODE, item(syntax, e(syntax, 0x00080100, "SH", b"C1"), undefined=inside), undefined=inside
    )
    one = item(syntax, e(syntax, MODALITY, "CS", b"CT"), inner, undefined=of_item)
    two = item(syntax, undefined=not of_item)
    data = sequence(syntax, SPS, one, two, undefined=of_sequence) + e(syntax, 0x00401001, "SH", b"R1")
    found, notes = read(data, syntax)
    assert values(found) == {SPS: [{MODALITY: b"CT", CODE: [{0x00080100: b"C1"}]}, {}], 0x00401001: b"R1"}
    assert notes == []


@by_syntax
def test_Q_24_delimiters_with_a_length_are_skipped_with_it(syntax: str) -> None:
    data = (
        e(syntax, SPS, "SQ", length=UNDEFINED)
        + marker(syntax, 0xE000, length=UNDEFINED)
        + e(syntax, MODALITY, "CS", b"CT")
        + marker(syntax, 0xE00D, b"junk")
        + marker(syntax, 0xE0DD, b"junk junk")
        + e(syntax, 0x00401001, "SH", b"R1")
    )
    assert values(read(data, syntax)[0]) == {SPS: [{MODALITY: b"CT"}], 0x00401001: b"R1"}


@by_syntax
def test_Q_25_empty_sequences_and_items_are_read(syntax: str) -> None:
    empty = e(syntax, SPS, "SQ")
    assert values(read(empty, syntax)[0]) == {SPS: []}
    assert values(read(sequence(syntax, SPS, undefined=True), syntax)[0]) == {SPS: []}
    for undefined in (False, True):
        one = sequence(syntax, SPS, item(syntax, undefined=undefined), undefined=undefined)
        assert read(one, syntax) == ({SPS: Element(SPS, "SQ", ({},))}, [])


@by_syntax
def test_Q_26_all_items_of_a_sequence_are_kept(syntax: str) -> None:
    items = [item(syntax, e(syntax, MODALITY, "CS", vr)) for vr in (b"CT", b"MR")]
    assert values(read(sequence(syntax, SPS, *items), syntax)[0]) == {SPS: [{MODALITY: b"CT"}, {MODALITY: b"MR"}]}


@by_syntax
@pytest.mark.parametrize("closed", [0, 1, 2, 3])
def test_Q_27_delimiters_missing_at_the_end_are_supplied(syntax: str, closed: int) -> None:
    data = (
        e(syntax, SPS, "SQ", length=UNDEFINED)
        + marker(syntax, 0xE000, length=UNDEFINED)
        + e(syntax, CODE, "SQ", length=UNDEFINED)
        + marker(syntax, 0xE000, length=UNDEFINED)
        + e(syntax, 0x00080100, "SH", b"C1")
    )
    for number in (0xE00D, 0xE0DD, 0xE00D)[:closed]:
        data += marker(syntax, number)
    found, notes = read(data, syntax)
    assert values(found) == {SPS: [{CODE: [{0x00080100: b"C1"}]}]}
    assert len(notes) == 4 - closed
    assert all("delimiter was supplied" in note for note in notes)


@by_syntax
def test_Q_27_an_item_delimiter_missing_before_the_next_item_is_supplied(syntax: str) -> None:
    opened = marker(syntax, 0xE000, length=UNDEFINED)
    data = (
        e(syntax, SPS, "SQ", length=UNDEFINED)
        + opened
        + e(syntax, MODALITY, "CS", b"CT")
        + opened
        + e(syntax, MODALITY, "CS", b"MR")
        + marker(syntax, 0xE0DD)
        + e(syntax, 0x00401001, "SH", b"R1")
    )
    found, notes = read(data, syntax)
    assert values(found) == {SPS: [{MODALITY: b"CT"}, {MODALITY: b"MR"}], 0x00401001: b"R1"}
    assert notes == ["a missing item delimiter was supplied"] * 2


@by_syntax
def test_Q_27_a_sequence_delimiter_missing_before_the_next_element_is_supplied(syntax: str) -> None:
    data = (
        e(syntax, SPS, "SQ", length=UNDEFINED)
        + item(syntax, e(syntax, MODALITY, "CS", b"CT"))
        + e(syntax, 0x00401001, "SH", b"R1")
    )
    found, notes = read(data, syntax)
    assert values(found) == {SPS: [{MODALITY: b"CT"}], 0x00401001: b"R1"}
    assert notes == ["a missing sequence delimiter was supplied"]


@by_syntax
def test_stray_delimiters_are_skipped(syntax: str) -> None:
    stray = marker(syntax, 0xE00D) + marker(syntax, 0xE0DD)
    one = item(syntax, e(syntax, MODALITY, "CS", b"CT"), marker(syntax, 0xE00D), e(syntax, 0x00400001, "AE", b"A1"))
    data = e(syntax, NAME, "PN", b"AB") + stray + sequence(syntax, SPS, one, stray) + stray
    found, notes = read(data, syntax)
    assert values(found) == {NAME: b"AB", SPS: [{MODALITY: b"CT", 0x00400001: b"A1"}]}
    assert len(notes) == 7
    assert all("stray" in note for note in notes)


@by_syntax
def test_Q_28_group_lengths_are_skipped(syntax: str) -> None:
    length = e(syntax, 0x00100000, "UL", b"\4\0\0\0")
    found, notes = read(length + e(syntax, NAME, "PN", b"AB") + sequence(syntax, SPS, item(syntax, length)), syntax)
    assert values(found) == {NAME: b"AB", SPS: [{}]}
    assert notes == ["(0010,0000) does not belong here and was skipped"] * 2


@by_syntax
def test_Q_29_elements_of_groups_below_0008_are_skipped(syntax: str) -> None:
    data = (
        e(syntax, 0x00000002, "UI", b"1.2\0") + e(syntax, 0x00020010, "UI", b"1.2\0") + e(syntax, NAME, "PN", b"AB")
    )
    assert values(read(data, syntax)[0]) == {NAME: b"AB"}


@by_syntax
@pytest.mark.parametrize("meta", [0, 1, 3])
def test_Q_29_a_file_preamble_and_its_group_0002_are_skipped(syntax: str, meta: int) -> None:
    group = [
        e(EXPLICIT_LE, 0x00020000, "UL", b"\0\0\0\0"),
        e(EXPLICIT_LE, 0x00020001, "OB", b"\0\1"),
        e(EXPLICIT_LE, 0x00020010, "UI", syntax.encode()),
    ]
    data = bytes(128) + b"DICM" + b"".join(group[:meta]) + e(syntax, NAME, "PN", b"AB")
    found, notes = read(data, syntax)
    assert values(found) == {NAME: b"AB"}
    assert notes == ["a file preamble was skipped"]


@by_syntax
def test_the_letters_of_a_preamble_inside_a_value_are_no_preamble(syntax: str) -> None:
    text = Element(0x00104000, "LT", b"DICM" * 50)
    for padding in range(0, 4, 2):
        data_set = {PATIENT_ID: Element(PATIENT_ID, "LO", b"P" * padding), text.tag: text}
        assert read(encode_data_set(data_set, syntax), syntax) == (data_set, [])


def test_Q_29_a_preamble_need_not_be_zero() -> None:
    meta = e(EXPLICIT_LE, 0x00020010, "UI", b"1.2\0")
    data = b"II*\0" * 32 + b"DICM" + meta + e(IMPLICIT_LE, NAME, "PN", b"AB")
    assert values(read(data, IMPLICIT_LE)[0]) == {NAME: b"AB"}


def test_Q_29_a_preamble_with_nothing_behind_it_is_an_empty_data_set() -> None:
    assert values(read(bytes(128) + b"DICM", EXPLICIT_LE)[0]) == {}
    cut = bytes(128) + b"DICM" + e(EXPLICIT_LE, 0x00020010, "UI", b"1.2", length=0xFF00)
    assert values(read(cut, EXPLICIT_LE)[0]) == {}


@by_syntax
def test_Q_30_private_elements_are_kept_as_they_are(syntax: str) -> None:
    data = e(syntax, 0x00090010, "LO", b"ACME") + e(syntax, 0x00091001, "UN", b"\1\2")
    assert values(read(data, syntax)[0]) == {0x00090010: b"ACME", 0x00091001: b"\1\2"}


@by_syntax
def test_Q_30_private_sequences_are_read(syntax: str) -> None:
    data = sequence(syntax, 0x00091002, item(syntax, e(syntax, NAME, "PN", b"AB")), undefined=True)
    assert values(read(data, syntax)[0]) == {0x00091002: [{NAME: b"AB"}]}


@pytest.mark.parametrize("syntax", [EXPLICIT_LE, EXPLICIT_BE])
@pytest.mark.parametrize("tag", [SPS, 0x00091002])
def test_Q_30_an_un_of_undefined_length_is_an_implicit_le_sequence(syntax: str, tag: int) -> None:
    inner = sequence(IMPLICIT_LE, CODE, item(IMPLICIT_LE, e(IMPLICIT_LE, 0x00080100, "SH", b"C1")))
    content = item(IMPLICIT_LE, e(IMPLICIT_LE, MODALITY, "CS", b"CT"), inner) + marker(IMPLICIT_LE, 0xE0DD)
    data = e(syntax, tag, "UN", length=UNDEFINED) + content + e(syntax, 0x00401001, "SH", b"R1")
    expected = {tag: [{MODALITY: b"CT", CODE: [{0x00080100: b"C1"}]}], 0x00401001: b"R1"}
    assert values(read(data, syntax)[0]) == expected


@pytest.mark.parametrize("syntax", [EXPLICIT_LE, EXPLICIT_BE])
def test_Q_30_an_un_of_defined_length_is_a_sequence_where_the_dictionary_says_so(syntax: str) -> None:
    content = item(IMPLICIT_LE, e(IMPLICIT_LE, MODALITY, "CS", b"CT"))
    data = e(syntax, SPS, "UN", content) + e(syntax, 0x00091002, "UN", content)
    assert values(read(data, syntax)[0])[SPS] == [{MODALITY: b"CT"}]


@by_syntax
def test_Q_32_elements_may_come_in_any_order_and_the_first_of_two_counts(syntax: str) -> None:
    data = e(syntax, PATIENT_ID, "LO", b"P1") + e(syntax, NAME, "PN", b"AB") + e(syntax, PATIENT_ID, "LO", b"P2")
    found, notes = read(data, syntax)
    assert values(found) == {PATIENT_ID: b"P1", NAME: b"AB"}
    assert notes == [
        "(0010,0010) PatientName is out of order",
        "(0010,0020) PatientID is there twice, the first one counts",
    ]
    assert encode_data_set(found, syntax) == e(syntax, NAME, "PN", b"AB") + e(syntax, PATIENT_ID, "LO", b"P1")


@pytest.mark.parametrize("sent", SYNTAXES)
@pytest.mark.parametrize("negotiated", SYNTAXES)
@pytest.mark.parametrize("first", [CHARACTER_SET, NAME, 0x00090010])
@pytest.mark.parametrize("value", [b"", b"ISO_IR 100"])
def test_Q_33_data_in_another_transfer_syntax_is_read_all_the_same(
    sent: str, negotiated: str, first: int, value: bytes
) -> None:
    vr = {CHARACTER_SET: "CS", NAME: "PN"}.get(first, "LO")
    data = e(sent, first, vr, value) + sequence(sent, SPS, item(sent, e(sent, MODALITY, "CS", b"CT")))
    found, notes = read(data, negotiated)
    assert values(found) == {first: value, SPS: [{MODALITY: b"CT"}]}
    assert notes == (["data is not in the negotiated transfer syntax"] if sent != negotiated else [])


@pytest.mark.parametrize("negotiated", SYNTAXES)
@pytest.mark.parametrize("data", [b"\0" * 7 + b"x", b"GET / HTTP/1.1\r\n\r\n", b"\1", b"\x10\0\x10\0PN\xff\0ab"])
def test_Q_33_what_no_transfer_syntax_can_read_is_an_error_with_an_offset(negotiated: str, data: bytes) -> None:
    with pytest.raises(ElementError) as caught:
        decode_data_set(data, negotiated)
    assert 0 <= caught.value.offset <= len(data)


@pytest.mark.parametrize("syntax", [EXPLICIT_LE, EXPLICIT_BE])
def test_Q_34_the_dictionarys_vr_counts_and_the_length_as_sent(syntax: str) -> None:
    data = (
        e(syntax, CHARACTER_SET, "OB", b"ISO_IR 100")
        + e(syntax, 0x0020000D, "UN", b"1.2\0")
        + e(syntax, 0x00400002, "LO", b"20240101")
    )
    found, notes = read(data, syntax)
    assert [(element.vr, element.raw) for element in found.values()] == [
        ("CS", b"ISO_IR 100"),
        ("UI", b"1.2\0"),
        ("DA", b"20240101"),
    ]
    assert notes == [
        "(0008,0005) SpecificCharacterSet was sent as OB",
        "(0040,0002) ScheduledProcedureStepStartDate was sent as LO",
    ]


@pytest.mark.parametrize("syntax", [EXPLICIT_LE, EXPLICIT_BE])
@pytest.mark.parametrize("value", [b"", b"*"])
def test_Q_34_text_in_place_of_a_sequence_is_a_sequence_without_items(syntax: str, value: bytes) -> None:
    found, _ = read(e(syntax, SPS, "LO", value) + e(syntax, 0x00401001, "SH", b"R1"), syntax)
    assert values(found) == {SPS: [], 0x00401001: b"R1"}


def test_Q_35_a_long_vr_with_a_short_length_is_not_repaired() -> None:
    data = b"\x40\x00\x60\xa1UT\x02\x00ab" + e(EXPLICIT_LE, 0x00401001, "SH", b"R1")
    with pytest.raises(ElementError):
        decode_data_set(data, EXPLICIT_LE)


@by_syntax
def test_Q_36_text_stays_bytes(syntax: str) -> None:
    raw = "Müller^Jörg ".encode()
    assert decode_data_set(e(syntax, NAME, "PN", raw), syntax)[NAME].raw == raw


@by_syntax
@pytest.mark.parametrize("zeros", range(1, 8))
def test_zero_bytes_behind_the_last_element_are_skipped(syntax: str, zeros: int) -> None:
    found, notes = read(e(syntax, NAME, "PN", b"AB") + bytes(zeros), syntax)
    assert values(found) == {NAME: b"AB"}
    assert notes == ["zero bytes behind the last element were skipped"]


# --- faults ------------------------------------------------------------------------------------------------------

FIRST = e(EXPLICIT_LE, NAME, "PN", b"AB")  # 10 bytes
MALFORMED = [
    ("half a header", FIRST + b"\x10\0\x20\0LO\2", 10),
    ("value longer than the data", FIRST + e(EXPLICIT_LE, PATIENT_ID, "LO", b"1", length=2), 18),
    ("no VR", FIRST + b"\x10\0\x20\0??\0\0", 14),
    ("long header cut short", FIRST + b"\x40\0\x60\xa1UT\0\0\0\0", 10),
    ("undefined length in a text", FIRST + e(EXPLICIT_LE, 0x0040A160, "UT", length=UNDEFINED), 22),
    ("sequence longer than the data", FIRST + e(EXPLICIT_LE, SPS, "SQ", b"", length=8), 22),
    ("item longer than its sequence", FIRST + e(EXPLICIT_LE, SPS, "SQ", marker(EXPLICIT_LE, 0xE000, length=1)), 22),
    ("half an item header", FIRST + e(EXPLICIT_LE, SPS, "SQ", b"\xfe\xff\0\xe0\0\0"), 22),
    ("an element in place of an item", FIRST + e(EXPLICIT_LE, SPS, "SQ", FIRST), 22),
    ("element longer than its item", FIRST + sequence(EXPLICIT_LE, SPS, item(EXPLICIT_LE, FIRST[:-1])), 38),
]


@pytest.mark.parametrize(("name", "data", "offset"), MALFORMED, ids=[name for name, _, _ in MALFORMED])
def test_a_fault_in_the_data_is_told_with_its_offset(name: str, data: bytes, offset: int) -> None:
    with pytest.raises(ElementError) as caught:
        decode_data_set(data, EXPLICIT_LE)
    assert caught.value.offset == offset
    assert not isinstance(caught.value, ElementLimitError)


# --- limits ------------------------------------------------------------------------------------------------------


def nested(syntax: str, depth: int, undefined: bool) -> bytes:
    data = e(syntax, NAME, "PN", b"AB")
    for _ in range(depth):
        data = sequence(syntax, SPS, item(syntax, data, undefined=undefined), undefined=undefined)
    return data


@by_syntax
@pytest.mark.parametrize("undefined", [False, True])
def test_16_levels_of_sequences_are_read_and_17_are_too_many(syntax: str, undefined: bool) -> None:
    found = decode_data_set(nested(syntax, MAX_NESTING, undefined), syntax)
    for _ in range(16):
        (found,) = found[SPS].items
    assert values(found) == {NAME: b"AB"}
    with pytest.raises(ElementLimitError):
        decode_data_set(nested(syntax, 17, undefined), syntax)


def test_nesting_counts_across_un_too() -> None:
    data = nested(IMPLICIT_LE, 15, False)
    un = item(IMPLICIT_LE, data)
    assert decode_data_set(e(EXPLICIT_LE, SPS, "UN", un), EXPLICIT_LE)
    with pytest.raises(ElementLimitError):
        decode_data_set(sequence(EXPLICIT_LE, SPS, item(EXPLICIT_LE, e(EXPLICIT_LE, CODE, "UN", un))), EXPLICIT_LE)


def test_a_bomb_of_open_sequences_is_too_much_and_no_recursion_error() -> None:
    opened = e(IMPLICIT_LE, SPS, "", length=UNDEFINED) + marker(IMPLICIT_LE, 0xE000, length=UNDEFINED)
    with pytest.raises(ElementLimitError):
        decode_data_set(opened * 60_000, IMPLICIT_LE)


@pytest.mark.parametrize("inside", ["root", "UN", "empty items"])
def test_100_000_elements_are_read_and_one_more_is_too_many(inside: str) -> None:
    one = e(IMPLICIT_LE, NAME, "PN")

    def data(count: int) -> bytes:
        if inside == "root":
            return one * count
        if inside == "UN":  # the sequence and its item count, too
            return e(EXPLICIT_LE, SPS, "UN", item(IMPLICIT_LE, one * (count - 3))) + e(EXPLICIT_LE, NAME, "PN")
        return e(IMPLICIT_LE, SPS, "SQ", item(IMPLICIT_LE) * (count - 1))

    syntax = EXPLICIT_LE if inside == "UN" else IMPLICIT_LE
    assert decode_data_set(data(MAX_ELEMENTS), syntax)
    with pytest.raises(ElementLimitError):
        decode_data_set(data(MAX_ELEMENTS + 1), syntax)


# --- pydicom as oracle -------------------------------------------------------------------------------------------

_int = st.integers
_TYPED: dict[str, tuple[int, st.SearchStrategy[Any]]] = {
    "AE": (0x00400001, st.sampled_from(("CT1", "", "A B"))),
    "AS": (0x00101010, st.sampled_from(("045Y", ""))),
    "AT": (0x00720060, st.lists(_int(0, 0xFFFFFFFF), min_size=1, max_size=3)),
    "CS": (0x00080060, st.sampled_from(("CT", "MR", "A_1"))),
    "DA": (0x00400002, st.sampled_from(("20240101", ""))),
    "DS": (0x00101030, st.sampled_from(("70.5", "-1e3", ""))),
    "DT": (0x0040A120, st.sampled_from(("20240101120000.5", ""))),
    "FD": (0x00720074, st.floats(width=64, allow_nan=False)),
    "FL": (0x00720076, st.floats(width=32, allow_nan=False)),
    "IS": (0x00720064, st.sampled_from(("7", "-1234", ""))),
    "LO": (0x00100020, st.sampled_from(("4711", "A^B", ""))),
    "LT": (0x00104000, st.sampled_from(("some text", ""))),
    "OB": (0x00720065, st.binary(max_size=4).map(lambda half: half * 2)),
    "OD": (0x00720073, st.binary(min_size=8, max_size=8)),
    "OF": (0x00720067, st.binary(min_size=4, max_size=4)),
    "OL": (0x00720075, st.binary(min_size=4, max_size=4)),
    "OW": (0x00720069, st.binary(min_size=2, max_size=2)),
    "PN": (0x00100010, st.sampled_from(("Doe^Jane", "Roe", ""))),
    "SH": (0x00080050, st.sampled_from(("A1", "A", ""))),
    "SL": (0x0072007C, _int(-(2**31), 2**31 - 1)),
    "SS": (0x0072007E, _int(-(2**15), 2**15 - 1)),
    "ST": (0x00080081, st.sampled_from(("Street 1", ""))),
    "SV": (0x00720082, _int(-(2**63), 2**63 - 1)),
    "TM": (0x00400003, st.sampled_from(("120000", "12", ""))),
    "UC": (0x0072006F, st.sampled_from(("chars", ""))),
    "UI": (0x0020000D, st.sampled_from(("1.2.3", "1.2.34", ""))),
    "UL": (0x00720078, _int(0, 2**32 - 1)),
    "UR": (0x00720071, st.sampled_from(("http://example.org", ""))),
    "US": (0x0072007A, _int(0, 2**16 - 1)),
    "UT": (0x00720070, st.sampled_from(("unlimited", ""))),
    "UV": (0x00720083, _int(0, 2**64 - 1)),
}


def pydicom_data_set(fields: dict[str, Any], items: list[Dataset]) -> Dataset:
    data_set = Dataset()
    for vr, value in fields.items():
        # OD, OF, OL and OW are bytes to pydicom in the order of the file: give none that order would change
        palindrome = isinstance(value, bytes) and vr != "OB"
        data_set.add_new(_TYPED[vr][0], vr, value[:1] * len(value) if palindrome else value)
    if items:
        data_set.add_new(SPS, "SQ", items)
    return data_set


_fields = st.fixed_dictionaries({}, optional={vr: strategy for vr, (_, strategy) in _TYPED.items()})
pydicom_data_sets = st.recursive(
    st.builds(pydicom_data_set, _fields, st.just([])),
    lambda items: st.builds(pydicom_data_set, _fields, st.lists(items, max_size=2)),
    max_leaves=4,
)


def written_by_pydicom(data_set: Dataset, syntax: str) -> bytes:
    file = DicomBytesIO()
    file.is_implicit_VR, file.is_little_endian = syntax == IMPLICIT_LE, syntax != EXPLICIT_BE
    write_dataset(file, data_set)
    return file.getvalue()


def read_by_pydicom(data: bytes, syntax: str) -> Dataset:
    data_set = read_dataset(DicomBytesIO(data), syntax == IMPLICIT_LE, syntax != EXPLICIT_BE)
    data_set.decode()
    return data_set


@by_syntax
@given(pydicom_data_sets)
def test_what_pydicom_writes_is_read_and_written_again_to_the_byte(syntax: str, data_set: Dataset) -> None:
    data = written_by_pydicom(data_set, syntax)
    found, notes = read(data, syntax)
    assert encode_data_set(found, syntax) == data
    assert notes == []
    assert found == decode_data_set(written_by_pydicom(data_set, EXPLICIT_LE), EXPLICIT_LE)


def meaning(data_set: Dataset) -> dict[int, Any]:
    """Tags to values; pydicom has several values that mean none."""
    return {
        int(element.tag): [meaning(item) for item in element.value]
        if element.VR == "SQ"
        else (element.VR, element.value or None)
        for element in data_set
    }


@by_syntax
@given(pydicom_data_sets)
def test_what_we_write_is_read_by_pydicom_as_it_was_meant(syntax: str, data_set: Dataset) -> None:
    found = decode_data_set(written_by_pydicom(data_set, EXPLICIT_LE), EXPLICIT_LE)
    assert meaning(read_by_pydicom(encode_data_set(found, syntax), syntax)) == meaning(data_set)
