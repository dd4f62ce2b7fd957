"""The supervisor's side of several DICOM processes: what it tells them, and one that does not start."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from mwl.channel import Drain, Follow, Reply, Request, Start, Tell, Use, receive_reply, receive_request, send
from mwl.config import Config, ConfigError, from_table
from mwl.report import OpenAssociation, Report, sum_of
from mwl.store import Store
from mwl.workers import WorkerError, Workers, working

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="several processes share a port on Linux only")


def config(folder: Path, *titles: str) -> Config:
    return from_table(
        {
            "dicom": {"host": "127.0.0.1", "port": 0, "known_hosts": ["10.0.0.0/8"]},
            "hl7": {"mapping": "site.toml"},
            "ae": [{"title": title, "filter": {"modality": ["CT"]}} for title in titles or ("WORKLIST",)],
            "remote": [{"title": "CT1", "strict": True, "always_empty": ["Allergies"]}],
        },
        base=folder,
    )


class Wire(asyncio.StreamReader):
    """What is written to it can be read from it."""

    def write(self, data: bytes) -> None:
        self.feed_data(data)


async def test_requests_and_replies_arrive_as_they_were_sent(tmp_path: Path) -> None:
    wire, back = Wire(), Wire()
    use = Use(config(tmp_path), {"ct1": ("10.0.0.1",)}, {"WORKLIST": 0})
    requests: list[Request] = [Follow(), Tell(True), Drain(0.5), Start(1, 104, use, {"verbose": True})]
    for request in requests:
        send(wire, request)  # type: ignore[arg-type]
    *others, start = [await receive_request(wire) for _ in requests]
    assert others == requests[:3]
    assert isinstance(start, Start)
    assert (start.row, start.port, start.use.resolved) == (1, 104, use.resolved)
    arrived = start.use.config
    assert arrived.in_force() == use.config.in_force()
    assert arrived.policy("WORKLIST", "CT1").strict
    assert not arrived.policy("WORKLIST", "CT2").strict
    assert arrived.store.path == tmp_path / "worklist.db"
    reply = Reply(report=Report(accepted={"A": 1}, associations=(OpenAssociation("CT1", "A", "10.0.0.1", 3),)))
    send(back, reply)  # type: ignore[arg-type]
    back.feed_data(b"\0\0")
    back.feed_eof()
    assert await receive_reply(back) == reply
    assert await receive_reply(back) is None


def test_reports_add_up_and_of_one_that_ended_its_counters_stay() -> None:
    one = Report(accepted={"A": 2}, refused={"associations": 1}, operations=5, cpu_seconds=1.5, connections=2)
    other = Report(accepted={"A": 1, "B": 1}, operations=2, cpu_seconds=0.5, open_files=9, resident_bytes=7)
    total = sum_of([one.counters(), other])
    assert total == Report(
        accepted={"A": 3, "B": 1},
        refused={"associations": 1},
        operations=7,
        cpu_seconds=2.0,
        open_files=9,
        resident_bytes=7,
    )


async def test_a_process_that_does_not_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match=r"DICOM process [12] did not start: .*worklist\.db cannot be opened"):
        async with working(2, config(tmp_path), {}, 0):
            pass


async def test_a_process_that_is_stuck_delays_nobody_for_long_and_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("mwl.workers._REPLY_SECONDS", 0.1)
    monkeypatch.setattr("mwl.workers._STUCK_SECONDS", 0.2)
    monkeypatch.setattr("mwl.workers._WATCH_SECONDS", 0.1)
    Store(tmp_path / "worklist.db").close()
    async with working(2, config(tmp_path), {}, 0) as (workers, _), asyncio.timeout(30):
        stuck, _ = workers.listening
        os.kill(stuck.process.pid, signal.SIGSTOP)
        await workers.follow(1)
        await stuck.process.wait()
        while workers.why_not_ready or stuck in workers.listening:
            await workers.report()
        assert f"DICOM process {stuck.process.pid} does not answer and is killed" in caplog.text


async def test_more_titles_than_can_be_counted_are_a_fault_of_the_configuration(tmp_path: Path) -> None:
    Store(tmp_path / "worklist.db").close()
    titles = [f"AE{number}" for number in range(4096)]
    async with working(1, config(tmp_path), {}, 0) as (workers, _):
        assert isinstance(workers, Workers)
        with pytest.raises(ConfigError, match="ae: more than 4,096 titles"):
            workers.add_columns(config(tmp_path, *titles))
