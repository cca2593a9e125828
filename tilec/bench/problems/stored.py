"""Every named format: its size, rounding error, the decoding of every code, and linear layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial

import ml_dtypes
import numpy as np

from tilec.bench.case import OURS, Made, Make
from tilec.bench.problems.linear import Linear
from tilec.bench.problems.linear import ours as product
from tilec.bench.takers import takes
from tilec.compile import Kernel
from tilec.ir.bits import from_raw
from tilec.ir.codebook import Codebook
from tilec.ir.coded import EACH, Coded, of_bits
from tilec.ir.dtype import Array, DType
from tilec.ir.errors import TileError
from tilec.ir.format import Format
from tilec.ir.named import QUANTISED, named
from tilec.ir.planes import Planes
from tilec.ir.published import PUBLISHED
from tilec.ir.scaled import Scaled
from tilec.lang.text import parse
from tilec.runtime.tensor import PackedTensor, packed, quantize

N, K = 256, 1024  # of the weights that are rounded and multiplied
KERNELS = """kernel linear(x: bf16[M, K], w: FORMAT[N, K], y: f32[M, N]) {
  for m, n in tiles(M, N) {
    acc = zeros([m, n], f32)
    for k in tiles(K) { acc += dot(x[m, k], w[n, k].T) }
    y[m, n] = acc
  }
}
kernel decode(w: FORMAT[N, K], y: f32[N, K]) {
  for n, k in tiles(N, K) { y[n, k] = w[n, k] }
}"""
ORACLES = {
    "e2m1": "float4_e2m1fn", "e3m2": "float6_e3m2fn", "e2m3": "float6_e2m3fn",
    "e4m3": "float8_e4m3fn", "e5m2": "float8_e5m2", "e4m3_fnuz": "float8_e4m3fnuz",
    "e5m2_fnuz": "float8_e5m2fnuz", "e4m3_ieee": "float8_e4m3", "e3m4_ieee": "float8_e3m4",
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """What is known of a format. Errors are norms relative to that of the result in float64."""

    name: str
    text: str
    bits: float
    codes: int
    right: int  # codes that compiled code decodes to the oracle's value, in both positions
    oracle: str
    error: float  # of a normal sample that was rounded
    linear: tuple[float, float]  # of x @ w.T against the decoded weights, for M = 1 and 64
    peers: list[str]


@dataclass(frozen=True)
class Stored:
    """One row times a weight [side, side] in a named format, and what is known of the format."""

    name: str
    side: int

    def ours(self) -> Mapping[str, Make]:
        """The kernel of a dense layer."""
        return {OURS: partial(_ours, self)}


def _ours(of: Stored) -> Made:
    row = checked(of.name)
    made = product(Linear(1, of.side, of.side, row.text))
    return replace(made, about=asdict(row))


def names() -> list[str]:
    """Every named format."""
    return [*QUANTISED, *PUBLISHED]


def checked(name: str) -> Row:
    """A format's row without its speed."""
    format = named(name)
    kernels = _kernels(format)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((N, K))
    w = quantize(x, format)
    error = float(np.linalg.norm(w.dequantize() - x) / np.linalg.norm(x))
    codes, right, oracle = _decoded(format)
    return Row(
        name, str(format), format.bits((4096, 4096)) / 4096**2, codes, right,
        oracle, error, (_linear(kernels["linear"], w, 1), _linear(kernels["linear"], w, 64)),
        takes(format.codes) if isinstance(format, Scaled | Planes) else [],
    )  # fmt: skip


def _kernels(format: Format) -> dict[str, Kernel]:
    return {n: Kernel(d) for n, d in parse(KERNELS.replace("FORMAT", str(format))).items()}


def _linear(kernel: Kernel, w: PackedTensor, rows: int) -> float:
    x = np.random.default_rng(rows).standard_normal((rows, K)).astype(ml_dtypes.bfloat16)
    y = np.full((rows, N), np.nan, np.float32)
    kernel(x, w, y)
    want = x.astype(np.float64) @ w.dequantize().T.astype(np.float64)
    return float(np.linalg.norm(y - want) / np.linalg.norm(want))


