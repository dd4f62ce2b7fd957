import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import apsw
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mwl import schema
from mwl.item import (
    Entry,
    ImagingServiceRequest,
    Patient,
    PatientIdentifier,
    RequestedProcedure,
    ScheduledProcedureStep,
)
from mwl.store import (
    Change,
    Decide,
    Forget,
    KeyConflict,
    NoSuchEntry,
    Put,
    Remove,
    Store,
    StoreError,
    StoreReader,
    StoreWriteError,
    Update,
    entries_having,
    entries_of_study,
)


def entry(number: int, *, name: str = "Müller^Jörg=山田^太郎", start: date = date(2024, 7, 5)) -> Entry:
    return Entry(
        Patient(name=name, identifiers=(PatientIdentifier(str(number)),)),
        RequestedProcedure(study_instance_uid=f"1.2.{number}", procedure_id="RP"),
        ScheduledProcedureStep(step_id="S1", modality="CT", start_date=start),
    )


def key(number: int) -> tuple[str, str]:
    return entry(number).key


def renamed(name: str, one: Entry) -> Entry:
    return msgspec.structs.replace(one, patient=msgspec.structs.replace(one.patient, name=name))


def entries_of(store: StoreReader) -> list[Entry]:
    return list(store.load()[1])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "worklist.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    store = Store(path)
    yield store
    store.close()


def test_what_was_put_is_there_after_reopening(store: Store, path: Path) -> None:
    store.commit_now([Put(entry(1)), Put(entry(2))])
    store.close()
    again = Store(path)
    assert entries_of(again) == [entry(1), entry(2)]
    again.close()


def test_a_new_store_is_empty_at_revision_0(store: Store) -> None:
    assert (store.revision(), store.count(), entries_of(store)) == (0, 0, [])


def test_each_change_has_its_revision_in_commit_order(store: Store) -> None:
    assert store.commit_now([Put(entry(1)), Put(entry(2))]) == 2
    assert store.commit_now([Remove(key(1))]) == 3
    assert [(line.revision, line.key, line.entry) for line in store.follow(0)] == [
        (1, key(1), entry(1)),
        (2, key(2), entry(2)),
        (3, key(1), None),
    ]
    assert [line.revision for line in store.follow(2)] == [3]


def test_a_commit_of_nothing_changes_nothing(store: Store) -> None:
    store.commit_now([Put(entry(1))])
    assert store.commit_now([]) == 1


def test_the_log_knows_who_when_and_what(store: Store) -> None:
    store.commit_now([Put(entry(1))], origin="import a.wl")
    store.commit_now([Put(entry(1, name="Other^Name"))], origin="http")
    first, second = store.history(key(1))
    assert (first.origin, second.origin) == ("import a.wl", "http")
    assert first.entry == entry(1)
    assert 0 < first.at <= second.at


def test_a_put_replaces_the_entry_of_the_same_key(store: Store) -> None:
    store.commit_now([Put(entry(1)), Put(entry(2))])
    store.commit_now([Put(entry(1, name="New^Name"))])
    assert store.get(key(1)) == entry(1, name="New^Name")
    assert entries_of(store) == [entry(2), entry(1, name="New^Name")]


def test_a_put_that_may_not_replace_is_refused(store: Store) -> None:
    store.commit_now([Put(entry(1))])
    with pytest.raises(KeyConflict):
        store.commit_now([Put(entry(1, name="New^Name"), replace=False)])
    assert store.get(key(1)) == entry(1)


def test_a_commit_is_kept_whole_or_not_at_all(store: Store) -> None:
    with pytest.raises(NoSuchEntry):
        store.commit_now([Put(entry(1)), Remove(key(2))])
    assert (store.count(), store.follow(0)) == (0, [])


@pytest.mark.parametrize("change", [Remove(key(9)), Update(key(9), lambda one: one)])
def test_what_is_not_there_cannot_be_changed(store: Store, change: Change) -> None:
    with pytest.raises(NoSuchEntry):
        store.commit_now([change])


def test_an_entry_without_a_key_is_refused(store: Store) -> None:
    with pytest.raises(StoreWriteError):
        store.commit_now([Put(msgspec.structs.replace(entry(1), step=ScheduledProcedureStep()))])


def test_an_update_may_not_change_the_key(store: Store) -> None:
    store.commit_now([Put(entry(1))])
    with pytest.raises(StoreWriteError, match="key"):
        store.commit_now([Update(key(1), lambda _: entry(2))])


