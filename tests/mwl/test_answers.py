"""Kept answers: the same bytes as an answer made afresh, and never a stale one."""

from __future__ import annotations

import struct
from datetime import date, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dulproto
from dulproto import CommandField, CommandSet, Message, Operation, PresentationContext, ResponseTemplate
from mwl.answers import AnswerCache, KeptAnswer, Question
from mwl.config import Config, from_table
from mwl.demo import sample_entries
from mwl.item import Entry
from mwl.keys import query_keys
from mwl.scp import Provider
from mwl.worklist import Worklist

TODAY = date(2026, 11, 24)
ENTRIES = sample_entries(30, TODAY)
QUERIES = [["Modality=CT"], ["PatientName=*a*"], ["ScheduledProcedureStepStartDate=20261124"], ["PatientAge"], []]


def config(**rules: object) -> Config:
    return from_table({"ae": [{"title": "WORKLIST", **rules}]})


def _operation(keys: list[str], message_id: int, maximum_length: int) -> Operation:
    context = PresentationContext(1, dulproto.MODALITY_WORKLIST_FIND, dulproto.IMPLICIT_LE)
    command = CommandSet(command_field=CommandField.C_FIND_RQ, message_id=message_id)
    identifier = dulproto.encode_data_set(query_keys(keys), dulproto.IMPLICIT_LE)
    template = ResponseTemplate(1, CommandField.C_FIND_RQ, dulproto.MODALITY_WORKLIST_FIND, maximum_length)
    return Operation(
        Message(1, command, identifier), context, template, called_ae_title="WORKLIST", calling_ae_title="CT1"
    )


def ask(provider: Provider, keys: list[str], message_id: int = 1, maximum_length: int = 16384) -> bytes:
    operation = _operation(keys, message_id, maximum_length)
    answer = provider.find(operation)
    if isinstance(answer, dulproto.Answer):
        return answer.encode(message_id)
    sent = b"".join(answer)  # type: ignore[arg-type]
    assert operation.final_status == 0
    return sent


def filled(entries: list[Entry]) -> Worklist:
    worklist = Worklist()
    for entry in entries:
        worklist.put(entry)
    return worklist


class Clock:
    def __init__(self) -> None:
        self.now = datetime.combine(TODAY, datetime.min.time())

    def __call__(self) -> datetime:
        return self.now


CHANGES = st.lists(
    st.tuples(st.sampled_from(["put", "remove", "rename", "ask", "tomorrow"]), st.integers(0, len(ENTRIES) - 1)),
    max_size=20,
)


@given(CHANGES)
def test_no_stale_answer_is_ever_sent(changes: list[tuple[str, int]]) -> None:
    worklist, clock = filled(ENTRIES[:15]), Clock()
    cached = Provider(worklist, config(), clock)
    for what, number in changes:
        entry = ENTRIES[number]
        if what == "put":
            worklist.put(entry)
        elif what == "remove":
            worklist.remove(entry.key)
        elif what == "rename":
            patient = msgspec.structs.replace(entry.patient, name=f"Changed^{number}")
            worklist.put(msgspec.structs.replace(entry, patient=patient))
        elif what == "tomorrow":
            clock.now += timedelta(days=1)
        for keys in QUERIES:
            assert ask(cached, keys) == ask(Provider(worklist, config(), clock), keys)


def test_an_answer_is_kept_although_other_entries_change() -> None:
    worklist = filled(ENTRIES)
    provider = Provider(worklist, config(), Clock())
    before = ask(provider, ["PatientID=" + ENTRIES[0].patient.identifiers[0].value])
    kept = [id(answer) for answer in provider.answers._answers.values()]
    worklist.remove(ENTRIES[1].key)
    assert ask(provider, ["PatientID=" + ENTRIES[0].patient.identifiers[0].value]) == before
    assert [id(answer) for answer in provider.answers._answers.values()] == kept


def test_a_kept_answer_carries_the_message_id_of_the_request() -> None:
    provider = Provider(filled(ENTRIES), config(), Clock())
    one, other = ask(provider, ["Modality=CT"], 0x7A7B), ask(provider, ["Modality=CT"], 0x7C7D)
    assert one != other
    assert one.replace(struct.pack("<H", 0x7A7B), struct.pack("<H", 0x7C7D)) == other


@pytest.mark.parametrize("maximum_length", [16, 40, 100, 16384, 0])
def test_an_answer_is_the_same_whether_it_is_kept_or_streamed(maximum_length: int) -> None:
    provider = Provider(filled(ENTRIES), config(), Clock())
    kept = [ask(provider, [], maximum_length=maximum_length) for _ in range(2)]
    streamed = Provider(filled(ENTRIES * 5), config(), Clock())
    assert kept == [ask(streamed, [], maximum_length=maximum_length)] * 2


def test_a_new_configuration_makes_new_answers() -> None:
    provider = Provider(filled(ENTRIES), config(), Clock())
    everything = ask(provider, [])
    provider.use(config(filter={"modality": ["CT"]}))
    assert len(ask(provider, [])) < len(everything)


