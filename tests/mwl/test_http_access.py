"""Who may call the HTTP service, and what it does when something fails."""

from __future__ import annotations

import asyncio
import base64
import logging
from pathlib import Path
from typing import Any

import httpx
import pytest
from samples import entry
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send
from test_rest import CONFIGURATION, calling, keep, noon

from mwl.config import from_table, load
from mwl.dicom_json import entry_to_json
from mwl.http import web
from mwl.http.rest import token_in_force
from mwl.http.web import ListenError, guarded, listening, refusal
from mwl.server import Running, running

TOKEN = "s3cret-ö"


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"operator:{password}".encode()).decode()


def request(path: str = "/mwlitems", method: str = "GET", **headers: str) -> Scope:
    given = {"host": "127.0.0.1:8080", **headers}
    raw = [(name.encode(), value.encode()) for name, value in given.items()]
    return {"type": "http", "method": method, "path": path, "headers": raw, "client": ("127.0.0.1", 1)}


def status(scope: Scope, token: str = "") -> int:
    refused = refusal(scope, token)
    return refused.status_code if refused else 200


# --- who may call -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("authorization", "expected"),
    [
        ("", 401),
        ("Bearer", 401),
        ("Bearer wrong", 401),
        ("Bearer s3cre", 401),
        ("Bearer s3cret2", 401),
        ("Bearer s3cret", 200),
        ("bearer  s3cret ", 200),
        (basic("s3cret"), 200),
        (basic("wrong"), 401),
        ("Basic s3cret", 401),
        ("Basic /w==", 401),
        ("Basic \xff", 401),
        ("Digest s3cret", 401),
    ],
)
def test_with_a_token_only_who_has_it_is_answered(authorization: str, expected: int) -> None:
    assert status(request(authorization=authorization), "s3cret") == expected


def test_a_browser_is_asked_for_the_token() -> None:
    refused = refusal(request("/"), "s3cret")
    assert refused is not None
    assert 'Basic realm="mwl"' in refused.headers["www-authenticate"]


@pytest.mark.parametrize(("path", "expected"), [("/healthz", 200), ("/readyz", 200), ("/metrics", 401), ("/", 401)])
def test_health_is_told_to_whoever_asks(path: str, expected: int) -> None:
    assert status(request(path), "s3cret") == expected


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1:8080", 200),
        ("localhost:8080", 200),
        ("localhost", 200),
        ("[::1]:8080", 200),
        ("127.0.0.2", 200),
        ("evil.example:8080", 403),
        ("localhost.evil.example", 403),
        ("192.168.1.1", 403),
        ("127.0.0.1.evil.example", 403),
        ("", 403),
        ("[", 403),
    ],
)
def test_without_a_token_a_web_page_cannot_call_by_a_name_of_its_own(host: str, expected: int) -> None:
    assert status(request(host=host)) == expected
    assert status(request(host=host, authorization="Bearer s3cret"), "s3cret") == 200


@pytest.mark.parametrize("token", ["", "s3cret"])
@pytest.mark.parametrize(
    ("method", "origin", "expected"),
    [
        ("POST", "http://evil.example", 403),
        ("DELETE", "null", 403),
        ("PUT", "http://127.0.0.1:9999", 403),
        ("POST", "http://[", 403),
        ("POST", "http://127.0.0.1:8080", 200),
        ("GET", "http://evil.example", 200),
    ],
)
def test_a_web_page_of_somebody_else_may_not_change_anything(
    token: str, method: str, origin: str, expected: int
) -> None:
    assert status(request(method=method, origin=origin, authorization=f"Bearer {token}"), token) == expected


@pytest.mark.parametrize(
    ("listener", "reloaded", "expected"),
    [
        ({"token": "a"}, {"token": "b"}, "b"),
        ({"token": "a"}, {}, ""),
        ({"token": "a"}, None, "a"),
        ({"host": "0.0.0.0", "token": "a"}, {"host": "0.0.0.0", "token": "b"}, "b"),
        ({"host": "0.0.0.0", "token": "a"}, {}, "a"),
        ({"host": "0.0.0.0", "token": "a"}, None, "a"),
    ],
)
def test_a_reload_may_change_the_token_but_never_opens_what_others_can_reach(
    listener: dict[str, Any], reloaded: dict[str, Any] | None, expected: str
) -> None:
    worklists = {"ae": [{"title": "WORKLIST"}]}
    http = from_table({"http": listener, **worklists}).http
    assert http is not None
    assert (
        token_in_force(http, from_table({**({} if reloaded is None else {"http": reloaded}), **worklists}))
        == expected
    )


async def test_the_configured_token_is_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "mwl.toml"
    file.write_text(CONFIGURATION.replace("[http]", f'[http]\ntoken = "{TOKEN}"'), "utf-8")
    async with running(load(file), file, now=noon) as provider, calling(provider) as http:
        assert (await http.get("/mwlitems")).status_code == 401
        assert (await http.get("/mwlitems", auth=("anybody", TOKEN))).status_code == 200
        assert provider.http_answers == {("GET", 401): 1, ("GET", 200): 1}
        file.write_text(CONFIGURATION.replace("[http]", '[http]\ntoken = "another"'))
        headers = {"Authorization": f"Bearer {TOKEN}".encode()}
        assert (await http.post("/reload", headers=headers)).status_code == 200
        assert (await http.get("/mwlitems", headers=headers)).status_code == 401
        assert (await http.get("/mwlitems", headers={"Authorization": "Bearer another"})).status_code == 200


