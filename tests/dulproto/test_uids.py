from __future__ import annotations

import tracemalloc
import uuid

import pytest
from pydicom.uid import UID

from dulproto import uids
from dulproto.uids import uid_name


@pytest.mark.parametrize(
    ("uid", "name"),
    [
        (uids.APPLICATION_CONTEXT, "DICOM Application Context Name"),
        (uids.VERIFICATION, "Verification SOP Class"),
        (uids.MODALITY_WORKLIST_FIND, "Modality Worklist Information Model - FIND"),
        (uids.IMPLICIT_LE, "Implicit VR Little Endian"),
        (uids.EXPLICIT_LE, "Explicit VR Little Endian"),
        (uids.EXPLICIT_BE, "Explicit VR Big Endian"),
    ],
)
def test_a_uid_of_the_standard_has_the_name_of_ps3_6(uid: str, name: str) -> None:
    assert uid_name(uid).startswith(name)
    assert uid_name(uid) == UID(uid).name


@pytest.mark.parametrize("uid", ["1.2.3.4", "", "no uid at all"])
def test_an_unknown_uid_is_its_own_name(uid: str) -> None:
    assert uid_name(uid) == uid


def test_names_of_uids_that_peers_invent_take_no_memory() -> None:
    uid_name("1.2.3")  # imports the dictionary
    tracemalloc.start()
    try:
        for number in range(200):
            uid_name(f"{number}." + "9" * 10_000)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 100_000


def test_the_short_names_are_those_of_the_three_transfer_syntaxes() -> None:
    assert list(uids.TRANSFER_SYNTAXES) == ["implicit-le", "explicit-le", "explicit-be"]
    assert all(UID(uid).is_transfer_syntax for uid in uids.TRANSFER_SYNTAXES.values())


def test_the_implementation_class_uid_is_a_uuid_of_its_own() -> None:
    root, number = uids.IMPLEMENTATION_CLASS_UID.rsplit(".", 1)
    assert root == "2.25"  # PS3.5 B.2
    assert uuid.UUID(int=int(number)).version == 4
    assert len(uids.IMPLEMENTATION_CLASS_UID) <= 64


def test_the_implementation_version_name_fits_its_sub_item() -> None:
    name = uids.IMPLEMENTATION_VERSION_NAME
    assert name.isascii()
    assert 1 <= len(name) <= 16
