"""Casts in compiled code round as the interpreter does, to the bit: every type, mode and edge."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

import tilec as tc
from tilec.codegen.cpu import codes, emit
from tilec.codegen.cpu.rounding import Spacing
from tilec.ir.codes import CODES
from tilec.ir.core import Block, Builder, Func, Value
from tilec.ir.dtype import (
    BY_NAME,
    Array,
    DType,
    bf16,
    e4m3,
    e5m2,
    f16,
    f32,
    f64,
    i8,
    i64,
    tf32,
    u8,
    u32,
)
from tilec.ir.interpret import interpret
from tilec.ir.ops import memory
from tilec.ir.ops.cast import Bitcast, Cast
from tilec.ir.source import Param
from tilec.ir.types import Memory
from tilec.ir.types import memory as dense
from tilec.runtime.cache import Cache
from tilec.runtime.engine import Engine
from tilec.runtime.jit import host_machine

MODES = ("nearest", "toward_zero", "stochastic")
FLOATS = (f32, tf32, f16, bf16, e4m3, e5m2)
INTEGERS = tuple(BY_NAME[n] for n in ("i1", "u1", "i3", "u5", "i8", "u8", "i16", "u32", "i64"))
WAYS = ("e2m1", "e3m2", "e4m3_fnuz", "e3m4_ieee", "e8m0", "nf4", "sm8", "fixed8", "bipolar1",
        "bipolar8", "ternary", "e5m0", "fp4")  # fmt: skip


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(Cache(None), threads=1)


@pytest.fixture(scope="module")
def older() -> Engine:
    return Engine(Cache(None), host_machine("x86-64-v2", ""), threads=1)


def run(engine: Engine, func: Func, inputs: dict[str, Array]) -> dict[str, tuple[Array, Array]]:
    """What compiled code and the interpreter leave in the outputs."""
    types = {p.hint: p.type for p in func.params}
    params: list[Param] = []
    arrays: list[Array] = []
    for i, (name, t) in enumerate(types.items()):
        assert isinstance(t, Memory)
        shape = tuple(int(str(d)) for d in t.shape)
        params.append(Param(name, str(t.dtype), shape, "tensor", i))
        poison = np.full(t.dtype.numpy.itemsize * int(np.prod(shape)), 0xA5, np.uint8)
        given = t.dtype.to_storage(inputs[name]) if name in inputs else poison.view(t.dtype.numpy)
        arrays.append(np.ascontiguousarray(given).reshape(shape))
    source = emit(func, tuple(params), engine.machine.cpu, engine.machine.features, 1)
    compiled = engine.load(source)
    engine.dispatcher(func.name, lambda _: compiled).launch(*arrays)
    want = {n: inputs[n] if n in inputs else np.zeros(a.shape, types[n].dtype.carrier)  # type: ignore[union-attr]
            for n, a in zip(types, arrays, strict=True)}  # fmt: skip
    interpret(func, want, {})
    return {n: (types[n].dtype.from_storage(a), want[n])  # type: ignore[union-attr]
            for n, a in zip(types, arrays, strict=True) if n not in inputs}  # fmt: skip


def same(got: Array, want: Array, what: str) -> None:
    """NaN where NaN, and elsewhere equal, signs of zeros too."""
    if got.dtype.kind == "f":
        np.testing.assert_array_equal(np.isnan(got), np.isnan(want), what)
        number = ~np.isnan(want)
        np.testing.assert_array_equal(np.signbit(got[number]), np.signbit(want[number]), what)
    np.testing.assert_array_equal(got, want, what)


def casts(t: DType, source: DType, n: int) -> Func:
    """Every mode, saturating and not, each into an output of its own."""
    stored = f32 if t.kind == "code" else i64 if t.is_integer else t
    params = [Value(dense(source, n), "x"), Value(dense(u32, n), "bits")]
    b = Builder()
    whole = b(memory.Whole(n))
    x, bits = (b(memory.Load(p, (whole,))) for p in params)
    for mode, saturate in product(MODES, (False, True)):
        y = Value(dense(stored, n), f"{mode}-{saturate}")
        out = b(Cast(x, t, mode, saturate, bits if mode == "stochastic" else None))
        b.add(memory.Store(y, (whole,), out if stored == t else b(Cast(out, stored))))
        params.append(y)
    return Func("casts", Block(tuple(params), tuple(b.ops)))


def values(t: DType) -> Array:
    """The finite values of a type, or neighbours among them in all of its binades."""
    if t.table is not None:
        found = t.table.values
    elif t.is_integer:
        found = np.array([t.low, t.low + 1, -2, -1, 0, 1, 2, 3, 4, 5, t.high - 1, t.high])
        found = found[(found >= t.low) & (found <= t.high)].astype(np.float64)
    elif t.bits == 8:
        found = t.from_storage(np.arange(256, dtype=np.uint8).view(t.numpy))
    else:
        away = 13 if t == tf32 else 0  # bits that do not count
        raw = np.arange(0, 1 << t.bits - away, 1 << max(0, t.bits - away - 12), dtype=np.uint64)
        raw = np.concatenate([raw, raw + 1]) << np.uint64(away)
        with np.errstate(invalid="ignore"):
            found = t.from_storage(raw.astype(f"u{t.numpy.itemsize}").view(t.numpy))
    return np.unique(found[np.isfinite(found)])


def points(t: DType, source: DType) -> Array:
    """Values, midpoints, what is next to them in the source type, and numbers of every size."""
    rng = np.random.default_rng(len(str(t)))
    own, kind = values(t), source.numpy
    last = own[-1] + (own[-1] - own[-2])
    own = np.concatenate([own, [last, -last, (own[-1] + last) / 2, -(own[-1] + last) / 2]])
    own = np.concatenate([own, (own[:-1] + own[1:]) / 2, [0.0, -0.0]])
    near = rng.uniform(-1.2, 1.2, 600) * own.max()
    tiny = float(np.finfo(kind).smallest_subnormal)
    special = [
        np.inf,
        -np.inf,
        np.nan,
        tiny,
        -tiny,
        1e-39,
        -1e-40,
        2.0**40,
        -(2.0**70),
        source.high,
    ]
    with np.errstate(all="ignore"):
        own = np.concatenate([own, near, special]).astype(kind)
        ends = (np.nextafter(own, kind.type(way)) for way in (np.inf, -np.inf))
        raw = rng.integers(0, 2**64 - 1, 600, dtype=np.uint64).astype(f"u{kind.itemsize}")
        return np.concatenate([own, *ends, raw.view(kind)]).astype(np.float64)


def random_bits(n: int) -> Array:
    """Words, the least and the greatest among them."""
    rng = np.random.default_rng(n)
    x = rng.integers(0, 1 << 32, n)
    return np.where(rng.random(n) < 0.2, rng.choice([0, 1, 1 << 31, (1 << 32) - 1], n), x)


def check(engine: Engine, t: DType, source: DType, x: Array) -> None:
    func = casts(t, source, len(x))
    for name, (got, want) in run(engine, func, {"x": x, "bits": random_bits(len(x))}).items():
        same(got, want, f"{source} to {t}, {name}")


@pytest.mark.parametrize("name", sorted(CODES))
def test_floats_to_every_code(engine, name):
    check(engine, CODES[name], f32, points(CODES[name], f32))


@pytest.mark.parametrize("name", WAYS)
def test_doubles_to_codes(engine, name):
    check(engine, CODES[name], f64, points(CODES[name], f64))


@pytest.mark.parametrize("source", [f32, f64], ids=str)
@pytest.mark.parametrize("t", [*FLOATS, *INTEGERS], ids=str)
def test_floats_to_floats_and_integers(engine, t, source):
    check(engine, t, source, points(t, source))


@pytest.mark.parametrize("t", [*(CODES[n] for n in WAYS), tf32, bf16, e4m3, i8, i64], ids=str)
def test_on_processors_with_less(older, t):
    check(older, t, f32, points(t, f32))


@pytest.mark.parametrize("source", ["bool", "u8", "i16", "i32", "u32", "i64"])
@pytest.mark.parametrize("t", [*FLOATS, f64, CODES["e2m1"], CODES["nf4"], CODES["e8m0"]], ids=str)
def test_integers_to_floats_and_codes(engine, t, source):
    """Numbers beside powers of two, where those of i64 have more bits than a float64."""
    rng, given = np.random.default_rng(7), BY_NAME[source]
    powers, ends = 1 << np.arange(62), [int(e) for e in (0, 1, -1, given.low, given.high)]
    beside = [
        powers,
        powers + 1,
        powers - 1,
        -powers - 1,
        3 * powers // 2 + rng.integers(-1, 2, 62),
    ]
    every = rng.integers(-(2**62), 2**62, 300) >> rng.integers(0, 62, 300)
    check(engine, t, given, given.round(np.concatenate([ends, *beside, every])))


BYTES = sorted(n for n, t in CODES.items() if t.bits == 8)


@pytest.mark.parametrize("name", BYTES)
def test_every_code_of_a_byte_is_stored_and_reinterpreted(engine, name):
    """From its value to its bits by a store and by a bitcast, and back by a load and a bitcast."""
    t, n = CODES[name], 256
    params = [Value(dense(t, n), "x"), Value(dense(u8, n), "raw")]
    b = Builder()
    whole = b(memory.Whole(n))
    x, raw = (b(memory.Load(p, (whole,))) for p in params)
    outs = {"kept": x, "bits": b(Bitcast(x, u8)), "signed": b(Bitcast(x, i8)),
            "read": b(Bitcast(raw, t)), "float": b(Cast(x, f32))}  # fmt: skip
    for hint, value in outs.items():
        assert not isinstance(value.type, Memory)
        y = Value(dense(value.type.dtype, n), hint)  # type: ignore[union-attr]
        b.add(memory.Store(y, (whole,), value))
        params.append(y)
    every = np.arange(n)
    func = Func("bytes", Block(tuple(params), tuple(b.ops)))
    found = run(engine, func, {"x": t.from_storage(every), "raw": every})
    for hint, (got, want) in found.items():
        same(got, want, hint)
    numbers = ~np.isnan(t.from_storage(every))
    assert np.array_equal(found["bits"][0][numbers], every[numbers])


def test_words_that_are_no_tf32_are_rounded_when_read(engine):
    raw = np.random.default_rng(0).integers(0, 2**32, 4096, dtype=np.uint64).astype(np.uint32)
    x, y = Value(dense(tf32, 4096), "x"), Value(dense(tf32, 4096), "y")
    b = Builder()
    whole = b(memory.Whole(4096))
    b.add(memory.Store(y, (whole,), b(memory.Load(x, (whole,)))))
    with np.errstate(invalid="ignore"):
        words = raw.view(np.float32).astype(np.float64)
    ((got, want),) = run(engine, Func("copy", Block((x, y), tuple(b.ops))), {"x": words}).values()
    same(got, want, "tf32")
    same(want, tf32.round(words), "tf32")
    assert not np.any(got[np.isfinite(got)].astype(np.float32).view(np.uint32) & 0x1FFF)


def test_arithmetic_rounds_to_all_floats_with_a_mantissa():
    """Also to whole numbers with a sign; what has few steps is compared with them."""
    for name, t in CODES.items():
        even = t.mantissa or name == "fixed8" or name.startswith("sm")
        for mode, saturate in product(MODES[:2], (False, True)):
            way = codes.way_to(t, mode, saturate, "float")
            if even and not isinstance(way, Spacing):
                assert len(way.edges) <= codes.FEW, name
            if name in ("nf4", "fp4", "iq4", "bipolar8", "e8m0"):
                assert not isinstance(way, Spacing), name


@tc.kernel
def rounded(x: tc.Tensor["M"], seed: tc.u32, y: tc.Tensor["M"], z: tc.Tensor["M"]):
    for m in tc.tiles("M"):
        bits = tc.random_bits(seed, m.index)
        y[m] = tc.cast(x[m], tc.bf16, "stochastic", random=bits).to(tc.f32)
        z[m] = tc.cast(x[m], tc.e2m1, "stochastic", random=bits).to(tc.f32)


def test_a_seed_gives_the_same_numbers_everywhere():
    """Philox of the element's place: in compiled code, in the interpreter, on any tiles."""
    x = np.random.default_rng(3).standard_normal(10_000).astype(np.float32)
    y, z = np.zeros_like(x), np.zeros_like(x)
    rounded(x, 77, y, z)
    func = rounded.ir(x=f32, y=f32, z=f32)
    for tile in (10_000, 33):
        want = {"x": x.astype(float), "seed": np.array(77), "y": np.zeros(10_000),
                "z": np.zeros(10_000)}  # fmt: skip
        interpret(func, want, {"M": 10_000, "m.tile": tile})
        np.testing.assert_array_equal(y, want["y"])
        np.testing.assert_array_equal(z, want["z"])
    assert len(np.unique(z)) > 8
    other = np.zeros_like(x)
    rounded(x, 78, other, z)
    assert (other != y).any()


@tc.kernel
def shortened(x: tc.Tensor["M", "K"], w: tc.Tensor["N", "K"], y: tc.Tensor["M", "N"]):
    for m, n in tc.tiles("M", "N"):
        acc = tc.zeros((m, n), tc.f32)
        for k in tc.tiles("K"):
            acc += tc.dot(x[m, k].to(tc.tf32), w[n, k].to(tc.tf32).T)
        y[m, n] = acc


@pytest.mark.parametrize("rows", [1, 5, 40])
def test_products_of_tf32(rows):
    """Of rounded operands: what they lose is a thousand times what f32 sums lose."""
    rng = np.random.default_rng(rows)
    x, w = (rng.standard_normal((n, 300)).astype(np.float32) for n in (rows, 70))
    y = np.full((rows, 70), np.nan, np.float32)
    shortened(x, w, y)
    want = tf32.round(x.astype(float)) @ tf32.round(w.astype(float)).T
    assert np.linalg.norm(y - want) <= 1e-6 * np.linalg.norm(want)
    assert np.linalg.norm(x.astype(float) @ w.T - want) > 1e-4 * np.linalg.norm(want)
