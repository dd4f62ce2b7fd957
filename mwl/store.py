"""The durable store: entries in SQLite, each change a numbered revision in a log.

Who keeps an index of the entries loads them once and follows the log from there.  A change is on disk when its commit
returns; several processes may write to one store at a time, and revisions are in the order of commits.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from datetime import date, datetime
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any, Final, TypeVar

import apsw
import msgspec

from .item import Entry
from .schema import StoreError, open_file

__all__ = [
    "Change",
    "Decide",
    "Forget",
    "KeyConflict",
    "Logged",
    "NoSuchEntry",
    "Put",
    "Remove",
    "Store",
    "StoreError",
    "StoreReader",
]
__all__ += ["StoreWriteError", "Update", "entries_having", "entries_of_study", "history_of", "identifiers"]

Key = tuple[str, str]
T = TypeVar("T")

_GROUP: Final = 256  # commits that share one transaction, and so one fsync
_TAKEN_AWAY: Final = "the store was moved, removed or replaced while in use: restart what uses it"


class StoreWriteError(StoreError):
    """A commit did not come about, and nothing of it is kept."""


class KeyConflict(StoreWriteError):
    """There is an entry with this key already."""


class NoSuchEntry(StoreWriteError):
    """There is no entry with this key."""


class Put(msgspec.Struct, frozen=True):
    """Keep an entry, in place of the one with the same key if `replace` allows it.

    `lineage` is what is known of where its values came from, as JSON.
    """

    entry: Entry
    replace: bool = True
    lineage: str = ""


class Remove(msgspec.Struct, frozen=True):
    """Take an entry out; its past stays in the log."""

    key: Key


class Update(msgspec.Struct, frozen=True):
    """Change an entry by a function of what it is at the time of the commit, so that no other change gets lost.

    The function must keep the key; it may raise StoreWriteError to refuse.
    """

    key: Key
    change: Callable[[Entry], Entry]


class Forget(msgspec.Struct, frozen=True):
    """Remove entries that started before a day, and what the log has of older times but for what is in force."""

    before: date


class Decide(msgspec.Struct, frozen=True):
    """Change what a function says that is called at the time of the commit, in the writer's thread.

    It sees all that was committed before, and may read and write tables of its own through the connection; it may
    raise StoreWriteError to refuse.
    """

    function: Callable[[apsw.Connection], Sequence[Put | Remove]]


Change = Put | Update | Remove | Forget | Decide


class Logged(msgspec.Struct, frozen=True):
    """One line of the log: what an entry became, None if it was removed, when, and on whose behalf."""

    revision: int
    key: Key
    entry: Entry | None
    at: float
    origin: str
    lineage: str = ""


def identifiers(entry: Entry) -> set[tuple[str, str]]:
    """Give what finds an entry, besides its key: values of the kinds `patient`, `accession`, `filler`, `placer`."""
    request = entry.request
    found = {("patient", identifier.value) for identifier in entry.patient.identifiers}
    found |= {("accession", request.accession_number), ("filler", request.filler_order_number)}
    found.add(("placer", request.placer_order_number))
    return {(kind, value) for kind, value in found if value}


def entries_of_study(connection: apsw.Connection, study_uid: str) -> list[Entry]:
    """Give the steps of a study, in the order of their ids."""
    rows = connection.execute(
        "SELECT body FROM entry JOIN log USING (revision) WHERE entry.study_uid = ? ORDER BY entry.step_id",
        (study_uid,),
    )
    return [_decode_entry(body) for (body,) in rows]


def entries_having(connection: apsw.Connection, kind: str, value: str) -> list[Entry]:
    """Give the entries that one of `identifiers` finds, in the order of their keys."""
    rows = connection.execute(
        "SELECT body FROM identifier JOIN entry USING (study_uid, step_id) JOIN log USING (revision)"
        " WHERE kind = ? AND value = ? ORDER BY identifier.study_uid, identifier.step_id",
        (kind, value),
    )
    # A line stays when its entry changes, so that a change need not read what was before.
    return [entry for (body,) in rows if (kind, value) in identifiers(entry := _decode_entry(body))]


def history_of(connection: apsw.Connection, key: Key) -> list[Logged]:
    """Give all that an entry ever was, oldest first."""
    rows = connection.execute(
        "SELECT revision, study_uid, step_id, body, at, origin, lineage FROM log"
        " WHERE study_uid = ? AND step_id = ? ORDER BY revision",
        key,
    )
    return [_decode_logged(row) for row in rows]


_encode_entry = msgspec.json.Encoder().encode
_decode_entry = msgspec.json.Decoder(Entry).decode


class StoreReader:
    """Read-only view of a store, for one thread of a process."""

    def __init__(self, path: Path | str) -> None:
        self._path = Path(path)
        self._connection = open_file(self._path, create=False)
        self._connection.pragma("query_only", True)

    def load(self) -> tuple[int, Iterator[Entry]]:
        """Give all entries, oldest change first, and the revision to follow the log from.

        Who keeps many of them had better pause the garbage collector meanwhile.
        """
        # Entries that change between the two statements come again with `follow`.
        rows = self._connection.execute(
            "SELECT body FROM log WHERE revision IN (SELECT revision FROM entry) ORDER BY revision"
        )
        return self.revision(), (_decode_entry(body) for (body,) in rows)

    def follow(self, after_revision: int) -> list[Logged]:
        """Give the changes since a revision, in the order of their commits."""
        rows = self._connection.execute(
            "SELECT revision, study_uid, step_id, body, at, origin, lineage FROM log"
            " WHERE revision > ? ORDER BY revision",
            (after_revision,),
        )
        return [_decode_logged(row) for row in rows]

    def history(self, key: Key) -> list[Logged]:
        """Give all that an entry ever was, oldest first."""
        return history_of(self._connection, key)

    def get(self, key: Key) -> Entry | None:
        """Give one entry."""
        return _current(self._connection, key)

    def read(self, function: Callable[[apsw.Connection], T]) -> T:
        """Call a function with the connection, as `Decide` does within a commit."""
        return function(self._connection)

    def revision(self) -> int:
        """Give the number of the last change; 0 in a new store."""
        return _last_revision(self._connection)

    def count(self) -> int:
        """Count the entries."""
        return int(self._connection.execute("SELECT count(*) FROM entry").get)

    def backup(self, target: Path | str) -> None:
        """Copy the store as it is at this moment into a new file; others go on writing meanwhile.

        May be called from any thread.

        Raises:
            StoreError: the file exists, or cannot be written.
        """
        target = Path(target)
        unfinished = target.with_name(f"{target.name}.unfinished")
        if target.exists():
            raise StoreError(f"{target} exists already: name another file")
        try:
            unfinished.unlink(missing_ok=True)
            with contextlib.closing(open_file(self._path, create=False)) as connection:
                connection.execute("VACUUM INTO ?", (str(unfinished),))
            with unfinished.open("rb+") as file:
                os.fsync(file.fileno())
            unfinished.rename(target)
        except (apsw.Error, OSError) as exc:
            with contextlib.suppress(OSError):
                unfinished.unlink(missing_ok=True)
            raise StoreError(f"{target} cannot be written: {exc}") from exc

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


class Store(StoreReader):
    """A store to read and write; one thread commits for all callers, and many waiting commits share one fsync."""

    def __init__(self, path: Path | str) -> None:
        """Open a store; a file that is not there is made, one of an older version is brought up to date.

        Raises:
            StoreError: the file is no store, or of a newer version.
        """
        writer = open_file(Path(path), create=True)
        super().__init__(path)
        self._queue: SimpleQueue[_Commit | None] = SimpleQueue()
        self._closed = False
        self._thread = Thread(target=_write, args=(writer, self._queue), name="store", daemon=True)
        self._thread.start()

    def submit(self, changes: Sequence[Change], origin: str = "") -> Future[int]:
        """Hand in a commit, and go on: the future ends when it is on disk."""
        if self._closed:
            raise StoreWriteError("the store is closed")
        commit = _Commit(changes, origin, Future())
        self._queue.put(commit)
        return commit.done

    async def commit(self, changes: Sequence[Change], origin: str = "") -> int:
        """Put changes on disk, all of them or none; returns the revision of the last one.

        Raises:
            StoreWriteError: nothing was kept.
        """
        return await asyncio.wrap_future(self.submit(changes, origin))

    def commit_now(self, changes: Sequence[Change], origin: str = "") -> int:
        """As `commit`, for callers without an event loop."""
        return self.submit(changes, origin).result()

    def close(self) -> None:
        """Finish the commits under way, then close the file."""
        self._closed = True
        self._queue.put(None)
        self._thread.join()
        super().close()


class _Commit(msgspec.Struct, frozen=True):
    changes: Sequence[Change]
    origin: str
    done: Future[int]


# --- the writer's thread ------------------------------------------------------------------------------------------


def _write(connection: apsw.Connection, queue: SimpleQueue[_Commit | None]) -> None:
    """Commit until None comes, as many of the waiting commits at a time as there are."""
    opened = _identity(connection)
    going_on = True
    while going_on:
        group = [queue.get()]
        while len(group) < _GROUP and not queue.empty():
            group.append(queue.get())
        going_on = None not in group
        commits = [commit for commit in group if commit and commit.done.set_running_or_notify_cancel()]
        if _identity(connection) == opened:
            _write_group(connection, commits)
        else:  # nobody would open the file again that it went to
            for commit in commits:
                commit.done.set_exception(StoreWriteError(_TAKEN_AWAY))
    connection.close()


def _identity(connection: apsw.Connection) -> tuple[int, int] | None:
    """Tell which file is there now, where the store was opened; None if there is none."""
    try:
        status = os.stat(connection.filename)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _write_group(connection: apsw.Connection, group: list[_Commit]) -> None:
    outcomes: list[int | Exception]
    try:
        connection.execute("BEGIN IMMEDIATE")
        outcomes = [_apply(connection, commit) for commit in group]
        connection.execute("COMMIT")
    except apsw.Error as exc:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        # SQLite has rolled back by itself where the disk is full; the complaints about that hide the reason.
        reason = exc
        while isinstance(reason.__context__, apsw.Error):
            reason = reason.__context__
        outcomes = [StoreWriteError(f"the store cannot be written: {reason}")] * len(group)
    for commit, outcome in zip(group, outcomes, strict=True):
        if isinstance(outcome, Exception):
            commit.done.set_exception(outcome)
        else:
            commit.done.set_result(outcome)


def _apply(connection: apsw.Connection, commit: _Commit) -> int | Exception:
    """Write one commit into the open transaction; one that is refused leaves the others of its group alone."""
    try:
        with connection:  # a savepoint
            for change in commit.changes:
                _APPLY[type(change)](connection, change, commit.origin)
        return _last_revision(connection)
    except apsw.Error:
        raise  # the disk is full, or broken: the transaction is lost
    except Exception as exc:  # of an Update's function, too
        return exc


def _put(connection: apsw.Connection, change: Put, origin: str) -> None:
    key = change.entry.key
    if not all(key):
        raise StoreWriteError("an entry without Study Instance UID or Scheduled Procedure Step ID cannot be kept")
    if not change.replace and _current(connection, key):
        raise KeyConflict(f"there is an entry {key[0]} {key[1]} already")
    _log(connection, key, change.entry, origin, change.lineage)


def _update(connection: apsw.Connection, change: Update, origin: str) -> None:
    entry = change.change(_existing(connection, change.key))
    if entry.key != change.key:
        raise StoreWriteError("an update must not change the key of an entry: remove it, and put another one")
    _log(connection, change.key, entry, origin)


def _remove(connection: apsw.Connection, change: Remove, origin: str) -> None:
    _existing(connection, change.key)
    _log(connection, change.key, None, origin)


def _forget(connection: apsw.Connection, change: Forget, origin: str) -> None:
    old = "SELECT entry.study_uid, entry.step_id FROM entry JOIN log USING (revision)"
    keys = connection.execute(f"{old} WHERE body ->> '$.step.start_date' < ?", (str(change.before),)).fetchall()
    for study_uid, step_id in keys:
        _log(connection, (str(study_uid), str(step_id)), None, origin)
    midnight = datetime.combine(change.before, datetime.min.time()).timestamp()
    connection.execute("DELETE FROM log WHERE at < ? AND revision NOT IN (SELECT revision FROM entry)", (midnight,))
    connection.execute(
        "DELETE FROM identifier WHERE NOT EXISTS (SELECT 1 FROM entry"
        " WHERE entry.study_uid = identifier.study_uid AND entry.step_id = identifier.step_id)"
    )


def _decide(connection: apsw.Connection, change: Decide, origin: str) -> None:
    for decided in change.function(connection):
        _APPLY[type(decided)](connection, decided, origin)


_APPLY: Final[dict[type[Any], Callable[[apsw.Connection, Any, str], None]]] = {
    Put: _put,
    Update: _update,
    Remove: _remove,
    Forget: _forget,
    Decide: _decide,
}


def _log(connection: apsw.Connection, key: Key, entry: Entry | None, origin: str, lineage: str = "") -> None:
    body = None if entry is None else _encode_entry(entry).decode()
    connection.execute(
        "INSERT INTO log (at, study_uid, step_id, origin, body, lineage) VALUES (?, ?, ?, ?, ?, ?)",
        (time.time(), *key, origin, body, lineage),
    )
    if entry is None:
        connection.execute("DELETE FROM entry WHERE study_uid = ? AND step_id = ?", key)
    else:
        connection.execute("REPLACE INTO entry VALUES (?, ?, last_insert_rowid())", key)
        connection.executemany(
            "INSERT OR IGNORE INTO identifier VALUES (?, ?, ?, ?)",
            [(kind, value, *key) for kind, value in identifiers(entry)],
        )


def _existing(connection: apsw.Connection, key: Key) -> Entry:
    entry = _current(connection, key)
    if entry is None:
        raise NoSuchEntry(f"there is no entry {key[0]} {key[1]}")
    return entry


# --- read -----------------------------------------------------------------------------------------------------------


def _last_revision(connection: apsw.Connection) -> int:
    # Not max(revision): the newest line may have been forgotten, and its number is never used again.
    return int(connection.execute("SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = 'log'").get)


def _current(connection: apsw.Connection, key: Key) -> Entry | None:
    body = connection.execute(
        "SELECT body FROM entry JOIN log USING (revision) WHERE entry.study_uid = ? AND entry.step_id = ?", key
    ).get
    return None if body is None else _decode_entry(body)


def _decode_logged(row: tuple[Any, ...]) -> Logged:
    revision, study_uid, step_id, body, at, origin, lineage = row
    return Logged(revision, (study_uid, step_id), None if body is None else _decode_entry(body), at, origin, lineage)
