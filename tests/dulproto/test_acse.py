from __future__ import annotations

from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from msgspec.structs import replace
from strategies import associate_rqs

from dulproto.acse import (
    DEFAULT_TRANSFER_SYNTAXES,
    Decision,
    Policy,
    PresentationContext,
    Requestor,
    negotiate,
    negotiated_contexts,
)
from dulproto.items import (
    CommonExtendedNegotiation,
    ContextResult,
    ExtendedNegotiation,
    ProposedContext,
    RoleSelection,
    UserIdentity,
    UserInformation,
    walk,
)
from dulproto.pdu import (
    Abort,
    AssociateAc,
    AssociateRj,
    AssociateRq,
    decode_associate_ac,
    decode_associate_rq,
    encode_ae_titles,
    encode_associate_ac,
    encode_associate_rq,
)
from dulproto.uids import (
    APPLICATION_CONTEXT,
    EXPLICIT_BE,
    EXPLICIT_LE,
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    IMPLICIT_LE,
    MODALITY_WORKLIST_FIND,
    VERIFICATION,
)

CT_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
JPEG = "1.2.840.10008.1.2.4.50"
MWL = MODALITY_WORKLIST_FIND
SYNTAXES = DEFAULT_TRANSFER_SYNTAXES
OFFER = {VERIFICATION: SYNTAXES, MWL: SYNTAXES}


def request(*contexts: ProposedContext, called: str = "WORKLIST", calling: str = "CT1", **fields: Any) -> AssociateRq:
    user = {name: fields.pop(name) for name in list(fields) if name in UserInformation.__struct_fields__}
    return AssociateRq(
        encode_ae_titles(called, calling),
        contexts or (ProposedContext(1, MWL, SYNTAXES),),
        UserInformation(**{"maximum_length": 16384, "implementation_class_uid": "1.2.3", **user}),
        **fields,
    )


def decide(rq: AssociateRq, requestor: Requestor | None = None, **policy: Any) -> Decision:
    """Negotiate over the wire: the request as its own bytes say it."""
    policies = {"WORKLIST": Policy(**{"abstract_syntaxes": OFFER, **policy})}
    return negotiate(decode_associate_rq(encode_associate_rq(rq)), policies, requestor or Requestor())


def accepted(rq: AssociateRq, **policy: Any) -> AssociateAc:
    """The acceptance, as the requestor reads it from the bytes."""
    pdu = decide(rq, **policy).pdu
    assert isinstance(pdu, AssociateAc)
    return decode_associate_ac(encode_associate_ac(pdu))


def rejected(decision: Decision, *codes: int) -> bool:
    return decision.pdu == AssociateRj(*codes)


def acceptable(rq: AssociateRq) -> AssociateRq:
    """The same request with nothing in it that refuses it as a whole, but for the ids of its contexts."""
    titles = encode_ae_titles("WORKLIST", "CT1")
    return replace(rq, titles=titles, application_context=APPLICATION_CONTEXT, protocol_version=1)


def results(ac: AssociateAc) -> list[tuple[int, int]]:
    return [(result.context_id, result.result) for result in ac.presentation_contexts]


# --- abstract syntaxes and extended negotiation ------------------------------------------------------------------


def test_R_003_worklist_and_verification_are_accepted_and_nothing_else() -> None:
    ac = accepted(
        request(
            ProposedContext(1, VERIFICATION, (IMPLICIT_LE,)),
            ProposedContext(3, MWL, (IMPLICIT_LE,)),
            ProposedContext(5, CT_STORAGE, (IMPLICIT_LE,)),
            ProposedContext(7, "1.2.3.4.5", (IMPLICIT_LE,)),
        )
    )
    assert results(ac) == [(1, 0), (3, 0), (5, 3), (7, 3)]


def test_R_004_no_extended_negotiation_is_answered_whatever_was_proposed() -> None:
    rq = request(
        asynchronous_operations_window=(0, 0),
        role_selections=(RoleSelection(MWL, 1, 1),),
        extended_negotiations=(ExtendedNegotiation(MWL, b"\1\1\1\1"),),
        common_extended_negotiations=(CommonExtendedNegotiation(MWL, "1.2.840.10008.4.2"),),
        user_identity=UserIdentity(1, b"joe", positive_response_requested=True),
    )
    pdu = decide(rq).pdu
    assert isinstance(pdu, AssociateAc)
    data = encode_associate_ac(pdu)
    ((start, stop),) = [(start, stop) for kind, start, stop in walk(data, 74, len(data), "") if kind == 0x50]
    assert [kind for kind, _, _ in walk(data, start, stop, "")] == [0x51, 0x52, 0x55]


