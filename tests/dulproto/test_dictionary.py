from __future__ import annotations

import pytest
from pydicom.datadict import DicomDictionary, dictionary_VR, keyword_dict

from dulproto.dictionary import KEYWORD_OF_TAG, TAG_OF_KEYWORD, VR_OF_TAG, VRS_OF_TAG, tag_text


def test_every_tag_has_a_vr_that_the_dictionary_allows() -> None:
    named = {tag for tag, entry in DicomDictionary.items() if entry[0] != "NONE"}
    assert set(VR_OF_TAG) == named
    assert {tag for tag in named if VR_OF_TAG[tag] not in dictionary_VR(tag).split(" or ")} == set()


def test_the_tags_that_may_have_several_vrs_are_those_of_the_dictionary() -> None:
    several = {tag: set(dictionary_VR(tag).split(" or ")) for tag in VR_OF_TAG if " or " in dictionary_VR(tag)}
    assert several == VRS_OF_TAG
    assert len(several) == 34
    assert VRS_OF_TAG[0x7FE00010] == {"OB", "OW"}


def test_items_and_delimiters_have_no_vr() -> None:
    assert not {0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD} & set(VR_OF_TAG)


def test_keywords_and_tags_are_inverse() -> None:
    assert {keyword: TAG_OF_KEYWORD[keyword] for keyword in keyword_dict if keyword} == {
        keyword: tag for keyword, tag in keyword_dict.items() if keyword
    }
    assert all(TAG_OF_KEYWORD[keyword] == tag for tag, keyword in KEYWORD_OF_TAG.items())


@pytest.mark.parametrize(
    ("tag", "text"),
    [
        (0x00100010, "(0010,0010) PatientName"),
        (0x0040A043, "(0040,A043) ConceptNameCodeSequence"),
        (0xFFFEE000, "(FFFE,E000) Item"),
        (0x00091001, "(0009,1001)"),
        (0x00000000, "(0000,0000) CommandGroupLength"),
        (0xFFFFFFFF, "(FFFF,FFFF)"),
    ],
)
def test_a_tag_is_printed_as_the_standard_prints_it(tag: int, text: str) -> None:
    assert tag_text(tag) == text
