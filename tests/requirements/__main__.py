"""`python -m tests.requirements`: the requirements of the worklist, the tests that name each, and how they end.

Options go to pytest.  Exits with 1 if a requirement has no test, or one that fails.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from pathlib import Path

import pytest

REQUIREMENTS = (
    *(f"R_{n:03}" for n in (1, 2, 3, 4, *range(10, 19), *range(20, 28), 30, *range(40, 52), *range(55, 59))),
    *(f"R_{n:03}" for n in (60, 61, 62, 63, 64, 70, 71)),
)
# Quirks of queries, and of answers and load; those of data sets, PDUs and HL7 are tested where they are read.
QUIRKS = tuple(f"Q_{n:02}" for n in (*range(1, 24), *range(66, 81)))

HERE = Path(__file__).parent
NAMED = re.compile(r"test_((?:[RQ]_\d+_)+)")


class Results:
    """A plugin of pytest that keeps the outcome of each test that names requirements."""

    def __init__(self) -> None:
        self.tests: dict[str, set[str]] = defaultdict(set)
        self.failed: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name = report.nodeid.rpartition("::")[2]
        found = NAMED.match(name)
        for number in re.findall(r"[RQ]_\d+", found[1]) if found else ():
            test = report.nodeid.partition("[")[0]
            self.tests[number].add(test)
            if report.failed or report.skipped:
                self.failed.add(test)


def main(options: list[str]) -> int:
    results = Results()
    pytest.main(
        ["--no-header", "-k", "test_R_ or test_Q_", *options, str(HERE), str(HERE.parent / "mwl")], plugins=[results]
    )
    wanting = 0
    for number in (*REQUIREMENTS, *QUIRKS):
        tests = sorted(results.tests[number])
        outside = sum("tests/requirements" in test for test in tests)
        failed = [test for test in tests if test in results.failed]
        result = "MISSING" if not tests else "FAILED" if failed else "passed"
        wanting += result != "passed"
        through = f"{outside} of {len(tests)} through the wire" if tests else ""
        print(f"{number.replace('_', '-')}  {result:8}{through}")
        for test in tests:
            print(f"         {'FAILED ' if test in failed else ''}{test.rpartition('::')[2].removeprefix('test_')}")
    print(f"{len(REQUIREMENTS) + len(QUIRKS) - wanting} passed, {wanting} without a test or failed")
    return min(wanting, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
