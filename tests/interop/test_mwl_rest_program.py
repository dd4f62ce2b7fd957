"""The HTTP service of the whole program: over sockets, through signals, and through kill -9."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
import signal
import socket
import sys
import time
from datetime import date
from pathlib import Path
from random import Random

import httpx
import msgspec
import pytest
from program import output, served

import dulproto
from mwl.commands.provider import DEMO_HTTP_PORT
from mwl.demo import sample_entries
from mwl.dicom_json import entry_to_json
from mwl.item import STATUSES, Entry
from mwl.keys import query_keys
from mwl.store import Store

CONFIGURATION = """
[dicom]
host = "127.0.0.1"
port = 0
[http]
port = 0
[[ae]]
title = "WORKLIST"
[[ae]]
title = "CT_ONLY"
filter = { modality = ["CT"] }
"""
ROUNDS = 20
SAMPLES = sample_entries(200, date.today())


def configured(tmp_path: Path, text: str = CONFIGURATION) -> tuple[str, ...]:
    file = tmp_path / "mwl.toml"
    file.write_text(text)
    return "serve", "-c", str(file)


def found(printed: str) -> list[str]:
    return re.findall(r"\(0040,0009\) SH \[(\w+)", printed)


def scheduled(number: int, modality: str = "CT") -> Entry:
    """A sample with a key of its own, still to be done."""
    entry = SAMPLES[number % len(SAMPLES)]
    return msgspec.structs.replace(
        entry,
        procedure=msgspec.structs.replace(entry.procedure, study_instance_uid=f"2.25.{number + 1}"),
        step=msgspec.structs.replace(entry.step, step_id=f"K{number}", modality=modality, status="SCHEDULED"),
    )


# --- entries ------------------------------------------------------------------------------------------------------


async def test_findscu_sees_what_was_posted_changed_and_deleted(tmp_path: Path) -> None:
    async with served(*configured(tmp_path)) as provider:
        keys = provider.findscu("ScheduledProcedureStepSequence[0].ScheduledProcedureStepID", "PatientName")
        posted = await provider.http.post("/mwlitems", json=[entry_to_json(scheduled(n)) for n in range(3)])
        assert posted.status_code == 201
        assert sorted(found((await output(*keys))[1])) == ["K0", "K1", "K2"]
        await provider.http.post("/mwlitems/2.25.1/K0/status", json={"status": "CANCELED"})
        await provider.http.delete("/mwlitems/2.25.2/K1")
        assert found((await output(*keys))[1]) == ["K2"]


async def test_the_log_has_nothing_of_patients(tmp_path: Path) -> None:
    async with served(*configured(tmp_path)) as provider:
        entry = scheduled(1)
        name = entry.patient.name.split("^")[0]
        await provider.http.post("/mwlitems", json=entry_to_json(entry))
        assert (await provider.http.get("/mwlitems", params={"PatientName": f"{name}*"})).headers[
            "x-total-count"
        ] == "1"
        assert (await provider.http.get("/", params={"PatientName": name})).status_code == 200
        assert (await provider.http.get("/mwlitems", params={"PatientNme": name})).status_code == 422
        assert (await provider.http.post("/mwlitems", json={"00100010": name})).status_code == 422
        log = await provider.stop()
    assert "stopping" in log
    for secret in (name, entry.patient.identifiers[0].value, entry.key[0], "mwlitems"):
        assert secret not in log


async def test_metrics_count_associations_refusals_and_requests(tmp_path: Path) -> None:
    async with served(*configured(tmp_path)) as provider:
        for called, requests in (("WORKLIST", 2), ("CT_ONLY", 1)):
            async with dulproto.connect("127.0.0.1", provider.dicom_port, called_ae_title=called) as association:
                for _ in range(requests):
                    await association.c_echo()
        with pytest.raises(dulproto.AssociationRejected):
            await dulproto.connect("127.0.0.1", provider.dicom_port, called_ae_title="NOBODY")
        async with dulproto.connect("127.0.0.1", provider.dicom_port, called_ae_title="WORKLIST") as association:
            await association.c_echo()
            lines = (await provider.http.get("/metrics")).text.splitlines()
            page = (await provider.http.get("/")).text
    assert {
        'mwl_associations{ae="WORKLIST"} 1',
        'mwl_associations{ae="CT_ONLY"} 0',
        'mwl_associations_accepted_total{ae="WORKLIST"} 2',
        'mwl_associations_accepted_total{ae="CT_ONLY"} 1',
        'mwl_associations_refused_total{check="called AE title"} 1',
        "mwl_dicom_operations_total 4",
    } <= set(lines)
    assert "<td>WORKLIST</td><td>127.0.0.1</td><td>1</td>" in page


# --- kill -9 ------------------------------------------------------------------------------------------------------


class Writers:
    """Clients that write as fast as they are answered, and what they know of it."""

    def __init__(self, url: str, kept: dict[int, list[Entry]], statuses: dict[tuple[str, str], set[str]]) -> None:
        self.url = url
        self.kept = kept
        self.statuses = statuses
        self.sent: dict[int, list[Entry]] = {}
        self.answers = 0
        self.enough = asyncio.Event()

    async def write(self, target: int) -> None:
        """Post arrays of three, and move the first entry of each along, until the connection breaks."""
        try:
            async with httpx.AsyncClient(base_url=self.url, timeout=30) as http:
                while True:
                    batch = len(self.kept) + len(self.sent)
                    entries = self.sent[batch] = [scheduled(3 * batch + number) for number in range(3)]
                    answer = await http.post("/mwlitems", json=[entry_to_json(entry) for entry in entries])
                    assert answer.status_code == 201, answer.text
                    self.kept[batch] = self.sent.pop(batch)
                    self.count(target)
                    key = entries[0].key
                    for status in STATUSES[1:3]:
                        self.statuses.setdefault(key, {"SCHEDULED"}).add(status)
                        answer = await http.post(f"/mwlitems/{key[0]}/{key[1]}/status", json={"status": status})
                        assert answer.status_code == 200, answer.text
                        self.statuses[key] = {status}
                        self.count(target)
        except httpx.TransportError:
            return

    def count(self, target: int) -> None:
        self.answers += 1
        if self.answers >= target:
            self.enough.set()


async def test_kill_9_under_writes_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    random = Random(3)
    kept: dict[int, list[Entry]] = {}
    statuses: dict[tuple[str, str], set[str]] = {}
    for _ in range(ROUNDS):
        async with served(*configured(tmp_path)) as provider:
            ready = (await provider.http.get("/readyz")).json()
            assert ready["entries"] == sum(map(len, kept.values()))
            writers = Writers(provider.url, kept, statuses)
            target = random.randrange(1, 60)
            writing = [asyncio.create_task(writers.write(target)) for _ in range(4)]
            await writers.enough.wait()
            provider.process.kill()
            await provider.process.wait()
            await asyncio.gather(*writing)
        started = time.monotonic()
        store = Store(tmp_path / "worklist.db")
        assert time.monotonic() - started < 2
        stored = {entry.key: entry for entry in store.load()[1]}
        store.close()
        for batch, entries in writers.sent.items():  # not acknowledged: there as a whole, or not at all
            here = [entry.key in stored for entry in entries]
            assert len(set(here)) == 1
            kept[batch] = entries if all(here) else []
        for entries in kept.values():
            for entry in entries:
                status = stored[entry.key].step.status
                assert status in statuses.get(entry.key, {"SCHEDULED"})
                step = msgspec.structs.replace(entry.step, status=status)
                assert stored.pop(entry.key) == msgspec.structs.replace(entry, step=step)
        assert stored == {}


# --- reload -------------------------------------------------------------------------------------------------------


async def modalities(association: dulproto.ClientAssociation) -> list[str]:
    answers = [match async for _, match in association.c_find(query_keys([])) if match is not None]
    step, modality = dulproto.TAG_OF_KEYWORD["ScheduledProcedureStepSequence"], dulproto.TAG_OF_KEYWORD["Modality"]
    return sorted(match[step].items[0][modality].raw.decode().strip() for match in answers)


@pytest.mark.parametrize("way", ["SIGHUP", "POST"])
async def test_a_changed_configuration_is_in_force_on_an_association_that_stays_open(
    tmp_path: Path, way: str
) -> None:
    async with served(*configured(tmp_path)) as provider:
        entries = [scheduled(1, "CT"), scheduled(2, "MR")]
        await provider.http.post("/mwlitems", json=[entry_to_json(each) for each in entries])
        async with dulproto.connect("127.0.0.1", provider.dicom_port, called_ae_title="CT_ONLY") as association:
            assert await modalities(association) == ["CT"]
            configured(tmp_path, CONFIGURATION.replace('["CT"]', '["CT", "MR"]'))
            if way == "SIGHUP":
                provider.process.send_signal(signal.SIGHUP)
                assert "ERROR" not in await provider.log("configuration reloaded")
            else:
                assert (await provider.http.post("/reload")).status_code == 200
            assert await modalities(association) == ["CT", "MR"]
            assert (await provider.http.get("/mwlitems?ae=CT_ONLY")).headers["x-total-count"] == "2"


@pytest.mark.parametrize("way", ["SIGHUP", "POST"])
async def test_a_faulty_configuration_is_refused_with_every_key_named_and_the_old_one_stays(
    tmp_path: Path, way: str
) -> None:
    faulty = CONFIGURATION.replace('["CT"]', '["CT", "MR"]').replace("port = 0", "port = -1")
    async with served(*configured(tmp_path)) as provider:
        entries = [scheduled(1, "CT"), scheduled(2, "MR")]
        await provider.http.post("/mwlitems", json=[entry_to_json(each) for each in entries])
        async with dulproto.connect("127.0.0.1", provider.dicom_port, called_ae_title="CT_ONLY") as association:
            configured(tmp_path, faulty + "speed = 9\n")
            if way == "SIGHUP":
                provider.process.send_signal(signal.SIGHUP)
                told = await provider.log("ae[1].speed")
                assert "the old one stays in force" in told
            else:
                answer = await provider.http.post("/reload")
                assert answer.status_code == 422
                told = answer.text
            for key in ("dicom.port", "http.port", "ae[1].speed"):
                assert key in told
            assert await modalities(association) == ["CT"]


# --- start and end ------------------------------------------------------------------------------------------------


async def test_it_ends_in_order_whatever_clients_are_doing(tmp_path: Path) -> None:
    async with served(*configured(tmp_path)) as provider:
        await provider.http.post("/mwlitems", json=[entry_to_json(scheduled(n)) for n in range(300)])
        address = httpx.URL(provider.url)
        reader, writer = await asyncio.open_connection(address.host, address.port, limit=1024)
        writer.write(b"GET /mwlitems HTTP/1.1\r\nHost: localhost\r\n\r\n")  # and never read the answer
        await reader.readline()
        _, half = await asyncio.open_connection(address.host, address.port)
        half.write(
            b"POST /mwlitems HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n"
            b"Content-Type: application/json\r\n\r\n["
        )
        gone_reader, gone = await asyncio.open_connection(address.host, address.port)
        gone.write(b"GET /mwlitems HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await gone_reader.readline()
        gone.transport.abort()
        assert (await provider.http.get("/healthz")).status_code == 200
        log = await provider.stop()
        for each in (writer, half):
            each.close()
    for sign in ("Traceback", "never awaited", "was destroyed", "Exception"):
        assert sign not in log, log


async def test_an_http_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = (sys.executable, "-m", "mwl", "demo", "--entries", "5", "--port", "0", "--http-port", str(port))
        status, printed = await output(*command)
    assert status == 1
    assert f"mwl demo: cannot listen for HTTP on 127.0.0.1 port {port}: Address already in use" in printed


async def test_the_demo_takes_another_port_if_the_usual_one_is_taken(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # then it is taken by somebody else
            stack.enter_context(socket.create_server(("127.0.0.1", DEMO_HTTP_PORT)))
        async with served("demo", "--entries", "5", "--port", "0") as provider:
            assert not provider.url.endswith(f":{DEMO_HTTP_PORT}")
            assert (await provider.http.get("/readyz")).json()["entries"] == 5
            assert f"HTTP port {DEMO_HTTP_PORT} cannot be used, another one is taken" in provider.printed
            assert f"To look at: {provider.url}/" in provider.printed


# --- the documentation --------------------------------------------------------------------------------------------

DOCUMENT = Path(__file__).parents[2] / "docs" / "rest.md"


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
async def test_the_commands_of_the_documentation_do_what_it_says(tmp_path: Path) -> None:
    text = DOCUMENT.read_text("utf-8")
    blocks = re.findall(r"```sh\n(.*?)```(?:\n\n```(?:json|text)\n(.*?)```)?", text, re.DOTALL)
    assert len(blocks) > 5
    (tmp_path / "entry.json").write_text(json.dumps(entry_to_json(scheduled(0))))
    async with served("demo", "--port", "0", "--http-port", "0") as provider:
        for command, shown in blocks:
            command = command.replace("http://127.0.0.1:8080", provider.url)
            status, printed = await output("sh", "-ec", f"cd {tmp_path}; {command}")
            assert status == 0, (command, printed)
            for line in shown.splitlines():
                assert line.strip() in printed, (command, printed)
