"""kill -9 under a stream of orders: what was acknowledged is there, and what is sent again is there once."""

import asyncio
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

from mwl.hl7.message import decode_message
from mwl.hl7.mllp import frame
from mwl.store import Store

ROUNDS = 20
IN_FLIGHT = 12

_LISTENER = """
import asyncio, sys
from mwl.config import Hl7
from mwl.hl7.mapping import load_mapping
from mwl.hl7.mllp import serve_hl7
from mwl.store import Store

async def main():
    server = await serve_hl7(Hl7(host="127.0.0.1", port=0), Store(sys.argv[1]), load_mapping())
    print(server.addresses[0][1], flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def order(number: int) -> bytes:
    """Write an order of two steps; every other one leaves the Study Instance UID to the worklist."""
    lines = [
        f"MSH|^~\\&|RIS|HOSP|MWL|RAD|20240705||ORM^O01|M{number}|P|2.3.1",
        f"PID|||{number}^^^HOSP||Muster^Erika",
    ]
    for step in (1, 2):
        filler = f"F{number}-{step}"
        lines += [
            f"ORC|NW||{filler}||||^^^20240705100000",
            f"OBR|{step}||{filler}|CT^CT||||||||||||||A{number}|RP{number}|||||CT",
        ]
    lines += [f"ZDS|1.2.{number}"] if number % 2 else []
    return "\r".join([*lines, ""]).encode()


async def _send(
    port: int, unanswered: list[int], first: int, enough: int, process: subprocess.Popen[str]
) -> set[int]:
    """Send what has no answer yet, and then new orders, until so many are answered; then kill the listener.

    Returns the numbers that got AA; `unanswered` becomes those that were sent and got no answer.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    acknowledged: set[int] = set()
    sent = list(unanswered)
    following = first
    writer.write(b"".join(frame(order(number)) for number in sent))
    try:
        while True:
            while len(sent) - len(acknowledged) < IN_FLIGHT and len(acknowledged) < enough:
                sent.append(following)
                writer.write(frame(order(following)))
                following += 1
            answer = decode_message(await reader.readuntil(b"\x1c\r")).segments[1]
            assert answer.field(1) == "AA", answer.text
            acknowledged.add(int(answer.field(2)[1:]))
            if len(acknowledged) == enough:
                process.kill()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    writer.close()
    unanswered[:] = [number for number in sent if number not in acknowledged]
    return acknowledged


def test_every_acknowledged_order_survives_kill_9_and_none_is_there_twice(tmp_path: Path) -> None:
    path = tmp_path / "worklist.db"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}
    acknowledged: set[int] = set()
    unanswered: list[int] = []
    for turn in range(ROUNDS):
        first = max([*acknowledged, *unanswered, -1]) + 1
        command = [sys.executable, "-c", _LISTENER, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
            assert process.stdout
            port = int(process.stdout.readline())
            enough = 1 + turn * 7 % 40
            acknowledged |= asyncio.run(_send(port, unanswered, first, enough, process))
        store = Store(path)
        kept = Counter(entry.request.accession_number for entry in store.load()[1])
        store.close()
        assert {f"A{number}" for number in acknowledged} <= set(kept)
        assert set(kept.values()) == {2}, "an order is half there, or twice"
    assert len(acknowledged) >= ROUNDS
    assert set(kept) <= {f"A{number}" for number in [*acknowledged, *unanswered]}
