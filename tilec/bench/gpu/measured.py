"""One case on a GPU: contenders checked, then timed in turns, in the schema of result files."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from tilec.bench.gpu.case import Case
from tilec.bench.gpu.contender import Contender, ours
from tilec.bench.gpu.held import Operands, Place, made
from tilec.bench.gpu.peers import PEERS
from tilec.bench.gpu.plan import BURST, ROUNDS
from tilec.bench.gpu.timing import Clock, Ready
from tilec.ir.dtype import Array
from tilec.ir.errors import TileError

Result = dict[str, Any]
SAMPLES = 60  # of a round that are kept
FEWEST = 3  # rounds, however little time there is
SPOILT = ("illegal", "misaligned address", "launch failure", "unspecified launch", "device-side")
SIDE = 8192  # of the product that shows what arithmetic reaches


@dataclass(frozen=True)
class Asked:
    """What is measured: rounds (0: results are only checked), the peers that take part (empty: all)
    with the folders of those that need one, seconds that a case may take, and whether cases have
    their reduced sizes."""

    rounds: int = ROUNDS
    peers: tuple[str, ...] = ()
    paths: Mapping[str, str] = field(default_factory=dict[str, str])
    seconds: float = 30.0
    reduced: bool = False


@dataclass(eq=False)
class Entrant:
    """A contender that was right: how far off, how it is run, its times in each round."""

    contender: Contender
    error: float
    ready: Ready | None = None
    rounds: list[list[float]] = field(default_factory=list[list[float]])

    @property
    def medians(self) -> list[float]:
        """Of each round."""
        return [statistics.median(r) for r in self.rounds]


@dataclass(eq=False)
class _Field:
    """Those in the race by name; why peers are not, and what is wrong with ours."""

    entrants: dict[str, Entrant] = field(default_factory=dict[str, Entrant])
    skipped: dict[str, str] = field(default_factory=dict[str, str])
    wrong: dict[str, str] = field(default_factory=dict[str, str])
    spoilt: bool = False

    def attempt(self, name: str, make: Callable[[], Contender], want: Mapping[str, Array],
                clock: Clock | None) -> None:  # fmt: skip
        """Let a contender in if it is right; say why not, whatever a library raises."""
        try:
            contender = make()
            error = contender.check(want)
            ready = clock.ready(contender.calls) if clock is not None else None
            self.entrants[name] = Entrant(contender, error, ready)
        except Exception as e:
            said = e.message if isinstance(e, TileError) else f"{type(e).__name__}: {str(e)[:300]}"
            (self.wrong if name.startswith("tilec ") else self.skipped)[name] = said
            self.spoilt = any(word in said.lower() for word in SPOILT)


def measured(case: Case, place: Place, clock: Clock, asked: Asked) -> Result:
    """The result of a case. Raises TileError where its operands can't be made."""
    began = time.perf_counter()
    operands = made(case.shrunk if asked.reduced else case, place)
    want = operands.want()
    found = _Field()
    for name, make in _makers(operands, asked):
        own = name.startswith("tilec ")
        late = time.perf_counter() - began > asked.seconds
        if late and not own:
            found.skipped[name] = "no time was left for it"
            continue
        if found.spoilt:
            (found.wrong if own else found.skipped)[name] = "the GPU was lost before it"
            continue
        found.attempt(name, make, want, clock if asked.rounds else None)
    if asked.rounds and not found.spoilt:
        _timed(found, operands, clock, asked, began)
    return _result(case, found)


def _makers(operands: Operands, asked: Asked) -> Iterator[tuple[str, Callable[[], Contender]]]:
    """Ours, and the peers that were asked for; one that is absent raises the reason."""
    for way in operands.case.ways:
        if not way.refused:
            yield f"tilec {way.name}", partial(ours, way, operands)
    for name in operands.case.peers if asked.rounds else ():
        if not asked.peers or name in asked.peers:
            yield name, partial(_peer, name, operands, asked)


def _peer(name: str, operands: Operands, asked: Asked) -> Contender:
    why = PEERS[name].absent(asked.paths.get(name, ""))
    if why:
        raise TileError(why)
    return PEERS[name].make(operands)


