"""R-001 to R-027: who may associate, and what is negotiated."""

from __future__ import annotations

import asyncio
from pathlib import Path
from struct import pack
from typing import Any

import pytest
from outside import Serve, ask, connects, identifier
from raw_client import (
    ABORT,
    ALL_SYNTAXES,
    CT_STORAGE,
    EXPLICIT_BE,
    EXPLICIT_LE,
    IMPLICIT_LE,
    JPEG,
    RELEASE_RP,
    RELEASE_RQ,
    WORKLIST,
    Accepted,
    Rejected,
    associate_rq,
    cancel_rq,
    counted,
    echo_rq,
    element,
    find_rq,
    item,
    maximum_length,
    message,
    pdu,
    raw_client,
)
from samples import entry

import dulproto
from dulproto import MODALITY_WORKLIST_FIND, VERIFICATION
from mwl.config import from_table

PATIENT_NAME = element(0x00100010, b"")
CALLED_AE_TITLE, CALLING_AE_TITLE = Rejected((1, 1, 7)), Rejected((1, 1, 3))
LOCAL_LIMIT, CONGESTION = Rejected((2, 3, 2)), Rejected((2, 3, 1))


async def negotiated(port: int, request: bytes) -> Accepted:
    async with raw_client(port) as client:
        answer = await client.associate(request)
    assert isinstance(answer, Accepted), answer
    return answer


async def refusal(port: int, request: bytes) -> Accepted | Rejected | int:
    """What comes in answer to an association request."""
    async with raw_client(port) as client:
        return await client.associate(request)


async def test_R_001_the_provider_opens_no_connection(serve: Serve) -> None:
    site = await serve(entry(1), tables={"remote": [{"title": "CT1", "hosts": ["127.0.0.1"]}]})
    connects.clear()
    answer = await site.find({"Modality": "CT"})
    site.put(entry(2))
    assert len((await site.find({"Modality": "CT"})).steps) == len(answer.steps) + 1
    assert connects == [("127.0.0.1", site.port)] * 2  # the two of this client


async def test_R_002_two_worklists_share_a_port_and_have_lists_of_their_own(serve: Serve) -> None:
    filters = {"CT_LIST": {"modality": ["CT"]}, "MR_LIST": {"modality": ["MR"]}}
    ae = [{"title": title, "filter": each, "max_associations": 1} for title, each in filters.items()]
    site = await serve(entry(1), entry(2, modality="MR"), tables={"ae": ae})
    async with site.connect("CT_LIST") as ct, site.connect("MR_LIST") as mr:
        assert (await ask(ct, identifier({}))).steps == ["SPS1"]
        assert (await ask(mr, identifier({}))).steps == ["SPS2"]
        assert await refusal(site.port, associate_rq("CT_LIST")) == LOCAL_LIMIT


async def test_R_002_a_worklist_that_is_taken_away_refuses_queries_and_the_association_lives_on(
    serve: Serve, tmp_path: Path
) -> None:
    site = await serve(entry(1), entry(2, modality="MR"), tables={"ae": [{"title": "OLD"}, {"title": "NEW"}]})
    async with site.connect("OLD") as association, site.connect("NEW") as other:
        filtered = {"title": "NEW", "filter": {"modality": ["MR"]}}
        await site.running.use(from_table({"ae": [filtered]}, base=tmp_path))
        refused = await ask(association, identifier({}))
        assert (refused.statuses, refused.comment) == ([0x0124], "this worklist is no longer offered")
        assert await association.c_echo() == 0
        assert (await ask(other, identifier({"ScheduledProcedureStepID": ""}))).steps == ["SPS2"]
    assert await refusal(site.port, associate_rq("OLD")) == CALLED_AE_TITLE


@pytest.mark.parametrize("syntax", ALL_SYNTAXES)
async def test_R_003_worklist_and_verification_are_accepted_and_nothing_else(serve: Serve, syntax: str) -> None:
    site = await serve()
    abstract = ["1.2.840.10008.1.1", WORKLIST, CT_STORAGE, "1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.3.1.2.3.3"]
    contexts = [(2 * n + 1, each, [syntax]) for n, each in enumerate(abstract)]
    answer = await negotiated(site.port, associate_rq(contexts=contexts))
    assert [result for result, _ in answer.contexts.values()] == [0, 0, 3, 3, 3]


