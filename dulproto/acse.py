"""Association negotiation, PS3.8 7.1 and PS3.7 Annex D: a request and a policy give a decision.  Pure.

The decision carries the PDU to send and the reason for each part of it, fit to be shown to a person.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from .errors import AbortSource, RejectResult, RejectSource, reject_text
from .items import ContextResult, ProposedContext, UserIdentity, UserInformation
from .pdu import Abort, AssociateAc, AssociateRj, AssociateRq
from .uids import (
    APPLICATION_CONTEXT,
    EXPLICIT_BE,
    EXPLICIT_LE,
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    IMPLICIT_LE,
    uid_name,
)

ACCEPTANCE: Final = 0
USER_REJECTION: Final = 1
NO_REASON: Final = 2
ABSTRACT_SYNTAX_NOT_SUPPORTED: Final = 3
TRANSFER_SYNTAXES_NOT_SUPPORTED: Final = 4

DEFAULT_MAXIMUM_LENGTH: Final = 16384
DEFAULT_TRANSFER_SYNTAXES: Final = (IMPLICIT_LE, EXPLICIT_LE, EXPLICIT_BE)

_LOCAL_LIMIT: Final = (RejectResult.TRANSIENT, RejectSource.SERVICE_PROVIDER_PRESENTATION, 2)
CONGESTION: Final = (RejectResult.TRANSIENT, RejectSource.SERVICE_PROVIDER_PRESENTATION, 1)
_APPLICATION_CONTEXT: Final = (RejectResult.PERMANENT, RejectSource.SERVICE_USER, 2)
_CALLING_AE_TITLE: Final = (RejectResult.PERMANENT, RejectSource.SERVICE_USER, 3)
_CALLED_AE_TITLE: Final = (RejectResult.PERMANENT, RejectSource.SERVICE_USER, 7)
_USER_IDENTITY: Final = (RejectResult.PERMANENT, RejectSource.SERVICE_PROVIDER_ACSE, 1)
_PROTOCOL_VERSION: Final = (RejectResult.PERMANENT, RejectSource.SERVICE_PROVIDER_ACSE, 2)


class PresentationContext(msgspec.Struct, frozen=True, gc=False):
    """A negotiated presentation context, PS3.8 7.1.1.13-14."""

    context_id: int
    abstract_syntax: str
    transfer_syntax: str


class Requestor(msgspec.Struct, frozen=True):
    """Who asks, and what is true of this acceptor at that moment."""

    host: str = ""
    associations: Mapping[str, int] = {}  # how many are open already, by the keys of the policies
    congested: bool = False  # shutting down, or out of resources


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What one AE accepts.

    `abstract_syntaxes` maps each supported abstract syntax to its transfer syntaxes, best first; that order
    decides, the same for every context, unless `requestor_order` is set.  `refused` names the abstract syntaxes
    that a calling AE title may not use.  `check_requestor(host, calling title)` returns None, or why this requestor
    is not known.  `check_identity` gets the user identity of the request, or None, and returns the server response
    (b"" where there is none to give), or None to refuse.
    """

    abstract_syntaxes: Mapping[str, tuple[str, ...]]
    requestor_order: bool = False
    refused: Mapping[str, frozenset[str]] = {}
    ignore_case: bool = False  # of the called AE title, and of the titles in `refused`
    calling_ae_titles: frozenset[str] | None = None
    check_requestor: Callable[[str, str], str | None] | None = None
    check_identity: Callable[[UserIdentity | None], bytes | None] | None = None
    max_associations: int = 0
    refuse_duplicate_ids: bool = False
    accept_even_ids: bool = False
    implementation_class_uid: str = IMPLEMENTATION_CLASS_UID
    implementation_version_name: str = IMPLEMENTATION_VERSION_NAME


class Check(msgspec.Struct, frozen=True, gc=False):
    """One check that an association request went through."""

    name: str
    passed: bool
    detail: str


class ContextDecision(msgspec.Struct, frozen=True, gc=False):
    """How one proposed presentation context was decided.

    `considered` lists the transfer syntaxes in the order they were looked at, up to the one that won.
    """

    proposed: ProposedContext
    result: int
    transfer_syntax: str
    rule: str
    considered: tuple[str, ...] = ()