# --- refusals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("called", ["OTHER", "worklist", "WORKLIST2", "WORK LIST"])
def test_R_010_a_called_ae_title_that_is_not_configured_is_rejected_with_1_1_7(called: str) -> None:
    decision = decide(request(called=called))
    assert rejected(decision, 1, 1, 7)
    assert decision.ae == ""
    assert decision.reason == f"called AE title: {called!r}: permanent, called-AE-title-not-recognized (1/1/7)"


@pytest.mark.parametrize("raw", [b"WORKLIST", b"  WORKLIST", b"WORKLIST\0", b"   WORKLIST     "])
def test_R_010_padding_of_the_called_ae_title_is_not_significant(raw: bytes) -> None:
    rq = AssociateRq(raw.ljust(16) + b"CT1".ljust(16) + bytes(32), (ProposedContext(1, MWL, SYNTAXES),))
    assert results(accepted(rq)) == [(1, 0)]


@pytest.mark.parametrize("raw", [b" " * 16, b"\0" * 16])
def test_R_010_an_all_space_title_is_rejected_with_1_1_7_even_where_any_title_is_accepted(raw: bytes) -> None:
    rq = AssociateRq(raw + b"CT1".ljust(16) + bytes(32), (ProposedContext(1, MWL, SYNTAXES),))
    assert rejected(negotiate(rq, {"*": Policy(abstract_syntaxes=OFFER)}, Requestor()), 1, 1, 7)


def test_R_010_a_star_stands_for_every_title_without_a_policy_of_its_own() -> None:
    policies = {"WORKLIST": Policy(abstract_syntaxes=OFFER), "*": Policy(abstract_syntaxes={})}
    own = negotiate(request(), policies, Requestor())
    other = negotiate(request(called="ELSE"), policies, Requestor())
    assert (own.ae, own.contexts[0].result) == ("WORKLIST", 0)
    assert (other.ae, other.contexts[0].result) == ("*", 3)


@pytest.mark.parametrize("called", ["worklist", "WorkList"])
def test_Q_46_the_case_of_a_called_ae_title_is_ignored_where_the_policy_says_so(called: str) -> None:
    decision = decide(request(called=called), ignore_case=True)
    assert isinstance(decision.pdu, AssociateAc)
    assert decision.ae == "WORKLIST"
    assert rejected(decide(request(called="OTHER"), ignore_case=True), 1, 1, 7)


def test_Q_46_a_title_in_its_own_case_comes_before_one_that_ignores_case() -> None:
    policies = {
        "WORKLIST": Policy(abstract_syntaxes=OFFER, ignore_case=True),
        "worklist": Policy(abstract_syntaxes=OFFER),
        "*": Policy(abstract_syntaxes=OFFER),
    }
    called = ("worklist", "WORKLIST", "Worklist", "other")
    assert [negotiate(request(called=title), policies, Requestor()).ae for title in called] == [
        "worklist",
        "WORKLIST",
        "WORKLIST",
        "*",
    ]


def test_R_011_a_host_that_is_not_known_is_rejected_with_1_1_3_and_the_true_cause_is_told() -> None:
    seen = []

    def check(host: str, calling: str) -> str | None:
        seen.append((host, calling))
        return None if host == "10.0.0.1" else f"{host} is not in known_hosts"

    decision = decide(request(), Requestor(host="10.0.0.2"), check_requestor=check)
    assert rejected(decision, 1, 1, 3)
    assert decision.reason.startswith("calling host: 10.0.0.2 is not in known_hosts: permanent, calling-AE-title")
    assert isinstance(decide(request(), Requestor(host="10.0.0.1"), check_requestor=check).pdu, AssociateAc)
    assert seen == [("10.0.0.2", "CT1"), ("10.0.0.1", "CT1")]


