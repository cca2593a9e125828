"""Rankings become loops that read a row once, with what else runs over it."""

import numpy as np
import pytest
from cases import Case
from conformance import rankings
from fused import far, grids, loops, program, ran

from tilec.ir.core import Builder, Func, Op, Value, rebuild
from tilec.ir.dtype import Array
from tilec.ir.interpret import interpret
from tilec.ir.ops import control
from tilec.ir.ops.top import Ranking
from tilec.ir.parse import parse
from tilec.ir.text import show
from tilec.ir.verify import verify
from tilec.passes.fuse import fuse
from tilec.passes.fuse_passes import passes_over
from tilec.passes.fuse_top import TILE
from tilec.passes.gradient import gradient

NAN, INF = float("nan"), float("inf")


def stepped(func: Func, size: int) -> Func:
    """The function fused, with a step for rankings that is shorter than these rows."""

    def change(op: Op, to: dict[Value, Value], b: Builder) -> bool:
        if not isinstance(op, control.For) or op.tile != TILE:
            return False
        new = b.add(op.rebuilt({}, tile=size))
        to.update(zip(op.results, new.results, strict=True))
        return True

    made = fuse(func)
    return made.replaced(rebuild(made.body, {}, change))


ONE = {  # one kernel with one loop, which reads x once; so often as it is written
    "(v, p)": 3,
    "v": 3,
    "p": 3,
    "v / sum(v, axis=1, keepdims=true)": 3,
    "(v, log_sum_exp(x))": 3,
    "(v[:, 1:], p[:, 0:1])": 3,
    "top_k(x * 2.0 - sum(x, axis=1, keepdims=true), 4)": 2,
    "top(silu(x), 3)": 1,
}


@pytest.mark.parametrize("result", ONE)
def test_one_pass(result: str):
    func = program(f"""program f(x: f32[M, N]) {{
      v, p = top_k(softmax(x), 5)
      return {result} }}""")  # fmt: skip
    made, off = far(func, {"M": 4, "N": 37})
    assert off <= 1e-6
    assert (grids(made), len(loops(made))) == (1, 1)
    assert passes_over(made) == {"x": 1}
    assert passes_over(func) == {"x": ONE[result]}


@pytest.mark.parametrize("size", [1, 4, 64])
@pytest.mark.parametrize("case", list(rankings()), ids=lambda c: c.name)
def test_every_dtype(case: Case, size: int):
    assert show(parse(show(case.func))) == show(case.func)
    made = stepped(case.func, size)
    verify(made)
    if case.name.split("-")[1] in ("f64", "i64", "u64"):
        assert any("is not computed by tiles" in r.missing for r in made.remarks)
        return
    assert not [op for op in made.walk() if isinstance(op, Ranking)]
    want = np.full(case.shape, 77, case.out.carrier)
    interpret(case.func, {**case.inputs, "out": want}, {})
    got = ran(made, {**case.inputs, "out": np.full(case.shape, 77, case.out.carrier)}, {})
    np.testing.assert_array_equal(got["out"], want)


ROWS = [
    [1.0, 1.0, 1.0, 1.0, 1.0],
    [-INF, -INF, 3.0, -INF, -INF],
    [NAN, 1.0, -NAN, INF, -INF],
    [-0.0, 0.0, -1.0, -0.0, 0.0],
    [5.0, 4.0, 3.0, 2.0, 1.0],
    [-5.0, -4.0, -3.0, -2.0, -1.0],
]


@pytest.mark.parametrize("count", [1, 3, 5, 8])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_rows_of_special_numbers(count: int, size: int):
    func = program("""program f(x: f32[M, N], y: f32[M, K], p: i32[M, K]) {
      y[:, :] = top(x, "K")
      p[:, :] = argtop(x, "K") }""")  # fmt: skip
    x, dims = np.array(ROWS), {"M": 6, "N": 5, "K": count}
    given: dict[str, Array] = {"x": x, "y": np.zeros((6, count)), "p": np.zeros((6, count), int)}
    want, got = ran(func, given, dims), ran(stepped(func, size), given, dims)
    for n in ("y", "p"):
        np.testing.assert_array_equal(got[n], want[n])
    assert got["p"][3, : min(count, 4)].tolist() == [0, 1, 3, 4][:count]


def test_an_order_that_falls_is_not_that_of_the_argument():
    """Of -x, or of x times what may be negative, the largest are others."""
    for text in ("-x", "2.0 - x", "x * sum(x, axis=1, keepdims=true)", "1.0 / x", "x * -2.0"):
        func = program(f"program f(x: f32[M, N]) {{ return top_k({text}, 3) }}")
        assert far(func, {"M": 7, "N": 9})[1] <= 1e-6


def test_products_are_not_computed_a_row_at_a_time():
    func = program("""program f(x: f32[M, K], w: f32[N, K]) {
      return top_k(softmax(x @ w.T), 3) }""")  # fmt: skip
    made, off = far(func, {"M": 5, "N": 9, "K": 6})
    assert off <= 1e-6
    assert (grids(made), len(loops(made))) == (2, 2)
    assert any("for a row at a time" in r.missing for r in made.remarks)
    assert [str(p.type) for p in made.params if "." in p.hint] == ["*f32[M, N]"]


def test_the_gradient_is_at_the_places_of_the_largest():
    forward = program("""program f(x: f32[M, N]) {
      v = top(softmax(x), 3)
      return v / sum(v, axis=1, keepdims=true) }""")  # fmt: skip
    func = gradient(forward, by="x")
    assert far(func, {"M": 4, "N": 11})[1] <= 1e-6
    x = np.random.default_rng(0).standard_normal((2, 6))
    given = {"x": x, "d_result": np.array([[1.0, 2.0]] * 2), "d_x": np.zeros((2, 6))}
    plain = gradient(program("program f(x: f32[M, N]) { return top(x, 2) }"), by="x")
    got = ran(stepped(plain, 2), given, {"M": 2, "N": 6})["d_x"]
    order = np.argsort(-x, axis=1)
    want = np.zeros((2, 6))
    np.put_along_axis(want, order[:, :2], [[1.0, 2.0]] * 2, 1)
    np.testing.assert_array_equal(got, want)
