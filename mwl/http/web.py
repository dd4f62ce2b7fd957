"""HTTP in the provider's own event loop: the listener, who may call, and what becomes of a failure.

What is served is in `rest`; nothing here knows of worklists.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hmac
import logging
import os
import socket
import traceback
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import h11
import uvicorn
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..errors import MwlError
from ..hosts import host_fault, is_loopback

__all__ = ["ListenError", "guarded", "listening", "problem", "refusal"]

logger = logging.getLogger("mwl")

# Answered to whoever asks, since what watches over a service often has no token; neither says a word of patients.
_OPEN: Final = frozenset({"/healthz", "/readyz"})
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_CONNECTIONS: Final = 200  # more are answered 503: each may hold a body in memory
HEAD_SECONDS: Final = 10.0  # from a connection, or the first byte, to the whole head of a request
IDLE_SECONDS: Final = 5  # of a connection between two requests
_END_SECONDS: Final = 5  # for answers that are under way when the provider ends


class ListenError(MwlError):
    """An address cannot be listened on."""


def problem(status: int, title: str, headers: Mapping[str, str] | None = None, **members: Any) -> JSONResponse:
    """Answer with problem details, RFC 9457."""
    content = {"title": title, "status": status, **members}
    return JSONResponse(content, status, headers, media_type="application/problem+json")


# --- who may call -------------------------------------------------------------------------------------------------


def refusal(scope: Scope, token: str) -> JSONResponse | None:
    """Say why a request is not answered; None if it may be.

    With a token the caller must have it, as Bearer or, as browsers ask for it, as the password of Basic.  Without one
    only this machine can call, and what remains is to keep out web pages that a browser on it has open: those that
    call by a host name of their own that they let point here, and those that send forms.
    """
    headers = Headers(scope=scope)
    host = headers.get("host", "")
    if scope["path"] in _OPEN:
        return None
    if token and not _has_token(headers.get("authorization", ""), token):
        schemes = 'Bearer realm="mwl", Basic realm="mwl", charset="UTF-8"'
        return problem(401, "a token is required", {"WWW-Authenticate": schemes})
    if not token and not _names_this_machine(host):
        return problem(403, f"{host or 'no host'} is not served: call 127.0.0.1 or localhost")
    origin = headers.get("origin")
    if origin and scope["method"] not in _SAFE_METHODS and origin.partition("://")[2] != host:
        return problem(403, f"web pages of {origin} may not change anything here")
    return None


def _has_token(authorization: str, token: str) -> bool:
    scheme, _, text = authorization.partition(" ")
    given = text.strip().encode("latin_1")  # as headers are decoded
    if scheme.lower() == "basic":
        try:
            given = base64.b64decode(given, validate=True).partition(b":")[2]
        except binascii.Error:
            return False
    elif scheme.lower() != "bearer":
        return False
    return hmac.compare_digest(given, token.encode())


def _names_this_machine(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return host_fault(name) is None and is_loopback(name)


# --- every request ------------------------------------------------------------------------------------------------


def guarded(app: ASGIApp, token: Callable[[], str], answered: Callable[[str, int], None]) -> ASGIApp:
    """Put the checks in front of an application, count its answers, and log where it fails.

    The application answers 500 then, and raises.  The text of an exception may be a patient's data; its place is not.
    """

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        begun = ended = False

        async def counting_send(message: Message) -> None:
            nonlocal begun, ended
            if message["type"] == "http.response.start":
                begun = True
                answered(scope["method"], message["status"])
            elif message["type"] == "http.response.body":
                ended = not message.get("more_body", False)
            await send(message)

        refused = refusal(scope, token())
        try:
            await (refused or app)(scope, receive, counting_send)
        except asyncio.CancelledError:
            logger.warning("%s http: %s cut off, since the provider ends", _peer(scope), scope["method"])
            raise
        except Exception as error:
            _log_failure(scope, error)
            if begun and not ended:
                raise ConnectionAbortedError from None  # the answer ends in the middle, and the client has to see it

    return serve


def _log_failure(scope: Scope, error: Exception) -> None:
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{frame.name} ({os.path.basename(frame.filename)}:{frame.lineno})" for frame in frames[-6:]]
    where = " > ".join(places)
    logger.error("%s http: %s failed, %s in %s", _peer(scope), scope["method"], type(error).__name__, where)
    logger.debug("the failure in full", exc_info=error)


def _peer(scope: Scope) -> str:
    return str((scope.get("client") or ("unknown",))[0])


# --- the listener -------------------------------------------------------------------------------------------------


class _Connection(H11Protocol):
    """Close a connection that sends no request: some of them would keep all others out for ever.

    uvicorn itself looks only after an answer, and then waits for a single byte.
    """

    _closing: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def _watch(self) -> None:
        if self.conn.their_state is not h11.IDLE:  # the head of a request has come
            if self._closing is not None:
                self._closing.cancel()
                self._closing = None
        elif self._closing is None:
            self._closing = self.loop.call_later(HEAD_SECONDS, self.transport.close)


def _is_no_failure(record: logging.LogRecord) -> bool:
    return record.levelno < logging.ERROR  # `guarded` logs what fails, without the text of the exception


@contextlib.asynccontextmanager
async def listening(app: ASGIApp, host: str, port: int) -> AsyncIterator[tuple[str, int]]:
    """Serve an application for the length of the block; gives the address that it listens on.

    Raises:
        ListenError: the address cannot be listened on.
    """
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    logging.getLogger("uvicorn.error").addFilter(_is_no_failure)
    config = uvicorn.Config(
        app,
        http=_Connection,
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=_END_SECONDS,
    )
    config.load()
    listener = _listen(host, port)
    address = listener.getsockname()[:2]
    # What `Server.serve` does, but for the signal handlers: the provider has its own.
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup([listener])
    ticking = asyncio.create_task(server.main_loop())
    try:
        yield address
    finally:
        server.should_exit = True
        await ticking
        await server.shutdown([listener])


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=128)
    except OSError as exc:
        reason = exc.strerror or str(exc)
        raise ListenError(f"cannot listen for HTTP on {host} port {port}: {reason}") from exc
