from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom import pdu as pynetdicom_pdu
from strategies import (
    aborts,
    ae_titles,
    context_results,
    names,
    p_data_tfs,
    pdus,
    uids,
    user_informations,
)

from dulproto.errors import LocalProtocolError, RemoteProtocolError
from dulproto.items import ContextResult, Item, ProposedContext, UserInformation
from dulproto.pdu import (
    DECODERS,
    ENCODERS,
    RELEASE_RP,
    RELEASE_RQ,
    Abort,
    AssociateAc,
    AssociateRj,
    AssociateRq,
    PDataTf,
    PduType,
    Pdv,
    ReleaseRp,
    ReleaseRq,
    check_ae_title,
    check_pdv_length,
    decode_ae_title,
    decode_p_data_tf,
    encode_ae_titles,
    encode_fragments,
)
from dulproto.uids import APPLICATION_CONTEXT, IMPLICIT_LE, VERIFICATION


def encode(pdu: Any) -> bytes:
    return ENCODERS[type(pdu)](pdu)


def decode(data: bytes) -> Any:
    return DECODERS[data[0]](data)


TITLES = "57 4f 52 4b 4c 49 53 54" + "20" * 8 + "43 54 31" + "20" * 13 + "00" * 32  # WORKLIST, CT1
# 10H 1.2.840.10008.3.1.1.1; 20H: id 1, 30H 1.2.840.10008.1.1, 40H 1.2.840.10008.1.2; 50H: 51H 16384, 52H 1.2.3
APPLICATION = "10 00 0015 312e322e3834302e31303030382e332e312e312e31"
TRANSFER = "40 00 0011 312e322e3834302e31303030382e312e32"
PROPOSED = f"20 00 002e 01 000000 30 00 0011 312e322e3834302e31303030382e312e31 {TRANSFER}"
RESULT = f"21 00 0019 01 00 00 00 {TRANSFER}"
USER = "50 00 0011 51 00 0004 00004000 52 00 0005 312e322e33"
USER_INFORMATION = UserInformation(maximum_length=16384, implementation_class_uid="1.2.3")
RQ = AssociateRq(
    encode_ae_titles("WORKLIST", "CT1"), (ProposedContext(1, VERIFICATION, (IMPLICIT_LE,)),), USER_INFORMATION
)
AC = AssociateAc(encode_ae_titles("WORKLIST", "CT1"), (ContextResult(1, 0, IMPLICIT_LE),), USER_INFORMATION)

# All seven by hand, from PS3.8 Tables 9-11 to 9-26.
BY_HAND = [
    ("01H", f"01 00 000000a4 0001 0000 {TITLES} {APPLICATION} {PROPOSED} {USER}", RQ),
    ("02H", f"02 00 0000008f 0001 0000 {TITLES} {APPLICATION} {RESULT} {USER}", AC),
    ("03H", "03 00 00000004 00 01 01 07", AssociateRj(1, 1, 7)),
    ("04H", "04 00 00000008 00000004 01 03 abcd", PDataTf((Pdv(1, 3, b"\xab\xcd"),))),
    (
        "04H with two PDVs, one of them empty",
        "04 00 0000000f 00000002 05 01 00000005 05 02 abcdef",
        PDataTf((Pdv(5, 1, b""), Pdv(5, 2, b"\xab\xcd\xef"))),
    ),
    ("05H", "05 00 00000004 00000000", ReleaseRq()),
    ("06H", "06 00 00000004 00000000", ReleaseRp()),
    ("07H", "07 00 00000004 00 00 02 06", Abort(2, 6)),
]


@pytest.mark.parametrize(("name", "text", "pdu"), BY_HAND, ids=[name for name, _, _ in BY_HAND])
def test_a_pdu_is_read_and_written_as_the_standard_lays_it_out(name: str, text: str, pdu: Any) -> None:
    data = bytes.fromhex(text)
    assert int.from_bytes(data[2:6], "big") == len(data) - 6  # the vector itself is sound
    assert decode(data) == pdu
    assert encode(pdu) == data


