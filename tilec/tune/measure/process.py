"""A process that answers requests, of which nothing is left when it is ended.

It has no network, except where the system lets no user make a namespace: that is a fallback, which
is logged and counted.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tilec.ir.errors import TileError
from tilec.observe import fell_back

KEEPER = Path(__file__).with_name("keeper.py")
MOST_SAID = 32 << 20  # bytes on stdout and stderr: who says more is ended
TAIL = 2000  # bytes of them that are kept
LONGEST_ANSWER = 16 << 20
GRACE = 5.0  # seconds for the keeper to end everything


class Lost(Exception):
    """The process did not answer: it was too slow (`slow`), or it is gone; `how` says which way."""

    def __init__(self, how: str, said: str, slow: bool = False) -> None:
        super().__init__(how)
        self.how, self.said, self.slow = how, said, slow


@dataclass(frozen=True)
class Limits:
    """What a process may use: bytes of address space and of a file (0: no limit), processes."""

    memory: int = 0
    file: int = 1 << 30
    processes: int = 64


class Process:
    """A command under a keeper. Its last two arguments are descriptors: it reads a JSON line for
    each request from the first, and writes one for each answer to the second.

    Raises TileError where it can't be started.
    """

    def __init__(self, command: Sequence[str], limits: Limits,
                 environment: Mapping[str, str]) -> None:  # fmt: skip
        pipes = [os.pipe() for _ in range(4)]
        (lifeline, self._lifeline), (self._report, report), (asked, self._asked), \
            (self._answers, answers) = pipes  # fmt: skip
        theirs = (lifeline, report, asked, answers)
        told = json.dumps({"memory": limits.memory, "file": limits.file,
                           "processes": limits.processes})  # fmt: skip
        keeper = [sys.executable, "-I", "-S", str(KEEPER), str(lifeline), str(report), told]
        try:
            self._keeper = subprocess.Popen(
                [*keeper, *command, str(asked), str(answers)], stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, pass_fds=theirs,
                start_new_session=True, env=dict(environment),
            )  # fmt: skip
        except OSError as e:
            for fd in (self._lifeline, self._report, self._asked, self._answers):
                os.close(fd)
            raise TileError(f"a process to measure in can't be started: {e}") from None
        finally:
            for fd in theirs:
                os.close(fd)
        self.alive, self._rest, self._said, self._tail = True, b"", 0, b""
        self._reported = b""
        os.set_blocking(self._report, False)
        assert self._keeper.stdout is not None
        self._listener = threading.Thread(target=self._listen, args=(self._keeper.stdout,),
                                          name="tilec output", daemon=True)  # fmt: skip
        self._listener.start()

    def ask(self, request: Mapping[str, Any], seconds: float) -> Any:
        """The answer to a request. Raises Lost; the process is ended then."""
        until = time.monotonic() + seconds
        try:
            _write(self._asked, json.dumps(request).encode() + b"\n", until)
            line = self._line(until)
            self._hear()
            return json.loads(line)
        except TimeoutError:
            how = f"no answer within {seconds:.3g} s"
            raise Lost(how, self.end()[1], slow=True) from None
        except (OSError, EOFError, ValueError):  # it is gone, or what it says is no JSON
            how, said = self.end(0.2)
            raise Lost(how, said) from None

    @property
    def chatters(self) -> bool:
        """Whether it says more than it may."""
        return self._said > MOST_SAID

    def end(self, patience: float = 0.0) -> tuple[str, str]:
        """End it and all that it started. How it ended, and the last that it said.

        With `patience` it may end by itself for so many seconds.
        """
        if not self.alive:
            return "ended", ""
        self.alive = False
        os.close(self._asked)
        with suppress(subprocess.TimeoutExpired):
            self._keeper.wait(patience)
        os.close(self._lifeline)
        try:
            self._keeper.wait(GRACE)
        except subprocess.TimeoutExpired:
            self._keeper.kill()
            self._keeper.wait()
        self._listener.join(GRACE)
        self._hear()
        how = self._reported.decode(errors="replace").strip() or "killed"
        for fd in (self._report, self._answers):
            os.close(fd)
        if self.chatters:
            how = f"output of {self._said} bytes"
        return how, self._tail.decode(errors="replace")

    def _hear(self) -> None:
        """Take in what the keeper has reported, and tell where the process has a network."""
        with suppress(BlockingIOError):
            self._reported += os.read(self._report, 400)
        if self._reported.startswith(b"network"):
            line, _, self._reported = self._reported.partition(b"\n")
            why = line.decode(errors="replace").partition(" ")[2]
            fell_back("no network", why, "tune")

    def _line(self, until: float) -> bytes:
        """A line of an answer. Raises TimeoutError and EOFError."""
        with selectors.DefaultSelector() as ready:
            ready.register(self._answers, selectors.EVENT_READ)
            while b"\n" not in self._rest:
                left = until - time.monotonic()
                if left <= 0 or not ready.select(left):
                    raise TimeoutError
                more = os.read(self._answers, 1 << 16)
                if not more or len(self._rest) > LONGEST_ANSWER:
                    raise EOFError
                self._rest += more
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _listen(self, out: IO[bytes]) -> None:
        """Keep the last of what is said. Who says too much is not heard any longer, so that the
        next write ends it (SIGPIPE), or else its time limit."""
        with out:
            while more := os.read(out.fileno(), 1 << 16):
                self._said += len(more)
                self._tail = (self._tail + more)[-TAIL:]
                if self.chatters:
                    return


def _write(fd: int, data: bytes, until: float) -> None:
    """Write all of it. Raises TimeoutError where nobody reads."""
    os.set_blocking(fd, False)
    with selectors.DefaultSelector() as ready:
        ready.register(fd, selectors.EVENT_WRITE)
        while data:
            left = until - time.monotonic()
            if left <= 0 or not ready.select(left):
                raise TimeoutError
            data = data[os.write(fd, data) :]
