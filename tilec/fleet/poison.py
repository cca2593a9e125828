"""What broken kernels do to the process that measures them, to try out what becomes of it.

`python -m tilec.fleet.poison`: answers {"fault": NAME} as the measuring process would.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from tilec.fleet.protocol import Failed
from tilec.ir.errors import TileError
from tilec.settings import tool_environment
from tilec.tune.measure.child import Answer, serve
from tilec.tune.measure.measurer import ENDED
from tilec.tune.measure.process import Limits, Lost, Process
from tilec.tune.records import Failure

MEMORY = 1 << 30  # bytes that poison may take
GIGABYTES = 10 << 30
COMMAND = (sys.executable, "-m", "tilec.fleet.poison")
WORKER = "worker"  # the fault that takes the worker down too


def _loop() -> None:
    while True:
        pass


def _memory() -> None:
    held: list[bytearray] = []
    while True:
        held.append(bytearray(64 << 20))


def _forks() -> None:
    while True:
        try:
            os.fork()
        except OSError:
            time.sleep(0.01)


def _output() -> None:
    for _ in range(GIGABYTES >> 20):
        os.write(1, b"x" * (1 << 20))


FAULTS: Mapping[str, Callable[[], None]] = {
    "loop": _loop,
    "segfault": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "abort": os.abort,
    "memory": _memory,
    "forks": _forks,
    "output": _output,
    "exit": lambda: os._exit(0),
}


def of_faults(request: Mapping[str, Any]) -> Answer:
    """Answers that never come."""
    del request

    def answer(asked: Mapping[str, Any]) -> dict[str, Any]:
        FAULTS[asked["fault"]]()
        return {}

    return answer


def poisoned(fault: str, timeout_s: float, stop: threading.Event) -> Failed:
    """What a worker says of a config that does this: measured as any other, in a kept process."""
    if fault == WORKER:
        os.kill(os.getpid(), signal.SIGKILL)
    if fault not in FAULTS:
        raise TileError(f"no fault is called {fault!r}", hint=", ".join(FAULTS))
    start = time.monotonic()
    process = Process(COMMAND, Limits(MEMORY, processes=32), tool_environment())
    try:
        process.ask({}, timeout_s)
        found = process.ask({"fault": fault}, timeout_s - (time.monotonic() - start))
        ours = process.chatters or found.get("failure") == "resource_exceeded"
        failure = Failure.RESOURCE_EXCEEDED if ours else Failure.LAUNCH_ERROR
        how = str(found.get("detail", ""))
    except Lost as e:
        failure, how = Failure.RUN_TIMEOUT if e.slow else failure_of(e.how), e.how
    finally:
        process.end()
    return Failed(failure, how, time.monotonic() - start)


def failure_of(how: str) -> Failure:
    """The class of an end that was not asked for."""
    found = (f for begins, f in ENDED.items() if how.startswith(begins))
    return next(found, Failure.DEVICE_FAULT)


if __name__ == "__main__":
    serve(of_faults)