class Decision(msgspec.Struct, frozen=True):
    """The answer to an association request, and why.  `ae` is the key of the policy applied, "" if there is none."""

    pdu: AssociateAc | AssociateRj | Abort
    checks: tuple[Check, ...]
    contexts: tuple[ContextDecision, ...] = ()
    ae: str = ""

    @property
    def reason(self) -> str:
        """The check that decided, in one line for the log."""
        last = self.checks[-1]
        return f"{last.name}: {last.detail}"


class _Refused(Exception):
    """Leaves the chain of checks, never this module."""

    def __init__(self, pdu: AssociateRj | Abort) -> None:
        self.pdu = pdu


def negotiate(rq: AssociateRq, policies: Mapping[str, Policy], requestor: Requestor) -> Decision:
    """Decide on an association request, PS3.8 7.1.  Pure.

    `policies` maps called AE titles to policies; the key "*" stands for every title without one of its own.
    Checks that refuse for good come before those that refuse for now, so that a wrong configuration is never
    answered with "try later".
    """
    ae = _find_ae(rq.called_ae_title, policies)
    policy = policies.get(ae)
    checks: list[Check] = []
    try:
        response = _check_all(rq, policy, requestor, requestor.associations.get(ae, 0), checks)
        assert policy is not None  # _check_all refuses a request without one
        contexts = _decide_contexts(rq, policy, checks)
    except _Refused as refused:
        return Decision(refused.pdu, tuple(checks), ae=ae)
    offered = rq.user_information.maximum_length
    ac = AssociateAc(
        titles=rq.titles,
        presentation_contexts=tuple(
            [ContextResult(d.proposed.context_id, d.result, d.transfer_syntax) for d in contexts]
        ),
        user_information=UserInformation(
            maximum_length=DEFAULT_MAXIMUM_LENGTH if offered is None else offered,
            implementation_class_uid=policy.implementation_class_uid,
            implementation_version_name=policy.implementation_version_name,
            user_identity_response=response,
        ),
    )
    return Decision(ac, tuple(checks), tuple(contexts), ae)


def _find_ae(called: str, policies: Mapping[str, Policy]) -> str:
    """Find the key of the policy for a called AE title, "" if there is none, R-010."""
    if not called or called in policies:
        return called
    folded = called.casefold()
    same = [title for title, policy in policies.items() if policy.ignore_case and title.casefold() == folded]
    return same[0] if same else "*" if "*" in policies else ""


def _check_all(
    rq: AssociateRq, policy: Policy | None, requestor: Requestor, associations: int, checks: list[Check]
) -> bytes | None:
    """Run the checks in order; return the user identity response to send, if one was asked for."""

    def check(name: str, passed: bool, detail: str, codes: tuple[int, int, int]) -> None:
        if passed:
            checks.append(Check(name, True, detail))
            return
        checks.append(Check(name, False, f"{detail}: {reject_text(*codes)}"))
        raise _Refused(AssociateRj(*codes))

    check("protocol version", bool(rq.protocol_version & 1), f"{rq.protocol_version:04X}H", _PROTOCOL_VERSION)
    check(
        "application context",
        rq.application_context == APPLICATION_CONTEXT,
        rq.application_context,
        _APPLICATION_CONTEXT,
    )
    check("called AE title", policy is not None, repr(rq.called_ae_title), _CALLED_AE_TITLE)
    assert policy is not None  # the check above has raised otherwise
    calling = rq.calling_ae_title
    refusal = policy.check_requestor(requestor.host, calling) if policy.check_requestor else None
    check("calling host", refusal is None, refusal or requestor.host or "not checked", _CALLING_AE_TITLE)
    known = policy.calling_ae_titles is None or calling in policy.calling_ae_titles
    check("calling AE title", known, repr(calling), _CALLING_AE_TITLE)
    response: bytes | None = None
    if policy.check_identity is not None:
        identity = rq.user_information.user_identity
        response = policy.check_identity(identity)
        named = f"identity type {identity.identity_type}" if identity else "no identity"
        check("user identity", response is not None, named, _USER_IDENTITY)
        if identity is None or not identity.positive_response_requested:
            response = None
    check("congestion", not requestor.congested, "refusing" if requestor.congested else "none", CONGESTION)
    limit = policy.max_associations
    detail = f"{associations} of {limit or 'any number of'} associations open"
    check("associations", not limit or associations < limit, detail, _LOCAL_LIMIT)
    return response


