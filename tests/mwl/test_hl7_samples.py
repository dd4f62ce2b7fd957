"""Messages in tests/hl7, each with a habit of some vendor: NAME.hl7, and in NAME.json what must come of it.

`after` names the messages that came before; `mapping` the site's mapping, if it is not site.toml.
"""

import json
import tomllib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mwl.dataset import check
from mwl.hl7.feed import Feed, Memory, failed_messages, read_message
from mwl.hl7.mapping import Mapping, default_text, load_mapping
from mwl.hl7.message import decode_message
from mwl.hl7.orders import make_plan
from mwl.hl7.plan import Plan
from mwl.item import Entry
from mwl.store import Store

FOLDER = Path(__file__).parents[1] / "hl7"
NAMES = sorted(path.stem for path in FOLDER.glob("*.hl7"))
CASES: dict[str, dict[str, Any]] = {name: json.loads((FOLDER / f"{name}.json").read_text("utf-8")) for name in NAMES}
MAPPINGS: dict[str, Mapping] = {path.name: load_mapping(path) for path in FOLDER.glob("*.toml")}
HEADER = decode_message((FOLDER / "orm_lf.hl7").read_bytes()).header
NOW = datetime(2024, 7, 5, 8, 0)


def raw(name: str) -> bytes:
    return (FOLDER / f"{name}.hl7").read_bytes()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "worklist.db")
    yield store
    store.close()


def feed_before(store: Store, name: str) -> Feed:
    """Make a feed that has taken the messages before the one of a sample."""
    feed = Feed(store, MAPPINGS[CASES[name].get("mapping", "site.toml")], clock=lambda: NOW)
    for before in CASES[name].get("after", ()):
        feed.receive_now(raw(before))
    return feed


def plan_of(name: str, feed: Feed) -> Plan:
    message = read_message(raw(name), feed.mapping)
    return feed.store.read(
        lambda connection: make_plan(message, feed.mapping, Memory(connection, feed.mapping, NOW.timestamp()), NOW)
    )


def entries(store: Store) -> list[Entry]:
    return sorted(store.load()[1], key=lambda entry: entry.key)


@pytest.mark.parametrize("name", NAMES)
async def test_a_sample_has_its_entries_and_its_answer(store: Store, name: str) -> None:
    feed = feed_before(store, name)
    ack = await feed.receive(raw(name))
    assert ack
    answer = decode_message(ack)
    lines = [segment.text for segment in answer.segments if segment.name == "ERR"]
    assert (answer.segments[1].field(1), lines) == (CASES[name]["answer"], CASES[name]["errors"])
    assert answer.segments[1].field(2) == decode_message(raw(name)).header.control_id
    assert entries(store) == msgspec.convert(CASES[name]["entries"], list[Entry])


@pytest.mark.parametrize("name", NAMES)
def test_a_dry_run_says_what_the_feed_does(store: Store, name: str) -> None:
    feed = feed_before(store, name)
    before = {entry.key: entry for entry in store.load()[1]}
    revision = store.revision()
    plan = plan_of(name, feed)
    assert store.revision() == revision
    feed.receive_now(raw(name))
    for change in plan.changes:
        if change.after is None and change.before:
            del before[change.before.key]
        elif change.after:
            before[change.after.key] = change.after
    assert [before[key] for key in sorted(before)] == entries(store)


@pytest.mark.parametrize("name", NAMES)
def test_what_was_refused_is_kept_until_it_is_taken(store: Store, name: str) -> None:
    feed = feed_before(store, name)
    answer = feed.receive_now(raw(name))
    failed = [one for one in store.read(failed_messages) if one.message == raw(name)]
    assert [one.reason for one in failed] == (
        [] if answer.code == "AA" else ["\n".join(str(fault) for fault in answer.faults)]
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_entry_may_be_kept_by_the_check_of_imports(name: str) -> None:
    for entry in CASES[name]["entries"]:
        assert check(msgspec.convert(entry, type=Entry)) == ()


@pytest.mark.parametrize("name", [name for name in NAMES if CASES[name]["answer"] == "AA"])
async def test_the_same_message_again_is_answered_as_before(store: Store, name: str) -> None:
    feed = feed_before(store, name)
    first = await feed.receive(raw(name))
    revision = store.revision()
    assert await feed.receive(raw(name)) == first
    assert store.revision() == revision


def test_every_event_of_the_shipped_mapping_has_a_sample() -> None:
    sampled = {decode_message(raw(name)).header.type for name in NAMES}
    assert set(tomllib.loads(default_text())["events"]) <= sampled


def test_every_order_control_of_the_shipped_mapping_has_a_sample() -> None:
    sampled: set[str] = set()
    for name in NAMES:
        message = decode_message(raw(name))
        for segment in message.segments:
            if segment.name == "ORC":
                sampled.add(f"{segment.field(1)}_{segment.field(5)}".rstrip("_"))
    assert set(tomllib.loads(default_text())["order_control"]) <= sampled


def test_every_rule_of_the_shipped_mapping_has_a_sample(tmp_path: Path) -> None:
    used: set[tuple[str, str]] = set()
    for number, name in enumerate(NAMES):
        store = Store(tmp_path / f"{number}.db")
        for change in plan_of(name, feed_before(store, name)).changes:
            used |= {(one.attribute, one.rule) for one in change.sources if not one.not_used}
        store.close()
    shipped = {
        (target.keyword, rule.text)
        for kind in ("ORM", "OMG", "OMI", "SIU", "ADT")
        for target, rules in load_mapping().attributes(msgspec.structs.replace(HEADER, code=kind))
        for rule in rules
    }
    assert shipped - used == set()
