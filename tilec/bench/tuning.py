"""Tuned configs beside the default ones on this processor: how much faster, how long tuning takes,
and whether two tunes that know nothing of each other agree."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from rich.table import Table

from tilec.bench.machine import machine
from tilec.compile import engine
from tilec.ir.dtype import DType, bf16, f32
from tilec.ir.errors import TileError
from tilec.ir.format import Format
from tilec.ir.named import named
from tilec.lang.kernel import Definition
from tilec.lang.text import parse
from tilec.ops import losses, mlp, norm
from tilec.program import Program
from tilec.runtime.tensor import sparsify
from tilec.tune.config import Config
from tilec.tune.contest import SIGMAS, TIE, Ratio, known, ratio
from tilec.tune.job import Subject, policy_of, subject
from tilec.tune.measure.measurer import Measurer
from tilec.tune.records import Trial
from tilec.tune.tuner import Options, Tuned, tune

LINEAR = """kernel linear(x: bf16[M, K], w: FORMAT[N, K], y: bf16[M, N]) {
  for m, n in tiles(M, N) {
    acc = zeros([m, n], f32)
    for k in tiles(K) { acc += dot(x[m, k], w[n, k].T) }
    y[m, n] = cast(acc, bf16)
  }
}"""
ATTENTION = """kernel attention(q: bf16[M, D], k: bf16[N, D], v: bf16[N, D], y: bf16[M, D]) {
  for m in tiles(M) {
    most = full(f32, [m, 1], -inf)
    total = zeros(f32, [m, 1])
    acc = zeros(f32, [m, D])
    for n in tiles(N) {
      s = dot(q[m, :], k[n, :].T) * 0.125
      new = maximum(most, max(s, axis=1, keepdims=true))
      p = exp(s - new)
      old = exp(most - new)
      total = total * old + sum(p, axis=1, keepdims=true)
      acc = acc * old + dot(cast(p, bf16), v[n, :])
      most = new
    }
    y[m, :] = cast(acc / total, bf16)
  }
}"""
BUDGET, CONFIRM, JUDGE = 60, 10.0, 8.0  # configs of a tune, seconds of its end, and of ours
DENSITY = 0.2  # of blocks that are stored


@dataclass(frozen=True)
class Case:
    """A kernel of a family at a shape."""

    family: str
    definition: Definition
    types: Mapping[str, Format | DType]
    dims: Mapping[str, int] = field(hash=False)

    def __str__(self) -> str:
        return f"{self.family} {','.join(f'{n}={d}' for n, d in self.dims.items())}"

    @property
    def subject(self) -> Subject:
        """What is tuned."""
        return subject(self.definition, self.types, self.dims)


def cases() -> Iterator[Case]:
    """At least one shape of each family."""
    for m in (1, 16, 256):
        yield _linear("linear int4", named("int4<group=128>"), m, 2048)
    for m in (64, 512):
        yield _linear("gemm bf16", named("bf16"), m, 1024)
    yield _linear("linear blocks", _blocks(1024, 1024), 16, 1024)
    for m, n in ((64, 1024), (512, 4096)):
        yield _program("softmax", norm.softmax, {"x": f32}, {"M": m, "N": n})
    yield _program("rms norm", norm.rms, {"x": bf16, "gain": bf16}, {"M": 256, "N": 4096})
    (attention,) = parse(ATTENTION).values()
    yield Case("attention", attention, {}, {"M": 512, "N": 512, "D": 64})
    int4 = named("int4<group=64>")
    yield _program("mlp", mlp.swiglu, {"x": bf16, "gate": int4, "up": int4, "down": int4},
                   {"M": 16, "K": 512, "F": 1024, "N": 512})  # fmt: skip
    yield _program("cross-entropy", losses.cross_entropy, {"logits": bf16},
                   {"T": 64, "V": 32000})  # fmt: skip


def _linear(family: str, weight: Format, m: int, side: int) -> Case:
    (linear,) = parse(LINEAR.replace("FORMAT", str(weight))).values()
    return Case(family, linear, {}, {"M": m, "N": side, "K": side})


def _program(family: str, of: Any, types: Mapping[str, Any], dims: Mapping[str, int]) -> Case:
    assert isinstance(of, Program)
    return Case(family, of.kernel(**types).definition, types, dims)


def _blocks(rows: int, columns: int) -> Format:
    """A format with room for a share of the blocks of a matrix."""
    drawn = np.random.default_rng(0).standard_normal((rows, columns), np.float32)
    return sparsify(drawn, named("block<32, 32, bf16>"), density=DENSITY).format


@dataclass(frozen=True)
class Result:
    """Two tunes of a case, and the default and both winners measured in turns."""

    case: Case
    tunes: tuple[Tuned, Tuned]
    trials: tuple[Trial, ...]

    @property
    def gain(self) -> Ratio:
        """How many times as fast as the default the first tune's winner is."""
        default, one, _ = (t.samples for t in self.trials)
        return Ratio(1.0, 1.0, 1.0) if self.tunes[0].config == self.tunes[0].default else (
            ratio(default, one))  # fmt: skip

    @property
    def apart(self) -> Ratio:
        """The time of the second tune's winner over that of the first's."""
        _, one, other = (t.samples for t in self.trials)
        same = self.tunes[0].config == self.tunes[1].config
        return Ratio(1.0, 1.0, 1.0) if same else ratio(other, one)

    @property
    def agree(self) -> bool:
        """Whether both chose the same, or what ties with it when both are measured in turns."""
        return 1 / (1 + TIE) <= self.apart.middle <= 1 + TIE


