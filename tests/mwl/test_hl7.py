from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mwl.hl7.message import (
    Answer,
    Delimiters,
    Hl7Fault,
    Location,
    MessageError,
    decode_header,
    decode_message,
    encode_ack,
    split_messages,
)

NOW = datetime(2024, 7, 5, 9, 30, 0)
HEADER = r"MSH|^~\&|RIS|HOSP|MWL|RAD|20240705093000||ORM^O01|M1|P|2.3.1|||||DEU|"


def message(*lines: str, character_set: str = "", codec: str = "latin_1", end: str = "\r") -> bytes:
    return end.join([HEADER + character_set, *lines, ""]).encode(codec)


# --- segments and fields ------------------------------------------------------------------------------------------


def test_the_fields_have_the_numbers_of_the_standard() -> None:
    read = decode_message(message("PID|1||4711^^^HOSP"))
    assert [read.segments[0].field(number) for number in (0, 1, 2, 3, 10)] == ["MSH", "|", "^~\\&", "RIS", "M1"]
    assert [read.segments[1].field(number) for number in (0, 1, 2, 3, 4)] == ["PID", "1", "", "4711^^^HOSP", ""]


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n", "\r\r", "\n\r"])
def test_any_line_end_ends_a_segment(end: str) -> None:
    read = decode_message(message("PID|1", "PV1", "ORC|NW", end=end))
    assert [(segment.name, segment.text) for segment in read.segments[1:]] == [
        ("PID", "PID|1"),
        ("PV1", "PV1"),
        ("ORC", "ORC|NW"),
    ]


@pytest.mark.parametrize("rest", ["second line", "- third|x", "AB", ""])
def test_a_line_that_is_no_segment_belongs_to_the_text_before_it(rest: str) -> None:
    read = decode_message(message(f"NTE|1||first line\n{rest}", "OBX|1"))
    assert [segment.name for segment in read.segments] == ["MSH", "NTE", "OBX"]
    assert read.segments[1].field(3) == f"first line\n{rest.partition('|')[0]}".rstrip("\n")


def test_bytes_before_msh_are_skipped() -> None:
    read = decode_message(b"\xef\xbb\xbfgarbage\r\n" + message("PID|1"))
    assert read.header.control_id == "M1"


def test_the_occurrences_of_a_segment_are_counted() -> None:
    read = decode_message(message("ORC|NW", "OBR|1", "ORC|NW", "OBR|2"))
    assert [(segment.name, segment.sequence) for segment in read.segments[1:]] == [
        ("ORC", 1),
        ("OBR", 1),
        ("ORC", 2),
        ("OBR", 2),
    ]


def test_separators_are_those_of_the_message() -> None:
    read = decode_message(b"MSH#*+!$#RIS*1#HOSP###20240705##ORM*O01#M1#P#2.5\rPID#1##47!F!11*a$b+c\r")
    assert read.delimiters == Delimiters("#", "*", "+", "!", "$")
    assert (read.header.application, read.header.code, read.header.event) == ("RIS", "ORM", "O01")
    assert read.unescape(read.segments[1].field(3).split("*")[0]) == "47#11"


@pytest.mark.parametrize("characters", ["", "^", "^~", "^~\\"])
def test_separators_that_are_left_out_are_the_usual_ones(characters: str) -> None:
    read = decode_message(f"MSH|{characters}|RIS|||||||M1\r".encode())
    assert read.delimiters == Delimiters()
    assert read.header.application == "RIS"


def test_the_truncation_character_of_2_7_is_no_separator() -> None:
    assert decode_message(b"MSH|^~\\&#|RIS|||||||M1|P|2.7\r").delimiters == Delimiters()


def test_the_event_of_an_old_message_stands_in_evn() -> None:
    read = decode_message(b"MSH|^~\\&|ADT|||||| ADT |M1|P|2.2\rEVN|A08\r")
    assert read.header.type == "ADT_A08"


# --- what cannot be read ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", [b"", b"MSH", b"MSH|^~\\", b"PID|1\r", b"GET / HTTP/1.1\r\n\r\n", bytes(range(256))])
def test_what_has_no_header_cannot_be_answered(raw: bytes) -> None:
    with pytest.raises(MessageError) as caught:
        decode_message(raw)
    assert caught.value.header is None


@pytest.mark.parametrize("characters", ["^^\\&", "^~\\A", "^~\\^"])
def test_separators_that_are_the_same_are_refused_with_the_control_id(characters: str) -> None:
    with pytest.raises(MessageError) as caught:
        decode_message(f"MSH|{characters}|RIS|HOSP|||||ORM^O01|M1|P|2.3\r".encode())
    assert caught.value.fault.location == Location("MSH", 1, 2)


