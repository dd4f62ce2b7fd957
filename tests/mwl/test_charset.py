import pytest
from hypothesis import given
from hypothesis import strategies as st

from mwl.charset import LATIN_1, character_set, decode_text, encode_text, is_known_character_set

# The defined terms of PS3.3 Tables C.12-2 to C.12-5.
CHARACTER_SETS = (
    *(f"ISO_IR {number}" for number in (6, 13, 100, 101, 109, 110, 126, 127, 138, 144, 148, 166, 192, 203)),
    *(f"ISO 2022 IR {number}" for number in (6, 13, 58, 87, 100, 101, 109, 110, 126, 127, 138, 144, 148)),
    *(f"ISO 2022 IR {number}" for number in (149, 159, 166)),
    *("GB18030", "GBK"),
)
SETS = st.sampled_from((*CHARACTER_SETS, "ISO_IR 13\\ISO 2022 IR 87", "\\ISO 2022 IR 149"))
JAPANESE = "Yamada^Tarou=山田^太郎=やまだ^たろう"


@pytest.mark.parametrize("term", CHARACTER_SETS)
def test_every_defined_term_is_known_and_carries_ascii(term: str) -> None:
    target = character_set(term)
    assert encode_text("Doe^John", target) == b"Doe^John"
    assert decode_text(b"Doe^John", target) == ("Doe^John",)


@pytest.mark.parametrize(
    ("term", "name", "encoded"),
    [
        ("ISO_IR 100", "Müller^Jörg", b"M\xfcller^J\xf6rg"),
        ("ISO_IR 144", "Иванов^Пётр", b"\xb8\xd2\xd0\xdd\xde\xd2^\xbf\xf1\xe2\xe0"),
        ("ISO_IR 126", "Διονυσιος", bytes.fromhex("c4e9efedf5f3e9eff2")),  # PS3.5 Annex H and I to K have these
        ("ISO_IR 192", "Wang^XiaoDong=王^小东", b"Wang^XiaoDong=\xe7\x8e\x8b^\xe5\xb0\x8f\xe4\xb8\x9c"),
        ("GB18030", "Wang^XiaoDong=王^小东", b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab"),
        (
            "\\ISO 2022 IR 87",
            JAPANESE,
            b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
        ),
        (
            "ISO_IR 13\\ISO 2022 IR 87",
            "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
            b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J=\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J",
        ),
        (
            "\\ISO 2022 IR 149",
            "Hong^Gildong=洪^吉洞=홍^길동",
            b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
        ),
        ("ISO 2022 IR 100\\ISO 2022 IR 144", "Müller=Иванов", b"M\xfcller=\x1b-L\xb8\xd2\xd0\xdd\xde\xd2"),
    ],
)
def test_names_both_ways(term: str, name: str, encoded: bytes) -> None:
    target = character_set(term)
    assert encode_text(name, target) == encoded
    assert decode_text(encoded, target)[0] == name


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("", "ISO_IR 6"),
        ("ISO-IR 100", "ISO_IR 100"),
        ("ISO IR 100", "ISO_IR 100"),
        ("ISO_IR_100", "ISO_IR 100"),
        ("ISO_IR100", "ISO_IR 100"),
        ("iso_ir 100 ", "ISO_IR 100"),
        ("UTF-8", "ISO_IR 192"),
        ("ISO 2022 IR 6\\ISO_IR 192", "ISO_IR 192"),  # a set that stands alone, behind another one
        ("\\ISO 2022 IR 87", "ISO 2022 IR 6\\ISO 2022 IR 87"),
        ("ISO_IR 100\\ISO_IR 144", "ISO 2022 IR 100\\ISO 2022 IR 144"),
        ("ISO 2022 58", "ISO 2022 IR 6\\ISO 2022 IR 58"),
    ],
)
def test_Q_37_misspelt_terms_are_understood(written: str, meant: str) -> None:
    assert character_set(written).value == meant


@pytest.mark.parametrize("term", ["KLINGON", "ISO_IR 999", "ISO 2022 IR 6\\ISO 2022 IR 999"])
def test_an_unknown_term_is_an_error(term: str) -> None:
    assert not is_known_character_set(term)


