"""The file of a store: its schema, version by version, and how it is opened."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import apsw

from .errors import MwlError

__all__ = ["MIGRATIONS", "StoreError", "open_file"]

_APPLICATION_ID: Final = 0x4D574C53  # "MWLS", in the header of the file
_BUSY_MILLISECONDS: Final = 10_000

# The newest version is the number of scripts.  A script is never changed once it is released: add another one.
#
# Every state that an entry ever had is a row of the log; `entry` tells which one is in force.  A body is the JSON of
# an `Entry`, and NULL for a removal.  msgpack is 15 % smaller and decodes in two thirds of the time, 0.15 s less for
# 100,000 entries (python -m bench store), but any SQLite tool can look into JSON, and SQL can too.
MIGRATIONS: Final = (
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
    # By which identifiers an entry is found, and what the HL7 feed remembers (`hl7_memory`).
    """
    ALTER TABLE log ADD COLUMN lineage TEXT NOT NULL DEFAULT '';
    CREATE TABLE identifier (
        kind TEXT NOT NULL,
        value TEXT NOT NULL,
        study_uid TEXT NOT NULL,
        step_id TEXT NOT NULL,
        PRIMARY KEY (kind, value, study_uid, step_id)
    ) STRICT, WITHOUT ROWID;
    INSERT OR IGNORE INTO identifier
        SELECT kind, value, study_uid, step_id FROM (
            SELECT 'patient' AS kind, each.value ->> '$.value' AS value, log.study_uid, log.step_id
                FROM entry JOIN log USING (revision), json_each(body, '$.patient.identifiers') AS each
            UNION ALL
            SELECT column1, body ->> column2, log.study_uid, log.step_id FROM entry JOIN log USING (revision), (
                VALUES ('accession', '$.request.accession_number'), ('filler', '$.request.filler_order_number'),
                       ('placer', '$.request.placer_order_number'))
        ) WHERE value <> '';
    CREATE TABLE hl7_answer (
        sender TEXT NOT NULL,
        control_id TEXT NOT NULL,
        digest BLOB NOT NULL,
        at REAL NOT NULL,
        answer BLOB NOT NULL,
        PRIMARY KEY (sender, control_id, digest)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX hl7_answer_at ON hl7_answer (at);
    CREATE TABLE hl7_link (
        prior TEXT NOT NULL,
        issuer TEXT NOT NULL,
        survivor TEXT NOT NULL,
        PRIMARY KEY (prior, issuer)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE hl7_tombstone (
        kind TEXT NOT NULL,
        value TEXT NOT NULL,
        at REAL NOT NULL,
        PRIMARY KEY (kind, value)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE hl7_failed (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        at REAL NOT NULL,
        times INTEGER NOT NULL DEFAULT 1,
        sender TEXT NOT NULL,
        control_id TEXT NOT NULL,
        type TEXT NOT NULL,
        reason TEXT NOT NULL,
        message BLOB NOT NULL,
        UNIQUE (sender, control_id, message)
    ) STRICT;
    """,
)


class StoreError(MwlError):
    """A store cannot be opened or used; says what to do."""


def open_file(path: Path, *, create: bool) -> apsw.Connection:
    """Open a store's file, check that it is one, and bring an older schema up to date."""
    try:
        flags = apsw.SQLITE_OPEN_READWRITE | (apsw.SQLITE_OPEN_CREATE if create else 0)
        connection = apsw.Connection(str(path), flags=flags)
        connection.set_busy_timeout(_BUSY_MILLISECONDS)
        version = _check_version(connection, path)
        if version == 0 and not create:
            raise StoreError(f"{path} is empty: nothing was ever put into it")
        connection.pragma("journal_mode", "wal")
        connection.pragma("synchronous", "full")
        if version < len(MIGRATIONS):
            _migrate(connection)
    except apsw.CantOpenError as exc:
        missing = "is its folder there?" if create else "no such file"
        reason = "may this user read and write it, and its folder?" if path.exists() else missing
        raise StoreError(f"{path} cannot be opened: {reason}") from exc
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
    if version > len(MIGRATIONS):
        raise StoreError(
            f"{path} was written by a newer mwl (schema {version}, this one knows {len(MIGRATIONS)}):"
            " install that version, or restore a backup made before the upgrade"
        )
    return version


def _migrate(connection: apsw.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        # Read again: another process may have been faster.
        for script in MIGRATIONS[int(connection.pragma("user_version")) :]:
            connection.execute(script)
        connection.pragma("user_version", len(MIGRATIONS))
        connection.pragma("application_id", _APPLICATION_ID)
    connection.execute("COMMIT")
