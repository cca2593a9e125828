"""Products of rows with a weight in any format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import ml_dtypes
import numpy as np

from tilec.bench.case import OURS, Made, Make, copies
from tilec.compile import Kernel
from tilec.ir.bits import from_raw
from tilec.ir.coded import Coded
from tilec.ir.dtype import Array
from tilec.ir.fit import Fit, encode
from tilec.ir.format import Dense
from tilec.ir.named import named
from tilec.lang.text import parse
from tilec.runtime.tensor import PackedTensor, packed, quantize

LINEAR = """kernel linear(x: ROWS[M, K], w: WEIGHT[N, K], y: RESULT[M, N]) {
  for m, n in tiles(M, N) {
    acc = zeros([m, n], f32)
    for k in tiles(K) { acc += dot(x[m, k], w[n, k].T) }
    y[m, n] = cast(acc, RESULT)
  }
}"""
STORED = {"bf16": ml_dtypes.bfloat16, "f16": np.float16, "f32": np.float32}
WORST = {"bf16": 1e-2, "f16": 2e-3, "f32": 1e-5}  # relative errors of results


@dataclass(frozen=True)
class Linear:
    """x[M, K] times w[N, K], stored as `weight` says; x is of a dtype, or in codes of a format.

    One row of x reads weights from memory: calls rotate over copies.
    """

    m: int
    n: int
    k: int
    weight: str = "int4<group=128, scale=bf16>"
    x: str = "bf16"

    @property
    def operations(self) -> float:
        """Multiplications and additions."""
        return 2.0 * self.m * self.n * self.k

    @property
    def result(self) -> str:
        """The dtype of y."""
        return self.x if self.x in STORED else "f32"

    def copies(self, nbytes: int) -> int:
        """How many copies of a weight calls rotate over."""
        return copies(nbytes, self.m == 1)

    def rows(self) -> Array:
        """x in f32, of numbers that are bf16s."""
        x = np.random.default_rng(1).standard_normal((self.m, self.k))
        return x.astype(ml_dtypes.bfloat16).astype(np.float32)

    def dense(self) -> Array:
        """A weight in f32, of numbers that are bf16s."""
        w = np.random.default_rng(2).standard_normal((self.n, self.k), np.float32)
        return w.astype(ml_dtypes.bfloat16).astype(np.float32)

    def ours(self) -> Mapping[str, Make]:
        """The kernel as anybody writes it."""
        return {OURS: partial(ours, self)}


def ours(of: Linear) -> Made:
    """tilec's product, ready."""
    weights, dense, nbytes = _weights(of)
    x, given = of.rows(), _given(of)
    seen = x if isinstance(given, np.ndarray) else given.dequantize()
    y = np.full((of.m, of.n), np.nan, STORED[of.result])
    text = LINEAR.replace("WEIGHT", of.weight).replace("RESULT", of.result)
    linear = Kernel(parse(text.replace("ROWS", of.x))["linear"])

    def call(w: Array | PackedTensor) -> Array:
        linear(given, w, y)
        return y

    def want() -> Array:
        return seen.astype(np.float64) @ dense.T.astype(np.float64)

    return Made([partial(call, w) for w in weights], want, nbytes=nbytes,
                operations=of.operations, worst=WORST[of.result])  # fmt: skip


def _given(of: Linear) -> Array | PackedTensor:
    """x as the kernel takes it."""
    x = of.rows()
    return x.astype(STORED[of.x]) if of.x in STORED else quantize(x, of.x, search=False)


def _weights(of: Linear) -> tuple[list[Array] | list[PackedTensor], Array, int]:
    """Copies of the weight, what it means, and the bytes of one."""
    format, shape = named(of.weight), (of.n, of.k)
    if isinstance(format, Dense):
        w = of.dense().astype(STORED[of.weight])
        return [w.copy() for _ in range(of.copies(w.nbytes))], w.astype(np.float32), w.nbytes
    rng = np.random.default_rng(2)
    parts: dict[str, Array] = {}
    for c in format.components(shape):
        size = tuple(int(str(d)) for d in c.shape)
        if c.name.endswith("codes"):
            every = from_raw(c.dtype, np.arange(1 << c.dtype.bits))
            every = every[np.isfinite(every)]
            parts[c.name] = every[rng.integers(0, len(every), size, np.uint16)]
        else:
            parts[c.name] = c.dtype.round(rng.uniform(0.5, 1.5, size))
    if isinstance(format, Coded):  # its components say where others are
        parts = encode(format, rng.standard_normal(shape), Fit())
    first = packed(format, parts, shape)
    weights = [first.copy() for _ in range(of.copies(first.nbytes))]
    return weights, first.dequantize(), first.nbytes
