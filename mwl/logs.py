"""The log: one line an event on standard error, written a few at a time.

A line for each association must not cost what the association does: with a thousand modalities there are hundreds a
second.  So a record waits, at most a tenth of a second, and is made a line together with others; warnings and errors
take what waits with them at once.  What a record is made of must not change afterwards.
"""

from __future__ import annotations

import atexit
import json
import logging
import time
import traceback
from collections import deque
from threading import Timer
from typing import Any, Final, TextIO

__all__ = ["LineHandler", "options", "place_of", "set_up"]

_WAIT_SECONDS: Final = 0.1
_MOST_WAITING: Final = 500  # lines


def place_of(error: BaseException) -> str:
    """Tell what failed and where; the text of an exception may be a patient's data, its place is not."""
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{frame.name} ({frame.filename.rpartition('/')[2]}:{frame.lineno})" for frame in frames]
    return f"{type(error).__name__} in {' > '.join(places)}"


class Record(logging.LogRecord):
    """A record without what no line shows: where the call stands, thread, process and task."""

    pathname = filename = module = funcName = ""  # noqa: N815
    lineno = 0
    exc_text: str | None = None
    stack_info = thread = threadName = process = processName = taskName = None  # noqa: N815
    relativeCreated = 0.0  # noqa: N815

    def __init__(
        self, name: str, level: int, pathname: str, lineno: int, msg: object, args: Any, exc_info: Any, *_: object
    ) -> None:
        self.name = name
        self.levelno = level
        self.levelname = logging.getLevelName(level)
        self.msg = msg
        self.args = args
        self.exc_info = exc_info
        self.created = time.time()
        self.msecs = self.created % 1 * 1000


class LineHandler(logging.Handler):
    """Writes log records as lines, several in one write."""

    def __init__(self, stream: TextIO, *, as_json: bool = False) -> None:
        super().__init__()
        self.stream = stream
        self.as_json = as_json
        self._waiting: deque[logging.LogRecord] = deque()
        self._timer: Timer | None = None
        self._second = -1
        self._time = ""

    def handle(self, record: logging.LogRecord) -> bool:
        """Take a record; write it soon."""
        self._waiting.append(record)
        if record.levelno >= logging.WARNING or len(self._waiting) >= _MOST_WAITING:
            self.flush()
        elif self._timer is None:
            self._timer = Timer(_WAIT_SECONDS, self.flush)
            self._timer.daemon = True
            self._timer.start()
        return True

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
            timer, self._timer = self._timer, None
            if timer is not None:
                timer.cancel()
            lines = []
            while self._waiting:
                lines.append(self._line(self._waiting.popleft()))
            if lines:
                self.stream.write("\n".join(lines) + "\n")
                self.stream.flush()
        finally:
            self.release()

    def _line(self, record: logging.LogRecord) -> str:
        try:
            return self.format(record)
        except Exception as error:  # of arguments that do not fit: the other lines must not be lost
            return f"a record of {record.name} cannot be written, {type(error).__name__}: {record.msg}"


def set_up(stream: TextIO, *, verbose: bool = False, as_json: bool = False) -> None:
    """Log to a stream; with `verbose` every PDU, which may show patient data."""
    logging._srcfile = None  # look for no caller
    logging.setLogRecordFactory(Record)
    handler = LineHandler(stream, as_json=as_json)
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler], force=True)
    atexit.register(handler.flush)


def options() -> dict[str, bool]:
    """Give the options of `set_up` that are in force, for a process that is to log in the same way."""
    root = logging.getLogger()
    as_json = any(isinstance(handler, LineHandler) and handler.as_json for handler in root.handlers)
    return {"verbose": root.isEnabledFor(logging.DEBUG), "as_json": as_json}
