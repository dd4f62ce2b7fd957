"""The HTTP service in this process: what goes in and out, what is refused, and what C-FIND makes of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from samples import NOW, entry

import dulproto
from dulproto import EXPLICIT_LE, MODALITY_WORKLIST_FIND, TAG_OF_KEYWORD
from mwl.config import Http, load
from mwl.dicom_json import entry_from_json, entry_to_json
from mwl.http import rest
from mwl.http.rest import application
from mwl.item import Entry, PatientIdentifier
from mwl.keys import query_keys
from mwl.server import Running, running
from mwl.store import Put, StoreReader

CONFIGURATION = """
[store]
path = "worklist.db"
[dicom]
host = "127.0.0.1"
port = 0
[http]
port = 0
[[ae]]
title = "WORKLIST"
[[ae]]
title = "CT_ONLY"
filter = { modality = ["CT"], status = ["SCHEDULED", "STARTED"] }
[[remote]]
title = "CT2"
filter = { station_ae_title = ["CT2"] }
[[remote]]
title = "SMALL"
max_results = 2
[[remote]]
title = "DEAF"
honour_matching_keys = false
[[remote]]
title = "CT1"
use_calling_as_station = true
[[remote]]
title = "ECHO"
verification_only = true
"""
DICOM_JSON = {"Content-Type": "application/dicom+json"}


def noon() -> datetime:
    return NOW


@asynccontextmanager
async def calling(provider: Running, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    listener = provider.config.http or Http()
    transport = httpx.ASGITransport(application(provider, listener))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080", **options) as client:
        yield client


@pytest.fixture
async def provider(tmp_path: Path) -> AsyncIterator[Running]:
    file = tmp_path / "mwl.toml"
    file.write_text(CONFIGURATION)
    async with running(load(file), file, now=noon) as made:
        yield made


@pytest.fixture
async def http(provider: Running) -> AsyncIterator[httpx.AsyncClient]:
    async with calling(provider) as client:
        yield client


async def keep(provider: Running, *entries: Entry) -> None:
    await provider.store.commit([Put(each) for each in entries])
    provider.follow()


def without(raw: dict[str, Any], *path: str | int) -> dict[str, Any]:
    """The same JSON object without one member, deep in it."""
    copy: Any = json.loads(json.dumps(raw))
    inner = copy
    for part in path[:-1]:
        inner = inner[part]
    del inner[path[-1]]
    return dict(copy)


def step_ids(answer: httpx.Response) -> list[str]:
    return [entry_from_json(raw).step.step_id for raw in answer.json()]


STEP = ("00400100", "Value", 0)
WITHOUT_KEY = without(without(entry_to_json(entry(1)), "0020000D"), *STEP, "00400009")

# --- in ------------------------------------------------------------------------------------------------------------


async def test_a_posted_entry_is_on_disk_and_listed_when_the_answer_comes(
    provider: Running, http: httpx.AsyncClient
) -> None:
    answer = await http.post("/mwlitems", json=entry_to_json(entry(1)))
    reader = StoreReader(provider.config.store.path)
    assert reader.get(entry(1).key) == provider.worklist.get(entry(1).key) == entry(1)
    assert reader.history(entry(1).key)[0].origin == "http 127.0.0.1"
    reader.close()
    assert answer.status_code == 201
    assert entry_from_json(answer.json()) == entry(1)
    assert answer.headers["location"] == "/mwlitems/1.2.3.1/SPS1"


async def test_an_array_is_kept_in_one_commit(provider: Running, http: httpx.AsyncClient) -> None:
    entries = [entry(number) for number in range(20)]
    answer = await http.post("/mwlitems", json=[entry_to_json(each) for each in entries])
    assert answer.status_code == 201
    assert [entry_from_json(raw) for raw in answer.json()] == entries
    assert sorted(each.key for each in provider.worklist) == sorted(each.key for each in entries)


async def test_an_empty_array_changes_nothing(provider: Running, http: httpx.AsyncClient) -> None:
    answer = await http.post("/mwlitems", content=b"[]", headers=DICOM_JSON)
    assert (answer.status_code, answer.json(), provider.store.revision()) == (201, [], 0)


async def test_every_fault_of_every_item_is_named_and_nothing_is_kept(
    provider: Running, http: httpx.AsyncClient
) -> None:
    good, bad = entry_to_json(entry(1)), entry_to_json(entry(2))
    bad["00100020"]["Value"] = ["x" * 65]
    bad["0020000D"]["Value"] = ["not a uid"]
    bad["00080050"] = "nonsense"
    worse = without(without(entry_to_json(entry(3)), "00100010"), *STEP, "00080060")
    answer = await http.post("/mwlitems", json=[good, bad, worse, 7])
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    faults = [(fault["item"], fault["attribute"], fault["reason"]) for fault in answer.json()["faults"]]
    assert sorted(faults) == [
        (1, "AccessionNumber", "is not written as DICOM JSON has SH"),
        (1, "PatientID", "has 65 characters, LO holds 64"),
        (1, "StudyInstanceUID", "is no UID"),
        (2, "PatientName", "is missing"),
        (2, "ScheduledProcedureStepSequence/Modality", "is missing"),
        (3, "DICOM JSON", "must be an object"),
    ]
    assert (provider.store.revision(), len(provider.worklist)) == (0, 0)


async def test_the_faults_of_one_object_have_no_item_number(http: httpx.AsyncClient) -> None:
    answer = await http.post("/mwlitems", json=without(entry_to_json(entry(1)), "00100010"))
    assert answer.status_code == 422
    assert answer.json()["faults"] == [{"attribute": "PatientName", "reason": "is missing"}]


async def test_a_key_that_is_there_is_a_conflict_and_nothing_of_the_array_is_kept(
    provider: Running, http: httpx.AsyncClient
) -> None:
    await keep(provider, entry(2), entry(3))
    changed = entry(3, name="Roe^Richard")
    answer = await http.post("/mwlitems", json=[entry_to_json(each) for each in (entry(1), entry(2), changed)])
    assert answer.status_code == 409
    assert [fault["item"] for fault in answer.json()["faults"]] == [1, 2]
    assert provider.worklist.get(entry(1).key) is None
    assert provider.store.get(entry(3).key) == entry(3)


async def test_replace_puts_new_entries_in_place_of_old_ones(provider: Running, http: httpx.AsyncClient) -> None:
    await keep(provider, entry(1))
    changed = entry(1, name="Roe^Richard")
    answer = await http.post("/mwlitems?replace=true", json=[entry_to_json(changed)])
    assert answer.status_code == 201
    assert provider.worklist.get(entry(1).key) == changed


async def test_a_word_for_replace_that_is_neither_yes_nor_no_is_a_fault(http: httpx.AsyncClient) -> None:
    answer = await http.post("/mwlitems?replace=yes", json=entry_to_json(entry(1)))
    assert answer.status_code == 422
    assert answer.json()["faults"][0]["attribute"] == "replace"


async def test_two_items_of_one_body_with_the_same_key_are_a_fault(
    provider: Running, http: httpx.AsyncClient
) -> None:
    answer = await http.post("/mwlitems?replace=true", json=[entry_to_json(entry(n)) for n in (1, 2, 1)])
    assert answer.status_code == 422
    assert answer.json()["faults"] == [{"item": 2, "attribute": "key", "reason": "is that of item 0: 1.2.3.1 SPS1"}]
    assert len(provider.worklist) == 0


async def test_missing_identifiers_are_generated_and_stored_once(provider: Running, http: httpx.AsyncClient) -> None:
    first = await http.post("/mwlitems", json=WITHOUT_KEY)
    assert first.status_code == 201
    made = entry_from_json(first.json())
    assert made.procedure.study_instance_uid.startswith("2.25.")
    assert made.step.step_id == made.procedure.procedure_id == "RP1"
    assert list(provider.worklist) == [made]
    assert (await http.post("/mwlitems", json=WITHOUT_KEY)).status_code == 409
    assert (await http.get(first.headers["location"])).json() == first.json()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[1,", 400),
        (b"\xff\xfe", 400),
        (b"[" * 20_000, 400),
        (b"null", 422),
        (b'"text"', 422),
        (b'{"00100010": {"Value": [1e400]}}', 400),
        (b'{"00400100": {"Value": [{"00400100": {}}, 7, null]}}', 422),
        (b"[[[]]]", 422),
    ],
)
async def test_what_is_no_entry_is_refused(
    provider: Running, http: httpx.AsyncClient, body: bytes, status: int
) -> None:
    answer = await http.post("/mwlitems", content=body, headers=DICOM_JSON)
    assert answer.status_code == status
    assert provider.store.revision() == 0


async def test_what_is_nested_deeply_is_refused(provider: Running, http: httpx.AsyncClient) -> None:
    body = b'{"00100010":' + b"[" * 2_000 + b"]" * 2_000 + b"}"
    answer = await http.post("/mwlitems", content=body, headers=DICOM_JSON)
    assert answer.status_code in (400, 422)  # how deep JSON is read depends on the version of Python
    assert provider.store.revision() == 0


@pytest.mark.parametrize("declared", ["application/x-www-form-urlencoded", "text/plain", None])
async def test_a_body_that_a_form_of_a_web_page_could_send_is_refused(
    http: httpx.AsyncClient, declared: str | None
) -> None:
    headers = {"Content-Type": declared} if declared else {}
    answer = await http.post("/mwlitems", content=json.dumps(entry_to_json(entry(1))), headers=headers)
    assert answer.status_code == 415


async def chunks() -> AsyncIterator[bytes]:
    for _ in range(11):
        yield b" " * 100


@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_that_is_too_long_is_refused(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, announced: bool
) -> None:
    monkeypatch.setattr(rest, "LONGEST_BODY", 1000)
    content = b" " * 1001 if announced else chunks()
    assert (await http.post("/mwlitems", content=content, headers=DICOM_JSON)).status_code == 413


async def endless() -> AsyncIterator[bytes]:
    import asyncio

    yield b"["
    await asyncio.Event().wait()


async def test_a_body_that_does_not_come_is_not_waited_for(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest, "BODY_SECONDS", 0.01)
    assert (await http.post("/mwlitems", content=endless(), headers=DICOM_JSON)).status_code == 408


# --- one entry ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step_id", ["SPS1", "A/B", "ä ö", "50%", "x/status", "?#&"])
async def test_an_entry_is_found_by_its_address_whatever_its_step_id_is(
    provider: Running, http: httpx.AsyncClient, step_id: str
) -> None:
    made = entry(1, step_id=step_id)
    location = (await http.post("/mwlitems", json=entry_to_json(made))).headers["location"]
    assert entry_from_json((await http.get(location)).json()) == made
    assert (await http.post(f"{location}/status", json={"status": "ARRIVED"})).status_code == 200
    assert (await http.delete(location)).status_code == 204
    assert len(provider.worklist) == provider.store.count() == 0


async def test_put_makes_an_entry_and_then_replaces_it(provider: Running, http: httpx.AsyncClient) -> None:
    answers = [
        await http.put("/mwlitems/1.2.3.1/SPS1", json=entry_to_json(each))
        for each in (entry(1), entry(1, name="Roe^Jane"))
    ]
    assert [answer.status_code for answer in answers] == [201, 200]
    assert provider.worklist.get(entry(1).key) == entry(1, name="Roe^Jane")


@pytest.mark.parametrize("empty", [None, {}, {"vr": "UI"}, {"vr": "UI", "Value": []}, {"Value": [""]}])
async def test_the_key_of_a_put_need_not_stand_in_the_body(
    provider: Running, http: httpx.AsyncClient, empty: dict[str, Any] | None
) -> None:
    body = dict(WITHOUT_KEY) if empty is None else {**WITHOUT_KEY, "0020000d": empty}
    assert (await http.put("/mwlitems/1.2.3.1/SPS1", json=body)).status_code == 201
    assert list(provider.worklist) == [entry(1)]


async def test_the_key_in_the_body_of_a_put_must_be_that_of_its_address(
    provider: Running, http: httpx.AsyncClient
) -> None:
    answer = await http.put("/mwlitems/1.2.3.9/SPS9", json=entry_to_json(entry(1)))
    assert answer.status_code == 422
    assert [fault["attribute"] for fault in answer.json()["faults"]] == [
        "StudyInstanceUID",
        "ScheduledProcedureStepSequence/ScheduledProcedureStepID",
    ]
    assert len(provider.worklist) == 0


async def test_an_address_that_is_no_key_is_refused_by_put(http: httpx.AsyncClient) -> None:
    answer = await http.put("/mwlitems/study/SPS1", json=WITHOUT_KEY)
    assert answer.status_code == 422
    assert answer.json()["faults"] == [{"attribute": "StudyInstanceUID", "reason": "is no UID"}]


@pytest.mark.parametrize("body", [b"[]", b"7", b"{}", b'{"00400100": 7}', b'{"00400100": {"Value": [7]}}'])
async def test_what_is_no_entry_is_refused_by_put(http: httpx.AsyncClient, body: bytes) -> None:
    assert (await http.put("/mwlitems/1.2.3.1/SPS1", content=body, headers=DICOM_JSON)).status_code == 422


async def test_an_entry_that_is_not_there_is_404(http: httpx.AsyncClient) -> None:
    address = "/mwlitems/1.2.3.9/SPS9"
    answers = [await http.get(address), await http.delete(address)]
    answers.append(await http.post(f"{address}/status", json={"status": "READY"}))
    assert [answer.status_code for answer in answers] == [404, 404, 404]


async def test_a_status_is_set_and_a_step_that_is_over_is_no_longer_listed(
    provider: Running, http: httpx.AsyncClient
) -> None:
    await keep(provider, entry(1))
    answer = await http.post("/mwlitems/1.2.3.1/SPS1/status", json={"status": "COMPLETED"})
    assert answer.status_code == 200
    assert entry_from_json(answer.json()) == entry(1, status="COMPLETED") == provider.worklist.get(entry(1).key)
    assert step_ids(await http.get("/mwlitems")) == []


@pytest.mark.parametrize("body", [{"status": "DONE"}, {"status": None}, {"status": ["READY"]}, {}, [], "READY"])
async def test_a_status_that_is_none_is_refused(provider: Running, http: httpx.AsyncClient, body: object) -> None:
    await keep(provider, entry(1))
    answer = await http.post("/mwlitems/1.2.3.1/SPS1/status", json=body)
    assert answer.status_code == 422
    assert answer.json()["faults"][0]["attribute"] == "status"
    assert provider.worklist.get(entry(1).key) == entry(1)


async def test_what_cannot_be_kept_is_not_acknowledged(provider: Running, http: httpx.AsyncClient) -> None:
    provider.store._closed = True
    answer = await http.post("/mwlitems", json=entry_to_json(entry(1)))
    assert answer.status_code == 503
    assert len(provider.worklist) == 0


# --- out ----------------------------------------------------------------------------------------------------------

SAMPLES = (
    entry(1, name="Doe^Jane", station_ae_titles=("CT1",)),
    entry(2, name="Roe^Richard", station_ae_titles=("CT2",)),
    entry(3, name="Müller^Jörg", station_ae_titles=("CT2", "CT1"), status="ARRIVED"),
    entry(4, name="Doe^John", modality="MR", station_ae_titles=("MR1",)),
    entry(5, name="Doe^Jim", status="STARTED"),
    entry(6, name="Doe^Jo", status="CANCELED", identifiers=(PatientIdentifier("4711", "CITY"),)),
)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", "1234"),
        ("?all=true", "123456"),
        ("?all=false", "1234"),
        ("?Modality=CT", "123"),
        ("?ScheduledProcedureStepSequence[0].Modality=CT", "123"),
        ("?ScheduledProcedureStepSequence/Modality=CT", "123"),
        ("?SPS/Modality=CT&PatientName=doe*", "1"),
        ("?00080060=MR", "4"),
        ("?0010,0010=DOE^J*", "14"),
        ("?PatientName=M%C3%BCller^J%C3%B6rg", "3"),
        ("?ScheduledStationAETitle=CT2", "23"),
        ("?PatientID=4711", ""),
        ("?PatientID=4711&all=true", "6"),
        ("?ScheduledProcedureStepStatus=CANCELED", "6"),
        ("?ScheduledProcedureStepStatus=STARTED\\CANCELED", "56"),
        ("?ScheduledProcedureStepStatus=*", "1234"),
        ("?ScheduledProcedureStepStartDate=20240704-", "1234"),
        ("?ScheduledProcedureStepStartDate=20240706-", ""),
        ("?PatientName=&Modality=", "1234"),
        ("?limit=2", "12"),
        ("?limit=2&offset=3", "4"),
        ("?offset=9", ""),
        ("?limit=0", ""),
    ],
)
async def test_entries_are_listed_by_the_keys_of_a_query(
    provider: Running, http: httpx.AsyncClient, query: str, found: str
) -> None:
    await keep(provider, *SAMPLES)
    answer = await http.get(f"/mwlitems{query}")
    assert answer.status_code == 200, answer.text
    assert step_ids(answer) == [f"SPS{number}" for number in found]


async def test_the_number_of_all_matches_is_told_whatever_part_of_them_is_sent(
    provider: Running, http: httpx.AsyncClient
) -> None:
    await keep(provider, *SAMPLES)
    for part in ("", "&limit=1", "&offset=2", "&limit=0"):
        assert (await http.get(f"/mwlitems?Modality=CT{part}")).headers["x-total-count"] == "3"


async def test_head_tells_the_number_alone(provider: Running, http: httpx.AsyncClient) -> None:
    await keep(provider, *SAMPLES)
    answer = await http.head("/mwlitems?Modality=CT")
    assert (answer.status_code, answer.headers["x-total-count"]) == (200, "3")


async def test_a_browser_is_shown_json_that_it_does_not_save(http: httpx.AsyncClient) -> None:
    answers = [await http.get("/mwlitems", headers={"Accept": accept}) for accept in ("text/html,*/*", "*/*")]
    assert [answer.headers["content-type"] for answer in answers] == ["application/json", "application/dicom+json"]


@pytest.mark.parametrize(
    ("query", "attributes"),
    [
        ("Nonsense=1", ["Nonsense"]),
        ("Modalty=CT&limit=x&offset=-1", ["limit", "offset", "Modalty"]),
        ("limit=1&limit=2", ["limit"]),
        ("all=yes", ["all"]),
        ("all=true&ae=WORKLIST", ["all"]),
        ("ae=NOBODY", ["ae"]),
        ("remote=CT2", ["ae"]),
        ("ae=WORKLIST&remote=ECHO", ["remote"]),
        ("PatientName=A&PatientName=B", ["PatientName"]),
        ("ScheduledProcedureStepStartDate=tomorrow", ["ScheduledProcedureStepStartDate"]),
        ("SOPInstanceUID=1.2.3", ["(0008,0018) SOPInstanceUID"]),
        ("ReferencedSOPSequence=", ["(0008,1199) ReferencedSOPSequence"]),
        ("PatientID=" + "x" * 1025, ["PatientID"]),
        ("SPS/" * 60 + "Modality=CT", ["keys"]),
        ("SPS/" * 1000 + "=1", [("SPS/" * 5)]),
    ],
)
async def test_parameters_that_cannot_be_used_are_all_named(
    http: httpx.AsyncClient, query: str, attributes: list[str]
) -> None:
    answer = await http.get(f"/mwlitems?{query}")
    assert answer.status_code == 422
    assert [fault["attribute"] for fault in answer.json()["faults"]] == attributes


async def c_find(provider: Running, called: str, calling_title: str, *keys: str) -> list[str]:
    """Ask as a modality does; gives the step ids of the answer."""
    assert provider.server is not None
    port = provider.server.addresses[0][1]
    contexts = dulproto.propose(MODALITY_WORKLIST_FIND, transfer_syntaxes=(EXPLICIT_LE,))
    async with dulproto.connect(
        "127.0.0.1", port, called_ae_title=called, calling_ae_title=calling_title, contexts=contexts
    ) as association:
        answers = [answer async for answer in association.c_find(query_keys(keys))]
    step, step_id = TAG_OF_KEYWORD["ScheduledProcedureStepSequence"], TAG_OF_KEYWORD["ScheduledProcedureStepID"]
    matches = [match for _, match in answers if match is not None]
    return [match[step].items[0][step_id].raw.decode().strip() for match in matches]


@pytest.mark.parametrize("called", ["WORKLIST", "CT_ONLY"])
@pytest.mark.parametrize("caller", ["ANYBODY", "CT1", "CT2", "SMALL", "DEAF"])
@pytest.mark.parametrize("keys", [(), ("Modality=CT",), ("PatientName=DOE*", "ScheduledProcedureStepStatus=*")])
async def test_through_the_eyes_of_a_modality_the_list_is_what_c_find_gives_it(
    provider: Running, http: httpx.AsyncClient, called: str, caller: str, keys: tuple[str, ...]
) -> None:
    await keep(provider, *SAMPLES)
    listed = step_ids(await http.get(f"/mwlitems?ae={called}&remote={caller}&{'&'.join(keys)}"))
    assert listed == await c_find(provider, called, caller, *keys)


async def test_a_posted_entry_is_found_by_the_next_c_find(provider: Running, http: httpx.AsyncClient) -> None:
    assert await c_find(provider, "WORKLIST", "ANYBODY") == []
    await http.post("/mwlitems", json=entry_to_json(entry(1)))
    assert await c_find(provider, "WORKLIST", "ANYBODY") == ["SPS1"]
    await http.post("/mwlitems/1.2.3.1/SPS1/status", json={"status": "CANCELED"})
    assert await c_find(provider, "WORKLIST", "ANYBODY") == []


async def test_an_empty_answer_is_explained(provider: Running, http: httpx.AsyncClient) -> None:
    await keep(provider, *SAMPLES)
    answer = await http.get("/explain?ae=WORKLIST&Modality=US&PatientName=Doe*")
    assert answer.status_code == 200
    explanation = answer.json()
    assert explanation["listed"] == []
    assert explanation["killer"] == "ScheduledProcedureStepSequence/Modality"
    assert "MR" in explanation["near_misses"][0]["text"]