def test_a_faulty_update_function_harms_nobody_else(store: Store) -> None:
    store.commit_now([Put(entry(1))])
    with pytest.raises(ZeroDivisionError):
        store.commit_now([Update(key(1), lambda _: 1 // 0)])  # type: ignore[arg-type,return-value]
    assert store.commit_now([Put(entry(2))])


async def test_updates_of_one_entry_at_a_time_are_all_done(store: Store) -> None:
    await store.commit([Put(entry(1, name=""))])
    await asyncio.gather(
        *(store.commit([Update(key(1), lambda one: renamed(one.patient.name + "x", one))]) for _ in range(50))
    )
    found = store.get(key(1))
    assert found is not None
    assert found.patient.name == "x" * 50


async def test_waiting_commits_share_a_transaction_and_a_refused_one_does_no_harm(store: Store) -> None:
    writing, go_on = threading.Event(), threading.Event()

    def block(one: Entry) -> Entry:
        writing.set()
        go_on.wait()
        return one

    await store.commit([Put(entry(0))])
    first = asyncio.create_task(store.commit([Update(key(0), block)]))
    await asyncio.to_thread(writing.wait)
    others = [
        asyncio.create_task(store.commit([Remove(key(number)) if number == 5 else Put(entry(number))]))
        for number in range(1, 10)
    ]
    await asyncio.to_thread(lambda: None)  # the tasks above have started by now
    go_on.set()
    outcomes = await asyncio.gather(first, *others, return_exceptions=True)
    assert [outcome for outcome in outcomes if isinstance(outcome, int)] == [2, 3, 4, 5, 6, 7, 8, 9, 10]
    assert isinstance(outcomes[5], NoSuchEntry)
    assert store.count() == 9


def test_a_closed_store_refuses_commits_and_keeps_those_before(store: Store, path: Path) -> None:
    waiting = [store.submit([Put(entry(number))]) for number in range(20)]
    store.close()
    assert [future.result() for future in waiting] == list(range(1, 21))
    with pytest.raises(StoreWriteError, match="closed"):
        store.commit_now([Put(entry(99))])


def test_a_reader_follows_what_another_connection_writes(store: Store, path: Path) -> None:
    reader = StoreReader(path)
    revision, _ = reader.load()
    store.commit_now([Put(entry(1))])
    assert [line.entry for line in reader.follow(revision)] == [entry(1)]
    reader.close()


def test_two_stores_may_write_to_one_file(store: Store, path: Path) -> None:
    other = Store(path)
    for number in range(10):
        (store if number % 2 else other).commit_now([Put(entry(number))])
    assert [line.key for line in store.follow(0)] == [key(number) for number in range(10)]
    other.close()


def test_a_reader_cannot_write(store: Store, path: Path) -> None:
    reader = StoreReader(path)
    with pytest.raises(apsw.ReadOnlyError):
        reader._connection.execute("DELETE FROM entry")
    reader.close()


def test_forgetting_removes_entries_of_long_ago_and_keeps_revisions_unique(store: Store) -> None:
    store.commit_now([Put(entry(1, start=date(2020, 1, 1))), Put(entry(2, start=date(2024, 1, 1))), Put(entry(2))])
    store.commit_now([Forget(date(2023, 1, 1))])
    assert entries_of(store) == [entry(2)]
    assert [line.entry for line in store.follow(3)] == [None]  # who follows hears of it
    store.commit_now([Remove(key(2)), Forget(date(2100, 1, 1))])
    assert (store.follow(0), store.count()) == ([], 0)
    assert store.commit_now([Put(entry(3))]) == 6


# --- found by an identifier, decided at the commit, with a lineage -------------------------------------------------


def ordered(number: int, accession: str) -> Entry:
    one = entry(number)
    return msgspec.structs.replace(one, request=ImagingServiceRequest(accession_number=accession))


def found(store: Store, kind: str, value: str) -> list[Entry]:
    return store.read(lambda connection: entries_having(connection, kind, value))


def test_an_entry_is_found_by_what_it_is_and_not_by_what_it_was(store: Store) -> None:
    store.commit_now([Put(ordered(1, "A1")), Put(ordered(2, "A1")), Put(ordered(3, "A3"))])
    assert found(store, "accession", "A1") == [ordered(1, "A1"), ordered(2, "A1")]
    store.commit_now([Put(ordered(1, "A9")), Remove(key(2))])
    assert found(store, "accession", "A1") == []
    assert found(store, "accession", "A9") == found(store, "patient", "1") == [ordered(1, "A9")]
    store.commit_now([Forget(date(2100, 1, 1))])
    assert store.read(lambda connection: connection.execute("SELECT count(*) FROM identifier").get) == 0


def test_a_study_has_its_steps_in_the_order_of_their_ids(store: Store) -> None:
    second = msgspec.structs.replace(entry(1), step=ScheduledProcedureStep(step_id="S0"))
    store.commit_now([Put(entry(1)), Put(second), Put(entry(2))])
    assert store.read(lambda connection: entries_of_study(connection, "1.2.1")) == [second, entry(1)]


async def test_what_is_decided_at_the_commit_sees_the_commits_before_it(store: Store) -> None:
    def count_up(connection: apsw.Connection) -> list[Put]:
        return [Put(entry(len(entries_of_study(connection, "1.2.0")), name="new")), Put(entry(0))]

    await asyncio.gather(*(store.commit([Decide(count_up)]) for _ in range(3)))
    assert [line.key for line in store.follow(0)] == [key(0), key(0), key(1), key(0), key(1), key(0)]


def test_what_a_refused_decision_wrote_is_not_kept(store: Store) -> None:
    def write_and_refuse(connection: apsw.Connection) -> list[Put]:
        connection.execute("INSERT INTO hl7_tombstone VALUES ('filler', 'F1', 0)")
        raise StoreWriteError("no")

    with pytest.raises(StoreWriteError, match="no"):
        store.commit_now([Decide(write_and_refuse)])
    assert store.read(lambda connection: connection.execute("SELECT count(*) FROM hl7_tombstone").get) == 0


def test_the_lineage_of_a_change_stands_in_its_history(store: Store) -> None:
    store.commit_now([Put(entry(1), lineage='{"from": "OBR-18"}')])
    store.commit_now([Put(entry(1))])
    assert [line.lineage for line in store.history(key(1))] == ['{"from": "OBR-18"}', ""]


def test_a_full_disk_refuses_the_commit_and_harms_nothing_that_was_kept(store: Store) -> None:
    def fill(connection: apsw.Connection) -> list[Put]:
        connection.pragma("max_page_count", connection.pragma("page_count"))
        return []

    store.commit_now([Put(entry(1))])
    store.commit_now([Decide(fill)])
    with pytest.raises(StoreWriteError, match="cannot be written: database or disk is full"):
        store.commit_now([Put(entry(number)) for number in range(2, 2000)])
    assert entries_of(store) == [entry(1)]
    store.commit_now([Decide(lambda connection: connection.pragma("max_page_count", 2**30) and [])])
    assert store.commit_now([Put(entry(2))]) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="a file in use cannot be moved there")
@pytest.mark.parametrize("replaced", [False, True])
def test_nothing_is_acknowledged_that_goes_to_a_file_that_was_taken_away(
    store: Store, path: Path, tmp_path: Path, replaced: bool
) -> None:
    store.commit_now([Put(entry(1))])
    store.backup(tmp_path / "backup.db")
    path.rename(tmp_path / "aside.db")
    if replaced:
        (tmp_path / "backup.db").rename(path)
    with pytest.raises(StoreWriteError, match="moved, removed or replaced"):
        store.commit_now([Put(entry(2))])
    (tmp_path / "aside.db").replace(path)
    assert store.commit_now([Put(entry(2))]) == 2


def test_a_path_that_is_no_file_is_not_said_to_be_missing(tmp_path: Path) -> None:
    for open_it in (Store, StoreReader):
        with pytest.raises(StoreError, match="may this user read and write it"):
            open_it(tmp_path)


# --- backup, versions, foreign files ------------------------------------------------------------------------------


def test_a_backup_is_a_store_with_all_that_was_there(store: Store, tmp_path: Path) -> None:
    store.commit_now([Put(entry(1)), Put(entry(2)), Remove(key(1))])
    store.backup(tmp_path / "backup.db")
    store.commit_now([Put(entry(3))])
    copy = Store(tmp_path / "backup.db")
    assert entries_of(copy) == [entry(2)]
    assert copy.revision() == 3
    assert copy.commit_now([Put(entry(4))]) == 4
    copy.close()


def test_a_backup_that_fails_leaves_nothing_on_the_disk(store: Store, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    store.commit_now([Put(entry(1))])
    (tmp_path / "backups").mkdir()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, before[1]))
    try:
        with pytest.raises(StoreError, match="cannot be written"):
            store.backup(tmp_path / "backups" / "backup.db")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list((tmp_path / "backups").iterdir()) == []


def test_a_backup_never_overwrites(store: Store, tmp_path: Path) -> None:
    (tmp_path / "backup.db").write_text("precious")
    with pytest.raises(StoreError, match="exists already"):
        store.backup(tmp_path / "backup.db")
    assert (tmp_path / "backup.db").read_text() == "precious"


def test_a_store_of_a_newer_schema_is_refused_and_left_alone(store: Store, path: Path) -> None:
    store.close()
    connection = apsw.Connection(str(path))
    connection.pragma("user_version", 99)
    with pytest.raises(StoreError, match="newer mwl"):
        Store(path)
    assert connection.pragma("user_version") == 99
    connection.close()


@pytest.mark.parametrize("kind", [Store, StoreReader])
def test_a_store_of_an_older_schema_is_brought_up_to_date(
    store: Store, path: Path, kind: type[StoreReader], monkeypatch: pytest.MonkeyPatch
) -> None:
    store.commit_now([Put(entry(1))])
    store.close()
    newer = (*schema.MIGRATIONS, "CREATE TABLE later (x INT) STRICT; INSERT INTO later VALUES (1)")
    monkeypatch.setattr(schema, "MIGRATIONS", newer)
    upgraded = kind(path)
    assert entries_of(upgraded) == [entry(1)]
    assert upgraded._connection.pragma("user_version") == len(newer)
    assert upgraded._connection.execute("SELECT x FROM later").get == 1
    upgraded.close()


def test_entries_of_the_first_schema_are_found_by_their_identifiers(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:1])
        old = schema.open_file(path, create=True)
        body = msgspec.json.encode(ordered(1, "A1")).decode()
        old.execute("INSERT INTO log (at, study_uid, step_id, origin, body) VALUES (0, ?, ?, '', ?)", (*key(1), body))
        old.execute("INSERT INTO entry VALUES (?, ?, 1)", key(1))
        old.close()
    store = Store(path)
    assert found(store, "accession", "A1") == found(store, "patient", "1") == [ordered(1, "A1")]
    store.close()