@given(st.binary(max_size=300))
def test_garbage_is_read_or_refused(garbage: bytes) -> None:
    for raw in (garbage, b"MSH" + garbage, b"MSH|^~\\&|" + garbage, message("PID|1") + garbage):
        try:
            read = decode_message(raw)
        except MessageError:
            continue
        for segment in read.segments:
            for field in segment.fields:
                read.unescape(field)
        encode_ack(read.header, Answer("AE"), NOW, "1", read.delimiters)


# --- escapes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (r"a\F\b\S\c\T\d\R\e\E\f", "a|b^c&d~e\\f"),
        (r"one\.br\two\.sp2\three\.sp\four", "one\ntwo\n\nthree\nfour"),
        (r"\H\bold\N\ \Zx1\local", "bold local"),
        (r"M\XFC\ller \X4142\.", "Müller AB."),
        (r"\XZZ\kept", "kept"),
        (r"\C2842\\M2442\plain", "plain"),
        (r"C:\temp", r"C:\temp"),
        (r"no end \E", r"no end \E"),
        (r"\E\E\E\F", r"\E\F"),
    ],
)
def test_escapes_become_what_they_stand_for(raw: str, text: str) -> None:
    assert decode_message(message(f"NTE|1||ü{raw}")).unescape(raw) == text


# --- character sets -----------------------------------------------------------------------------------------------

_SETS = [
    *[("8859/1", "latin_1", "Müller"), ("8859/2", "iso8859_2", "Łukasz"), ("8859/3", "iso8859_3", "Ĉiĝ")],
    *[("8859/4", "iso8859_4", "Ģirts"), ("8859/5", "iso8859_5", "Люкceмбypг"), ("8859/6", "iso8859_6", "قباني")],
    *[("8859/7", "iso8859_7", "Διονυσιος"), ("8859/8", "iso8859_8", "שרון"), ("8859/9", "iso8859_9", "Çavuşoğlu")],
    *[("8859/15", "iso8859_15", "Œuvre €"), ("UNICODE UTF-8", "utf_8", "Wang 王 Łukasz")],
    *[("UNICODE", "utf_8", "Wang 王"), ("UTF-8", "utf_8", "Müller"), ("GB 18030-2000", "gb18030", "王小东")],
    *[("KS X 1001", "euc_kr", "김희중"), ("ISO IR14", "shift_jis", "ﾔﾏﾀﾞ"), ("BIG-5", "big5", "王小東")],
    *[("~ISO IR87", "iso2022_jp", "Yamada 山田"), ("ISO IR14~ISO IR87", "iso2022_jp", "山田 太郎")],
    *[("ISO IR159", "iso2022_jp_2", "山田 丂丄"), ("Windows-1252", "cp1252", "Œuvre – 5 €")],
]


@pytest.mark.parametrize(("declared", "codec", "text"), _SETS)
def test_each_character_set_is_read(declared: str, codec: str, text: str) -> None:
    read = decode_message(message(f"PID|1||4711||{text}^x", character_set=declared, codec=codec))
    assert read.segments[1].field(5) == f"{text}^x"
    assert read.notes == []


def test_a_second_byte_that_looks_like_a_separator_is_none() -> None:
    text = "\u6c36\u5f39"  # 0x7C and 0x5E are second bytes of GB 18030 and Shift JIS
    raw = message(f"PID|1||4711||{text}^x", character_set="GB 18030-2000", codec="gb18030")
    assert decode_message(raw).segments[1].field(5) == f"{text}^x"
    big5 = message("PID|1||4711||功許^x", character_set="BIG-5", codec="big5")
    assert b"\\" in big5.split(b"4711")[1]
    assert decode_message(big5).segments[1].field(5) == "功許^x"


@pytest.mark.parametrize(
    ("declared", "codec", "text", "note"),
    [
        ("ASCII", "latin_1", "Müller", "MSH-18 says ASCII, the bytes are not; taken as 8859/1"),
        ("ASCII", "utf_8", "Müller", "MSH-18 says ASCII, the bytes are UTF-8"),
        ("8859/1", "utf_8", "Müller", "MSH-18 says 8859/1, the bytes are UTF-8"),
        ("UNICODE UTF-8", "latin_1", "Müller", "MSH-18 says UNICODE UTF-8, the bytes are not; taken as 8859/1"),
        ("8859/1", "cp1252", "5–7 €", "the bytes are Windows-1252 rather than 8859/1"),
        ("EBCDIC-X", "latin_1", "Müller", "MSH-18 has an unknown character set 'EBCDIC-X'"),
    ],
)
def test_a_wrong_declaration_is_noticed_and_the_bytes_are_believed(
    declared: str, codec: str, text: str, note: str
) -> None:
    read = decode_message(message(f"PID|1||4711||{text}", character_set=declared, codec=codec))
    assert read.segments[1].field(5) == text
    assert read.notes == [note]