async def test_R_004_no_extended_negotiation_whatever_is_proposed(serve: Serve) -> None:
    site = await serve()
    uid = counted(WORKLIST.encode())
    offered = [
        maximum_length(16384),
        item(0x52, b"1.2.3"),
        item(0x53, pack(">HH", 8, 8)),
        item(0x54, uid + b"\1\1"),
        item(0x55, b"TEST"),
        item(0x56, uid + b"\1\1\1\1"),
        item(0x57, uid + uid + counted(b"")),
        item(0x58, b"\1\1" + counted(b"somebody") + counted(b"")),
    ]
    answer = await negotiated(site.port, associate_rq(user_items=b"".join(offered)))
    assert sorted(answer.user_items) == [0x51, 0x52, 0x55]


@pytest.mark.parametrize(
    ("called", "expected"),
    [
        ("WORKLIST", Accepted),
        ("  WORKLIST", Accepted),
        ("WORKLIST  ", Accepted),
        ("WRONG", CALLED_AE_TITLE),
        ("worklist", CALLED_AE_TITLE),
        ("WORK LIST", CALLED_AE_TITLE),
        ("", CALLED_AE_TITLE),
    ],
)
async def test_R_010_a_called_title_that_is_not_ours_is_rejected(
    serve: Serve, called: str, expected: type[Accepted] | Rejected
) -> None:
    site = await serve()
    answer = await refusal(site.port, associate_rq(called))
    assert answer == expected or type(answer) is expected


@pytest.mark.parametrize(
    ("dicom", "expected"),
    [
        ({"known_hosts": ["10.1.2.3"]}, CALLING_AE_TITLE),
        ({"known_hosts": ["10.0.0.0/8", "no-such-host.invalid"]}, CALLING_AE_TITLE),
        ({"known_hosts": ["127.0.0.0/8"]}, Accepted),
        ({"known_hosts": ["localhost"]}, Accepted),
        ({"known_hosts": [], "check_hosts": False}, Accepted),
    ],
)
async def test_R_011_hosts_that_are_not_known_are_rejected_unless_the_check_is_lifted(
    serve: Serve, dicom: dict[str, Any], expected: type[Accepted] | Rejected
) -> None:
    site = await serve(tables={"dicom": dicom})
    answer = await refusal(site.port, associate_rq())
    assert answer == expected or type(answer) is expected


async def test_R_011_a_permanent_reason_comes_before_a_transient_one(serve: Serve) -> None:
    site = await serve(tables={"remote": [{"title": "CT9", "hosts": ["10.9.9.9"]}]}, max_associations=1)
    async with site.connect():
        assert await refusal(site.port, associate_rq(calling="CT9")) == CALLING_AE_TITLE
        assert await refusal(site.port, associate_rq(calling="CT8")) == LOCAL_LIMIT


async def test_R_012_calling_titles_are_checked_only_if_asked_for(serve: Serve) -> None:
    site = await serve(tables={"dicom": {"check_calling_ae_titles": True}, "remote": [{"title": "CT1"}]})
    assert isinstance(await refusal(site.port, associate_rq(calling="CT1")), Accepted)
    assert await refusal(site.port, associate_rq(calling="CT2")) == CALLING_AE_TITLE


async def test_R_012_any_calling_title_is_accepted_by_default(serve: Serve) -> None:
    site = await serve(tables={"remote": [{"title": "CT1"}]})
    assert isinstance(await refusal(site.port, associate_rq(calling="CT2")), Accepted)


async def test_R_013_the_sixth_association_is_rejected_until_one_of_five_has_ended(serve: Serve) -> None:
    site = await serve(entry(1))
    open_ones = [await site.connect() for _ in range(5)]
    assert await refusal(site.port, associate_rq()) == LOCAL_LIMIT
    assert [await association.c_echo() for association in open_ones] == [0] * 5
    await open_ones.pop().release()
    assert isinstance(await refusal(site.port, associate_rq()), Accepted)
    for association in open_ones:
        await association.release()


