"""What is not fused, and why: where it would mean something else, and where it would cost more."""

import pytest
from fused import far, grids, loops, program

from tilec.passes.fuse import fuse

LEFT = {  # not a single op outside of grids is touched
    "turned in place": ("kernel f(x: f32[M, M]) { x[:, :] = x[:, :].T + 1.0 }",
                        "`x` is read at other places than it is written at"),
    "normalised in place": ("kernel f(x: f32[M, N]) { x[:, :] = x[:, :] / "
                            "sum(x[:, :], axis=1, keepdims=true) }",
                            "`x` is read at other places than it is written at"),
    "gathered in place": ('kernel f(x: f32[M]) { x[:] = x[floordiv(arange("M"), 2)] }',
                          "`x` is read at other places than it is written at"),
    "written twice": ("kernel f(x: f32[M, N], y: f32[M, N]) { y[:, :] = exp(x[:, :])\n"
                      "y[:, :] = y[:, :] + x[:, :] }", "`y` is written twice"),
    "a part of prefix sums": ("kernel f(x: f32[M, 9], y: f32[M, 3]) { "
                              "y[:, :] = cumsum(x[:, :], axis=1)[:, 3:6] }",
                              "cumsum: a part of a scan is not computed by tiles"),
    "added in place": ("kernel f(x: f32[M], t: i32[M]) { x[t[:]] += x[:] }",
                       "`x` is read at other places than it is written at"),
    "scattered in place": ("kernel f(x: f32[M], t: i32[M]) { x[t[:]] = x[:] * 2.0 }",
                           "`x` is read at other places than it is written at"),
    "parts that overlap": ("program f(x: f32[M, 4], y: f32[M, 9]) { y[:, :4] = x\n"
                           "y[:, 3:7] = x * 2.0 }", "`y` is written twice"),
    "in order": ("kernel f(x: f32[M], y: f32[M]) { a = x[:]\n for i in range(3) { a = a * a }\n"
                 "y[:] = a }", "a `count` outside of a grid runs in order"),
    "a choice": ("kernel f(x: f32[M], y: f32[M], c: i32) { a = x[:]\n if c > 0 { a = a * 2.0 }\n"
                 "y[:] = a }", "a `if` outside of a grid runs in order"),
    "a place": ("kernel f(x: f32[M, N], y: i32[M]) { y[:] = argmax(x[:, :], axis=1) }",
                "argmax is not computed by tiles"),
}  # fmt: skip