@pytest.mark.parametrize(("name", "text", "pdu"), BY_HAND, ids=[name for name, _, _ in BY_HAND])
def test_pynetdicom_reads_our_pdu_and_writes_the_same_bytes(name: str, text: str, pdu: Any) -> None:
    assert through_pynetdicom(encode(pdu)) == bytes.fromhex(text)


def test_all_seven_pdu_types_have_a_decoder_and_an_encoder() -> None:
    assert set(DECODERS) == set(PduType) == {1, 2, 3, 4, 5, 6, 7}
    assert {encode(pdu)[0] for _, _, pdu in BY_HAND} == set(PduType)
    assert len(ENCODERS) == 7


@given(pdus)
def test_every_pdu_survives_encoding(pdu: Any) -> None:
    data = encode(pdu)
    assert int.from_bytes(data[2:6], "big") == len(data) - 6
    assert decode(data) == pdu


# --- pynetdicom as oracle ----------------------------------------------------------------------------------------

_THEIRS = {
    1: pynetdicom_pdu.A_ASSOCIATE_RQ,
    2: pynetdicom_pdu.A_ASSOCIATE_AC,
    3: pynetdicom_pdu.A_ASSOCIATE_RJ,
    4: pynetdicom_pdu.P_DATA_TF,
    5: pynetdicom_pdu.A_RELEASE_RQ,
    6: pynetdicom_pdu.A_RELEASE_RP,
    7: pynetdicom_pdu.A_ABORT_RQ,
}


def pynetdicom_reads(data: bytes) -> Any:
    pdu = _THEIRS[data[0]]()
    pdu.decode(data)
    return pdu


def through_pynetdicom(data: bytes) -> bytes:
    return bytes(pynetdicom_reads(data).encode())


_common = {"titles": ae_titles, "application_context": st.just(APPLICATION_CONTEXT)}
_odd_ids = st.integers(0, 127).map(lambda number: 2 * number + 1)
_proposed = st.builds(ProposedContext, _odd_ids, uids, st.lists(uids, min_size=1, max_size=4).map(tuple))


@given(
    st.builds(
        AssociateRq,
        presentation_contexts=st.lists(_proposed, min_size=1, max_size=4).map(tuple),
        user_information=user_informations(),
        **_common,
    )
)
def test_pynetdicom_reads_any_request_of_ours_as_it_was_meant(rq: AssociateRq) -> None:
    theirs = pynetdicom_reads(encode(rq))
    assert theirs.called_ae_title.strip() == rq.called_ae_title
    assert theirs.calling_ae_title.strip() == rq.calling_ae_title
    assert [
        ProposedContext(item.context_id, item.abstract_syntax, tuple(item.transfer_syntax))
        for item in theirs.presentation_context
    ] == list(rq.presentation_contexts)
    assert theirs.user_information.maximum_length == rq.user_information.maximum_length
    assert decode(bytes(theirs.encode())) == rq


@given(
    st.builds(
        AssociateAc,
        presentation_contexts=st.lists(context_results, min_size=1, max_size=4).map(tuple),
        user_information=user_informations(
            common_extended_negotiations=st.just(()), user_identity=st.none(), user_identity_response=st.none()
        ),
        **_common,
    )
)
def test_pynetdicom_reads_any_acceptance_of_ours_as_it_was_meant(ac: AssociateAc) -> None:
    theirs = pynetdicom_reads(encode(ac))
    assert [
        ContextResult(item.context_id, item.result, item.transfer_syntax) for item in theirs.presentation_context
    ] == list(ac.presentation_contexts)
    assert decode(bytes(theirs.encode())) == ac


