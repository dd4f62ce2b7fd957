"""Whatever a device sends is answered, or refused with a status: nothing else comes out of a query."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import NOW, entry, worklist
from test_item import FULL
from test_worklist import policies

from dulproto import (
    EXPLICIT_BE,
    EXPLICIT_LE,
    IMPLICIT_LE,
    DataSet,
    Element,
    ElementLimitError,
    decode_data_set,
    encode_data_set,
)
from mwl.attributes import CHILDREN, Attribute
from mwl.explain import explain
from mwl.query import IdentifierError, QueryPolicy, compile_query
from mwl.response import ResponsePolicy, response_encoder
from mwl.view import compile_view

SYNTAXES = st.sampled_from((IMPLICIT_LE, EXPLICIT_LE, EXPLICIT_BE))
ENTRIES = worklist(FULL, entry(1), entry(2, station_ae_titles=(), start_date=None, name="", identifiers=()))
VIEW = compile_view()

odd_text = st.text(st.sampled_from("*?^=\\-.: \0\"'0129AaüИ山\x1b$)"), max_size=30).map(lambda text: text.encode())
likely = st.sampled_from(
    (
        b"*",
        b"20240705",
        b"20240705-",
        b"-",
        b"10-1200",
        b"CT",
        b"CT1",
        b"doe^*",
        b"1.2.840.113619.2.1",
        b"\4\0",
        b"70.0",
    )
)
values = st.one_of(st.just(b""), odd_text, likely, st.binary(max_size=20), st.just(b"x" * 1100))


def keys_of(attributes: tuple[Attribute, ...], depth: int = 0) -> st.SearchStrategy[DataSet]:
    def element(attribute: Attribute) -> st.SearchStrategy[Element]:
        if attribute.vr != "SQ":
            return values.map(lambda value: Element(attribute.tag, attribute.vr, value))
        inner = CHILDREN[attribute.path] if attribute.path in CHILDREN else CHILDREN[()]
        items = st.lists(keys_of(inner, depth + 1), max_size=2) if depth < 3 else st.just([])
        return items.map(lambda found: Element(attribute.tag, "SQ", tuple(found)))

    chosen = st.lists(st.sampled_from(attributes), max_size=8, unique=True)
    elements = chosen.flatmap(lambda found: st.tuples(*map(element, found)))
    return elements.map(lambda found: {each.tag: each for each in found})


def answer(identifier: bytes, transfer_syntax: str, policy: QueryPolicy, response: ResponsePolicy) -> None:
    try:
        query = compile_query(identifier, transfer_syntax, policy)
    except IdentifierError as exc:
        refused = exc.status
        assert refused in (0xC003, 0xA900)
        return
    except ElementLimitError:
        return
    encoder = response_encoder(query, transfer_syntax, response, NOW.date())
    slots = ENTRIES.match(query, VIEW, NOW)
    for slot in slots:
        answered = decode_data_set(encoder.encode(slot), transfer_syntax)
        asked = {tag for tag, _ in query.shape}
        assert asked <= set(answered) <= asked | {0x00080005}
        assert list(answered) == sorted(answered)
    told = explain(identifier, transfer_syntax, policy, VIEW, ENTRIES, NOW)
    assert told.listed == tuple(slot.entry.key for slot in slots)


@given(
    keys=keys_of(CHILDREN[()]),
    transfer_syntax=SYNTAXES,
    policy=policies,
    character_set=st.sampled_from(("ISO_IR 100", "ISO_IR 192", "\\ISO 2022 IR 87", "ISO_IR 13", "auto")),
)
def test_any_keys_are_answered_with_what_was_asked_for(
    keys: DataSet, transfer_syntax: str, policy: QueryPolicy, character_set: str
) -> None:
    identifier = encode_data_set(keys, transfer_syntax)
    answer(identifier, transfer_syntax, policy, ResponsePolicy(character_set=character_set))


@given(identifier=st.binary(max_size=80), transfer_syntax=SYNTAXES)
def test_any_bytes_are_answered_or_refused(identifier: bytes, transfer_syntax: str) -> None:
    answer(identifier, transfer_syntax, QueryPolicy(), ResponsePolicy())


@given(keys=keys_of(CHILDREN[()]), transfer_syntax=SYNTAXES, data=st.data())
def test_damaged_identifiers_are_answered_or_refused(keys: DataSet, transfer_syntax: str, data: Any) -> None:
    damaged = bytearray(encode_data_set(keys, transfer_syntax))
    for _ in range(data.draw(st.integers(0, 4)) if damaged else 0):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(damaged)))
    answer(bytes(damaged[:cut]), transfer_syntax, QueryPolicy(strict=data.draw(st.booleans())), ResponsePolicy())


@pytest.mark.parametrize("transfer_syntax", [IMPLICIT_LE, EXPLICIT_LE, EXPLICIT_BE])
def test_all_keys_at_once_are_answered(transfer_syntax: str) -> None:
    keys = {each.tag: Element(each.tag, each.vr, () if each.vr == "SQ" else b"") for each in CHILDREN[()]}
    answer(encode_data_set(keys, transfer_syntax), transfer_syntax, QueryPolicy(), ResponsePolicy())
