"""A worklist on pynetdicom as one would write it for speed: the peer of a measurement.

Its data sets are made at the start, with the very keys that are asked for, and it finds them by look-up: what is
measured is pynetdicom, and pydicom's encoding.
"""

from __future__ import annotations

import argparse
import socket
import threading
from collections import defaultdict
from collections.abc import Iterator
from datetime import date
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import AE, _config, evt

from dulproto import MODALITY_WORKLIST_FIND, VERIFICATION
from mwl.dataset import to_dataset

from .sample import RETURN_KEYS, STEP_RETURN_KEYS, entries

SUCCESS, PENDING = 0x0000, 0xFF00


class Index:
    """Data sets by station, by modality and day, and by the beginning of the name."""

    def __init__(self, count: int, matches: int) -> None:
        self.of: defaultdict[tuple[str, ...], list[Dataset]] = defaultdict(list)
        for entry in entries(count, matches, date.today()):
            found = _restricted(to_dataset(entry))
            step = found.ScheduledProcedureStepSequence[0]
            self.of[step.ScheduledStationAETitle,].append(found)
            self.of[step.Modality, step.ScheduledProcedureStepStartDate].append(found)
            self.of[str(found.PatientName)[:6], step.Modality].append(found)

    def find(self, keys: Dataset) -> list[Dataset]:
        step = keys.ScheduledProcedureStepSequence[0]
        if station := step.ScheduledStationAETitle:
            found = self.of.get((station,), [])
        elif name := str(keys.PatientName):
            found = self.of.get((name.rstrip("*"), step.Modality), [])
        else:
            found = self.of.get((step.Modality, step.ScheduledProcedureStepStartDate), [])
        first, _, last = (step.ScheduledProcedureStepStartDate or "").partition("-")
        if not first and not last:
            return found
        return [
            each
            for each in found
            if first <= each.ScheduledProcedureStepSequence[0].ScheduledProcedureStepStartDate <= (last or first)
        ]


def _restricted(full: Dataset) -> Dataset:
    def level(of: Dataset, tags: set[int]) -> Dataset:
        out = Dataset()
        for element in of:
            if int(element.tag) in tags:
                out.add(element)
        return out

    out = level(full, {0x00080005, *RETURN_KEYS})
    out.SpecificCharacterSet = "ISO_IR 100"
    out.ScheduledProcedureStepSequence = [level(full.ScheduledProcedureStepSequence[0], set(STEP_RETURN_KEYS))]
    return out


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.pynetdicom_scp", description=__doc__)
    parser.add_argument("entries", type=int)
    parser.add_argument("matches", type=int)
    parser.add_argument("port", type=int)
    arguments = parser.parse_args()
    index = Index(arguments.entries, arguments.matches)
    _config.LOG_HANDLER_LEVEL = "none"

    def answer(event: Any) -> Iterator[tuple[int, Dataset | None]]:
        for found in index.find(event.identifier):
            yield PENDING, found

    def opened(event: Any) -> None:
        event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    ae = AE("WORKLIST")
    ae.maximum_associations = 20_000
    for uid in (VERIFICATION, MODALITY_WORKLIST_FIND):
        ae.add_supported_context(uid, ImplicitVRLittleEndian)
    handlers: list[Any] = [
        (evt.EVT_C_FIND, answer),
        (evt.EVT_C_ECHO, lambda event: SUCCESS),
        (evt.EVT_CONN_OPEN, opened),
    ]
    server = ae.start_server(("127.0.0.1", arguments.port), block=False, evt_handlers=handlers)
    assert server is not None
    assert server.socket is not None
    server.socket.listen(4096)
    print(f"ready port={arguments.port}", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