def test_a_file_that_is_no_store_is_refused_and_left_alone(tmp_path: Path) -> None:
    text, database = tmp_path / "notes.txt", tmp_path / "other.db"
    text.write_text("no database at all" * 100)
    connection = apsw.Connection(str(database))
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    before = database.read_bytes()
    for path in (text, database):
        with pytest.raises(StoreError, match="is not a worklist store"):
            Store(path)
    assert database.read_bytes() == before


def test_a_store_in_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="folder"):
        Store(tmp_path / "none" / "worklist.db")


def test_an_empty_file_is_no_store_to_read(path: Path) -> None:
    path.touch()
    with pytest.raises(StoreError, match="is empty"):
        StoreReader(path)
    assert path.stat().st_size == 0


def test_a_reader_makes_no_store(path: Path) -> None:
    with pytest.raises(StoreError, match="no such file"):
        StoreReader(path)
    assert not path.exists()


# --- durability ---------------------------------------------------------------------------------------------------

_WRITER = """
import sys
from test_store import Put, Store, entry
store = Store(sys.argv[1])
for number in range(0, 1_000_000, 2):
    store.commit_now([Put(entry(number)), Put(entry(number + 1))])
    print(number, flush=True)
"""


@pytest.mark.parametrize("acknowledged", [1, 2, 17, 150, 400])
def test_no_acknowledged_change_is_lost_at_kill_9_and_none_is_half_there(path: Path, acknowledged: int) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE, env=environment, text=True
    )
    assert writer.stdout
    with writer:
        for _ in range(acknowledged):
            writer.stdout.readline()
        writer.kill()
        printed = writer.stdout.read().split()  # what it acknowledged before it died
    store = Store(path)
    assert store.count() >= 2 * (acknowledged + len(printed))
    assert store.count() % 2 == 0
    assert entries_of(store) == [entry(number) for number in range(store.count())]
    assert store.commit_now([Put(entry(-1))]) == store.revision() == store.count()
    store.close()


@settings(max_examples=30, deadline=None)
@given(steps=st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=20))
def test_following_the_log_from_anywhere_gives_the_same_as_loading(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, bool]]
) -> None:
    store = Store(tmp_path_factory.mktemp("store") / "worklist.db")
    expected: dict[tuple[str, str], Entry] = {}
    followed: dict[tuple[str, str], Entry] = {}
    last = 0
    for turn, (number, put) in enumerate(steps):
        if put:
            expected[key(number)] = entry(number, name=str(turn))
            store.commit_now([Put(entry(number, name=str(turn)))])
        elif expected.pop(key(number), None):
            store.commit_now([Remove(key(number))])
        if turn % 3 == 0:
            for line in store.follow(last):
                last = line.revision
                if line.entry is None:
                    del followed[line.key]
                else:
                    followed[line.key] = line.entry
            assert followed == expected
    assert {one.key: one for one in entries_of(store)} == expected
    store.close()