def measured(case: Case, budget: int = BUDGET) -> Result:
    """Tune a case twice, and compare."""
    of = case.subject
    one, other = (tune(of, Options(budget, seed, confirm=CONFIRM)) for seed in (0, 1))
    configs: list[Config] = [one.default, one.config, other.config]
    with Measurer(of.job, policy_of("cpu"), one.default) as m:
        distinct = list(dict.fromkeys(configs))
        trials = m.confirm(distinct, JUDGE, judge=known, halves=0)
        found = dict(zip(distinct, trials, strict=True))
    failed = [t for t in found.values() if t.failure is not None]
    if failed:
        raise TileError(f"{case}: {failed[0].config} fails now: {failed[0].note}")
    return Result(case, (one, other), tuple(found[c] for c in configs))


def geometric_mean(results: list[Result]) -> Ratio:
    """Of the speedups: first over the shapes of a family, then over families. The interval is what
    measuring leaves open, at 95%."""
    families: dict[str, list[tuple[float, float]]] = {}
    for r in results:
        gain = r.gain
        error = (math.log(gain.high) - math.log(gain.low)) / (2 * SIGMAS)
        families.setdefault(r.case.family, []).append((math.log(gain.middle), error))
    if not families:
        return Ratio(1.0, 1.0, 1.0)
    middle = statistics.fmean(statistics.fmean(g for g, _ in f) for f in families.values())
    square = sum(sum(e * e for _, e in f) / len(f) ** 2 for f in families.values())
    half = 1.96 * math.sqrt(square) / len(families)
    return Ratio(*(math.exp(middle + x) for x in (0.0, -half, half)))


def table(results: list[Result]) -> Table:
    """A row for each case."""
    agreed = sum(r.agree for r in results)
    mean, seconds = geometric_mean(results), sum(t.cost for r in results for t in r.tunes)
    table = Table(title=f"tuned beside default: {mean.middle:.3f} x ({mean.low:.3f} to "
                        f"{mean.high:.3f}; geometric mean over families); two tunes agree on "
                        f"{agreed} of {len(results)}; {seconds:.0f} s of tuning")  # fmt: skip
    for name in ("kernel", "default us", "x", "", "agree", "apart", "tuning s", "compiling s",
                 "configs", "config"):  # fmt: skip
        table.add_column(name, justify="left" if name in ("kernel", "config") else "right",
                         overflow="fold")  # fmt: skip
    for r in results:
        gain, one = r.gain, r.tunes[0]
        table.add_row(str(r.case), f"{1e6 * (r.trials[0].seconds or 0):.1f}", f"{gain.middle:.3f}",
                      f"{gain.low:.3f} to {gain.high:.3f}", "yes" if r.agree else "no",
                      f"{r.apart.middle:.3f}", f"{one.cost:.1f}", f"{one.compiled:.1f}",
                      str(len(one.study.trials)),
                      "default" if r.tunes[0].config == r.tunes[0].default
                      else r.tunes[0].config.text)  # fmt: skip
    return table


def data(results: list[Result]) -> dict[str, Any]:
    """The results as JSON data."""
    rows = [{
        "kernel": str(r.case), "family": r.case.family, "speedup": asdict(r.gain),
        "agree": r.agree, "apart": asdict(r.apart), "tuning_s": [t.cost for t in r.tunes],
        "compile_s": [t.compiled for t in r.tunes], "configs": [t.config.text for t in r.tunes],
        "default": r.tunes[0].default.text, "trials": [len(t.study.trials) for t in r.tunes],
        "failures": [t.failures for t in r.tunes],
        "samples_ms": [[1e3 * s for s in t.samples] for t in r.trials],
    } for r in results]  # fmt: skip
    return {"machine": machine(), "threads": engine().pool.threads,
            "geometric_mean": asdict(geometric_mean(results)),
            "agree": sum(r.agree for r in results), "cases": rows}  # fmt: skip