@given(p_data_tfs | aborts | st.builds(AssociateRj, st.just(1), st.just(1), st.sampled_from((1, 2, 3, 7))))
def test_pynetdicom_gives_back_the_bytes_of_any_other_pdu(pdu: Any) -> None:
    assert through_pynetdicom(encode(pdu)) == encode(pdu)


# --- tolerance ---------------------------------------------------------------------------------------------------


def test_reserved_bytes_are_not_tested() -> None:
    data = bytearray(encode(RQ))
    data[1] = data[8] = data[9] = 0xFF
    assert decode(bytes(data)) == RQ
    assert decode(bytes.fromhex("03 ff 00000004 ff 01 01 07")) == AssociateRj(1, 1, 7)
    assert decode(bytes.fromhex("07 ff 00000004 ff ff 02 01")) == Abort(2, 1)


def test_items_are_read_in_any_order() -> None:
    rq = bytes.fromhex(f"01 00 000000a4 0001 0000 {TITLES} {USER} {PROPOSED} {APPLICATION}")
    assert decode(rq) == RQ
    ac = bytes.fromhex(f"02 00 0000008f 0001 0000 {TITLES} {RESULT} {USER} {APPLICATION}")
    assert decode(ac) == AC


def test_items_of_unknown_types_are_kept_and_change_nothing() -> None:
    rq = bytes.fromhex(f"01 00 000000aa 0001 0000 {TITLES} {APPLICATION} 77 00 0002 abcd {PROPOSED} {USER}")
    assert decode(rq).unknown == (Item(0x77, b"\xab\xcd"),)
    assert decode(encode(decode(rq))) == decode(rq)
    assert decode(rq).presentation_contexts == RQ.presentation_contexts


def test_the_user_information_may_be_missing() -> None:
    rq = bytes.fromhex(f"01 00 0000008f 0001 0000 {TITLES} {APPLICATION} {PROPOSED}")
    assert decode(rq).user_information == UserInformation()


def test_the_titles_of_an_acceptance_are_kept_as_they_came() -> None:
    ac = AssociateAc(bytes(range(64)), AC.presentation_contexts)
    assert decode(encode(ac)).titles == bytes(range(64))


@pytest.mark.parametrize("length", [0, 1, 3, 4, 5, 1024])
def test_a_release_of_any_length_is_a_release(length: int) -> None:
    content = length.to_bytes(4, "big") + b"\xff" * length
    assert decode(b"\x05\x00" + content) == ReleaseRq()
    assert decode(b"\x06\x00" + content) == ReleaseRp()


@pytest.mark.parametrize("length", range(4))
def test_an_abort_that_is_cut_short_still_aborts(length: int) -> None:
    assert decode(b"\x07\x00" + length.to_bytes(4, "big") + b"\xff" * length) == Abort(0, 0)


def test_a_longer_rejection_or_abort_is_read_by_its_first_bytes() -> None:
    assert decode(bytes.fromhex("03 00 00000006 00 01 01 03 ffff")) == AssociateRj(1, 1, 3)
    assert decode(bytes.fromhex("07 00 00000006 00 00 02 05 ffff")) == Abort(2, 5)


# --- malformed ---------------------------------------------------------------------------------------------------

