"""What follows from bursts, in the schema of result files.

A file is {"schema": 1, "machine": {...}, "suites": [...]}. A suite has its name, `threads`,
`rounds`, the peers that were `skipped` with the reason, cases in which ours `failed` with the
reason, and `cases`; a case its name, `axes`, `ceiling`, the contenders that were `skipped`,
`contenders` by name, the `ratios` of tilec to each other one, and the seconds that it `took` to get
`ready` and to be `timed`. Of a contender: `seconds` is the
median of undisturbed calls with `low` and `high` (the 10th and 90th percentile) or null where all
were disturbed, `work` the median of processor seconds of all threads per call, `share` that of the
ceiling, `by` which of `time` and `work` it was computed, `samples_us` undisturbed calls of each
round.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tilec.bench.machine import machine
from tilec.bench.process import Process
from tilec.ir.errors import TileError

SCHEMA = 1
SAMPLES = 60  # of a round that are kept
Result = dict[str, Any]


def document(suites: Sequence[Result]) -> Result:
    """A whole file of results."""
    return {"schema": SCHEMA, "machine": machine(), "suites": list(suites)}


def write(file: Path, result: Result) -> None:
    """Keep results: whole, or as they were before where that is interrupted. Lines are those of
    suites, so that files can be compared."""
    text = json.dumps(result, separators=(",", ":"))
    part = file.with_name(f"{file.name}.part")
    part.write_text(text.replace('{"suite":', '\n{"suite":') + "\n", "utf-8")
    part.replace(file)


def read(file: Path) -> Result:
    """The results of a file. Raises TileError where it has none, or is of another schema."""
    try:
        found: Result = json.loads(file.read_text("utf-8"))
        schema = dict(found).get("schema")
    except (OSError, TypeError, ValueError) as e:
        raise TileError(f"{file}: no results: {e}") from None
    if schema != SCHEMA:
        raise TileError(f"{file}: its schema is {schema}, expected {SCHEMA}")
    return found


def begun(file: Path) -> list[Result]:
    """The suites of a run to go on with, none where there is no file. Raises TileError where it has
    no results, or those of another processor."""
    if not file.exists():
        return []
    found, here = read(file), machine()
    there = found["machine"]["processor"], found["machine"]["cores"]
    if there != (here["processor"], here["cores"]):
        raise TileError(f"{file}: its results are of another machine: {there[0]}")
    return found["suites"]


def joined(earlier: Sequence[Result], later: Sequence[Result]) -> list[Result]:
    """The suites of both, in the order of the earlier ones; a later one takes the place of its
    like."""
    places = {(s["suite"], s["threads"]): s for s in (*earlier, *later)}
    return list(places.values())


def contender(p: Process, ceiling: Process | None, counted: str) -> Result:
    """What was found of a contender; `counted` (nbytes or operations) is what a share counts."""
    known = p.known
    calls = [t for b in p.bursts for t in b.kept]
    low, middle, high = np.quantile(calls, (0.1, 0.5, 0.9)).tolist() if calls else (None,) * 3
    share, by = (None, None) if ceiling is None else _share(p, ceiling, counted)
    return {
        "bytes": known.nbytes, "operations": known.operations, "error": known.error,
        "peak": known.peak, "about": dict(known.about), "seconds": middle, "low": low,
        "high": high, "work": statistics.median(t for b in p.bursts for t in b.work),
        "kept": len(calls), "timed": sum(b.timed for b in p.bursts), "share": share, "by": by,
        "samples_us": [[float(f"{1e6 * t:.5g}") for t in b.kept[:SAMPLES]] for b in p.bursts],
    }  # fmt: skip


def _share(p: Process, ceiling: Process, counted: str) -> tuple[float | None, str | None]:
    """The part of the ceiling, the median over rounds, and by what: where no round is undisturbed,
    processor time stands in for time."""
    amount, most = (float(getattr(x.known, counted)) for x in (p, ceiling))
    if not amount:
        return None, None
    times = [limit / own for own, limit in _rounds(p, ceiling)]
    if times:
        return statistics.median(times) * amount / most, "time"
    return _work(ceiling, p) * amount / most, "work"


def ratio(ours: Process, theirs: Process) -> Result:
    """How many times as fast ours is, the median over rounds: by time where nothing disturbed both
    (`rounds` of them, null for none), and by the processor time of all threads."""
    times = [b / a for a, b in _rounds(ours, theirs)]
    return {"time": statistics.median(times) if times else None, "work": _work(theirs, ours),
            "rounds": len(times)}  # fmt: skip


def _rounds(a: Process, b: Process) -> Iterator[tuple[float, float]]:
    """The median calls of two contenders in each round in which both were undisturbed."""
    for x, y in zip(a.bursts, b.bursts, strict=False):
        if x.kept and y.kept:
            yield statistics.median(x.kept), statistics.median(y.kept)


def _work(a: Process, b: Process) -> float:
    """The ratio of processor times, the median over rounds."""
    pairs = zip(a.bursts, b.bursts, strict=False)
    return statistics.median(statistics.median(x.work) / max(statistics.median(y.work), 1e-9)
                             for x, y in pairs)  # fmt: skip