def _decide_contexts(rq: AssociateRq, policy: Policy, checks: list[Check]) -> list[ContextDecision]:
    refused = _refused_to(rq.calling_ae_title, policy)
    seen: set[int] = set()
    decisions = []
    for proposed in rq.presentation_contexts:
        context_id = proposed.context_id
        fault = ""
        if not context_id & 1 and not policy.accept_even_ids:
            fault = f"context id {context_id} is even"
        elif context_id in seen and policy.refuse_duplicate_ids:
            fault = f"context id {context_id} is proposed twice"
        if fault:
            checks.append(Check("presentation contexts", False, fault))
            raise _Refused(Abort(AbortSource.SERVICE_USER))
        decisions.append(_decide_context(proposed, policy, refused, duplicate=context_id in seen))
        seen.add(context_id)
    accepted = sum(decision.result == ACCEPTANCE for decision in decisions)
    checks.append(Check("presentation contexts", True, f"{accepted} of {len(decisions)} accepted"))
    return decisions


def _refused_to(calling: str, policy: Policy) -> frozenset[str]:
    """Find the abstract syntaxes that a calling AE title may not use."""
    found = policy.refused.get(calling)
    if found is None and policy.ignore_case:
        folded = calling.casefold()
        found = next((syntaxes for title, syntaxes in policy.refused.items() if title.casefold() == folded), None)
    return found or frozenset()


def _decide_context(
    proposed: ProposedContext, policy: Policy, refused: frozenset[str], *, duplicate: bool
) -> ContextDecision:
    """Decide on one context, PS3.8 Table 9-18; every one that can be accepted is, however often it is proposed."""
    offered = proposed.transfer_syntaxes
    # A refused context carries a transfer syntax too: it means nothing, but some parsers need one.
    filler = offered[0] if offered else IMPLICIT_LE
    supported = policy.abstract_syntaxes.get(proposed.abstract_syntax)
    if duplicate:
        return ContextDecision(proposed, NO_REASON, filler, "the context id is proposed twice, the first one counts")
    if supported is None:
        name = uid_name(proposed.abstract_syntax) or "(missing)"
        return ContextDecision(proposed, ABSTRACT_SYNTAX_NOT_SUPPORTED, filler, f"{name} is not offered by this AE")
    if proposed.abstract_syntax in refused:
        name = uid_name(proposed.abstract_syntax)
        return ContextDecision(proposed, USER_REJECTION, filler, f"{name} is refused to this requestor")
    first, second = (offered, supported) if policy.requestor_order else (supported, offered)
    considered = []
    for transfer_syntax in first:
        considered.append(transfer_syntax)
        if transfer_syntax in second:
            whose = "requestor's" if policy.requestor_order else "acceptor's"
            rule = f"first in the {whose} order that the other side has"
            return ContextDecision(proposed, ACCEPTANCE, transfer_syntax, rule, tuple(considered))
    return ContextDecision(
        proposed,
        TRANSFER_SYNTAXES_NOT_SUPPORTED,
        filler,
        "none of the proposed transfer syntaxes is supported",
        tuple(considered),
    )


def negotiated_contexts(rq: AssociateRq, ac: AssociateAc) -> dict[int, PresentationContext]:
    """Return the accepted presentation contexts by id, PS3.8 7.1.1.14; the same for both sides.

    A result for an id that was never proposed is ignored, and of two items with one id the first counts.
    """
    proposed = {context.context_id: context for context in reversed(rq.presentation_contexts)}
    results = {result.context_id: result for result in reversed(ac.presentation_contexts)}
    return {
        context_id: PresentationContext(context_id, proposed[context_id].abstract_syntax, result.transfer_syntax)
        for context_id, result in sorted(results.items())
        if result.result == ACCEPTANCE and context_id in proposed
    }
