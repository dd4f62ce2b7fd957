"""The data dictionary, PS3.6: tag to VR and keyword, taken once from pydicom's tables."""

from __future__ import annotations

from typing import Final

from pydicom._dicom_dict import DicomDictionary

# The 34 tags that PS3.6 lets vary.  One that comes without a VR has the first, and OW rather than OB, PS3.5 A.1.
VRS_OF_TAG: Final[dict[int, frozenset[str]]] = {
    tag: frozenset(entry[0].split(" or ")) for tag, entry in DicomDictionary.items() if " or " in entry[0]
}
VR_OF_TAG: Final[dict[int, str]] = {
    tag: "OW" if entry[0] == "OB or OW" else entry[0][:2]
    for tag, entry in DicomDictionary.items()
    if entry[0] != "NONE"
}
KEYWORD_OF_TAG: Final[dict[int, str]] = {tag: entry[4] for tag, entry in DicomDictionary.items() if entry[4]}
TAG_OF_KEYWORD: Final[dict[str, int]] = {keyword: tag for tag, keyword in KEYWORD_OF_TAG.items()}


def tag_text(tag: int) -> str:
    """Print a tag as the standard does, with its keyword if it has one: `(0010,0010) PatientName`."""
    keyword = KEYWORD_OF_TAG.get(tag)
    number = f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
    return f"{number} {keyword}" if keyword else number
