"""Samples with faults of every kind, and garbage: nothing raises, and the next good message is answered."""

import asyncio
from datetime import datetime
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mwl.config import Hl7
from mwl.dataset import check
from mwl.hl7.feed import NothingKnown, read_message
from mwl.hl7.mapping import load_mapping
from mwl.hl7.message import MessageError, decode_message, encode_ack
from mwl.hl7.mllp import frame, serve_hl7
from mwl.hl7.orders import make_plan
from mwl.hl7.plan import Rehearsal, lineage, unused_fields
from mwl.store import Store

FOLDER = Path(__file__).parents[1] / "hl7"
SAMPLES = [path.read_bytes() for path in sorted(FOLDER.glob("*.hl7"))]
GOOD = (FOLDER / "orm_lf.hl7").read_bytes()
MAPPING = load_mapping()
NOW = datetime(2024, 7, 5, 8, 0)


def mutated(raw: bytes, random: Random) -> bytes:
    """Damage a message as lines, systems and people do."""
    for _ in range(random.randint(1, 6)):
        at = random.randrange(len(raw) + 1)
        stop = min(len(raw), at + random.randint(1, 30))
        lines = raw.split(b"\r")
        one, other = random.randrange(len(lines)), random.randrange(len(lines))
        match random.randrange(8):
            case 0:
                raw = raw[:at] + random.randbytes(random.randint(1, 4)) + raw[at:]
            case 1:
                raw = raw[:at] + raw[stop:]
            case 2:
                raw = (
                    raw[:at] + random.choice((b"|", b"^", b"~", b"\\", b"&", b'""', b"\r", b"\n", b"\x0b")) + raw[at:]
                )
            case 3:
                raw = raw[:at]
            case 4:
                lines[one], lines[other] = lines[other], lines[one]
                raw = b"\r".join(lines)
            case 5:
                raw = b"\r".join([*lines, lines[one]])
            case 6:
                fields = lines[one].split(b"|")
                random.shuffle(fields)
                raw = b"\r".join([*lines[:one], b"|".join(fields), *lines[one + 1 :]])
            case _:
                raw = raw[:at] + raw[at:stop] * 200 + raw[stop:]
        raw = raw or b"MSH"
    return raw


@given(st.randoms(use_true_random=False))
def test_a_damaged_message_is_decided_on(random: Random) -> None:
    rehearsal = Rehearsal(NothingKnown())
    for raw in (GOOD, *(mutated(random.choice(SAMPLES), random) for _ in range(25))):
        try:
            message = read_message(raw, MAPPING)
        except MessageError:
            continue
        plan = make_plan(message, MAPPING, rehearsal, NOW)
        ack = encode_ack(message.header, plan.answer, NOW, "1", message.delimiters)
        assert plan.answer.code in ("AA", "AE", "AR")
        assert bool(plan.answer.faults) == (plan.answer.code != "AA")
        assert ack.count(b"\r") >= 2
        unused_fields(message, plan)
        for change in plan.changes:
            lineage(message.header, change)
            assert change.after is None or check(change.after) == ()
        rehearsal.take(plan)


@pytest.mark.parametrize("seed", range(5))
async def test_the_listener_answers_the_good_message_among_bad_ones(tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    store = Store(tmp_path / "worklist.db")
    server = await serve_hl7(Hl7(host="127.0.0.1", port=0), store, MAPPING)
    host, port = server.addresses[0]
    for turn in range(10):
        reader, writer = await asyncio.open_connection(host, port)
        control_id = f"GOOD-{turn}".encode()
        for _ in range(20):
            damaged = mutated(random.choice(SAMPLES), random)
            writer.write(random.choice((frame(damaged), damaged, b"\x0b" + damaged, damaged + b"\x1c")))
        writer.write(b"\x1c\r" + frame(GOOD.replace(b"|M1|", b"|" + control_id + b"|")))
        while True:
            ack = await asyncio.wait_for(reader.readuntil(b"\x1c\r"), 10)
            segment = decode_message(ack).first("MSA")
            assert segment
            assert segment.field(1) in ("AA", "AE", "AR")
            if segment.field(2) == control_id.decode():
                break
        writer.close()
        await writer.wait_closed()
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    await server.close()
    assert not [task for task in tasks if not task.done()]
    assert [check(entry) for entry in store.load()[1] if check(entry)] == []
    store.close()
