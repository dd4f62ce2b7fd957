"""The running provider with its HL7 listener: what is acknowledged is listed."""

from __future__ import annotations

import asyncio
from datetime import date
from pathlib import Path

import pytest

import dulproto
from mwl.config import ConfigError, load
from mwl.hl7.mllp import frame
from mwl.keys import query_keys
from mwl.scu import Answer, find
from mwl.server import Running, ready_line, running

CONFIGURATION = """
[store]
path = "worklist.db"
[dicom]
host = "127.0.0.1"
port = 0
[hl7]
host = "127.0.0.1"
port = 0
mapping = "site.toml"
[[ae]]
title = "WORKLIST"
character_set = "ISO_IR 192"
"""
ORDER = "\r".join(
    [
        r"MSH|^~\&|RIS|HOSP|MWL|HOSP|20261124080000||ORM^O01|M1|P|2.3.1||||||UNICODE UTF-8",
        "PID|||4711^^^HOSP||Müller^Jürgen||19700102|M",
        "PV1||O",
        "ORC|NW|P1|F1||SC||1^once^^20261124093000^^R",
        "OBR|1|P1|F1|CTH^CT head^99X^CTH^CT head^99X||||||||||||||A1|RP1|SPS1||||CT",
        "ZDS|1.2.3.4^100^Application^DICOM",
    ]
)


def configured(tmp_path: Path) -> Path:
    file = tmp_path / "mwl.toml"
    file.write_text(CONFIGURATION)
    (tmp_path / "site.toml").write_text("")
    return file


async def acknowledged(provider: Running, message: str) -> str:
    assert provider.hl7 is not None
    reader, writer = await asyncio.open_connection(*provider.hl7.addresses[0])
    writer.write(frame(message.encode()))
    answer = await reader.readuntil(b"\x1c\r")
    writer.close()
    await writer.wait_closed()
    return answer.decode()


async def test_an_order_is_listed_when_it_is_acknowledged(tmp_path: Path) -> None:
    file = configured(tmp_path)
    async with running(load(file), file) as provider:
        assert " hl7=127.0.0.1:" in ready_line(provider)
        assert "MSA|AA|M1" in await acknowledged(provider, ORDER)
        assert provider.server is not None
        address = provider.server.addresses[0]
        async with dulproto.connect(*address, called_ae_title="WORKLIST") as association:
            found = [one async for one in find(association, query_keys(["PatientID=4711"]))]
    match, answer = found
    assert answer == Answer(0)
    assert not isinstance(match, Answer)
    assert match[0x00100010].raw.decode().rstrip() == "Müller^Jürgen"
    assert match[0x00400100].items[0][0x00400002].raw == date(2026, 11, 24).strftime("%Y%m%d").encode()


async def test_a_faulty_mapping_is_refused_at_a_reload_and_the_old_one_stays(tmp_path: Path) -> None:
    file = configured(tmp_path)
    async with running(load(file), file) as provider:
        (tmp_path / "site.toml").write_text("[no-such-table]\n")
        with pytest.raises(ConfigError, match="no-such-table"):
            await provider.reload()
        assert "MSA|AA|M1" in await acknowledged(provider, ORDER)
