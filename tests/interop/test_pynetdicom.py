"""pynetdicom, unmodified: its client against our server, our client against its server, plain and over TLS."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import trustme
from peers import CT, MODALITY, PATIENT_NAME, STEP, Worklist, entry
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import ModalityWorklistInformationFind, Verification

import dulproto
from dulproto import (
    EXPLICIT_BE,
    EXPLICIT_LE,
    IMPLICIT_LE,
    MODALITY_WORKLIST_FIND,
    VERIFICATION,
    Element,
    ProposedContext,
    propose,
)

KEYS = {
    PATIENT_NAME: Element(PATIENT_NAME, "PN"),
    STEP: Element(STEP, "SQ", ({MODALITY: Element(MODALITY, "CS", CT)},)),
}


def identifier(modality: str = "CT") -> Dataset:
    step = Dataset()
    step.Modality = modality
    keys = Dataset()
    keys.PatientName = ""
    keys.ScheduledProcedureStepSequence = [step]
    return keys


@pytest.fixture(scope="module")
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """TLS for a server and for a client that demand each other's certificates."""
    authority = trustme.CA()
    server, client = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    for context, name in ((server, "localhost"), (client, "modality.example.org")):
        authority.issue_cert(name).configure_cert(context)
        authority.configure_trust(context)
    server.verify_mode = ssl.CERT_REQUIRED
    return server, client


# --- its client -------------------------------------------------------------------------------------------------


def _query(port: int, syntaxes: list[str], maximum_length: int = 16382, **options: Any) -> list[tuple[int, str]]:
    """Echo, then find; status and name of each response.

    Each on its own association: between two requests on one, pynetdicom's reactor thread may take the response to the
    second one, "Received unexpected C-FIND service message", since it has not seen yet that it is paused again.
    """
    ae = AE()
    ae.add_requested_context(Verification)
    for syntax in syntaxes:
        ae.add_requested_context(ModalityWorklistInformationFind, syntax)

    def associate() -> Any:
        association = ae.associate("localhost", port, max_pdu=maximum_length, **options)
        assert association.is_established
        return association

    association = associate()
    assert association.send_c_echo().Status == 0
    association.release()
    assert association.is_released
    association = associate()
    found = [
        (status.Status, str(data.PatientName) if data is not None else "")
        for status, data in association.send_c_find(identifier(), ModalityWorklistInformationFind)
    ]
    association.release()
    assert association.is_released
    return found


MATCHES = [(0xFF00, "Doe^Jane"), (0xFF00, "Poe^Edgar"), (0, "")]


@pytest.mark.parametrize("syntax", [IMPLICIT_LE, EXPLICIT_LE, EXPLICIT_BE])
@pytest.mark.parametrize("maximum_length", [16382, 4096, 128, 0])
async def test_its_client_echoes_finds_and_releases(syntax: str, maximum_length: int, worklist: Worklist) -> None:
    assert await asyncio.to_thread(_query, worklist.port, [syntax], maximum_length) == MATCHES


async def test_its_client_with_128_contexts_is_answered_on_the_last_one(worklist: Worklist) -> None:
    def query() -> list[int]:
        ae = AE()
        contexts = [ae_context for _ in range(128) for ae_context in _contexts()]
        association = ae.associate("127.0.0.1", worklist.port, contexts=contexts)
        assert len(association.accepted_contexts) == 128
        statuses = [s.Status for s, _ in association.send_c_find(identifier(), ModalityWorklistInformationFind)]
        association.release()
        return statuses

    assert await asyncio.to_thread(query) == [0xFF00, 0xFF00, 0]


def _contexts() -> list[Any]:
    from pynetdicom import build_context

    return [build_context(ModalityWorklistInformationFind, [IMPLICIT_LE])]


async def test_its_client_cancels(worklist: Worklist) -> None:
    worklist.entries = [entry(f"Doe^{n:06}", n, CT) for n in range(50_000)]

    def query() -> list[int]:
        ae = AE()
        ae.add_requested_context(ModalityWorklistInformationFind)
        association = ae.associate("127.0.0.1", worklist.port)
        statuses = []
        responses = association.send_c_find(identifier(), ModalityWorklistInformationFind, msg_id=7)
        for status, _ in responses:
            statuses.append(status.Status)
            if len(statuses) == 2:
                association.send_c_cancel(7, query_model=ModalityWorklistInformationFind)
        association.release()
        return statuses

    statuses = await asyncio.to_thread(query)
    assert statuses[-1] == 0xFE00
    assert worklist.produced < 50_000


