from __future__ import annotations

import pytest
from hypothesis import given
from strategies import any_user_informations, context_results, proposed_contexts

from dulproto.errors import LocalProtocolError, RemoteProtocolError
from dulproto.items import (
    CommonExtendedNegotiation,
    ContextResult,
    ExtendedNegotiation,
    Item,
    ProposedContext,
    RoleSelection,
    UserIdentity,
    UserInformation,
    decode_context_result,
    decode_proposed_context,
    decode_uid,
    decode_user_information,
    encode_context_result,
    encode_item,
    encode_proposed_context,
    encode_user_information,
    walk,
)

U = "1.2.840"
U_HEX = "31 2e 32 2e 38 34 30"  # 1.2.840, 7 bytes


def user_information(content: str) -> UserInformation:
    data = bytes.fromhex(content)
    return decode_user_information(data, 0, len(data))


# Each sub-item by hand, from PS3.8 Annex D and PS3.7 Annex D, and what it says.
SUB_ITEMS = [
    ("51H", "51 00 0004 00004000", UserInformation(maximum_length=16384)),
    ("51H no limit", "51 00 0004 00000000", UserInformation(maximum_length=0)),
    ("51H greatest", "51 00 0004 ffffffff", UserInformation(maximum_length=0xFFFFFFFF)),
    ("52H", f"52 00 0007 {U_HEX}", UserInformation(implementation_class_uid=U)),
    ("53H", "53 00 0004 0003 0001", UserInformation(asynchronous_operations_window=(3, 1))),
    ("53H no limit", "53 00 0004 0000 0000", UserInformation(asynchronous_operations_window=(0, 0))),
    ("54H", f"54 00 000b 0007 {U_HEX} 01 00", UserInformation(role_selections=(RoleSelection(U, 1, 0),))),
    (
        "54H twice",
        f"54 00 000b 0007 {U_HEX} 01 00 54 00 0007 0003 312e33 00 01",
        UserInformation(role_selections=(RoleSelection(U, 1, 0), RoleSelection("1.3", 0, 1))),
    ),
    ("55H", "55 00 0004 41425f31", UserInformation(implementation_version_name="AB_1")),
    (
        "56H",
        f"56 00 000c 0007 {U_HEX} 01 01 01",
        UserInformation(extended_negotiations=(ExtendedNegotiation(U, b"\1\1\1"),)),
    ),
    (
        "56H without information",
        f"56 00 0009 0007 {U_HEX}",
        UserInformation(extended_negotiations=(ExtendedNegotiation(U, b""),)),
    ),
    (
        "57H without related classes",
        f"57 00 0010 0007 {U_HEX} 0003 312e34 0000",
        UserInformation(common_extended_negotiations=(CommonExtendedNegotiation(U, "1.4"),)),
    ),
    (
        "57H with two related classes, version 2",
        f"57 02 001a 0007 {U_HEX} 0003 312e34 000a 0003 312e35 0003 312e36",
        UserInformation(
            common_extended_negotiations=(CommonExtendedNegotiation(U, "1.4", ("1.5", "1.6"), version=2),)
        ),
    ),
    ("58H user name", "58 00 0009 01 00 0003 6a6f65 0000", UserInformation(user_identity=UserIdentity(1, b"joe"))),
    (
        "58H user name and passcode, response wanted",
        "58 00 000b 02 01 0003 6a6f65 0002 7077",
        UserInformation(user_identity=UserIdentity(2, b"joe", b"pw", positive_response_requested=True)),
    ),
    ("59H", "59 00 0004 0002 6f6b", UserInformation(user_identity_response=b"ok")),
    ("59H empty", "59 00 0002 0000", UserInformation(user_identity_response=b"")),
    ("unknown", "5a 00 0002 abcd", UserInformation(unknown=(Item(0x5A, b"\xab\xcd"),))),
    ("unknown, FFH, empty", "ff 00 0000", UserInformation(unknown=(Item(0xFF, b""),))),
]


@pytest.mark.parametrize(("name", "content", "user"), SUB_ITEMS, ids=[name for name, _, _ in SUB_ITEMS])
def test_a_sub_item_is_read_and_written_as_the_standard_lays_it_out(
    name: str, content: str, user: UserInformation
) -> None:
    data = bytes.fromhex(content)
    assert user_information(content) == user
    assert encode_user_information(user) == b"\x50\x00" + len(data).to_bytes(2, "big") + data


def test_sub_items_are_read_in_any_order_and_written_ascending() -> None:
    parts = [content for _, content, _ in SUB_ITEMS if content[:2] in ("51", "52", "53", "55", "59", "5a")]
    backwards = user_information(" ".join(reversed(parts)))
    data = encode_user_information(backwards)
    types = [kind for kind, _, _ in walk(data, 4, len(data), "")]
    assert types == sorted(types) == [0x51, 0x52, 0x53, 0x55, 0x59, 0x5A]