def test_R_011_without_a_check_any_host_is_accepted() -> None:
    decision = decide(request(), Requestor(host="192.0.2.9"))
    assert isinstance(decision.pdu, AssociateAc)
    assert [(c.passed, c.detail) for c in decision.checks if c.name == "calling host"] == [(True, "192.0.2.9")]
    assert [c.detail for c in decide(request()).checks if c.name == "calling host"] == ["not checked"]


def test_R_012_a_calling_ae_title_off_the_list_is_rejected_with_1_1_3() -> None:
    assert rejected(decide(request(calling="CT2"), calling_ae_titles=frozenset({"CT1"})), 1, 1, 3)
    assert isinstance(decide(request(), calling_ae_titles=frozenset({"CT1"})).pdu, AssociateAc)
    assert isinstance(decide(request(calling="ANY")).pdu, AssociateAc)


def test_R_013_the_association_above_the_limit_is_rejected_with_2_3_2() -> None:
    assert isinstance(
        decide(request(), Requestor(associations={"WORKLIST": 4, "OTHER": 9}), max_associations=5).pdu, AssociateAc
    )
    assert isinstance(decide(request(), Requestor(associations={"OTHER": 9}), max_associations=1).pdu, AssociateAc)
    decision = decide(request(), Requestor(associations={"WORKLIST": 5}), max_associations=5)
    assert rejected(decision, 2, 3, 2)
    assert decision.reason.startswith("associations: 5 of 5 associations open")
    assert isinstance(decide(request(), Requestor(associations={"WORKLIST": 10_000})).pdu, AssociateAc)


def test_R_014_congestion_and_shutdown_are_rejected_with_2_3_1() -> None:
    assert rejected(decide(request(), Requestor(congested=True)), 2, 3, 1)


def test_R_015_another_application_context_is_rejected_with_1_1_2() -> None:
    decision = decide(request(application_context="1.2.840.10008.3.1.1.2"))
    assert rejected(decision, 1, 1, 2)
    assert "1.2.840.10008.3.1.1.2" in decision.reason


@pytest.mark.parametrize("version", [0, 2, 0xFFFE])
def test_R_016_a_protocol_version_without_bit_0_is_rejected_with_1_2_2(version: int) -> None:
    assert rejected(decide(request(protocol_version=version)), 1, 2, 2)


@pytest.mark.parametrize("version", [1, 3, 0xFFFF])
def test_R_016_other_bits_of_the_protocol_version_are_ignored(version: int) -> None:
    ac = accepted(request(protocol_version=version))
    assert ac.protocol_version == 1


def test_R_017_user_identity_is_ignored_by_default() -> None:
    ac = accepted(request(user_identity=UserIdentity(2, b"joe", b"pw", positive_response_requested=True)))
    assert ac.user_information.user_identity_response is None


def test_R_017_a_user_identity_that_the_policy_refuses_is_rejected_with_1_2_1() -> None:
    def check(identity: UserIdentity | None) -> bytes | None:
        return b"" if identity is not None and identity.secondary_field == b"pw" else None

    wrong = decide(request(user_identity=UserIdentity(2, b"joe", b"s3cret")), check_identity=check)
    assert rejected(wrong, 1, 2, 1)
    assert "s3cret" not in wrong.reason
    assert "joe" not in wrong.reason
    assert rejected(decide(request(), check_identity=check), 1, 2, 1)
    ac = accepted(request(user_identity=UserIdentity(2, b"joe", b"pw")), check_identity=check)
    assert ac.user_information.user_identity_response is None  # not asked for


@pytest.mark.parametrize("response", [b"", b"ticket"])
def test_R_017_a_response_that_was_asked_for_is_sent(response: bytes) -> None:
    ac = accepted(
        request(user_identity=UserIdentity(3, b"t", positive_response_requested=True)),
        check_identity=lambda _: response,
    )
    assert ac.user_information.user_identity_response == response
    assert accepted(request(), check_identity=lambda _: response).user_information.user_identity_response is None


@pytest.mark.parametrize("context_id", [0, 2, 128, 254])
def test_R_018_an_even_context_id_aborts_as_service_user_with_reason_0(context_id: int) -> None:
    decision = decide(request(ProposedContext(1, MWL, SYNTAXES), ProposedContext(context_id, MWL, SYNTAXES)))
    assert decision.pdu == Abort(0, 0)
    assert decision.reason == f"presentation contexts: context id {context_id} is even"
    assert not decision.checks[-1].passed


