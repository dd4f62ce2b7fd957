"""What one association and one query are made of, one step after the other: nanoseconds each."""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable
from datetime import date, datetime
from typing import Any

import msgspec

from dulproto import (
    IMPLICIT_LE,
    MODALITY_WORKLIST_FIND,
    VERIFICATION,
    Association,
    Policy,
    Requestor,
    ResponseTemplate,
    Status,
    decode_command,
    decode_data_set,
    encode_command,
    encode_data_set,
    negotiate,
)
from dulproto.pdu import AssociateAc, decode_associate_rq, decode_p_data_tf, encode_associate_ac
from mwl.item import Entry
from mwl.key_matching import QueryPolicy
from mwl.query import compile_query
from mwl.response import ResponsePolicy, response_encoder
from mwl.view import View
from mwl.worklist import Worklist

from . import machine
from .canned import FIND_CONTEXT
from .probe import MAXIMUM_LENGTH, associate_rq, find_rq
from .sample import entries, queries


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--entries", type=int, default=1000, help="entries in the worklist (1000)")
    parser.add_argument("--seconds", type=float, default=0.5, help="for each step (0.5)")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    seconds = 0.02 if arguments.smoke else arguments.seconds
    machine.pin(0, machine.cores()[0])
    gc.collect()
    gc.freeze()
    return {f"{name}_ns": _nanoseconds(step, seconds) for name, step in _steps(arguments.entries).items()}


def _nanoseconds(step: Callable[[], object], seconds: float) -> float:
    """Give the median of the fastest half of some runs: what disturbs can only make them slower."""
    step()
    begin = time.perf_counter_ns()
    step()
    number = max(1, int(seconds * 1e9 / 20 / max(1, time.perf_counter_ns() - begin)))
    times = []
    for _ in range(20):
        begin = time.perf_counter_ns()
        for _ in range(number):
            step()
        times.append((time.perf_counter_ns() - begin) / number)
    return statistics.median(sorted(times)[:10])


def _steps(count: int) -> dict[str, Callable[[], object]]:
    today = date.today()
    now = datetime.combine(today, datetime.min.time())
    worklist = Worklist()
    for entry in entries(count, 25, today):
        worklist.put(entry)
    asked = queries(entries(count, 25, today), 25)
    identifier = asked[len(asked) // 2].identifier
    rq_bytes = associate_rq()
    rq = decode_associate_rq(rq_bytes)
    syntaxes = (IMPLICIT_LE,)
    policies = {"WORKLIST": Policy(abstract_syntaxes={VERIFICATION: syntaxes, MODALITY_WORKLIST_FIND: syntaxes})}
    ac = negotiate(rq, policies, Requestor("127.0.0.1")).pdu
    assert isinstance(ac, AssociateAc)
    message = find_rq(1, identifier)
    command_pdu = message[: len(message) - len(identifier) - 12]
    fragment = decode_p_data_tf(command_pdu).pdvs[0].fragment
    command = decode_command(fragment)
    policy, view = QueryPolicy(), View((), ())
    query = compile_query(identifier, IMPLICIT_LE, policy)
    slots = worklist.match(query, view, now)
    encoder = response_encoder(query, IMPLICIT_LE, ResponsePolicy(), today)
    template = ResponseTemplate(FIND_CONTEXT, 0x0020, MODALITY_WORKLIST_FIND, MAXIMUM_LENGTH)
    encoded = [encoder.encode(slot) for slot in slots]
    segments = template.segments(encoded, Status.PENDING, Status.SUCCESS)
    body = msgspec.json.encode(slots[0].entry)
    decode_entry = msgspec.json.Decoder(Entry).decode
    data_set = decode_data_set(encoded[0], IMPLICIT_LE)
    established = Association(is_requestor=False)
    established.transport_opened(0)
    established.receive_data(rq_bytes, 0)
    established.accept(ac, 0)

    def associate() -> None:
        association = Association(is_requestor=False)
        association.transport_opened(0)
        association.receive_data(rq_bytes, 0)
        association.accept(ac, 0)
        association.data_to_send()

    return {
        "nothing_but_a_call": lambda: None,
        "decode_associate_rq": lambda: decode_associate_rq(rq_bytes),
        "negotiate": lambda: negotiate(rq, policies, Requestor("127.0.0.1")),
        "encode_associate_ac": lambda: encode_associate_ac(ac),
        "association_established": associate,
        "association_receives_a_query": lambda: established.receive_data(message, 0),
        "decode_p_data_tf": lambda: decode_p_data_tf(command_pdu),
        "decode_command": lambda: decode_command(fragment),
        "encode_command": lambda: encode_command(command),
        "decode_identifier": lambda: decode_data_set(identifier, IMPLICIT_LE),
        "compile_query": lambda: compile_query(identifier, IMPLICIT_LE, policy),
        "match_25": lambda: worklist.match(query, view, now),
        "encode_data_set": lambda: encode_data_set(data_set, IMPLICIT_LE),
        "encode_response_new": lambda: encoder.encode(msgspec.structs.replace(slots[0], encoded=())),
        "encode_response_kept": lambda: encoder.encode(slots[0]),
        "frame_response": lambda: template.pending(1, encoded[0]),
        "frame_final": lambda: template.final(1, Status.SUCCESS),
        "join_answer_25": lambda: b"\0\1".join(segments),
        "segments_of_25": lambda: template.segments(encoded, Status.PENDING, Status.SUCCESS),
        "decode_entry": lambda: decode_entry(body),
    }