async def test_R_013_a_place_is_free_when_the_association_has_ended_and_not_its_socket(serve: Serve) -> None:
    site = await serve(max_associations=1)
    async with raw_client(site.port) as client:
        await client.associate()
        client.send(pdu(RELEASE_RQ, bytes(4)))
        assert (await client.pdu())[0] == RELEASE_RP
        assert isinstance(await refusal(site.port, associate_rq()), Accepted)  # though this socket is open


async def test_R_014_there_is_no_limit_over_all_worklists(serve: Serve) -> None:
    titles = [f"WORKLIST{n}" for n in range(20)]
    site = await serve(tables={"ae": [{"title": title} for title in titles]})
    open_ones = [await site.connect(title) for title in titles for _ in range(5)]
    assert len(open_ones) == 100
    assert await open_ones[-1].c_echo() == 0
    for association in open_ones:
        await association.release()


async def test_R_014_beyond_what_the_machine_can_hold_callers_are_told_to_come_again() -> None:
    server = await dulproto.serve(
        {VERIFICATION: {dulproto.CommandField.C_ECHO_RQ: dulproto.answer_echo}}, port=0, max_connections=2
    )
    async with server:
        port = server.addresses[0][1]
        async with raw_client(port) as first, raw_client(port) as second:
            assert isinstance(await first.associate(), Accepted)
            assert isinstance(await second.associate(), Accepted)
            assert await refusal(port, associate_rq()) == CONGESTION
            first.send(message(1, echo_rq()))
            assert (await first.response()).status == 0


async def test_R_014_who_asks_during_shutdown_is_told_to_come_again(serve: Serve) -> None:
    site = await serve()
    async with site.connect() as open_one, raw_client(site.port) as late:
        late.send(associate_rq()[:10])
        assert await open_one.c_echo() == 0  # so that the connection of `late` has been taken in
        closing = asyncio.create_task(site.running.server.close(5))
        assert await open_one.c_echo() == 0  # and what is open goes on
        late.send(associate_rq()[10:])
        assert (await late.pdu()) == (3, bytes((0, 2, 3, 1)))
    await closing


async def test_R_015_another_application_context_is_rejected(serve: Serve) -> None:
    site = await serve()
    request = associate_rq(application_context="1.2.840.10008.3.1.1.2")
    assert await refusal(site.port, request) == Rejected((1, 1, 2))


@pytest.mark.parametrize(("version", "accepted"), [(1, True), (3, True), (0xFFFF, True), (2, False), (0, False)])
async def test_R_016_only_bit_0_of_the_protocol_version_counts(serve: Serve, version: int, accepted: bool) -> None:
    site = await serve()
    answer = await refusal(site.port, associate_rq(version=version))
    assert isinstance(answer, Accepted) if accepted else answer == Rejected((1, 2, 2))


def with_identity(name: bytes) -> bytes:
    identity = b"\2\1" + counted(name) + counted(b"secret")
    return associate_rq(user_items=maximum_length(16384) + item(0x52, b"1.2.3") + item(0x58, identity))


async def test_R_017_user_identity_is_ignored(serve: Serve) -> None:
    site = await serve()
    answer = await negotiated(site.port, with_identity(b"eve"))
    assert 0x59 not in answer.user_items


async def test_R_017_an_identity_that_fails_where_one_is_required_is_rejected() -> None:
    policy = dulproto.Policy(
        abstract_syntaxes={VERIFICATION: (IMPLICIT_LE,)},
        check_identity=lambda identity: b"" if identity is not None and identity.primary_field == b"adam" else None,
    )
    async with await dulproto.serve({}, port=0, policies={"WORKLIST": policy}) as server:
        port = server.addresses[0][1]
        assert await refusal(port, with_identity(b"eve")) == Rejected((1, 2, 1))
        assert await refusal(port, associate_rq()) == Rejected((1, 2, 1))
        assert (await negotiated(port, with_identity(b"adam"))).user_items[0x59] == counted(b"")