def test_R_018_tolerance_of_even_ids_accepts_and_echoes_them() -> None:
    assert results(accepted(request(ProposedContext(2, MWL, SYNTAXES)), accept_even_ids=True)) == [(2, 0)]


def test_R_018_of_two_contexts_with_one_id_the_first_counts_and_the_second_gets_result_2() -> None:
    rq = request(ProposedContext(1, MWL, SYNTAXES), ProposedContext(1, VERIFICATION, SYNTAXES))
    ac = accepted(rq)
    assert results(ac) == [(1, 0), (1, 2)]
    assert negotiated_contexts(rq, ac) == {1: PresentationContext(1, MWL, IMPLICIT_LE)}
    assert "twice" in decide(rq).contexts[1].rule


def test_R_018_strict_mode_aborts_on_two_contexts_with_one_id() -> None:
    rq = request(ProposedContext(1, MWL, SYNTAXES), ProposedContext(1, VERIFICATION, SYNTAXES))
    decision = decide(rq, refuse_duplicate_ids=True)
    assert decision.pdu == Abort(0, 0)
    assert "proposed twice" in decision.reason


_FAULTS: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any], tuple[int, int, int]]] = [
    ("protocol version", {"protocol_version": 2}, {}, {}, (1, 2, 2)),
    ("application context", {"application_context": "1.2"}, {}, {}, (1, 1, 2)),
    ("called AE title", {"called": "OTHER"}, {}, {}, (1, 1, 7)),
    ("calling host", {}, {"check_requestor": lambda *_: "unknown"}, {}, (1, 1, 3)),
    ("calling AE title", {}, {"calling_ae_titles": frozenset()}, {}, (1, 1, 3)),
    ("user identity", {}, {"check_identity": lambda _: None}, {}, (1, 2, 1)),
    ("congestion", {}, {}, {"congested": True}, (2, 3, 1)),
    ("associations", {}, {"max_associations": 1}, {"associations": {"WORKLIST": 1}}, (2, 3, 2)),
]


@pytest.mark.parametrize("first", range(len(_FAULTS)), ids=[fault[0] for fault in _FAULTS])
def test_the_checks_run_in_order_and_the_first_that_fails_decides(first: int) -> None:
    rq: dict[str, Any] = {}
    policy: dict[str, Any] = {}
    requestor: dict[str, Any] = {}
    for _, of_rq, of_policy, of_requestor, _ in _FAULTS[first:]:
        rq |= of_rq
        policy |= of_policy
        requestor |= of_requestor
    name, *_, codes = _FAULTS[first]
    decision = decide(request(**rq), Requestor(**requestor), **policy)
    assert rejected(decision, *codes)
    assert decision.checks[-1].name == name
    assert [check.passed for check in decision.checks[:-1]] == [True] * (len(decision.checks) - 1)
    assert not decision.checks[-1].passed
    asked = [fault[0] for fault in _FAULTS[:first] if fault[0] != "user identity"]  # asked only where a hook is
    assert [check.name for check in decision.checks[:-1]] == asked


# --- presentation contexts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("transfer_syntax", SYNTAXES)
@pytest.mark.parametrize("abstract_syntax", [VERIFICATION, MWL])
def test_R_020_each_of_the_three_transfer_syntaxes_alone_is_accepted(
    abstract_syntax: str, transfer_syntax: str
) -> None:
    ac = accepted(request(ProposedContext(7, abstract_syntax, (transfer_syntax,))))
    assert ac.presentation_contexts == (ContextResult(7, 0, transfer_syntax),)


def test_R_021_three_equal_contexts_are_all_accepted() -> None:
    rq = request(*[ProposedContext(number, MWL, SYNTAXES) for number in (1, 3, 5)])
    ac = accepted(rq)
    assert results(ac) == [(1, 0), (3, 0), (5, 0)]
    assert sorted(negotiated_contexts(rq, ac)) == [1, 3, 5]


def test_R_021_128_contexts_are_all_answered_in_order() -> None:
    offered = (VERIFICATION, MWL, CT_STORAGE, "1.2.3")
    rq = request(*[ProposedContext(2 * n + 1, offered[n % 4], SYNTAXES) for n in range(128)])
    ac = accepted(rq)
    assert results(ac) == [(2 * n + 1, (0, 0, 3, 3)[n % 4]) for n in range(128)]
    assert len(negotiated_contexts(rq, ac)) == 64


