"""Decode a tree of plain values into Structs and list *all* its faults; msgspec alone stops at the first one.

A type may carry checks of its own: `Port = Annotated[int, port_fault]`, where `port_fault(value)` returns what is
wrong in words, or None.
"""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

__all__ = ["decode", "suggestion"]

T = TypeVar("T")


def decode(kind: type[T], raw: object, path: str = "") -> tuple[T, list[str]]:
    """Decode `raw` and list its faults, each with its key path; a faulty value is stood in for by its default.

    The value is of use only when there are no faults, or to look for further ones.
    """
    faults: list[str] = []
    return _decode(kind, raw, path, faults), faults


def suggestion(word: str, known: list[str]) -> str:
    """Say which known word may have been meant; nothing if none is near."""
    near = get_close_matches(word, known, n=1, cutoff=0.6)
    if not near:
        folded = {name.casefold(): name for name in known}
        near = [folded[word.casefold()]] if word.casefold() in folded else []
    return f', did you mean "{near[0]}"?' if near else ""


_FAULTY: Any = object()


def _decode(kind: Any, raw: Any, path: str, faults: list[str]) -> Any:
    origin = get_origin(kind)
    if origin is Annotated:
        base, *checks = get_args(kind)
        value = _decode(base, raw, path, faults)
        found = [] if value is _FAULTY else [f"{path}: {fault}" for check in checks if (fault := check(value))]
        faults += found
        return _FAULTY if found else value
    if origin in (Union, UnionType):
        kind = next(option for option in get_args(kind) if option is not type(None))  # TOML has no null
        return _decode(kind, raw, path, faults)
    if origin is Literal:
        return _decode_choice(get_args(kind), raw, path, faults)
    if origin is tuple:
        return _decode_list(get_args(kind)[0], raw, path, faults)
    if origin is dict:
        return _decode_table(get_args(kind)[1], raw, path, faults)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _decode_struct(kind, raw, path, faults)
    try:
        return msgspec.convert(raw, kind, dec_hook=_decode_path)
    except msgspec.ValidationError as exc:
        faults.append(f"{path}: {str(exc).split(' - at ')[0].lower()}")
        return _FAULTY


def _decode_path(kind: type[Any], raw: Any) -> Any:
    if kind is not Path or not isinstance(raw, str) or not raw:
        raise TypeError("a path is wanted")
    return Path(raw)


def _decode_choice(choices: tuple[Any, ...], raw: Any, path: str, faults: list[str]) -> Any:
    if raw in choices:
        return raw
    faults.append(f"{path}: {raw!r} is none of {', '.join(repr(choice) for choice in choices)}")
    return _FAULTY


def _decode_list(kind: Any, raw: Any, path: str, faults: list[str]) -> Any:
    if not isinstance(raw, list):
        faults.append(f"{path}: a list is wanted, {type(raw).__name__} is given")
        return _FAULTY
    values = [_decode(kind, item, f"{path}[{position}]", faults) for position, item in enumerate(raw)]
    return tuple(value for value in values if value is not _FAULTY)


def _decode_table(kind: Any, raw: Any, path: str, faults: list[str]) -> Any:
    if not isinstance(raw, dict):
        faults.append(f"{path}: a table is wanted, {type(raw).__name__} is given")
        return _FAULTY
    values = {key: _decode(kind, item, f"{path}.{key}", faults) for key, item in raw.items()}
    return {key: value for key, value in values.items() if value is not _FAULTY}


def _decode_struct(kind: type[msgspec.Struct], raw: Any, path: str, faults: list[str]) -> Any:
    if not isinstance(raw, dict):
        faults.append(f"{path}: a table is wanted, {type(raw).__name__} is given")
        return _FAULTY
    # A name with an underscore in front is computed afterwards, and is no key.
    fields = {field.name: field for field in msgspec.structs.fields(kind) if not field.name.startswith("_")}
    prefix = f"{path}." if path else ""
    faults += [f"{prefix}{key}: unknown key{suggestion(key, list(fields))}" for key in raw if key not in fields]
    values: dict[str, Any] = {}
    for key, field in fields.items():
        if key in raw:
            value = _decode(_hints(kind)[field.name], raw[key], prefix + key, faults)
            if value is not _FAULTY:
                values[field.name] = value
                continue
        elif field.required:
            faults.append(f"{prefix}{key}: is missing")
        if field.required:
            values[field.name] = None
    return kind(**values)


@cache
def _hints(kind: Callable[..., Any]) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)
