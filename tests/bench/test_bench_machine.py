"""The measurements are where they say they are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = "from bench import machine; print(machine.cores()); machine.pin(0, {max(machine.cores()[1])}); "


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system keeps no process on a core")
def test_the_cores_of_server_and_generator_stay_when_the_program_keeps_itself_on_one() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM + "print(machine.cores())"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    before, after = ended.stdout.splitlines()
    assert before == after
