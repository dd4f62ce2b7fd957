from __future__ import annotations

from datetime import date, time
from typing import Any

import msgspec
from samples import NOW, entry, keys, worklist
from test_worklist import Filter

from dulproto import IMPLICIT_LE
from mwl.explain import Explanation, explain
from mwl.item import Entry, PatientIdentifier
from mwl.query import QueryPolicy
from mwl.view import ListFilter, compile_view

STATEMENT = QueryPolicy(matching="statement")


def explained(
    entries: list[Entry],
    step: dict[str, Any] | None = None,
    policy: QueryPolicy | None = None,
    filters: dict[str, ListFilter] | None = None,
    **root: Any,
) -> Explanation:
    view = compile_view(**(filters or {"ae": Filter()}))
    return explain(keys(step, **root), IMPLICIT_LE, policy or QueryPolicy(), view, worklist(*entries), NOW)


def test_each_key_says_how_it_was_read_and_what_it_leaves() -> None:
    entries = [entry(1), entry(2, modality="MR"), entry(3, modality="MR", station_ae_titles=("MR1",))]
    told = explained(entries, {"Modality": "MR", "ScheduledStationAETitle": "MR1", "ScheduledProcedureStepID": ""})
    counted = {step.path.split("/")[-1]: (step.kind, step.alone, step.left) for step in told.keys}
    assert counted == {
        "ScheduledProcedureStepSequence": ("sequence", 3, 3),
        "Modality": ("single", 2, 2),
        "ScheduledStationAETitle": ("single", 1, 1),
        "ScheduledProcedureStepID": ("universal", 3, 1),
    }
    assert (told.entries, told.found, told.listed, told.killer) == (3, 1, (entry(3).key,), "")


def test_the_wrong_case_of_a_station_title_is_named() -> None:
    told = explained([entry()], {"ScheduledStationAETitle": "ct1"}, QueryPolicy(ae_key_ignore_case=False))
    assert told.killer.endswith("ScheduledStationAETitle")
    ((miss,), (kind, count)) = told.near_misses, (told.near_misses[0].kind, told.near_misses[0].entries)
    assert (kind, count) == ("case", 1)
    assert "ae_key_ignore_case" in miss.text


def test_the_wrong_case_of_any_other_key_is_named() -> None:
    (miss,) = explained([entry()], None, AccessionNumber="acc1").near_misses
    assert (miss.path, miss.kind) == ("AccessionNumber", "case")


def test_a_wrong_date_is_named_with_the_dates_there_are() -> None:
    entries = [entry(1), entry(2, start_date=date(2024, 7, 6))]
    told = explained(entries, {"ScheduledProcedureStepStartDate": "20240704", "Modality": "CT"})
    assert told.killer.endswith("StartDate")
    (miss,) = told.near_misses
    assert (miss.kind, miss.entries) == ("date", 2)
    assert "20240705" in miss.text
    assert "20240706" in miss.text


def test_a_range_of_times_that_means_today_is_named() -> None:
    told = explained([entry(start_date=date(2024, 7, 6))], {"ScheduledProcedureStepStartTime": "0900-1100"})
    (miss,) = told.near_misses
    assert miss.text == "ScheduledProcedureStepSequence/ScheduledProcedureStepStartDate 'today': 1 entry on 20240706"


def test_a_wild_card_in_a_single_value_key_is_named() -> None:
    told = explained([entry()], {"Modality": "C*"}, STATEMENT)
    assert told.killer.endswith("Modality")
    (miss,) = told.near_misses
    assert (miss.kind, miss.entries) == ("wild card", 1)


def test_an_unknown_station_is_named_with_the_nearest_one() -> None:
    entries = [entry(number, station_ae_titles=("CT01",)) for number in range(14)]
    (miss,) = explained(entries, {"ScheduledStationAETitle": "CT1"}).near_misses
    assert (miss.kind, miss.entries) == ("unknown value", 14)
    assert "'CT1'" in miss.text
    assert "14 entries" in miss.text
    assert "did you mean CT01?" in miss.text


def test_a_key_that_only_kills_together_with_others_is_named() -> None:
    entries = [entry(1), entry(2, modality="MR", start_time=time(11))]
    told = explained(entries, {"Modality": "MR"}, PatientID="1001")
    assert {miss.path.split("/")[-1]: miss.kind for miss in told.near_misses} == {
        "Modality": "other value",
        "PatientID": "other value",
    }


def test_entries_that_a_filter_hides_are_counted_by_its_name() -> None:
    entries = [entry(1), entry(2, modality="MR"), entry(3, status="CANCELED"), entry(4, location="R2")]
    filters: dict[str, ListFilter] = {"ae": Filter(modality=("CT",)), "remote": Filter(location=("R1",))}
    hidden = {each.filter: (each.entries, each.values) for each in explained(entries, filters=filters).hidden}
    assert hidden == {
        "status": (1, ("CANCELED",)),
        "ae.modality": (1, ("MR",)),
        "remote.location": (4, ("R2",)),
    }


def test_an_entry_outside_the_window_of_days_is_hidden() -> None:
    told = explained([entry(start_date=date(2024, 8, 1))], filters={"ae": Filter(days_ahead=14)})
    (hidden,) = told.hidden
    assert (hidden.filter, hidden.values) == ("ae.days_back, days_ahead", ("20240801",))


def test_keys_that_are_not_honoured_are_named() -> None:
    told = explained([entry(1), entry(2)], None, QueryPolicy(honour_matching_keys=False), PatientID="1001")
    assert told.keys[0].kind == "ignored"
    assert "1 of 2 entries" in told.unheeded


def test_an_identifier_of_another_domain_is_explained_too() -> None:
    one = entry(identifiers=(PatientIdentifier("1", "A"), PatientIdentifier("2", "B")))
    told = explained([one], None, QueryPolicy(match_other_patient_ids=True), PatientID="3", IssuerOfPatientID="B")
    assert told.killer == "PatientID"


def test_an_explanation_can_be_sent_as_json() -> None:
    told = explained([entry()], {"Modality": "MR", "KVP": ""}, PatientName="x")
    assert msgspec.json.decode(msgspec.json.encode(told), type=Explanation) == told


def test_an_empty_worklist_has_no_killer() -> None:
    told = explained([], {"Modality": "CT"})
    assert (told.entries, told.killer, told.near_misses) == (0, "", ())