@pytest.mark.parametrize(
    ("text", "term", "expected"),
    [
        ("Łukasz", "ISO_IR 100", b"Lukasz"),
        ("Straße", "ISO_IR 6", b"Strasse"),
        ("Ærø", "ISO_IR 6", b"AEro"),
        ("Щукин", "ISO_IR 100", b"Shchukin"),
        ("Nguyễn", "ISO_IR 100", b"Nguyen"),
        ("O’Brien – x", "ISO_IR 100", b"O'Brien - x"),
        ("Jo\u0308rg", "ISO_IR 100", b"J\xf6rg"),
        ("山田", "ISO_IR 100", b"??"),
        ("Müller", "\\ISO 2022 IR 87", b"Muller"),
        ("10 \u00b5g", "ISO_IR 6", b"10 ug"),  # a thousandth of 10 mg
        ("10 \u03bcg", "ISO_IR 100", b"10 \xb5g"),
        ("10 \u00b5g ½ 山", "ISO_IR 100", b"10 \xb5g \xbd ?"),
        ("10 \u00b5g", "ISO_IR 126", b"10 \xecg"),
        ("10㎍ 5㎖", "ISO_IR 100", b"10\xb5g 5ml"),
        ("10㎍", "ISO_IR 6", b"10ug"),
        ("A ≠ B ≮ C, −5", "ISO_IR 100", b"A ? B ? C, -5"),
        ("Δημήτριος", "ISO_IR 6", b"Dimitrios"),
        ("10² ½ m²", "ISO_IR 6", b"10? ? m?"),  # neither 102 nor 12
        ("ﾔﾏﾀﾞ", "\\ISO 2022 IR 87", b"\x1b$B%d%^%@\x1b(B"),
        ("Jean＝Luc", "ISO_IR 100", b"Jean?Luc"),  # one group of a name, and not two
        ("Łódź Ørsted", "ISO_IR 6", b"Lodz Orsted"),
        ("¥500 ﾔ", "ISO_IR 13", b"?500 \xd4"),  # no backslash, which would make two values
        ("¥500 ﾔ", "ISO 2022 IR 13\\ISO 2022 IR 87", b"?500 \xd4"),
    ],
)
def test_R_050_a_character_outside_the_set_is_transliterated_or_marked(text: str, term: str, expected: bytes) -> None:
    assert encode_text(text, character_set(term)) == expected


def test_R_050_transliteration_can_be_left_out() -> None:
    assert encode_text("Łukasz", LATIN_1, transliterate=False) == b"?ukasz"


def test_Q_36_bytes_of_no_declared_set_are_utf_8_or_the_default() -> None:
    assert decode_text("Müller".encode(), None) == ("Müller",)
    assert decode_text(b"M\xfcller", None) == ("Müller",)
    assert decode_text("Иванов".encode("iso8859_5"), None, character_set("ISO_IR 144")) == ("Иванов",)


def test_Q_38_a_doubtful_declaration_is_read_both_ways() -> None:
    for term in ("ISO_IR 100", "ISO-IR 100"):
        assert decode_text("Müller".encode(), character_set(term)) == ("MÃ¼ller", "Müller")
    assert decode_text(b"M\xfcller", character_set("ISO_IR 192")) == ("Müller",)


@pytest.mark.parametrize(
    ("term", "raw", "text"),
    [
        ("\\ISO 2022 IR 149", b"\x1b$)C\xc8\xab^\xb1\xe6\xb5\xbf=x", "홍^길동=x"),  # one escape sequence for all
        ("\\ISO 2022 IR 149", b"\xc8\xab^\xb1\xe6\xb5\xbf", "홍^길동"),  # none at all
        ("\\ISO 2022 IR 144", "Иванов^П".encode("iso8859_5"), "Иванов^П"),
        ("\\ISO 2022 IR 87", "山田^太郎".encode(), "山田^太郎"),
        ("\\ISO 2022 IR 87", "山田".encode("shift_jis"), "\ufffdR\ufffdc"),  # and not as something else
        ("ISO_IR 6", b"M\xfcller", "Müller"),
    ],
)
def test_bytes_of_which_no_escape_sequence_tells_are_read_as_they_are_meant(term: str, raw: bytes, text: str) -> None:
    assert decode_text(raw, character_set(term)) == (text,)


@given(text=st.text(max_size=40), term=SETS)
def test_any_text_can_be_encoded_in_any_set(text: str, term: str) -> None:
    target = character_set(term)
    encode_text(text, target)
    encode_text(text, target, transliterate=False)


@given(raw=st.binary(max_size=40), term=SETS)
def test_any_bytes_can_be_decoded_in_any_set(raw: bytes, term: str) -> None:
    assert all(isinstance(text, str) for text in decode_text(raw, character_set(term)))


@given(text=st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=40))
def test_utf_8_and_gb18030_lose_nothing(text: str) -> None:
    for term in ("ISO_IR 192", "GB18030"):
        target = character_set(term)
        assert encode_text(text, target).decode(target.codecs[0]) == text


@given(text=st.text(st.sampled_from("AB^=\\ü山ﾔやИ한홍丂髙\n"), max_size=20), term=SETS)
def test_what_a_set_can_say_comes_back(text: str, term: str) -> None:
    target = character_set(term)
    encoded = encode_text(text, target, transliterate=False)
    if b"?" not in encoded:
        assert decode_text(encoded, target)[0] == text
