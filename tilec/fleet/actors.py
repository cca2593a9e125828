"""Workers as Ray actors: Ray places one on each GPU and starts it again when it dies.

Ray holds nothing that must not be lost, and only JSON goes to it: the state is in the service. A
cluster without token authentication runs anybody's code (CVE-2023-48022), so one must be asked for.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from tilec.ir.errors import TileError
from tilec.settings import settings

OLDEST = (2, 54)  # before: CVE-2026-27482, a page elsewhere could delete jobs
AGAIN_S, SAME_S = 1.0, 5.0  # seconds between two tries, and of what counts as one death
DEATHSIG = 1  # prctl(2): PR_SET_PDEATHSIG


@dataclass(frozen=True)
class Crew:
    """How many workers, and what Ray is to give to each."""

    count: int
    gpus: float = 1
    cpus: float = 1
    resources: tuple[tuple[str, float], ...] = ()


def require(environment: Mapping[str, str]) -> None:
    """Raises TileError where Ray is missing, too old, or used without token authentication."""
    try:
        found = tuple(int(n) for n in version("ray").split(".")[:2])
    except PackageNotFoundError:
        raise TileError("Ray is not installed", hint="pip install 'tilec[ray]'") from None
    if found < OLDEST:
        raise TileError(f"Ray is {version('ray')}, expected {OLDEST[0]}.{OLDEST[1]} or later")
    if environment.get("RAY_AUTH_MODE", "").lower() != "token":
        raise TileError("Ray's token authentication is off, so that anybody who reaches it can run "
                        "code", hint="RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH")  # fmt: skip


class TuneWorker:
    """An actor: a `tilec worker` as a child, which ends when the actor does."""

    def run(self, text: str) -> int:
        """The exit code of a worker. `text` is JSON: {"arguments": [...], "environment": {...}}."""
        told = json.loads(text)
        program = [sys.executable, "-c", "from tilec.cli import main; main()", "worker", "run"]
        environment = {**settings().environment, **told["environment"]}
        command = [*program, *told["arguments"]]
        with subprocess.Popen(command, env=environment, preexec_fn=_dies_with_parent) as child:
            return child.wait()

    def pid(self) -> int:
        """The process of this actor."""
        return os.getpid()


def _dies_with_parent() -> None:
    """The kernel kills this process when its parent dies, whatever it dies of."""
    ctypes.CDLL(None).prctl(DEATHSIG, signal.SIGKILL)


def crew(ray: Any, wanted: Crew) -> list[Any]:
    """The actors. Each has its device to itself, and is started again for as long as it dies."""
    actor = ray.remote(num_gpus=wanted.gpus, num_cpus=wanted.cpus, max_restarts=-1,
                       max_task_retries=0, max_concurrency=2,
                       resources=dict(wanted.resources) or None)(TuneWorker)  # fmt: skip
    return [actor.remote() for _ in range(wanted.count)]


def run(ray: Any, actors: Sequence[Any], told: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Run a worker in each actor until all have ended; a line for each that ended or died.

    An actor that died is asked again: Ray starts another process for it, here or elsewhere.
    """
    texts = [json.dumps(t) for t in told]
    under_way = {a.run.remote(t): i for i, (a, t) in enumerate(zip(actors, texts, strict=True))}
    last: dict[int, float] = {}
    while under_way:
        ready, _ = ray.wait(list(under_way), num_returns=1)
        place = under_way.pop(ready[0])
        try:
            code = ray.get(ready[0])
        except ray.exceptions.RayActorError:  # also while another is being started
            now = time.monotonic()
            if now - last.get(place, -SAME_S) >= SAME_S:
                yield f"worker {place} died with its actor: another is started"
            last[place] = now
            time.sleep(AGAIN_S)
            under_way[actors[place].run.remote(texts[place])] = place
            continue
        yield f"worker {place} ended with exit code {code}"
