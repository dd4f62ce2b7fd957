"""docs/conformance.md says what the product does: its tables are compared with the code.

`python tests/requirements/test_conformance_document.py` prints the table of attributes as it has to stand there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from dulproto import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, TRANSFER_SYNTAXES, Status
from mwl.attributes import ATTRIBUTES, Attribute, Mode, kinds
from mwl.charset import is_known_character_set
from mwl.config import Filter, Remote, Rules

DOCUMENT = Path(__file__).parents[2] / "docs" / "conformance.md"


def attribute_table() -> Iterator[str]:
    yield '| Attribute | Tag | VR | Matching | with `matching = "statement"` | Key | Return |'
    yield "|---|---|---|---|---|---|---|"
    for attribute in ATTRIBUTES:
        name = ">" * (len(attribute.path) - 1) + attribute.keyword
        tag = f"({attribute.tag >> 16:04X},{attribute.tag & 0xFFFF:04X})"
        both = " | ".join(_kinds(attribute, mode) for mode in ("all", "statement"))
        yield f"| {name} | {tag} | {attribute.vr} | {both} | {attribute.key_type} | {attribute.return_type} |"


def _kinds(attribute: Attribute, mode: Mode) -> str:
    return ", ".join(kinds(attribute, mode)) or "-"


def text() -> str:
    return DOCUMENT.read_text("utf-8")


def codes(section: str) -> list[str]:
    """The first column of the table in a section, without the marks of code."""
    body = text().partition(f"## {section}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.*?) \|", body, re.MULTILINE)[1:]
    return [row.strip("`") for row in rows if not row.startswith("-")]


def test_the_table_of_attributes_is_that_of_the_code() -> None:
    assert "\n".join(attribute_table()) in text()


def test_the_implementation_and_the_transfer_syntaxes_are_those_of_the_code() -> None:
    assert IMPLEMENTATION_CLASS_UID in text()
    assert IMPLEMENTATION_VERSION_NAME in text()
    assert codes("Transfer syntaxes") == list(TRANSFER_SYNTAXES.values())


def test_each_status_of_the_table_is_one_of_the_code() -> None:
    listed = codes("Status codes")
    assert len(listed) > 8
    assert {int(code, 16) for code in listed} <= {*Status}


def test_each_character_set_of_the_table_can_be_read_and_written() -> None:
    listed = [term for row in codes("Character sets") for term in row.split("`, `")]
    assert len(listed) > 30
    assert [term for term in listed if not is_known_character_set(term)] == []


@pytest.mark.parametrize("switch", [*Rules.__struct_fields__, *Filter.__struct_fields__])
def test_each_rule_that_can_be_configured_is_named(switch: str) -> None:
    assert f"`{switch}`" in text()


def test_what_can_be_set_for_a_remote_ae_is_named() -> None:
    own = set(Remote.__struct_fields__) - set(Rules.__struct_fields__) - {"title"}
    assert [name for name in own if f"`{name}`" not in text()] == []


if __name__ == "__main__":
    print("\n".join(attribute_table()))
