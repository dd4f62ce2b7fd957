"""The running provider: it follows its store, lets old entries go, and takes a changed configuration."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import date, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

import dulproto
from mwl.config import Config, ConfigError, load
from mwl.demo import sample_entries
from mwl.item import Entry
from mwl.replica import Replica, again_and_again
from mwl.server import Running, ready_line, running
from mwl.store import Put, Remove, Store

TODAY = date(2026, 11, 24)
[ENTRY] = sample_entries(1, TODAY)
CONFIGURATION = """
[store]
path = "worklist.db"
expire_days = 10
retain_days = 30
[dicom]
host = "127.0.0.1"
port = 0
[[ae]]
title = "WORKLIST"
"""


def on_day(days: int) -> Entry:
    """The entry so many days from today, with a key of its own."""
    start = TODAY + timedelta(days)
    step = msgspec.structs.replace(ENTRY.step, start_date=start, step_id=f"DAY{days}", status="SCHEDULED")
    return msgspec.structs.replace(ENTRY, step=step)


def config(tmp_path: Path, text: str = CONFIGURATION) -> tuple[Config, Path]:
    file = tmp_path / "mwl.toml"
    file.write_text(text)
    return load(file), file


def noon() -> datetime:
    return datetime.combine(TODAY, datetime.min.time()) + timedelta(hours=12)


@pytest.fixture
async def provider(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(*config(tmp_path), now=noon) as made:
        yield made


async def test_what_is_committed_is_listed_once_followed(provider: Running) -> None:
    await provider.store.commit([Put(on_day(0))])
    provider.follow()
    assert provider.worklist.get(on_day(0).key) == on_day(0)
    await provider.store.commit([Remove(on_day(0).key)])
    provider.follow()
    assert len(provider.worklist) == 0


async def test_an_entry_older_than_expire_days_is_not_in_the_worklist(provider: Running) -> None:
    await provider.store.commit([Put(on_day(-10)), Put(on_day(-11))])
    provider.follow()
    assert list(provider.worklist) == [on_day(-10)]
    assert provider.store.count() == 2


async def test_an_entry_older_than_retain_days_leaves_the_store(provider: Running) -> None:
    await provider.store.commit([Put(on_day(-30)), Put(on_day(-31))])
    await provider.tidy()
    assert [entry.step.step_id for entry in provider.store.load()[1]] == ["DAY-30"]


async def test_entries_that_grow_old_leave_the_worklist(provider: Running) -> None:
    await provider.store.commit([Put(on_day(-10))])
    provider.follow()
    provider.provider.now = lambda: noon() + timedelta(days=1)
    await provider.tidy()
    assert len(provider.worklist) == 0


async def test_a_longer_expiry_brings_entries_back(provider: Running, tmp_path: Path) -> None:
    await provider.store.commit([Put(on_day(-20))])
    provider.follow()
    config(tmp_path, CONFIGURATION.replace("expire_days = 10", "expire_days = 25"))
    await provider.reload()
    assert list(provider.worklist) == [on_day(-20)]


def test_an_entry_that_is_removed_just_before_an_expiry_changes_does_not_stay(tmp_path: Path) -> None:
    before, _ = config(tmp_path)
    after, _ = config(tmp_path, CONFIGURATION.replace("expire_days = 10", "expire_days = 25"))
    with closing(Store(before.store.path)) as store:
        store.commit_now([Put(on_day(0)), Put(on_day(1))])
        replica = Replica(before, store, noon)
        replica.load()
        store.commit_now([Remove(on_day(0).key)])
        replica.put_in_force(after, {})
        replica.follow()
        assert list(replica.worklist) == [on_day(1)]


async def test_a_reload_changes_the_titles_and_keeps_open_associations(provider: Running, tmp_path: Path) -> None:
    assert provider.server is not None
    port = provider.server.addresses[0][1]
    async with dulproto.connect("127.0.0.1", port, called_ae_title="WORKLIST") as association:
        config(tmp_path, CONFIGURATION.replace("WORKLIST", "OTHER"))
        await provider.reload()
        assert await association.c_echo() == 0
    with pytest.raises(dulproto.AssociationRejected, match="1/1/7"):
        await dulproto.connect("127.0.0.1", port, called_ae_title="WORKLIST")


async def test_what_takes_effect_at_the_next_start_stays_in_force(provider: Running, tmp_path: Path) -> None:
    text = CONFIGURATION.replace("worklist.db", "other.db").replace("port = 0", "port = 104\nworkers = 2")
    config(tmp_path, text.replace("expire_days = 10", "expire_days = 25"))
    await provider.reload()
    in_force = provider.config
    assert (in_force.store.path, in_force.store.expire_days) == (tmp_path / "worklist.db", 25)
    assert (in_force.dicom.port, in_force.dicom.workers) == (0, 1)


async def test_a_faulty_configuration_is_refused_whole_and_the_old_one_stays(
    provider: Running, tmp_path: Path
) -> None:
    before = provider.config
    config_text = CONFIGURATION.replace("expire_days = 10", "expire_dais = 10").replace("port = 0", "port = 99999")
    (tmp_path / "mwl.toml").write_text(config_text)
    with pytest.raises(ConfigError) as caught:
        await provider.reload()
    assert len(caught.value.faults) == 2
    assert provider.config is before


async def test_a_configuration_that_came_from_no_file_cannot_be_reloaded(tmp_path: Path) -> None:
    made, _ = config(tmp_path)
    async with running(made) as provider:
        with pytest.raises(ConfigError, match="not read from a file"):
            await provider.reload()


async def test_the_ready_line_tells_where_it_listens(provider: Running) -> None:
    assert ready_line(provider).startswith("ready dicom=127.0.0.1:")
    assert ready_line(provider).endswith("entries=0")


async def test_a_failure_that_goes_on_is_logged_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    outcomes = iter(["down", "down", "down", "", "", "down"])
    over = asyncio.Event()

    def look() -> None:
        outcome = next(outcomes, None)
        if outcome is None:
            over.set()
        elif outcome:
            raise OSError(outcome)

    caplog.set_level("INFO", logger="mwl")
    task = asyncio.create_task(again_and_again(look, 0))
    await over.wait()
    task.cancel()
    told = [record.getMessage().split(",")[0] for record in caplog.records]
    assert told == ["look failed", "look works again", "look failed", "look works again"]
