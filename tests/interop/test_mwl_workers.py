"""Several DICOM processes: they share the port, the limits and the entries, and die and end without harm."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import date
from pathlib import Path

import apsw
import msgspec
import pytest
from program import Served, output, served

import dulproto
from mwl.demo import sample_entries
from mwl.dicom_json import entry_to_json
from mwl.hl7.mllp import frame
from mwl.item import Entry
from mwl.keys import query_keys
from mwl.scu import Answer, find
from mwl.store import Put, Store

Each = dict[int, dulproto.ClientAssociation]  # by the process that serves it
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="several processes share a port on Linux only")

LIMIT = 3
CONFIGURATION = f"""
[dicom]
host = "127.0.0.1"
port = 0
workers = 2
[http]
port = 0
[hl7]
host = "127.0.0.1"
port = 0
[[ae]]
title = "WORKLIST"
max_associations = {LIMIT}
"""
ORDER = b"\r".join(
    [
        rb"MSH|^~\&|RIS|HOSP|MWL|HOSP|20261124080000||ORM^O01|M1|P|2.3.1",
        b"PID|||LATE^^^HOSP||Late^Larry||19700102|M",
        b"ORC|NW|P1|F1||SC||1^once^^20261124093000^^R",
        b"OBR|1|P1|F1|CTH^CT head^99X^CTH^CT head^99X||||||||||||||A1|RP1|SPS1||||CT",
        b"ZDS|1.2.3.4^100^Application^DICOM",
    ]
)


def late() -> Entry:
    """An entry of a patient that no sample has."""
    [entry] = sample_entries(1, date.today())
    identifier = msgspec.structs.replace(entry.patient.identifiers[0], value="LATE")
    patient = msgspec.structs.replace(entry.patient, identifiers=(identifier,))
    return msgspec.structs.replace(
        entry, patient=patient, step=msgspec.structs.replace(entry.step, status="SCHEDULED")
    )


def configured(tmp_path: Path, text: str = CONFIGURATION) -> tuple[str, ...]:
    file = tmp_path / "mwl.toml"
    file.write_text(text)
    return "serve", "-c", str(file)


@pytest.fixture
async def provider(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(*configured(tmp_path)) as made:
        yield made


# --- the processes ------------------------------------------------------------------------------------------------


def processes(provider: Served) -> set[int]:
    """The DICOM processes."""
    tasks = Path(f"/proc/{provider.process.pid}/task").glob("*/children")
    return {int(pid) for task in tasks for pid in task.read_text().split()}


def process_of(provider: Served, association: dulproto.ClientAssociation) -> int:
    """The process that serves an association: the one that has the other end of its connection."""
    assert association.transport is not None
    port = association.transport.get_extra_info("sockname")[1]
    ends = f":{provider.dicom_port:04X}", f":{port:04X}"
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()]
    [inode] = [row[9] for row in rows if (row[1][-5:], row[2][-5:]) == ends]
    [pid] = [pid for pid in processes(provider) if f"socket:[{inode}]" in files(pid)]
    return pid


def files(pid: int) -> list[str]:
    found = []
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it is closed by now
            found.append(os.readlink(file))
    return found


async def ended(pid: int) -> None:
    """Wait for the end of a process that is not a child of ours."""
    over = asyncio.Event()
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    loop.add_reader(watched, over.set)
    try:
        await asyncio.wait_for(over.wait(), 30)
    finally:
        loop.remove_reader(watched)
        os.close(watched)


def connect(provider: Served, called: str = "WORKLIST", calling: str = "CT1") -> dulproto.connect:
    return dulproto.connect("127.0.0.1", provider.dicom_port, called_ae_title=called, calling_ae_title=calling)


@contextlib.asynccontextmanager
async def one_each(provider: Served, called: str = "WORKLIST") -> AsyncIterator[Each]:
    """Have an association in each of the two processes."""
    found: Each = {}
    try:
        async with asyncio.timeout(60):
            while len(found) < 2:
                association = await connect(provider, called)
                pid = process_of(provider, association)
                if pid in found:
                    await association.release()
                else:
                    found[pid] = association
        yield found
    finally:
        for association in found.values():
            await association.release()


async def listed(association: dulproto.ClientAssociation, patient_id: str = "") -> int:
    """Count the entries that are listed; the query must go through."""
    *entries, end = [match async for match in find(association, query_keys([f"PatientID={patient_id}"]))]
    assert end == Answer(0)
    return len(entries)


async def metrics(provider: Served) -> dict[str, int]:
    text = (await provider.http.get("/metrics")).text
    return {name: int(value) for name, value in re.findall(r"^([a-z_]+(?:\{.*\})?) (\d+)$", text, re.MULTILINE)}


async def ready(provider: Served) -> None:
    async with asyncio.timeout(30):
        while (await provider.http.get("/readyz")).status_code != 200:
            pass


# --- what they share ----------------------------------------------------------------------------------------------


async def test_callers_come_to_both_and_the_counters_are_of_both_together(provider: Served) -> None:
    async with one_each(provider) as associations:
        assert set(associations) == processes(provider)
        for association in associations.values():
            assert await association.c_echo() == 0
        before = await metrics(provider)
        assert before['mwl_associations{ae="WORKLIST"}'] == 2
        assert before["mwl_dicom_operations_total"] == 2
        assert before["mwl_workers"] == 2
        async with asyncio.timeout(30):  # connections that were released before may be there for a moment
            while (await metrics(provider))["mwl_dicom_connections"] != 2:
                pass
        page = (await provider.http.get("/")).text
        assert page.count("<td>127.0.0.1</td>") == 2
        assert f"2 of {LIMIT}" in page


async def posted(provider: Served) -> None:
    assert (await provider.http.post("/mwlitems", json=entry_to_json(late()))).status_code == 201


async def ordered(provider: Served) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", provider.hl7_port)
    writer.write(frame(ORDER))
    assert b"MSA|AA|M1" in await reader.readuntil(b"\x1c\r")
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("way", [posted, ordered])
async def test_what_is_acknowledged_is_listed_by_both(
    provider: Served, way: Callable[[Served], Awaitable[None]]
) -> None:
    async with one_each(provider) as associations:
        await way(provider)
        assert [await listed(each, "LATE") for each in associations.values()] == [1, 1]


async def test_what_another_program_imports_is_soon_listed_by_both(provider: Served, tmp_path: Path) -> None:
    file = tmp_path / "late.json"
    file.write_bytes(msgspec.json.encode(entry_to_json(late())))
    async with one_each(provider) as associations:
        command = (sys.executable, "-m", "mwl", "import", "-c", str(tmp_path / "mwl.toml"), str(file))
        status, printed = await output(*command)
        assert status == 0, printed
        async with asyncio.timeout(30):
            for association in associations.values():
                while not await listed(association, "LATE"):
                    pass


async def test_R_013_a_limit_holds_for_both_together(provider: Served) -> None:
    async with one_each(provider) as associations:
        third = await connect(provider)
        for _ in range(20):  # whichever of the two they come to
            with pytest.raises(dulproto.AssociationRejected, match="local-limit-exceeded"):
                await connect(provider)
        first, _ = associations.values()
        await first.release()
        for _ in range(20):
            async with connect(provider) as association:
                assert await association.c_echo() == 0
        await third.release()


async def test_R_013_a_limit_is_never_exceeded_when_many_call_at_once(provider: Served) -> None:
    is_open, most, refused = 0, 0, 0

    async def call(number: int) -> None:
        nonlocal is_open, most, refused
        for _ in range(40):
            try:
                association = await connect(provider, calling=f"CT{number}")
            except dulproto.AssociationRejected:
                refused += 1
                continue
            is_open += 1
            most = max(most, is_open)
            assert await association.c_echo() == 0
            is_open -= 1
            await association.release()

    await asyncio.gather(*map(call, range(12)))
    assert 0 < most <= LIMIT
    after = await metrics(provider)
    assert after['mwl_associations{ae="WORKLIST"}'] == 0
    assert after['mwl_associations_refused_total{check="associations"}'] == refused


async def test_R_070_both_say_that_the_store_cannot_be_read_and_come_back(provider: Served, tmp_path: Path) -> None:
    other = apsw.Connection(str(tmp_path / "worklist.db"))
    other.set_busy_timeout(30_000)
    async with one_each(provider) as associations, asyncio.timeout(30):
        for name, new_name, status in (("log", "lost", 0xC001), ("lost", "log", 0)):
            other.execute(f"ALTER TABLE {name} RENAME TO {new_name}")
            for association in associations.values():
                while (await answer(association)).status != status:
                    pass
    other.close()


async def answer(association: dulproto.ClientAssociation) -> Answer:
    *_, end = [match async for match in find(association, query_keys([]))]
    assert isinstance(end, Answer)
    return end


async def test_both_log_as_the_provider_does(tmp_path: Path) -> None:
    async with served(*configured(tmp_path), "--log-json") as provider:
        async with one_each(provider):
            pass
        lines = [json.loads(line)["message"] for line in (await provider.stop()).splitlines()]
    assert sum("CT1 -> WORKLIST ended: released" in line for line in lines) >= 2


# --- a changed configuration --------------------------------------------------------------------------------------


async def test_a_reload_reaches_both_and_open_associations_go_on(provider: Served, tmp_path: Path) -> None:
    more = CONFIGURATION + '[[ae]]\ntitle = "OTHER"\n'
    async with one_each(provider) as associations:
        configured(tmp_path, more.replace(f"max_associations = {LIMIT}", f"max_associations = {LIMIT + 3}"))
        assert (await provider.http.post("/reload")).status_code == 200
        async with one_each(provider, "OTHER") as others:
            assert set(others) == set(associations)
            assert [await listed(each) for each in (*associations.values(), *others.values())] == [0] * 4
        fourth = [await connect(provider) for _ in range(LIMIT + 1)]
        with pytest.raises(dulproto.AssociationRejected, match="local-limit-exceeded"):
            await connect(provider)
        for each in fourth:
            await each.release()


async def test_a_faulty_configuration_is_refused_whole_and_both_keep_the_old_one(
    provider: Served, tmp_path: Path
) -> None:
    configured(tmp_path, CONFIGURATION.replace("WORKLIST", "OTHER") + "speed = 9\n")
    provider.process.send_signal(signal.SIGHUP)
    assert "the old one stays in force" in await provider.log("ae[0].speed")
    async with one_each(provider) as associations:
        assert [await listed(each) for each in associations.values()] == [0, 0]


# --- death and end ------------------------------------------------------------------------------------------------


async def test_a_process_that_dies_is_replaced_and_its_places_are_free(provider: Served) -> None:
    async with one_each(provider) as associations:
        before = await metrics(provider)
        (killed, _), (other, survivor) = associations.items()
        os.kill(killed, signal.SIGKILL)
        assert "was killed by SIGKILL, another one is started now" in await provider.log("DICOM process")
        assert await survivor.c_echo() == 0
        await ready(provider)
        assert other in processes(provider)
        assert killed not in processes(provider)
        after = await metrics(provider)
        assert after['mwl_associations{ae="WORKLIST"}'] == 1
        assert after["mwl_workers_restarts_total"] == 1
        for name in before:
            if name.endswith("_total") or "_total{" in name:
                assert after[name] >= before[name], name
        places = [await connect(provider) for _ in range(LIMIT - 1)]
        for each in places:
            await each.release()
    async with one_each(provider) as associations:
        assert [await listed(each) for each in associations.values()] == [0, 0]


async def test_one_that_is_replaced_serves_what_the_others_do_whatever_changes_at_the_next_start(
    provider: Served, tmp_path: Path
) -> None:
    assert (await provider.http.post("/mwlitems", json=entry_to_json(late()))).status_code == 201
    changed = CONFIGURATION.replace("port = 0\nworkers = 2", "port = 1\nworkers = 3")
    configured(tmp_path, changed.replace('"127.0.0.1"', '"127.0.0.2"') + '[store]\npath = "other.db"\n')
    assert (await provider.http.post("/reload")).status_code == 200
    killed = min(processes(provider))
    os.kill(killed, signal.SIGKILL)
    await provider.log("another one is started now")
    await ready(provider)
    async with one_each(provider) as associations:
        assert [await listed(each, "LATE") for each in associations.values()] == [1, 1]


async def test_one_that_keeps_dying_is_started_again_after_a_pause_only(provider: Served) -> None:
    seen: set[int] = set()
    for when in ("now", "in 1 s"):
        await ready(provider)
        killed = min(processes(provider) - seen) if not seen else (processes(provider) - seen).pop()
        seen |= processes(provider)
        os.kill(killed, signal.SIGKILL)
        assert f"another one is started {when}" in await provider.log("DICOM process")
    assert (await provider.http.get("/readyz")).json()["title"] == "1 of 2 DICOM processes listen"
    await provider.stop()


async def test_SIGTERM_lets_a_query_that_runs_come_to_its_end_in_both(tmp_path: Path) -> None:
    arguments = configured(tmp_path)
    store = Store(tmp_path / "worklist.db")
    entries = sample_entries(3000, date.today())
    store.commit_now(
        [
            Put(msgspec.structs.replace(entry, step=msgspec.structs.replace(entry.step, status="SCHEDULED")))
            for entry in entries
        ]
    )
    store.close()
    async with served(*arguments) as provider, one_each(provider) as associations:
        queries = [find(each, query_keys([])) for each in associations.values()]
        for query in queries:
            await anext(query)  # and no more is read until it has been told to stop
        provider.process.send_signal(signal.SIGTERM)
        await provider.log("connections are open")
        async with asyncio.timeout(30):
            while await accepts(provider):
                pass
        for query in queries:
            *rest, end = [match async for match in query]
            assert (len(rest), end) == (len(entries) - 1, Answer(0))
        for each in associations.values():
            assert await each.c_echo() == 0
            await each.release()
        assert await provider.process.wait() == 0


async def accepts(provider: Served) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", provider.dicom_port)):
            return True
    except OSError:
        return False


async def test_a_second_signal_ends_all_at_once(provider: Served) -> None:
    async with one_each(provider) as associations:
        provider.process.send_signal(signal.SIGTERM)
        await provider.log("stopping")
        provider.process.send_signal(signal.SIGTERM)
        assert await provider.process.wait() == 0
        for pid in associations:
            await ended(pid)


async def test_without_a_supervisor_they_end(provider: Served) -> None:
    pids = processes(provider)
    assert len(pids) == 2
    provider.process.kill()
    for pid in pids:
        await ended(pid)
    assert not await accepts(provider)


async def test_a_signal_to_all_of_the_program_drains_like_one_to_the_supervisor(provider: Served) -> None:
    async with one_each(provider) as associations:
        for pid in associations:
            for name in (signal.SIGINT, signal.SIGHUP):
                os.kill(pid, name)
        for pid in (provider.process.pid, *associations):
            os.kill(pid, signal.SIGTERM)
        for each in associations.values():
            assert await each.c_echo() == 0
            await each.release()
        assert await provider.process.wait() == 0


async def test_a_port_that_others_share_too_is_not_shared_with_them(provider: Served, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    text = CONFIGURATION.replace("port = 0\nworkers", f"port = {provider.dicom_port}\nworkers")
    status, printed = await output(sys.executable, "-m", "mwl", *configured(other, text))
    assert status == 1
    assert f"cannot listen for DICOM on 127.0.0.1 port {provider.dicom_port}: Address already in use" in printed
