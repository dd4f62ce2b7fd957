"""The log of the provider: lines, their order, and that none is lost."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys

import pytest

from mwl.logs import LineHandler


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


def logger(stream: io.StringIO, *, as_json: bool = False) -> tuple[logging.Logger, LineHandler]:
    handler = LineHandler(stream, as_json=as_json)
    made = logging.Logger("test")
    made.addHandler(handler)
    return made, handler


def test_lines_wait_and_are_written_in_order(stream: io.StringIO) -> None:
    log, handler = logger(stream)
    log.info("one %d", 1)
    log.info("two")
    assert stream.getvalue() == ""
    handler.flush()
    assert [line.split(" ", 1)[1] for line in stream.getvalue().splitlines()] == ["INFO one 1", "INFO two"]


def test_a_warning_is_written_at_once_with_what_waits(stream: io.StringIO) -> None:
    log, handler = logger(stream)
    log.info("before")
    log.warning("look")
    assert [line.split(" ", 1)[1] for line in stream.getvalue().splitlines()] == ["INFO before", "WARNING look"]
    handler.flush()
    assert stream.getvalue().count("\n") == 2


def test_many_lines_do_not_wait(stream: io.StringIO) -> None:
    log, handler = logger(stream)
    for number in range(1000):
        log.info("%d", number)
    assert stream.getvalue().count("\n") == 1000
    handler.flush()


def test_a_line_is_written_soon_even_if_nothing_follows() -> None:
    class Told(io.StringIO):
        def flush(self) -> None:
            written.append(self.getvalue())

    written: list[str] = []
    log, handler = logger(Told())
    log.info("alone")
    assert handler._timer is not None
    handler._timer.join()
    assert written[0].endswith("INFO alone\n")


def test_json_lines_can_be_read_back(stream: io.StringIO) -> None:
    log, _ = logger(stream, as_json=True)
    log.warning('a "quoted" thing')
    line = json.loads(stream.getvalue())
    assert line["level"] == "WARNING"
    assert line["message"] == 'a "quoted" thing'


def test_a_traceback_comes_with_its_line(stream: io.StringIO) -> None:
    log, _ = logger(stream)
    try:
        raise ValueError("why")
    except ValueError:
        log.exception("failed")
    assert "ERROR failed\nTraceback" in stream.getvalue()
    assert "ValueError: why" in stream.getvalue()


def test_what_waits_is_written_when_the_program_ends() -> None:
    program = "import logging, sys; from mwl import logs; logs.set_up(sys.stderr); logging.info('the end')"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stderr.endswith("INFO the end\n")
