"""The mapping: a TOML file that says how HL7 v2 messages become entries, and a site's own file over it.

It is checked as a whole, each fault named with its key and line, and compiled once.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from ..checked import decode, suggestion
from ..config import AeTitle
from ..errors import MwlError
from ..item import STATUSES
from .charset import codec_of
from .mapping_lines import with_line
from .message import Header
from .rules import NOW, STATION, Condition, FieldPath, Rule, decode_path
from .values import TARGETS, Target, constant_fault

__all__ = ["Action", "Event", "Mapping", "MappingError", "MappingRules", "Station", "default_text", "load_mapping"]

CompiledRules = tuple[tuple[Target, tuple[Rule, ...]], ...]


class MappingError(MwlError):
    """A mapping cannot be used: carries every fault, each with its key and the line of the file."""

    def __init__(self, source: str, faults: list[str]) -> None:
        super().__init__("\n".join([f"{source}:", *(f"  {fault}" for fault in faults)]))
        self.faults = faults


# --- the tables of the file ---------------------------------------------------------------------------------------


def _status_fault(status: str) -> str | None:
    return None if status in ("", *STATUSES) else f"{status!r} is none of {', '.join(STATUSES)}"


def _character_set_fault(name: str) -> str | None:
    return None if not name or codec_of(name) else f"unknown character set {name!r}"


def _zone_fault(name: str) -> str | None:
    try:
        ZoneInfo(name or "UTC")
    except (ZoneInfoNotFoundError, ValueError):
        return f"unknown time zone {name!r}"
    return None


def _path_fault(text: str) -> str | None:
    return None if decode_path(text) else f"{text!r} is no field: such as OBR-4, OBR-4.1 or PID-3.4.2"


def _required_fault(keyword: str) -> str | None:
    return None if keyword in TARGETS else f"{keyword!r} cannot be mapped{suggestion(keyword, list(TARGETS))}"


def _name_fault(name: str) -> str | None:
    return constant_fault(TARGETS["ScheduledStationName"], name) or None


def _hours_fault(hours: float) -> str | None:
    return None if hours >= 0 else "must not be negative"


Hours = Annotated[float, _hours_fault]
OrderAction = Literal["", "create", "change", "status", "ignore"]


class Action(msgspec.Struct, frozen=True, kw_only=True):
    """What is done with an order, and the status that its entries get, if any."""

    action: OrderAction
    status: Annotated[str, _status_fault] = ""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """What is done with a message of one type."""

    do: Literal["orders", "appointment", "patient", "arrive", "merge", "change_id", "ignore"]
    action: OrderAction = ""
    status: Annotated[str, _status_fault] = ""


class MappingRules(msgspec.Struct, frozen=True, kw_only=True):
    """`[rules]`: what holds for all messages; the file says what each key does."""

    default_character_set: Annotated[str, _character_set_fault] = "8859/1"
    timezone: Annotated[str, _zone_fault] = ""
    required_header: tuple[Annotated[str, _path_fault], ...] = ("MSH-9", "MSH-10")
    required: tuple[Annotated[str, _required_fault], ...] = ()
    processing_ids: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    receivers: tuple[str, ...] = ()
    patient_from_changes: bool = False
    unknown_cancel: Literal["refuse", "accept"] = "refuse"
    missing_study_uid: Literal["derive", "refuse"] = "derive"
    new_order_reopens: bool = False
    discard_older: bool = False
    duplicate_hours: Hours = 24.0
    tombstone_hours: Hours = 24.0


class Station(msgspec.Struct, frozen=True, kw_only=True):
    """`[[station]]`: where a step is done that fits all patterns."""

    application: str = "*"
    facility: str = "*"
    modality: str = "*"
    location: str = "*"
    procedure: str = "*"
    ae_titles: tuple[AeTitle, ...] = ()
    names: tuple[Annotated[str, _name_fault], ...] = ()

    def fits(self, header: Header, modality: str, location: str, procedure: str) -> bool:
        """Tell whether this is the station of a step."""
        pairs = (
            (header.application, self.application),
            (header.facility, self.facility),
            (modality, self.modality),
            (location, self.location),
            (procedure, self.procedure),
        )
        return all(pattern == "*" or fnmatchcase(value, pattern) for value, pattern in pairs)


class Sender(msgspec.Struct, frozen=True, kw_only=True):
    """`[[sender]]`: what is different for one sending application."""

    application: str = "*"
    facility: str = "*"
    character_set: Annotated[str, _character_set_fault] = ""
    attributes: dict[str, Any] = {}


class _File(msgspec.Struct, frozen=True, kw_only=True):
    events: dict[str, Event] = {}
    order_control: dict[str, Action] = {}
    rules: MappingRules = MappingRules()
    attributes: dict[str, Any] = {}
    attributes_of: dict[str, dict[str, Any]] = {}
    maps: dict[str, dict[str, str]] = {}
    station: tuple[Station, ...] = ()
    sender: tuple[Sender, ...] = ()


class _RuleTable(msgspec.Struct, frozen=True, kw_only=True):
    from_: str = msgspec.field(default="", name="from")
    value: str = ""
    when: dict[str, Any] = {}
    map: str = ""
    pattern: str = ""
    scale: float = 1.0


# --- the compiled mapping -----------------------------------------------------------------------------------------


class Mapping:
    """A mapping without faults, and its rules for each sender and type of message that came by."""

    def __init__(self, file: _File, layers: list[dict[str, dict[str, tuple[Rule, ...]]]]) -> None:
        self.events, self.order_control, self.rules = file.events, file.order_control, file.rules
        self.stations, self.senders = file.station, file.sender
        self.zone = ZoneInfo(file.rules.timezone) if file.rules.timezone else None
        self._layers = layers  # the least important first
        self._compiled: dict[tuple[int | None, str], CompiledRules] = {}

    def event(self, header: Header) -> Event | None:
        """Look up what is done with a message."""
        return self.events.get(header.type)

    def action(self, control: str, status: str) -> Action | None:
        """Look up what is done with an order, by ORC-1 and ORC-5."""
        exact = f"{control}_{status}" if status else control
        return self.order_control.get(exact) or self.order_control.get(f"{control}_*")

    def forced_character_set(self, application: str, facility: str) -> str:
        """Name the character set of a sender that declares another one, Q-82."""
        number = self._sender(application, facility)
        return "" if number is None else self.senders[number].character_set

    def attributes(self, header: Header) -> CompiledRules:
        """Give the rules for a message, in the order of the table of attributes."""
        number = self._sender(header.application, header.facility)
        key = number, header.code
        found = self._compiled.get(key)
        if found is None:
            rules: dict[str, tuple[Rule, ...]] = {}
            for layer in self._layers:
                rules |= layer.get("", {})
                rules |= layer.get(header.code, {})
            if number is not None:
                rules |= self._layers[-1].get(f"sender {number}", {})
            found = tuple((target, rules[keyword]) for keyword, target in TARGETS.items() if rules.get(keyword))
            if len(self._compiled) < 1000:
                self._compiled[key] = found
        return found

    def station(self, header: Header, modality: str, location: str, procedure: str) -> Station | None:
        """Find the station of a step."""
        return next((one for one in self.stations if one.fits(header, modality, location, procedure)), None)

    def _sender(self, application: str, facility: str) -> int | None:
        for number, sender in enumerate(self.senders):
            if fnmatchcase(application, sender.application) and fnmatchcase(facility, sender.facility):
                return number
        return None


# --- load ---------------------------------------------------------------------------------------------------------


def default_text() -> str:
    """Give the mapping that ships with this package, as it is written."""
    return files(__package__).joinpath("mapping.toml").read_text("utf-8")


def load_mapping(path: Path | str | None = None) -> Mapping:
    """Read the shipped mapping, and a site's own over it.

    Raises:
        MappingError: the file cannot be read, is no TOML, or has faults.
    """
    texts = [("mapping.toml of mwl", default_text())]
    if path is not None:
        try:
            texts.append((str(path), Path(path).read_text("utf-8")))
        except (OSError, UnicodeDecodeError) as exc:
            raise MappingError(str(path), [f"cannot be read: {exc}"]) from exc
    merged: dict[str, Any] = {}
    layers: list[dict[str, dict[str, tuple[Rule, ...]]]] = []
    for source, text in texts:
        try:
            raw = tomllib.loads(text)
        except ValueError as exc:
            raise MappingError(source, [f"is no TOML: {exc}"]) from exc
        merged = _merge(merged, raw)
        file, faults = decode(_File, raw)
        maps = merged["maps"] if isinstance(merged.get("maps"), dict) else {}
        faults += _key_faults(file, {name.partition("_")[0] for name in merged.get("events", ())})
        layers.append(_compile(file, maps, faults))
        if faults:
            raise MappingError(source, [with_line(fault, text) for fault in faults])
    return Mapping(decode(_File, merged)[0], layers)


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Lay one file over another, key by key; what is no table is replaced."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both and "do" not in value and "action" not in value else value
    return merged


_EVENT: Final = re.compile(r"[A-Z0-9]{3}(_[A-Z0-9]{3})?")
_CONTROL: Final = re.compile(r"[A-Za-z0-9]+(_([A-Za-z0-9]+|\*))?")


def _key_faults(file: _File, codes: set[str]) -> Iterator[str]:
    """Name what would never be looked up, and what says nothing."""
    for name, event in file.events.items():
        if not _EVENT.fullmatch(name):
            yield f"events.{name}: is no type of message: such as ADT_A08"
        if event.do == "appointment" and not event.action:
            yield f"events.{name}: an appointment needs an action"
        if event.action == "status" and not event.status:
            yield f"events.{name}: which status?"
    for name, action in file.order_control.items():
        if not _CONTROL.fullmatch(name):
            yield f"order_control.{name}: is no order control: such as NW, NW_SC or NW_*"
        if action.action == "status" and not action.status:
            yield f"order_control.{name}: which status?"
    for code in file.attributes_of:
        if code not in codes:
            yield f"attributes_of.{code}: no [events] are of this kind: such as ORM{suggestion(code, list(codes))}"
    for number, station in enumerate(file.station):
        if not station.ae_titles and not station.names:
            yield f"station[{number}]: has neither ae_titles nor names"


def _compile(file: _File, maps: dict[str, Any], faults: list[str]) -> dict[str, dict[str, tuple[Rule, ...]]]:
    """Compile the rules of one file: for all messages under `""`, or under a message code, or a sender's number."""
    tables = {"": ("attributes", file.attributes)}
    tables |= {code: (f"attributes_of.{code}", table) for code, table in file.attributes_of.items()}
    tables |= {
        f"sender {number}": (f"sender[{number}].attributes", sender.attributes)
        for number, sender in enumerate(file.sender)
    }
    return {
        name: {
            keyword: tuple(_compile_rules(rules, TARGETS[keyword], f"{path}.{keyword}", maps, faults))
            for keyword, rules in table.items()
            if _is_known(keyword, path, faults)
        }
        for name, (path, table) in tables.items()
    }


