"""Hypothesis profiles, `default` and `fuzz` (HYPOTHESIS_PROFILE=fuzz) for a long search; what a machine may lack."""

import os
import shutil
import sys
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

_EXAMPLES = 40

settings.register_profile("default", max_examples=_EXAMPLES, deadline=None, derandomize=True)
settings.register_profile(
    "fuzz", max_examples=50 * _EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


# pynetdicom puts programs with the names of DCMTK's beside Python's: an activated environment would find those first.
_BESIDE_PYTHON = os.path.dirname(sys.executable)
os.environ["PATH"] = os.pathsep.join(
    folder for folder in os.environ.get("PATH", os.defpath).split(os.pathsep) if folder != _BESIDE_PYTHON
)

DCMTK = ("findscu", "echoscu", "wlmscpfs", "dump2dcm", "dcmdump")


def _skip_without_dcmtk(item: pytest.Item) -> Generator[None, object, object]:
    """Skip a test whose peer is not installed on a developer's machine; the gate installs it, and skips nothing."""
    try:
        return (yield)
    except FileNotFoundError as exc:
        missing = [name for name in DCMTK if shutil.which(name) is None]
        if missing and exc.filename in (None, *missing) and not os.environ.get("CI"):  # uvloop does not say which
            pytest.skip(f"DCMTK is not installed: no {missing[0]}")
        raise


pytest_runtest_setup = pytest.hookimpl(wrapper=True)(_skip_without_dcmtk)
pytest_runtest_call = pytest.hookimpl(wrapper=True)(_skip_without_dcmtk)
