"""The OpenAPI document, the metrics and the page: each says what is so."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import entry
from test_rest import CONFIGURATION, SAMPLES, calling, keep, noon

from mwl.config import load
from mwl.dicom_json import entry_to_json
from mwl.http.openapi import OPERATIONS, document
from mwl.http.rest import _HANDLERS
from mwl.server import Running, running


@pytest.fixture
async def provider(tmp_path: Path) -> Any:
    file = tmp_path / "mwl.toml"
    file.write_text(CONFIGURATION)
    async with running(load(file), file, now=noon) as made:
        yield made


@pytest.fixture
async def http(provider: Running) -> Any:
    async with calling(provider) as client:
        yield client


# --- OpenAPI ------------------------------------------------------------------------------------------------------


def test_each_operation_has_one_handler() -> None:
    assert sorted(operation.name for operation in OPERATIONS) == sorted(_HANDLERS)


async def test_the_document_is_served_and_all_its_references_lead_somewhere(http: httpx.AsyncClient) -> None:
    described = (await http.get("/openapi.json")).json()
    assert described == json.loads(json.dumps(document()))
    for reference in re.findall(r'"#/([^"]+)"', json.dumps(described)):
        found = described
        for part in reference.split("/"):
            found = found[part]


async def test_a_method_that_no_operation_has_is_405_and_the_others_are_named(http: httpx.AsyncClient) -> None:
    answer = await http.request("PATCH", "/mwlitems/1.2.3/SPS1")
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "PUT", "DELETE"}
    assert (await http.get("/nonsense")).status_code == 404
    assert (await http.get("/nonsense")).headers["content-type"] == "application/problem+json"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def damaged_entries(draw: st.DrawFn) -> Any:
    """An entry in which one value, anywhere, is replaced by any JSON."""
    raw: Any = entry_to_json(entry(draw(st.integers(1, 3))))
    inner, key = {"": raw}, ""
    while draw(st.booleans()):
        below = inner[key]
        if not isinstance(below, dict | list) or not below:
            break
        inner = below
        key = draw(st.sampled_from(sorted(below) if isinstance(below, dict) else range(len(below))))
    inner[key] = draw(JSON)
    return raw if key else inner[key]


VALUES = {
    "keys": st.sampled_from(["PatientName", "Modality", "0010,0020", "SPS/Modality", "StudyDate", "PatientWeight"]),
    "text": st.text(max_size=20) | st.sampled_from(["true", "false", "5", "WORKLIST", "CT2", "*", "20240705-", "-"]),
}


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, str, str, bytes, dict[str, str]]:
    """A request for any operation: what its parameters and bodies may be, and more."""
    operation = draw(st.sampled_from([each for each in OPERATIONS if each.name != "reload"]))
    path = operation.path
    query = []
    for name in operation.parameters:
        text = draw(VALUES["text"])
        if f"{{{name}}}" in path:
            known = {"study_uid": "1.2.3.1", "sps_id": "SPS1"}[name]
            path = path.replace(f"{{{name}}}", draw(st.just(known) | st.just(quote(text, safe="") or "x")))
        elif draw(st.booleans()):
            query.append(f"{quote(draw(VALUES['keys']) if name == 'keys' else name)}={quote(text)}")
    body, headers = b"", {}
    if operation.body:
        raw = draw(damaged_entries() | st.lists(damaged_entries(), max_size=3) | JSON | st.just({"status": "READY"}))
        body = draw(st.just(json.dumps(raw).encode()) | st.binary(max_size=20))
        headers = {
            "Content-Type": draw(st.sampled_from(["application/json", "application/dicom+json", "text/plain"]))
        }
    return operation.name, operation.method, f"{path}?{'&'.join(query)}", body, headers


class Service:
    """A provider for all examples of a property, in a loop of its own."""

    def __init__(self, folder: Path) -> None:
        self.runner = asyncio.Runner()
        file = folder / "mwl.toml"
        file.write_text(CONFIGURATION)
        self.provider = running(load(file), file, now=noon)
        self.client = calling(self.runner.run(self.provider.__aenter__()))
        self.http = self.runner.run(self.client.__aenter__())

    def request(self, method: str, address: str, **options: Any) -> httpx.Response:
        return self.runner.run(self.http.request(method, address, **options))

    def close(self) -> None:
        self.runner.run(self.client.__aexit__(None, None, None))
        self.runner.run(self.provider.__aexit__(None, None, None))
        self.runner.close()


@pytest.fixture(scope="module")
def service() -> Any:
    with TemporaryDirectory() as folder:
        made = Service(Path(folder))
        yield made
        made.close()


@given(one=requests())
def test_any_request_is_answered_as_the_document_says(
    service: Service, one: tuple[str, str, str, bytes, dict[str, str]]
) -> None:
    name, method, address, body, headers = one
    answer = service.request(method, address, content=body, headers=headers)
    described = document()["paths"]
    [operation] = [
        each[method.lower()] for each in described.values() if each.get(method.lower(), {}).get("operationId") == name
    ]
    assert str(answer.status_code) in operation["responses"], (address, answer.text)
    content = operation["responses"][str(answer.status_code)].get("content", {})
    declared = answer.headers.get("content-type", "").partition(";")[0]
    assert declared in (content or {"": None})
    if "json" in declared:
        answer.json()
    if declared == "application/problem+json":
        assert {"title", "status"} <= answer.json().keys()


# --- metrics ------------------------------------------------------------------------------------------------------

LINE = re.compile(r'(mwl_\w+)(\{\w+="[^"]*"(,\w+="[^"]*")*\})? (\d+(\.\d+)?)')


async def test_metrics_are_what_prometheus_reads(provider: Running, http: httpx.AsyncClient) -> None:
    await keep(provider, *SAMPLES)
    answer = await http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    kinds = dict(re.findall(r"^# TYPE (\w+) (\w+)$", answer.text, re.MULTILINE))
    lines = [line for line in answer.text.splitlines() if not line.startswith("#")]
    for line in lines:
        found = LINE.fullmatch(line)
        assert found, line
        assert (kinds[found[1]] == "counter") == found[1].endswith("_total"), line
    assert f"mwl_entries {len(SAMPLES)}" in lines
    assert f"mwl_store_revision {len(SAMPLES)}" in lines
    assert 'mwl_associations_limit{ae="WORKLIST"} 5' in lines


async def test_hl7_messages_are_counted_by_their_answer(tmp_path: Path) -> None:
    file = tmp_path / "mwl.toml"
    file.write_text(CONFIGURATION + '[hl7]\nhost = "127.0.0.1"\nport = 0\n')
    async with running(load(file), file, now=noon) as provider, calling(provider) as http:
        host, _, port = provider.addresses["hl7"].rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"\x0bMSH|^~\\&|A|B|C|D|20240705||XXX^X99|1|P|2.5\r\x1c\r")
        assert b"MSA|A" in await reader.readuntil(b"\x1c\r")
        writer.close()
        assert re.search(
            r'^mwl_hl7_messages_total\{answer="A[ER]"\} 1$', (await http.get("/metrics")).text, re.MULTILINE
        )


async def test_answers_are_counted_and_no_caller_can_invent_a_label(
    provider: Running, http: httpx.AsyncClient
) -> None:
    for method in ("GET", "BREW", "POUR"):
        await http.request(method, "/healthz")
    text = (await http.get("/metrics")).text
    answers = re.findall(r'^mwl_http_answers_total\{method="(\w+)",status="(\d+)"\} (\d+)', text, re.MULTILINE)
    assert answers == [("GET", "200", "1"), ("other", "405", "2")]


# --- the page -----------------------------------------------------------------------------------------------------


class Cells(HTMLParser):
    """The cells of the first table of a page, row by row, and every tag of it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag == "tr":
            self.rows.append([])
        elif tag == "td":
            self.rows[-1].append("")
        elif tag == "small" and self.rows and self.rows[-1]:
            self.rows[-1][-1] += " | "

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data.strip()

    def value_of(self, name: str) -> str | None:
        return next(tag["value"] for kind, tag in self.tags if kind == "input" and tag.get("name") == name)


