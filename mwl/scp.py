"""The C-FIND SCP, PS3.4 K.4.1: from a request and the configuration to the responses."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Final

import msgspec

import dulproto
from dulproto import Answer, CommandField, Operation, Status

from .answers import CACHES_ARE_ON, AnswerCache, KeptAnswer
from .config import Config, Policy
from .key_matching import QueryPolicy
from .query import IdentifierError, Query, compile_query
from .response import ResponsePolicy, response_encoder
from .slot import Slot
from .view import View, compile_view
from .worklist import Worklist

__all__ = ["Provider", "Rules"]

logger = logging.getLogger("mwl")

_MATCHES_A_STEP: Final = 32  # of a long answer, encoded in one go
_KEPT_MATCHES: Final = 100  # a longer answer is not kept whole, and is sent step by step

# Modalities poll with equal bytes.  A longer identifier is no poll, and not worth the memory.
_CACHED_IDENTIFIERS: Final = 4096
_CACHED_IDENTIFIER_BYTES: Final = 4096
_CACHED_RULES: Final = 4096


class Rules(msgspec.Struct, frozen=True, eq=False):
    """What the configuration says for one pair of AE titles, made ready for use."""

    query: QueryPolicy
    response: ResponsePolicy
    view: View
    max_results: int
    status_at_max_results: int

    @classmethod
    def of(cls, policy: Policy, calling: str) -> Rules:
        """Make the rules of a pair of AE titles ready."""
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
        self.source_is_down = False  # the worklist may list what has been cancelled meanwhile
        self.use(config)

    def use(self, config: Config) -> None:
        """Answer by another configuration from now on."""
        self.config = config
        self.epoch = object()
        self._rules: dict[tuple[Policy, str], Rules] = {}
        self._queries: dict[tuple[bytes, str, Rules], Query] = {}
        self._answers = AnswerCache()

    def services(self) -> dulproto.Services:
        """Give the handlers for the association layer."""
        return {
            dulproto.VERIFICATION: {CommandField.C_ECHO_RQ: dulproto.answer_echo},
            dulproto.MODALITY_WORKLIST_FIND: {CommandField.C_FIND_RQ: self.find},
        }

    def rules(self, called: str, calling: str) -> Rules:
        """Look up the rules for a pair of AE titles; callers that nothing special is known of share theirs."""
        policy = self.config.policy(called, calling)
        key = policy, calling if policy.use_calling_as_station else ""
        rules = self._rules.get(key)
        if rules is None:
            if len(self._rules) >= _CACHED_RULES:  # calling AE titles are the callers' choice
                self._rules.clear()
            rules = self._rules[key] = Rules.of(policy, calling)
        return rules

    def find(self, operation: Operation) -> Iterable[bytes] | Answer:
        """Answer a C-FIND-RQ: a pending response for each match, then the final one."""
        if self.source_is_down:
            return [
                operation.final(Status.SOURCE_UNAVAILABLE, error_comment="the store of the worklist is not readable")
            ]
        try:
            rules = self.rules(operation.called_ae_title, operation.calling_ae_title)
        except KeyError:  # the configuration has lost this worklist while the association was open
            return [operation.final(Status.NOT_AUTHORIZED, error_comment="this worklist is no longer offered")]
        identifier, transfer_syntax = operation.message.data, operation.context.transfer_syntax
        template = operation.template
        now, version = self.now(), self.worklist.version
        today = now.date()
        key = identifier, transfer_syntax, rules, template.context_id, template.maximum_length
        answer = self._answers.get(key)
        if answer is not None and answer.is_good():
            return answer
        try:
            query = self._query(operation, rules)
        except IdentifierError as exc:
            logger.warning("%s: query refused, %04XH: %s", _caller(operation), exc.status, exc.comment)
            return [operation.final(exc.status, error_comment=exc.comment, offending_element=exc.offending or None)]
        slots = self.worklist.match(query, rules.view, now)
        if answer is not None and answer.is_of(slots, today):
            answer.version = version
            return answer
        status: int = Status.SUCCESS
        answered = slots
        if 0 < rules.max_results < len(slots):
            answered, status = slots[: rules.max_results], rules.status_at_max_results
        encode = response_encoder(query, transfer_syntax, rules.response, today).encode
        if len(answered) <= _KEPT_MATCHES:
            segments = template.segments([encode(slot) for slot in answered], query.pending_status, status)
            answer = KeptAnswer(segments, status, slots, self, today, version)
            if len(identifier) <= _CACHED_IDENTIFIER_BYTES:
                self._answers.put(key, answer)
            return answer
        return _stream(operation, answered, encode, query.pending_status, status)

    def _query(self, operation: Operation, rules: Rules) -> Query:
        """Compile the identifier; what had to be tolerated in it is logged then, so not again for equal bytes."""
        identifier, transfer_syntax = operation.message.data, operation.context.transfer_syntax
        cached = self._queries.get((identifier, transfer_syntax, rules))
        if cached is not None:
            return cached
        if not identifier:
            raise IdentifierError(Status.IDENTIFIER_CANNOT_BE_DECODED, "identifier missing")
        query = compile_query(identifier, transfer_syntax, rules.query)
        if query.notes:
            logger.info("%s: %s", _caller(operation), "; ".join(query.notes))
        if CACHES_ARE_ON and len(identifier) <= _CACHED_IDENTIFIER_BYTES:
            if len(self._queries) >= _CACHED_IDENTIFIERS:
                del self._queries[next(iter(self._queries))]
            self._queries[identifier, transfer_syntax, rules] = query
        return query


def _stream(
    operation: Operation, slots: Sequence[Slot], encode: Callable[[Slot], bytes], pending: int, status: int
) -> Iterator[bytes]:
    """Answer at length: so much at a time that nobody has to wait."""
    for start in range(0, len(slots), _MATCHES_A_STEP):
        some = slots[start : start + _MATCHES_A_STEP]
        yield b"".join([operation.pending(encode(slot), pending) for slot in some])
    yield operation.final(status)


def _caller(operation: Operation) -> str:
    return f"{operation.requestor.host} {operation.calling_ae_title} -> {operation.called_ae_title}"
