from pathlib import Path
from typing import Annotated, Literal

import msgspec
import pytest

from mwl.checked import decode, suggestion


def even_fault(number: int) -> str | None:
    return "is odd" if number % 2 else None


class Inner(msgspec.Struct):
    name: str
    numbers: tuple[Annotated[int, even_fault], ...] = ()


class Outer(msgspec.Struct):
    first: Inner
    rest: tuple[Inner, ...] = ()
    choice: Literal["a", "b"] = "a"
    table: dict[str, int] = {}
    path: Path | None = None
    _computed: int = 0


def faults_of(raw: object) -> list[str]:
    return decode(Outer, raw)[1]


def test_plain_values_become_structs() -> None:
    raw = {"first": {"name": "x", "numbers": [2, 4]}, "choice": "b", "table": {"k": 1}, "path": "a/b"}
    assert decode(Outer, raw) == (Outer(Inner("x", (2, 4)), (), "b", {"k": 1}, Path("a/b")), [])


@pytest.mark.parametrize(
    ("raw", "faults"),
    [
        ({}, ["first: is missing"]),
        ([], [": a table is wanted, list is given"]),
        ({"first": 1}, ["first: a table is wanted, int is given"]),
        ({"first": {}}, ["first.name: is missing"]),
        ({"first": {"name": 1}}, ["first.name: expected `str`, got `int`"]),
        ({"first": {"name": "x", "numbers": [1, 2, 3]}}, ["first.numbers[0]: is odd", "first.numbers[2]: is odd"]),
        ({"first": {"name": "x", "numbers": 4}}, ["first.numbers: a list is wanted, int is given"]),
        ({"first": {"name": "x", "nam": "y"}}, ['first.nam: unknown key, did you mean "name"?']),
        ({"first": {"name": "x"}, "rest": [{}]}, ["rest[0].name: is missing"]),
        ({"first": {"name": "x"}, "rest": [1]}, ["rest[0]: a table is wanted, int is given"]),
        ({"first": {"name": "x"}, "choice": "c"}, ["choice: 'c' is none of 'a', 'b'"]),
        ({"first": {"name": "x"}, "table": []}, ["table: a table is wanted, list is given"]),
        ({"first": {"name": "x"}, "table": {"k": "v"}}, ["table.k: expected `int`, got `str`"]),
        ({"first": {"name": "x"}, "path": 5}, ["path: a path is wanted"]),
        ({"first": {"name": "x"}, "_computed": 5}, ["_computed: unknown key"]),
    ],
)  # fmt: skip
def test_each_fault_is_named_with_the_path_of_its_key(raw: object, faults: list[str]) -> None:
    assert faults_of(raw) == faults


def test_a_faulty_value_is_stood_in_for_by_its_default() -> None:
    value, faults = decode(Outer, {"first": {"name": "x"}, "choice": 1})
    assert (value.choice, len(faults)) == ("a", 1)


@pytest.mark.parametrize(("word", "meant"), [("naem", "name"), ("NAME", "name"), ("colour", "")])
def test_the_nearest_known_word_is_suggested(word: str, meant: str) -> None:
    assert suggestion(word, ["name", "numbers"]) == (f', did you mean "{meant}"?' if meant else "")