HEAD = f"01 00 00000000 0001 0000 {TITLES}"  # 74 bytes; the length field is the reader's matter
AC_HEAD = f"02 00 00000000 0001 0000 {TITLES}"
MALFORMED = [
    ("no titles", "01 00 00000004 0001 0000", "A-ASSOCIATE-RQ", 10),
    ("one byte short of an item", HEAD[:-2], "A-ASSOCIATE-RQ", 73),
    ("half an item header", f"{HEAD} 10 00", "A-ASSOCIATE-RQ", 74),
    ("item longer than the PDU", f"{HEAD} 10 00 0005 31", "A-ASSOCIATE-RQ", 76),
    ("context item longer than the PDU", f"{HEAD} {APPLICATION} 20 00 00ff 01", "A-ASSOCIATE-RQ", 101),
    ("context without id", f"{HEAD} {APPLICATION} 20 00 0003 010000", "Presentation-context-item", 103),
    ("sub-item too long", f"{HEAD} {APPLICATION} 20 00 0008 01000000 30 00 0001", "Presentation-context-item", 109),
    ("51H too short", f"{HEAD} {APPLICATION} {PROPOSED} 50 00 0005 51 00 0001 00", "Maximum-length-sub-item", 157),
    ("no application context", f"{HEAD} {PROPOSED} {USER}", "Application-context-item", 145),
    ("empty application context", f"{HEAD} 10 00 0000 {PROPOSED}", "Application-context-item", 128),
    ("no presentation context", f"{HEAD} {APPLICATION} {USER}", "Presentation-context-item", 120),
    ("AC items in an RQ only", f"{HEAD} {APPLICATION} {RESULT}", "Presentation-context-item", 128),
    ("AC too short", "02 00 00000002 0001", "A-ASSOCIATE-AC", 8),
    ("AC without result", f"{AC_HEAD} {APPLICATION} {PROPOSED}", "Presentation-context-item", 149),
    ("AC item longer than the PDU", f"{AC_HEAD} 21 00 0019 01 00", "A-ASSOCIATE-AC", 76),
    ("RJ too short", "03 00 00000003 00 01 01", "A-ASSOCIATE-RJ", 9),
    ("P-DATA without PDV", "04 00 00000000", "P-DATA-TF", 6),
    ("half a PDV header", "04 00 00000005 00000001 01", "P-DATA-TF", 6),
    ("PDV of 1 byte", "04 00 00000006 00000001 01 03", "PDV-item-length", 6),
    ("PDV of 0 bytes", "04 00 00000006 00000000 01 03", "PDV-item-length", 6),
    ("PDV longer than the PDU", "04 00 00000006 00000003 01 03", "PDV-item-length", 6),
    ("PDV of 4 GiB", "04 00 00000006 ffffffff 01 03", "PDV-item-length", 6),
    ("second PDV too long", "04 00 0000000c 00000002 01 01 00000003 01 02", "PDV-item-length", 12),
    ("a byte left behind the last PDV", "04 00 00000007 00000002 01 01 00", "P-DATA-TF", 12),
]


@pytest.mark.parametrize(("name", "text", "field", "offset"), MALFORMED, ids=[case[0] for case in MALFORMED])
def test_a_fault_is_blamed_on_its_field_and_offset_in_the_pdu(name: str, text: str, field: str, offset: int) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        decode(bytes.fromhex(text))
    assert (caught.value.reason, caught.value.field, caught.value.offset) == (6, field, offset)
    assert f"[{field} at byte {offset}]" in str(caught.value)


@pytest.mark.parametrize("pdu", [RQ, AC], ids=["RQ", "AC"])
def test_an_association_pdu_cut_short_anywhere_is_refused_or_lacks_its_end(pdu: AssociateRq | AssociateAc) -> None:
    data = encode(pdu)
    user_information = len(data) - 21  # 50H is the last item: without all of it the PDU is whole again
    for end in range(6, len(data)):
        if end == user_information:
            assert decode(data[:end]).user_information == UserInformation()
        else:
            with pytest.raises(RemoteProtocolError):
                decode(data[:end])


@pytest.mark.parametrize(("length", "available"), [(0, 10), (1, 10), (11, 10), (0xFFFFFFFF, 10)])
def test_a_pdv_length_must_hold_its_header_and_fit_its_pdu(length: int, available: int) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        check_pdv_length(length, available, 7)
    assert (caught.value.reason, caught.value.offset) == (6, 7)
    check_pdv_length(2, 2, 0)
    check_pdv_length(10, 10, 0)


