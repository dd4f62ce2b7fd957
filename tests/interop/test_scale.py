"""Two thousand modalities on one provider."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Iterator

import pytest
from peers import PATIENT_NAME, Worklist

import dulproto
from dulproto import Element

ASSOCIATIONS = 2000
KEYS = {PATIENT_NAME: Element(PATIENT_NAME, "PN")}


@pytest.fixture
def open_files() -> Iterator[None]:
    """Allow both ends of every connection."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * ASSOCIATIONS + 200
    assert hard == resource.RLIM_INFINITY or hard >= needed, f"{hard} open files allowed, {needed} needed"
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_2000_associations_are_idle_at_once_and_then_each_query_is_answered(
    open_files: None, worklist: Worklist
) -> None:
    async def connect() -> dulproto.ClientAssociation:
        return await dulproto.connect("127.0.0.1", worklist.port)

    async def query(association: dulproto.ClientAssociation) -> list[bytes]:
        return [e[PATIENT_NAME].raw async for _, e in association.c_find(KEYS) if e is not None]

    associations: list[dulproto.ClientAssociation] = []
    for _ in range(ASSOCIATIONS // 100):
        associations += await asyncio.gather(*[connect() for _ in range(100)])
    assert worklist.server.associations.total() == ASSOCIATIONS
    answers = await asyncio.gather(*[query(association) for association in associations])
    assert {tuple(answer) for answer in answers} == {(b"Doe^Jane", b"Roe^Rachel", b"Poe^Edgar ")}
    assert len(answers) == ASSOCIATIONS
    await asyncio.gather(*[association.release() for association in associations])
    assert worklist.server.associations.total() == 0