APART = {  # in several kernels, or loops, of which none would be right or cheap
    "rounded to codes": ("program f(x: f32[M, K], w: e4m3[N, K]) {\n"
                         "e = exp(x - max(x, axis=1, keepdims=true))\n"
                         "return cast(e / sum(e, axis=1, keepdims=true), e4m3) @ w.T }",
                         dict(M=5, N=7, K=6), 2, 2, "rounding to e4m3 does not let a factor pass"),
    "two products": ("program f(x: f32[M, K], g: f32[H, K], d: f32[N, H]) { return "
                     "silu(x @ g.T) @ d.T }", dict(M=5, N=7, K=6, H=8), 2, 2,
                     "a product would be computed again for each tile of its reader"),
    "three products": ("program f(x: f32[M, 64], a: f32[64, 64], b: f32[64, 64], c: f32[64, 64]) {"
                       "return ((x @ a) @ b) @ c }", dict(M=5), 2, 2,
                       "three products would each run in the loop of the next"),
    "a long head": ("program f(q: f32[M, 513], k: f32[N, 513], v: f32[N, 513]) { return "
                    "softmax(q @ k.T) @ v }", dict(M=5, N=7), 3, 4,
                    "a product would be computed again for each tile of its reader"),
    "a mean in a product": ("program f(x: f32[M, K], g: f32[K], b: f32[K], w: f32[N, K]) { return "
                            "layer_norm(x, g, b) @ w.T }", dict(M=5, N=7, K=6), 2, 2,
                            "sums of the other operand would be taken beside the product"),
    "a sum in a product": ("program f(x: f32[M, K], w: f32[N, K]) { return "
                           "(x + sum(x, axis=1, keepdims=true)) @ w.T }", dict(M=5, N=7, K=6), 2, 2,
                           "add of a reduction over the same elements is no product"),
    "a sum on both sides": ("program f(x: f32[M, K], w: f32[7, K]) { return "
                            "layer_norm(x, 1.0, 0.0) @ softmax(w).T }", dict(M=5, K=6), 2, 2,
                            "both operands depend on reductions over the same elements"),
    "other columns": ("program f(x: f32[M, K], a: f32[N, K], b: f32[P, K]) { return "
                      "(x @ a.T, x @ b.T) }", dict(M=5, N=7, K=6, P=3), 2, 2,
                      "it has other extents than `result0`"),
    "nothing in common": ("program f(x: f32[M, N], y: f32[M, N]) { return (exp(x), exp(y)) }",
                          dict(M=5, N=7), 2, 0, "it reads nothing that `result0` reads"),
    "rows of sums": ("program f(x: f32[M, V], t: i32[M]) { return mean(cross_entropy(x, t)) }",
                     dict(M=5, V=7), 2, 2, "a reduction of reductions runs in parallel"),
    "a product and its norm": ("program f(x: f32[M, K], w: f32[N, K], g: f32[N]) { h = x @ w.T\n"
                               "return (h, rms_norm(h, g)) }", dict(M=5, N=7, K=6), 2, 3,
                               "sums of `result0` would be computed again"),
    "scales of wide rows": ("program f(x: f32[M, K], w: f32[300, K]) { y = x @ w.T\n"
                            "return y / max(abs(y), axis=1, keepdims=true) }", dict(M=5, K=6), 2, 1,
                            "a row of 300 is more than a tile has (256): its sums would be"),
    "read by two": ("program f(x: f32[M, K], w: f32[N, K]) { y = x @ w.T\n"
                    "return (relu(y), sum(y * y, axis=0)) }", dict(M=5, N=7, K=6), 2, 2,
                    "several kernels read it"),
    "no maximum": ("program f(x: f32[M, N]) { return "
                   "sum(exp(x - mean(x, keepdims=true)), axis=1) }",
                   dict(M=5, N=7), 1, 2, "no maximum is taken from the exponent of exp"),
    "a maximum of products": ("program f(x: f32[M, N]) { return "
                              "max(x * sum(x, axis=1, keepdims=true), axis=1) }", dict(M=5, N=7), 1,
                              2, "a max depends on a reduction over the same elements"),
    "a choice of sums": ("program f(x: f32[M, N]) { m = max(x, axis=1, keepdims=true)\n"
                         "return sum(where(x == m, 1.0, 0.0), axis=1) }", dict(M=5, N=7), 1, 2,
                         "a choice depends on a reduction over the same elements"),
}  # fmt: skip


def test_what_outlives_its_memory_is_kept():
    func = program(
        "kernel f(x: f32[M, N], y: f32[M, N], z: f32[M]) { a = y[:, :]\n"
        "for m in tiles(M) { y[m, :] = x[m, :] * 2.0 }\n z[:] = sum(a, axis=1) }"
    )
    made, off = far(func, {"M": 4, "N": 5})
    assert grids(made) == len([op for op in made.body.ops if op.blocks]) == 3
    assert off <= 1e-6


@pytest.mark.parametrize("name", LEFT)
def test_an_order_that_matters_is_left(name: str):
    text, why = LEFT[name]
    func = program(text)
    made = fuse(func)
    assert made.body is func.body
    (said,) = made.remarks
    assert why in said.missing
    assert said.loc is not None
    assert said.loc.user.text == text.splitlines()[said.loc.user.line - 1]


@pytest.mark.parametrize("name", APART)
def test_what_does_not_pay_is_apart(name: str):
    text, dims, kernels, count, why = APART[name]
    made, off = far(program(text), dims)
    assert off <= 2e-6  # scores of 512 products are rounded in f32
    assert (grids(made), len(loops(made))) == (kernels, count)
    (said,) = [r for r in made.remarks if why in r.missing][:1]
    assert said.loc is not None
    assert said.loc.user.file == "<text>"
    assert text.splitlines()[said.loc.user.line - 1] in str(said)  # through library functions, too


def test_a_value_that_is_used_twice_is_visited_once():
    """Each step doubles the ways that lead to the first value: a trillion of them."""
    steps = "".join(f"  x{i + 1} = x{i} * x{i}\n" for i in range(40))
    text = (f"program f(x0: f32[M, K], w: f32[N, K]) {{\n{steps}"
            "  return x40 @ (w / sum(w, axis=1, keepdims=true)).T }")  # fmt: skip
    assert grids(fuse(program(text))) == 1
