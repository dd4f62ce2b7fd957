"""Kept answers: the same bytes as an answer made afresh, and never a stale one."""

from __future__ import annotations

import struct
from datetime import date, datetime

import msgspec
import pytest

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


def _changed(entry: Entry, **step: object) -> Entry:
    return msgspec.structs.replace(entry, step=msgspec.structs.replace(entry.step, **step))


@pytest.mark.parametrize(
    "keys", [["Modality=CT"], ["Modality=CT", "PatientName=*"], ["ScheduledProcedureStepStatus=READY"]]
)
def test_a_change_that_cannot_touch_an_answer_leaves_it_as_it_is(keys: list[str]) -> None:
    worklist = filled([_changed(entry, modality="CT", status="READY") for entry in ENTRIES[:5]])
    provider = Provider(worklist, config(), Clock())
    rules = provider.rules("WORKLIST", "CT1")
    query = provider._query(_operation(keys, 1, 16384), rules)
    places, version = worklist.places(query, rules.view, TODAY), worklist.version
    other = _changed(ENTRIES[6], modality="MR", status="SCHEDULED")
    worklist.put(other)
    worklist.put(_changed(other, description="else"))
    worklist.remove(other.key)
    assert worklist.version == version + 3
    assert worklist.spared(places, version)
    worklist.put(_changed(other, modality="CT", status="READY"))
    assert not worklist.spared(places, version)


def test_an_answer_is_kept_although_other_entries_change() -> None:
    worklist = filled(ENTRIES)
    provider = Provider(worklist, config(), Clock())
    before = ask(provider, ["PatientID=" + ENTRIES[0].patient.identifiers[0].value])
    kept = [id(answer) for answer in provider.answers._answers.values()]
    worklist.remove(ENTRIES[1].key)
    assert ask(provider, ["PatientID=" + ENTRIES[0].patient.identifiers[0].value]) == before
    assert [id(answer) for answer in provider.answers._answers.values()] == kept


def test_an_answer_that_outgrows_the_cache_is_no_good_any_more() -> None:
    worklist = filled([])
    provider = Provider(worklist, config(), Clock())
    provider.answers = cache = AnswerCache(6000)
    operation = _operation([], 1, 16384)
    answer = provider.find(operation)
    assert isinstance(answer, KeptAnswer)
    assert answer.is_good()
    for entry in ENTRIES:
        worklist.put(_changed(entry, status="SCHEDULED"))
    assert not answer.is_good()
    assert answer.segments == []
    assert cache.size == 0


def test_an_answer_that_fails_when_it_is_made_anew_is_left_to_the_handler() -> None:
    worklist = filled(ENTRIES)
    provider = Provider(worklist, config(), Clock())
    provider.answers = AnswerCache(1 << 20)  # whether caches are on or off
    answer = provider.find(_operation(["PregnancyStatus"], 1, 16384))
    assert isinstance(answer, KeptAnswer)
    impossible = msgspec.structs.replace(ENTRIES[0].request, pregnancy_status=1 << 16)
    worklist.put(_changed(msgspec.structs.replace(ENTRIES[0], request=impossible), status="READY"))
    assert not answer.is_good()
    with pytest.raises(OverflowError):
        provider.find(_operation(["PregnancyStatus"], 2, 16384))


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
    held = list(provider.answers._answers.values())
    provider.use(config(filter={"modality": ["CT"]}))
    assert not any(answer.is_good() or answer.segments for answer in held)
    assert provider.answers.size == 0
    assert len(ask(provider, [])) < len(everything)


def kept(segments: list[bytes], provider: Provider | None = None) -> KeptAnswer:
    provider = provider or Provider(Worklist(), config(), Clock())
    operation = _operation([], 1, 16384)
    rules = provider.rules("WORKLIST", "CT1")
    question = Question(provider._query(operation, rules), rules, dulproto.IMPLICIT_LE, operation.template)
    return KeptAnswer(question, provider, segments, 0, [], TODAY, 0)


def test_an_answer_that_was_dropped_is_no_good_to_whoever_still_holds_it() -> None:
    provider = Provider(Worklist(), config(), Clock())
    cache = provider.answers = AnswerCache(14_000)
    answer = kept([b"x" * 500, b""], provider)
    assert not answer.is_good()
    cache.put("first", answer)
    assert answer.is_good()
    for number in range(10):
        cache.put(number, kept([b"x" * 500, b""]))
    assert not answer.is_good()
    assert answer.segments == []


def test_the_cache_is_bounded_in_bytes_and_drops_the_oldest() -> None:
    cache = AnswerCache(14_000)
    for number in range(10):
        cache.put(number, kept([b"x" * 500, b""]))
    assert cache.size <= 14_000
    assert cache.get(0) is None
    assert cache.get(9) is not None


def test_an_answer_too_large_for_the_cache_is_not_kept() -> None:
    cache = AnswerCache(10_000)
    cache.put(1, kept([b"x" * 20_000, b""]))
    assert cache.get(1) is None
    assert cache.size == 0


def test_replacing_an_answer_gives_its_bytes_back() -> None:
    cache = AnswerCache(50_000)
    for _ in range(100):
        cache.put("same", kept([b"x" * 500, b""]))
    assert cache.size < 6000


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


def test_a_long_answer_that_is_replaced_before_it_is_sent_is_sent_as_it_was() -> None:
    worklist = filled(MANY)
    provider = Provider(worklist, config(), Clock())
    expected = ask(provider, [])
    given = provider.find(_operation([], 1, 16384))  # to a peer that does not read yet
    worklist.remove(next(entry for entry in MANY if entry.step.status == "SCHEDULED").key)
    assert ask(provider, []) != expected
    assert b"".join(given) == expected  # type: ignore[arg-type]


def test_a_long_answer_whose_entries_change_is_made_anew() -> None:
    worklist = filled(MANY)
    provider = Provider(worklist, config(), Clock())
    before = ask(provider, [])
    listed = next(entry for entry in MANY if entry.step.status == "SCHEDULED")
    worklist.remove(listed.key)
    after = ask(provider, [])
    assert len(after) < len(before)
    assert after == ask(Provider(worklist, config(), Clock()), [])


def test_a_long_answer_of_few_bytes_is_not_taken_for_one_without_matches() -> None:
    entries = [_changed(entry, status="SCHEDULED") for entry in MANY[:110]]
    worklist = filled(entries)
    provider = Provider(worklist, config(), Clock())
    before = ask(provider, [])
    for entry in entries:
        worklist.remove(entry.key)
    after = ask(provider, [])
    assert after == ask(Provider(Worklist(), config(), Clock()), []) != before


def test_a_long_answer_that_was_broken_off_is_not_kept() -> None:
    provider = Provider(filled(MANY), config(), Clock())
    operation = _operation([], 7, 16384)
    given = iter(provider.find(operation))  # type: ignore[arg-type]
    next(given)
    given.close()  # type: ignore[attr-defined]
    assert operation.final_status is None
    assert provider.answers.size == 0
