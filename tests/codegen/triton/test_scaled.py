"""Products of codes with their scales: executed from PTX, and as what instructions they compile."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pytest
from lang import kernels

import tilec as tc
from tilec.ir.bits import from_raw
from tilec.ir.dtype import Array, DType
from tilec.ir.errors import TileError
from tilec.ir.fit import Fit, encode
from tilec.ir.named import named
from tilec.ir.packing import Plain
from tilec.ir.scaled import Parts, Scaled
from tilec.ir.source import KernelSource
from tilec.runtime.triton import compile_for, interpreted
from tilec.sass import disassembled, stats_of
from tilec.triton import Schedule, schedule_of, triton_source

pytest.importorskip("triton")
from triton_ptx import executed

Pair = tuple[str, str]
SLOW = pytest.mark.slow
MX, E5M2, FP4, NV = ("mxfp8", "mxfp8"), ("mxfp8_e5m2", "mxfp8"), ("mxfp4", "mxfp4"), ("nvfp4",) * 2
MIXED = ("mxfp4", "mxfp8")
# Of these Triton makes products in bf16 for sm_90; the code for sm_120 multiplies by scales.
TARGETS = [
    (MX, "sm_120"), (NV, "sm_120"), (MIXED, "sm_90"),
    *(pytest.param(pair, target, marks=SLOW) for pair, target in (
        (E5M2, "sm_120"), (FP4, "sm_120"), (MX, "sm_90"), (E5M2, "sm_90"), (FP4, "sm_90"),
        (NV, "sm_90"))),
]  # fmt: skip


@dataclass(frozen=True)
class Operand:
    """The components of a matrix in a format."""

    format: Scaled
    parts: Parts
    shape: tuple[int, int]

    @property
    def values(self) -> Array:
        return self.format.values(self.parts, self.shape)

    @property
    def scales(self) -> str:
        """The component that has the scales of groups."""
        return "scale.codes" if "scale.codes" in self.parts else "scale"

    def arrays(self, name: str) -> dict[str, Array]:
        """As a kernel takes them."""
        raw = Plain().pack(self.format, self.parts, self.shape)
        sizes = [tuple(int(str(d)) for d in c.shape) for c in self.format.components(self.shape)]
        raw = [a.reshape(n) if a.size == np.prod(n) else a for a, n in zip(raw, sizes, strict=True)]
        names = [f"{name}_{c.name}".replace(".", "_") for c in self.format.components(self.shape)]
        return dict(zip(names, raw, strict=True))


def scaled(text: str) -> Scaled:
    format = named(text)
    assert isinstance(format, Scaled)
    return format


def operand(text: str, values: Array, outer: bool = False) -> Operand:
    """A matrix rounded to a format, without an `outer` scale of all of it unless told."""
    format, shape = scaled(text), (len(values), values.shape[1])
    parts = encode(format, values, Fit())
    if "scale.scale" in parts and not outer:
        parts["scale.scale"] = np.ones(())
    return Operand(format, parts, shape)


def noise(rows: int, k: int, seed: int) -> Array:
    return np.random.default_rng(seed).standard_normal((rows, k))


def finite(t: DType) -> Array:
    """Every number of a type."""
    every = from_raw(t, np.arange(1 << t.bits))
    return every[np.isfinite(every)]


def source(pair: Pair, m: int, n: int, k: int, chosen: str = "sm_100") -> KernelSource:
    types = {"x": scaled(pair[0]), "w": scaled(pair[1]), "y": tc.f32}
    dims = {"M": m, "N": n, "K": k}
    return triton_source(kernels.linear.definition, dims, types, Schedule(scaled=chosen))


def linear(x: Operand, w: Operand, target: str) -> Array:
    """x @ w.T from the PTX that Triton made."""
    (m, k), (n, _) = x.shape, w.shape
    y = np.full((m, n), np.nan, np.float32)
    given = {**x.arrays("x"), **w.arrays("w"), "y": y}
    report = executed(source((str(x.format), str(w.format)), m, n, k), given, target)
    assert report.clean, report
    return y


@pytest.mark.parametrize(("m", "n", "k"), [
    (20, 140, 200), pytest.param(130, 64, 96, marks=SLOW), pytest.param(3, 50, 45, marks=SLOW),
])  # fmt: skip
@pytest.mark.parametrize(("pair", "target"), TARGETS)
def test_sums_of_the_decoded(pair, target, m, n, k):
    """Also where tiles end within a group, and rows within a byte."""
    x, w = operand(pair[0], noise(m, k, 1), True), operand(pair[1], noise(n, k, 2), True)
    error = np.abs(linear(x, w, target) - x.values @ w.values.T)
    assert (error <= 2**-23 * k * (np.abs(x.values) @ np.abs(w.values).T)).all()


@pytest.mark.parametrize(("pair", "target"), TARGETS)
def test_every_code_reaches_a_product(pair, target):
    """Each operand in turn beside the identity: exact."""
    k = 64
    for i in (0, 1) if pair[0] != pair[1] else (1,):
        coded, plain = operand(pair[i], noise(k, k, i)), operand(pair[1 - i], np.eye(k))
        every = np.resize(finite(coded.format.codes), (k, k))
        coded.parts["codes"] = np.random.default_rng(i).permuted(every, axis=1)
        x, w = (plain, coded) if i else (coded, plain)
        want = x.values @ w.values.T
        np.testing.assert_array_equal(linear(x, w, target), want.astype(np.float32))


@pytest.mark.parametrize(("pair", "target"), TARGETS)
def test_every_scale_reaches_a_product(pair, target):
    """One code of 1 in each row: a product of two scales."""
    k, scales = 64, scaled(pair[0]).scale
    every = finite(scales.codes if isinstance(scales, Scaled) else scales.value)
    every = every[every >= 0]
    if target == "sm_90":  # codes and scales meet in bf16, which rounds what is not normal
        every = every[(every == 0) | (every >= 2.0**-126)]
    sides: list[Operand] = []
    for text, some in zip(pair, (every, every[:: len(every) // 15]), strict=True):
        o = operand(text, np.ones((len(some), k)))
        o.parts["codes"] = np.tile(np.eye(1, k, 37), (len(some), 1))
        o.parts[o.scales] = np.broadcast_to(some[:, None], o.parts[o.scales].shape)
        sides.append(o)
    x, w = sides
    with np.errstate(over="ignore"):
        want = np.outer(x.parts[x.scales][:, 0], w.parts[w.scales][:, 0]).astype(np.float32)
    np.testing.assert_array_equal(linear(x, w, target), want)


@pytest.mark.parametrize("chosen", [
    "persist=2", *(pytest.param(s, marks=SLOW) for s in (
        "swizzle=2", "split=2", "stream=3", "swap=never", "swap=always", "descriptors=1",
        "m=16,n=128,k=64", "warps=8,stages=2", "persist=2,k=192")),
])  # fmt: skip
@pytest.mark.parametrize("pair", [NV, pytest.param(MX, marks=SLOW)])
def test_schedules(pair, chosen):
    """Steps of k end within a tile, and 192 is no power of two."""
    m, n, k = 20, 300, 424
    x, w = operand(pair[0], noise(m, k, 1), True), operand(pair[1], noise(n, k, 2), True)
    types, dims = {"x": x.format, "w": w.format, "y": tc.f32}, {"M": m, "N": n, "K": k}
    schedule = schedule_of(f"scaled=sm_120,{chosen}")
    if chosen == "persist=2,k=192":
        with pytest.raises(TileError, match="pad: a step of k of codes beside scales ends within"):
            triton_source(kernels.linear.definition, dims, types, schedule)
        return
    made = triton_source(kernels.linear.definition, dims, types, schedule)
    y = np.full((m, n), np.nan, np.float32)
    report = executed(made, {**x.arrays("x"), **w.arrays("w"), "y": y}, "sm_120")
    assert report.clean, report
    error = np.abs(y - x.values @ w.values.T)
    assert (error <= 2**-23 * k * (np.abs(x.values) @ np.abs(w.values).T)).all()


@tc.kernel
def routed(x: tc.Tensor["M", "K"], ids: tc.Tensor["P", tc.i32], e: tc.i32,
           w: tc.Tensor["E", "N", "K"], y: tc.Tensor["P", "N"]):  # fmt: skip
    for p, n in tc.tiles("P", "N"):
        acc = tc.zeros((p, n), tc.f32)
        for k in tc.tiles("K"):
            acc += tc.dot(x[ids[p], k], w[e, n, k].T)
        y[p, n] = acc


@pytest.mark.parametrize("pair", [FP4, *(pytest.param(p, marks=SLOW) for p in (MX, NV))])
def test_rows_that_are_picked(pair):
    """Scales are picked as their codes: of rows by a tile of indices, of an expert by a number."""
    m, p, n, k, count = 9, 20, 70, 160, 3
    x = operand(pair[0], noise(m, k, 1))
    dense = noise(count * n, k, 2).reshape(count, n, k)
    w = encode(scaled(pair[1]), dense, Fit())
    if "scale.scale" in w:
        w["scale.scale"] = np.ones(())
    values = scaled(pair[1]).values(w, dense.shape)
    ids = np.random.default_rng(3).integers(0, m, p).astype(np.int32)
    types = {"x": x.format, "ids": tc.i32, "w": scaled(pair[1]), "y": tc.f32}
    dims = {"M": m, "P": p, "N": n, "K": k, "E": count}
    made = triton_source(routed.definition, dims, types, Schedule(scaled="sm_120"))
    assert "tl.dot_scaled(" in made.text
    y = np.full((p, n), np.nan, np.float32)
    stored = Operand(scaled(pair[1]), w, dense.shape)  # type: ignore[arg-type]
    given = {**x.arrays("x"), **stored.arrays("w"), "ids": ids, "e": np.asarray(2), "y": y}
    report = executed(made, given, "sm_120")
    assert report.clean, report
    error = np.abs(y - x.values[ids] @ values[2].T)
    assert (error <= 2**-23 * k * (np.abs(x.values[ids]) @ np.abs(values[2]).T)).all()


@SLOW
@pytest.mark.parametrize(("text", "w", "target"), [
    ("mxfp8", "mxfp8", "sm_120"), ("mxfp8_e5m2", "mxfp8", "sm_120"), ("mxfp8", "mxfp4", "sm_90"),
])  # fmt: skip
def test_rounded_by_a_kernel_of_its_own(text, w, target):
    """Scales are bytes in its memory; blocks of zeros, of tiny and of huge numbers among them."""
    m, n, k = 20, 70, 200
    x = (noise(m, k, 1) * np.exp2(np.arange(m) % 40 - 20)[:, None]).astype(np.float32)
    x[3, :64], x[4, 32:64], x[5], x[6, 7] = 0, 1e-42, x[5] * 1e30, np.nan
    a, b = tc.dynamic(x, text), operand(w, noise(n, k, 2))
    types = {"x": a.format, "w": b.format, "y": tc.f32}
    chosen = Schedule(scaled="sm_100")
    made = triton_source(kernels.linear.definition, {"M": m, "N": n, "K": k}, types, chosen)
    y = np.zeros((m, n), np.float32)
    report = executed(made, {"x_dense": x, **b.arrays("w"), "y": y}, target)
    assert report.clean, report
    assert np.isnan(y[6]).all()
    y, found = np.delete(y, 6, 0), np.delete(a.dequantize(), 6, 0).astype(float)
    error = np.abs(y - found @ b.values.T)
    assert (error <= 2**-23 * k * (np.abs(found) @ np.abs(b.values).T)).all()
    assert y[5].any()


@pytest.mark.parametrize("pair", [MX, *(pytest.param(p, marks=SLOW) for p in (E5M2, FP4, NV))])
def test_what_is_no_number(pair):
    """NaN in a code or a scale is of its row."""
    x, w = operand(pair[0], noise(16, 64, 1)), operand(pair[1], noise(128, 64, 2))
    x.parts["codes"][:, 5] = 1.0
    x.parts[x.scales][3, 1] = np.nan
    bad = {3}
    if x.format.codes.bits == 8:
        x.parts["codes"][7, 9] = np.nan
        bad.add(7)
    got = linear(x, w, "sm_120")
    assert {*np.flatnonzero(np.isnan(got).all(1))} == bad
    assert not np.isnan(np.delete(got, [*bad], 0)).any()


@SLOW
@pytest.mark.parametrize("pair", [MIXED, ("nvfp4", "mxfp4"), ("mxfp8", "bf16")])
def test_others_are_decoded(pair):
    """With a remark at their line; sm_120 has no product of e2m1 and e4m3 that Triton makes."""
    m, n, k = 20, 70, 200
    x, dense = operand(pair[0], noise(m, k, 1), True), noise(n, k, 2)
    w = operand(pair[1], dense, True) if pair[1] != "bf16" else None
    dense = w.values if w is not None else tc.bf16.round(dense)
    types = {"x": x.format, "w": w.format if w is not None else tc.bf16, "y": tc.f32}
    dims = {"M": m, "N": n, "K": k}
    made = triton_source(kernels.linear.definition, dims, types, Schedule(scaled="sm_120"))
    assert "dot_scaled" not in made.text
    (remark,) = [r for r in made.remarks if r.origin == "native-scales"]
    assert "decoded" in remark.message
    assert remark.missing
    y = np.full((m, n), np.nan, np.float32)
    own = w.arrays("w") if w is not None else {"w": tc.bf16.to_storage(dense)}
    report = executed(made, {**x.arrays("x"), **own, "y": y}, "sm_120")
    assert report.clean, report
    error = np.abs(y - x.values @ dense.T)
    assert (error <= 2**-23 * k * (np.abs(x.values) @ np.abs(dense).T)).all()


@SLOW
@pytest.mark.parametrize("pair", [MX, E5M2, FP4, MIXED])
def test_in_tritons_interpreter(pair):
    """Which takes scales in e4m3 for exponents: not of NVFP4."""
    m, n, k = 20, 70, 200
    x, w = operand(pair[0], noise(m, k, 1)), operand(pair[1], noise(n, k, 2))
    made = source(pair, m, n, k)
    given = {**x.arrays("x"), **w.arrays("w"), "y": np.full((m, n), np.nan, np.float32)}
    y = interpreted(made, {p.name: given[p.name] for p in made.params})["y"]
    error = np.abs(y - x.values @ w.values.T)
    assert (error <= 2**-23 * k * (np.abs(x.values) @ np.abs(w.values).T)).all()


KIND = "mxf8f6f4.block_scale.block32"


@pytest.mark.parametrize(("pair", "m", "kind"), [
    (NV, 16, "mxf4nvf4.block_scale.block16"),
    *(pytest.param(*case, marks=SLOW) for case in (
        (MIXED, 256, KIND), (MX, 256, KIND), (MX, 16, KIND), (MIXED, 16, KIND), (E5M2, 256, KIND),
        (FP4, 256, "mxf4.block_scale.block32"), (FP4, 16, "mxf4.block_scale.block32"),
        (NV, 256, "mxf4nvf4.block_scale.block16"))),
])  # fmt: skip
def test_instructions_of_sm_100(pair, m, kind):
    """tcgen05 takes scales from tensor memory; of few rows the weights are the first operand."""
    build = compile_for(source(pair, m, 256, 512), "sm_100")
    found = re.findall(r"tcgen05\.mma\S*kind::(\S+)", build["ptx"])
    assert {*found} == {kind}
    opcode = "UTCOMMA" if "mxf4" in kind else "UTCQMMA"
    lines = [x for x in disassembled(build.cubin, "-c").splitlines() if re.search(r"UTC\wMMA", x)]
    assert len(lines) >= len(found)
    for line in lines:
        assert re.search(rf"{opcode}[.\w]* .*idesc\[UR\d+\], tmem\[UR\d+\]", line), line
    (stats,) = stats_of(build.cubin)
    assert not stats.spills


@pytest.mark.parametrize(("pair", "kind", "opcode"), [
    (NV, "mxf4nvf4.block_scale.scale_vec::4X", "OMMA.SF"),
    *(pytest.param(*case, marks=SLOW) for case in (
        (MX, "mxf8f6f4.block_scale.scale_vec::1X", "QMMA.SF"),
        (E5M2, "mxf8f6f4.block_scale.scale_vec::1X", "QMMA.SF"),
        (FP4, "mxf4nvf4.block_scale.scale_vec::2X", "OMMA.SF"))),
])  # fmt: skip
def test_instructions_of_sm_120(pair, kind, opcode):
    build = compile_for(source(pair, 256, 256, 2048, "sm_120"), "sm_120")
    found = re.findall(r"mma\.sync\S*kind::(\S+::.X)", build["ptx"])
    assert {*found} == {kind}
    assert "bf16" not in build["ptx"]
    (stats,) = stats_of(build.cubin)
    assert stats.code.count(opcode) >= len(found)
    assert not stats.spills
    assert stats.per_mma is not None
    assert stats.per_mma < 4


def test_other_targets_are_refused():
    for target in ("sm_90", "sm_120", "sm_80", "x86-64-v3"):
        with pytest.raises(TileError, match=f"scaled=sm_100 needs sm_100, not {target}"):
            Schedule(scaled="sm_100").check(target)
    for target in ("sm_100", "sm_100a", "sm_103"):
        Schedule(scaled="sm_100").check(target)
    Schedule(scaled="sm_120").check("sm_121")
    with pytest.raises(TileError, match="scaled is 'native', expected decoded or sm_100 or sm_120"):
        Schedule(scaled="native")


def test_steps_are_of_whole_groups():
    types = {"x": scaled("mxfp8"), "w": scaled("mxfp8"), "y": tc.f32}
    chosen = Schedule(scaled="sm_100", tiles={"k": 40})
    with pytest.raises(TileError, match="a step of 40 along k has no whole groups of 32"):
        triton_source(kernels.linear.definition, {"M": 64, "N": 64, "K": 80}, types, chosen)
