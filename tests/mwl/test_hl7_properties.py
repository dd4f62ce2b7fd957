"""Whatever a sender leaves out, repeats or tells late: an order is one entry, with the status it was given last."""

from datetime import datetime

from hypothesis import given
from hypothesis import strategies as st

from mwl.hl7.feed import NothingKnown
from mwl.hl7.mapping import load_mapping
from mwl.hl7.message import decode_message
from mwl.hl7.orders import make_plan
from mwl.hl7.plan import Rehearsal

NOW = datetime(2024, 7, 5, 8, 0)
MAPPING = load_mapping()
# The filler order number is always there; the rest comes now or later, or never.
LATE = ("study", "accession", "procedure", "step", "placer", "issuer")

Event = tuple[str, int, frozenset[str]]
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(("NW", "NW", "XO", "CA", "CM")), st.integers(1, 3), st.frozensets(st.sampled_from(LATE))
    ),
    max_size=12,
)


def message(event: Event) -> bytes:
    control, number, sent = event
    status = "CM" if control == "CM" else ""
    issuer = "^RIS" if "issuer" in sent else ""
    fields = {1: "1", 3: f"F{number}", 4: "CT^CT", 24: "CT"}
    fields |= {2: f"P{number}"} if "placer" in sent else {}
    fields |= {18: f"A{number}"} if "accession" in sent else {}
    fields |= {19: f"RP{number}"} if "procedure" in sent else {}
    fields |= {20: f"S{number}"} if "step" in sent else {}
    lines = [
        "MSH|^~\\&|RIS|HOSP|||20240705||ORM^O01|1|P|2.3.1",
        f"PID|||{number}^^^HOSP||Muster^Erika",
        f"ORC|{'SC' if control == 'CM' else control}||F{number}{issuer}||{status}||^^^20240705100000",
        "|".join(["OBR", *(fields.get(field, "") for field in range(1, 25))]),
        *([f"ZDS|1.2.{number}"] if "study" in sent else []),
        "",
    ]
    return "\r".join(lines).encode()


def told(events: list[Event]) -> Rehearsal:
    rehearsal = Rehearsal(NothingKnown())
    for event in events:
        rehearsal.take(make_plan(decode_message(message(event)), MAPPING, rehearsal, NOW))
    return rehearsal


def consistent(events: list[Event]) -> list[Event]:
    """Let a sender tell procedure and step ids always or never, and the rest always once it has told it."""
    always: dict[int, frozenset[str]] = {}
    for _, number, sent in events:
        always.setdefault(number, sent & {"procedure", "step"})
    found = []
    for control, number, sent in events:
        always[number] |= sent - {"procedure", "step"}
        found.append((control, number, always[number]))
    return found


@given(EVENTS)
def test_an_order_is_one_entry_however_it_is_told(events: list[Event]) -> None:
    events = consistent(events)
    entries = [entry for entry in told(events).changed.values() if entry]
    fillers = [entry.request.filler_order_number for entry in entries]
    assert sorted(fillers) == sorted(set(fillers))


@given(EVENTS)
def test_what_is_told_twice_in_a_row_changes_nothing(events: list[Event]) -> None:
    events = consistent(events)
    rehearsal = told(events)
    for event in events[-1:]:
        before = dict(rehearsal.changed)
        plan = make_plan(decode_message(message(event)), MAPPING, rehearsal, NOW)
        assert {change.what for change in plan.changes} <= {"unchanged"}
        rehearsal.take(plan)
        assert rehearsal.changed == before


@given(EVENTS)
def test_what_is_over_stays_so(events: list[Event]) -> None:
    events = consistent(events)
    ended: set[int] = set()
    born: set[int] = set()
    for control, number, _ in events:
        if control in ("NW", "XO"):
            born.add(number)
        elif number in born:
            ended.add(number)
    entries = [entry for entry in told(events).changed.values() if entry]
    over = {
        int(one.request.filler_order_number[1:]) for one in entries if one.step.status in ("CANCELED", "COMPLETED")
    }
    assert ended <= over
