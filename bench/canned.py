"""A server that writes prepared bytes without looking: what asyncio and uvloop can do at the most.

It reads where a PDU ends, on which presentation context it is and the message id, all at fixed places, and answers
with what another server has answered once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path
from struct import Struct
from typing import Any, NamedTuple

import uvloop

ECHO_CONTEXT, FIND_CONTEXT = 1, 3
PDU_HEADER = Struct(">BxI")
_CONTEXT = 10  # where the presentation context id of the first PDV stands
_ECHO_ID, _FIND_ID = slice(68, 70), slice(72, 74)
ASSOCIATE_RQ, P_DATA_TF, RELEASE_RQ = 1, 4, 5


class Canned(NamedTuple):
    """Prepared bytes: three PDUs, and the responses to each kind of request cut at the message ids."""

    associate_ac: bytes
    release_rp: bytes
    echo: list[bytes]
    find: list[bytes]

    def save(self, path: Path) -> None:
        """Write them to a file."""
        path.write_text(
            json.dumps(
                [
                    self.associate_ac.hex(),
                    self.release_rp.hex(),
                    [segment.hex() for segment in self.echo],
                    [segment.hex() for segment in self.find],
                ]
            )
        )

    @classmethod
    def load(cls, path: Path) -> Canned:
        """Read them from a file."""
        associate_ac, release_rp, echo, find = json.loads(path.read_text())
        return cls(
            bytes.fromhex(associate_ac),
            bytes.fromhex(release_rp),
            [bytes.fromhex(segment) for segment in echo],
            [bytes.fromhex(segment) for segment in find],
        )


class Replay(asyncio.Protocol):
    """One connection."""

    def __init__(self, canned: Canned) -> None:
        self.canned = canned
        self.rest = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self.rest:
            data = self.rest + data
        end = 6 + PDU_HEADER.unpack_from(data)[1] if len(data) >= 6 else 6
        if len(data) < end:
            self.rest = data
            return
        kind = data[0]
        if kind == P_DATA_TF and data[_CONTEXT] == FIND_CONTEXT:
            if len(data) < end + 6 or len(data) < end + 6 + PDU_HEADER.unpack_from(data, end)[1]:
                self.rest = data  # the identifier is still to come
                return
            self.transport.write(data[_FIND_ID].join(self.canned.find))
        elif kind == P_DATA_TF:
            self.transport.write(data[_ECHO_ID].join(self.canned.echo))
        elif kind == ASSOCIATE_RQ:
            self.transport.write(self.canned.associate_ac)
        elif kind == RELEASE_RQ:
            self.transport.write(self.canned.release_rp)
        self.rest = b""


async def serve(canned: Canned, port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Replay(canned), "127.0.0.1", port, backlog=4096)
    print(f"ready canned={server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.canned", description=__doc__)
    parser.add_argument("answers", type=Path, help="the prepared bytes, as `Canned.save` writes them")
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    uvloop.run(serve(Canned.load(arguments.answers), arguments.port))


if __name__ == "__main__":
    main()
