from __future__ import annotations

from pynetdicom.fsm import TRANSITION_TABLE

from dulproto.fsm import NEXT_STATES, TABLE, Action, Event, State

# PS3.8 Table 9-10 with the next states of Tables 9-6 to 9-9 written into each cell, typed from the specification and
# not from fsm.py.  A pair of states is "as the service-user finds it" for AE-6, "requestor/acceptor" for AR-8.
# fmt: off
PRINTED = """
    1      2         3       4      5       6       7         8       9       10       11      12      13
E1  AE-1>4 -         -       -      -       -       -         -       -       -        -       -       -
E2  -      -         -       AE-2>5 -       -       -         -       -       -        -       -       -
E3  -      AA-1>13   AA-8>13 -      AE-3>6  AA-8>13 AA-8>13   AA-8>13 AA-8>13 AA-8>13  AA-8>13 AA-8>13 AA-6>13
E4  -      AA-1>13   AA-8>13 -      AE-4>1  AA-8>13 AA-8>13   AA-8>13 AA-8>13 AA-8>13  AA-8>13 AA-8>13 AA-6>13
E5  AE-5>2 -         -       -      -       -       -         -       -       -        -       -       -
E6  -      AE-6>3/13 AA-8>13 -      AA-8>13 AA-8>13 AA-8>13   AA-8>13 AA-8>13 AA-8>13  AA-8>13 AA-8>13 AA-7>13
E7  -      -         AE-7>6  -      -       -       -         -       -       -        -       -       -
E8  -      -         AE-8>13 -      -       -       -         -       -       -        -       -       -
E9  -      -         -       -      -       DT-1>6  -         AR-7>8  -       -        -       -       -
E10 -      AA-1>13   AA-8>13 -      AA-8>13 DT-2>6  AR-6>7    AA-8>13 AA-8>13 AA-8>13  AA-8>13 AA-8>13 AA-6>13
E11 -      -         -       -      -       AR-1>7  -         -       -       -        -       -       -
E12 -      AA-1>13   AA-8>13 -      AA-8>13 AR-2>8  AR-8>9/10 AA-8>13 AA-8>13 AA-8>13  AA-8>13 AA-8>13 AA-6>13
E13 -      AA-1>13   AA-8>13 -      AA-8>13 AA-8>13 AR-3>1    AA-8>13 AA-8>13 AR-10>12 AR-3>1  AA-8>13 AA-6>13
E14 -      -         -       -      -       -       -         AR-4>13 AR-9>11 -        -       AR-4>13 -
E15 -      -         AA-1>13 AA-2>1 AA-1>13 AA-1>13 AA-1>13   AA-1>13 AA-1>13 AA-1>13  AA-1>13 AA-1>13 -
E16 -      AA-2>1    AA-3>1  -      AA-3>1  AA-3>1  AA-3>1    AA-3>1  AA-3>1  AA-3>1   AA-3>1  AA-3>1  AA-2>1
E17 -      AA-5>1    AA-4>1  AA-4>1 AA-4>1  AA-4>1  AA-4>1    AA-4>1  AA-4>1  AA-4>1   AA-4>1  AA-4>1  AR-5>1
E18 -      AA-2>1    -       -      -       -       -         -       -       -        -       -       AA-2>1
E19 -      AA-1>13   AA-8>13 -      AA-8>13 AA-8>13 AA-8>13   AA-8>13 AA-8>13 AA-8>13  AA-8>13 AA-8>13 AA-7>13
"""
# fmt: on


def printed_cells() -> dict[tuple[int, int], str]:
    """The cells by event and state."""
    head, *rows = PRINTED.strip("\n").splitlines()
    states = [int(number) for number in head.split()]
    return {
        (int(name.removeprefix("E")), state): cell
        for name, *cells in map(str.split, rows)
        for state, cell in zip(states, cells, strict=True)
    }


def cell_of_table(event: int, state: int) -> str:
    action = TABLE.get((State(state), Event(event)))
    if action is None:
        return "-"
    return f"{action.value}>{'/'.join(str(int(state)) for state in NEXT_STATES[action])}"


def test_all_19_by_13_cells_and_their_next_states_are_those_of_ps3_8_table_9_10() -> None:
    cells = printed_cells()
    assert len(cells) == 19 * 13
    assert {key: cell_of_table(*key) for key in cells} == cells


def test_no_cell_is_outside_the_table() -> None:
    assert {(int(event), int(state)) for state, event in TABLE} <= set(printed_cells())
    assert len(TABLE) == sum(cell != "-" for cell in printed_cells().values())


def test_the_table_is_that_of_pynetdicom() -> None:
    theirs = {
        (int(event.removeprefix("Evt")), int(state.removeprefix("Sta"))): action
        for (event, state), action in TRANSITION_TABLE.items()
    }
    assert {(int(event), int(state)): action.value for (state, event), action in TABLE.items()} == theirs


def test_each_of_the_28_actions_is_used_and_leads_somewhere() -> None:
    assert set(TABLE.values()) == set(Action) == set(NEXT_STATES)
    assert len(Action) == 28
    assert {action for action, states in NEXT_STATES.items() if len(states) == 2} == {Action.AE_6, Action.AR_8}


def test_every_state_but_idle_sees_the_end_of_the_transport_connection() -> None:
    assert {state for state, event in TABLE if event is Event.TRANSPORT_CLOSED} == set(State) - {State.IDLE}


def test_every_state_with_an_open_connection_has_an_action_for_every_pdu() -> None:
    pdus = {Event(number) for number in (3, 4, 6, 10, 12, 13, 16, 19)}
    connected = set(State) - {State.IDLE, State.AWAIT_TRANSPORT_OPEN}
    assert {(state, event) for state, event in TABLE if event in pdus} == {(s, e) for s in connected for e in pdus}


def test_states_and_events_have_the_numbers_of_the_standard() -> None:
    assert [int(state) for state in State] == list(range(1, 14))
    assert [int(event) for event in Event] == list(range(1, 20))
