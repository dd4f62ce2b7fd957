"""Status codes of DIMSE responses, PS3.7 Annex C and PS3.4 Table K.4-1."""

from __future__ import annotations

from enum import Enum, IntEnum

__all__ = ["Status", "StatusCategory", "category"]


class Status(IntEnum):
    """The codes this package sends or names; a peer may send others, see `category`."""

    SUCCESS = 0x0000
    REQUESTED_OPTIONAL_ATTRIBUTES_NOT_SUPPORTED = 0x0001
    NO_SUCH_ATTRIBUTE = 0x0105
    INVALID_ATTRIBUTE_VALUE = 0x0106
    ATTRIBUTE_LIST_ERROR = 0x0107
    PROCESSING_FAILURE = 0x0110
    DUPLICATE_SOP_INSTANCE = 0x0111
    NO_SUCH_SOP_INSTANCE = 0x0112
    NO_SUCH_EVENT_TYPE = 0x0113
    NO_SUCH_ARGUMENT = 0x0114
    INVALID_ARGUMENT_VALUE = 0x0115
    ATTRIBUTE_VALUE_OUT_OF_RANGE = 0x0116
    INVALID_SOP_INSTANCE = 0x0117
    NO_SUCH_SOP_CLASS = 0x0118
    CLASS_INSTANCE_CONFLICT = 0x0119
    MISSING_ATTRIBUTE = 0x0120
    MISSING_ATTRIBUTE_VALUE = 0x0121
    SOP_CLASS_NOT_SUPPORTED = 0x0122
    NO_SUCH_ACTION = 0x0123
    NOT_AUTHORIZED = 0x0124
    DUPLICATE_INVOCATION = 0x0210
    UNRECOGNIZED_OPERATION = 0x0211
    MISTYPED_ARGUMENT = 0x0212
    RESOURCE_LIMITATION = 0x0213
    OUT_OF_RESOURCES = 0xA700
    DATA_SET_DOES_NOT_MATCH_SOP_CLASS = 0xA900
    UNABLE_TO_PROCESS = 0xC000
    SOURCE_UNAVAILABLE = 0xC001
    QUERY_TIMED_OUT = 0xC002
    IDENTIFIER_CANNOT_BE_DECODED = 0xC003
    CANCEL = 0xFE00
    PENDING = 0xFF00
    PENDING_WARNING = 0xFF01


class StatusCategory(Enum):
    """The five classes of PS3.7 Annex C."""

    SUCCESS = "success"
    PENDING = "pending"
    CANCEL = "cancel"
    WARNING = "warning"
    FAILURE = "failure"


_CATEGORIES: dict[int, StatusCategory] = {
    Status.SUCCESS: StatusCategory.SUCCESS,
    Status.PENDING: StatusCategory.PENDING,
    Status.PENDING_WARNING: StatusCategory.PENDING,
    Status.CANCEL: StatusCategory.CANCEL,
    Status.REQUESTED_OPTIONAL_ATTRIBUTES_NOT_SUPPORTED: StatusCategory.WARNING,
    Status.ATTRIBUTE_LIST_ERROR: StatusCategory.WARNING,
    Status.ATTRIBUTE_VALUE_OUT_OF_RANGE: StatusCategory.WARNING,
}


def category(status: int) -> StatusCategory:
    """Classify a status code, PS3.7 Annex C; a code outside every class counts as a failure."""
    found = _CATEGORIES.get(status)
    if found is not None:
        return found
    return StatusCategory.WARNING if status >> 12 == 0xB else StatusCategory.FAILURE
