"""`mwl explain`: what it prints for the questions that sites have."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest

from mwl.cli import main
from mwl.demo import sample_entries
from mwl.store import Put, Store

CONFIGURATION = """
[store]
path = "worklist.db"
[[ae]]
title = "WORKLIST"
[[ae]]
title = "STATEMENT"
matching = "statement"
ae_key_ignore_case = false
[[ae]]
title = "MR_ONLY"
filter = { modality = ["MR"] }
[[remote]]
title = "CT1"
filter = { station_ae_title = ["CT1"] }
[[remote]]
title = "DEAF"
honour_matching_keys = false
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    file = tmp_path / "mwl.toml"
    file.write_text(CONFIGURATION)
    store = Store(tmp_path / "worklist.db")
    store.commit_now([Put(entry) for entry in sample_entries(100, date(2026, 11, 24))])
    store.close()
    return str(file)


def explained(capsys: pytest.CaptureFixture[str], config: str, *arguments: str) -> str:
    assert main(["explain", "-c", config, *arguments]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--called", "STATEMENT", "-k", "ScheduledStationAETitle=ct1"), "differs in case alone"),
        (("-k", "ScheduledProcedureStepStartDate=20261120", "-k", "Modality=CT"), "ScheduledProcedureStepStartDate"),
        (("--called", "STATEMENT", "-k", "Modality=C*"), "which stand for themselves in this key"),
        (("--called", "MR_ONLY", "-k", "Modality=CT"), "are hidden by the filter ae.modality: CT"),
        (("--calling", "CT1", "-k", "Modality=MR"), "are hidden by the filter remote.station_ae_title"),
        ((), "are hidden by the filter status:"),
        (("--calling", "DEAF", "-k", "Modality=CT"), "matching keys are not honoured"),
    ],
)
def test_the_cause_is_named(
    capsys: pytest.CaptureFixture[str], config: str, arguments: tuple[str, ...], said: str
) -> None:
    assert said in explained(capsys, config, *arguments)


def test_the_key_that_leaves_nothing_is_named(capsys: pytest.CaptureFixture[str], config: str) -> None:
    said = explained(capsys, config, "-k", "Modality=CT", "-k", "ScheduledStationAETitle=CT9")
    assert "SPS/ScheduledStationAETitle leaves nothing." in said
    assert "with CT1" in said


def test_json_carries_the_same(capsys: pytest.CaptureFixture[str], config: str) -> None:
    explanation = json.loads(explained(capsys, config, "--json", "-k", "Modality=CT"))
    assert explanation["entries"] == 100
    assert explanation["found"] >= len(explanation["listed"]) > 0


def test_a_title_that_nobody_answers_to_is_said_so(capsys: pytest.CaptureFixture[str], config: str) -> None:
    assert main(["explain", "-c", config, "--called", "NOBODY"]) == 1
    assert "no [[ae]] has the title 'NOBODY'" in capsys.readouterr().err


def test_a_query_without_an_answer_is_explained_by_its_status(
    capsys: pytest.CaptureFixture[str], config: str
) -> None:
    assert main(["explain", "-c", config, "-k", "PatientName=" + "X" * 2000]) == 1
    assert "A900H" in capsys.readouterr().err
