"""The Triton back end: readable source, the interpreter's meaning, tensor-core machine code.

Triton's own interpreter is exact in f16 and f32; a child process runs each source in it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from formats import random_parts, scaled, zeros_of
from lang import kernels

import tilec as tc
from tilec.compile import Kernel
from tilec.ir.dtype import Array, of_numpy
from tilec.ir.errors import TileError
from tilec.ir.interpret import interpret
from tilec.ir.named import QUANTISED, named
from tilec.ir.packing import Plain
from tilec.lang.text import load, parse
from tilec.runtime.triton import compile_for, interpreted
from tilec.sass import Budget, stats_of
from tilec.triton import triton_source

pytest.importorskip("triton")
EXAMPLES = Path(__file__).parents[3] / "examples"


@tc.kernel
def blend(
    x: tc.Tensor["M", "N"], i: tc.Tensor["M"], table: tc.Tensor["R", "N"], y: tc.Tensor["M", "N"],
    scale: tc.f32,
):  # fmt: skip
    for m, n in tc.tiles("M", "N"):
        row = table[i[m], n]
        even = n.index[None, :] % 2 == 0
        mixed = tc.where(even, tc.maximum(x[m, n], 0.0), tc.abs(row) * scale)
        y[m, n] = mixed + (n.index[None, :] // 3).to(tc.f32)


@tc.kernel
def power_sum(x: tc.Tensor["M", "N"], y: tc.Tensor["M"]):
    for m in tc.tiles("M"):
        total = tc.zeros((m,), tc.f32)
        for n in tc.tiles("N", block=12):
            v = x[m, n].to(tc.f32)
            for _ in range(3):
                v = v * 0.5 + 1.0
            total += tc.sum(v, axis=1)
        y[m] = total


def meaning(kernel: Kernel, data: dict[str, Array], dims: dict[str, int]) -> dict[str, Array]:
    """What the interpreter makes of arrays in their own dtypes."""
    types = {n: of_numpy(a.dtype) for n, a in data.items() if a.ndim}
    carriers = {n: types[n].from_storage(a) if n in types else a for n, a in data.items()}
    carriers = {n: np.array(a) for n, a in carriers.items()}
    interpret(kernel.definition.ir(types), carriers, dims)
    return carriers


def check(kernel: Kernel, data: dict[str, Array], dims: dict[str, int], out: str, most: float,
          known: dict[str, int]) -> None:  # fmt: skip
    """Triton's interpreter and ours agree on `out`; `known` dimensions are numbers in the code."""
    types = {n: of_numpy(a.dtype) for n, a in data.items() if a.ndim}
    source = triton_source(kernel.definition, known, types)
    got = interpreted(source, data)[out].astype(np.float64)
    want = meaning(kernel, data, dims)[out]
    assert np.isfinite(want).all()
    assert np.linalg.norm(got - want) <= most * np.linalg.norm(want), source.text


def data_for(shapes: dict[str, tuple[int, ...]], dtype: str, out: str) -> dict[str, Array]:
    rng = np.random.default_rng(0)
    data = {n: rng.standard_normal(s).astype(dtype) for n, s in shapes.items()}
    data[out] = np.full_like(data[out], np.nan)
    return data


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("known", [True, False], ids=["numbers", "arguments"])
def test_linear(dtype, known):
    dims = {"M": 65, "N": 130, "K": 257}
    data = data_for({"x": (65, 257), "w": (130, 257), "y": (65, 130)}, dtype, "y")
    data["y"] = data["y"].astype(np.float32)
    check(kernels.linear, data, dims, "y", 1e-6, dims if known else {})


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_softmax(dtype):
    data = data_for({"x": (9, 77), "y": (9, 77)}, dtype, "y")
    # In f16 the sum of a row is rounded once here and after every step of a tree there.
    check(kernels.softmax, data, {"M": 9, "N": 77}, "y", 2e-3 if dtype == "float16" else 1e-6, {})


def test_elementwise_with_gathers():
    rng = np.random.default_rng(1)
    data: dict[str, Array] = data_for(
        {"x": (33, 50), "table": (8, 50), "y": (33, 50)}, "float32", "y"
    )
    data = {"x": data["x"], "i": rng.integers(-2, 10, 33).astype(np.int32), "table": data["table"],
            "y": data["y"], "scale": np.asarray(1.5)}  # fmt: skip
    check(blend, data, {"M": 33, "N": 50, "R": 8}, "y", 1e-6, {})


def test_loops_with_tiles_of_any_size():
    data = data_for({"x": (5, 31), "y": (5,)}, "float32", "y")
    check(power_sum, data, {"M": 5, "N": 31}, "y", 1e-6, {})


