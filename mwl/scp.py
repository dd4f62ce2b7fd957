"""The C-FIND SCP, PS3.4 K.4.1: from a request and the configuration to the responses."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date, datetime
from itertools import islice
from typing import Final

import dulproto
from dulproto import Answer, CommandField, Operation, Status

from .answers import CACHES_ARE_ON, CANDIDATES_AT_ONCE, MATCHES_AT_ONCE, SENT_WHOLE, AnswerCache, KeptAnswer, Question
from .config import Config, Policy
from .query import IdentifierError, Query, compile_query
from .rules import Rules
from .slot import Slot
from .worklist import Search, Worklist, in_order, merged

__all__ = ["Provider"]

logger = logging.getLogger("mwl")

_MATCHES_A_STEP: Final = 8  # new ones take 0.3 ms
_MATCHES_A_PIECE: Final = 64  # of a long answer that is kept
_LONGEST_KEPT: Final = 16 << 20

# Modalities poll with equal bytes.  A longer identifier is no poll, and not worth the memory.
_CACHED_IDENTIFIERS: Final = 4096
_CACHED_IDENTIFIER_BYTES: Final = 4096
_CACHED_RULES: Final = 4096


class Provider:
    """Answers queries on a worklist; the configuration may be replaced at any time.

    `now` tells the local time of the site: "today" in a query, in a filter and in an age is its date.
    """

    def __init__(self, worklist: Worklist, config: Config, now: Callable[[], datetime] = datetime.now) -> None:
        self.worklist = worklist
        self.now = now
        self.source_is_down = False  # the worklist may list what has been cancelled meanwhile
        self.answers = AnswerCache()
        self.use(config)

    def use(self, config: Config) -> None:
        """Answer by another configuration from now on."""
        self.config = config
        self._rules: dict[tuple[Policy, str], Rules] = {}
        self._queries: dict[tuple[bytes, str, Rules], Query] = {}
        self.answers.clear()

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
        answer = self.answers.get(key)
        if answer is not None and answer.is_good():
            return _sent(answer, operation)
        try:
            query = self._query(operation, rules)
        except IdentifierError as exc:
            logger.warning("%s: query refused, %04XH: %s", _caller(operation), exc.status, exc.comment)
            return [operation.final(exc.status, error_comment=exc.comment, offending_element=exc.offending or None)]
        question = Question(query, rules, transfer_syntax, template)
        search = question.search(self.worklist, now)

        def keep(segments: list[bytes], status: int, slots: Sequence[Slot] | None) -> KeptAnswer:
            made = KeptAnswer(question, self, segments, status, slots, today, version)
            if len(identifier) <= _CACHED_IDENTIFIER_BYTES and made.size <= _LONGEST_KEPT:
                self.answers.put(key, made)
            return made

        if len(search.candidates) <= CANDIDATES_AT_ONCE:
            slots = in_order(search.all())
            number, status = question.limit(len(slots))
            if number <= MATCHES_AT_ONCE:
                segments = question.segments(slots[:number], status, question.encoder(today))
                return _sent(keep(segments, status, slots), operation)
        return _at_length(operation, question, search, today, keep)

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


def _sent(answer: KeptAnswer, operation: Operation) -> Iterable[bytes] | Answer:
    """Send a short answer whole, a long one piece by piece."""
    return answer if answer.length <= SENT_WHOLE else answer.pieces(operation, _MATCHES_A_PIECE)


def _at_length(
    operation: Operation,
    question: Question,
    search: Search,
    today: date,
    keep: Callable[[list[bytes], int, Sequence[Slot] | None], object],
) -> Iterator[bytes]:
    """Answer at length: so much at a time that nobody has to wait, and keep the answer when it is through."""
    runs = []
    for run in search.runs(CANDIDATES_AT_ONCE):
        runs.append(run)
        yield b""
    left, status = question.limit(sum(map(len, runs)))
    found, encode = merged(runs), question.encoder(today)
    final = question.segments((), status, encode)[0]
    message_id = operation.message_id.to_bytes(2, "little")
    segments, size = [b""], 0
    while True:
        some = list(islice(found, min(left, _MATCHES_A_STEP)))
        left -= len(some)
        *mine, end = question.segments(some, status, encode)
        if left:  # the final response that follows these is not sent
            mine[-1] = mine[-1][: len(mine[-1]) - len(final)]
        else:
            operation.final_status = status
        sent = message_id.join(mine) + (b"" if left else message_id + end)
        size += len(sent)
        if size <= _LONGEST_KEPT:
            segments[-1] += mine[0]
            segments += mine[1:]
            if not left:
                keep([*segments, end], status, None)
        yield sent
        if not left:
            return


def _caller(operation: Operation) -> str:
    return f"{operation.requestor.host} {operation.calling_ae_title} -> {operation.called_ae_title}"