async def test_the_page_lists_today(provider: Running, http: httpx.AsyncClient) -> None:
    await keep(provider, *SAMPLES)
    answer = await http.get("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    page = Cells(answer.text)
    assert page.rows[1][:4] == ["2024-07-05 | 10:00", "Doe, Jane", "1001 | CITY", " | "]
    assert [row[8] for row in page.rows[1:5]] == ["SPS1", "SPS2", "SPS3", "SPS4"]
    assert (page.value_of("from"), page.value_of("to")) == ("2024-07-05", "2024-07-05")


async def test_the_page_takes_what_its_form_sends_and_shows_it_again(
    provider: Running, http: httpx.AsyncClient
) -> None:
    await keep(provider, *SAMPLES)
    form = {"from": "2024-07-01", "to": "", "PatientName": "doe", "PatientID": "", "remote": " ", "ae": ""}
    page = Cells((await http.get("/", params={**form, "ScheduledProcedureStepStatus": "all"})).text)
    assert [row[8] for row in page.rows[1:] if len(row) == 10] == ["SPS1", "SPS4", "SPS5", "SPS6"]
    assert (page.value_of("from"), page.value_of("PatientName")) == ("2024-07-01", "doe")
    json_link = next(
        tag["href"] for kind, tag in page.tags if kind == "a" and str(tag["href"]).startswith("mwlitems?")
    )
    assert len((await http.get(f"/{json_link}")).json()) == 4


async def test_what_a_patient_is_called_is_no_html(provider: Running, http: httpx.AsyncClient) -> None:
    evil = '"><script>alert(1)</script>'
    await keep(provider, entry(1, name=f"{evil}^{evil}", description=evil, accession_number="A&B<i>"))
    page = Cells((await http.get("/", params={"PatientName": f"{evil}*", "Modality": "CT"})).text)
    assert [kind for kind, _ in page.tags].count("script") == 1
    assert page.rows[1][1] == f"{evil}, {evil}"
    assert page.value_of("PatientName") == f"{evil}*"


async def test_the_page_needs_nothing_from_elsewhere_and_its_script_is_the_only_one_allowed(
    http: httpx.AsyncClient,
) -> None:
    answer = await http.get("/")
    assert not re.search(r"https?://|//\w", answer.text)
    script = re.search(r"<script>(.*?)</script>", answer.text, re.DOTALL)
    assert script
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in answer.headers["content-security-policy"]


async def test_an_empty_page_says_why(provider: Running, http: httpx.AsyncClient) -> None:
    assert "no entries at all" in (await http.get("/")).text
    await keep(provider, *SAMPLES)
    text = (await http.get("/?Modality=CT&PatientName=Doe^Jo")).text
    assert "1 that the keys find are not shown because of the filter on status (CANCELED)" in text
    text = (await http.get("/?ScheduledStationAETitle=CT9")).text
    assert "no entry has ScheduledProcedureStepSequence/ScheduledStationAETitle" in text


@pytest.mark.parametrize("offset", ["-1", "x", "9" * 5000, "\u0663"])
async def test_a_page_that_there_is_not_is_a_fault(http: httpx.AsyncClient, offset: str) -> None:
    answer = await http.get("/", params={"offset": offset})
    assert answer.status_code == 422
    assert "offset is no number" in answer.text


async def test_keys_that_cannot_be_used_are_named_on_the_page(http: httpx.AsyncClient) -> None:
    answer = await http.get("/?from=tomorrow&remote=CT2")
    assert answer.status_code == 422
    assert "ae is missing" in answer.text
    assert "ScheduledProcedureStepStartDate" in answer.text


async def test_a_long_list_has_pages(provider: Running, http: httpx.AsyncClient) -> None:
    await keep(provider, *[entry(number) for number in range(450)])
    seen: list[str] = []
    address = "/?Modality=CT"
    while address:
        text = (await http.get(address)).text
        seen += [row[8] for row in Cells(text).rows if len(row) == 10]
        later = re.search(r'href="(\?[^"]*)">later<', text)
        address = f"/{later[1].replace('&amp;', '&')}" if later else ""
    assert sorted(seen) == sorted(f"SPS{number}" for number in range(450))
    assert 'offset=300">earlier<' in text