def _is_known(keyword: str, path: str, faults: list[str]) -> bool:
    fault = _required_fault(keyword)
    if fault:
        faults.append(f"{path}.{keyword}: {fault}")
    return not fault


def _compile_rules(raw: Any, target: Target, path: str, maps: dict[str, Any], faults: list[str]) -> Iterator[Rule]:
    for number, one in enumerate(raw if isinstance(raw, list) else [raw]):
        place = f"{path}[{number}]" if isinstance(raw, list) else path
        found: list[str] = []
        rule = _compile_rule(one, maps, found)
        found += _rule_faults(rule, target) if rule and not found else ()
        faults += [f"{place}: {fault}" for fault in found]
        if rule and not found:
            yield rule


def _compile_rule(raw: Any, maps: dict[str, Any], faults: list[str]) -> Rule | None:
    if isinstance(raw, str):
        raw = {"value": raw} if raw in (NOW, STATION) else {"from": raw}
    if not isinstance(raw, dict):
        faults.append("a field, a table or a list of these is wanted")
        return None
    table, found = decode(_RuleTable, {"from_" if key == "from" else key: value for key, value in raw.items()})
    faults += [fault.removeprefix(": ") for fault in found]
    if bool(table.from_) == ("value" in raw):
        faults.append('either "from" or "value" is wanted')
    path = _compile_path(table.from_, faults) if table.from_ else None
    conditions = tuple(_compile_conditions(table.when, faults))
    if table.map and table.map not in maps:
        faults.append(f"there is no [maps.{table.map}]{suggestion(table.map, list(maps))}")
    pattern = None
    if table.pattern:
        try:
            pattern = re.compile(table.pattern)
        except re.error as exc:
            faults.append(f"the pattern is no regular expression: {exc}")
    text = table.from_ or f'"{table.value}"' if table.value not in (NOW, STATION) else table.value
    text += "".join(f" when {one.path} = {' or '.join(one.patterns)}" for one in conditions)
    text += f" by {table.map}" if table.map else ""
    codes = maps.get(table.map) if table.map else None
    return Rule(text, path, table.value, conditions, table.map, codes, pattern, table.scale)


