"""Who may associate, and what the association layer is told of it."""

from __future__ import annotations

from typing import Any

import dulproto
from dulproto import AssociateAc, AssociateRj, AssociateRq, Decision, Requestor
from mwl.access import policies, resolve_hosts
from mwl.config import Config, from_table

RESOLVED = {"ct1.example.org": ("10.9.9.9",)}


def config(**dicom: Any) -> Config:
    return from_table(
        {
            "dicom": {"known_hosts": ["10.0.0.0/24", "ct1.example.org"], **dicom},
            "ae": [{"title": "WORKLIST", "max_associations": 2, "transfer_syntaxes": ["explicit-be", "implicit-le"]}],
            "remote": [
                {"title": "CT1", "hosts": ["192.168.1.1"]},
                {"title": "ECHO_ONLY", "verification_only": True},
            ],
        }
    )


def ask(
    made: Config, host: str = "10.0.0.1", calling: str = "ANY", called: str = "WORKLIST", associations: int = 0
) -> Decision:
    rq = AssociateRq(
        dulproto.encode_ae_titles(called, calling),
        dulproto.propose(dulproto.VERIFICATION, dulproto.MODALITY_WORKLIST_FIND),
    )
    return dulproto.negotiate(rq, policies(made, RESOLVED), Requestor(host, {"WORKLIST": associations}))


def test_R_011_a_host_of_a_known_network_is_accepted() -> None:
    assert isinstance(ask(config()).pdu, AssociateAc)


def test_R_011_a_host_that_is_not_known_is_rejected_and_the_log_says_what_to_add() -> None:
    decision = ask(config(), host="10.0.1.1")
    assert decision.pdu == AssociateRj(1, 1, 3)
    assert "add it to dicom.known_hosts" in decision.reason


def test_R_011_a_known_name_stands_for_the_addresses_it_resolves_to() -> None:
    assert isinstance(ask(config(), host="10.9.9.9").pdu, AssociateAc)


def test_R_011_the_check_can_be_lifted() -> None:
    assert isinstance(ask(config(check_hosts=False), host="203.0.113.1").pdu, AssociateAc)


def test_the_hosts_of_a_remote_are_known_hosts() -> None:
    assert isinstance(ask(config(), host="192.168.1.1", calling="CT1").pdu, AssociateAc)


def test_a_remote_with_hosts_may_call_from_them_only() -> None:
    decision = ask(config(), host="10.0.0.1", calling="CT1")
    assert decision.pdu == AssociateRj(1, 1, 3)
    assert "[[remote]] hosts" in decision.reason


def test_R_012_calling_titles_are_checked_when_asked_for() -> None:
    assert ask(config(check_calling_ae_titles=True)).pdu == AssociateRj(1, 1, 3)
    assert isinstance(ask(config(check_calling_ae_titles=True), calling="ECHO_ONLY").pdu, AssociateAc)


def test_R_013_the_limit_is_that_of_the_ae() -> None:
    assert isinstance(ask(config(), associations=1).pdu, AssociateAc)
    assert ask(config(), associations=2).pdu == AssociateRj(2, 3, 2)


def test_R_022_the_order_of_transfer_syntaxes_is_that_of_the_configuration() -> None:
    ac = ask(config()).pdu
    assert isinstance(ac, AssociateAc)
    assert {result.transfer_syntax for result in ac.presentation_contexts} == {dulproto.EXPLICIT_BE}


def test_R_023_a_remote_allowed_verification_only_gets_no_worklist() -> None:
    ac = ask(config(), calling="ECHO_ONLY").pdu
    assert isinstance(ac, AssociateAc)
    assert [result.result for result in ac.presentation_contexts] == [0, 1]


def test_R_026_the_implementation_is_the_configured_one() -> None:
    ac = ask(config(implementation_class_uid="1.2.3", implementation_version_name="SITE")).pdu
    assert isinstance(ac, AssociateAc)
    assert ac.user_information.implementation_class_uid == "1.2.3"
    assert ac.user_information.implementation_version_name == "SITE"


def test_Q_46_case_of_the_called_title_matters_unless_told_otherwise() -> None:
    assert ask(config(), called="worklist").pdu == AssociateRj(1, 1, 7)
    assert isinstance(ask(config(ae_title_ignore_case=True), called="worklist").pdu, AssociateAc)


async def test_host_names_are_resolved_and_an_unknown_one_has_no_address() -> None:
    made = config(known_hosts=["localhost", "no-such-host.invalid", "10.0.0.1"])
    resolved = await resolve_hosts(made)
    assert "127.0.0.1" in resolved["localhost"]
    assert resolved["no-such-host.invalid"] == ()
    assert "10.0.0.1" not in resolved
