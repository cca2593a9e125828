"""Linear layers with quantised weights: ours and torch's, each checked before it is timed."""

# torch and numpy type what is looked up by name loosely.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np

from tilec.compile import Kernel
from tilec.ir.bits import from_raw
from tilec.ir.coded import Coded
from tilec.ir.dtype import Array
from tilec.ir.errors import TileError
from tilec.ir.fit import Fit, encode
from tilec.ir.named import named
from tilec.lang.text import parse
from tilec.profile import ceilings
from tilec.runtime.tensor import packed

COLD = 160 << 20  # bytes of copies that calls rotate over, so that weights come from memory
WORST = 1e-2  # relative error of a result in bf16
LINEAR = """kernel linear(x: bf16[M, K], w: FORMAT[N, K], y: bf16[M, N]) {
  for m, n in tiles(M, N) {
    acc = zeros([m, n], f32)
    for k in tiles(K) { acc += dot(x[m, k], w[n, k].T) }
    y[m, n] = cast(acc, bf16)
  }
}"""


@dataclass(frozen=True)
class Case:
    """One product: x[M, K] times a weight [N, K]."""

    n: int
    k: int
    m: int

    @property
    def operations(self) -> float:
        """Multiplications and additions."""
        return 2.0 * self.m * self.n * self.k

    def copies(self, nbytes: int) -> int:
        """How many copies of a weight calls rotate over: one row of x reads weights from memory."""
        return -(-COLD // nbytes) if self.m == 1 else 1

    def activations(self) -> Array:
        """x[M, K] in bf16."""
        x = np.random.default_rng(1).standard_normal((self.m, self.k))
        return x.astype(ml_dtypes.bfloat16)


@dataclass(frozen=True)
class Contender:
    """Calls to rotate over, the bytes of weights and the operations of one, and other facts."""

    calls: list[Callable[[], object]]
    nbytes: int
    operations: float
    about: dict[str, Any] = field(default_factory=dict[str, Any])


def make(name: str, case: Case) -> Contender:
    """A contender by name, its result checked. Raises TileError where it is wrong or unknown."""
    if name.startswith("tilec ") and name not in MAKERS:
        return _ours(name.removeprefix("tilec "), case)
    if name not in MAKERS:
        raise TileError(f"no contender is called {name!r}; there are {', '.join(MAKERS)}")
    return MAKERS[name](case)


def _check(name: str, got: Array, want: Array) -> None:
    error = float(np.linalg.norm(got - want) / np.linalg.norm(want))
    if not error < WORST:
        raise TileError(f"{name} is wrong: its relative error is {error:.1e}")


def _ours(text: str, case: Case) -> Contender:
    format = named(text)
    rng, shape = np.random.default_rng(2), (case.n, case.k)
    parts: dict[str, Array] = {}
    for c in format.components(shape):
        size = tuple(int(str(d)) for d in c.shape)
        parts[c.name] = c.dtype.round(rng.uniform(0.5, 1.5, size))
        if c.name.endswith("codes"):
            every = from_raw(c.dtype, np.arange(1 << c.dtype.bits))
            parts[c.name] = rng.choice(every[np.isfinite(every)], size)
    if isinstance(format, Coded):  # its components say where others are
        parts = encode(format, rng.standard_normal(shape), Fit())
    first = packed(format, parts, shape)
    weights = [first, *(packed(format, parts, shape) for _ in range(case.copies(first.nbytes) - 1))]
    x, y = case.activations(), np.full((case.m, case.n), np.nan, ml_dtypes.bfloat16)
    linear = Kernel(parse(LINEAR.replace("FORMAT", text))["linear"])
    linear(x, first, y)
    want = x.astype(np.float64) @ first.dequantize().T.astype(np.float64)
    _check(text, y.astype(np.float64), want)
    calls: list[Callable[[], object]] = [partial(linear, x, w, y) for w in weights]
    return Contender(calls, first.nbytes, case.operations)


def _theirs(kind: str, case: Case) -> Contender:
    import torch

    torch.manual_seed(0)
    x = torch.from_numpy(case.activations().astype(np.float32)).to(torch.bfloat16)
    weight, scale, call, dense = _TORCH[kind](torch, case)
    size = weight.nbytes + (0 if scale is None else scale.nbytes)
    weights = [weight, *(weight.clone() for _ in range(case.copies(size) - 1))]
    want = x.double().numpy() @ dense.numpy().T
    _check(f"torch {kind}", call(x, weight).double().numpy(), want)
    return Contender([partial(call, x, w) for w in weights], size, case.operations)


def _dense(torch: Any, case: Case) -> tuple[Any, Any, Callable[..., Any], Any]:
    w = torch.randn(case.n, case.k).to(torch.bfloat16)
    return w, None, torch.nn.functional.linear, w.double()


def _int8(torch: Any, case: Case) -> tuple[Any, Any, Callable[..., Any], Any]:
    w = torch.randint(-128, 128, (case.n, case.k), dtype=torch.int8)
    scale = (torch.rand(case.n) + 0.5).to(torch.bfloat16)

    def call(x: Any, w: Any) -> Any:
        return torch.ops.aten._weight_int8pack_mm(x, w, scale)

    return w, scale, call, w.double() * scale.double()[:, None]


def _int4(torch: Any, case: Case) -> tuple[Any, Any, Callable[..., Any], Any]:
    codes = torch.randint(0, 16, (case.n, case.k), dtype=torch.int32)
    w = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes, 1)
    scale = torch.rand(case.k // 128, case.n) + 0.5
    parameters = torch.stack([scale, torch.zeros_like(scale)], 2).to(torch.bfloat16)

    def call(x: Any, w: Any) -> Any:
        return torch.ops.aten._weight_int4pack_mm_for_cpu(x, w, 128, parameters)

    spread = parameters[..., 0].double().T.repeat_interleave(128, 1)
    return w, parameters, call, (codes - 8).double() * spread


_TORCH: dict[str, Callable[[Any, Case], tuple[Any, Any, Callable[..., Any], Any]]] = {
    "bf16": _dense,
    "int8": _int8,
    "int4": _int4,
}


def _read(case: Case) -> Contender:
    run, nbytes = ceilings.read(max(COLD, case.n * case.k // 2))
    return Contender([run], nbytes, 0.0)


def _arithmetic(case: Case) -> Contender:
    run, operations = ceilings.arithmetic()
    return Contender([run], 0, operations)


MAKERS: dict[str, Callable[[Case], Contender]] = {
    "read": _read,
    "arithmetic": _arithmetic,
    "tilec int4": partial(_ours, "int4<group=128, scale=bf16>"),
    "torch int4": partial(_theirs, "int4"),
    "tilec int8": partial(_ours, "int8<channel, scale=bf16>"),
    "torch int8": partial(_theirs, "int8"),
    "torch bf16": partial(_theirs, "bf16"),
}
