"""docs/hl7.md says what the shipped mapping does, and its examples print what they show.

`python tests/mwl/test_hl7_docs.py` writes the tables and outputs anew.
"""

import contextlib
import io
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from mwl.cli import main
from mwl.hl7.mapping import default_text, load_mapping
from mwl.hl7.mapping_table import mapping_rows, to_markdown

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "hl7.md"
GENERATED = re.compile(r"(<!-- (order control|mapping) -->\n).*?(<!-- end -->)", re.DOTALL)
EXAMPLE = re.compile(r"(```console\n\$ mwl ([^\n]*)\n).*?(```)", re.DOTALL)


def order_control() -> Iterator[str]:
    yield "| ORC-1 | ORC-5 | action | status |"
    yield "|---|---|---|---|"
    for key, action in tomllib.loads(default_text())["order_control"].items():
        control, _, status = key.partition("_")
        yield f"| {control} | {status} | {action['action']} | {action.get('status', '')} |"


def table(name: str) -> str:
    lines = to_markdown(mapping_rows(load_mapping())) if name == "mapping" else order_control()
    return "".join(f"{line}\n" for line in lines)


def printed(command: str) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.chdir(ROOT):
        main(shlex.split(command))
    return out.getvalue().rstrip("\n") + "\n"


def written_anew(text: str) -> str:
    text = GENERATED.sub(lambda found: f"{found[1]}{table(found[2])}{found[3]}", text)
    return EXAMPLE.sub(lambda found: f"{found[1]}{printed(found[2])}{found[3]}", text)


def test_the_document_has_the_tables_of_the_shipped_mapping_and_what_the_examples_print() -> None:
    text = DOCUMENT.read_text("utf-8")
    assert len(GENERATED.findall(text)) == 2
    assert len(EXAMPLE.findall(text)) == 3
    assert written_anew(text) == text


def test_the_mapping_of_the_document_has_no_faults(tmp_path: Path) -> None:
    (block,) = re.findall(r"```toml\n(\[rules\].*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
    (tmp_path / "mapping.toml").write_text(block, "utf-8")
    mapping = load_mapping(tmp_path / "mapping.toml")
    assert [station.ae_titles for station in mapping.stations] == [("CT01", "CT02")]


@pytest.mark.parametrize("name", ["orders", "appointment", "patient", "arrive", "merge", "change_id", "ignore"])
def test_every_event_of_the_shipped_mapping_is_in_the_document(name: str) -> None:
    text = DOCUMENT.read_text("utf-8").partition("## Messages")[2].partition("###")[0]
    for key, event in tomllib.loads(default_text())["events"].items():
        if event["do"] == name and "_" in key:
            code, _, trigger = key.partition("_")
            assert f"{code}^" in text
            in_range = "A04" <= trigger <= "A08" and "A04-A08" in text
            assert trigger in text or in_range, key


if __name__ == "__main__":
    DOCUMENT.write_text(written_anew(DOCUMENT.read_text("utf-8")), "utf-8")