def kept(segments: list[bytes], provider: Provider | None = None) -> KeptAnswer:
    provider = provider or Provider(Worklist(), config(), Clock())
    operation = _operation([], 1, 16384)
    rules = provider.rules("WORKLIST", "CT1")
    question = Question(provider._query(operation, rules), rules, dulproto.IMPLICIT_LE, operation.template)
    return KeptAnswer(question, provider, segments, 0, [], TODAY, 0)


def test_an_answer_that_was_dropped_is_no_good_to_whoever_still_holds_it() -> None:
    provider = Provider(Worklist(), config(), Clock())
    cache = provider.answers = AnswerCache(3000)
    answer = kept([b"x" * 500, b""], provider)
    assert not answer.is_good()
    cache.put("first", answer)
    assert answer.is_good()
    for number in range(10):
        cache.put(number, kept([b"x" * 500, b""]))
    assert not answer.is_good()
    assert answer.segments == []


def test_the_cache_is_bounded_in_bytes_and_drops_the_oldest() -> None:
    cache = AnswerCache(3000)
    for number in range(10):
        cache.put(number, kept([b"x" * 500, b""]))
    assert cache.size <= 3000
    assert cache.get(0) is None
    assert cache.get(9) is not None


def test_an_answer_too_large_for_the_cache_is_not_kept() -> None:
    cache = AnswerCache(1000)
    cache.put(1, kept([b"x" * 2000, b""]))
    assert cache.get(1) is None
    assert cache.size == 0


def test_replacing_an_answer_gives_its_bytes_back() -> None:
    cache = AnswerCache(10_000)
    for _ in range(100):
        cache.put("same", kept([b"x" * 500, b""]))
    assert cache.size < 1200


MANY = sample_entries(450, TODAY)


@pytest.mark.parametrize("maximum_length", [40, 16384, 0])
def test_a_long_answer_is_the_same_made_and_kept_and_response_by_response(maximum_length: int) -> None:
    provider = Provider(filled(MANY), config(), Clock())
    made = ask(provider, [], 7, maximum_length)
    kept = [ask(provider, [], 7, maximum_length) for _ in range(2)]
    assert kept == [made, made]
    # Response by response: that of each entry alone, in the order of the list, and one final response.
    listed = provider.worklist.match(
        provider._query(_operation([], 7, maximum_length), provider.rules("WORKLIST", "CT1")),
        provider.rules("WORKLIST", "CT1").view,
        Clock()(),
    )
    assert len(listed) > 300
    one_by_one = []
    for slot in listed:
        alone = Provider(filled([slot.entry]), config(), Clock())
        answer = ask(alone, [], 7, maximum_length)
        final = ask(Provider(Worklist(), config(), Clock()), [], 7, maximum_length)
        assert answer.endswith(final)
        one_by_one.append(answer.removesuffix(final))
    assert b"".join(one_by_one) + final == made


def test_a_long_answer_is_sent_in_pieces_that_leave_room_for_others() -> None:
    provider = Provider(filled(MANY), config(), Clock())
    for _ in range(2):
        given = provider.find(_operation([], 7, 16384))
        assert not isinstance(given, dulproto.Answer)
        assert max(map(len, given)) < 128 << 10


@pytest.mark.parametrize("options", [{}, {"max_results": 200}, {"max_results": 2}, {"filter": {"modality": ["XX"]}}])
@pytest.mark.parametrize("length", [1, 7, 449])
def test_what_is_found_in_pieces_is_what_is_found_at_once(
    options: dict[str, object], length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [ask(Provider(filled(MANY), config(**options), Clock()), keys) for keys in ([], ["Modality=CT"])]
    monkeypatch.setattr("mwl.scp.CANDIDATES_AT_ONCE", length)
    provider = Provider(filled(MANY[::-1]), config(**options), Clock())
    for _ in range(2):
        assert [ask(provider, keys) for keys in ([], ["Modality=CT"])] == expected


def test_what_is_found_in_pieces_is_of_one_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = ask(Provider(filled(MANY), config(), Clock()), [])
    monkeypatch.setattr("mwl.scp.CANDIDATES_AT_ONCE", 50)
    worklist = filled(MANY)
    given = iter(Provider(worklist, config(), Clock()).find(_operation([], 1, 16384)))  # type: ignore[arg-type]
    pieces = [next(given)]
    for entry in MANY[::3]:
        worklist.remove(entry.key)
        pieces.append(next(given, b""))
    assert b"".join([*pieces, *given]) == expected


def test_a_long_answer_whose_entries_change_is_made_anew() -> None:
    worklist = filled(MANY)
    provider = Provider(worklist, config(), Clock())
    before = ask(provider, [])
    listed = next(entry for entry in MANY if entry.step.status == "SCHEDULED")
    worklist.remove(listed.key)
    after = ask(provider, [])
    assert len(after) < len(before)
    assert after == ask(Provider(worklist, config(), Clock()), [])


def test_a_long_answer_that_was_broken_off_is_not_kept() -> None:
    provider = Provider(filled(MANY), config(), Clock())
    operation = _operation([], 7, 16384)
    given = iter(provider.find(operation))  # type: ignore[arg-type]
    next(given)
    given.close()  # type: ignore[attr-defined]
    assert operation.final_status is None
    assert provider.answers.size == 0
