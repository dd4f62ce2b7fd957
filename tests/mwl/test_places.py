"""Associations of several processes, counted in shared memory."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from mwl.places import COLUMNS, SharedAssociations, shared_memory

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="several processes share a port on Linux only")

Pair = tuple[SharedAssociations, SharedAssociations]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Two processes' views of the same memory."""
    with shared_memory(2) as memory:
        one, other = SharedAssociations(memory, 0), SharedAssociations(memory, 1)
        for each in (one, other):
            assert each.add_columns(["WORKLIST", "CT_ONLY"])
        yield one, other


def test_each_counts_those_of_both(pair: Pair) -> None:
    one, other = pair
    assert one.take("WORKLIST", 0)
    assert other.take("WORKLIST", 0)
    assert other.take("CT_ONLY", 0)
    for each in pair:
        assert (each["WORKLIST"], each.get("CT_ONLY", 0), each.get("OTHER", 0)) == (2, 1, 0)
    one.give_back("WORKLIST")
    assert [each["WORKLIST"] for each in pair] == [1, 1]


def test_a_limit_is_for_both_together(pair: Pair) -> None:
    one, other = pair
    assert [one.take("WORKLIST", 3), other.take("WORKLIST", 3), one.take("WORKLIST", 3)] == [True] * 3
    assert [each.take("WORKLIST", 3) for each in pair] == [False, False]
    assert one["WORKLIST"] == 3
    one.give_back("WORKLIST")
    assert other.take("WORKLIST", 3)
    assert other.take("CT_ONLY", 1)


def test_the_places_of_one_that_died_are_free(pair: Pair) -> None:
    one, other = pair
    assert one.take("WORKLIST", 2)
    assert other.take("WORKLIST", 2)
    other.clear_row(0)
    assert [each["WORKLIST"] for each in pair] == [1, 1]


def test_a_title_keeps_its_column_when_others_come(pair: Pair) -> None:
    one, _ = pair
    assert one.take("CT_ONLY", 0)
    assert one.add_columns(["NEW", "CT_ONLY"])
    assert (one["CT_ONLY"], one["NEW"]) == (1, 0)


def test_there_is_an_end_of_columns(pair: Pair) -> None:
    one, _ = pair
    assert one.add_columns(f"AE{number}" for number in range(COLUMNS - 2))
    assert one.take(f"AE{COLUMNS - 3}", 1)
    assert not one.add_columns(["ONE_MORE"])
    assert one.get("ONE_MORE") is None
    assert one.add_columns(["WORKLIST"])
