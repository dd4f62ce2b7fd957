"""The DICOM upper layer state machine, PS3.8 9.2: states, events, actions, and Table 9-10 as it is printed."""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import Final

__all__ = ["NEXT_STATES", "TABLE", "Action", "Event", "State"]


class State(IntEnum):
    """PS3.8 Tables 9-1 to 9-5."""

    IDLE = 1
    AWAIT_ASSOCIATE_RQ = 2
    AWAIT_LOCAL_ASSOCIATE_RESPONSE = 3
    AWAIT_TRANSPORT_OPEN = 4
    AWAIT_ASSOCIATE_RESPONSE = 5
    ESTABLISHED = 6
    AWAIT_RELEASE_RP = 7
    AWAIT_LOCAL_RELEASE_RESPONSE = 8
    COLLISION_REQUESTOR_AWAIT_LOCAL_RESPONSE = 9
    COLLISION_ACCEPTOR_AWAIT_RELEASE_RP = 10
    COLLISION_REQUESTOR_AWAIT_RELEASE_RP = 11
    COLLISION_ACCEPTOR_AWAIT_LOCAL_RESPONSE = 12
    AWAIT_CLOSE = 13


class Event(IntEnum):
    """PS3.8 Table 9-10, first column."""

    ASSOCIATE_REQUEST = 1
    TRANSPORT_CONNECT_CONFIRM = 2
    ASSOCIATE_AC_PDU = 3
    ASSOCIATE_RJ_PDU = 4
    TRANSPORT_CONNECT_INDICATION = 5
    ASSOCIATE_RQ_PDU = 6
    LOCAL_ACCEPT = 7
    LOCAL_REJECT = 8
    P_DATA_REQUEST = 9
    P_DATA_TF_PDU = 10
    RELEASE_REQUEST = 11
    RELEASE_RQ_PDU = 12
    RELEASE_RP_PDU = 13
    RELEASE_RESPONSE = 14
    ABORT_REQUEST = 15
    ABORT_PDU = 16
    TRANSPORT_CLOSED = 17
    ARTIM_EXPIRED = 18
    INVALID_PDU = 19


class Action(Enum):
    """PS3.8 Tables 9-6 to 9-9."""

    AE_1 = "AE-1"  # open the transport connection
    AE_2 = "AE-2"  # send A-ASSOCIATE-RQ
    AE_3 = "AE-3"  # confirm acceptance
    AE_4 = "AE-4"  # confirm rejection, close
    AE_5 = "AE-5"  # start ARTIM
    AE_6 = "AE-6"  # stop ARTIM, indicate the request
    AE_7 = "AE-7"  # send A-ASSOCIATE-AC
    AE_8 = "AE-8"  # send A-ASSOCIATE-RJ, start ARTIM
    DT_1 = "DT-1"  # send P-DATA-TF
    DT_2 = "DT-2"  # deliver P-DATA
    AR_1 = "AR-1"  # send A-RELEASE-RQ
    AR_2 = "AR-2"  # indicate release
    AR_3 = "AR-3"  # confirm release, close
    AR_4 = "AR-4"  # send A-RELEASE-RP, start ARTIM
    AR_5 = "AR-5"  # stop ARTIM
    AR_6 = "AR-6"  # deliver P-DATA while waiting for A-RELEASE-RP
    AR_7 = "AR-7"  # send P-DATA-TF before answering a release
    AR_8 = "AR-8"  # indicate release: collision
    AR_9 = "AR-9"  # send A-RELEASE-RP
    AR_10 = "AR-10"  # confirm release
    AA_1 = "AA-1"  # send A-ABORT as service-user, start ARTIM
    AA_2 = "AA-2"  # stop ARTIM, close
    AA_3 = "AA-3"  # indicate the abort, close
    AA_4 = "AA-4"  # indicate a provider abort
    AA_5 = "AA-5"  # stop ARTIM
    AA_6 = "AA-6"  # ignore the PDU
    AA_7 = "AA-7"  # send A-ABORT
    AA_8 = "AA-8"  # send A-ABORT as service-provider, indicate it, start ARTIM


