"""The log: Python's logging, under `tilec` and a logger for each topic below it.

`TILEC_LOG` names a level for all topics (`debug`), topics (`cache`: all that they say), or topics
with levels (`cache,tune:info`), separated by commas; `TILEC_LOG_FORMAT` is text or json. Without
the variable no handler is ours: what applications set up for `tilec` is used, if anything.

A line is one event with named values. Whatever a value holds, it stays on its line and inside its
quotes, as kernels and files are named by users.
"""

from __future__ import annotations

import json
import logging
import math
import sys
import time
import warnings
from collections.abc import Mapping
from typing import Any, cast

from tilec.ir.errors import TileError
from tilec.settings import log_settings

DEBUG, INFO, WARNING, ERROR = logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR
TOPICS = ("cache", "compile", "gpu", "launch", "profile", "serve", "tune")
FORMATS = ("text", "json")
_OFF = logging.CRITICAL + 1
_LEVELS = {"debug": DEBUG, "info": INFO, "warning": WARNING, "error": ERROR, "off": _OFF}
_LONGEST = 2000  # letters of a value
_ROOT = "tilec"


def say(topic: str, level: int, event: str, **values: object) -> None:
    """Log an event, such as `say("cache", DEBUG, "hit", layer="site")`; almost nothing where no one
    listens."""
    logger = logging.getLogger(f"{_ROOT}.{topic}")
    # Without any handler Python prints warnings itself: users get ours as warnings already.
    if logger.isEnabledFor(level) and logger.hasHandlers():
        logger.log(level, "%s", _line(event, values), extra={"event": event, "values": values})


def escaped(text: str) -> str:
    """Text on one line that a terminal shows as it is: what is no printable character (newlines,
    escape sequences, marks that turn the direction) as its code."""
    whole = text if len(text) <= _LONGEST else text[:_LONGEST] + "..."
    if whole.isprintable() and "\\" not in whole:
        return whole
    return "".join(c if c.isprintable() and c != "\\" else _code(c) for c in whole)


def _code(c: str) -> str:
    return c.encode("unicode_escape", "surrogatepass").decode("ascii")


def _line(event: str, values: Mapping[str, object]) -> str:
    return " ".join([event, *(f"{name}={_quoted(value)}" for name, value in values.items())])


def _quoted(value: object) -> str:
    text = escaped(f"{value:.6g}" if isinstance(value, float) else str(value))
    if text and not set(text) & set(' "='):
        return text
    return '"' + text.replace('"', '\\"') + '"'


def levels(text: str) -> dict[str, int]:
    """The levels that TILEC_LOG gives topics; those of all others are under the empty name.

    Raises TileError for what is neither a topic nor a level.
    """
    found = {"": _OFF}
    for word in filter(None, (part.strip() for part in text.split(","))):
        name, colon, level = word.partition(":")
        if not colon and name in _LEVELS:
            found[""] = _LEVELS[name]
        elif name in TOPICS and level in (*_LEVELS, "") and bool(level) is bool(colon):
            found[name] = _LEVELS[level or "debug"]
        else:
            raise TileError(f"TILEC_LOG has {word!r}, expected a level ({', '.join(_LEVELS)}), "
                            f"a topic ({', '.join(TOPICS)}) or TOPIC:LEVEL")  # fmt: skip
    return found


def checked(text: str, format: str) -> dict[str, int]:
    """The levels. Raises TileError for other texts than TILEC_LOG and TILEC_LOG_FORMAT may be."""
    if format not in FORMATS:
        raise TileError(f"TILEC_LOG_FORMAT is {format!r}, expected {' or '.join(FORMATS)}")
    return levels(text)


def start(text: str, format: str) -> logging.Handler:
    """Let the log be written to stderr, as TILEC_LOG and TILEC_LOG_FORMAT say.

    Instead of what an earlier call asked for. Raises TileError for other texts.
    """
    chosen = checked(text, format)
    handler = _Stderr()
    handler.setFormatter(_Json() if format == "json" else _Text())
    root = logging.getLogger(_ROOT)
    root.handlers = [h for h in root.handlers if not isinstance(h, _Stderr)] + [handler]
    root.propagate = False  # else an application that logs to stderr has every line twice
    root.setLevel(chosen[""])
    for topic in TOPICS:
        logging.getLogger(f"{_ROOT}.{topic}").setLevel(chosen.get(topic, logging.NOTSET))
    return handler


def start_as_asked() -> None:
    """Do what the environment asks for. What it asks wrongly is a RuntimeWarning and no log: a
    program need not stop for that."""
    asked = log_settings()
    if asked is None:
        return
    try:
        start(*asked)
    except TileError as e:
        warnings.warn(f"there is no log: {e}", RuntimeWarning, stacklevel=2)


class _Stderr(logging.Handler):
    """Writes to what stderr is at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        """One line, at once."""
        try:
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()
        except Exception:
            self.handleError(record)


def _said(record: logging.LogRecord) -> tuple[str, Mapping[str, object]]:
    """The event and the values of a record, which may be by others than `say`."""
    event: object = getattr(record, "event", None)
    values: Any = getattr(record, "values", None)
    if isinstance(event, str) and isinstance(values, dict):
        return event, cast(dict[str, object], values)
    return escaped(record.getMessage()), {}


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """`2026-01-01T12:00:00.000Z debug cache: hit layer=site`."""
        topic = record.name.removeprefix(f"{_ROOT}.")
        line = (
            f"{_time(record)} {record.levelname.lower()} {escaped(topic)}: {_line(*_said(record))}"
        )
        return line + (f" traceback={_quoted(self._traceback(record))}" if record.exc_info else "")

    def _traceback(self, record: logging.LogRecord) -> str:
        return self.formatException(record.exc_info) if record.exc_info else ""


class _Json(_Text):
    def format(self, record: logging.LogRecord) -> str:
        """One object a line: time, level, topic, event, values, pid, thread."""
        event, values = _said(record)
        document = {
            "time": _time(record), "level": record.levelname.lower(),
            "topic": record.name.removeprefix(f"{_ROOT}."), "event": event,
            "values": {n: _plain(v) for n, v in values.items()},
            "pid": record.process, "thread": record.thread,
        }  # fmt: skip
        if record.exc_info:
            document["traceback"] = self._traceback(record)
        return json.dumps(document)


def _time(record: logging.LogRecord) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{int(record.msecs):03}Z"


def _plain(value: object) -> Any:
    """A value as JSON has it: what it has not as text."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    text = str(value)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."
