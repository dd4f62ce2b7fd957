"""Faults of a mapping are named with their keys and lines."""

from pathlib import Path

import pytest

from mwl.hl7.mapping import MappingError, load_mapping
from mwl.hl7.values import TARGETS


def site(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mapping.toml"
    path.write_text(text)
    load_mapping(path)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            "[attributes]\n\nAccesionNumber = 'OBR-18'",
            "line 3: attributes.AccesionNumber: 'AccesionNumber' cannot be",
        ),
        ("[attributes]\nModality = 'OBR.24'", "line 2: attributes.Modality: 'OBR.24' is no field"),
        ("[attributes]\nModality = [\n  'OBR-24',\n  'OBR-x',\n]", "line 2: attributes.Modality[1]: 'OBR-x' is no"),
        ("[attributes]\nModality = 7", "line 2: attributes.Modality: a field, a table or a list"),
        ("[attributes]\nModality = { from = 'OBR-24', value = 'CT' }", 'line 2: attributes.Modality: either "from"'),
        ("[attributes]\nModality = { from = 'OBR-24', mpa = 'x' }", "line 2: attributes.Modality: mpa: unknown key"),
        (
            "[attributes]\nModality = { from = 'OBR-24', map = 'sx' }",
            "line 2: attributes.Modality: there is no [maps",
        ),
        ("[attributes]\nModality = { from = 'OBR-24', pattern = '(' }", "line 2: attributes.Modality: the pattern"),
        ("[attributes]\nModality = { value = 'X', when = { 'OBR' = 'x' } }", "line 2: attributes.Modality: 'OBR' is"),
        ("[attributes]\nModality = { value = 'X', when = { OBR-1 = 3 } }", "line 2: attributes.Modality: when.OBR-1"),
        ("[attributes_of.OMI]\nX = 'OBR-1'", "line 2: attributes_of.OMI.X: 'X' cannot be mapped"),
        ("[order_control]\nXX_Y = { action = 'creat' }", "line 2: order_control.XX_Y.action: 'creat' is none of"),
        ("[order_control]\nXX_Y = { action = 'status', status = 'GONE' }", "line 2: order_control.XX_Y.status: 'GON"),
        (
            "[events]\n'ADT^A99' = { do = 'patient' }",
            "line 2: events.ADT^A99: is no type of message: such as ADT_A08",
        ),
        ("[events]\nSIU_S17 = { do = 'appointment', action = 'status' }", "line 2: events.SIU_S17: which status?"),
        ("[order_control]\n'NW^SC' = { action = 'create' }", "line 2: order_control.NW^SC: is no order control"),
        ("[order_control]\nNW_SC = { action = 'status' }", "line 2: order_control.NW_SC: which status?"),
        (
            "[attributes_of.ORX]\nModality = 'OBR-1'",
            "line 1: attributes_of.ORX: no [events] are of this kind",
        ),
        ("[attributes]\nModality = '@now'", "line 2: attributes.Modality: @now is for Scheduled"),
        ("[attributes]\nModality = '@station'", "line 2: attributes.Modality: @station is for Scheduled"),
        ("[attributes]\nModality = { from = 'OBR-24', scale = 2.0 }", "line 2: attributes.Modality: scale is for"),
        (
            "[attributes]\nModality = { value = 'COMPUTED TOMOGRAPHY' }",
            "line 2: attributes.Modality: 'COMPUTED TOMOG",
        ),
        (
            "[attributes]\nSpecialNeeds = { value = '%s' }" % ("x" * 65),
            f"line 2: attributes.SpecialNeeds: '{'x' * 65}' is cut",
        ),
        (
            "[maps.m]\nA = 'C/T'\n[attributes]\nModality = { from = 'OBR-24', map = 'm' }",
            "line 4: attributes.Modality: 'C/T' has",
        ),
        ("[[station]]\nmodality = 'CT'", "line 1: station[0]: has neither ae_titles nor names"),
        ("[[station]]\nnames = ['%s']" % ("x" * 17), "line 2: station[0].names[0]: is cut to 16 of 17 characters"),
        ("[events]\nADT_A60 = { do = 'something' }", "line 2: events.ADT_A60.do: 'something' is none of"),
        ("[events]\nSIU_S17 = { do = 'appointment' }", "line 2: events.SIU_S17: an appointment needs an action"),
        ("[rules]\ntimezone = 'Mars/Base'", "line 2: rules.timezone: unknown time zone"),
        ("[rules]\nduplicate_hours = -1", "line 2: rules.duplicate_hours: must not be negative"),
        ("[rules]\nrequired = ['Modalty']", "line 2: rules.required[0]: 'Modalty' cannot be mapped, did you mean"),
        ("[[station]]\n[[station]]\nae_titles = ['WAY TOO LONG A TITLE']", "line 3: station[1].ae_titles[0]: longer"),
        ("[[sender]]\ncharacter_set = 'KLINGON'", "line 2: sender[0].character_set: unknown character set"),
        ("[sendr]\n", "line 1: sendr: unknown key"),
        ("[attributes\n", "is no TOML"),
    ],
)
def test_a_fault_is_named_with_its_key_and_line(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(MappingError) as caught:
        site(tmp_path, text)
    assert caught.value.faults[0].startswith(fault), caught.value.faults


def test_all_faults_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(MappingError) as caught:
        site(tmp_path, "[attributes]\nModality = 'x'\nAccessionNumber = 'y'\n[rules]\nnone = 1\n")
    assert len(caught.value.faults) == 3


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(MappingError, match="cannot be read"):
        load_mapping(tmp_path / "none.toml")


def test_the_shipped_mapping_has_a_rule_list_for_every_attribute() -> None:
    assert set(load_mapping()._layers[0][""]) == set(TARGETS)