@pytest.mark.parametrize(
    ("offered", "priority", "chosen"),
    [
        ((EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE), SYNTAXES, IMPLICIT_LE),
        ((EXPLICIT_LE, IMPLICIT_LE), SYNTAXES, IMPLICIT_LE),
        ((EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE), (EXPLICIT_LE, IMPLICIT_LE), EXPLICIT_LE),
        ((EXPLICIT_LE, IMPLICIT_LE), (EXPLICIT_LE, IMPLICIT_LE), EXPLICIT_LE),
        ((IMPLICIT_LE,), (EXPLICIT_LE, IMPLICIT_LE), IMPLICIT_LE),
        ((JPEG, EXPLICIT_BE), SYNTAXES, EXPLICIT_BE),
        ((IMPLICIT_LE, IMPLICIT_LE), SYNTAXES, IMPLICIT_LE),
    ],
)
def test_R_022_the_acceptors_order_decides_on_the_transfer_syntax(
    offered: tuple[str, ...], priority: tuple[str, ...], chosen: str
) -> None:
    ac = accepted(request(ProposedContext(1, MWL, offered)), abstract_syntaxes={MWL: priority})
    assert ac.presentation_contexts == (ContextResult(1, 0, chosen),)


def test_R_022_the_order_is_the_same_for_every_context() -> None:
    rq = request(
        ProposedContext(1, MWL, (EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE)),
        ProposedContext(3, MWL, (EXPLICIT_LE, IMPLICIT_LE)),
        ProposedContext(5, VERIFICATION, (EXPLICIT_BE, IMPLICIT_LE)),
    )
    assert {result.transfer_syntax for result in accepted(rq).presentation_contexts} == {IMPLICIT_LE}


def test_R_022_the_requestors_order_decides_where_the_policy_says_so() -> None:
    rq = request(ProposedContext(1, MWL, (JPEG, EXPLICIT_BE, IMPLICIT_LE)))
    assert accepted(rq, requestor_order=True).presentation_contexts[0].transfer_syntax == EXPLICIT_BE
    assert decide(rq, requestor_order=True).contexts[0].considered == (JPEG, EXPLICIT_BE)
    assert "requestor's order" in decide(rq, requestor_order=True).contexts[0].rule


def test_R_022_the_decision_tells_which_transfer_syntaxes_were_looked_at_and_why_one_won() -> None:
    decision = decide(request(ProposedContext(1, MWL, (EXPLICIT_BE, EXPLICIT_LE))))
    assert decision.contexts[0].considered == (IMPLICIT_LE, EXPLICIT_LE)
    assert "acceptor's order" in decision.contexts[0].rule
    assert decision.checks[-1].detail == "1 of 1 accepted"


@pytest.mark.parametrize(
    ("proposed", "result", "filler", "rule"),
    [
        (ProposedContext(1, MWL, (IMPLICIT_LE,)), 0, IMPLICIT_LE, "first in the acceptor's order"),
        (ProposedContext(1, VERIFICATION, (EXPLICIT_LE,)), 1, EXPLICIT_LE, "Verification SOP Class is refused"),
        (ProposedContext(1, CT_STORAGE, (JPEG,)), 3, JPEG, "CT Image Storage is not offered"),
        (ProposedContext(1, "1.2.3", ()), 3, IMPLICIT_LE, "1.2.3 is not offered"),
        (ProposedContext(1, "", (JPEG,)), 3, JPEG, "(missing) is not offered"),
        (ProposedContext(1, MWL, (JPEG, "1.2")), 4, JPEG, "none of the proposed transfer syntaxes"),
        (ProposedContext(1, MWL, ()), 4, IMPLICIT_LE, "none of the proposed transfer syntaxes"),
    ],
)
def test_R_023_each_context_gets_its_result_a_transfer_syntax_and_a_reason(
    proposed: ProposedContext, result: int, filler: str, rule: str
) -> None:
    refused = {"CT1": frozenset({VERIFICATION})}
    ac = accepted(request(proposed), refused=refused)
    assert ac.presentation_contexts == (ContextResult(1, result, filler),)
    (decided,) = decide(request(proposed), refused=refused).contexts
    assert decided.proposed == proposed
    assert decided.rule.startswith(rule)