USERS = {"adam": "s3cret", "Müller": "päss", "eve": ""}


def identity(kind: int, name: str, passcode: str = "", response: int = 1) -> bytes:
    fields = bytes((kind, response)) + counted(name.encode()) + counted(passcode.encode())
    return associate_rq(user_items=maximum_length(16384) + item(0x52, b"1.2.3") + item(0x58, fields))


async def test_R_017_a_worklist_may_ask_its_callers_for_a_name_and_a_passcode(serve: Serve) -> None:
    ae = [{"title": "WORKLIST", "users": USERS, "max_associations": 1}, {"title": "OPEN"}]
    site = await serve(tables={"ae": ae})
    for right in (identity(2, "adam", "s3cret"), identity(2, "Müller", "päss"), identity(1, "eve")):
        for _ in range(2):
            assert (await negotiated(site.port, right)).user_items[0x59] == counted(b"")
    unasked = await negotiated(site.port, identity(2, "adam", "s3cret", response=0))
    assert 0x59 not in unasked.user_items
    wrong = [associate_rq(), identity(1, "adam"), identity(2, "adam", "secret"), identity(2, "adam"), identity(1, "")]
    wrong += [identity(2, "Adam", "s3cret"), identity(2, "snake", ""), identity(3, "adam"), identity(5, "eve")]
    for request in wrong:
        assert await refusal(site.port, request) == Rejected((1, 2, 1))
    await negotiated(site.port, associate_rq("OPEN"))
    async with site.connect("OPEN"):  # a wrong passcode is told before a limit
        assert await refusal(site.port, identity(2, "adam", "no")) == Rejected((1, 2, 1))


async def test_R_017_users_are_asked_for_as_soon_as_the_configuration_says_so(serve: Serve, tmp_path: Path) -> None:
    site = await serve()
    await negotiated(site.port, associate_rq())
    await site.running.use(from_table({"ae": [{"title": "WORKLIST", "users": USERS}]}, base=tmp_path))
    assert await refusal(site.port, associate_rq()) == Rejected((1, 2, 1))
    await negotiated(site.port, identity(1, "eve"))


