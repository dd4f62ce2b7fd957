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
from typing import Any, Final

import apsw
import msgspec

from .item import Entry

__all__ = [
    "Change",
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
__all__ += ["StoreWriteError", "Update"]

Key = tuple[str, str]

_APPLICATION_ID: Final = 0x4D574C53  # "MWLS", in the header of the file
_BUSY_MILLISECONDS: Final = 10_000
_GROUP: Final = 256  # commits that share one transaction, and so one fsync

# The newest version is the number of scripts.  A script is never changed once it is released: add another one.
#
# Every state that an entry ever had is a row of the log; `entry` tells which one is in force.  A body is the JSON of
# an `Entry`, and NULL for a removal: 15 % larger and slower than msgpack, but any SQLite tool can look into it.
_MIGRATIONS: Final = (
    """
    CREATE TABLE log (
        revision INTEGER PRIMARY KEY AUTOINCREMENT,
        at REAL NOT NULL,
        study_uid TEXT NOT NULL,
        step_id TEXT NOT NULL,
        origin TEXT NOT NULL,
        body TEXT
    ) STRICT;
    CREATE INDEX log_key ON log (study_uid, step_id);
    CREATE TABLE entry (
        study_uid TEXT NOT NULL,
        step_id TEXT NOT NULL,
        revision INTEGER NOT NULL REFERENCES log,
        PRIMARY KEY (study_uid, step_id)
    ) STRICT, WITHOUT ROWID;
    """,
)


class StoreError(Exception):
    """A store cannot be opened or used; says what to do."""


class StoreWriteError(StoreError):
    """A commit did not come about, and nothing of it is kept."""


class KeyConflict(StoreWriteError):
    """There is an entry with this key already."""


class NoSuchEntry(StoreWriteError):
    """There is no entry with this key."""


class Put(msgspec.Struct, frozen=True):
    """Keep an entry, in place of the one with the same key if `replace` allows it."""

    entry: Entry
    replace: bool = True


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


Change = Put | Update | Remove | Forget


class Logged(msgspec.Struct, frozen=True):
    """One line of the log: what an entry became, None if it was removed, when, and on whose behalf."""

    revision: int
    key: Key
    entry: Entry | None
    at: float
    origin: str


_encode_entry = msgspec.json.Encoder().encode
_decode_entry = msgspec.json.Decoder(Entry).decode


class StoreReader:
    """Read-only view of a store, for one thread of a process."""

    def __init__(self, path: Path | str) -> None:
        self._path = Path(path)
        self._connection = _open(self._path, create=False)
        self._connection.pragma("query_only", True)

    def load(self) -> tuple[int, Iterator[Entry]]:
        """Give all entries, oldest change first, and the revision to follow the log from.

        Who keeps 100,000 of them had better pause the garbage collector meanwhile: 0.4 s against 1.2 s.
        """
        # Entries that change between the two statements come again with `follow`.
        rows = self._connection.execute("SELECT body FROM entry JOIN log USING (revision) ORDER BY revision")
        return self.revision(), (_decode_entry(body) for (body,) in rows)

    def follow(self, after_revision: int) -> list[Logged]:
        """Give the changes since a revision, in the order of their commits."""
        rows = self._connection.execute(
            "SELECT revision, study_uid, step_id, body, at, origin FROM log WHERE revision > ? ORDER BY revision",
            (after_revision,),
        )
        return [_decode_logged(row) for row in rows]

    def history(self, key: Key) -> list[Logged]:
        """Give all that an entry ever was, oldest first."""
        rows = self._connection.execute(
            "SELECT revision, study_uid, step_id, body, at, origin FROM log"
            " WHERE study_uid = ? AND step_id = ? ORDER BY revision",
            key,
        )
        return [_decode_logged(row) for row in rows]

    def get(self, key: Key) -> Entry | None:
        """Give one entry."""
        return _current(self._connection, key)

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
            with contextlib.closing(_open(self._path, create=False)) as connection:
                connection.execute("VACUUM INTO ?", (str(unfinished),))
            with unfinished.open("rb+") as file:
                os.fsync(file.fileno())
            unfinished.rename(target)
        except (apsw.Error, OSError) as exc:
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
        writer = _open(Path(path), create=True)
        super().__init__(path)
        self._queue: SimpleQueue[_Commit | None] = SimpleQueue()
        self._closed = False
        self._thread = Thread(target=_write, args=(writer, self._queue), name="store", daemon=True)
        self._thread.start()

    async def commit(self, changes: Sequence[Change], origin: str = "") -> int:
        """Put changes on disk, all of them or none; returns the revision of the last one.

        Raises:
            StoreWriteError: nothing was kept.
        """
        return await asyncio.wrap_future(self._submit(changes, origin))

    def commit_now(self, changes: Sequence[Change], origin: str = "") -> int:
        """As `commit`, for callers without an event loop."""
        return self._submit(changes, origin).result()

    def _submit(self, changes: Sequence[Change], origin: str) -> Future[int]:
        if self._closed:
            raise StoreWriteError("the store is closed")
        commit = _Commit(changes, origin, Future())
        self._queue.put(commit)
        return commit.done

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
    going_on = True
    while going_on:
        group = [queue.get()]
        while len(group) < _GROUP and not queue.empty():
            group.append(queue.get())
        going_on = None not in group
        _write_group(
            connection, [commit for commit in group if commit and commit.done.set_running_or_notify_cancel()]
        )
    connection.close()


def _write_group(connection: apsw.Connection, group: list[_Commit]) -> None:
    outcomes: list[int | Exception]
    try:
        connection.execute("BEGIN IMMEDIATE")
        outcomes = [_apply(connection, commit) for commit in group]
        connection.execute("COMMIT")
    except apsw.Error as exc:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        outcomes = [StoreWriteError(f"the store cannot be written: {exc}")] * len(group)
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
    _log(connection, key, change.entry, origin)


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


_APPLY: Final[dict[type[Any], Callable[[apsw.Connection, Any, str], None]]] = {
    Put: _put,
    Update: _update,
    Remove: _remove,
    Forget: _forget,
}


def _log(connection: apsw.Connection, key: Key, entry: Entry | None, origin: str) -> None:
    body = None if entry is None else _encode_entry(entry).decode()
    connection.execute(
        "INSERT INTO log (at, study_uid, step_id, origin, body) VALUES (?, ?, ?, ?, ?)",
        (time.time(), *key, origin, body),
    )
    if body is None:
        connection.execute("DELETE FROM entry WHERE study_uid = ? AND step_id = ?", key)
    else:
        connection.execute("REPLACE INTO entry VALUES (?, ?, last_insert_rowid())", key)


def _existing(connection: apsw.Connection, key: Key) -> Entry:
    entry = _current(connection, key)
    if entry is None:
        raise NoSuchEntry(f"there is no entry {key[0]} {key[1]}")
    return entry


# --- the file -----------------------------------------------------------------------------------------------------


def _open(path: Path, *, create: bool) -> apsw.Connection:
    """Open a store's file, check that it is one, and bring its schema up to date if it may be written."""
    try:
        flags = apsw.SQLITE_OPEN_READWRITE | (apsw.SQLITE_OPEN_CREATE if create else 0)
        connection = apsw.Connection(str(path), flags=flags)
        connection.set_busy_timeout(_BUSY_MILLISECONDS)
        version = _check_version(connection, path)
        if create:
            connection.pragma("journal_mode", "wal")
            connection.pragma("synchronous", "full")
            if version < len(_MIGRATIONS):
                _migrate(connection)
    except apsw.CantOpenError as exc:
        raise StoreError(f"{path} cannot be opened: {'is its folder there?' if create else 'no such file'}") from exc
    except apsw.NotADBError as exc:
        raise StoreError(f"{path} is not a worklist store") from exc
    except apsw.Error as exc:
        raise StoreError(f"{path} cannot be opened: {exc}") from exc
    return connection


def _check_version(connection: apsw.Connection, path: Path) -> int:
    version = int(connection.pragma("user_version"))
    is_empty = connection.execute("SELECT count(*) FROM sqlite_schema").get == 0
    if connection.pragma("application_id") != _APPLICATION_ID and (version or not is_empty):
        raise StoreError(f"{path} is not a worklist store")
    if version > len(_MIGRATIONS):
        raise StoreError(
            f"{path} was written by a newer mwl (schema {version}, this one knows {len(_MIGRATIONS)}):"
            " install that version, or restore a backup made before the upgrade"
        )
    return version


def _migrate(connection: apsw.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        # Read again: another process may have been faster.
        for script in _MIGRATIONS[int(connection.pragma("user_version")) :]:
            connection.execute(script)
        connection.pragma("user_version", len(_MIGRATIONS))
        connection.pragma("application_id", _APPLICATION_ID)
    connection.execute("COMMIT")


def _last_revision(connection: apsw.Connection) -> int:
    # Not max(revision): the newest line may have been forgotten, and its number is never used again.
    return int(connection.execute("SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = 'log'").get)


def _current(connection: apsw.Connection, key: Key) -> Entry | None:
    body = connection.execute(
        "SELECT body FROM entry JOIN log USING (revision) WHERE entry.study_uid = ? AND entry.step_id = ?", key
    ).get
    return None if body is None else _decode_entry(body)


def _decode_logged(row: tuple[Any, ...]) -> Logged:
    revision, study_uid, step_id, body, at, origin = row
    return Logged(revision, (study_uid, step_id), None if body is None else _decode_entry(body), at, origin)