@pytest.mark.parametrize("name", ["HEX", "ROT13", "UTF-16", "IDNA", "UNICODE_ESCAPE", "A\0B", "x" * 300])
def test_a_declaration_that_is_no_character_set_is_noticed(name: str) -> None:
    read = decode_message(message("PID|1||4711||Müller", character_set=name))
    assert read.segments[1].field(5) == "Müller"
    assert len(read.notes) == 1


def test_without_a_declaration_the_default_holds_unless_it_is_utf_8() -> None:
    cyrillic = message("PID|1||1||Иванов", codec="iso8859_5")
    assert decode_message(cyrillic, default_set="8859/5").segments[1].field(5) == "Иванов"
    assert decode_message(message("PID|1||1||Иванов", codec="utf_8")).segments[1].field(5) == "Иванов"


def test_a_site_may_know_better_than_the_sender() -> None:
    raw = message("PID|1||1||Иванов", character_set="8859/1", codec="cp1251")
    assert decode_message(raw, forced_set="windows-1251").segments[1].field(5) == "Иванов"


# --- several messages in a file -----------------------------------------------------------------------------------


def test_a_file_is_cut_into_its_messages() -> None:
    one, two = message("PID|1"), message("PID|2", end="\n")
    for raw in (one + two, b"\x0b" + one + b"\x1c\r\x0b" + two + b"\x1c\r", one + b"\r\n\r\n" + two):
        assert [decode_message(piece).segments[1].field(1) for piece in split_messages(raw)] == ["1", "2"]
    batch = b"FHS|^~\\&\rBHS|^~\\&\r" + one + two + b"BTS|2\rFTS|1\r"
    assert [len(decode_message(piece).segments) for piece in split_messages(batch)] == [2, 2]
    assert split_messages(b"nothing") == []


# --- acknowledgements ---------------------------------------------------------------------------------------------

FAULT = Hl7Fault(101, "Modality & more is missing", Location("OBR", 2, 24, 1, 3))


def test_an_old_sender_gets_err_1() -> None:
    _, header, _ = decode_header(message("PID|1"))
    assert encode_ack(header, Answer("AE", (FAULT,)), NOW, "A1").decode() == (
        "MSH|^~\\&|MWL|RAD|RIS|HOSP|20240705093000||ACK|A1|P|2.3.1\r"
        "MSA|AE|M1|101 Required field missing at OBR[2]-24.3: Modality \\T\\ more is missing\r"
        "ERR|OBR^2^24^101&Required field missing: Modality \\T\\ more is missing&HL70357\r"
    )


def test_a_new_sender_gets_an_err_segment_for_each_fault() -> None:
    raw = message("PID|1").replace(b"2.3.1", b"2.5.1").replace(b"ORM^O01", b"OMI^O23^OMI_O23")
    _, header, _ = decode_header(raw)
    answer = Answer("AE", (FAULT, Hl7Fault(103, "", Location("ORC", 1, 1)), Hl7Fault(207)))
    lines = encode_ack(header, answer, NOW, "A1").decode().split("\r")
    assert lines[0] == "MSH|^~\\&|MWL|RAD|RIS|HOSP|20240705093000||ACK^O23^ACK|A1|P|2.5.1"
    assert lines[2:5] == [
        "ERR||OBR^2^24^1^3|101^Required field missing^HL70357|E||||Modality \\T\\ more is missing",
        "ERR||ORC^1^1|103^Table value not found^HL70357|E",
        "ERR|||207^Application internal error^HL70357|E",
    ]


@pytest.mark.parametrize(("declared", "codec"), [("8859/5", "iso8859_5"), ("UNICODE UTF-8", "utf_8"), ("", "utf_8")])
def test_an_answer_is_in_the_character_set_of_the_message(declared: str, codec: str) -> None:
    raw = message("PID|1", character_set=declared, codec=codec).replace(b"|RIS|", "|РИС|".encode(codec))
    read = decode_message(raw)
    again = decode_message(encode_ack(read.header, Answer("AA"), NOW, "A1", read.delimiters))
    assert again.segments[0].field(5) == "РИС"
    assert again.header.character_sets == declared
    assert again.notes == []


def test_an_answer_has_the_separators_of_the_message() -> None:
    _, header, delimiters = decode_header(b"MSH#*+!$#RIS#HOSP#MWL#RAD###ORM*O01#M1#P#2.5\r")
    ack = encode_ack(header, Answer("AA", warnings=(Hl7Fault(102, "a#b"),)), NOW, "A1", delimiters)
    assert ack == b"MSH#*+!$#MWL#RAD#RIS#HOSP#20240705093000##ACK*O01*ACK#A1#P#2.5\rMSA#AA#M1#a!F!b\r" + (
        b"ERR###102*Data type error*HL70357#W####a!F!b\r"
    )
    assert decode_message(ack).delimiters == delimiters
