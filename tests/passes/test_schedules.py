"""Schedules of products: whatever blocks do in whatever order, the result is the same.

The numbers are whole and small: every sum is exact, so that its order does not matter.
"""

from __future__ import annotations

import numpy as np
import pytest

from tilec.ir.core import Func
from tilec.ir.dtype import Array
from tilec.ir.errors import TileError
from tilec.ir.interpret import interpret
from tilec.ir.ops.memory import Store
from tilec.ir.types import Memory, symbols
from tilec.lang.text import parse
from tilec.passes import parse_pipeline, run

TEXT = """
kernel linear(x: f16[M, K], w: f16[N, K], b: f32[N], y: f32[M, N]) {
  for m, n in tiles(M, N) {
    acc = zeros([m, n], f32) + b[n]
    for k in tiles(K) { acc += dot(x[m, k], w[n, k].T) }
    y[m, n] = acc
  }
}
kernel gated(x: i8[M, K], w: i8[N, K], v: i8[N, K], y: i32[M, N]) {
  for m, n in tiles(M, N) {
    up = zeros([m, n], i32)
    gate = zeros([m, n], i32)
    for k in tiles(K) {
      up += dot(x[m, k], w[n, k].T)
      gate += dot(x[m, k], v[n, k].T)
    }
    y[m, n] = where(gate < 0, 0, gate) * up
  }
}
kernel batched(x: f16[B, M, K], w: f16[N, K], y: f32[B, M, N]) {
  for b, m, n in tiles(B, M, N, block=(1, 16, 16)) {
    acc = zeros([m, n], f32)
    for k in tiles(K) { acc += dot(x[b.start, m, k], w[n, k].T) }
    y[b.start, m, n] = acc
  }
}
kernel twice(x: f16[M, K], w: f16[N, K], v: f16[N, K], y: f32[M, N], z: f32[N, M]) {
  for m, n in tiles(M, N) {
    acc = zeros([m, n], f32)
    for k in tiles(K) { acc += dot(x[m, k], w[n, k].T) }
    y[m, n] = acc
  }
  for i, j in tiles(N, M) {
    sum = zeros([i, j], f32)
    for l in tiles(K) { sum = dot(v[i, l], x[j, l].T) + dot(w[i, l], x[j, l].T) + sum }
    z[i, j] = sum
  }
}
"""
KERNELS = parse(TEXT, "schedules.tile")
SCHEDULES = (
    "split-k{parts=2}", "split-k{parts=7}", "stream-k{blocks=1}", "stream-k{blocks=5}",
    "stream-k{blocks=64}", "persist{blocks=1}", "persist{blocks=3}", "raster{width=1}",
    "raster{width=3}", "raster{width=2},split-k{parts=3},persist{blocks=4}",
    "raster{width=2},stream-k{blocks=6}", "swap-operands{when=always},split-k{parts=2}",
    "swap-operands{when=always},raster{width=2},stream-k{blocks=9}",
)  # fmt: skip


def lowered(name: str, dims: dict[str, int], schedule: str) -> Func:
    known = {d for p in KERNELS[name].ir().params for d in map(str, symbols(p.type))}
    sizes = " ".join(f"{d}={n}" for d, n in dims.items() if d in known)
    tiles = "m=16 n=16 k=16 i=16 j=16 l=16"
    return run(parse_pipeline(f"specialise{{{sizes}}},tile{{{tiles}}},pad,{schedule}"),
               KERNELS[name].ir())  # fmt: skip


def memory(func: Func, rng: np.random.Generator) -> dict[str, Array]:
    """Small whole numbers, and poison where results go."""
    found: dict[str, Array] = {}
    for p in func.params:
        assert isinstance(p.type, Memory)
        known = tuple(int(str(d)) for d in p.type.shape)
        out = p.hint[0] in "yz"
        found[p.hint] = np.full(known, 77) if out else rng.integers(-4, 5, known)
        found[p.hint] = found[p.hint].astype(p.type.dtype.carrier)
    return found


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", KERNELS)
def test_the_result_is_the_same(name: str, schedule: str):
    rng = np.random.default_rng(len(schedule))
    for _ in range(2):
        dims = {d: int(rng.integers(1, 90)) for d in "MNK"} | {"B": int(rng.integers(1, 4))}
        func = lowered(name, dims, schedule)
        arguments = memory(func, rng)
        want = {n: a.copy() for n, a in arguments.items() if "." not in n}
        interpret(KERNELS[name].ir(), want, dims)
        interpret(func, arguments, {})
        for n, a in want.items():
            np.testing.assert_array_equal(arguments[n], a, err_msg=f"{n} of {dims}")