def test_R_023_what_one_requestor_may_not_use_another_may() -> None:
    refused = {"CT1": frozenset({MWL})}
    assert results(accepted(request(), refused=refused)) == [(1, 1)]
    assert results(accepted(request(calling="CT2"), refused=refused)) == [(1, 0)]


def test_R_024_an_association_with_no_context_accepted_is_still_accepted() -> None:
    rq = request(ProposedContext(1, CT_STORAGE, (IMPLICIT_LE,)), ProposedContext(3, MWL, (JPEG,)))
    ac = accepted(rq)
    assert results(ac) == [(1, 3), (3, 4)]
    assert negotiated_contexts(rq, ac) == {}


@pytest.mark.parametrize("length", [0, 1, 7, 8, 128, 4096, 16384, 131072, 2**31, 2**32 - 1])
def test_R_025_the_maximum_length_is_echoed(length: int) -> None:
    assert accepted(request(maximum_length=length)).user_information.maximum_length == length


def test_R_025_a_missing_maximum_length_is_answered_with_16384() -> None:
    assert accepted(request(maximum_length=None)).user_information.maximum_length == 16384
    bare = AssociateRq(encode_ae_titles("WORKLIST", "CT1"), (ProposedContext(1, MWL, SYNTAXES),))
    assert accepted(bare).user_information.maximum_length == 16384


def test_R_026_the_implementation_is_always_named() -> None:
    user = accepted(request()).user_information
    assert user.implementation_class_uid == IMPLEMENTATION_CLASS_UID
    assert user.implementation_version_name == IMPLEMENTATION_VERSION_NAME
    user = accepted(
        request(), implementation_class_uid="1.2.9", implementation_version_name="SITE_1"
    ).user_information
    assert (user.implementation_class_uid, user.implementation_version_name) == ("1.2.9", "SITE_1")


def test_the_acceptance_echoes_bytes_11_to_74_of_the_request() -> None:
    titles = b" WORKLIST\0\0\0\0\0\0\0" + b"ct 1" + b"\xff" * 12 + bytes(range(32))
    rq = AssociateRq(titles, (ProposedContext(1, MWL, SYNTAXES),))
    assert accepted(rq).titles == titles


@given(associate_rqs | associate_rqs.map(acceptable), st.booleans())
def test_any_request_is_decided_with_a_reason_and_each_context_is_answered_once(rq: AssociateRq, even: bool) -> None:
    decision = negotiate(rq, {"*": Policy(abstract_syntaxes=OFFER, accept_even_ids=even)}, Requestor())
    assert decision.reason
    event(type(decision.pdu).__name__)
    if isinstance(decision.pdu, AssociateAc):
        assert all(check.passed for check in decision.checks)
        answered = [result.context_id for result in decision.pdu.presentation_contexts]
        assert answered == [context.context_id for context in rq.presentation_contexts]
        for context in negotiated_contexts(rq, decision.pdu).values():
            assert context.abstract_syntax in OFFER
            assert context.transfer_syntax in SYNTAXES
    else:
        assert not decision.checks[-1].passed


# --- what both sides keep ----------------------------------------------------------------------------------------


def test_a_result_for_an_id_that_was_not_proposed_is_ignored() -> None:
    ac = AssociateAc(bytes(64), (ContextResult(3, 0, IMPLICIT_LE), ContextResult(1, 0, EXPLICIT_LE)))
    assert negotiated_contexts(request(), ac) == {1: PresentationContext(1, MWL, EXPLICIT_LE)}


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [
        (ContextResult(1, 0, IMPLICIT_LE), ContextResult(1, 0, EXPLICIT_LE), {IMPLICIT_LE}),
        (ContextResult(1, 0, IMPLICIT_LE), ContextResult(1, 3, EXPLICIT_LE), {IMPLICIT_LE}),
        (ContextResult(1, 3, IMPLICIT_LE), ContextResult(1, 0, EXPLICIT_LE), set()),
    ],
)
def test_of_two_results_with_one_id_the_first_counts(
    first: ContextResult, second: ContextResult, kept: set[str]
) -> None:
    contexts = negotiated_contexts(request(), AssociateAc(bytes(64), (first, second)))
    assert {context.transfer_syntax for context in contexts.values()} == kept
