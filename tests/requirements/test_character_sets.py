"""Character sets beyond Latin-1 through the wire, both ways: queries in them and answers in them."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from outside import Serve, ask, identifier
from samples import entry

from dulproto import EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE
from mwl.item import Entry


class Script(NamedTuple):
    """A character set, a name in it and another one, the bytes of the name by the standard, and what finds it."""

    terms: str
    name: str
    other: str
    raw: bytes
    keys: tuple[bytes, ...]


# The bytes of Japanese and Korean names are those of PS3.5 Annexes H and I.
SCRIPTS = [
    Script(
        "ISO_IR 144",
        "Люкceмбypг",
        "Иванов",
        b"\xbb\xee\xda\x63\x65\xdc\xd1\x79\x70\xd3",
        (b"\xbb\xee\xda\x63\x65\xdc\xd1\x79\x70\xd3", b"\xbb\xee*", b"\xdb\xce\xda*"),
    ),
    Script(
        "\\ISO 2022 IR 87",
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
        "Suzuki^Hanako=鈴木^花子=すずき^はなこ",
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
        (
            b"yamada^tarou",
            b"=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B",
            b"*=\x1b$B;3\x1b(B*",
            b"\x1b$B$d$^$@\x1b(B*",
            b"YAM*=\x1b$B;3ED\x1b(B*=\x1b$B$d\x1b(B*",
        ),
    ),
    Script(
        "ISO 2022 IR 13\\ISO 2022 IR 87",
        "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
        "ｽｽﾞｷ^ﾊﾅｺ=鈴木^花子=すずき^はなこ",
        b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J=\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J",
        (b"\xd4\xcf\xc0\xde*", b"=\x1b$B;3ED\x1b(J*"),
    ),
    Script(
        "\\ISO 2022 IR 149",
        "Hong^Gildong=洪^吉洞=홍^길동",
        "Kim^Minho=金^敏浩=김^민호",
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
        (b"=\x1b$)C\xfb\xf3*", b"\x1b$)C\xc8\xab^*"),
    ),
    Script(
        "ISO_IR 192",
        "Wang^XiaoDong=王^小东",
        "Łukasz^Żak",
        "Wang^XiaoDong=王^小东".encode(),
        ("=王^小东".encode(), "*=王*".encode(), "王^?东".encode(), b"wang*"),
    ),
    Script(
        "GB18030",
        "Wang^XiaoDong=王^小东",
        "Zhang^Mei=张^美",
        b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab",
        (b"=\xcd\xf5^\xd0\xa1\xb6\xab", b"=\xcd\xf5*", b"\xcd\xf5^?\xb6\xab"),
    ),
    Script("ISO_IR 126", "Διονυσιος", "Νίκος", b"\xc4\xe9\xef\xed\xf5\xf3\xe9\xef\xf2", (b"\xc4\xe9*",)),
    Script("ISO_IR 138", "שרון^דבורה", "כהן^שרה", b"\xf9\xf8\xe5\xef^\xe3\xe1\xe5\xf8\xe4", (b"\xf9\xf8\xe5\xef*",)),
]


def entries(script: Script) -> tuple[Entry, Entry]:
    return entry(1, name=script.name, location="R1"), entry(2, name=script.other)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.terms)
async def test_a_query_finds_names_in_the_set_that_it_declares(serve: Serve, script: Script) -> None:
    site = await serve(*entries(script))
    found = [
        (key, (await site.find(PatientName=key, SpecificCharacterSet=script.terms)).steps) for key in script.keys
    ]
    assert found == [(key, ["SPS1"]) for key in script.keys]


@pytest.mark.parametrize("syntax", [IMPLICIT_LE, EXPLICIT_LE, EXPLICIT_BE])
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.terms)
async def test_an_answer_has_the_bytes_of_the_configured_set(serve: Serve, script: Script, syntax: str) -> None:
    site = await serve(*entries(script), character_set=script.terms)
    keys = identifier({"ScheduledProcedureStepLocation": "R1"}, PatientName="")
    answer = await site.ask(keys, transfer_syntaxes=[syntax])
    assert script.raw in answer.identifiers[0]
    assert len(answer.identifiers[0]) % 2 == 0
    answer.one.decode()
    assert str(answer.one.PatientName) == script.name  # as pydicom reads it, by the set that the answer names


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.terms)
async def test_auto_answers_in_the_set_of_the_query(serve: Serve, script: Script) -> None:
    site = await serve(*entries(script), character_set="auto")
    answer = await site.find(PatientName=script.keys[0], SpecificCharacterSet=script.terms)
    assert script.raw in answer.identifiers[0]
    assert (
        script.raw not in (await site.find({"ScheduledProcedureStepLocation": "R1"}, PatientName="")).identifiers[0]
    )


@pytest.mark.parametrize("term", ["ISO 2022 IR 87", "ISO_IR 87"])
async def test_a_set_of_two_bytes_that_is_configured_alone_comes_second_in_answers(serve: Serve, term: str) -> None:
    site = await serve(entry(1, name="Yamada^Tarou=山田^太郎"), character_set=term)
    answer = await site.find(PatientName="=\x1b$B;3ED\x1b(B*", SpecificCharacterSet=term)
    answer.one.decode()
    assert list(answer.one.SpecificCharacterSet) == ["ISO 2022 IR 6", "ISO 2022 IR 87"]
    assert str(answer.one.PatientName) == "Yamada^Tarou=山田^太郎"


async def test_callers_with_different_sets_share_a_worklist(serve: Serve) -> None:
    """One entry in every alphabet; a query in one set finds what is answered in another, marked where it must be."""
    names = [script.name for script in SCRIPTS]
    remote = [{"title": f"CALL{n}", "character_set": script.terms} for n, script in enumerate(SCRIPTS)]
    site = await serve(*(entry(n, name=name) for n, name in enumerate(names)), tables={"remote": remote})
    for n, script in enumerate(SCRIPTS):
        async with site.connect(calling=f"CALL{n}") as association:
            answer = await ask(association, identifier({"ScheduledProcedureStepID": ""}, PatientName=""))
        for match in answer.matches:
            match.decode()
        assert answer.statuses == [0xFF00] * len(SCRIPTS) + [0]
        assert str(answer.matches[n].PatientName) == script.name
        assert all(match.PatientName for match in answer.matches)


async def test_text_of_other_vrs_is_in_the_set_too(serve: Serve) -> None:
    site = await serve(entry(1, description="頭部CT", comments="太郎\r\n花子"), character_set="\\ISO 2022 IR 87")
    answer = await site.find(RequestedProcedureDescription="", PatientComments="")
    answer.one.decode()
    assert answer.one.RequestedProcedureDescription == "頭部CT"
    assert answer.one.PatientComments == "太郎\r\n花子"
