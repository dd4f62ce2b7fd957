"""The example of the package docstring, as it stands there."""

from __future__ import annotations

import asyncio
import re
import socket
import sys
import textwrap
from pathlib import Path

import dulproto

EXAMPLES = [
    textwrap.dedent(block)
    for block in re.findall(r"((?:^(?: {4}.*)?\n)+)", dulproto.__doc__ or "", re.MULTILINE)
    if "import" in block
]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


async def test_the_provider_and_the_user_of_the_docstring_talk_to_each_other(tmp_path: Path) -> None:
    provider, user = EXAMPLES
    assert len((provider + user).splitlines()) <= 60
    port = free_port()
    for name, source in (("provider.py", provider), ("user.py", user)):
        (tmp_path / name).write_text(source.replace("11112", str(port)))
    serving = await asyncio.create_subprocess_exec(sys.executable, tmp_path / "provider.py")
    try:
        async with asyncio.timeout(20):
            await reachable(port)
            asking = await asyncio.create_subprocess_exec(
                sys.executable, tmp_path / "user.py", stdout=asyncio.subprocess.PIPE
            )
            out, _ = await asking.communicate()
    finally:
        serving.terminate()
        await serving.wait()
    assert out.decode().splitlines() == ["echo 0", "FF00 Doe^Jane 4711", "FF00 Roe^Rachel 0815"]


async def reachable(port: int) -> None:
    """Wait until something listens."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            await asyncio.sleep(0)
        else:
            writer.close()
            await writer.wait_closed()
            return
