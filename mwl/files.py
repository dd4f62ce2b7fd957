"""Worklist files: DICOM files, DICOM JSON, and folders of them, into entries and back."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from struct import Struct
from typing import IO, Final
from uuid import NAMESPACE_OID, uuid5

import msgspec
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID

from dulproto import (
    EXPLICIT_LE,
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    MODALITY_WORKLIST_FIND,
    DataSet,
    ElementError,
    decode_data_set,
)

from .attributes import CHILDREN
from .charset import CharacterSet, character_set, decode_text
from .dataset import to_dataset
from .dicom_json import UNREADABLE, checked_entry, entry_from_json, entry_to_json, text_element
from .item import Entry, EntryError, Fault

__all__ = ["Source", "find_sources", "read_entries", "read_source", "write_json", "write_wl_file"]

_DICOM_SUFFIXES: Final = frozenset({".dcm", ".wl"})
_JSON_SUFFIXES: Final = frozenset({".json", ".jsonl", ".ndjson"})
_SPECIFIC_CHARACTER_SET: Final = 0x00080005
_US: Final = Struct("<H")
_SINGLE_TEXT: Final = frozenset({"LT", "ST", "UR", "UT"})  # where a backslash is text, PS3.5 6.2


class Source(msgspec.Struct, frozen=True):
    """Where one entry stands: a file, or a position in a file with its JSON; `fault` if it is not even that."""

    where: str
    content: bytes = b""
    is_json: bool = False
    fault: str = ""


def read_entries(paths: Iterable[Path]) -> Iterator[tuple[str, Entry | str]]:
    """Read all entries of files and folders: where each one stands, and the entry or what is wrong with it."""
    for source in find_sources(paths):
        try:
            yield source.where, read_source(source)
        except EntryError as exc:
            yield source.where, str(exc)


# --- find ---------------------------------------------------------------------------------------------------------


def find_sources(paths: Iterable[Path]) -> Iterator[Source]:
    """Find where entries stand: in files, and in the worklist files of folders and of those in them."""
    for path in paths:
        for file in _files_of(path):
            where = str(file).encode("utf-8", "backslashreplace").decode()  # a name may be bytes that are no text
            try:
                content = file.read_bytes()
            except OSError as exc:
                yield Source(where, fault=f"cannot be read: {exc.strerror}")
                continue
            text = content.removeprefix(b"\xef\xbb\xbf")  # a byte order mark, as some editors write it
            if text.lstrip()[:1] in (b"{", b"["):
                yield from _json_sources(where, text)
            else:
                yield Source(where, content)


def _files_of(path: Path) -> list[Path]:
    """List the file itself, whatever its name is, or the worklist files of a folder."""
    if not path.is_dir():
        return [path]
    suffixes = _DICOM_SUFFIXES | _JSON_SUFFIXES
    return sorted(file for file in path.rglob("*") if file.suffix.lower() in suffixes and file.is_file())


def _json_sources(where: str, text: bytes) -> Iterator[Source]:
    """Take an array apart, or lines of which each is an object; anything else is one object, or a fault."""
    lines = text.splitlines()
    if text.lstrip().startswith(b"["):
        try:
            parts = msgspec.json.decode(text, type=list[msgspec.Raw])
        except UNREADABLE as exc:
            yield Source(where, fault=f"is no JSON: {exc}")
            return
        yield from (Source(f"{where}[{position}]", bytes(part), True) for position, part in enumerate(parts))
    elif len(lines) > 1 and _is_json(lines[0]):
        yield from (Source(f"{where}:{number}", line, True) for number, line in enumerate(lines, 1) if line.strip())
    else:
        yield Source(where, text, True)


def _is_json(text: bytes) -> bool:
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except UNREADABLE:
        return False
    return True


# --- read ---------------------------------------------------------------------------------------------------------


def read_source(source: Source) -> Entry:
    """Read one entry.

    Raises:
        EntryError: with every fault; the file as such is the attribute `file`.
    """
    if source.fault:
        raise EntryError((Fault("file", source.fault),))
    if not source.is_json:
        return _entry_from_dicom(source.content)
    try:
        raw = msgspec.json.decode(source.content)
    except UNREADABLE as exc:
        raise EntryError((Fault("file", f"is no JSON: {exc}"),)) from exc
    return entry_from_json(raw)


def _entry_from_dicom(content: bytes) -> Entry:
    """Read a DICOM file, PS3.10, or a data set alone; as tolerant as with what devices send."""
    try:
        elements = decode_data_set(content, EXPLICIT_LE)
    except ElementError as exc:
        raise EntryError((Fault("file", f"is no DICOM file: {exc}"),)) from exc
    if not any(attribute.tag in elements for attribute in CHILDREN[()]):
        raise EntryError((Fault("file", "is no DICOM file, or has nothing of a worklist"),))
    faults: list[Fault] = []
    return checked_entry(_decode_level(elements, (), None, faults), faults)


def _decode_level(
    elements: DataSet, path: tuple[int, ...], declared: CharacterSet | None, faults: list[Fault]
) -> Dataset:
    dataset = Dataset()
    if _SPECIFIC_CHARACTER_SET in elements:  # an item may have its own
        try:
            declared = character_set(elements[_SPECIFIC_CHARACTER_SET].raw.decode("ascii", "replace"))
        except ValueError:
            faults.append(Fault("SpecificCharacterSet", "is unknown"))
    for attribute in CHILDREN[path]:
        element = elements.get(attribute.tag)
        if element is None or attribute.tag == _SPECIFIC_CHARACTER_SET:
            continue
        if attribute.vr == "SQ":
            items = [_decode_level(item, attribute.path, declared, faults) for item in element.items]
            dataset.add(DataElement(attribute.tag, "SQ", items))
        elif attribute.vr == "US":
            numbers = _US.iter_unpack(element.raw) if len(element.raw) % 2 == 0 else ()
            dataset.add(text_element(attribute, [str(number) for (number,) in numbers] or [""]))
        elif element.raw:
            text = decode_text(element.raw, declared)[0]
            if "\ufffd" in text:
                faults.append(Fault(attribute.keyword_path, "has bytes that its character set does not have"))
            texts = [text] if attribute.vr in _SINGLE_TEXT else text.split("\\")
            dataset.add(text_element(attribute, texts))
    return dataset


# --- write --------------------------------------------------------------------------------------------------------


def write_json(entries: Iterable[Entry], file: IO[str]) -> None:
    """Write entries as DICOM JSON, an array with one entry a line."""
    separator = "[\n"
    for entry in entries:
        file.write(separator + msgspec.json.encode(entry_to_json(entry)).decode())
        separator = ",\n"
    file.write("[]\n" if separator == "[\n" else "\n]\n")


def write_wl_file(entry: Entry, folder: Path) -> Path:
    """Write an entry as a DICOM file `*.wl`, as DCMTK's and Orthanc's worklist providers read them.

    The name is made of the entry's key, so that the same entry has the same file, and no other one has it.
    """
    dataset = to_dataset(entry)
    unique = uuid5(NAMESPACE_OID, "/".join(entry.key))
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = UID(MODALITY_WORKLIST_FIND)
    dataset.file_meta.MediaStorageSOPInstanceUID = UID(f"2.25.{unique.int}")
    dataset.file_meta.TransferSyntaxUID = UID(EXPLICIT_LE)
    dataset.file_meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    dataset.file_meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    name = re.sub(r"[^A-Za-z0-9._-]", "_", "-".join(entry.key))
    path = folder / f"{name}-{unique.hex[:8]}.wl"
    dataset.save_as(path, enforce_file_format=True)
    return path
