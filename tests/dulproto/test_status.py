from __future__ import annotations

import pytest
from pynetdicom.status import code_to_category

from dulproto.status import Status, StatusCategory, category


def annex_c(status: int) -> str:
    """PS3.7 Annex C: the class of a status."""
    if status == 0x0000:
        return "success"
    if status in (0xFF00, 0xFF01):
        return "pending"
    if status == 0xFE00:
        return "cancel"
    if status in (0x0001, 0x0107, 0x0116) or 0xB000 <= status <= 0xBFFF:
        return "warning"
    return "failure"


def test_every_code_is_in_the_class_of_annex_c() -> None:
    assert [s for s in range(0x10000) if category(s).value != annex_c(s)] == []


def test_every_code_that_pynetdicom_can_classify_is_classified_alike() -> None:
    ours = {s: category(s).value for s in range(0x10000)}
    theirs = {s: code_to_category(s).lower() for s in range(0x10000)}
    assert {s for s in ours if theirs[s] not in ("unknown", ours[s])} == set()
    assert sum(name != "unknown" for name in theirs.values()) > 12000  # the oracle has something to say


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (Status.SUCCESS, 0x0000),
        (Status.SOP_CLASS_NOT_SUPPORTED, 0x0122),
        (Status.NOT_AUTHORIZED, 0x0124),
        (Status.DUPLICATE_INVOCATION, 0x0210),
        (Status.UNRECOGNIZED_OPERATION, 0x0211),
        (Status.MISTYPED_ARGUMENT, 0x0212),
        (Status.OUT_OF_RESOURCES, 0xA700),
        (Status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS, 0xA900),
        (Status.UNABLE_TO_PROCESS, 0xC000),
        (Status.SOURCE_UNAVAILABLE, 0xC001),
        (Status.QUERY_TIMED_OUT, 0xC002),
        (Status.IDENTIFIER_CANNOT_BE_DECODED, 0xC003),
        (Status.CANCEL, 0xFE00),
        (Status.PENDING, 0xFF00),
        (Status.PENDING_WARNING, 0xFF01),
    ],
)
def test_the_statuses_of_a_worklist_query_have_the_codes_of_ps3_4_table_k_4_1(status: Status, code: int) -> None:
    assert status == code


def test_the_categories_are_those_of_ps3_7_annex_c() -> None:
    assert {c.value for c in StatusCategory} == {"success", "pending", "cancel", "warning", "failure"}
