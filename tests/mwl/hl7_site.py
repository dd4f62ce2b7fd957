"""A feed over a store of its own, and messages for it."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import apsw
import msgspec

from mwl.hl7.feed import Feed, Memory, read_message
from mwl.hl7.mapping import load_mapping
from mwl.hl7.orders import make_plan
from mwl.hl7.plan import Plan, Rehearsal
from mwl.item import Entry
from mwl.store import Store

NOW = datetime(2024, 7, 5, 8, 0)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


class Site:
    """A feed over a store of its own, with a site's mapping."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = Store(folder / "worklist.db")
        self.clock = Clock()
        self.feed = Feed(self.store, load_mapping(), clock=self.clock)

    def use(self, mapping: str) -> None:
        (self.folder / "site.toml").write_text(mapping)
        self.feed.mapping = load_mapping(self.folder / "site.toml")

    def take(self, message: bytes) -> tuple[str, list[str]]:
        answer = self.feed.receive_now(message)
        return answer.code, [f"{fault.code} {fault.location}" for fault in answer.faults]

    def rehearse(self, *messages: bytes) -> list[Plan]:
        """Give what messages would do, one after another."""
        mapping, now = self.feed.mapping, self.clock.now

        def plans(connection: apsw.Connection) -> list[Plan]:
            rehearsal = Rehearsal(Memory(connection, mapping, now.timestamp()))
            found = []
            for message in messages:
                found.append(make_plan(read_message(message, mapping), mapping, rehearsal, now))
                rehearsal.take(found[-1])
            return found

        return self.store.read(plans)

    @property
    def entries(self) -> list[Entry]:
        return sorted(self.store.load()[1], key=lambda entry: entry.key)

    @property
    def entry(self) -> Entry:
        (entry,) = self.entries
        return entry


def order(
    control: str = "NW",
    *,
    control_id: str = "1",
    number: int = 1,
    patient: str = "4711^^^HOSP",
    name: str = "Muster^Erika",
    study: bool = True,
    room: str = "",
    receiver: str = "MWL|RAD",
    reason: str = "",
) -> bytes:
    obr = {1: "1", 3: f"F{number}", 4: "CT^CT", 18: f"A{number}", 19: f"RP{number}", 20: f"S{number}", 21: room}
    obr |= {24: "CT", 31: f"^{reason}" if reason else ""}
    lines = [
        f"MSH|^~\\&|RIS|HOSP|{receiver}|20240705||ORM^O01|{control_id}|P|2.3.1",
        f"PID|||{patient}||{name}",
        f"ORC|{control}||F{number}||||^^^20240705100000",
        "|".join(["OBR", *(obr.get(field, "") for field in range(1, 32))]),
        *([f"ZDS|1.2.{number}"] if study else []),
        "",
    ]
    return "\r".join(lines).encode()


def sent_at(message: bytes, time: str) -> bytes:
    return message.replace(b"|20240705|", f"|{time}|".encode(), 1)


def update(*segments: str, version: str = "2.5") -> bytes:
    return "\r".join([f"MSH|^~\\&|ADT|HOSP|||20240706||ADT^A08|u|P|{version}", *segments, ""]).encode()


def with_status(status: str) -> Callable[[Entry], Entry]:
    def change(entry: Entry) -> Entry:
        return msgspec.structs.replace(entry, step=msgspec.structs.replace(entry.step, status=status))

    return change
