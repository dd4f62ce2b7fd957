"""From the parameters of a URL to entries: by the matching of C-FIND, and if asked for by a modality's own rules."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

import msgspec

from dulproto import EXPLICIT_LE, KEYWORD_OF_TAG, TAG_OF_KEYWORD, ElementLimitError, encode_data_set

from ..config import Config
from ..errors import MwlError
from ..item import Fault
from ..keys import KeysError, decode_keys
from ..query import IdentifierError, Query, QueryPolicy, compile_query
from ..rules import Rules
from ..slot import Slot
from ..view import View, compile_view
from ..worklist import Worklist

__all__ = ["EVERYTHING", "Listing", "ListingError", "decode_listing", "find"]

EVERYTHING: Final = View((), ())
_CHARACTER_SET: Final = TAG_OF_KEYWORD["SpecificCharacterSet"]  # `decode_keys` adds it
_LONGEST_NAME: Final = 256  # of a key: no attribute lies that deep
_STATUS: Final = TAG_OF_KEYWORD["ScheduledProcedureStepStatus"]


class ListingError(MwlError):
    """Parameters cannot be understood: carries every fault, each with the parameter it is in."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(map(str, faults)))
        self.faults = faults


class Listing(msgspec.Struct, frozen=True):
    """What to list: a compiled query, what of the worklist is looked at, and which part of the matches is wanted."""

    identifier: bytes
    policy: QueryPolicy
    query: Query
    view: View
    limit: int | None = None
    offset: int = 0
    max_results: int = 0


def find(listing: Listing, worklist: Worklist, now: datetime) -> tuple[int, list[Slot]]:
    """Count what matches, and give the part of it that is wanted."""
    slots = worklist.match(listing.query, listing.view, now)
    if listing.max_results:
        slots = slots[: listing.max_results]
    end = None if listing.limit is None else listing.offset + listing.limit
    return len(slots), slots[listing.offset : end]


def decode_listing(parameters: Iterable[tuple[str, str]], config: Config) -> Listing:
    """Read parameters: our own have small letters, all others are keys as in `mwl.keys`.

    Raises:
        ListingError: with every fault.
    """
    faults: list[Fault] = []
    own: dict[str, str] = {}
    keys: list[str] = []
    for name, value in parameters:
        if name not in _OWN:
            keys.append(f"{name}={value}")
        elif name in own:
            faults.append(Fault(name, "is there twice"))
        else:
            own[name] = value
    limit, offset = (_number(own, name, faults) for name in ("limit", "offset"))
    wants_all = _flag(own, "all", faults)
    rules = _rules(own, config, faults)
    policy = rules.query if rules else QueryPolicy(strict=True)
    identifier = _identifier(keys, faults)
    query = _query(identifier, policy, faults)
    if query is None:
        raise ListingError(faults)
    if rules is None:  # nobody's rules: a key that they could ignore is a fault
        unused = [key for key in query.keys if key.kind in ("ignored", "unsupported") and key.tag != _CHARACTER_SET]
        faults += [Fault(key.path, key.reason) for key in unused]
    if faults:
        raise ListingError(faults)
    if rules:
        return Listing(identifier, policy, query, rules.view, limit, offset or 0, rules.max_results)
    # Who asks for a state wants to see what is in it, even if it is over.
    wants_all = wants_all or any(key.tag == _STATUS and key.condition for key in query.keys)
    return Listing(identifier, policy, query, EVERYTHING if wants_all else compile_view(), limit, offset or 0)


_OWN: Final = frozenset({"limit", "offset", "all", "ae", "remote"})


def _number(own: dict[str, str], name: str, faults: list[Fault]) -> int | None:
    text = own.get(name)
    if not text:
        return None
    if text.isascii() and text.isdigit() and len(text) <= 9:
        return int(text)
    faults.append(Fault(name, "is no number from 0 to 999999999"))
    return None


def _flag(own: dict[str, str], name: str, faults: list[Fault]) -> bool:
    text = own.get(name, "")
    if text not in ("", "true", "false"):
        faults.append(Fault(name, "is neither true nor false"))
    if text == "true" and ("ae" in own or "remote" in own):
        faults.append(Fault(name, "cannot be asked for together with ae or remote, who see what they see"))
    return text == "true"


def _rules(own: dict[str, str], config: Config, faults: list[Fault]) -> Rules | None:
    """Find the rules of the worklist, and of the modality, through whose eyes to look."""
    called, calling = own.get("ae", ""), own.get("remote", "")
    if not called and calling and len(config.ae) == 1:
        called = config.ae[0].title
    if not called:
        if calling:
            faults.append(Fault("ae", "is missing: which worklist does the remote AE call?"))
        return None
    ae = config.find_ae(called)
    if ae is None:
        faults.append(Fault("ae", f"is no worklist here, there are {', '.join(each.title for each in config.ae)}"))
        return None
    if config.policy(ae.title, calling).verification_only:
        faults.append(Fault("remote", "may verify only, it is shown no worklist"))
    return Rules.of(config.policy(ae.title, calling), calling)


def _identifier(keys: list[str], faults: list[Fault]) -> bytes:
    """Make the identifier of a query; a key that cannot be one is left out of it."""
    for key in keys:
        name = key.partition("=")[0]
        if len(name) > _LONGEST_NAME:
            faults.append(Fault(name[:20], f"has over {_LONGEST_NAME} characters"))
    keys = [key for key in keys if len(key.partition("=")[0]) <= _LONGEST_NAME]
    try:
        return encode_data_set(decode_keys(keys), EXPLICIT_LE)
    except KeysError as exc:
        faults += [Fault(name, reason) for name, _, reason in (fault.partition(": ") for fault in exc.faults)]
        return b""


def _query(identifier: bytes, policy: QueryPolicy, faults: list[Fault]) -> Query | None:
    try:
        return compile_query(identifier, EXPLICIT_LE, policy)
    except ElementLimitError:
        faults.append(Fault("keys", "have too many levels"))
    except IdentifierError as exc:
        name = next((KEYWORD_OF_TAG.get(tag, "") for tag in exc.offending), "") or "keys"
        faults.append(Fault(name, exc.comment.removeprefix(f"{name} ")))
    return None
