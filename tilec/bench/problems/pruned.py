"""Products of rows with a weight of which most is zero."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import ml_dtypes
import numpy as np

from tilec.bench.case import OURS, Made, Make, copies
from tilec.bench.problems.linear import LINEAR
from tilec.compile import Kernel
from tilec.ir.dtype import Array
from tilec.lang.text import parse
from tilec.runtime.tensor import PackedTensor, quantize, sparsify

Stored = Array | PackedTensor
WORST = 1e-2  # relative error of a result


@dataclass(frozen=True)
class Pruned:
    """x[M, K] times w[N, K] of which a part (`density`) is left, in squares of `side` elements (1:
    drawn one by one; 0: those of each group that `format` keeps), stored in a sparse format."""

    m: int
    n: int
    k: int
    format: str
    density: float
    side: int = 1

    @property
    def operations(self) -> float:
        """Multiplications and additions of what is left."""
        return 2.0 * self.m * self.n * self.k * self.density

    @property
    def dtype(self) -> str:
        """bf16 or f32: of what is stored, and of x."""
        return "f32" if "f32" in self.format else "bf16"

    def weight(self) -> Array:
        """w[N, K] in f32, of numbers that are bf16s."""
        rng = np.random.default_rng(2)
        drawn = rng.standard_normal((self.n, self.k), np.float32)
        drawn = drawn.astype(ml_dtypes.bfloat16).astype(np.float32)
        if not self.side:
            return sparsify(drawn, self.format).dequantize()
        kept = rng.random((self.n // self.side, self.k // self.side), np.float32) < self.density
        return drawn * np.repeat(np.repeat(kept, self.side, 0), self.side, 1)

    def rows(self) -> Array:
        """x[M, K] in f32, of numbers that are bf16s."""
        x = np.random.default_rng(1).standard_normal((self.m, self.k))
        return x.astype(ml_dtypes.bfloat16).astype(np.float32)

    def copies(self, nbytes: int) -> int:
        """How many copies of a weight calls rotate over, so that few rows read it from memory."""
        return copies(nbytes, self.m <= 16)

    def want(self, weight: Array, x: Array) -> Array:
        """The result in f64."""
        return x.astype(np.float64) @ weight.T.astype(np.float64)

    def ours(self) -> Mapping[str, Make]:
        """The kernel of a dense layer."""
        return {OURS: partial(_ours, self)}


def _ours(of: Pruned) -> Made:
    weight, x = of.weight(), of.rows()
    first = quantize(weight, of.format, search=False) if of.side else sparsify(weight, of.format)
    given = x.astype(ml_dtypes.bfloat16) if of.dtype == "bf16" else x
    y = np.full((of.m, of.n), np.nan, np.float32)
    text = LINEAR.replace("WEIGHT", str(first.format)).replace("ROWS", of.dtype)
    linear = Kernel(parse(text.replace("RESULT", "f32"))["linear"])

    def call(w: Stored) -> Array:
        linear(given, w, y)
        return y

    weights = [first, *(first.copy() for _ in range(of.copies(first.nbytes) - 1))]
    return Made([partial(call, w) for w in weights], lambda: of.want(weight, x),
                nbytes=first.nbytes, operations=of.operations, worst=WORST)  # fmt: skip