def _rule_faults(rule: Rule, target: Target) -> Iterator[str]:
    """Name what a rule cannot do for its attribute, and the constants that it cannot have."""
    if rule.scale != 1.0 and target.reader != "number":
        yield "scale is for numbers"
    if rule.value == NOW and target.reader != "moment":
        yield f"{NOW} is for ScheduledProcedureStepStartDateTime"
    if rule.value == STATION and target.field not in ("station_ae_titles", "station_names"):
        yield f"{STATION} is for ScheduledStationAETitle and ScheduledStationName"
    constants = rule.codes.values() if rule.codes is not None else [rule.value]
    for text in constants:
        if not rule.value.startswith("@") and (fault := constant_fault(target, text)):
            yield f"{text!r} {fault}"


def _compile_path(text: str, faults: list[str]) -> FieldPath | None:
    fault = _path_fault(text)
    if fault:
        faults.append(fault)
    return decode_path(text)


def _compile_conditions(when: dict[str, Any], faults: list[str]) -> Iterator[Condition]:
    for text, patterns in when.items():
        path = _compile_path(text, faults)
        values = patterns if isinstance(patterns, list) else [patterns]
        if not all(isinstance(value, str) for value in values):
            faults.append(f"when.{text}: a text or a list of texts is wanted")
        elif path:
            yield Condition(path, tuple(values))
