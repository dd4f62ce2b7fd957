import pytest
from pydicom.datadict import dictionary_keyword, dictionary_VM, dictionary_VR
from samples import NOW, entry
from test_item import FULL

from mwl.attributes import ATTRIBUTES, BY_KEYWORD_PATH, Attribute, kinds
from mwl.dataset import to_dataset
from mwl.derived import getter

# What the conformance statement matches, by keyword path; all other keys only return a value.
STATEMENT = {
    "ScheduledProcedureStepSequence": ("sequence",),
    "ScheduledProcedureStepSequence/ScheduledStationAETitle": ("single",),
    "ScheduledProcedureStepSequence/ScheduledProcedureStepStartDate": ("single", "range"),
    "ScheduledProcedureStepSequence/ScheduledProcedureStepStartTime": ("single", "range"),
    "ScheduledProcedureStepSequence/Modality": ("single",),
    "ScheduledProcedureStepSequence/ScheduledPerformingPhysicianName": ("single", "wildcard"),
    "AccessionNumber": ("single",),
    "PatientName": ("single", "wildcard"),
    "PatientID": ("single",),
}


@pytest.mark.parametrize("attribute", ATTRIBUTES, ids=lambda attribute: attribute.keyword_path)
def test_each_row_agrees_with_the_data_dictionary(attribute: Attribute) -> None:
    assert dictionary_keyword(attribute.tag) == attribute.keyword
    assert dictionary_VR(attribute.tag) == attribute.vr
    assert (dictionary_VM(attribute.tag) != "1") == attribute.multiple


def test_the_table_has_all_71_rows_of_the_statement_once() -> None:
    assert sorted(attribute.row for attribute in ATTRIBUTES if attribute.row) == list(range(1, 72))


def test_rows_stand_in_the_order_of_their_tags() -> None:
    paths = [attribute.path for attribute in ATTRIBUTES]
    assert paths == sorted(set(paths))


@pytest.mark.parametrize("attribute", ATTRIBUTES, ids=lambda attribute: attribute.keyword_path)
def test_R_042_the_statement_s_kinds_of_matching(attribute: Attribute) -> None:
    assert kinds(attribute, "statement") == STATEMENT.get(attribute.keyword_path, ())


def test_every_required_key_of_the_standard_matches_in_both_modes() -> None:
    required = [attribute for attribute in ATTRIBUTES if attribute.key_type == "R"]
    assert len(required) == 8
    assert all(kinds(attribute, mode) for attribute in required for mode in ("all", "statement"))  # type: ignore[arg-type]


def test_only_specific_character_set_never_matches_in_mode_all() -> None:
    assert [each.keyword for each in ATTRIBUTES if not kinds(each, "all")] == ["SpecificCharacterSet"]


def test_every_row_of_the_first_level_has_a_source_in_an_entry() -> None:
    for attribute in ATTRIBUTES:
        if len(attribute.path) == 1:
            getter(attribute)(entry(), NOW.date())


def test_every_stored_row_comes_through_a_data_set() -> None:
    dataset = to_dataset(FULL)
    missing = {
        attribute.keyword
        for attribute in ATTRIBUTES
        if len(attribute.path) == 1 and not attribute.source.startswith("=") and attribute.tag not in dataset
    }
    assert missing == set()


def test_key_paths_are_unique() -> None:
    assert len(BY_KEYWORD_PATH) == len(ATTRIBUTES)