def _decoded(format: Format) -> tuple[int, int, str]:
    """How many codes there are, how many decode to the oracle's value, and which oracle it is."""
    match format:
        case Scaled():
            return _codes(format, format)
        case Planes():
            return _codes(format.scaled, format)
        case Coded():
            return _patterns(format)
        case Codebook():
            return _entries(format)
        case _:
            raise TileError(f"{format}: nothing says what its codes mean")


def _patterns(format: Coded) -> tuple[int, int, str]:
    """The same of bit patterns, of which all but a few are escapes where every one occurs."""
    t, wide = format.element, replace(format, room=EACH)
    bits = np.arange(1 << 16).reshape(256, 256) << t.bits - 16
    y = np.full(bits.shape, np.nan, np.float32)
    _kernels(wide)["decode"](packed(wide, of_bits(wide, bits), bits.shape), y)
    want = bits.astype(f"u{t.bits // 8}").view(t.numpy).astype(np.float32)
    same = (y.view(np.uint32) == want.view(np.uint32)) | np.isnan(y) & np.isnan(want)
    return bits.size, int(same.sum()), f"bits of {t.numpy}"


def _entries(format: Codebook) -> tuple[int, int, str]:
    """The same of a codebook's codes, beside tables that are drawn and scales of 1."""
    rng = np.random.default_rng(0)
    codes = np.stack([rng.permutation(format.entries) for _ in range(2)])
    shape = (2, format.entries * format.length)
    parts: dict[str, Array] = {"codes": codes & 255, "high": codes >> 8}
    for c in format.components(shape):
        if c.dtype.is_float:
            size = tuple(int(str(d)) for d in c.shape)
            parts[c.name] = np.ones(size) if c.name == "scale" else rng.standard_normal(size)
            parts[c.name] = c.dtype.round(parts[c.name])
    y = np.full(shape, np.nan, np.float32)
    _kernels(format)["decode"](packed(format, parts, shape), y)
    tables = parts["table"].reshape(-1, format.entries, format.length)
    blocks = tuple(int(str(d)) for d in format.coded.shape(codes.shape))
    own = format.coded.spread(np.arange(len(tables)).reshape(blocks), codes.shape)
    same = y.reshape(2, -1, format.length) == tables[own, codes]
    right = [bool(same[codes == c].all()) for c in range(format.entries)]
    return format.entries, sum(right), "drawn table"


def _codes(format: Scaled, stored: Scaled | Planes) -> tuple[int, int, str]:
    """The same of a scaled format's codes beside a scale of 1, however they are stored."""
    t = format.codes
    values, oracle = _values(t)
    raw = np.tile(np.arange(1 << t.bits), -(-512 // (1 << t.bits)) + 1)[: 512 + t.bits][None]
    parts: dict[str, Array] = {"codes": from_raw(t, raw)}
    for c in format.components(raw.shape)[1:]:
        size = tuple(int(str(d)) for d in c.shape)
        one = 0.0 if c.name.startswith("zero") else 1.0
        parts[c.name] = c.dtype.round(np.full(size, one))
    apart = stored.apart(parts) if isinstance(stored, Planes) else parts
    y = np.full(raw.shape, np.nan, np.float32)
    _kernels(stored)["decode"](packed(stored, apart, raw.shape), y)
    numbers = {n: format.block.spread(format.number(n, parts, raw.shape), raw.shape)
               for n in format.numbers()}  # fmt: skip
    want = format.decoded(values[raw], numbers["scale"], numbers.get("zero"))
    same = (y == want) | np.isnan(y) & np.isnan(want)
    return 1 << t.bits, sum(bool(same[raw == c].all()) for c in range(1 << t.bits)), oracle


def _values(t: DType) -> tuple[Array, str]:
    """What every code means, from somewhere else than this compiler where there is one."""
    codes = np.arange(1 << t.bits)
    if t.name in ORACLES:
        oracle = ORACLES[t.name]
        return codes.astype(np.uint8).view(getattr(ml_dtypes, oracle)).astype(float), oracle
    if t.is_integer:
        half = 1 << t.bits - 1 if t.kind == "int" else 0
        return ((codes ^ half) - half).astype(float), "two's complement" if half else "binary"
    return from_raw(t, codes), "stated table"
