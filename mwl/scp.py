"""The C-FIND SCP, PS3.4 K.4.1: from a request and the configuration to the responses."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import lru_cache
from typing import Final

import msgspec

import dulproto
from dulproto import CommandField, Operation, Status

from .config import Config
from .key_matching import QueryPolicy
from .query import IdentifierError, Query, compile_query
from .response import ResponsePolicy, response_encoder
from .view import View, compile_view
from .worklist import Worklist

__all__ = ["Provider", "Rules"]

logger = logging.getLogger("mwl")

MATCHES_A_STEP: Final = 32  # encoded in one go: an answer of thousands must not keep others waiting

# Modalities poll with equal bytes.  A longer identifier is no poll, and not worth the memory.
_CACHED_IDENTIFIERS: Final = 4096
_CACHED_IDENTIFIER_BYTES: Final = 4096


class Rules(msgspec.Struct, frozen=True, eq=False):
    """What the configuration says for one pair of AE titles, made ready for use."""

    query: QueryPolicy
    response: ResponsePolicy
    view: View
    max_results: int
    status_at_max_results: int

    @classmethod
    def of(cls, config: Config, called: str, calling: str) -> Rules:
        """Look up the rules for a pair of AE titles."""
        policy = config.policy(called, calling)
        query = QueryPolicy.of(policy)
        if policy.use_calling_as_station:
            query = msgspec.structs.replace(query, station_ae_title=calling)
        at_limit = Status.SUCCESS if policy.at_max_results == "success" else Status.OUT_OF_RESOURCES
        return cls(
            query,
            ResponsePolicy.of(policy),
            compile_view(ae=policy.ae_filter, remote=policy.remote_filter),
            policy.max_results,
            at_limit,
        )


class Provider:
    """Answers queries on a worklist; the configuration may be replaced at any time.

    `now` tells the local time of the site: "today" in a query, in a filter and in an age is its date.
    """

    def __init__(self, worklist: Worklist, config: Config, now: Callable[[], datetime] = datetime.now) -> None:
        self.worklist = worklist
        self.now = now
        self.use(config)

    def use(self, config: Config) -> None:
        """Answer by another configuration from now on."""
        self.config = config
        self._rules: Callable[[str, str], Rules] = lru_cache(1024)(
            lambda called, calling: Rules.of(config, called, calling)
        )
        self._queries: dict[tuple[bytes, str, Rules], Query] = {}

    def services(self) -> dulproto.Services:
        """Give the handlers for the association layer."""
        return {
            dulproto.VERIFICATION: {CommandField.C_ECHO_RQ: dulproto.answer_echo},
            dulproto.MODALITY_WORKLIST_FIND: {CommandField.C_FIND_RQ: self.find},
        }

    def find(self, operation: Operation) -> Iterator[bytes]:
        """Answer a C-FIND-RQ: a pending response for each match, then the final one."""
        if not operation.message.data:
            yield operation.final(Status.IDENTIFIER_CANNOT_BE_DECODED, error_comment="identifier missing")
            return
        rules = self._rules(operation.called_ae_title, operation.calling_ae_title)
        try:
            query = self._query(operation, rules)
        except IdentifierError as exc:
            logger.warning("%s: query refused, %04XH: %s", _caller(operation), exc.status, exc.comment)
            yield operation.final(exc.status, error_comment=exc.comment, offending_element=exc.offending or None)
            return
        now = self.now()
        slots = self.worklist.match(query, rules.view, now)
        status: int = Status.SUCCESS
        if 0 < rules.max_results < len(slots):
            slots, status = slots[: rules.max_results], rules.status_at_max_results
        encode = response_encoder(query, operation.context.transfer_syntax, rules.response, now.date()).encode
        for start in range(0, len(slots), MATCHES_A_STEP):
            some = slots[start : start + MATCHES_A_STEP]
            yield b"".join([operation.pending(encode(slot), query.pending_status) for slot in some])
        yield operation.final(status)

    def _query(self, operation: Operation, rules: Rules) -> Query:
        """Compile the identifier; what had to be tolerated in it is logged then, so not again for equal bytes."""
        identifier, transfer_syntax = operation.message.data, operation.context.transfer_syntax
        cached = self._queries.get((identifier, transfer_syntax, rules))
        if cached is not None:
            return cached
        query = compile_query(identifier, transfer_syntax, rules.query)
        if query.notes:
            logger.info("%s: %s", _caller(operation), "; ".join(query.notes))
        if len(identifier) <= _CACHED_IDENTIFIER_BYTES:
            if len(self._queries) >= _CACHED_IDENTIFIERS:
                del self._queries[next(iter(self._queries))]
            self._queries[identifier, transfer_syntax, rules] = query
        return query


def _caller(operation: Operation) -> str:
    return f"{operation.requestor.host} {operation.calling_ae_title} -> {operation.called_ae_title}"