# --- what fails ---------------------------------------------------------------------------------------------------


async def test_a_failure_is_logged_by_its_place_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("Doe^Jane")

    async def nothing(*_: object) -> None:
        raise AssertionError

    caplog.set_level(logging.INFO)
    await guarded(fail, str, lambda *_: None)(request(), nothing, nothing)  # type: ignore[arg-type]
    assert "ValueError in serve" in caplog.text
    assert "fail (test_http_access.py" in caplog.text
    assert "Doe" not in caplog.text


async def test_a_failure_inside_is_answered_500_and_the_service_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "mwl.toml"
    file.write_text(CONFIGURATION)
    caplog.set_level(logging.INFO)
    async with running(load(file), file, now=noon) as provider, calling(provider) as http:
        await keep(provider, entry(1))
        provider.store._connection.close()
        answer = await http.get("/mwlitems/1.2.3.1/SPS1")
        assert (answer.status_code, answer.json()["title"]) == (500, "this failed; the log says where")
        assert "ConnectionClosedError in" in caplog.text
        assert (await http.get("/mwlitems")).status_code == 200


async def test_an_answer_that_fails_half_way_does_not_look_whole() -> None:
    async def fail(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"[", "more_body": True})
        raise ValueError("Doe^Jane")

    transport = httpx.ASGITransport(guarded(fail, str, lambda *_: None))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        with pytest.raises(ConnectionAbortedError):
            await client.get("/")


async def test_an_address_in_use_is_named() -> None:
    async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError

    async with listening(nothing, "127.0.0.1", 0) as (host, port):
        with pytest.raises(ListenError, match=rf"HTTP on 127.0.0.1 port {port}: .*in use"):
            await listening(nothing, host, port).__aenter__()


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: 127", b"%s", b"%sGET / HT"])
async def test_a_connection_that_asks_for_nothing_is_closed(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(web, "HEAD_SECONDS", 0.05)
    monkeypatch.setattr(web, "IDLE_SECONDS", 0.05)
    request = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"

    async with listening(JSONResponse({}), "127.0.0.1", 0) as (host, port):
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(sent.replace(b"%s", request))
        async with asyncio.timeout(30):
            answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 200 OK") == (b"%s" in sent)
        writer.close()


async def test_an_answer_may_take_longer_than_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "HEAD_SECONDS", 0.01)

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        loop = asyncio.get_running_loop()
        later = loop.create_future()
        loop.call_later(0.05, later.set_result, None)
        await later
        await JSONResponse({})(scope, receive, send)

    async with listening(slow, "127.0.0.1", 0) as (host, port), httpx.AsyncClient() as client:
        assert (await client.get(f"http://{host}:{port}/")).status_code == 200


# --- reload and readiness -----------------------------------------------------------------------------------------


@pytest.fixture
async def provider(tmp_path: Path) -> Any:
    file = tmp_path / "mwl.toml"
    file.write_text(CONFIGURATION)
    async with running(load(file), file, now=noon) as made:
        yield made


async def test_a_faulty_configuration_is_refused_whole_with_every_key_named(
    provider: Running, tmp_path: Path
) -> None:
    before = provider.config
    (tmp_path / "mwl.toml").write_text('[dicom]\nport = -1\nnonsense = 1\n[[ae]]\ntitle = "TOO LONG A TITLE!"\n')
    async with calling(provider) as http:
        answer = await http.post("/reload")
    assert answer.status_code == 422
    assert [fault["attribute"] for fault in answer.json()["faults"]] == [
        "dicom.nonsense",
        "dicom.port",
        "ae[0].title",
    ]
    assert provider.config is before


async def test_a_configuration_that_is_gone_is_refused(provider: Running, tmp_path: Path) -> None:
    (tmp_path / "mwl.toml").unlink()
    async with calling(provider) as http:
        answer = await http.post("/reload")
    assert answer.status_code == 422
    assert answer.json()["faults"][0]["reason"].startswith("cannot be read")


async def test_a_changed_configuration_is_in_force_when_the_answer_comes(provider: Running, tmp_path: Path) -> None:
    await keep(provider, entry(1), entry(2, modality="MR"))
    async with calling(provider) as http:
        assert (await http.get("/mwlitems?ae=CT_ONLY")).headers["x-total-count"] == "1"
        (tmp_path / "mwl.toml").write_text(CONFIGURATION.replace('modality = ["CT"]', 'modality = ["CT", "MR"]'))
        assert (await http.post("/reload")).json() == {"reloaded": str(tmp_path / "mwl.toml")}
        assert (await http.get("/mwlitems?ae=CT_ONLY")).headers["x-total-count"] == "2"


async def test_ready_says_how_much_is_served(provider: Running) -> None:
    await provider.store.commit([])
    async with calling(provider) as http:
        await http.post("/mwlitems", json=entry_to_json(entry(1)))
        assert (await http.get("/readyz")).json() == {"status": "ready", "entries": 1, "revision": 1}
        assert (await http.get("/healthz")).json() == {"status": "ok"}


async def test_a_provider_that_stops_or_cannot_read_its_store_is_not_ready(provider: Running) -> None:
    assert provider.server is not None
    async with calling(provider) as http:
        provider.server.congested = True
        assert (await http.get("/readyz")).json()["title"] == "the provider is stopping"
        provider.server.congested = False
        assert (await http.get("/readyz")).status_code == 200
        provider.store._connection.close()
        assert (await http.get("/readyz")).status_code == 503
        assert (await http.get("/healthz")).status_code == 200
