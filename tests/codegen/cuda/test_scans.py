"""Scans in registers, across lanes and across warps; sums in memory of many blocks."""

import numpy as np
import pytest
from emulated import poisoned, program_of, run

from tilec.codegen.cuda.headers import device_headers
from tilec.compile import Kernel
from tilec.cuda import Schedule
from tilec.ir.dtype import BY_NAME, Array
from tilec.lang.text import parse
from tilec.runtime.nvrtc import compile_cuda

SCANS = parse("""
kernel rows(x: f32[M, N], y: f32[M, N]) {
  for m in tiles(M) { y[m, :] = cumsum(x[m, :], axis=1, reverse=true) }
}
kernel columns(x: f32[M, N], y: f32[M, N]) {
  for n in tiles(N) { y[:, n] = cumsum(x[:, n], axis=0) }
}
kernel blocks(x: f32[M, N, K], y: f32[M, N, K]) {
  for m in tiles(M) { y[m, :, :] = cumsum(x[m, :, :], axis=1) }
}
kernel product(x: f16[M, K], w: f16[N, K], y: f32[M, N]) {
  for m, n in tiles(M, N) {
    acc = dot(x[m, :], w[n, :].T)
    y[m, n] = cumsum(acc, axis=1) + cumsum(acc, axis=0, reverse=true)
  }
}
""")
SUMS = {
    "rows": lambda x: x[:, ::-1].cumsum(1)[:, ::-1],
    "columns": lambda x: x.cumsum(0),
    "blocks": lambda x: x.cumsum(1),
}
LOOPS = {"rows": "m", "columns": "n", "blocks": "m"}
SHAPES = {"rows": [(3, 700), (40, 9)], "columns": [(300, 5), (7, 130)], "blocks": [(3, 17, 5)]}


def slow(value: object) -> object:
    """A parameter of a slow test."""
    return pytest.param(value, marks=pytest.mark.slow)


def whole(shape: tuple[int, ...], seed: int) -> Array:
    return np.random.default_rng(seed).integers(-3, 4, shape)


def ran(name: str, given: dict[str, Array], dims: dict[str, int], schedule: Schedule, **tiles: int
        ) -> Array:  # fmt: skip
    program = program_of(Kernel(SCANS[name]), {}, dims, schedule, **tiles)
    run(program, given)
    return given["y"]


@pytest.mark.parametrize("threads", [slow(32), 128, slow(256)])
@pytest.mark.parametrize(
    ("name", "shape"), [(n, s) for n, shapes in SHAPES.items() for s in shapes]
)
def test_sums_of_whole_numbers(name, shape, threads):
    x = whole(shape, 0).astype(np.float32)
    y = poisoned(shape, BY_NAME["f32"])
    dims = dict(zip("MNK", shape, strict=False))
    got = ran(name, {"x": x, "y": y}, dims, Schedule(threads), **{LOOPS[name]: 4})
    assert np.array_equal(got, SUMS[name](x))


def test_a_product_is_scanned_as_it_lies_in_registers():
    x, w = whole((40, 32), 1).astype(np.float16), whole((70, 32), 2).astype(np.float16)
    y = poisoned((40, 70), BY_NAME["f32"])
    got = ran(
        "product", {"x": x, "w": w, "y": y}, {"M": 40, "N": 70, "K": 32}, Schedule(), m=32, n=64
    )
    p = x.astype(float) @ w.T.astype(float)
    for i in range(0, 40, 32):
        for j in range(0, 70, 64):
            tile = p[i : i + 32, j : j + 64]
            want = tile.cumsum(1) + tile[::-1].cumsum(0)[::-1]
            assert np.array_equal(got[i : i + 32, j : j + 64], want)


def test_sums_are_within_the_bound():
    x = np.random.default_rng(3).standard_normal((3, 700)).astype(np.float32)
    y = poisoned(x.shape, BY_NAME["f32"])
    ran("rows", {"x": x, "y": y}, {"M": 3, "N": 700}, Schedule(), m=4)
    exact = SUMS["rows"](x.astype(np.float64))
    bound = 700 * 2.0**-24 * SUMS["rows"](np.abs(x.astype(np.float64)))
    assert (np.abs(y - exact) <= bound).all()


ADDED = """
kernel k(x: f32[M, N], i: i32[M], y: {}[V, N], z: {}[1]) {{
  for m in tiles(M) {{
    y[i[m], :] += x[m, :]
    z[0] += max(max(x[m, :], axis=1))
  }}
}}
"""
TYPES = [*map(slow, ("f64", "f32", "f16", "i32", "u32", "i64", "tf32")), "bf16", "i16"]


@pytest.mark.parametrize("name", TYPES)
def test_no_addition_is_lost(name):
    t = BY_NAME[name]
    x = np.abs(whole((21, 10), 5)).astype(np.float32)
    ids = np.random.default_rng(6).integers(-1, 5, 21).astype(np.int32)
    y, z = (np.ascontiguousarray(t.to_storage(np.full(s, 2.0))) for s in ((4, 10), (1,)))
    kernel = Kernel(parse(ADDED.format(name, name))["k"])
    run(program_of(kernel, {}, {"M": 21, "N": 10, "V": 4}, m=4), {"x": x, "i": ids, "y": y, "z": z},
        order=3)  # fmt: skip
    want = np.full((4, 10), 2.0)
    inside = (ids >= 0) & (ids < 4)
    np.add.at(want, ids[inside], x[inside])
    assert np.array_equal(t.from_storage(y), want)
    assert t.from_storage(z)[0] == 2 + sum(x[i : i + 4].max() for i in range(0, 21, 4))


@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
@pytest.mark.parametrize("name", TYPES)
def test_code_for_devices(name, target):
    kernel = Kernel(parse(ADDED.format(name, name))["k"])
    program = program_of(kernel, {}, {"M": 21, "N": 10, "V": 4}, m=4)
    native = {"i16": "atom.relaxed.gpu.global.cas.b16", "tf32": "atom.relaxed.gpu.global.cas.b32",
              "i32": "add.s32", "i64": "add.u64", "f16": "add.noftz.f16",
              "bf16": "add.noftz.bf16" if target == "sm_90a" else "cas.b16"}  # fmt: skip
    text = compile_cuda(program.source.text, target, headers=device_headers()).ptx
    assert native.get(name, f"red.relaxed.gpu.global.add.{name}") in text
