"""Workers as a Slurm job array: a batch file is text, and everything else is Slurm's."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from tilec.ir.errors import TileError

WORD = re.compile(r"[A-Za-z0-9_.:=%@/+,-]+")
ARRAY = re.compile(r"\d{1,6}(-\d{1,6})?(%\d{1,6})?(,\d{1,6}(-\d{1,6})?)*")
TIME = re.compile(r"(\d{1,4}-)?\d{1,4}(:\d{2}){0,2}")


@dataclass(frozen=True)
class Array:
    """A job array: which indices, how long, what each task gets. Raises TileError for a bad word.

    `before_s` seconds before the end Slurm sends SIGTERM, on which a worker drains.
    """

    indices: str
    time: str
    gpus: int = 1
    cpus: int = 4
    partition: str = ""
    name: str = "tilec"
    before_s: int = 120
    more: Sequence[str] = ()  # further options of sbatch

    def __post_init__(self) -> None:
        if not ARRAY.fullmatch(self.indices):
            raise TileError(f"{self.indices!r} is no array", hint="0-7, 0-31%8, 1,3,5")
        if not TIME.fullmatch(self.time):
            raise TileError(f"{self.time!r} is no time", hint="4:00:00, 1-12:00:00, 90 (minutes)")
        if self.gpus < 0 or self.cpus < 1 or not 10 <= self.before_s <= 65535:
            raise TileError("expected 0 or more GPUs, 1 or more processors, 10 to 65535 seconds")
        for word in (*filter(None, (self.partition, self.name)), *self.more):
            if not WORD.fullmatch(word):
                raise TileError(f"{word!r} has letters that an option of sbatch has not")


def script(array: Array, arguments: Sequence[str], token_file: str = "") -> str:
    """The batch file: each task becomes a worker with these arguments.

    The token is read from a file that only the user can read: it is in no file that this makes and
    on no command line.
    """
    options = [f"--job-name={array.name}", f"--array={array.indices}", f"--time={array.time}",
               "--nodes=1", "--ntasks=1", f"--cpus-per-task={array.cpus}",
               f"--signal=B:TERM@{array.before_s}", "--requeue"]  # fmt: skip
    options += [f"--gpus-per-task={array.gpus}"] if array.gpus else []
    options += [f"--partition={array.partition}"] if array.partition else []
    options += array.more
    lines = ["#!/bin/sh", *(f"#SBATCH {o}" for o in options)]
    if token_file:
        lines.append(f"export TILEC_TOKEN_FILE={shlex.quote(token_file)}")
    # exec: the signal goes to the shell of the batch file alone, which thus is the worker.
    name = '--name "slurm-${SLURM_ARRAY_JOB_ID}-${SLURM_ARRAY_TASK_ID}"'
    grace = max(array.before_s - 10, 5)
    command = shlex.join(["tilec", "worker", "run", *arguments, "--grace", str(grace)])
    return "\n".join([*lines, f"exec {command} {name}", ""])
