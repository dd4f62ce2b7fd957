"""Who may associate: the configuration as policies of the association layer."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from hmac import compare_digest
from typing import Final

import dulproto

from .config import Config
from .hosts import host_is_known, host_names

__all__ = ["policies", "resolve_hosts"]

logger = logging.getLogger("mwl")

_USERNAME: Final = 1
_USERNAME_AND_PASSCODE: Final = 2


def policies(config: Config, resolved: Mapping[str, Collection[str]]) -> dict[str, dulproto.Policy]:
    """Make the policy of each worklist, by its AE title; `resolved` has the addresses of each host name."""
    check = _requestor_check(config, resolved)
    verification_only = frozenset({dulproto.MODALITY_WORKLIST_FIND})
    refused = {remote.title: verification_only for remote in config.remote if remote.verification_only}
    return {
        ae.title: dulproto.Policy(
            abstract_syntaxes=dict.fromkeys(
                (dulproto.VERIFICATION, dulproto.MODALITY_WORKLIST_FIND),
                tuple(dulproto.TRANSFER_SYNTAXES[name] for name in ae.transfer_syntaxes),
            ),
            requestor_order=ae.requestor_order,
            refused=refused,
            ignore_case=config.dicom.ae_title_ignore_case,
            check_requestor=check,
            check_identity=_identity_check(ae.users),
            max_associations=ae.max_associations,
            implementation_class_uid=config.dicom.implementation_class_uid,
            implementation_version_name=config.dicom.implementation_version_name,
        )
        for ae in config.ae
    }


def _requestor_check(config: Config, resolved: Mapping[str, Collection[str]]) -> Callable[[str, str], str | None]:
    """Make the check of R-011 and R-012: the host, the calling AE title, and the one for the other."""
    known_hosts = {*config.dicom.known_hosts, *(host for remote in config.remote for host in remote.hosts)}

    @lru_cache(10_000)
    def check(host: str, calling: str) -> str | None:
        if config.dicom.check_hosts and not host_is_known(host, known_hosts, resolved):
            return f"host {host} is not known: add it to dicom.known_hosts"
        remote = config.find_remote(calling)
        if remote is None and config.dicom.check_calling_ae_titles:
            return f"calling AE title {calling!r} is not known: add a [[remote]] for it"
        if remote is not None and remote.hosts and not host_is_known(host, remote.hosts, resolved):
            return f"host {host} is not one of {calling!r}: see its [[remote]] hosts"
        return None

    return check


def _identity_check(users: Mapping[str, str]) -> Callable[[dulproto.UserIdentity | None], bytes | None] | None:
    """Make the check of R-017, PS3.7 D.3.3.7: a known user name, with its passcode if there is one."""
    passcodes = {name.encode(): passcode.encode() for name, passcode in users.items()}

    def check(identity: dulproto.UserIdentity | None) -> bytes | None:
        if identity is None or identity.identity_type not in (_USERNAME, _USERNAME_AND_PASSCODE):
            return None
        passcode = passcodes.get(identity.primary_field)
        right = passcode == b"" or compare_digest(identity.secondary_field, passcode or b"")
        return b"" if passcode is not None and right else None

    return check if users else None


async def resolve_hosts(config: Config) -> dict[str, tuple[str, ...]]:
    """Look up the addresses of the host names in a configuration; one that is not found is logged and has none."""
    loop = asyncio.get_running_loop()
    names = host_names([*config.dicom.known_hosts, *(host for remote in config.remote for host in remote.hosts)])
    resolved: dict[str, tuple[str, ...]] = {}
    for name in names:
        try:
            found = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
            resolved[name] = tuple({str(address[0]) for *_, address in found})
        except OSError as error:
            logger.warning("host name %s cannot be resolved, calls from it are rejected: %s", name, error)
            resolved[name] = ()
    return resolved