@pytest.mark.parametrize("width", [1, 2, 3, 5])
def test_bands_go_down_the_rows_first(width: int, monkeypatch: pytest.MonkeyPatch):
    """The order of the tiles of 3 rows of 5 columns."""
    func = lowered("linear", {"M": 48, "N": 80, "K": 16}, f"raster{{width={width}}}")
    seen: list[tuple[int, int]] = []
    monkeypatch.setattr(
        Store, "evaluate",
        lambda op, mem, indices, value, mask: seen.append(tuple(i[0] // 16 for i in indices)),
    )  # fmt: skip
    interpret(func, memory(func, np.random.default_rng(0)), {})
    bands = [range(first, min(first + width, 5)) for first in range(0, 5, width)]
    assert seen == [(row, column) for band in bands for row in range(3) for column in band]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_result_is_written_once(schedule: str, monkeypatch: pytest.MonkeyPatch):
    func = lowered("linear", {"M": 40, "N": 70, "K": 100}, schedule)
    (y,) = (p for p in func.params if p.hint == "y")
    written = np.zeros((48, 80), int)

    def evaluate(op: Store, mem: Array, indices: tuple[range, range], *_: object) -> None:
        if op.mem is y:
            written[np.ix_(*indices)] += 1

    monkeypatch.setattr(Store, "evaluate", evaluate)
    interpret(func, memory(func, np.random.default_rng(0)), {})
    assert (written == 1).all()


def test_sums_lie_beside_their_output():
    """Two grids that write different outputs, and a loop that carries two values."""
    names = [p.hint for p in lowered("twice", dict.fromkeys("MNK", 40), "split-k{parts=2}").params]
    assert names[-2:] == ["y.sums0", "z.sums0"]
    names = [
        p.hint for p in lowered("gated", dict.fromkeys("MNK", 40), "stream-k{blocks=2}").params
    ]
    assert names[-2:] == ["y.sums0", "y.sums1"]


@pytest.mark.parametrize(("schedule", "message"), [
    ("split-k{parts=0}", "split-k: 0 parts, expected 1 or more"),
    ("stream-k{blocks=-1}", "stream-k: -1 blocks, expected 1 or more, or 0"),
    ("persist{blocks=-1}", "persist: -1 blocks, expected 1 or more, or 0"),
    ("raster{width=-1}", "raster: a band of -1 columns, expected 1 or more, or 0"),
])  # fmt: skip
def test_refused(schedule: str, message: str):
    with pytest.raises(TileError, match=message):
        lowered("linear", dict.fromkeys("MNK", 16), schedule)


@pytest.mark.parametrize(("body", "missing"), [
    ("acc = acc * 0.5 + dot(x[m, k], w[n, k].T)", "a loop that only adds products"),
    ("acc += dot(x[m, k], w[n, k].T) * acc", "a loop that only adds products"),
    ("acc = acc + dot(x[m, k], w[n, k].T) + acc", "a loop that only adds products"),
    ("if size(K) > 3 { acc += dot(x[m, k], w[n, k].T) }", "a loop that only adds products"),
])  # fmt: skip
@pytest.mark.parametrize("schedule", ["split-k{parts=2}", "stream-k{blocks=3}"])
def test_what_is_no_sum_stays_and_is_said(schedule: str, body: str, missing: str):
    text = TEXT.replace("acc += dot(x[m, k], w[n, k].T)", body, 1)
    definition = parse(text, "other.tile")["linear"]
    head = "specialise{M=16 N=16 K=64},tile{m=16 n=16 k=16},pad"
    plain = run(parse_pipeline(head), definition.ir())
    func = run(parse_pipeline(f"{head},{schedule}"), definition.ir())
    assert len(func.params) == len(plain.params)
    assert next(r.missing for r in func.remarks if r.origin in schedule).startswith(missing)