# --- AE titles ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "title"),
    [
        (b"CT1             ", "CT1"),
        (b"   CT1          ", "CT1"),
        (b"CT 1            ", "CT 1"),
        (b"ABCDEFGHIJKLMNOP", "ABCDEFGHIJKLMNOP"),
        (b"CT1\0\0\0\0\0\0\0\0\0\0\0\0\0", "CT1"),
        (b"CT1\0garbage\xff\0\0\0\0", "CT1"),
        (b"CT1 \0           ", "CT1"),
        (b"                ", ""),
        (b"\0CT1            ", ""),
        (b"ct1             ", "ct1"),
    ],
)
def test_an_ae_title_is_cut_at_nul_and_trimmed(raw: bytes, title: str) -> None:
    assert decode_ae_title(raw) == title


def test_the_titles_of_a_request_are_bytes_11_to_42() -> None:
    assert (RQ.called_ae_title, RQ.calling_ae_title) == ("WORKLIST", "CT1")
    assert encode(RQ)[10:26] == b"WORKLIST        "
    assert encode(RQ)[26:42] == b"CT1             "
    assert encode(RQ)[42:74] == bytes(32)


@given(names, names)
def test_ae_titles_survive_encoding(called: str, calling: str) -> None:
    titles = encode_ae_titles(called, calling)
    assert len(titles) == 64
    assert (decode_ae_title(titles[:16]), decode_ae_title(titles[16:32])) == (called, calling)


@pytest.mark.parametrize("title", ["", " ", " " * 16, "A" * 17, "A\\B", "A\tB", "A\nB", "A\x7f", "Ä", "A\0"])
def test_what_is_no_ae_title_is_refused(title: str) -> None:
    with pytest.raises(LocalProtocolError):
        check_ae_title(title)
    with pytest.raises(LocalProtocolError):
        encode_ae_titles(title, "OK")
    with pytest.raises(LocalProtocolError):
        encode_ae_titles("OK", title)


# --- fragments ---------------------------------------------------------------------------------------------------


@given(st.binary(max_size=300), st.integers(0, 1), st.just(0) | st.integers(8, 320))
def test_fragments_are_whole_even_in_order_and_within_the_peers_limit(
    data: bytes, control: int, maximum_length: int
) -> None:
    stream = encode_fragments(7, control, data, maximum_length)
    pdvs: list[Pdv] = []
    while stream:
        length = int.from_bytes(stream[2:6], "big")
        assert length <= maximum_length or not maximum_length
        pdvs += decode_p_data_tf(stream[: 6 + length]).pdvs
        stream = stream[6 + length :]
    assert b"".join([pdv.fragment for pdv in pdvs]) == data
    assert {pdv.context_id for pdv in pdvs} == {7}
    assert [pdv.control for pdv in pdvs] == [control] * (len(pdvs) - 1) + [control | 2]
    assert all(len(pdv.fragment) % 2 == 0 and pdv.fragment for pdv in pdvs[:-1])


def test_what_fits_exactly_is_not_split() -> None:
    assert encode_fragments(1, 1, bytes(10), 16)[:6] == bytes.fromhex("04 00 00000010")
    assert len(encode_fragments(1, 1, bytes(10), 16)) == 22
    assert len(encode_fragments(1, 1, bytes(11), 17)) == 23  # odd, but the last fragment may be
    assert len(encode_fragments(1, 1, bytes(10), 15)) == 22 + 12  # 8 and 2, since 9 is odd


@pytest.mark.parametrize("maximum_length", [1, 2, 5, 6, 7])
def test_a_limit_too_small_for_two_bytes_is_our_own_fault_to_exceed(maximum_length: int) -> None:
    with pytest.raises(LocalProtocolError, match=f"at most {maximum_length} bytes"):
        encode_fragments(1, 1, bytes(2), maximum_length)


def test_the_release_pdus_are_ready_made() -> None:
    assert bytes.fromhex("05000000000400000000") == RELEASE_RQ
    assert bytes.fromhex("06000000000400000000") == RELEASE_RP