@pytest.mark.parametrize("name", sorted(QUANTISED))
def test_codes_of_every_width(name):
    """A scaled weight in plain layout: codes are taken apart, scales join the accumulator."""
    zeros = zeros_of(name)
    format = scaled(f"{name}<group=16, zero={zeros[len(name) % len(zeros)]}>")
    parts = random_parts(format, (20, 36), exact=True)
    arrays = Plain().pack(format, parts, (20, 36))
    components = format.components((20, 36))
    data: dict[str, Array] = {"x": np.random.default_rng(2).integers(-4, 5, (3, 36)).astype("f4")}
    for c, raw in zip(components, arrays, strict=True):
        shape = tuple(int(str(d)) for d in c.shape)
        whole = c.dtype.bits >= 8
        data[f"w_{c.name}"] = raw.view(c.dtype.numpy).reshape(shape) if whole else raw
    data["y"] = np.full((3, 20), np.nan, np.float32)
    types = {"x": tc.f32, "w": format, "y": tc.f32}
    source = triton_source(kernels.linear.definition, {"M": 3, "N": 20, "K": 36}, types)
    got = interpreted(source, data)["y"]
    assert np.array_equal(got, data["x"] @ format.values(parts, (20, 36)).T), source.text


def test_loads_of_every_width_signed_and_not():
    """Fields of 1 to 7 bits, little-endian along rows of whole bytes; some straddle two."""
    rows, columns = 3, 21
    types = [f"{sign}{bits}" for sign in "iu" for bits in range(1, 8)]
    params = "".join(f"{t}: {t}[M, N], " for t in types)
    stores = "\n".join(f"y[{i}, m, n] = cast({t}[m, n], i32)" for i, t in enumerate(types))
    text = f"kernel f({params}y: i32[T, M, N]) {{ for m, n in tiles(M, N) {{\n{stores}\n}} }}"
    rng, data, want = np.random.default_rng(4), dict[str, Array](), list[Array]()
    for t in types:
        bits = int(t[1:])
        codes = rng.integers(0, 1 << bits, (rows, columns))
        fields = codes[:, :, None] >> np.arange(bits) & 1
        data[t] = np.packbits(fields.reshape(rows, -1).astype(np.uint8), axis=1, bitorder="little")
        want.append(codes - (codes >> bits - 1 << bits) if t[0] == "i" else codes)
    data["y"] = np.full((len(types), rows, columns), 99, np.int32)
    source = triton_source(parse(text)["f"], {"M": rows, "N": columns, "T": len(types)})
    assert np.array_equal(interpreted(source, data)["y"], want), source.text


@pytest.mark.parametrize("name", ["linear", "softmax", "gelu", "layernorm"])
def test_source_is_readable(name, golden):
    text = triton_source(load(EXAMPLES / f"{name}.tile")[name], {}).text
    lines = text.splitlines()
    assert len(lines) < 120
    assert max(map(len, lines)) <= 100
    assert not any(word in text for word in ("llvm", "cpu", "avx"))
    golden(f"{name}.py.txt", text)


def test_source_of_a_decoding_kernel_is_readable(golden):
    types = {"x": tc.f16, "w": named("int4<group=128>"), "y": tc.f32}
    dims = {"M": 128, "N": 4096, "K": 4096}
    text = triton_source(kernels.linear.definition, dims, types).text
    assert len(text.splitlines()) < 120
    assert max(map(len, text.splitlines())) <= 100
    golden("linear_int4.py.txt", text)


def test_machine_code_without_a_gpu():
    linear = load(EXAMPLES / "linear.tile")["linear"]
    made = compile_for(triton_source(linear, {}), "sm_90", even=("N", "K"))
    assert "wgmma.mma_async" in made["ptx"]
    (stats,) = stats_of(made.cubin, dynamic_shared=made.shared)
    Budget(loop={"HGMMA": 4}).check(stats)  # a step of k is 64, an instruction 16
    (older,) = stats_of(compile_for(triton_source(linear, {}), "sm_80", even=("N", "K")).cubin)
    Budget(loop={"HMMA.16816": 1}).check(older)


TWO = """kernel f(x: f32[M], y: f32[M]) {
  for m in tiles(M) { y[m] = x[m] }
  for m in tiles(M) { y[m] = y[m] + 1.0 }
}"""
BARE = """kernel f(x: f32[M], y: f32[M]) {
  for i in range(4) {
    for m in tiles(M) { y[m] = x[m] }
  }
}"""


def test_several_loops_over_tiles_are_as_many_kernels():
    source = triton_source(parse(TWO)["f"], {})
    assert [k.entry for k in source.launches] == ["f_kernel", "f_2_kernel"]
    assert [k.takes for k in source.launches] == [("x", "y", "M"), ("y", "M")]
    x = np.random.default_rng(5).standard_normal(70).astype(np.float32)
    found = interpreted(source, {"x": x, "y": np.full(70, np.nan, np.float32)})
    assert np.array_equal(found["y"], x + np.float32(1))


def test_refused_before_any_code():
    with pytest.raises(TileError, match="the outermost loop of f is none over tiles"):
        triton_source(parse(BARE)["f"], {})


def test_bad_targets():
    source = triton_source(load(EXAMPLES / "gelu.tile")["gelu"], {})
    for target in ("gfx942", "sm_", "90"):
        with pytest.raises(TileError, match="no target of the Triton back end"):
            compile_for(source, target)
    softmax = triton_source(load(EXAMPLES / "softmax.tile")["softmax"], {})
    with pytest.raises(TileError, match="a tile holds all of N, which has no number"):
        compile_for(softmax, "sm_90")
    assert "ex2" in compile_for(softmax, "sm_90", {"BLOCK_N": 1024})["ptx"]
