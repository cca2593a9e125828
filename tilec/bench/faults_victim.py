"""What is put through faults: small kernels that LLVM compiles, in processes of their own."""

from __future__ import annotations

import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tilec.runtime.cache import Cache, Entry, Key
from tilec.runtime.jit import compile_object, host_machine

WRONG, FAILED = 3, 4  # exit codes of processes
_LINES = 40
NOBODY = 65534


@dataclass(frozen=True)
class Outcome:
    """Trials, and in how many the result was wrong, the call failed, or what is on the disk did not
    heal; `compiles` is how often each key was compiled at most, where that is the question."""

    trials: int
    wrong: int = 0
    failed: int = 0
    stuck: int = 0
    note: str = ""
    compiles: int = 1

    @property
    def clean(self) -> bool:
        """Whether all is as it should be."""
        return not (self.wrong or self.failed or self.stuck) and self.compiles == 1


def key(number: int) -> Key:
    """The key of a kernel."""
    return Key({"kind": "fault"}, {"text": _text(number)}, {"kernel": f"k{number}"})


@cache
def code(number: int) -> bytes:
    """Its machine code."""
    return compile_object(_text(number), host_machine())


def compiled(number: int) -> Entry:
    """It compiled again."""
    return Entry(compile_object(_text(number), host_machine()), {"number": number})


def right(entry: Entry | None, number: int) -> bool:
    """Whether an entry is that of a kernel."""
    return entry is not None and entry.payload == code(number)


def asked(cache: Cache, number: int) -> int:
    """0, or WRONG or FAILED: what a user sees who calls a kernel."""
    try:
        return 0 if right(cache.get_or_make(key(number), lambda: compiled(number)), number) else 3
    except BaseException:
        traceback.print_exc()
        return FAILED


def heals(cache: Cache, number: int) -> bool:
    """Whether after one more call the entry is there and right."""
    return asked(cache, number) == 0 and right(cache.get(key(number)), number)


def opened(folder: Path, **options: object) -> Cache:
    """The cache of a trial."""
    return Cache(folder / "cache", locks=folder / "locks", **options)  # type: ignore[arg-type]


def process(what: Callable[[], int], user: int | None = None) -> int:
    """The number of a process that does something and ends with its result as exit code; as another
    user, where this one may."""
    number = os.fork()
    if number:
        return number
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if user is not None and os.geteuid() == 0:
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = what()
    except BaseException:
        traceback.print_exc()
        result = FAILED
    sys.stdout.flush()
    os._exit(result)


def ended(number: int) -> int:
    """The exit code of a process, negative for a signal; waits for its end."""
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])


def counted(trials: int, codes: Sequence[int], stuck: int = 0, note: str = "") -> Outcome:
    """An outcome by exit codes."""
    wrong = sum(c == WRONG for c in codes)
    failed = sum(c not in (0, WRONG) for c in codes)
    return Outcome(trials, wrong, failed, stuck, note)


def _text(number: int) -> str:
    """A function that does a few sums, so that its compilation takes some milliseconds."""
    body = [f"  %x{i + 1} = mul i64 %x{i}, {number + i + 3}" for i in range(_LINES)]
    head = f"define i64 @k{number}(i64 %x0) {{"
    return "\n".join([head, *body, f"  ret i64 %x{_LINES}", "}", ""])