# PS3.8 Table 9-10; `.` cannot happen.  Where the standard names two next states the first is taken, or the second
# if the request is not acceptable to the service-provider (AE-6), or if this side accepted the association (AR-8).
# fmt: off
_GRID: Final = """
#      Sta1  Sta2  Sta3  Sta4  Sta5  Sta6  Sta7  Sta8  Sta9  Sta10 Sta11 Sta12 Sta13
Evt1   AE-1  .     .     .     .     .     .     .     .     .     .     .     .
Evt2   .     .     .     AE-2  .     .     .     .     .     .     .     .     .
Evt3   .     AA-1  AA-8  .     AE-3  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
Evt4   .     AA-1  AA-8  .     AE-4  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
Evt5   AE-5  .     .     .     .     .     .     .     .     .     .     .     .
Evt6   .     AE-6  AA-8  .     AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-7
Evt7   .     .     AE-7  .     .     .     .     .     .     .     .     .     .
Evt8   .     .     AE-8  .     .     .     .     .     .     .     .     .     .
Evt9   .     .     .     .     .     DT-1  .     AR-7  .     .     .     .     .
Evt10  .     AA-1  AA-8  .     AA-8  DT-2  AR-6  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
Evt11  .     .     .     .     .     AR-1  .     .     .     .     .     .     .
Evt12  .     AA-1  AA-8  .     AA-8  AR-2  AR-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
Evt13  .     AA-1  AA-8  .     AA-8  AA-8  AR-3  AA-8  AA-8  AR-10 AR-3  AA-8  AA-6
Evt14  .     .     .     .     .     .     .     AR-4  AR-9  .     .     AR-4  .
Evt15  .     .     AA-1  AA-2  AA-1  AA-1  AA-1  AA-1  AA-1  AA-1  AA-1  AA-1  .
Evt16  .     AA-2  AA-3  .     AA-3  AA-3  AA-3  AA-3  AA-3  AA-3  AA-3  AA-3  AA-2
Evt17  .     AA-5  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AR-5
Evt18  .     AA-2  .     .     .     .     .     .     .     .     .     .     AA-2
Evt19  .     AA-1  AA-8  .     AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-7
"""

_NEXT: Final = """
AE-1  Sta4         AR-1  Sta7         AA-1  Sta13
AE-2  Sta5         AR-2  Sta8         AA-2  Sta1
AE-3  Sta6         AR-3  Sta1         AA-3  Sta1
AE-4  Sta1         AR-4  Sta13        AA-4  Sta1
AE-5  Sta2         AR-5  Sta1         AA-5  Sta1
AE-6  Sta3/Sta13   AR-6  Sta7         AA-6  Sta13
AE-7  Sta6         AR-7  Sta8         AA-7  Sta13
AE-8  Sta13        AR-8  Sta9/Sta10   AA-8  Sta13
DT-1  Sta6         AR-9  Sta11
DT-2  Sta6         AR-10 Sta12
"""
# fmt: on


def _read_grid() -> dict[tuple[State, Event], Action]:
    head, *rows = _GRID.strip().splitlines()
    states = [State(int(name.removeprefix("Sta"))) for name in head.split()[1:]]
    return {
        (state, Event(int(name.removeprefix("Evt")))): Action(cell)
        for name, *cells in (row.split() for row in rows)
        for state, cell in zip(states, cells, strict=True)
        if cell != "."
    }


def _read_next() -> dict[Action, tuple[State, ...]]:
    words = _NEXT.split()
    return {
        Action(action): tuple(State(int(name.removeprefix("Sta"))) for name in states.split("/"))
        for action, states in zip(words[::2], words[1::2], strict=True)
    }


TABLE: Final = _read_grid()
"""What to do for an event in a state; a pair that is not there cannot happen."""

NEXT_STATES: Final = _read_next()
"""The state, or the two states, that each action leads to."""
