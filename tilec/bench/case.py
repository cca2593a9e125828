"""What a suite is made of: cases, the problem of each, and the contenders that solve it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, Protocol

import numpy as np

from tilec.ir.dtype import Array
from tilec.tune.measure.timing import last_cache

OURS = "tilec"  # the contender that ratios are of
SECONDS = 0.15  # of a burst of calls
COLD = 160 << 20, 2  # bytes, and times the last cache: copies of as much come from memory
Axis = str | int | float
Ceiling = Literal["read", "copy", "arithmetic", "call"]
BYTES: tuple[Ceiling, ...] = "read", "copy"  # of which shares count bytes, not operations


def as_array(result: Any) -> Array:
    """A result of numpy or torch in f64."""
    found = result.detach().double().numpy() if hasattr(result, "detach") else result
    return np.asarray(found, np.float64)


@dataclass(frozen=True)
class Made:
    """A contender that is ready.

    `calls` are rotated over; each does the work `repeats` times. `got` makes an array of what the
    first one returns, of which `want` gives the first rows in f64 (None: there is no result); the
    norm of the difference may be `worst` times that of `want`. `nbytes` and `operations` are what
    one call must move and do, beside a result whose bytes count because it `returns` one. `kept` is
    memory that it keeps between calls, in bytes, and `about` has other facts, for JSON.
    """

    calls: Sequence[Callable[[], Any]]
    want: Callable[[], Array] | None
    got: Callable[[Any], Array] = as_array
    nbytes: int = 0
    operations: float = 0.0
    worst: float = 1e-2
    repeats: int = 1
    kept: int = 0
    returns: bool = False
    about: Mapping[str, Any] = field(default_factory=dict[str, Any])


# What a process of its own calls: a function of a module, or a partial of one. It raises TileError
# where the contender can't do the case.
Make = Callable[[], Made]


class Problem(Protocol):
    """What contenders solve: a frozen value that travels to their processes."""

    def ours(self) -> Mapping[str, Make]:
        """tilec's contenders, of which one is called OURS."""
        ...


@dataclass(frozen=True)
class Case:
    """A problem under a name, with the axes that tables and plots group by: sizes, formats, dtypes.

    Shares are of a `ceiling` that is measured in the same rounds: bytes read from memory, `moved`
    bytes copied, multiply-adds of `unit` (f32, bf16 or int8), or calls of an empty function.
    """

    name: str
    axes: Mapping[str, Axis]
    problem: Problem
    ceiling: Ceiling | None = None
    moved: int = 0
    unit: str = "bf16"


@dataclass(frozen=True)
class Suite:
    """Cases that are measured together: `cases(True)` are a few small ones.

    `threads` are the numbers that it is measured with, 0 being one for each processor; `seconds` is
    the length of a burst; `rounds` is the most that there are.
    """

    name: str
    about: str
    cases: Callable[[bool], Sequence[Case]]
    threads: tuple[int, ...] = (0,)
    seconds: float = SECONDS
    rounds: int = 1000


@dataclass(frozen=True)
class Peer:
    """A library to compare with. `absent` says why it can't run here, or nothing; `contenders` has
    what it can do of a problem, by name, and is empty for one that it knows nothing of; `loads` are
    modules that take long to load, once for all of its processes."""

    name: str
    absent: Callable[[], str]
    contenders: Callable[[Problem], Mapping[str, Make]]
    loads: tuple[str, ...] = ()


@cache
def rotated() -> int:
    """How many bytes of copies calls rotate over, so that their operands come from memory."""
    return max(COLD[0], COLD[1] * last_cache())


def copies(nbytes: int, cold: bool) -> int:
    """How many copies of an operand calls rotate over: enough that it comes from memory, or one."""
    return max(1, -(-rotated() // nbytes)) if cold else 1


def difference(got: Array, want: Array) -> float:
    """The norm of the difference in that of what is expected, of as many rows as that has."""
    rows = got[: len(want)].astype(np.float64)
    return float(np.linalg.norm(rows - want) / np.linalg.norm(want))