def test_an_absent_user_information_says_nothing() -> None:
    assert user_information("") == UserInformation()
    assert encode_user_information(UserInformation()) == bytes.fromhex("50000000")


def test_a_reserved_byte_of_an_item_is_not_tested() -> None:
    assert user_information("51 99 0004 00004000").maximum_length == 16384


@pytest.mark.parametrize("padding", ["00", "20", "0000", "2000"])
def test_padding_of_uids_and_names_is_dropped(padding: str) -> None:
    size = 7 + len(padding) // 2
    assert user_information(f"52 00 00{size:02x} {U_HEX} {padding}").implementation_class_uid == U
    size = 1 + len(padding) // 2
    assert user_information(f"55 00 00{size:02x} 41 {padding}").implementation_version_name == "A"
    assert decode_uid(bytes.fromhex(U_HEX + padding)) == U


def test_bytes_behind_a_fixed_sub_item_are_ignored() -> None:
    assert user_information("51 00 0006 00004000 ffff").maximum_length == 16384


def test_a_user_identity_may_leave_out_the_secondary_length() -> None:
    assert user_information("58 00 0007 01 00 0003 6a6f65").user_identity == UserIdentity(1, b"joe")


def test_reserved_bytes_behind_the_related_classes_are_ignored() -> None:
    user = user_information(f"57 00 0012 0007 {U_HEX} 0003 312e34 0000 ffff")
    assert user.common_extended_negotiations == (CommonExtendedNegotiation(U, "1.4"),)


USER, ROLE = "User-information-item", "Role-selection-sub-item"
EXTENDED, IDENTITY = "SOP-class-extended-negotiation-sub-item", "User-identity-sub-item"
COMMON = "SOP-class-common-extended-negotiation-sub-item"

# Content of a user information item; the field to blame; the offset of the fault in the content.
MALFORMED = [
    ("half a header", "51 00", USER, 0),
    ("half a header behind an item", "59 00 0002 0000 51 00 00", USER, 6),
    ("longer than its parent", "51 00 0005 00004000", USER, 2),
    ("second longer than its parent", "59 00 0002 0000 51 00 ffff 00004000", USER, 8),
    ("51H of 3 bytes", "51 00 0003 000040", "Maximum-length-sub-item", 4),
    ("51H empty", "51 00 0000", "Maximum-length-sub-item", 4),
    ("53H of 3 bytes", "53 00 0003 000100", "Asynchronous-operations-window-sub-item", 4),
    ("54H empty", "54 00 0000", ROLE, 4),
    ("54H, UID longer than the item", f"54 00 000b 000a {U_HEX} 01 00", ROLE, 4),
    ("54H without roles", f"54 00 0009 0007 {U_HEX}", ROLE, 13),
    ("54H with one role", f"54 00 000a 0007 {U_HEX} 01", ROLE, 13),
    ("56H of 1 byte", "56 00 0001 00", EXTENDED, 4),
    ("56H, UID longer than the item", f"56 00 0009 0008 {U_HEX}", EXTENDED, 4),
    ("57H empty", "57 00 0000", COMMON, 4),
    ("57H, UID longer than the item", f"57 00 0009 0008 {U_HEX}", COMMON, 4),
    ("57H without service class", f"57 00 0009 0007 {U_HEX}", COMMON, 13),
    ("57H, service class longer than the item", f"57 00 000e 0007 {U_HEX} 0004 312e34", COMMON, 13),
    ("57H without related classes", f"57 00 000e 0007 {U_HEX} 0003 312e34", COMMON, 18),
    ("57H, related classes longer than the item", f"57 00 0010 0007 {U_HEX} 0003 312e34 0001", COMMON, 18),
    ("57H, related class longer than the list", f"57 00 0015 0007 {U_HEX} 0003 312e34 0005 0004 312e35", COMMON, 20),
    ("57H, half a length in the list", f"57 00 0011 0007 {U_HEX} 0003 312e34 0001 00", COMMON, 20),
    ("58H of 1 byte", "58 00 0001 01", IDENTITY, 4),
    ("58H without primary field", "58 00 0002 01 00", IDENTITY, 6),
    ("58H, primary longer than the item", "58 00 0007 01 00 0004 6a6f65", IDENTITY, 6),
    ("58H, half a secondary length", "58 00 0008 01 00 0003 6a6f65 00", IDENTITY, 11),
    ("58H, secondary longer than the item", "58 00 000a 02 00 0003 6a6f65 0002 70", IDENTITY, 11),
    ("59H empty", "59 00 0000", IDENTITY, 4),
    ("59H, response longer than the item", "59 00 0003 0002 6f", IDENTITY, 4),
]


