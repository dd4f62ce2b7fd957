"""Unique identifiers, PS3.6 Annex A, and those of this implementation."""

from __future__ import annotations

from typing import Final

APPLICATION_CONTEXT: Final = "1.2.840.10008.3.1.1.1"
VERIFICATION: Final = "1.2.840.10008.1.1"
MODALITY_WORKLIST_FIND: Final = "1.2.840.10008.5.1.4.31"

IMPLICIT_LE: Final = "1.2.840.10008.1.2"
EXPLICIT_LE: Final = "1.2.840.10008.1.2.1"
EXPLICIT_BE: Final = "1.2.840.10008.1.2.2"

TRANSFER_SYNTAXES: Final = {
    "implicit-le": IMPLICIT_LE,
    "explicit-le": EXPLICIT_LE,
    "explicit-be": EXPLICIT_BE,
}
"""The transfer syntaxes that `elements` encodes, by the short names used in configuration."""

IMPLEMENTATION_CLASS_UID: Final = "2.25.337883110331638853911978678592832244417"
IMPLEMENTATION_VERSION_NAME: Final = "DULPROTO_1"


def uid_name(uid: str) -> str:
    """Name a UID as PS3.6 does; an unknown one is its own name."""
    from pydicom._uid_dict import UID_dictionary  # 30 ms to import, and only people ask for names

    return UID_dictionary[uid][0] if uid in UID_dictionary else uid
