"""The log: who hears what, and that nothing which users name makes lines of its own."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tilec.ir.errors import TileError
from tilec.observe import DEBUG, INFO, TOPICS, WARNING, escaped, say
from tilec.observe.log import levels, start

ROOT = Path(__file__).parents[2]
NASTY = 'x\n2026-01-01T00:00:00.000Z error cache: "forged"\r\x1b[2J\u202e\u2028\\ a=b'
LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (debug|info|warning|error) (\w+): (.*)")


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """The loggers as they were."""
    loggers = [logging.getLogger(n) for n in ("tilec", *(f"tilec.{t}" for t in TOPICS))]
    before = [(x, list(x.handlers), x.level, x.propagate) for x in loggers]
    yield
    for x, handlers, level, propagate in before:
        x.handlers, x.propagate = handlers, propagate
        x.setLevel(level)


def python(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith("TILEC_LOG")} | variables
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)


def test_nothing_is_heard_and_no_handler_is_there_unless_asked():
    code = """
import logging, tilec
from tilec.observe import WARNING, say
say("cache", WARNING, "trouble", what="x")
print([logging.getLogger(n).handlers for n in ("tilec", "tilec.cache", "")])
"""
    done = python(code)
    assert (done.stdout, done.stderr) == ("[[], [], []]\n", "")
    assert done.stderr == ""


def test_the_variable_starts_it_and_json_has_the_values():
    code = (
        "import tilec; from tilec.observe import *; say('tune', INFO, 'tried', ms=1.5, who='a b')"
    )
    done = python(code, TILEC_LOG="info")
    found = LINE.fullmatch(done.stderr.rstrip("\n"))
    assert found is not None
    assert found.groups() == ("info", "tune", 'tried ms=1.5 who="a b"')
    done = python(code, TILEC_LOG="tune", TILEC_LOG_FORMAT="json")
    said = json.loads(done.stderr)
    assert (said["level"], said["topic"], said["event"]) == ("info", "tune", "tried")
    assert said["values"] == {"ms": 1.5, "who": "a b"}
    assert python(code, TILEC_LOG="warning").stderr == ""
    assert python(code, TILEC_LOG="cache").stderr == ""


WRONG = [
    {"TILEC_LOG": "loud"},
    {"TILEC_LOG": "cache:loud"},
    {"TILEC_LOG": "info", "TILEC_LOG_FORMAT": "xml"},
]


@pytest.mark.parametrize("variables", WRONG)
def test_what_is_asked_wrongly_is_a_warning(variables):
    done = python("import tilec; print('goes on')", **variables)
    assert done.stdout == "goes on\n"
    assert "RuntimeWarning: there is no log: TILEC_LOG" in done.stderr
    assert "expected" in done.stderr


def test_levels_of_topics():
    off = logging.CRITICAL + 1
    assert levels("debug") == {"": DEBUG}
    assert levels("cache,tune:debug") == {"": off, "cache": DEBUG, "tune": DEBUG}
    assert levels("info, cache:off ,") == {"": INFO, "cache": off}
    for wrong in ("cache:", "quiet", "debug:cache", "cache:debug:info"):
        with pytest.raises(TileError, match="TILEC_LOG has"):
            levels(wrong)


def test_a_topic_has_its_own_level(capsys):
    start("warning,cache:debug", "text")
    say("cache", DEBUG, "hit")
    say("tune", INFO, "tried")
    say("tune", WARNING, "lost")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == ["cache: hit", "tune: lost"]


def test_starting_again_replaces_and_leaves_other_handlers(capsys):
    root, other = logging.getLogger("tilec"), logging.NullHandler()
    root.addHandler(other)
    start("info", "text")
    start("info", "json")
    say("gpu", INFO, "found")
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert other in root.handlers
    assert len(root.handlers) == 2


def test_lines_are_not_said_twice_by_an_application_s_own_handlers(capsys, caplog):
    start("info", "text")
    say("gpu", INFO, "found")
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not caplog.records  # its handler is that of the root


def test_users_can_not_forge_lines(capsys):
    start("info", "text")
    say("compile", INFO, "compiled", kernel=NASTY, ms=1.0)
    logging.getLogger("tilec.cache").info("by others: %s", NASTY)
    try:
        raise ValueError(NASTY)
    except ValueError:
        logging.getLogger("tilec.cache").exception("failed")
    said = capsys.readouterr().err
    lines = said[:-1].split("\n")
    assert len(lines) == 3
    assert all(LINE.fullmatch(line) for line in lines)
    assert all(line.isprintable() for line in lines)
    assert lines[0].endswith(" ms=1")
    quoted = lines[0].partition("kernel=")[2].rpartition(" ms=")[0]
    assert re.fullmatch(r'"([^"\\]|\\.)*"', quoted)
    assert "ValueError" in lines[2]


def test_users_can_not_forge_json(capsys):
    start("info", "json")
    say("compile", INFO, "compiled", kernel=NASTY + "\ud800", share=float("nan"))
    said = capsys.readouterr().err
    assert len(said[:-1].split("\n")) == 1
    assert json.loads(said)["values"] == {"kernel": NASTY + "\ud800", "share": "nan"}


def test_escaped_text_says_what_it_was():
    assert escaped("plain words, ünïcode") == "plain words, ünïcode"
    assert escaped("a\nb\x1b\u202e\\") == r"a\nb\x1b\u202e\\"
    assert escaped("\\n") != escaped("\n")
    assert len(escaped("x" * 10_000)) < 2100


def test_applications_may_listen_without_the_variable(caplog):
    with caplog.at_level(logging.DEBUG, "tilec"):
        say("cache", DEBUG, "hit", layer="site")
    assert [r.getMessage() for r in caplog.records] == ["hit layer=site"]
    assert caplog.records[0].values == {"layer": "site"}
