"""The orders of a message: which segments speak of one scheduled procedure step."""

from __future__ import annotations

from typing import Final

from .message import Message, Segment
from .rules import Scope

__all__ = ["cut_orders"]

_FIRST_OF_MESSAGE: Final = frozenset({"MSH", "SFT", "UAC", "EVN", "PID", "PD1", "PV1", "PV2", "AL1", "GT1", "IN1"})


def cut_orders(message: Message, appointment: bool) -> list[Scope]:
    """Cut a message into the parts that are one step each: ORC and OBR, with IPC in an OMI; AIS in an SIU."""
    if appointment:
        return _cut(message, message.segments, "AIS", shared=("SCH", "TQ1", "RGS")) if message.first("SCH") else []
    found: list[Scope] = []
    for segments in _orders(message):
        names = [segment.name for segment in segments]
        if "IPC" in names:
            found += _cut(message, segments, "IPC", shared=None)
        elif names.count("OBR") > 1:
            found += _cut(message, segments, "OBR", shared=("ORC", "TQ1"))
        else:
            found.append(Scope(message, segments, segments[0].sequence))
    return found


def _orders(message: Message) -> list[list[Segment]]:
    """Split at ORC, or at OBR if a sender leaves ORC out."""
    mark = "ORC" if message.first("ORC") else "OBR"
    found: list[list[Segment]] = []
    for segment in message.segments:
        if segment.name == mark:
            found.append([segment])
        elif found and segment.name not in _FIRST_OF_MESSAGE:
            found[-1].append(segment)
    return found


def _cut(message: Message, segments: list[Segment], mark: str, shared: tuple[str, ...] | None) -> list[Scope]:
    """Cut at each `mark`; the segments before the first one, or those named, belong to all parts."""
    starts = [at for at, segment in enumerate(segments) if segment.name == mark]
    if not starts:
        return [Scope(message, [one for one in segments if one.name not in _FIRST_OF_MESSAGE])]
    stops = [*starts[1:], len(segments)]
    common = [one for one in segments[: starts[0]] if shared is None or one.name in shared]
    if shared is None:  # what stands behind the last IPC, as OBX does, is of the whole order
        last = starts[-1] + 1
        common += segments[last:]
        stops[-1] = last
    return [
        Scope(message, [*common, *segments[start:stop]], segments[start].sequence)
        for start, stop in zip(starts, stops, strict=True)
    ]