async def test_R_017_no_log_names_a_passcode(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    site = await serve(users=USERS)
    await negotiated(site.port, identity(2, "adam", "s3cret"))
    await refusal(site.port, identity(2, "adam", "wr0ng"))
    assert "user identity" in caplog.text
    assert "s3cret" not in caplog.text
    assert "wr0ng" not in caplog.text


MALFORMED = {
    "a length that overruns": associate_rq().replace(b"\x30\0\0\x11", b"\x30\0\x0f\xff", 1),
    "no application context": pdu(1, associate_rq()[6:74] + associate_rq()[74 + 25 :]),
    "no presentation context": associate_rq(contexts=[]),
    "an even context id": associate_rq(contexts=[(2, WORKLIST, ALL_SYNTAXES)]),
    "too short for its fixed fields": pdu(1, bytes(60)),
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_R_018_a_malformed_request_is_aborted(serve: Serve, name: str) -> None:
    site = await serve()
    async with raw_client(site.port) as client:
        client.send(MALFORMED[name])
        assert await client.pdu() == (ABORT, bytes((0, 0, 0, 0)))
        client.writer.write_eof()
        assert await client.closed() == b""


async def test_R_018_a_context_id_proposed_twice_counts_once(serve: Serve) -> None:
    site = await serve()
    contexts = [(1, WORKLIST, [IMPLICIT_LE]), (1, WORKLIST, [EXPLICIT_LE])]
    request = associate_rq(contexts=contexts)
    async with raw_client(site.port) as client:
        answer = await client.associate(request)
        assert isinstance(answer, Accepted)
        client.send(message(1, find_rq(), PATIENT_NAME))
        assert [response.status for response in await client.responses()] == [0]


# --- negotiation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("syntax", ALL_SYNTAXES)
@pytest.mark.parametrize("abstract", [VERIFICATION, MODALITY_WORKLIST_FIND])
async def test_R_020_each_of_three_transfer_syntaxes_alone(serve: Serve, syntax: str, abstract: str) -> None:
    site = await serve(entry(1))
    async with site.connect(contexts=dulproto.propose(abstract, transfer_syntaxes=[syntax])) as association:
        assert association.context_for(abstract).transfer_syntax == syntax
        if abstract == VERIFICATION:
            assert await association.c_echo() == 0
        else:
            answer = await ask(association, identifier({"Modality": "CT"}, PatientName=""))
            assert answer.one.PatientName == "Doe^John1"


async def test_R_021_equal_contexts_are_all_accepted_and_each_serves_queries(serve: Serve) -> None:
    site = await serve(entry(1))
    contexts = [(n, WORKLIST, [IMPLICIT_LE]) for n in (1, 3, 5)]
    async with raw_client(site.port) as client:
        answer = await client.associate(associate_rq(contexts=contexts))
        assert isinstance(answer, Accepted)
        assert answer.contexts == dict.fromkeys((1, 3, 5), (0, IMPLICIT_LE))
        for n in (1, 3, 5):
            client.send(message(n, find_rq(n), PATIENT_NAME))
            found = await client.responses()
            assert [(response.status, response.context_id) for response in found] == [(0xFF00, n), (0, n)]


@pytest.mark.parametrize(
    ("priority", "chosen"),
    [
        (None, IMPLICIT_LE),
        (["explicit-le", "implicit-le", "explicit-be"], EXPLICIT_LE),
        (["explicit-be"], EXPLICIT_BE),
    ],
)
async def test_R_022_the_acceptor_s_priority_chooses_the_same_for_every_context(
    serve: Serve, priority: list[str] | None, chosen: str
) -> None:
    site = await serve(**({"transfer_syntaxes": priority} if priority else {}))
    offers = [[EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE], [JPEG, EXPLICIT_LE, IMPLICIT_LE, EXPLICIT_BE]]
    contexts = [(2 * n + 1, WORKLIST, offer) for n, offer in enumerate(offers)]
    answer = await negotiated(site.port, associate_rq(contexts=contexts))
    assert answer.contexts == {1: (0, chosen), 3: (0, chosen)}


async def test_R_022_the_requestor_s_order_decides_if_so_configured(serve: Serve) -> None:
    site = await serve(transfer_syntaxes=["implicit-le", "explicit-le"], requestor_order=True)
    offers = [[JPEG, EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE], [IMPLICIT_LE, EXPLICIT_LE], [EXPLICIT_BE]]
    contexts = [(2 * n + 1, WORKLIST, offer) for n, offer in enumerate(offers)]
    answer = await negotiated(site.port, associate_rq(contexts=contexts))
    assert answer.contexts == {1: (0, EXPLICIT_LE), 3: (0, IMPLICIT_LE), 5: (4, EXPLICIT_BE)}


async def test_R_023_each_context_has_its_own_result_under_its_own_id(serve: Serve) -> None:
    site = await serve(tables={"remote": [{"title": "CT9", "verification_only": True}]})
    contexts = [(7, VERIFICATION, ALL_SYNTAXES), (5, CT_STORAGE, ALL_SYNTAXES), (255, WORKLIST, [JPEG])]
    contexts.append((1, WORKLIST, ALL_SYNTAXES))
    results = {}
    for calling in ("CT1", "CT9"):
        answer = await negotiated(site.port, associate_rq(calling=calling, contexts=contexts))
        results[calling] = {n: result for n, (result, _) in answer.contexts.items()}
    assert results["CT1"] == {7: 0, 5: 3, 255: 4, 1: 0}
    assert (results["CT9"][7], results["CT9"][1]) == (0, 1)


async def test_R_023_a_caller_that_may_only_verify_is_known_by_its_title_in_any_case_where_case_is_ignored(
    serve: Serve,
) -> None:
    tables = {"dicom": {"ae_title_ignore_case": True}, "remote": [{"title": "CT9", "verification_only": True}]}
    site = await serve(tables=tables)
    for calling in ("CT9", "ct9", b"Ct9\0\0garbage"):
        answer = await negotiated(site.port, associate_rq(calling=calling))
        assert [result for result, _ in answer.contexts.values()] == [0, 1]


async def test_R_024_if_all_contexts_are_refused_the_association_is_accepted_all_the_same(serve: Serve) -> None:
    site = await serve()
    answer = await negotiated(site.port, associate_rq(contexts=[(1, CT_STORAGE, [EXPLICIT_LE])]))
    assert answer.contexts == {1: (3, EXPLICIT_LE)}


@pytest.mark.parametrize("size", [0, 1, 7, 8, 4096, 16384, 131072, 2**32 - 1])
async def test_R_025_the_maximum_length_is_echoed(serve: Serve, size: int) -> None:
    site = await serve()
    answer = await negotiated(site.port, associate_rq(user_items=maximum_length(size) + item(0x52, b"1.2.3")))
    assert answer.user_items[0x51] == pack(">I", size)


async def test_R_025_without_a_maximum_length_it_is_16384(serve: Serve) -> None:
    site = await serve()
    answer = await negotiated(site.port, associate_rq(user_items=item(0x52, b"1.2.3")))
    assert answer.user_items[0x51] == pack(">I", 16384)


@pytest.mark.parametrize("size", [8, 128, 16384, 0])
async def test_R_025_no_pdu_is_longer_than_the_peer_takes(serve: Serve, size: int) -> None:
    site = await serve(entry(1))
    async with raw_client(site.port) as client:
        await client.associate(associate_rq(user_items=maximum_length(size) + item(0x52, b"1.2.3")))
        client.send(message(3, find_rq(), PATIENT_NAME))
        assert [response.status for response in await client.responses()] == [0xFF00, 0]
        assert max(client.lengths) <= (size or 65536)


async def test_R_025_a_maximum_that_holds_no_fragment_is_aborted_at_the_first_response(serve: Serve) -> None:
    site = await serve()
    async with raw_client(site.port) as client:
        assert isinstance(await client.associate(associate_rq(user_items=maximum_length(7))), Accepted)
        client.send(message(1, echo_rq()))
        assert await client.pdu() == (ABORT, bytes(4))


async def test_R_026_the_product_s_own_implementation_is_named_unless_another_is_configured(serve: Serve) -> None:
    site = await serve()
    answer = await negotiated(site.port, associate_rq())
    assert answer.user_items[0x52].startswith(b"2.25.")
    assert answer.user_items[0x55] == b"DULPROTO_1"


async def test_R_026_the_configured_implementation_is_named(serve: Serve) -> None:
    dicom = {"implementation_class_uid": "1.2.3.4.5", "implementation_version_name": "SITE_1"}
    site = await serve(tables={"dicom": dicom})
    answer = await negotiated(site.port, associate_rq(user_items=b""))
    assert (answer.user_items[0x52], answer.user_items[0x55]) == (b"1.2.3.4.5", b"SITE_1")


async def test_R_027_a_second_query_is_answered_after_the_first(serve: Serve) -> None:
    site = await serve(*(entry(n) for n in range(1, 101)))
    async with raw_client(site.port) as client:
        await client.associate()
        client.send(message(3, find_rq(1), PATIENT_NAME), message(3, find_rq(2), PATIENT_NAME))
        answered = [response.answers for _ in range(2) for response in await client.responses()]
    assert answered == [1] * 101 + [2] * 101


async def test_R_027_of_a_waiting_query_only_a_cancel_is_looked_at(serve: Serve) -> None:
    site = await serve(*(entry(n) for n in range(1, 1501)))
    async with raw_client(site.port) as client:
        await client.associate()
        client.send(
            message(3, find_rq(1), PATIENT_NAME), message(3, find_rq(2), PATIENT_NAME), message(3, cancel_rq(2))
        )
        ends = []
        while len(ends) < 2:
            response = await client.response()
            if response.status not in (0xFF00, 0xFF01):
                ends.append((response.answers, response.status))
    assert sorted(ends) == [(1, 0), (2, 0xFE00)]
