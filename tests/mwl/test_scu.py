"""The client side of the commands `mwl find` and `mwl echo`, against our own acceptor."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

import dulproto
from dulproto import CommandField, DataSet, Element, Operation, Status
from mwl.keys import query_keys
from mwl.scu import Address, Answer, connection, echo, find, to_csv, to_json, to_table

MATCH: DataSet = {
    0x00080005: Element(0x00080005, "CS", b"ISO_IR 192"),
    0x00100010: Element(0x00100010, "PN", "Müller^Jörg".encode() + b" "),
    0x00100020: Element(0x00100020, "LO", b"4711"),
    0x00400100: Element(
        0x00400100,
        "SQ",
        ({0x00080060: Element(0x00080060, "CS", b"CT"), 0x00400001: Element(0x00400001, "AE", b"CT1\\CT2 ")},),
    ),
}


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("WL@host:104", Address("host", 104, "WL")),
        ("host", Address("host", 11112, "WORKLIST")),
        ("127.0.0.1:11113", Address("127.0.0.1", 11113)),
        ("MY WL@[::1]:104", Address("::1", 104, "MY WL")),
    ],
)
def test_an_address_is_title_host_and_port(text: str, address: Address) -> None:
    assert Address.decode(text) == address


@pytest.mark.parametrize("text", ["", "WL@", "host:port", "host:0", "host:65536", "a b"])
def test_a_wrong_address_says_what_is_wanted(text: str) -> None:
    with pytest.raises(ValueError, match="TITLE@HOST:PORT"):
        Address.decode(text)


def test_a_match_is_dicom_json_with_its_text_decoded() -> None:
    model = to_json(MATCH)
    assert model["00100010"]["Value"] == [{"Alphabetic": "Müller^Jörg"}]
    assert model["00400100"]["Value"][0]["00080060"]["Value"] == ["CT"]


def test_the_table_leaves_out_columns_that_are_empty() -> None:
    headings, rows = to_table([MATCH])
    assert headings == ["Station", "Modality", "Patient", "ID"]
    assert rows == [["CT1\\CT2", "CT", "Müller^Jörg", "4711"]]


def test_csv_has_a_heading_and_a_line_for_each_match() -> None:
    heading, line = to_csv([MATCH]).splitlines()
    assert heading.startswith("Date,Time,Station,Modality,Patient,ID")
    assert line.startswith(",,CT1\\CT2,CT,Müller^Jörg,4711")


def answer(operation: Operation) -> Iterator[bytes]:
    if operation.calling_ae_title == "REFUSED":
        yield operation.final(Status.OUT_OF_RESOURCES, error_comment="come back later")
        return
    while operation.calling_ae_title == "ENDLESS":
        yield operation.pending(MATCH)
    for _ in range(1000):
        yield operation.pending(MATCH)


@pytest.fixture
async def port() -> AsyncIterator[int]:
    services = {
        dulproto.VERIFICATION: {CommandField.C_ECHO_RQ: dulproto.answer_echo},
        dulproto.MODALITY_WORKLIST_FIND: {CommandField.C_FIND_RQ: answer},
    }
    async with await dulproto.serve(services, port=0) as server:
        yield server.addresses[0][1]


def connect(port: int, calling: str = "CT1") -> dulproto.connect:
    return connection(Address("127.0.0.1", port), calling, [dulproto.EXPLICIT_LE], 16384, 10)


async def test_echo_gives_the_status(port: int) -> None:
    async with connect(port) as association:
        assert (await echo(association)).ok


async def test_find_yields_matches_and_then_the_answer(port: int) -> None:
    async with connect(port) as association:
        results = [result async for result in find(association, query_keys(["Modality=CT"]))]
    assert results == [*[MATCH] * 1000, Answer(0)]


async def test_a_query_can_be_cancelled(port: int) -> None:
    async with connect(port, "ENDLESS") as association:
        results = [result async for result in find(association, query_keys([]), cancel_after=1)]
    assert results[-1] == Answer(0xFE00)
    assert results[-1].ok


async def test_a_refusal_carries_the_comment_of_the_provider(port: int) -> None:
    async with connect(port, "REFUSED") as association:
        results = [result async for result in find(association, query_keys([]))]
    assert results == [Answer(0xA700, "come back later")]
    assert str(results[0]) == "A700H out of resources: come back later"
    assert not results[0].ok
