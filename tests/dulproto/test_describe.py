"""What `dulproto decode` prints of a stream of PDUs."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest

import dulproto
from dulproto import Element, Policy, Requestor, UserIdentity, UserInformation
from dulproto.cli import main, read_bytes
from dulproto.describe import Line, describe
from dulproto.pdu import (
    RELEASE_RP,
    RELEASE_RQ,
    Abort,
    AssociateAc,
    AssociateRj,
    AssociateRq,
    encode_abort,
    encode_ae_titles,
    encode_associate_ac,
    encode_associate_rj,
    encode_associate_rq,
)

RQ = AssociateRq(
    encode_ae_titles("WORKLIST", "CT1"),
    dulproto.propose(dulproto.VERIFICATION, dulproto.MODALITY_WORKLIST_FIND),
    UserInformation(maximum_length=16384, user_identity=UserIdentity(2, b"nurse", b"secret")),
)
POLICY = Policy(abstract_syntaxes={dulproto.MODALITY_WORKLIST_FIND: (dulproto.EXPLICIT_BE,)})
COMMAND = dulproto.CommandSet(
    command_field=dulproto.CommandField.C_FIND_RQ,
    affected_sop_class_uid=dulproto.MODALITY_WORKLIST_FIND,
    message_id=7,
    priority=0,
    command_data_set_type=0x0102,
)
KEYS = {
    0x00100010: Element(0x00100010, "PN", b"Doe^Jane"),
    0x001021C0: Element(0x001021C0, "US", b"\4\0"),
    0x00400100: Element(0x00400100, "SQ", ({0x00080060: Element(0x00080060, "CS", b"CT")},)),
}


def conversation() -> bytes:
    ac = dulproto.negotiate(RQ, {"*": POLICY}, Requestor()).pdu
    assert isinstance(ac, AssociateAc)
    query = dulproto.encode_message(3, COMMAND, dulproto.encode_data_set(KEYS, dulproto.EXPLICIT_BE), 64)
    return encode_associate_rq(RQ) + encode_associate_ac(ac) + query + RELEASE_RQ + RELEASE_RP


def texts(stream: bytes, *, values: bool = True) -> list[str]:
    return [line.text for line in describe(stream, values=values)]


def test_each_pdu_is_named_at_its_offset_with_its_clause() -> None:
    top = [line for line in describe(conversation()) if line.depth == 0]
    assert [line.text.split(",")[0] for line in top[:3]] == ["A-ASSOCIATE-RQ", "A-ASSOCIATE-AC", "P-DATA-TF"]
    assert [line.text for line in top[-2:]] == ["A-RELEASE-RQ, 4 bytes", "A-RELEASE-RP, 4 bytes"]
    assert top[0] == Line(0, 0, top[0].text, "PS3.8 Table 9-11")
    assert top[1].offset == len(encode_associate_rq(RQ))


def test_titles_contexts_and_sub_items_are_spelled_out() -> None:
    lines = texts(conversation())
    assert "called AE title 'WORKLIST'" in lines
    assert "30H abstract syntax 1.2.840.10008.1.1 Verification SOP Class" in lines
    assert "21H presentation context 1: 3 abstract-syntax-not-supported" in lines
    assert "21H presentation context 3: 0 acceptance" in lines
    assert "51H maximum length 16384" in lines


def test_a_passcode_is_never_shown() -> None:
    lines = texts(conversation())
    assert "58H user identity type 2 'nurse'" in lines
    assert not any("secret" in line for line in lines)


def test_a_token_is_never_shown() -> None:
    rq = AssociateRq(RQ.titles, RQ.presentation_contexts, UserInformation(user_identity=UserIdentity(5, b"token")))
    assert "58H user identity type 5" in texts(encode_associate_rq(rq))


def test_a_fragmented_message_is_put_together_in_the_negotiated_transfer_syntax() -> None:
    lines = texts(conversation())
    assert "C-FIND-RQ" in lines
    assert "message id 7" in lines
    assert "data set, Explicit VR Big Endian" in lines
    assert "(0010,0010) PatientName PN [Doe^Jane]" in lines
    assert "(0010,21C0) PregnancyStatus US [04 00]" in lines
    assert "(0008,0060) Modality CS [CT]" in lines


def test_values_can_be_left_out() -> None:
    lines = texts(conversation(), values=False)
    assert "(0010,0010) PatientName PN, 8 bytes" in lines
    assert not any("Doe" in line for line in lines)


def test_a_message_without_its_negotiation_is_read_by_trying() -> None:
    query = dulproto.encode_message(3, COMMAND, dulproto.encode_data_set(KEYS, dulproto.EXPLICIT_LE), 0)
    lines = texts(query)
    assert "data set, transfer syntax not known" in lines
    assert "(0010,0010) PatientName PN [Doe^Jane]" in lines


def test_a_response_shows_its_status_and_class() -> None:
    template = dulproto.ResponseTemplate(3, 0x20, dulproto.MODALITY_WORKLIST_FIND, 0)
    assert "status FE00H cancel" in texts(template.final(7, dulproto.Status.CANCEL))


def test_a_refusal_and_an_abort_are_named() -> None:
    assert "rejected-permanent" not in texts(encode_associate_rj(AssociateRj(1, 1, 7)))
    assert "permanent, called-AE-title-not-recognized (1/1/7)" in texts(encode_associate_rj(AssociateRj(1, 1, 7)))
    assert "by the service-provider, unexpected-pdu" in texts(encode_abort(Abort(2, 2)))


@pytest.mark.parametrize(
    ("stream", "last"),
    [
        (b"GET / HTTP", "47H: no PDU type, 1411395360 bytes, 1411395356 of them missing"),
        (b"\1\0\0", "3 bytes are too few for a PDU"),
        (RELEASE_RQ[:8], "A-RELEASE-RQ, 4 bytes, 2 of them missing"),
        (bytes.fromhex("04 00 00000006 00000001 0103"), "invalid: PDV length 1 does not fit the PDU"),
    ],
)
def test_what_cannot_be_read_is_described_as_such(stream: bytes, last: str) -> None:
    assert texts(stream)[-1].startswith(last)


def test_hexadecimal_text_is_read_as_the_bytes_it_stands_for() -> None:
    assert read_bytes(b"05 00 00:00\n00,04 0x00000000") == RELEASE_RQ
    assert read_bytes(RELEASE_RQ) == RELEASE_RQ


def test_the_command_prints_offsets_and_clauses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "stream.hex"
    file.write_text(RELEASE_RQ.hex(" "))
    assert main(["decode", str(file)]) == 0
    assert capsys.readouterr().out.split() == ["000000", "A-RELEASE-RQ,", "4", "bytes", "PS3.8", "Table", "9-24"]


def test_the_command_prints_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "stream"
    file.write_bytes(RELEASE_RP)
    assert main(["decode", "--json", str(file)]) == 0
    line = json.loads(capsys.readouterr().out)
    assert line == {"offset": 0, "depth": 0, "text": "A-RELEASE-RP, 4 bytes", "clause": "PS3.8 Table 9-25"}


def test_a_file_that_is_not_there_is_said_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["decode", str(tmp_path / "none")]) == 1
    assert "cannot be read: No such file" in capsys.readouterr().err


def test_python_m_is_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["dulproto", "--version"])
    with pytest.raises(SystemExit) as exit_:
        runpy.run_module("dulproto", run_name="__main__")
    assert exit_.value.code == 0
    assert capsys.readouterr().out == f"dulproto {dulproto.__version__}\n"
