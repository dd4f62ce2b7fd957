"""A small worklist for peers of other makers, and what comes of running their programs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any, NamedTuple

from dulproto import (
    MODALITY_WORKLIST_FIND,
    VERIFICATION,
    CommandField,
    DataSet,
    Element,
    Operation,
    Server,
    answer_echo,
)

PATIENT_NAME, PATIENT_ID = 0x00100010, 0x00100020
STEP, MODALITY = 0x00400100, 0x00080060
CT, MR = b"CT", b"MR"


def entry(name: str, number: int, modality: bytes) -> DataSet:
    return {
        PATIENT_NAME: Element(PATIENT_NAME, "PN", name.encode()),
        PATIENT_ID: Element(PATIENT_ID, "LO", b"%06d" % number),
        STEP: Element(STEP, "SQ", ({MODALITY: Element(MODALITY, "CS", modality)},)),
    }


ENTRIES = [entry("Doe^Jane", 1, CT), entry("Roe^Rachel", 2, MR), entry("Poe^Edgar", 3, CT)]


class Worklist:
    """A provider whose entries a test may replace; it matches by modality."""

    def __init__(self) -> None:
        self.entries = ENTRIES
        self.produced = 0
        self.server: Server

    @property
    def services(self) -> Any:
        return {
            VERIFICATION: {CommandField.C_ECHO_RQ: answer_echo},
            MODALITY_WORKLIST_FIND: {CommandField.C_FIND_RQ: self.find},
        }

    @property
    def port(self) -> int:
        return self.server.addresses[0][1]

    def find(self, operation: Operation) -> Iterator[bytes]:
        keys = operation.data_set()
        step = keys.get(STEP)
        wanted = step.items[0][MODALITY].raw.strip() if step is not None and step.items else b""
        for found in self.entries:
            if wanted in (b"", found[STEP].items[0][MODALITY].raw):
                self.produced += 1
                yield operation.pending({tag: found.get(tag, key) for tag, key in keys.items()})


class Result(NamedTuple):
    code: int
    output: str


Run = Callable[..., Awaitable[Result]]
