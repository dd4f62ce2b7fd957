"""The log: one line an event on standard error, written a few at a time.

A line for each association must not cost what the association does: with a thousand modalities there are hundreds a
second.  Lines wait at most a tenth of a second; warnings and errors take what waits with them at once.
"""

from __future__ import annotations

import atexit
import json
import logging
import time
from threading import Timer
from typing import Final, TextIO

__all__ = ["LineHandler", "set_up"]

_WAIT_SECONDS: Final = 0.1
_MOST_WAITING: Final = 500  # lines


class LineHandler(logging.Handler):
    """Writes log records as lines, several in one write."""

    def __init__(self, stream: TextIO, *, as_json: bool = False) -> None:
        super().__init__()
        self.stream = stream
        self.as_json = as_json
        self._waiting: list[str] = []
        self._timer: Timer | None = None
        self._second = -1
        self._time = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record; write it soon."""
        self._waiting.append(self.format(record))
        if record.levelno >= logging.WARNING or len(self._waiting) >= _MOST_WAITING:
            self._write()
        elif self._timer is None:
            self._timer = Timer(_WAIT_SECONDS, self.flush)
            self._timer.daemon = True
            self._timer.start()

    def format(self, record: logging.LogRecord) -> str:
        """Give the line of a record; the time is formatted once a second."""
        second = int(record.created)
        if second != self._second:
            self._second, self._time = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(second))
        at = f"{self._time}.{int(record.msecs):03}"
        message = super().format(record) if record.exc_info else record.getMessage()
        if self.as_json:
            return json.dumps({"time": at, "level": record.levelname, "message": message})
        return f"{at} {record.levelname} {message}"

    def flush(self) -> None:
        """Write what waits."""
        self.acquire()
        try:
            self._write()
        finally:
            self.release()

    def _write(self) -> None:
        lines, self._waiting = self._waiting, []
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if lines:
            self.stream.write("\n".join(lines) + "\n")
            self.stream.flush()


def set_up(stream: TextIO, *, verbose: bool = False, as_json: bool = False) -> None:
    """Log to a stream; with `verbose` every PDU, which may show patient data."""
    # What no line shows need not be found out for each: where the call stands, thread, process and task.
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = LineHandler(stream, as_json=as_json)
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler], force=True)
    atexit.register(handler.flush)