async def test_its_client_is_served_over_tls(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    worklist = Worklist()
    server, client = contexts
    async with await dulproto.serve(worklist.services, port=0, ssl=server) as worklist.server:
        tls = (client, "localhost")
        assert await asyncio.to_thread(_query, worklist.port, [EXPLICIT_LE], tls_args=tls) == MATCHES


# --- its server -------------------------------------------------------------------------------------------------


@pytest.fixture
def provider() -> Iterator[Callable[..., int]]:
    """Start a server of pynetdicom; the call returns its port."""
    servers: list[Any] = []

    def find(event: Any) -> Iterator[tuple[int, Dataset | None]]:
        for number in range(event.assoc.ae.matches):
            found = identifier()
            found.PatientName = f"Doe^{number:06}"
            yield 0xFF00, found

    def start(matches: int = 2, handlers: Sequence[Any] = ((evt.EVT_C_FIND, find),), **options: Any) -> int:
        ae = AE()
        ae.matches = matches
        ae.add_supported_context(Verification)
        ae.add_supported_context(ModalityWorklistInformationFind, [IMPLICIT_LE, EXPLICIT_LE, EXPLICIT_BE])
        server = ae.start_server(("localhost", 0), block=False, evt_handlers=list(handlers), **options)
        servers.append(server)
        return int(server.server_address[1])

    yield start
    for server in servers:
        server.shutdown()


@pytest.mark.parametrize("syntax", [IMPLICIT_LE, EXPLICIT_LE, EXPLICIT_BE])
async def test_our_client_queries_its_server(syntax: str, provider: Callable[..., int]) -> None:
    port = provider()
    options = {"contexts": propose(VERIFICATION, MODALITY_WORKLIST_FIND, transfer_syntaxes=[syntax])}
    async with dulproto.connect("localhost", port, **options) as association:
        assert await association.c_echo() == 0
        found = [(status, e and e[PATIENT_NAME].raw) async for status, e in association.c_find(KEYS)]
    assert found == [(0xFF00, b"Doe^000000"), (0xFF00, b"Doe^000001"), (0, None)]


async def test_our_client_cancels_a_query_of_its_server(provider: Callable[..., int]) -> None:
    """The server waits, after two responses, for the cancel that names its request.

    A server of pynetdicom that does not wait may miss it: its reactor reads nothing as long as there is a response to
    send (dul.py, run_reactor: encode and send a primitive *or* receive a PDU), and nothing slows a handler down.  One
    that is faster than the reactor is through before the socket is looked at, however early the cancel was there.
    """
    changed = threading.Condition()

    def notice(_: Any) -> None:
        with changed:
            changed.notify_all()

    def find(event: Any) -> Iterator[tuple[int, Dataset | None]]:
        yield 0xFF00, identifier()
        yield 0xFF00, identifier()
        with changed:
            cancelled = changed.wait_for(lambda: event.is_cancelled, timeout=30)
        yield (0xFE00 if cancelled else 0xA700), None

    port = provider(handlers=[(evt.EVT_C_FIND, find), (evt.EVT_FSM_TRANSITION, notice)])
    async with dulproto.connect("localhost", port) as association:
        statuses = []
        async for status, _ in association.c_find(KEYS):
            statuses.append(status)
            if len(statuses) == 2:
                association.c_cancel()
        assert statuses == [0xFF00, 0xFF00, 0xFE00]
        assert await association.c_echo() == 0


async def test_our_client_leaves_a_query_of_its_server_and_goes_on(provider: Callable[..., int]) -> None:
    port = provider(matches=500)
    async with dulproto.connect("localhost", port) as association:
        async for _ in association.c_find(KEYS):
            break
        assert await association.c_echo() == 0


async def test_our_client_with_128_contexts_gets_them_all(provider: Callable[..., int]) -> None:
    port = provider()
    proposed = tuple(ProposedContext(i, MODALITY_WORKLIST_FIND, (EXPLICIT_LE,)) for i in range(1, 256, 2))
    async with dulproto.connect("localhost", port, contexts=proposed) as association:
        assert list(association.contexts) == list(range(1, 256, 2))
        last = association.contexts[255]
        assert len([status async for status, _ in association.c_find(KEYS, context=last)]) == 3


async def test_our_client_reaches_its_server_over_tls(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext], provider: Callable[..., int]
) -> None:
    server, client = contexts
    port = provider(ssl_context=server)
    async with dulproto.connect("localhost", port, ssl=client) as association:
        assert await association.c_echo() == 0
        assert len([status async for status, _ in association.c_find(KEYS)]) == 3


# --- TLS between us ---------------------------------------------------------------------------------------------


async def test_client_and_server_talk_over_tls_and_a_long_answer_arrives(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    server, client = contexts
    worklist = Worklist()
    worklist.entries = [entry(f"Doe^{n:06}", n, CT) for n in range(5000)]
    async with (
        await dulproto.serve(worklist.services, port=0, ssl=server) as worklist.server,
        dulproto.connect("localhost", worklist.port, ssl=client) as association,
    ):
        assert len([status async for status, _ in association.c_find(KEYS)]) == 5001


async def test_a_client_with_a_certificate_of_another_authority_is_not_let_in(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    server, _ = contexts
    stranger = ssl.create_default_context()
    trustme.CA().issue_cert("stranger.example.org").configure_cert(stranger)
    stranger.check_hostname, stranger.verify_mode = False, ssl.CERT_NONE
    worklist = Worklist()
    async with await dulproto.serve(worklist.services, port=0, ssl=server) as worklist.server:
        with pytest.raises((dulproto.AssociationAborted, OSError)):
            await dulproto.connect("localhost", worklist.port, ssl=stranger)
        assert worklist.server.associations.total() == 0


async def test_a_tls_client_on_a_plain_port_is_aborted(worklist: Worklist, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"), pytest.raises((ssl.SSLError, OSError)):
        await dulproto.connect("localhost", worklist.port, ssl=ssl.create_default_context())
    assert "a TLS client on a plain port" in caplog.text
