"""A worklist that changes, with a provider that keeps what it may; changes and questions at random."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta
from typing import Any

import msgspec
from hypothesis import strategies as st
from samples import NOW, element, entry, keys

from dulproto import (
    IMPLICIT_LE,
    MODALITY_WORKLIST_FIND,
    Answer,
    CommandField,
    CommandSet,
    Message,
    Operation,
    PresentationContext,
    ResponseTemplate,
)
from mwl.answers import CACHED_BYTES, CACHES_ARE_ON
from mwl.config import Config, from_table
from mwl.item import Code, Entry, PatientIdentifier
from mwl.scp import Provider
from mwl.worklist import Worklist

MAXIMUM_LENGTH = 4096
CALLERS = ("CT1", "MR1", "ANY")
RULES: tuple[dict[str, Any], ...] = (
    {},
    {"matching": "statement", "datetime_matching": "independent", "max_results": 1},
    {"filter": {"days_back": 1, "days_ahead": 1}, "max_results": 3, "at_max_results": "out-of-resources"},
    {"filter": {"status": ["SCHEDULED", "STARTED"], "modality": ["CT", "MR"], "location": ["R1"]}},
    {"max_results": 2, "at_max_results": "out-of-resources"},
    {"match_other_patient_ids": True, "primary_patient_id_issuer": "B"},
    {"day_tolerance": 1, "strict": True},
    {"ignore_accents": True, "lenient_pn": True, "character_set": "ISO_IR 192"},
    {"wildcards_in_single_value_keys": True, "ae_key_ignore_case": False, "omit_ascii_character_set": True},
    {"honour_matching_keys": False},
    {"use_calling_as_station": True, "always_ff00": True},
)


def configuration(rules: dict[str, Any]) -> Config:
    remote = {"title": "MR1", "filter": {"station_ae_title": ["CT1", "MR1"], "days_back": 0}, "character_set": "auto"}
    return from_table({"ae": [{"title": "WORKLIST", **rules}], "remote": [remote]})


def answered(
    provider: Provider, identifier: bytes, calling: str, message_id: int = 7
) -> tuple[tuple[bytes, int | None], Answer | None]:
    """What is sent, with its final status; and the answer if it was given as a whole."""
    context = PresentationContext(1, MODALITY_WORKLIST_FIND, IMPLICIT_LE)
    template = ResponseTemplate(1, CommandField.C_FIND_RQ, MODALITY_WORKLIST_FIND, MAXIMUM_LENGTH)
    command = CommandSet(command_field=CommandField.C_FIND_RQ, message_id=message_id)
    message = Message(1, command, identifier)
    operation = Operation(message, context, template, called_ae_title="WORKLIST", calling_ae_title=calling)
    given = provider.find(operation)
    if isinstance(given, Answer):
        return as_sent(given, message_id), given
    assert isinstance(given, Iterable)
    return (b"".join(given), operation.final_status), None


def as_sent(answer: Answer, message_id: int = 7) -> tuple[bytes, int]:
    return answer.encode(message_id), answer.status


class World:
    """A worklist that changes, and a provider that keeps what it may."""

    def __init__(self, rules: dict[str, Any]) -> None:
        self.entries: dict[tuple[str, str], Entry] = {}
        self.now = NOW
        self.config = configuration(rules)
        self.worklist = Worklist()
        self.provider = Provider(self.worklist, self.config, self._now)

    def _now(self) -> datetime:
        return self.now

    def put(self, one: Entry) -> None:
        self.entries[one.key] = one
        self.worklist.put(one)

    def any_entry(self, number: int) -> Entry | None:
        return list(self.entries.values())[number % len(self.entries)] if self.entries else None

    def anew(self) -> Provider:
        """A provider with the same entries that has never been asked or changed."""
        worklist = Worklist()
        for one in self.entries.values():
            worklist.put(one)
        provider = Provider(worklist, self.config, self._now)
        provider.source_is_down = self.provider.source_is_down
        return provider


# --- entries ------------------------------------------------------------------------------------------------------

# Few values, so that most questions find something, and most changes change what is found.
days = st.sampled_from([NOW.date() + timedelta(days=number) for number in (0, 0, 0, 1, 1, -1, 2)] + [None])
entries = st.builds(
    entry,
    number=st.integers(1, 5),
    name=st.sampled_from(("Doe^John", "DOE^JANE", "Döe^John", "Yamada^Tarou=山田^太郎", "")),
    identifiers=st.sampled_from(((), ("1",), ("2",), ("1", "2"))).map(
        lambda ids: tuple(PatientIdentifier(value, "AB"[place]) for place, value in enumerate(ids))
    ),
    birth_date=st.sampled_from((None, date(2024, 6, 6), date(2022, 7, 7))),  # another age tomorrow
    accession_number=st.sampled_from(("", "1", "2", "1*")),
    procedure_id=st.sampled_from(("1", "10")),
    station_ae_titles=st.sampled_from((("CT1",), ("ct1",), ("MR1",), ("CT1", "MR1"), ())),
    modality=st.sampled_from(("CT", "CT", "MR")),
    location=st.sampled_from(("R1", "R1", "R2")),
    start_date=days,
    start_time=st.sampled_from((time(8), time(10), None)),
    status=st.sampled_from(("SCHEDULED", "SCHEDULED", "SCHEDULED", "STARTED", "CANCELED")),
    description=st.sampled_from(("", "CT head", "Schädel")),
    patient_weight=st.sampled_from((70.0, None)),
    protocol_codes=st.sampled_from(((), (Code("A", "X"),), (Code("A", "X"), Code("B", "X")))),
)


# --- what happens -------------------------------------------------------------------------------------------------


def _touch(world: World, number: int, field: str, other: Entry) -> None:
    """Give a field of an entry the value that another entry has in it."""
    one = world.any_entry(number)
    if one is not None:
        name = next(name for name in Entry.__struct_fields__ if hasattr(getattr(one, name), field))
        part = msgspec.structs.replace(getattr(one, name), **{field: getattr(getattr(other, name), field)})
        world.put(msgspec.structs.replace(one, **{name: part}))


def _put_again(world: World, number: int) -> None:
    one = world.any_entry(number)
    if one is not None:
        world.put(msgspec.json.decode(msgspec.json.encode(one), type=Entry))


def _remove(world: World, number: int) -> None:
    one = world.any_entry(number)
    if one is not None:
        world.worklist.remove(one.key)
        del world.entries[one.key]


def _remove_all(world: World) -> None:
    while world.entries:
        _remove(world, 0)


def _reload(world: World, rules: dict[str, Any]) -> None:
    world.config = configuration(rules)
    world.provider.use(world.config)


def _lose_the_store(world: World, is_down: bool) -> None:
    world.provider.source_is_down = is_down


def _later(world: World, hours: int) -> None:
    world.now += timedelta(hours=hours)


def _limit_the_cache(world: World, size: int) -> None:
    if CACHES_ARE_ON:
        world.provider.answers.limit = size


Change = Callable[[World], None]


def _bound(function: Callable[..., None], *arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[Change]:
    def bind(values: tuple[Any, ...]) -> Change:
        return lambda world: function(world, *values)

    return st.tuples(*arguments).map(bind)


FIELDS = ("name", "identifiers", "accession_number", "procedure_id", "station_ae_titles", "modality", "location")
FIELDS += ("start_date", "start_time", "status", "description", "patient_weight", "protocol_codes")
numbers = st.integers(0, 4)
changes = st.one_of(
    *[_bound(World.put, entries)] * 3,
    *[_bound(_touch, numbers, st.sampled_from(FIELDS), entries)] * 4,
    *[_bound(_remove, numbers)] * 2,
    _bound(_remove_all),
    _bound(_put_again, numbers),
    _bound(_later, st.sampled_from((1, 12, 24))),
    _bound(_reload, st.sampled_from(RULES)),
    _bound(_lose_the_store, st.booleans()),
    _bound(_limit_the_cache, st.sampled_from((0, 6000, 12_000, CACHED_BYTES))),
)


# --- questions ----------------------------------------------------------------------------------------------------

STEP_KEYS = {
    "ScheduledStationAETitle": ("CT1", "mr1", "C*", "CT1\\MR1"),
    "Modality": ("CT", "MR", "CT\\MR", "?R"),
    "ScheduledProcedureStepStartDate": (
        "20240705",
        "20240705-20240706",
        "20240706-",
        "-20240705",
        "20240705\\20240707",
    ),
    "ScheduledProcedureStepStartTime": ("10", "0900-1030", "-10"),
    "ScheduledProcedureStepLocation": ("R1", "r*"),
    "ScheduledProcedureStepStatus": ("SCHEDULED",),
    "ScheduledProcedureStepID": ("SPS1", "SPS*"),
}
ROOT_KEYS = {
    "PatientName": ("doe^john", "Doe^*", "*j*", "=山田*", "doe^jane\\doe^john"),
    "PatientID": ("1", "2", "1\\2", "1*"),
    "IssuerOfPatientID": ("A",),
    "AccessionNumber": ("1", "1*"),
    "RequestedProcedureID": ("1", "*0"),
    "StudyInstanceUID": ("1.2.3.1", "1.2.3.1\\1.2.3.2"),
    "PatientWeight": ("70",),
}
RETURNED = ("PatientAge", "OtherPatientIDs", "PatientName")


@st.composite
def identifiers(draw: st.DrawFn) -> bytes:
    """None, one or two keys with values, of every kind of matching, and some without."""
    asked = draw(st.lists(st.sampled_from((*STEP_KEYS, *ROOT_KEYS)), max_size=2, unique=True))
    step: dict[str, Any] = {
        "Modality": "",
        "ScheduledProcedureStepDescription": "",
        "ScheduledProtocolCodeSequence": "",
    }
    step |= {keyword: draw(st.sampled_from(STEP_KEYS[keyword])) for keyword in asked if keyword in STEP_KEYS}
    if draw(st.integers(0, 9)) == 0:
        step["ScheduledProtocolCodeSequence"] = [{0x00080100: element("CodeValue", "A")}]
    root = dict.fromkeys(draw(st.lists(st.sampled_from(RETURNED), unique=True)), "")
    root |= {keyword: draw(st.sampled_from(ROOT_KEYS[keyword])) for keyword in asked if keyword in ROOT_KEYS}
    return keys(step, **root)


questions = st.tuples(identifiers(), st.sampled_from(CALLERS))
