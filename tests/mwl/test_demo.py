from collections import Counter
from datetime import date

import pytest

from mwl.dataset import check, from_dataset, to_dataset
from mwl.demo import STATIONS, sample_entries

TODAY = date(2024, 7, 5)


def test_the_same_arguments_give_the_same_entries() -> None:
    assert sample_entries(50, TODAY, seed=7) == sample_entries(50, TODAY, seed=7)
    assert sample_entries(50, TODAY, seed=7) != sample_entries(50, TODAY, seed=8)


@pytest.mark.parametrize("count", [0, 1, 7, 200, 5000])
def test_there_are_as_many_entries_as_asked_for_each_with_its_own_key(count: int) -> None:
    entries = sample_entries(count, TODAY)
    assert len(entries) == count
    assert len({entry.key for entry in entries}) == count
    assert len({entry.request.accession_number for entry in entries}) == count


def test_every_entry_may_be_kept_and_survives_dicom() -> None:
    for entry in sample_entries(300, TODAY):
        assert check(entry) == ()
        assert from_dataset(to_dataset(entry)) == entry


def test_most_entries_are_of_today_and_the_rest_near() -> None:
    entries = sample_entries(200, TODAY)
    days = Counter((entry.step.start_date - TODAY).days for entry in entries if entry.step.start_date)
    assert days[0] == max(days.values()) >= 80
    assert set(days) <= set(range(-1, 8))


def test_no_station_examines_two_patients_at_a_time() -> None:
    entries = sample_entries(3000, TODAY)
    slots = {(entry.step.station_ae_titles, entry.step.start_date, entry.step.start_time) for entry in entries}
    assert len(slots) == 3000


def test_every_modality_and_several_alphabets_are_there() -> None:
    entries = sample_entries(200, TODAY)
    assert {entry.step.modality for entry in entries} == {station.modality for station in STATIONS}
    text = "".join(entry.patient.name for entry in entries)
    for letter in "öéñçИα山홍":
        assert letter in text


def test_what_is_to_come_is_scheduled() -> None:
    entries = sample_entries(500, TODAY)
    assert {one.step.status for one in entries if one.step.start_date and one.step.start_date > TODAY} == {
        "SCHEDULED"
    }
