"""The server's log: one JSON object a line. Never in it: questions, documents, answers, keys, request bodies."""

from __future__ import annotations

import json
import logging
import time
import traceback
from types import TracebackType
from typing import TextIO

access = logging.getLogger("retgen.server.access")
FIELDS = "fields"
"""The attribute of a log record that holds more fields."""


class JsonLines(logging.Formatter):
    """A record as one JSON object: time, level, logger, message, and the fields it was given.

    Of an exception the type and the frames are kept. Its message is left out: it may quote what a client sent.
    """

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        value: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, FIELDS, {}),
        }
        if record.exc_info and record.exc_info[0] is not None:
            value["exception"] = record.exc_info[0].__name__
            value["frames"] = frames(record.exc_info[2])
        return json.dumps(value, ensure_ascii=False, default=str)


def frames(trace: TracebackType | None) -> list[str]:
    """Where an exception passed through, outermost first."""
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(trace)]


def log_to(stream: TextIO, level: int = logging.INFO) -> None:
    """Send the log of retgen and of uvicorn to a stream, as JSON lines."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    for name in ("retgen", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(level if name == "retgen" else logging.WARNING)
    access.setLevel(level)
