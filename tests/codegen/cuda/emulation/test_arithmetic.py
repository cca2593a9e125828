"""Every arithmetic function of the vocabulary against numpy and ml_dtypes, or exact fractions."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import cuda_kernels as kernels
import ml_dtypes
import numpy as np
import pytest
from cuda_kernels import Array
from cuda_statements import PLACES, WARP

BF16, E4M3, E5M2 = ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2
COUNT = 4096
Oracle = Callable[[Array, Array, Array], Array]


def inputs() -> tuple[Array, Array, Array]:
    """Words of any bits, then numbers near each other, whole ones, halves, and special ones."""
    random = np.random.default_rng(5)
    a, b, c = (random.integers(0, 1 << 32, COUNT, np.uint32) for _ in range(3))
    near = random.integers(-9, 10, (3, 1024)).astype("f4") * np.float32(0.5)
    a[:1024], b[:1024], c[:1024] = near.view("u4")
    pairs = random.integers(-2048, 2049, (3, 1024, 2)).astype("f2")
    a[1024:2048], b[1024:2048], c[1024:2048] = pairs.view("u4")[..., 0]
    special = np.array([0, -0.0, np.inf, -np.inf, np.nan, 448, 464, 465, 65504, 65520], "f4")
    a[2048 : 2048 + 100], b[2048 : 2048 + 100] = (
        v.ravel().view("u4") for v in np.meshgrid(special, special)
    )
    a[2200:2456] = np.arange(256) * 0x101
    return a, b, c


def halves(dtype: Any, do: Callable[..., Array]) -> Oracle:
    """`do` on both numbers of a word, rounded to the type."""

    def oracle(*words: Array) -> Array:
        wide = (w.view(dtype).astype("f8") for w in words)
        return do(*wide).astype(dtype).view("u4")

    return oracle


def floats(do: Callable[..., Array]) -> Oracle:
    return lambda *words: do(*(w.view("f4") for w in words)).astype("f4").view("u4")


def low(dtype: Any, unsigned: str) -> Oracle:
    return lambda a, b, c: a.view("f4").astype(dtype).view(unsigned).astype("u4")


def pair(dtype: Any, unsigned: str, top: float = np.inf) -> Oracle:
    """Two f32 to a small type, saturating at `top`."""
    shift = np.dtype(unsigned).itemsize * 8

    def oracle(a: Array, b: Array, c: Array) -> Array:
        first, second = (
            np.clip(v.view("f4"), -top, top).astype(dtype).view(unsigned).astype("u4")
            for v in (a, b)
        )
        return first | second << shift

    return oracle


def from_halves(dtype: Any, top: float) -> Oracle:
    def oracle(a: Array, b: Array, c: Array) -> Array:
        both = a.view("f2").astype("f4").view("u4").reshape(-1, 2)
        return pair(dtype, "u1", top)(both[:, 0].copy(), both[:, 1].copy(), c)

    return oracle


def to_halves(dtype: Any) -> Oracle:
    return lambda a, b, c: (
        np.ascontiguousarray(a.view("u1").reshape(-1, 4)[:, :2])
        .view(dtype).astype("f2").view("u4")[:, 0]
    )  # fmt: skip


def to_integer(low: int, high: int) -> Oracle:
    def oracle(a: Array, b: Array, c: Array) -> Array:
        whole = np.clip(np.rint(np.nan_to_num(a.view("f4").astype("f8"), nan=0)), low, high)
        return whole.astype("i8").astype("u4")

    return oracle


def extreme(do: Callable[..., Array], zeros: Callable[..., Array]) -> Oracle:
    def oracle(a: Array, b: Array, c: Array) -> Array:
        f, g = a.view("f4"), b.view("f4")
        return np.where((f == 0) & (g == 0), zeros(a, b), do(f, g).view("u4"))

    return oracle


def permuted(a: Array, b: Array, c: Array) -> Array:
    every = np.concatenate([a.view("u1").reshape(-1, 4), b.view("u1").reshape(-1, 4)], 1)
    nibbles = c[:, None] >> np.arange(0, 16, 4).astype("u4") & 15
    byte = np.take_along_axis(every, (nibbles & 7).astype("i8"), 1)
    return np.where(nibbles & 8, (byte.view("i1") >> 7).view("u1"), byte).view("u4")[:, 0]


def dot(first: str, second: str) -> Oracle:
    def oracle(a: Array, b: Array, c: Array) -> Array:
        products = a.view(first).astype("i8") * b.view(second)
        return (products.reshape(-1, 4).sum(1) + c).astype("u4")

    return oracle


def doubles(words: tuple[Array, Array]) -> Array:
    return words[1].astype("u8") << 32 | words[0]


def bits(a: Array) -> Array:
    return np.unpackbits(a[:, None].byteswap().view("u1"), axis=1)


ORACLES: dict[int, Oracle] = {
    0: halves(np.float16, lambda a, b, c: a + b),
    1: halves(np.float16, lambda a, b, c: a - b),
    2: halves(np.float16, lambda a, b, c: a * b),
    3: halves(np.float16, lambda a, b, c: a * b + c),
    4: halves(BF16, lambda a, b, c: a + b),
    5: halves(BF16, lambda a, b, c: a - b),
    6: halves(BF16, lambda a, b, c: a * b),
    8: floats(lambda a, b, c: a + b),
    9: floats(lambda a, b, c: a - b),
    10: floats(lambda a, b, c: a * b),
    12: floats(lambda a, b, c: a / b),
    13: floats(lambda a, b, c: np.sqrt(a)),
    14: extreme(np.maximum, np.bitwise_and),
    15: extreme(np.minimum, np.bitwise_or),
    16: low(np.float16, "u2"),
    17: low(BF16, "u2"),
    18: pair(np.float16, "u2"),
    19: pair(BF16, "u2"),
    20: lambda a, b, c: a.view("f2")[::2].astype("f4").view("u4"),
    21: lambda a, b, c: a << 16,
    22: lambda a, b, c: a.view("f2")[1::2].astype("f4").view("u4"),
    23: lambda a, b, c: a & 0xFFFF0000,
    24: lambda a, b, c: np.where(np.isnan(a.view("f4")), 0x7FFFFFFF, (a + 0x1000) & 0xFFFFE000),
    25: to_integer(-(1 << 31), (1 << 31) - 1),
    26: to_integer(-128, 127),
    27: to_integer(0, 255),
    28: lambda a, b, c: a.view("i4").astype("f4").view("u4"),
    29: pair(E4M3, "u1", 448),
    30: pair(E5M2, "u1", 57344),
    31: from_halves(E4M3, 448),
    32: from_halves(E5M2, 57344),
    33: to_halves(E4M3),
    34: to_halves(E5M2),
    35: lambda a, b, c: a & b | a & c | b & c,
    36: permuted,
    37: lambda a, b, c: (doubles((a, b)) << (c & 31) >> 32).astype("u4"),
    38: lambda a, b, c: (doubles((a, b)) >> (c & 31)).astype("u4"),
    39: lambda a, b, c: bits(a).sum(1),
    40: lambda a, b, c: 32 - np.frexp((a >> (b & 31)).astype("f8"))[1],
    41: lambda a, b, c: np.packbits(bits(a)[:, ::-1], axis=1).view(">u4")[:, 0],
    42: dot("i1", "i1"),
    43: dot("u1", "i1"),
    44: dot("u1", "u1"),
}
SMALL = {0: "f2", 1: "f2", 2: "f2", 3: "f2", 4: BF16, 5: BF16, 6: BF16, 7: BF16, 16: "f2",
         17: BF16, 18: "f2", 19: BF16, 29: E4M3, 30: E5M2, 31: E4M3, 32: E5M2, 33: "f2",
         34: "f2"}  # fmt: skip


def run(number: int, a: Array, b: Array, c: Array) -> Array:
    y = np.full(len(a), 0xDEADBEEF, "u4")
    arguments = {"a": a, "b": b, "c": c, "y": y, "n": len(a), "number": number}
    source = f"#define FP8\n{kernels.source('functions')}"
    grid = (-(-len(a) // 128),)
    report = kernels.emulator().run(source, "functions", grid, (128,), arguments, check=False)
    assert report.findings == ()
    return y


def same(number: int, found: Array, expected: Array) -> Array:
    """Equal bits; or NaN both, whatever its bits."""
    dtype = SMALL.get(number, np.float32 if number < 25 or number in (28, 45) else np.uint32)
    f, e = (np.ascontiguousarray(v, "u4").view(dtype) for v in (found, expected))
    equal = f.view("u1").reshape(len(f), -1) == e.view("u1").reshape(len(e), -1)
    with np.errstate(invalid="ignore"):
        nan = np.isnan(f.astype("f4")) & np.isnan(e.astype("f4"))
    return equal.all(-1) | nan


@pytest.mark.parametrize("number", ORACLES)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_functions_round_as_numpy_does(number: int) -> None:
    a, b, c = inputs()
    expected = ORACLES[number](a, b, c)
    assert same(number, run(number, a, b, c), expected).all()


def fraction(value: float) -> Fraction:
    return Fraction(float(value))


def test_products_and_sums_are_rounded_once() -> None:
    """fma at, and just beside, the middle of two numbers; a sum in double would miss it."""
    near = np.array([1 + i / 16 for i in range(8)])
    a, b = (np.repeat(near[:, None], 8, 1).ravel() * 2.0**60, np.tile(near, 8))
    for tiny in (2.0**-60, -(2.0**-60)):
        words = [v.astype(BF16).view("u2").astype("u4") * 0x10001
                 for v in (a, b, np.full(64, tiny))]  # fmt: skip
        found = run(7, *words).view(BF16).astype("f8")[::2]
        x, y, z = (w.view(BF16).astype("f8")[::2] for w in words)
        for i in range(64):
            exact = fraction(x[i]) * fraction(y[i]) + fraction(z[i])
            below = np.float64(found[i])
            step = 2.0 ** (np.frexp(below)[1] - 8)
            others = [abs(fraction(below + s * step) - exact) for s in (-1, 1)]
            assert abs(fraction(below) - exact) < min(others)


def test_f32_fma_is_rounded_once() -> None:
    a, b, c = (np.float32(1 + 2**-12), np.float32(1 + 2**-12), np.float32(2.0**-60))
    words = [np.array([v], "f4").view("u4") for v in (a, b, c)]
    (found,) = run(11, *words).view("f4")
    assert found == np.nextafter(np.float32(1 + 2**-11), np.float32(2))


@pytest.mark.parametrize(
    ("number", "do"),
    [(45, np.exp2), (46, np.log2), (47, np.reciprocal), (48, lambda v: 1 / np.sqrt(v)),
     (49, np.tanh)],
)  # fmt: skip
def test_approximate_functions(number: int, do: Callable[[Array], Array]) -> None:
    a = np.random.default_rng(1).uniform(0.01, 20, 512).astype("f4")
    found = run(number, a.view("u4"), a.view("u4"), a.view("u4")).view("f4")
    assert np.allclose(found, do(a.astype("f8")), rtol=2**-22, atol=0)


def test_threads_know_where_they_are() -> None:
    y = np.zeros((5, 2, 3, 4, 3, 2), "u4")
    report = kernels.emulator().run(PLACES, "places", (3, 2, 5), (2, 3, 4), {"y": y})
    assert report.findings == ()
    bz, by, bx, z, yy, x = np.indices(y.shape)
    lane = x + 2 * (yy + 3 * z)
    assert np.array_equal(y, x | yy << 4 | z << 8 | bx << 12 | by << 16 | bz << 20 | lane << 24)


def test_warps_exchange_values() -> None:
    x = np.random.default_rng(2).permutation(100)[:64].astype("u4")
    x[:32] = np.minimum(x[:32], 63)
    x[40] = 70
    y = np.full((64, 8), 9, "u4")
    report = kernels.emulator().run(WARP, "warps", (1,), (64,), {"x": x, "y": y}, seed=3)
    assert report.findings == ()
    warps, lane = x.reshape(2, 32), np.arange(32)
    sources = (lane * 7 % 32, lane ^ 5, np.where(lane < 3, lane, lane - 3),
               np.where(lane > 28, lane, lane + 3))  # fmt: skip
    for column, source in enumerate(sources):
        assert np.array_equal(y[:, column], warps[:, source].ravel())
    votes = ((warps % 3 == 0).astype("u8") << lane.astype("u8")).sum(1).astype("u4")
    assert np.array_equal(y[:, 4], np.repeat(votes, 32))
    assert np.array_equal(y[:, 5], np.repeat([0b10, 0b01], 32))
    assert np.array_equal(y[:, 6], np.tile(lane == 0, 2))
