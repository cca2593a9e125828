"""What adds to memory does so once for each task, however passes cut its grid."""

import numpy as np
import pytest

from tilec.ir.interpret import interpret
from tilec.ir.ops import machine, memory
from tilec.ir.types import Memory
from tilec.lang.text import parse
from tilec.passes import parse_pipeline, run

TEXT = """
kernel k(x: f16[M, K], w: f16[N, K], i: i32[M], y: f32[V], z: f32[V, N]) {
  for m, n in tiles(M, N) {
    acc = zeros([m, n], f32)
    for k in tiles(K) { acc += dot(x[m, k], w[n, k].T) }
    y[i[m]] += sum(acc, axis=1)
    z[i[m], n] -= cumsum(acc, axis=0)
  }
}
"""
DIMS = {"M": 40, "N": 48, "K": 96, "V": 6}
PASSES = ["split-k{parts=3}", "stream-k{blocks=3}", "persist{blocks=2}", "raster{width=2}",
          "stage-loads", "coalesce-stores", "lay-out", "hint-caches", "swap-operands",
          "coalesce-stores,lay-out"]  # fmt: skip


@pytest.mark.parametrize("passes", PASSES)
def test_nothing_is_added_twice(passes):
    sizes = " ".join(f"{d}={n}" for d, n in DIMS.items())
    func = parse(TEXT)["k"].ir()
    start = parse_pipeline(f"specialise{{{sizes}}},tile{{m=16 n=16 k=32}},pad")
    changed = run((*start, *parse_pipeline(f"{passes},canonicalize")), func)
    rng = np.random.default_rng(0)
    given = {"x": rng.integers(-2, 3, (40, 96)).astype(float), "i": rng.integers(-1, 7, 40),
             "w": rng.integers(-2, 3, (48, 96)).astype(float)}  # fmt: skip
    found = []
    for f, tiles in ((func, {"m.tile": 16, "n.tile": 16, "k.tile": 32}), (changed, {})):
        mems = {p.hint: p.type for p in changed.params if isinstance(p.type, Memory)}
        own = {n: np.zeros(tuple(int(str(d)) for d in t.shape)) for n, t in mems.items()
               if n not in given}  # fmt: skip
        interpret(f, {**given, **own}, DIMS | tiles)
        found.append(own)
    assert np.any(found[0]["y"])
    for name in ("y", "z"):
        assert np.array_equal(found[0][name], found[1][name])


def test_a_ring_is_not_made_of_memory_that_is_added_to():
    text = TEXT.replace("i: i32[M]", "i: i32[M], v: f16[N, K]")
    text = text.replace("y[i[m]] +=", "w[0, 0] += cast(acc[0, 0], f16)\n    y[i[m]] +=")
    start = parse_pipeline("specialise{M=40 N=48 K=96 V=6},tile{m=16 n=16 k=32},pad,stage-loads")
    func = run(start, parse(text)["k"].ir())
    staged = {op.mem.hint for op in func.walk() if isinstance(op, machine.Copy)}
    added = {op.mem.hint for op in func.walk() if isinstance(op, memory.Accumulate)}
    assert staged == {"x"}
    assert "w" in added
