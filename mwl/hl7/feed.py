"""The HL7 feed on top of the store: a message is decided on within the commit that keeps what it changed.

So each message sees all that was committed before it, answers and failures are kept together with the entries, and
there is nothing to repair after a crash.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

import apsw
import msgspec

from ..item import Entry, Patient, PatientIdentifier
from ..logs import place_of
from ..store import Decide, Put, Remove, Store, StoreError, entries_having, entries_of_study, history_of
from .lineage import origins
from .mapping import Mapping
from .message import (
    Answer,
    Header,
    Hl7Fault,
    Location,
    Message,
    MessageError,
    decode_header,
    decode_message,
    encode_ack,
)
from .orders import make_plan
from .plan import EntryChange, Plan, is_older, lineage

__all__ = ["Failed", "Feed", "Memory", "NothingKnown", "failed_messages", "forget_failed", "read_message"]

logger = logging.getLogger(__name__)

_MOST_FAILED = 10_000
_LONGEST_FAILED = 256 * 1024
_decode_patient = msgspec.json.Decoder(Patient).decode
_encode = msgspec.json.Encoder().encode


class NothingKnown:
    """What a message finds in an empty store."""

    def of_study(self, study_uid: str) -> list[Entry]:
        """Give the entries of a study."""
        return []

    def having(self, kind: str, value: str) -> list[Entry]:
        """Give the entries with an identifier."""
        return []

    def merged_into(self, identifier: PatientIdentifier) -> Patient | None:
        """Give the patient that an identifier was merged into."""
        return None

    def has_tombstone(self, kind: str, value: str) -> bool:
        """Tell whether an order was cancelled before it came."""
        return False

    def last_message_time(self, key: tuple[str, str]) -> str:
        """Give MSH-7 of the message that an entry is from."""
        return ""


class Memory:
    """What the store knows, read through a connection, and what the feed keeps there besides entries."""

    def __init__(self, connection: apsw.Connection, mapping: Mapping, now: float) -> None:
        self._connection, self._mapping, self._now = connection, mapping, now
        self._rules = mapping.rules
        self._has_tombstones: bool | None = None

    def of_study(self, study_uid: str) -> list[Entry]:
        """Give the entries of a study."""
        return entries_of_study(self._connection, study_uid)

    def having(self, kind: str, value: str) -> list[Entry]:
        """Give the entries with an identifier."""
        return entries_having(self._connection, kind, value)

    def merged_into(self, identifier: PatientIdentifier) -> Patient | None:
        """Give the patient that an identifier was merged into, if the authority is the same or one is not named."""
        body = self._connection.execute(
            "SELECT survivor FROM hl7_link WHERE prior = ?1 AND (issuer = ?2 OR issuer = '' OR ?2 = '')"
            " ORDER BY issuer <> ?2 LIMIT 1",
            (identifier.value, identifier.issuer),
        ).get
        return None if body is None else _decode_patient(body)

    def has_tombstone(self, kind: str, value: str) -> bool:
        """Tell whether an order was cancelled before it came, not too long ago."""
        execute = self._connection.execute
        if self._has_tombstones is None:  # there are hardly ever any
            self._has_tombstones = execute("SELECT 1 FROM hl7_tombstone LIMIT 1").get is not None
        if not self._has_tombstones:
            return False
        since = self._now - self._rules.tombstone_hours * 3600
        query = "SELECT 1 FROM hl7_tombstone WHERE kind = ? AND value = ? AND at >= ?"
        return execute(query, (kind, value, since)).get is not None

    def last_message_time(self, key: tuple[str, str]) -> str:
        """Give MSH-7 of the message that an entry is from, as far as it is from one."""
        query = "SELECT lineage FROM entry JOIN log USING (revision) WHERE entry.study_uid = ? AND entry.step_id = ?"
        found = self._connection.execute(query, key).get
        return str(msgspec.json.decode(found)["message"]["time"]) if found else ""

    def set_since(self, time: str, change: EntryChange) -> list[str]:
        """Name what a change would set, but messages have set that were sent after a time."""
        if change.before is None:
            return []
        changed = {one.attribute for one in change.sources if not one.not_used and one.value != one.before}
        return [
            f"{one.attribute} was set by {one.message}"
            for one in origins(history_of(self._connection, change.before.key))
            if one.attribute in changed and is_older(time, one.sent_at)
        ]

    def former_answer(self, header: Header, digest: bytes) -> bytes | None:
        """Give what was answered when the same message came before."""
        since = self._now - self._rules.duplicate_hours * 3600
        found = self._connection.execute(
            "SELECT answer FROM hl7_answer WHERE sender = ? AND control_id = ? AND digest = ? AND at >= ?",
            (header.sender, header.control_id, digest, since),
        ).get
        return None if found is None else bytes(found)

    def keep_success(self, header: Header, digest: bytes, ack: bytes, plan: Plan) -> None:
        """Remember merges, and the answer; a former failure of the same message is done with."""
        execute = self._connection.execute
        for link in plan.links:
            body = _encode(link.survivor).decode()
            execute("REPLACE INTO hl7_link VALUES (?, ?, ?)", (link.prior.value, link.prior.issuer, body))
            alive = link.survivor.identifiers[0]  # and no longer a prior one, if it was changed back
            query = "DELETE FROM hl7_link WHERE prior = ?1 AND (issuer = ?2 OR issuer = '' OR ?2 = '')"
            execute(query, (alive.value, alive.issuer))
        for failed in failed_messages(self._connection, sender=header.sender, control_id=header.control_id):
            if self._is_same(failed, header, digest):
                execute("DELETE FROM hl7_failed WHERE id = ?", (failed.id,))
        if header.control_id:
            execute("DELETE FROM hl7_answer WHERE at < ?", (self._now - self._rules.duplicate_hours * 3600,))
            row = (header.sender, header.control_id, digest, self._now, ack)
            execute("REPLACE INTO hl7_answer VALUES (?, ?, ?, ?, ?)", row)

    def _is_same(self, failed: Failed, header: Header, digest: bytes) -> bool:
        """Tell a message that was taken now, as it was or mended, from another one that had its control id before."""
        try:
            before = read_message(failed.message, self._mapping)
        except MessageError:
            return False
        is_mended = (before.header.type, before.header.time) == (header.type, header.time)
        return is_mended or _digest(before) == digest

    def keep_tombstones(self, plan: Plan) -> None:
        """Remember what was cancelled before it came."""
        execute = self._connection.execute
        execute("DELETE FROM hl7_tombstone WHERE at < ?", (self._now - self._rules.tombstone_hours * 3600,))
        for stone in plan.tombstones:
            execute("REPLACE INTO hl7_tombstone VALUES (?, ?, ?)", (stone.kind, stone.value, self._now))

    def keep_failure(self, header: Header, reason: str, raw: bytes) -> None:
        """Keep a message that was refused, once, however often it comes; not a huge one."""
        if len(raw) > _LONGEST_FAILED:
            logger.warning("%s from %s is not kept: it has %d bytes", header.control_id, header.sender, len(raw))
            return
        self._connection.execute(
            "INSERT INTO hl7_failed (at, sender, control_id, type, reason, message) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET times = times + 1, at = excluded.at, reason = excluded.reason",
            (self._now, header.sender, header.control_id, header.type, reason, raw),
        )
        self._connection.execute(
            "DELETE FROM hl7_failed WHERE id <= (SELECT max(id) FROM hl7_failed) - ?", (_MOST_FAILED,)
        )


class Failed(msgspec.Struct, frozen=True):
    """A message that was refused, and how often it came."""

    id: int
    at: float
    times: int
    sender: str
    control_id: str
    type: str
    reason: str
    message: bytes


def failed_messages(connection: apsw.Connection, **having: str | int) -> list[Failed]:
    """Give the messages that were refused, oldest first; those `having` an id, a sender or a control id."""
    where = "".join(f" AND {column} = :{column}" for column in having)
    query = "SELECT id, at, times, sender, control_id, type, reason, message FROM hl7_failed"
    return [Failed(*row) for row in connection.execute(f"{query} WHERE true{where} ORDER BY id", having)]


def forget_failed(number: int) -> Decide:
    """Make a change that drops a refused message."""

    def drop(connection: apsw.Connection) -> Sequence[Put | Remove]:
        connection.execute("DELETE FROM hl7_failed WHERE id = ?", (number,))
        return ()

    return Decide(drop)


# --- the feed -----------------------------------------------------------------------------------------------------


def read_message(raw: bytes, mapping: Mapping) -> Message:
    """Decode a message as a mapping says for its sender.

    Raises:
        MessageError: it cannot be read.
    """
    forced = ""
    if mapping.senders:
        _, header, _ = decode_header(raw)
        forced = mapping.forced_character_set(header.application, header.facility)
    return decode_message(raw, mapping.rules.default_character_set, forced)


class _Delivery:
    """One message on its way into the store; called within the commit, in the writer's thread.

    One that `is_late`, since it was refused before, must not set anew what newer messages have set.
    """

    def __init__(
        self, raw: bytes, message: Message, mapping: Mapping, now: datetime, *, is_late: bool = False
    ) -> None:
        self.raw, self.message, self.mapping, self.now = raw, message, mapping, now
        self.is_late = is_late
        self.ack = b""
        self.answer = Answer("AE")
        self.notes: list[str] = []
        self.is_repeated = False

    def __call__(self, connection: apsw.Connection) -> list[Put | Remove]:
        message, header = self.message, self.message.header
        memory = Memory(connection, self.mapping, self.now.timestamp())
        digest = _digest(message)
        former = memory.former_answer(header, digest) if header.control_id else None
        if former is not None:
            self.ack, self.answer, self.is_repeated = former, Answer("AA"), True
            return []
        plan = make_plan(message, self.mapping, memory, self.now)
        if self.is_late:
            plan = _without_newer(plan, memory, header.time)
        self.answer, self.notes = plan.answer, plan.notes
        self.ack = encode_ack(header, plan.answer, self.now, os.urandom(10).hex(), message.delimiters)
        if plan.tombstones:
            memory.keep_tombstones(plan)
        if plan.answer.code == "AA":
            memory.keep_success(header, digest, self.ack, plan)
        else:
            memory.keep_failure(header, "\n".join(map(str, plan.answer.faults)), self.raw)
        return [_store_change(header, change) for change in plan.changes if change.what != "unchanged"]


def _without_newer(plan: Plan, memory: Memory, time: str) -> Plan:
    """Refuse a plan that would set anew what newer messages have set."""
    newer = [text for change in plan.changes for text in memory.set_since(time, change)]
    if not newer:
        return plan
    faults = tuple(Hl7Fault(206, text, Location("MSH", 1, 7)) for text in dict.fromkeys(newer))
    return Plan(Answer("AE", faults))


def _digest(message: Message) -> bytes:
    """Tell messages apart that have the same control id; a resent one may have another time in MSH-7."""
    text = "\r".join([segment.text for segment in message.segments[1:]])
    return hashlib.blake2b(text.encode("utf_8", "surrogatepass"), digest_size=16).digest()


def _store_change(header: Header, change: EntryChange) -> Put | Remove:
    if change.after is None:
        assert change.before is not None
        return Remove(change.before.key)
    return Put(change.after, lineage=lineage(header, change))


class Feed:
    """Takes messages, and gives the acknowledgement of each once the store has what it changed."""

    def __init__(
        self,
        store: Store,
        mapping: Mapping,
        committed: Callable[[int], Awaitable[None]] | None = None,
        clock: Callable[[], datetime] = datetime.now,
    ) -> None:
        self.store, self.mapping = store, mapping
        self._committed, self._clock = committed, clock
        self.answered: Counter[str] = Counter()  # messages by MSA-1, `repeated`, or `none`

    async def receive(self, raw: bytes) -> bytes | None:
        """Answer a message; None if it cannot even be refused."""
        delivery = self._delivery(raw)
        if isinstance(delivery, _Delivery):
            try:
                revision = await self.store.commit([Decide(delivery)], _origin(delivery))
            except Exception as exc:
                self.answered["AE"] += 1
                return await self._failed(delivery, exc)
            return await self._answered(delivery, revision)
        if delivery is None:
            self.answered["none"] += 1
            return None
        self.answered["AR"] += 1
        ack, keep = delivery
        try:
            await self.store.commit([keep], "hl7")
        except StoreError as exc:
            logger.error("a message that cannot be read was not kept: %s", exc)
        return ack

    def receive_now(self, raw: bytes, *, is_late: bool = False) -> Answer:
        """Take a message without an event loop; one that `is_late` is refused where it would undo newer ones."""
        try:
            delivery = _Delivery(raw, read_message(raw, self.mapping), self.mapping, self._clock(), is_late=is_late)
        except MessageError as exc:
            return Answer("AR", (exc.fault,))
        self.store.commit_now([Decide(delivery)], _origin(delivery))
        return delivery.answer

    def _delivery(self, raw: bytes) -> _Delivery | tuple[bytes, Decide] | None:
        """Read a message, or else make its refusal and the change that keeps it."""
        now = self._clock()
        try:
            return _Delivery(raw, read_message(raw, self.mapping), self.mapping, now)
        except MessageError as exc:
            if exc.header is None:
                logger.warning("dropped %d bytes that are no HL7 message: %s", len(raw), exc)
                return None
            header, fault = exc.header, exc.fault
            logger.warning("AR for %s from %s: %s", header.control_id, header.sender, fault)

            def keep(connection: apsw.Connection) -> Sequence[Put | Remove]:
                Memory(connection, self.mapping, now.timestamp()).keep_failure(header, str(fault), raw)
                return ()

            return encode_ack(header, Answer("AR", (fault,)), now, os.urandom(10).hex()), Decide(keep)

    async def _failed(self, delivery: _Delivery, exc: Exception) -> bytes:
        """Answer AE when nothing could be kept: the sender keeps the message, and sends it again."""
        header = delivery.message.header
        if isinstance(exc, StoreError):
            logger.error("AE for %s from %s: %s", header.control_id, header.sender, exc)
            fault = Hl7Fault(207, "the store cannot be written now, send it again later")
        else:
            place = place_of(exc)
            logger.error("AE for %s from %s: a fault in this program: %s", header.control_id, header.sender, place)
            fault = Hl7Fault(207, "a fault in this program, see its log")

            def keep(connection: apsw.Connection) -> Sequence[Put | Remove]:
                memory = Memory(connection, delivery.mapping, delivery.now.timestamp())
                memory.keep_failure(header, f"{fault}: {type(exc).__name__}", delivery.raw)
                return ()

            try:
                await self.store.commit([Decide(keep)], "hl7")
            except StoreError:
                logger.error("the message was not kept")
        delimiters = delivery.message.delimiters
        return encode_ack(header, Answer("AE", (fault,)), delivery.now, os.urandom(10).hex(), delimiters)

    async def _answered(self, delivery: _Delivery, revision: int) -> bytes:
        header, answer = delivery.message.header, delivery.answer
        self.answered["repeated" if delivery.is_repeated else answer.code] += 1
        if self._committed:
            try:
                await self._committed(revision)
            except Exception as exc:  # what is on disk must be acknowledged, whoever stumbles over it
                logger.error("revision %d is in the store, but could not be told: %s", revision, place_of(exc))
        if answer.code != "AA":
            faults = "; ".join(map(str, answer.faults))
            logger.warning(
                "%s for %s %s from %s: %s", answer.code, header.type, header.control_id, header.sender, faults
            )
        elif delivery.is_repeated:
            logger.info("%s %s from %s came again", header.type, header.control_id, header.sender)
        elif answer.warnings or delivery.notes:
            told = "; ".join([*(warning.brief for warning in answer.warnings), *delivery.notes])
            logger.info("AA for %s %s from %s: %s", header.type, header.control_id, header.sender, told)
        return delivery.ack


def _origin(delivery: _Delivery) -> str:
    header = delivery.message.header
    return f"hl7 {header.sender} {header.type} {header.control_id}"
