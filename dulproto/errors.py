"""What can go wrong, and whose fault it was."""

from __future__ import annotations

from enum import IntEnum

__all__ = [
    "AbortReason",
    "AbortSource",
    "AssociationAborted",
    "AssociationError",
    "AssociationRejected",
    "AssociationTimeout",
    "DulError",
    "ElementError",
    "ElementLimitError",
    "LocalProtocolError",
    "RejectResult",
    "RejectSource",
    "RemoteProtocolError",
    "abort_text",
    "reject_text",
]


class AbortSource(IntEnum):
    """Source of an A-ABORT, PS3.8 Table 9-26."""

    SERVICE_USER = 0
    RESERVED = 1
    SERVICE_PROVIDER = 2


class AbortReason(IntEnum):
    """Reason of an A-ABORT whose source is the service provider, PS3.8 Table 9-26."""

    NOT_SPECIFIED = 0
    UNRECOGNIZED_PDU = 1
    UNEXPECTED_PDU = 2
    RESERVED = 3
    UNRECOGNIZED_PDU_PARAMETER = 4
    UNEXPECTED_PDU_PARAMETER = 5
    INVALID_PDU_PARAMETER_VALUE = 6


class RejectResult(IntEnum):
    """Result of an A-ASSOCIATE-RJ, PS3.8 Table 9-21."""

    PERMANENT = 1
    TRANSIENT = 2


class RejectSource(IntEnum):
    """Source of an A-ASSOCIATE-RJ, PS3.8 Table 9-21."""

    SERVICE_USER = 1
    SERVICE_PROVIDER_ACSE = 2
    SERVICE_PROVIDER_PRESENTATION = 3


_REJECT_REASONS = {
    (1, 1): "no-reason-given",
    (1, 2): "application-context-name-not-supported",
    (1, 3): "calling-AE-title-not-recognized",
    (1, 7): "called-AE-title-not-recognized",
    (2, 1): "no-reason-given",
    (2, 2): "protocol-version-not-supported",
    (3, 1): "temporary-congestion",
    (3, 2): "local-limit-exceeded",
}


def _name(enum: type[IntEnum], value: int) -> str:
    """Name a code as the standard prints it, or give its number if the standard has no name for it."""
    try:
        return enum(value).name.lower().replace("_", "-")
    except ValueError:
        return f"unknown {value}"


def reject_text(result: int, source: int, reason: int) -> str:
    """Name the three codes of an A-ASSOCIATE-RJ in the words of PS3.8 Table 9-21."""
    words = _REJECT_REASONS.get((source, reason), "reserved reason")
    return f"{_name(RejectResult, result)}, {words} ({result}/{source}/{reason})"


def abort_text(source: int, reason: int) -> str:
    """Name the codes of an A-ABORT in the words of PS3.8 Table 9-26."""
    if source != AbortSource.SERVICE_PROVIDER:
        return f"by the {_name(AbortSource, source)}"
    return f"by the service-provider, {_name(AbortReason, reason)}"


class DulError(Exception):
    """Base of all errors that this package raises on purpose."""


class RemoteProtocolError(DulError):
    """The peer broke PS3.8 or PS3.7: carries the A-ABORT reason, the field and the offset of the fault.

    `offset` counts bytes from the start of the PDU, or of the command set, that `field` belongs to.
    """

    def __init__(self, message: str, reason: AbortReason, *, field: str, offset: int) -> None:
        super().__init__(f"{message} [{field} at byte {offset}]")
        self.reason = reason
        self.field = field
        self.offset = offset


class LocalProtocolError(DulError):
    """We were about to break the protocol: a call in a state that PS3.8 Table 9-10 does not allow."""


class ElementError(DulError):
    """A data set cannot be read, PS3.5 7: names the fault and its byte offset in the data set."""

    def __init__(self, message: str, *, offset: int) -> None:
        super().__init__(f"{message} [data set, byte {offset}]")
        self.offset = offset


class ElementLimitError(ElementError):
    """A data set exceeds a limit on nesting or on the number of elements: no honest peer sends such a thing."""


class AssociationError(DulError):
    """An association could not be made, or ended before its time."""


class AssociationRejected(AssociationError):
    """The peer answered with A-ASSOCIATE-RJ, PS3.8 9.3.4."""

    def __init__(self, result: int, source: int, reason: int) -> None:
        super().__init__(f"association rejected: {reject_text(result, source, reason)}")
        self.result = result
        self.source = source
        self.reason = reason


class AssociationAborted(AssociationError):
    """The peer sent A-ABORT, broke the protocol, or closed the transport connection."""

    def __init__(self, message: str, source: int = AbortSource.SERVICE_PROVIDER, reason: int = 0) -> None:
        super().__init__(message)
        self.source = source
        self.reason = reason


class AssociationTimeout(AssociationError, TimeoutError):
    """The peer did not answer in the time allowed."""