def _timed(found: _Field, operands: Operands, clock: Clock, asked: Asked, began: float) -> None:
    top = ceiling(operands)
    found.entrants[operands.case.ceiling] = Entrant(top, 0.0, clock.ready(top.calls))
    for done in range(asked.rounds):
        if done >= FEWEST and time.perf_counter() - began > asked.seconds:
            break
        for e in found.entrants.values():
            assert e.ready is not None
            e.rounds.append(clock.burst(e.ready, BURST))


def ceiling(operands: Operands) -> Contender:
    """What the GPU reaches at best: a copy by torch, or its product of large matrices."""
    torch, device, case = operands.torch, operands.place.device, operands.case
    if case.ceiling != "arithmetic":
        size = max(1 << 20, operands.place.cold)
        pairs = [torch.empty(size, dtype=torch.uint8, device=device) for _ in range(2)]
        call = partial(pairs[0].copy_, pairs[1])
        return Contender(case.ceiling, [call], dict, 0.0, 2.0 * size, 0.0)
    side = SIDE if device == "cuda" else 64
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    if case.rate == "half":
        call = partial(torch.matmul, a, b)
    else:
        one = torch.ones((), device=device)
        codes = a.to(torch.float8_e4m3fn), b.to(torch.float8_e4m3fn).t()
        call = partial(torch._scaled_mm, *codes, one, one, out_dtype=torch.bfloat16)
    return Contender(case.ceiling, [call], dict, 0.0, 0.0, 2.0 * side**3)


def _result(case: Case, found: _Field) -> Result:
    entrants = found.entrants
    own = [e for n, e in entrants.items() if n.startswith("tilec ")]
    best = min(own, key=lambda e: min(e.medians, default=0.0), default=None)
    top = entrants.get(case.ceiling)
    others = {n: e for n, e in entrants.items() if e is not best and e is not top}
    return {
        "name": case.name, "axes": axes(case), "ceiling": case.ceiling, "floor": case.floor,
        "contenders": {n: _contender(e, top, case.ceiling) for n, e in entrants.items()},
        "ratios": {n: _ratio(best, e) for n, e in others.items() if best is not None and e.rounds},
        "ours": best.contender.name if best is not None else None,
        "skipped": found.skipped, "wrong": found.wrong, "spoilt": found.spoilt,
    }  # fmt: skip


def axes(case: Case) -> dict[str, Any]:
    """What tables and plots may group a case by."""
    return {**case.dims, **{f"format {n}": t for n, t in case.types.items()},
            "number": case.number}  # fmt: skip


def _contender(e: Entrant, top: Entrant | None, ceiling: str) -> Result:
    c = e.contender
    calls = [t for r in e.rounds for t in r]
    low, middle, high = np.quantile(calls, (0.1, 0.5, 0.9)).tolist() if calls else (None,) * 3
    about = dict(c.about) | ({"graph": e.ready.graph} if e.ready is not None else {})
    return {
        "bytes": c.bytes, "operations": c.operations, "error": e.error, "peak": None,
        "about": about, "seconds": middle, "low": low, "high": high, "work": middle,
        "kept": len(calls), "timed": len(calls), "share": _share(e, top, ceiling), "by": "time",
        "samples_us": [[float(f"{1e6 * t:.5g}") for t in r[:SAMPLES]] for r in e.rounds],
    }  # fmt: skip


def _share(e: Entrant, top: Entrant | None, ceiling: str) -> float | None:
    """The part of the ceiling that was reached, the median over rounds."""
    if top is None or not e.rounds:
        return None
    counted = "operations" if ceiling == "arithmetic" else "bytes"
    amount, most = (float(getattr(x.contender, counted)) for x in (e, top))
    pairs = zip(top.medians, e.medians, strict=False)
    return statistics.median(a / b for a, b in pairs) * amount / most if most else None


def _ratio(best: Entrant | None, e: Entrant) -> Result:
    assert best is not None
    times = [b / a for a, b in zip(best.medians, e.medians, strict=False)]
    middle = statistics.median(times)
    return {"time": middle, "work": middle, "rounds": len(times)}


def shown(results: Sequence[Result]) -> list[str]:
    """What is wrong with ours, a line each."""
    return [f"{r['name']}: {name}: {why}" for r in results for name, why in r["wrong"].items()]
