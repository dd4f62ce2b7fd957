"""Entries as DICOM JSON, against pydicom."""

from __future__ import annotations

import json
from datetime import date, time
from typing import Any

import msgspec
import pytest
from pydicom.dataset import Dataset
from samples import entry

from mwl.dataset import to_dataset
from mwl.demo import sample_entries
from mwl.dicom_json import entry_from_json, entry_to_json
from mwl.item import Code, Entry, Issuer, PatientIdentifier

ENTRIES = [
    *sample_entries(300, date(2026, 11, 24)),
    entry(1, name="", identifiers=(), station_ae_titles=(), start_date=None, start_time=None, modality=""),
    entry(
        2,
        name="Yamada^Tarou==やまだ^たろう",
        identifiers=(PatientIdentifier("1", "A", "1.2", "ISO"), PatientIdentifier("2", "B", "1.3", "ISO")),
        station_ae_titles=("CT1", "CT2"),
        intended_recipients=("Roe^Richard", "=山田^太郎"),
        start_time=time(8, 30, 0, 500),
        protocol_codes=(Code("a code value of over 16 characters"), Code("urn:x:y", "99X", "z")),
        accession_issuer=Issuer("A", "1.2.3", "ISO"),
        pregnancy_status=4,
        patient_size=1.75,
        patient_weight=70.0,
        comments="two\r\nlines",
    ),
]


@pytest.mark.parametrize("one", ENTRIES[-2:] + ENTRIES[:1])
def test_tags_are_in_order_at_every_level(one: Entry) -> None:
    def check(level: dict[str, Any]) -> None:
        assert list(level) == sorted(level)
        for element in level.values():
            for item in element["Value"] if element["vr"] == "SQ" else ():
                check(item)

    check(entry_to_json(one))


def test_it_is_what_pydicom_makes_of_the_entry_without_empty_groups_of_names() -> None:
    for one in ENTRIES:
        text = msgspec.json.encode(to_dataset(one).to_json_dict(), enc_hook=str).decode()
        made = json.loads(text, object_hook=lambda raw: {name: value for name, value in raw.items() if value != ""})
        assert entry_to_json(one) == made


def test_pydicom_reads_it_and_so_do_we() -> None:
    for one in ENTRIES[:-2] + ENTRIES[-1:]:
        raw = msgspec.json.decode(msgspec.json.encode(entry_to_json(one)))
        assert Dataset.from_json(raw) == to_dataset(one)
        assert entry_from_json(raw) == one
