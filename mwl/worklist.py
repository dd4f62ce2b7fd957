"""The worklist in memory: entries, and which of them a query finds.

    policy, answers = QueryPolicy(), ResponsePolicy()
    view = compile_view()  # nothing configured: every entry that is still to be done
    worklist = Worklist()
    worklist.put(entry)

    query = compile_query(identifier, IMPLICIT_LE, policy)  # good for as long as the policy is
    now = datetime.now()
    encoder = response_encoder(query, IMPLICIT_LE, answers, now.date())
    for slot in worklist.match(query, view, now):
        send(query.pending_status, encoder.encode(slot))

A match is a snapshot: what `put` and `remove` do afterwards does not change the slots that it gave.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date, datetime
from heapq import merge
from operator import attrgetter
from typing import Any, Final

from pyroaring import BitMap

from .changes import Changes, Places, Term
from .conditions import Condition
from .datetime_keys import DAY, LAST_DAY, microseconds
from .index import DayIndex, Index, TextIndex
from .item import Entry
from .pool import Pool
from .query import Query
from .slot import Slot
from .text_keys import canonical, name_groups
from .view import View

__all__ = ["Search", "Worklist", "in_order", "merged"]

_STEP: Final = 0x00400100
_STATION, _MODALITY, _LOCATION, _STATUS, _STEP_ID, _DAY, _PHYSICIAN = (
    (_STEP, tag) for tag in (0x00400001, 0x00080060, 0x00400011, 0x00400020, 0x00400009, 0x00400002, 0x00400006)
)
_ACCESSION, _PATIENT_ID, _PROCEDURE_ID, _STUDY, _NAME = (
    (tag,) for tag in (0x00080050, 0x00100020, 0x00401001, 0x0020000D, 0x00100010)
)

_TEST_COSTS: Final = 4  # times as much as looking at one distinct value of an index

_order_of = attrgetter("order")
Test = Callable[[Any, date], bool]


class Worklist:
    """All entries, with the indexes over them.  `version` grows with every change.

    With `few` candidates left, or less, each of them is tested in place of looking up another index.  With 100 in
    place of 4, the commonest query took 25 us at 10,000 entries, not 8: `python -m bench matching`.
    """

    def __init__(self, *, few: int = 4) -> None:
        self.version = 0
        self._changes = Changes()
        self._few = few
        self._slots: list[Slot | None] = []
        self._free: list[int] = []
        self._count = 0
        # A patient's other identifiers are in the index too, so it gives more than Patient ID alone matches.
        self._pool = Pool()
        self._studies = TextIndex()
        self._names = TextIndex(exact=False)
        self._indexes: dict[tuple[int, ...], Index] = {
            **{path: TextIndex() for path in (_STATION, _MODALITY, _LOCATION, _STATUS, _STEP_ID)},
            **{path: TextIndex() for path in (_ACCESSION, _PROCEDURE_ID)},
            _STUDY: self._studies,
            _PATIENT_ID: TextIndex(exact=False),
            _DAY: DayIndex(),
            _NAME: self._names,
            _PHYSICIAN: TextIndex(exact=False),
        }

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Entry]:
        return (slot.entry for slot in self._slots if slot is not None)

    # --- entries --------------------------------------------------------------------------------------------------

    def put(self, entry: Entry) -> None:
        """Add an entry, or replace the one with the same key, unless it is equal."""
        old = self._find(entry.key)
        if old is not None and old.entry == entry:
            return
        self._pool.share(entry)
        terms, before = set(_terms(entry)), set(_terms(old.entry)) if old else set()
        if old is not None:
            number = old.number
            self._enter(number, terms - before)
            self._leave(number, before - terms)
        else:
            number = self._free.pop() if self._free else len(self._slots)
            if number == len(self._slots):
                self._slots.append(None)
            self._count += 1
            self._enter(number, terms)
        self._slots[number] = Slot(number, entry, _order(entry))
        self._note(terms | before)

    def remove(self, key: tuple[str, str]) -> bool:
        """Take an entry out; tell whether it was there."""
        slot = self._find(key)
        if slot is None:
            return False
        terms = _terms(slot.entry)
        self._leave(slot.number, terms)
        self._slots[slot.number] = None
        self._free.append(slot.number)
        self._count -= 1
        self._note(terms)
        return True

    def make_ready(self) -> None:
        """Do what the first query for a part of a name would wait for: after loading, 50 ms for 100,000 entries."""
        self._names.make_ready()

    def get(self, key: tuple[str, str]) -> Entry | None:
        """Find an entry by Study Instance UID and Scheduled Procedure Step ID."""
        slot = self._find(key)
        return slot.entry if slot else None

    def _find(self, key: tuple[str, str]) -> Slot | None:
        study, step_id = key
        posting = self._studies.postings.get(study)
        for number in (posting,) if isinstance(posting, int) else posting or ():
            slot = self._slots[number]
            if slot is not None and slot.entry.step.step_id == step_id:
                return slot
        return None

    def _enter(self, number: int, terms: Iterable[Term]) -> None:
        for path, value in terms:
            self._indexes[path].add(value, number)

    def _leave(self, number: int, terms: Iterable[Term]) -> None:
        for path, value in terms:
            self._indexes[path].discard(value, number)

    # --- changes --------------------------------------------------------------------------------------------------

    def _note(self, terms: Iterable[Term]) -> None:
        self.version += 1
        self._changes.note(terms, self.version)

    def places(self, query: Query, view: View, today: date) -> Places:
        """Find where changes of what a query matches leave a note, those that are rare first."""
        found: list[tuple[int, tuple[int, ...]]] = []
        for condition in (*query.conditions, *view.conditions):
            path = condition.attribute.path
            index = self._indexes.get(path)
            values = index.values(condition, today) if index else None
            if index and values is not None:
                places = self._changes.places((path, value) for value in values)
                found.append((index.estimate(condition, today), places))
        return tuple([places for _, places in sorted(found)])

    def spared(self, places: Places, version: int) -> bool:
        """Tell whether what left no note in such places since a version is surely matched as before."""
        return self._changes.spared(places, version)

    # --- matching -------------------------------------------------------------------------------------------------

    def match(self, query: Query, view: View, now: datetime) -> list[Slot]:
        """Find what a query matches of what a view shows, ordered by start and key."""
        return in_order(self.search(query, view, now).all())

    def search(self, query: Query, view: View, now: datetime) -> Search:
        """Begin to find what a query matches of what a view shows: for whoever cannot wait for all of it."""
        return self._search((*query.conditions, *view.conditions), now.date())

    def select(self, conditions: Sequence[Condition], today: date) -> list[Slot]:
        """Find the slots that meet all conditions, in no order."""
        return self._search(conditions, today).all()

    def _search(self, conditions: Sequence[Condition], today: date) -> Search:
        numbers, tests = self._candidates(conditions, today)
        slots = self._slots
        places = slots if numbers is None else (slots[number] for number in numbers)
        return Search([slot for slot in places if slot is not None], tests, today)

    def _candidates(self, conditions: Sequence[Condition], today: date) -> tuple[BitMap | None, list[Test]]:
        """Narrow down by indexes, the smallest posting first; say what is still to be tested of each candidate."""
        lookups: list[tuple[int, int, int, Condition, Index]] = []
        tests: list[Test] = []
        for place, condition in enumerate(conditions):
            index = self._indexes.get(condition.attribute.path)
            if index is None:
                tests.append(condition.test)
                continue
            effort = index.effort(condition)
            lookups.append((max(effort, index.estimate(condition, today)), effort, place, condition, index))
        found: BitMap | None = None
        for _, effort, _, condition, index in sorted(lookups):
            if found is not None and len(found) <= max(self._few, effort // _TEST_COSTS):
                tests.append(condition.test)
                continue
            found = index.find(condition, today, found)
            if not (condition.exact and index.exact):
                tests.append(condition.test)
        return found, tests


class Search:
    """The candidates of one moment, and what is still to be tested of each."""

    def __init__(self, candidates: list[Slot], tests: list[Test], today: date) -> None:
        self.candidates = candidates
        self._tests = tests
        self._today = today

    def all(self) -> list[Slot]:
        """Find all that pass, in no order."""
        return self._passing(self.candidates)

    def runs(self, length: int) -> Iterator[list[Slot]]:
        """Find what passes of so many candidates at a time, in order: `merged` puts the runs in one order."""
        for start in range(0, len(self.candidates), length):
            yield in_order(self._passing(self.candidates[start : start + length]))

    def _passing(self, slots: list[Slot]) -> list[Slot]:
        for test in self._tests:
            slots = [slot for slot in slots if test(slot.entry, self._today)]
        return slots


def merged(runs: Iterable[list[Slot]]) -> Iterator[Slot]:
    """Give the slots of all runs in one order, each when it is wanted."""
    return merge(*runs, key=_order_of)


def in_order(slots: Iterable[Slot]) -> list[Slot]:
    """Sort by start, and what starts at the same time by key."""
    return sorted(slots, key=_order_of)


def _order(entry: Entry) -> tuple[int, str, str]:
    """Say where an entry stands in an answer: without a date last, without a time first of its day."""
    on, at = entry.step.start_date, entry.step.start_time
    start = (on.toordinal() if on else LAST_DAY + 1) * DAY + (microseconds(at) if at else 0)
    return start, *entry.key


def _terms(entry: Entry) -> list[Term]:
    """List what an entry is found by, each once."""
    step, procedure, patient = entry.step, entry.procedure, entry.patient
    terms: list[Term] = [
        (_MODALITY, canonical("CS", step.modality)),
        (_LOCATION, step.location),
        (_STATUS, step.status),
        (_STEP_ID, step.step_id),
        (_ACCESSION, entry.request.accession_number),
        (_PROCEDURE_ID, procedure.procedure_id),
        (_STUDY, procedure.study_instance_uid),
        *[(_STATION, title) for title in {canonical("AE", title) for title in step.station_ae_titles}],
        *[(_PATIENT_ID, value) for value in {identifier.value for identifier in patient.identifiers}],
        *[(_NAME, group) for group in set(name_groups(patient.name, accents=False))],
        *[(_PHYSICIAN, group) for group in set(name_groups(step.performing_physician, accents=False))],
    ]
    if step.start_date:
        terms.append((_DAY, step.start_date.toordinal()))
    return [term for term in terms if term[1]]
