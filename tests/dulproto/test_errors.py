from __future__ import annotations

import pytest
from pynetdicom.pdu import A_ABORT_RQ, A_ASSOCIATE_RJ

from dulproto.errors import (
    AbortReason,
    AbortSource,
    AssociationAborted,
    AssociationError,
    AssociationRejected,
    AssociationTimeout,
    DulError,
    ElementError,
    ElementLimitError,
    LocalProtocolError,
    RemoteProtocolError,
    abort_text,
    reject_text,
)


def plain(words: str) -> str:
    return words.lower().replace("-", " ").replace("recognised", "recognized").removesuffix(" value")


@pytest.mark.parametrize(
    ("codes", "text"),
    [
        ((1, 1, 1), "permanent, no-reason-given (1/1/1)"),
        ((1, 1, 2), "permanent, application-context-name-not-supported (1/1/2)"),
        ((1, 1, 3), "permanent, calling-AE-title-not-recognized (1/1/3)"),
        ((1, 1, 7), "permanent, called-AE-title-not-recognized (1/1/7)"),
        ((1, 2, 1), "permanent, no-reason-given (1/2/1)"),
        ((1, 2, 2), "permanent, protocol-version-not-supported (1/2/2)"),
        ((2, 3, 1), "transient, temporary-congestion (2/3/1)"),
        ((2, 3, 2), "transient, local-limit-exceeded (2/3/2)"),
    ],
)
def test_a_rejection_is_named_as_ps3_8_table_9_21_prints_it(codes: tuple[int, int, int], text: str) -> None:
    assert reject_text(*codes) == text
    oracle = A_ASSOCIATE_RJ()
    oracle.decode(bytes((3, 0, 0, 0, 0, 4, 0, *codes)))
    assert plain(text.split(", ")[1].split(" ")[0]) == plain(oracle.reason_str)


@pytest.mark.parametrize("codes", [(1, 1, 4), (1, 1, 10), (1, 2, 3), (2, 3, 0), (2, 3, 7), (1, 9, 1)])
def test_a_reserved_reject_reason_keeps_its_numbers(codes: tuple[int, int, int]) -> None:
    assert reject_text(*codes).endswith("reserved reason ({}/{}/{})".format(*codes))


def test_a_reject_result_outside_the_table_keeps_its_number() -> None:
    assert reject_text(9, 1, 1) == "unknown 9, no-reason-given (9/1/1)"


@pytest.mark.parametrize(
    ("reason", "name"),
    [
        (0, "not-specified"),
        (1, "unrecognized-pdu"),
        (2, "unexpected-pdu"),
        (3, "reserved"),
        (4, "unrecognized-pdu-parameter"),
        (5, "unexpected-pdu-parameter"),
        (6, "invalid-pdu-parameter-value"),
        (7, "unknown 7"),
    ],
)
def test_the_reason_of_an_abort_by_the_provider_is_named(reason: int, name: str) -> None:
    assert abort_text(2, reason) == f"by the service-provider, {name}"
    if reason not in (0, 3, 7):  # pynetdicom has its own words for these
        oracle = A_ABORT_RQ()
        oracle.decode(bytes((7, 0, 0, 0, 0, 4, 0, 0, 2, reason)))
        assert plain(name) == plain(oracle.reason_str)


def test_the_reason_of_an_abort_by_the_user_means_nothing() -> None:
    assert abort_text(0, 6) == abort_text(0, 0) == "by the service-user"
    assert abort_text(1, 0) == "by the reserved"
    assert abort_text(200, 0) == "by the unknown 200"


def test_a_remote_protocol_error_tells_reason_field_and_offset() -> None:
    error = RemoteProtocolError("too short", AbortReason.INVALID_PDU_PARAMETER_VALUE, field="PDV", offset=12)
    assert (error.reason, error.field, error.offset) == (6, "PDV", 12)
    assert str(error) == "too short [PDV at byte 12]"


def test_an_element_error_tells_its_offset() -> None:
    error = ElementLimitError("too deep", offset=99)
    assert isinstance(error, ElementError)
    assert error.offset == 99
    assert str(error) == "too deep [data set, byte 99]"


def test_a_rejected_association_carries_the_codes() -> None:
    error = AssociationRejected(1, 1, 7)
    assert (error.result, error.source, error.reason) == (1, 1, 7)
    assert str(error) == "association rejected: permanent, called-AE-title-not-recognized (1/1/7)"


def test_an_aborted_association_carries_source_and_reason() -> None:
    assert AssociationAborted("gone").source == AbortSource.SERVICE_PROVIDER
    error = AssociationAborted("gone", 0, 3)
    assert (str(error), error.source, error.reason) == ("gone", 0, 3)


def test_every_error_is_a_dul_error_and_a_timeout_is_a_timeout_error_too() -> None:
    assert issubclass(AssociationTimeout, TimeoutError)
    for kind in (AssociationTimeout, AssociationRejected, AssociationAborted):
        assert issubclass(kind, AssociationError)
    for kind in (AssociationError, ElementError, LocalProtocolError, RemoteProtocolError):
        assert issubclass(kind, DulError)
    assert not issubclass(LocalProtocolError, RemoteProtocolError)
