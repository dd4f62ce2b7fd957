"""No stale answer is ever sent: a provider that lives through changes, against one that has just been started."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from changing import MAXIMUM_LENGTH, RULES, Change, World, answered, as_sent, changes, entries, questions
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import entry, keys

import dulproto
from dulproto import MODALITY_WORKLIST_FIND as FIND
from dulproto import Answer
from mwl.answers import CACHES_ARE_ON
from mwl.item import Entry

EVERYTHING = frozenset(range(3))
some = st.one_of(st.just(EVERYTHING), st.frozensets(st.sampled_from(range(3))))  # or an answer misses a few changes
histories = st.fixed_dictionaries(
    {
        "rules": st.sampled_from(RULES),
        "first": st.lists(entries, min_size=2, max_size=6),
        "asked": st.lists(questions, min_size=1, max_size=3),
        "happening": st.lists(st.tuples(changes, some), max_size=25),
    }
)
more = settings(max_examples=250 if settings.default is None else max(250, settings.default.max_examples))


def nothing(world: World) -> None: ...


# --- asked in memory ----------------------------------------------------------------------------------------------


def check(
    rules: dict[str, Any],
    first: list[Entry],
    asked: list[tuple[bytes, str]],
    happening: list[tuple[Change, frozenset[int]]],
) -> None:
    world = World(rules)
    for one in first:
        world.put(one)
    held: dict[tuple[bytes, str], Answer] = {}
    for change, wanted in ((nothing, EVERYTHING), *happening, (nothing, EVERYTHING)):
        change(world)
        for question in [asked[number] for number in wanted if number < len(asked)]:
            expected, _ = answered(world.anew(), *question)
            if question in held and held[question].is_good():  # as `dulproto` sends an answer it has learnt
                assert as_sent(held[question]) == expected
            sent, given = answered(world.provider, *question)
            assert sent == expected
            if given is not None:
                held[question] = given


@more
@given(histories)
def test_a_provider_that_has_lived_through_changes_answers_like_one_made_anew(history: dict[str, Any]) -> None:
    check(**history)


@more
@given(histories, st.sampled_from((600, 1200, 1 << 20)), st.sampled_from((2, 1000)))
def test_so_it_does_where_short_answers_count_as_long_ones_and_notes_fall_together(
    history: dict[str, Any], sent_whole: int, candidates: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mwl.changes._NOTES", 3)
        for module in ("mwl.answers", "mwl.scp"):
            patch.setattr(f"{module}.MATCHES_AT_ONCE", 2)
            patch.setattr(f"{module}.SENT_WHOLE", sent_whole)
            patch.setattr(f"{module}.CANDIDATES_AT_ONCE", candidates)
        patch.setattr("mwl.scp._MATCHES_A_STEP", 1)
        patch.setattr("mwl.scp._MATCHES_A_PIECE", 2)
        check(**history)


# --- asked over connections ---------------------------------------------------------------------------------------


class Modality:
    """A caller that reads what it is sent, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.association = dulproto.Association(is_requestor=True)

    async def associate(self, calling: str) -> None:
        rq = dulproto.AssociateRq(
            dulproto.encode_ae_titles("WORKLIST", calling),
            dulproto.propose(FIND, transfer_syntaxes=[dulproto.IMPLICIT_LE]),
            dulproto.UserInformation(maximum_length=MAXIMUM_LENGTH),
        )
        self.association.request(rq)
        self.association.transport_opened(0)
        self.writer.write(self.association.data_to_send())
        await self._pdu()

    async def _pdu(self) -> tuple[bytes, list[Any]]:
        header = await self.reader.readexactly(6)
        pdu = header + await self.reader.readexactly(int.from_bytes(header[2:], "big"))
        return pdu, self.association.receive_data(pdu, 0)

    async def ask(self, identifier: bytes, message_id: int) -> bytes:
        """Ask, and give all that comes up to the final response."""
        command = dulproto.CommandSet(
            command_field=dulproto.CommandField.C_FIND_RQ,
            affected_sop_class_uid=FIND,
            message_id=message_id,
            priority=0,
            command_data_set_type=0x0102,
        )
        self.writer.write(dulproto.encode_message(1, command, identifier, MAXIMUM_LENGTH))
        received, is_final = b"", False
        while not is_final:
            pdu, events = await self._pdu()
            received += pdu
            is_final = any(not event.command.has_data_set for event in events)
        return received


@asynccontextmanager
async def modality(server: dulproto.Server, calling: str) -> AsyncIterator[Modality]:
    reader, writer = await asyncio.open_connection(*server.addresses[0])
    made = Modality(reader, writer)
    await made.associate(calling)
    yield made
    writer.close()
    await writer.wait_closed()


@asynccontextmanager
async def serving(world: World) -> AsyncIterator[tuple[dulproto.Server, list[int]]]:
    """A server, and the Message IDs of the requests that the provider has seen: the others were known."""
    seen: list[int] = []

    def find(operation: dulproto.Operation) -> Any:
        seen.append(operation.message_id)
        return world.provider.find(operation)

    services = {FIND: {dulproto.CommandField.C_FIND_RQ: find}}
    async with await dulproto.serve(services, port=0) as server:
        yield server, seen


async def check_over_connections(
    rules: dict[str, Any],
    first: list[Entry],
    asked: list[tuple[bytes, str]],
    happening: list[tuple[Change, frozenset[int]]],
) -> None:
    world = World(rules)
    for one in first:
        world.put(one)
    async with serving(world) as (server, _), AsyncExitStack() as stack:
        opened = {calling: await stack.enter_async_context(modality(server, calling)) for _, calling in asked}
        for number, (change, wanted) in enumerate(((nothing, EVERYTHING), *happening, (nothing, EVERYTHING))):
            change(world)
            for identifier, calling in [asked[place] for place in wanted if place < len(asked)]:
                (expected, _), _ = answered(world.anew(), identifier, calling, number)
                assert await opened[calling].ask(identifier, number) == expected
                async with modality(server, calling) as another:
                    assert await another.ask(identifier, number) == expected


@given(histories)
def test_nothing_stale_is_sent_over_associations_old_and_new(history: dict[str, Any]) -> None:
    asyncio.run(check_over_connections(**history))


@pytest.mark.skipif(not CACHES_ARE_ON, reason="nothing is kept")
async def test_a_change_of_what_many_ask_for_is_matched_once_and_known_to_all() -> None:
    world = World({})
    for number in range(4):
        world.put(entry(number, modality="CT" if number < 2 else "MR"))
    identifier = keys({"Modality": "CT"}, PatientName="")
    callers = ("CT1", "CT2", "CT3")

    async def all_ask(message_id: int) -> None:
        (expected, _), _ = answered(world.anew(), identifier, "CT1", message_id)
        for calling in callers:
            async with modality(server, calling) as asking:
                assert await asking.ask(identifier, message_id) == expected

    async with serving(world) as (server, seen):
        await all_ask(1)
        assert seen == [1, 1, 1]
        for number, changed in enumerate((entry(3, modality="MR", name="A"), entry(1, name="B"), entry(2, name="C"))):
            world.put(changed)
            await all_ask(2 + number)
        world.now += timedelta(days=1)
        await all_ask(7)
        assert seen == [1, 1, 1]