@pytest.mark.parametrize(("name", "content", "field", "offset"), MALFORMED, ids=[case[0] for case in MALFORMED])
def test_a_length_that_does_not_fit_is_blamed_on_its_field_and_offset(
    name: str, content: str, field: str, offset: int
) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        user_information(content)
    assert (caught.value.reason, caught.value.field, caught.value.offset) == (6, field, offset)


@pytest.mark.parametrize("content", [content for _, content, _ in SUB_ITEMS])
def test_an_item_cut_short_anywhere_is_refused(content: str) -> None:
    data = bytes.fromhex(content)
    first = 4 + int.from_bytes(data[2:4], "big")
    for end in range(1, first):
        with pytest.raises(RemoteProtocolError):
            decode_user_information(data, 0, end)


PROPOSED = "03 000000 30 00 0007 31 2e 32 2e 38 34 30 40 00 0003 312e34 40 00 0003 312e35"
RESULT = "03 00 04 00 40 00 0003 312e34"


def test_a_proposed_context_is_read_and_written_as_the_standard_lays_it_out() -> None:
    data = bytes.fromhex(PROPOSED)
    context = ProposedContext(3, U, ("1.4", "1.5"))
    assert decode_proposed_context(data, 0, len(data)) == context
    assert encode_proposed_context(context) == b"\x20\x00\x00\x1d" + data


def test_a_context_result_is_read_and_written_as_the_standard_lays_it_out() -> None:
    data = bytes.fromhex(RESULT)
    assert decode_context_result(data, 0, len(data)) == ContextResult(3, 4, "1.4")
    assert encode_context_result(ContextResult(3, 4, "1.4")) == b"\x21\x00\x00\x0b" + data


def test_a_context_may_lack_its_syntaxes() -> None:
    assert decode_proposed_context(bytes.fromhex("05 000000"), 0, 4) == ProposedContext(5, "", ())
    assert encode_proposed_context(ProposedContext(5, "", ())) == bytes.fromhex("20 00 0004 05 000000")
    assert decode_context_result(bytes.fromhex("05 00 03 00"), 0, 4) == ContextResult(5, 3, "")


def test_the_first_abstract_syntax_of_a_context_counts_and_unknown_sub_items_are_skipped() -> None:
    data = bytes.fromhex("01 000000 77 00 0001 ff 30 00 0003 312e34 30 00 0003 312e35")
    assert decode_proposed_context(data, 0, len(data)) == ProposedContext(1, "1.4", ())
    data = bytes.fromhex("01 00 00 00 77 00 0001 ff 40 00 0003 312e34")
    assert decode_context_result(data, 0, len(data)) == ContextResult(1, 0, "1.4")


@pytest.mark.parametrize("decode", [decode_proposed_context, decode_context_result])
@pytest.mark.parametrize(
    ("content", "offset"), [("", 0), ("01 0000", 0), ("01 000000 40", 4), ("01 000000 40 00 0004 312e34", 6)]
)
def test_a_malformed_context_is_blamed_on_the_presentation_context_item(decode, content: str, offset: int) -> None:  # type: ignore[no-untyped-def]
    data = bytes.fromhex(content)
    with pytest.raises(RemoteProtocolError) as caught:
        decode(data, 0, len(data))
    assert (caught.value.reason, caught.value.field, caught.value.offset) == (6, "Presentation-context-item", offset)


def test_an_item_that_its_length_field_cannot_hold_is_our_own_fault() -> None:
    assert len(encode_item(0x58, bytes(0xFFFF))) == 0x10003
    with pytest.raises(LocalProtocolError, match="58H"):
        encode_item(0x58, bytes(0x10000))
    for identity in (UserIdentity(5, bytes(0x10000)), UserIdentity(5, bytes(0xFFFF))):
        with pytest.raises(LocalProtocolError):
            encode_user_information(UserInformation(user_identity=identity))
    related = ("1." + "2" * 1000,) * 66
    with pytest.raises(LocalProtocolError):
        encode_user_information(
            UserInformation(common_extended_negotiations=(CommonExtendedNegotiation(U, U, related),))
        )


@given(any_user_informations)
def test_a_user_information_survives_encoding(user: UserInformation) -> None:
    data = encode_user_information(user)
    assert decode_user_information(data, 4, len(data)) == user


@given(proposed_contexts)
def test_a_proposed_context_survives_encoding(context: ProposedContext) -> None:
    data = encode_proposed_context(context)
    assert decode_proposed_context(data, 4, len(data)) == context


@given(context_results)
def test_a_context_result_survives_encoding(result: ContextResult) -> None:
    data = encode_context_result(result)
    assert decode_context_result(data, 4, len(data)) == result
