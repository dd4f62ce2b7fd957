"""The HTTP service: entries in and out, the state of the provider, and a page for people.

An answer in the 200s to a change means that the change is on disk, and that the next C-FIND sees it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import apsw
import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from dulproto import EXPLICIT_LE

from ..config import Config, ConfigError, Http
from ..dicom_json import UNREADABLE, entry_from_json, entry_to_json
from ..explain import explain
from ..hosts import is_loopback
from ..item import STATUSES, Entry, EntryError, Fault
from ..query import IdentifierError
from ..store import Change, KeyConflict, NoSuchEntry, Put, Remove, StoreError, Update
from .listing import ListingError, decode_listing, find
from .metrics import CONTENT_TYPE, metrics_text
from .openapi import DICOM_JSON, OPERATIONS, document
from .page import render_page
from .web import guarded, problem

if TYPE_CHECKING:
    from ..server import Running

__all__ = ["application", "token_in_force"]

Handler = Callable[["Running", Request], Coroutine[Any, Any, Response]]

LONGEST_BODY: Final = 16 << 20
BODY_SECONDS: Final = 30.0

# Entries in one turn of the loop: modalities must not wait until a whole array is written, or read.
_WRITTEN_A_TURN: Final = 16
_READ_A_TURN: Final = 2


def application(running: Running, listening: Http) -> ASGIApp:
    """Make the application; `listening` is the configuration that its listener was opened with."""
    paths: dict[str, dict[str, Handler]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _HANDLERS[operation.name]
    routes = [
        # A step id may have a slash in it.
        Route(path.replace("{sps_id}", "{sps_id:path}"), _endpoint(running, handlers), methods=list(handlers))
        for path, handlers in sorted(paths.items(), key=lambda item: not item[0].endswith("/status"))
    ]
    answers = {HTTPException: _answer_http_error, Exception: _answer_failure}
    app = Starlette(routes=routes, exception_handlers=answers)

    def count(method: str, status: int) -> None:
        running.http_answers[method if method in _METHODS else "other", status] += 1  # or callers could invent labels

    return guarded(app, lambda: token_in_force(listening, running.config), count)


_METHODS: Final = frozenset({"HEAD", "OPTIONS", *(operation.method for operation in OPERATIONS)})


def token_in_force(listening: Http, config: Config) -> str:
    """Tell the token; a reload may change it, but not take it away from a listener that others can reach."""
    if config.http is None or (not config.http.token and not is_loopback(listening.host)):
        return listening.token
    return config.http.token


def _endpoint(running: Running, handlers: dict[str, Handler]) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    async def answer(request: Request) -> Response:
        handler = handlers["GET" if request.method == "HEAD" else request.method]
        try:
            return await handler(running, request)
        except ListingError as exc:
            return _faulty("these parameters cannot be used", _builtins(exc.faults))
        except KeyConflict as exc:
            return problem(409, str(exc))
        except NoSuchEntry as exc:
            return problem(404, str(exc))
        except StoreError as exc:
            return problem(503, str(exc))

    return answer


async def _answer_http_error(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    return problem(exc.status_code, exc.detail, exc.headers)


async def _answer_failure(request: Request, exc: Exception) -> Response:
    return problem(500, "this failed; the log says where")


def _faulty(title: str, faults: Sequence[Any]) -> JSONResponse:
    return problem(422, title, faults=faults)


def _builtins(faults: Iterable[Fault]) -> list[Any]:
    return [msgspec.to_builtins(fault) for fault in faults]


# --- DICOM JSON ---------------------------------------------------------------------------------------------------


def _media_type(request: Request) -> str:
    """Choose what a browser shows and does not save, if one asks."""
    accepted = request.headers.get("accept", "")
    return "application/json" if "json" not in accepted and "html" in accepted else DICOM_JSON


def _json(value: object, status: int = 200, **options: Any) -> Response:
    return Response(msgspec.json.encode(value), status, media_type=options.pop("media_type", DICOM_JSON), **options)


async def _array(entries: Iterable[Entry]) -> AsyncIterator[bytes]:
    """Write entries as an array, a few in one turn of the loop."""
    separator = b"["
    for number, entry in enumerate(entries, 1):
        yield separator + msgspec.json.encode(entry_to_json(entry))
        separator = b",\n"
        if number % _WRITTEN_A_TURN == 0:
            await asyncio.sleep(0)
    yield b"[]" if separator == b"[" else b"]"


async def _body(request: Request) -> bytes:
    """Read the body, declared as JSON: what a form of a web page sends is not."""
    declared = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if declared not in ("application/json", DICOM_JSON):
        raise HTTPException(
            415, f"Content-Type {declared or 'is missing'}: {DICOM_JSON} or application/json is wanted"
        )
    parts: list[bytes] = []
    announced, size = request.headers.get("content-length", ""), 0
    _check_size(int(announced) if announced.isdecimal() else 0)
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                parts.append(part)
                size += len(part)
                _check_size(size)
    except (TimeoutError, ClientDisconnect):
        raise HTTPException(408, f"the body did not come within {BODY_SECONDS:.0f} s") from None
    return b"".join(parts)


def _check_size(size: int) -> None:
    if size > LONGEST_BODY:
        raise HTTPException(413, f"a body has at most {LONGEST_BODY:,} bytes", {"Connection": "close"})


def _decode(body: bytes, kind: Any = object) -> Any:
    try:
        return msgspec.json.decode(body, type=kind)
    except UNREADABLE as exc:
        raise HTTPException(400, f"the body is no JSON that can be read: {exc}") from None


async def _entries(raws: Iterable[Any]) -> tuple[list[Entry], list[dict[str, Any]]]:
    """Make entries of an array, or list what is wrong with every one of them."""
    entries: list[Entry] = []
    faults: list[dict[str, Any]] = []
    known: dict[tuple[str, str], int] = {}
    for item, raw in enumerate(raws):
        try:
            entry = entry_from_json(_decode(bytes(raw)))
        except EntryError as exc:
            faults += [{"item": item, **fault} for fault in _builtins(exc.faults)]
        else:
            entries.append(entry)
            first = known.setdefault(entry.key, item)
            if first != item:
                reason = f"is that of item {first}: {' '.join(entry.key)}"
                faults.append({"item": item, "attribute": "key", "reason": reason})
        if item % _READ_A_TURN == 0:
            await asyncio.sleep(0)
    return entries, faults


async def _commit(running: Running, request: Request, changes: Sequence[Change]) -> None:
    """Put changes on disk, and into the worklist."""
    origin = f"http {request.client.host}" if request.client else "http"
    await running.committed(await running.store.commit(changes, origin))


# --- entries ------------------------------------------------------------------------------------------------------


async def list_entries(running: Running, request: Request) -> Response:
    """Answer GET /mwlitems."""
    listing = decode_listing(request.query_params.multi_items(), running.config)
    total, slots = find(listing, running.worklist, running.provider.now())
    headers = {"X-Total-Count": str(total)}
    return StreamingResponse(_array([slot.entry for slot in slots]), headers=headers, media_type=_media_type(request))


async def put_entries(running: Running, request: Request) -> Response:
    """Answer POST /mwlitems."""
    replace = request.query_params.get("replace", "")
    if replace not in ("", "true", "false"):
        return _faulty("these parameters cannot be used", _builtins([Fault("replace", "is neither true nor false")]))
    body = await _body(request)
    is_array = body.lstrip()[:1] == b"["
    entries, faults = await _entries(_decode(body, list[msgspec.Raw]) if is_array else [body])
    if faults:
        if not is_array:
            faults = [{name: fault[name] for name in ("attribute", "reason")} for fault in faults]
        return _faulty("nothing was kept", faults)
    try:
        await _commit(running, request, [Put(entry, replace=replace == "true") for entry in entries])
    except KeyConflict:
        there = [
            {"item": item, "attribute": "key", "reason": f"is that of an entry: {' '.join(entry.key)}"}
            for item, entry in enumerate(entries)
            if running.store.get(entry.key)
        ]
        return problem(409, "nothing was kept; ?replace=true replaces what is there", faults=there)
    if is_array:
        return StreamingResponse(_array(entries), 201, media_type=DICOM_JSON)
    return _json(entry_to_json(entries[0]), 201, headers={"Location": _location(entries[0])})


def _location(entry: Entry) -> str:
    return "/".join(("/mwlitems", *(quote(part, safe="") for part in entry.key)))


def _key(request: Request) -> tuple[str, str]:
    return request.path_params["study_uid"], request.path_params["sps_id"]


async def get_entry(running: Running, request: Request) -> Response:
    """Answer GET /mwlitems/{study_uid}/{sps_id}."""
    key = _key(request)
    entry = running.store.get(key)
    if entry is None:
        raise NoSuchEntry(f"there is no entry {' '.join(key)}")
    return _json(entry_to_json(entry), media_type=_media_type(request))


async def put_entry(running: Running, request: Request) -> Response:
    """Answer PUT /mwlitems/{study_uid}/{sps_id}; the key in the body, if there is one, must be this."""
    key = _key(request)
    raw = _with_key(_decode(await _body(request)), key)
    try:
        entry = entry_from_json(raw)
    except EntryError as exc:
        return _faulty("nothing was kept", _builtins(exc.faults))
    faults = [
        Fault(attribute, f"is {own}, and the address says {given}")
        for attribute, own, given in zip(_KEY_ATTRIBUTES, entry.key, key, strict=True)
        if own != given
    ]
    if faults:
        return _faulty("nothing was kept", _builtins(faults))
    status = 200 if running.store.get(key) else 201
    await _commit(running, request, [Put(entry)])
    return _json(entry_to_json(entry), status)


_KEY_ATTRIBUTES: Final = ("StudyInstanceUID", "ScheduledProcedureStepSequence/ScheduledProcedureStepID")


def _with_key(raw: Any, key: tuple[str, str]) -> Any:
    """Add what identifies an entry to its JSON where it is missing; what is no such JSON is left to its decoder."""
    if not isinstance(raw, dict):
        return raw
    raw = _with_value(raw, "0020000D", "UI", key[0])
    match raw.get("00400100"):
        case {"Value": [dict() as step]} as sequence:
            raw["00400100"] = {**sequence, "Value": [_with_value(step, "00400009", "SH", key[1])]}
    return raw


def _with_value(raw: dict[str, Any], tag: str, vr: str, value: str) -> dict[str, Any]:
    raw = {name.upper(): element for name, element in raw.items()}
    match raw.get(tag):
        case None | {"Value": [] | [""] | [None] | None}:
            raw[tag] = {"vr": vr, "Value": [value]}
        case {**members} if not members.keys() - {"vr"}:
            raw[tag] = {"vr": vr, "Value": [value]}
    return raw


async def remove_entry(running: Running, request: Request) -> Response:
    """Answer DELETE /mwlitems/{study_uid}/{sps_id}."""
    await _commit(running, request, [Remove(_key(request))])
    return Response(status_code=204)


async def set_status(running: Running, request: Request) -> Response:
    """Answer POST /mwlitems/{study_uid}/{sps_id}/status."""
    key = _key(request)
    raw = _decode(await _body(request))
    status = raw.get("status") if isinstance(raw, dict) else None
    if status not in STATUSES:
        return _faulty("nothing was changed", _builtins([Fault("status", f"is none of {', '.join(STATUSES)}")]))

    def change(entry: Entry) -> Entry:
        return msgspec.structs.replace(entry, step=msgspec.structs.replace(entry.step, status=status))

    await _commit(running, request, [Update(key, change)])
    entry = running.store.get(key)
    if entry is None:
        raise NoSuchEntry(f"there is no entry {' '.join(key)} any more")
    return _json(entry_to_json(entry))


# --- the provider -------------------------------------------------------------------------------------------------


async def explain_query(running: Running, request: Request) -> Response:
    """Answer GET /explain."""
    listing = decode_listing(request.query_params.multi_items(), running.config)
    now = running.provider.now()
    try:
        explanation = explain(listing.identifier, EXPLICIT_LE, listing.policy, listing.view, running.worklist, now)
    except IdentifierError as exc:
        return _faulty("the query is refused", [{"attribute": "keys", "reason": exc.comment}])
    return _json(explanation, media_type="application/json")


async def reload(running: Running, request: Request) -> Response:
    """Answer POST /reload."""
    try:
        await running.reload()
    except ConfigError as exc:
        faults = [Fault(*_parted(fault)) for fault in exc.faults]
        return _faulty("the configuration is refused, the old one stays in force", _builtins(faults))
    return _json({"reloaded": str(running.source)}, media_type="application/json")


def _parted(fault: str) -> tuple[str, str]:
    key, separator, reason = fault.partition(": ")
    return (key, reason) if separator and " " not in key else ("configuration", fault)


async def healthz(running: Running, request: Request) -> Response:
    """Answer GET /healthz."""
    return _json({"status": "ok"}, media_type="application/json")


async def readyz(running: Running, request: Request) -> Response:
    """Answer GET /readyz."""
    if running.why_not_ready:
        return problem(503, running.why_not_ready)
    try:
        running.follow()
    except apsw.Error as exc:
        return problem(503, f"the store cannot be read: {exc}")
    ready = {"status": "ready", "entries": len(running.worklist), "revision": running.revision}
    return _json(ready, media_type="application/json")


async def metrics(running: Running, request: Request) -> Response:
    """Answer GET /metrics."""
    return Response(metrics_text(running, await running.report()), media_type=CONTENT_TYPE)


async def openapi(running: Running, request: Request) -> Response:
    """Answer GET /openapi.json."""
    return _json(document(), media_type="application/json")


async def show_page(running: Running, request: Request) -> Response:
    """Answer GET /."""
    report = await running.report(associations=True)
    html, status, headers = render_page(running, report, request.query_params.multi_items())
    return HTMLResponse(html, status, headers)


_HANDLERS: Final[dict[str, Handler]] = {
    handler.__name__: handler
    for handler in (
        *(list_entries, put_entries, get_entry, put_entry, remove_entry, set_status, explain_query),
        *(reload, healthz, readyz, metrics, openapi, show_page),
    )
}
