"""What a profile says: a row for each kernel and kind of arguments."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tilec.ir.errors import TileError
from tilec.observe import Compile
from tilec.profile.calls import Call
from tilec.profile.recording import Recording
from tilec.profile.roofline import Ceilings, ceilings
from tilec.profile.work import Work, work


@dataclass(frozen=True)
class Row:
    """The calls of a kernel with arguments of one kind. Times are in seconds.

    `warm` are the calls that count for `median`, `minimum` and `total`: those that did not compile
    and did not fail. `clock` is what took their times, as `Call.clock` says. `share` is the least
    time that the machine's ceilings allow over the median, and `bound` which ceiling that is; None
    for GPUs, whose ceilings are not measured. `nested` calls are within calls of other rows.
    """

    kernel: str
    device: str
    clock: str
    calls: int
    warm: int
    failed: int
    nested: bool
    median: float | None
    minimum: float | None
    total: float
    work: Work | None
    share: float | None
    bound: str | None

    def as_json(self) -> dict[str, Any]:
        """For documents."""
        return asdict(self)


def rows(profile: Recording) -> list[Row]:
    """The rows, those with most time first. Ceilings are measured if they are not known yet and a
    kernel ran on the processor."""
    groups: dict[object, list[Call]] = {}
    for call in profile.calls:
        key = id(call.kernel), call.tensors, call.device, call.depth > 0
        groups.setdefault(key, []).append(call)
    here = ceilings() if any(not c.device for c in profile.calls) else None
    found = [_row(calls, profile.compiles, here) for calls in groups.values()]
    return sorted(found, key=lambda r: -r.total)


def _row(calls: Sequence[Call], compiles: Iterable[Compile], here: Ceilings | None) -> Row:
    first = calls[0]
    whole = [c for c in calls if not c.failed]
    warm = [c for c in whole if not _compiled(c, compiles)]
    times = [c.time for c in warm]
    median = statistics.median(times) if times else None
    needed = _work(first)
    share, bound = None, None
    if here is not None and needed is not None and not first.device:
        least, bound = here.least(needed)
        share = least / median if median else None
    return Row(
        first.name, first.device or "cpu", first.clock, len(calls), len(warm),
        len(calls) - len(whole), first.depth > 0, median, min(times, default=None), sum(times),
        needed, share, bound,
    )  # fmt: skip


def _compiled(call: Call, compiles: Iterable[Compile]) -> bool:
    """Whether something was compiled in a call."""
    end = call.start + call.seconds
    return any(c.thread == call.thread and call.start <= c.start <= end for c in compiles)


def _work(call: Call) -> Work | None:
    try:
        return work(call.kernel.definition, call.tensors)
    except TileError:  # the call failed for the same reason
        return None


def document(profile: Recording) -> dict[str, Any]:
    """All of a profile but its single calls."""
    found = rows(profile)
    here = ceilings() if any(r.device == "cpu" for r in found) else None
    return {
        "seconds": profile.end - profile.start,
        "kernels": [r.as_json() for r in found],
        "compiles": [c.as_json() for c in profile.compiles],
        "ceilings": here.as_json() if here else None,
    }
