"""Reductions that depend on each other run in one loop: how often operands are read, and that
nothing overflows or cancels."""

import numpy as np
import pytest
from fused import far, grids, loops, program, ran
from fused_programs import PROGRAMS

from tilec.ir.dtype import Array
from tilec.ir.text import show
from tilec.ir.types import Memory
from tilec.passes.fuse import fuse
from tilec.passes.fuse_passes import passes_over
from tilec.passes.gradient import gradient, saved

PASSES = {
    "softmax": ({"x": 3}, {"x": 2}),
    "log-sum-exp": ({"x": 2}, {"x": 1}),
    "log-softmax": ({"x": 3}, {"x": 2}),
    "layer-norm": ({"x": 3, "g": 1, "b": 1}, {"x": 2, "g": 1, "b": 1}),
    "moments": ({"x": 2}, {"x": 1}),
    "cross-entropy": ({"x": 2, "t": 1}, {"x": 1, "t": 1}),
    "no logits": ({"h": 1, "w": 2, "t": 1}, {"h": 1, "w": 1, "t": 1}),
    "norm linear": ({"x": 2, "g": 1, "w": 1}, {"x": 1, "g": 1, "w": 1}),
    "attention": ({"q": 1, "k": 3, "v": 1}, {"q": 1, "k": 1, "v": 1}),
    "causal": ({"q": 1, "k": 3, "v": 1}, {"q": 1, "k": 1, "v": 1}),
    "capped": ({"q": 1, "k": 3, "v": 1}, {"q": 1, "k": 1, "v": 1}),
    "window": ({"q": 1, "k": 3, "v": 1}, {"q": 1, "k": 1, "v": 1}),
    "grouped": ({"q": 1, "k": 3, "v": 1}, {"q": 1, "k": 1, "v": 1}),
    "bias f16": ({"q": 1, "k": 3, "v": 1, "b": 3}, {"q": 1, "k": 1, "v": 1, "b": 1}),
    "no maximum": ({"x": 2}, {"x": 2}),
}


@pytest.mark.parametrize("name", PASSES)
def test_a_cascade_reads_its_operands_so_often(name: str):
    func = program(PROGRAMS[name].text)
    before, after = PASSES[name]
    assert passes_over(func) == before
    assert passes_over(fuse(func)) == after


@pytest.mark.parametrize("name", ["attention", "causal", "capped", "window", "grouped", "bias f16"])
def test_no_memory_holds_the_scores(name: str):
    func = program(PROGRAMS[name].text)
    made = fuse(func)
    assert grids(made) == 1
    assert [p.type for p in made.params] == [p.type for p in func.params]


def attended(q: Array, k: Array, v: Array, seen: Array) -> Array:
    s = np.where(seen, q @ k.T, -np.inf)
    e = np.exp(s - s.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True) @ v


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_keys_that_come_first_may_all_be_masked(scale: float):
    func = program("""program f(q: f32[M, D], k: f32[N, D], v: f32[N, D], s: i32[M, N]) {
      return softmax(where(s > 0, q @ k.T, -inf)) @ v }""")  # fmt: skip
    rng = np.random.default_rng(3)
    q, k, v = (rng.standard_normal((n, 4)) * scale for n in (6, 11, 11))
    q, k, v = (x.astype(np.float32).astype(float) for x in (q, k, v))
    seen = np.arange(11) >= np.array([0, 3, 4, 7, 9, 11])[:, None]
    given = {"q": q, "k": k, "v": v, "s": seen.astype(int), "result": np.zeros((6, 4))}
    got = ran(fuse(func), given, {"M": 6, "N": 11, "D": 4})["result"]
    with np.errstate(invalid="ignore"):
        want = attended(q, k, v, seen)
    assert np.isnan(got[5]).all()  # no key at all, as in the program
    np.testing.assert_allclose(got[:5], want[:5], rtol=1e-4 if scale > 1 else 1e-6)


def test_one_pass_moments_do_not_cancel():
    case = PROGRAMS["moments"]
    rng = np.random.default_rng(0)
    x = (1e4 + rng.standard_normal((5, 40))).astype(np.float32).astype(float)
    got = ran(fuse(program(case.text)), {"x": x, "result": np.zeros(5)}, {"M": 5, "N": 40})
    np.testing.assert_allclose(got["result"], 40 * x.var(1), rtol=2e-3)


FEW = """program f(x: f32[M, K], g: f32[K], b: f32[K], w: f32[7, K]) {
  return layer_norm(x, g, b) @ w.T }"""


def test_the_mean_of_a_product_is_taken_in_its_loop():
    """Of few columns: the mean, the variance, the product and two sums of w, in one pass."""
    func = program(FEW)
    made, off = far(func, {"M": 5, "K": 40})
    assert off <= 3e-7
    assert (grids(made), len(loops(made))) == (1, 1)
    assert passes_over(func) == {"x": 3, "g": 1, "b": 1, "w": 1}
    assert passes_over(made) == dict.fromkeys("xgbw", 1)


@pytest.mark.parametrize("size", [3, 64])
def test_the_mean_of_a_product_does_not_cancel(size: int):
    """Distances are from the mean so far: their sums do not grow with the mean."""
    rng = np.random.default_rng(0)
    x = (1e4 + rng.standard_normal((5, 40))).astype(np.float32).astype(float)
    w = rng.standard_normal((7, 40)).astype(np.float32).astype(float)
    given = {"x": x, "g": np.ones(40), "b": np.zeros(40), "w": w, "result": np.zeros((5, 7))}
    got = ran(fuse(program(FEW)), given, {"M": 5, "K": 40}, size=size)["result"]
    c = x - x.mean(1, keepdims=True)
    want = c / np.sqrt((c * c).mean(1, keepdims=True) + 1e-5) @ w.T
    assert np.linalg.norm(got - want) <= 2e-3 * np.linalg.norm(want)  # a mean is rounded to 1e-3


@pytest.mark.parametrize(
    "text",
    [
        "sum((x - mean(x, keepdims=true)) * y, axis=1)",
        "sum(where(y > 0.0, (x - mean(x, keepdims=true)) * y + x, 0.0), axis=1)",
        "sum(-(x - mean(x, keepdims=true)) / (1.0 + y * y) - y, axis=1)",
        "sum((y * 2.0 - mean(x, keepdims=true)) * max(x, axis=1, keepdims=true), axis=1)",
    ],
)
def test_sums_of_distances_from_a_mean_are_one_pass(text: str):
    func = program(f"program f(x: f32[M, N], y: f32[M, N]) {{ return {text} }}")
    made, off = far(func, {"M": 5, "N": 37})
    assert off <= 1e-6
    assert passes_over(made) == {"x": 1, "y": 1}, show(made)


@pytest.mark.parametrize("text", ["softmax(x)", "x - max(x, axis=1, keepdims=true)"])
def test_a_mean_of_what_depends_on_more_is_known_at_the_end(text: str):
    func = program(f"""program f(x: f32[M, N], y: f32[M, N]) {{
      return sum((x - mean({text}, keepdims=true)) * y, axis=1) }}""")  # fmt: skip
    assert far(func, {"M": 5, "N": 37})[1] <= 1e-6


def test_log_sum_exp_of_large_numbers():
    x = np.array([[1e30, 1e30, -1e30], [-1e30, -1e30, -1e30], [3e38, 0.0, 1.0]])
    x = x.astype(np.float32).astype(float)
    func = fuse(program(PROGRAMS["log-sum-exp"].text))
    got = ran(func, {"x": x, "result": np.zeros(3)}, {"M": 3, "N": 3}, size=1)["result"]
    np.testing.assert_allclose(got, x.max(1), rtol=1e-6)


def test_keys_that_are_values_too_are_read_once():
    """Of 512 numbers and 64 more, as in multi-head latent attention (DeepSeek-AI, 2024)."""
    func = program("""program f(q: f32[H, 512], t: f32[H, 64], c: f32[N, 512], k: f32[N, 64]) {
      return softmax((q @ c.T + t @ k.T) * 0.04) @ c }""")  # fmt: skip
    made, off = far(func, {"H": 5, "N": 40}, size=16)
    assert off <= 1e-6
    assert passes_over(func) == {"q": 1, "t": 1, "c": 3, "k": 3}
    assert passes_over(made) == dict.fromkeys("qtck", 1)
    assert not [p for p in made.params if "." in p.hint]


def test_a_head_that_is_too_long_for_a_tile_keeps_its_scores_in_memory():
    case = PROGRAMS["attention"]
    dims = dict(case.dims, D=513)
    func, off = far(program(case.text, D=513), dims)
    assert off <= 1e-6
    own = [p for p in func.params if "." in p.hint]
    assert len(own) >= 1
    assert any("computed again" in r.missing for r in func.remarks)


MASKS = {
    "causal": ('index("N") <= index("M")[:, none]', True, False),
    "strict": ('index("N") < index("M")[:, none] + 1', True, False),
    "from behind": ('index("N") >= index("M")[:, none]', False, True),
    "window": ('(index("N") <= index("M")[:, none]) & (index("M")[:, none] - index("N") < 3)',
               True, True),
    "shifted": ('index("N") <= index("M")[:, none] + (size("N") - size("M"))', True, False),
    "lengths": ('index("N") < n[:, none]', True, False),
    "blocks": ('floordiv(index("N"), 4) == floordiv(index("M"), 4)[:, none]', False, False),
    "either": ('(index("N") <= index("M")[:, none]) | (index("N") > 5)', False, False),
}  # fmt: skip


@pytest.mark.parametrize("name", MASKS)
def test_a_mask_bounds_the_loop(name: str):
    mask, stops, begins = MASKS[name]
    func = program(f"""program f(q: f32[M, D], k: f32[N, D], v: f32[N, D], n: i32[M]) {{
      s = where({mask}, q @ k.T, -inf)
      return softmax(s) @ v }}""")  # fmt: skip
    made, off = far(func, {"M": 150, "N": 150, "D": 4}, size=16)
    assert off <= 1e-6
    (loop,) = loops(made)
    assert (loop.stop is not None, loop.first is not None) == (stops, begins), show(made)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "text",
    [
        "softmax(where(seen, s, -1e9)) @ v",  # a number that is not nothing
        "softmax(where(seen, s, 0.0)) @ v",
        "(where(seen, s, -inf) + 1.0) @ v",  # no exponential of it
        "softmax(where(seen, -inf, s)) @ v",  # the other way round
    ],
)
def test_a_mask_that_proves_nothing_skips_nothing(text: str):
    func = program(f"""program f(q: f32[M, D], k: f32[N, D], v: f32[N, D]) {{
      seen = index("N") <= index("M")[:, none]
      s = q @ k.T
      return {text} }}""")  # fmt: skip
    assert all(loop.stop is None for loop in loops(fuse(func)))  # type: ignore[attr-defined]


def test_a_sum_that_is_masked_stops():
    func = program("""program f(x: f32[M, N], w: f32[N, K]) {
      return where(index("N") <= index("M")[:, none], x, 0.0) @ w }""")  # fmt: skip
    made, off = far(func, {"M": 9, "N": 7, "K": 5})
    assert off <= 1e-6
    assert loops(made)[0].stop is not None  # type: ignore[attr-defined]


def test_memory_of_the_functions_own_is_dense():
    made = fuse(program(PROGRAMS["block"].text))
    own = [p.type for p in made.params if "." in p.hint]
    assert len(own) == 4
    assert all(isinstance(t, Memory) for t in own)


@pytest.mark.parametrize("mask", ["s", 'where(index("N") <= index("M")[:, none], s, -inf)'])
def test_the_gradients_of_attention_keep_no_scores(mask: str):
    forward = program(f"""program f(q: f32[B, M, D], k: f32[B, N, D], v: f32[B, N, D]) {{
      s = (q @ transpose(k, (0, 2, 1))) * 0.3
      return softmax({mask}) @ v }}""")  # fmt: skip
    dims = {"B": 2, "M": 9, "N": 7, "D": 4}
    made, off = far(gradient(forward, by="q+k+v"), dims)
    assert off <= 1e-6
    own = [p.type for p in made.params if "." in p.hint]
    assert [str(t) for t in own] == ["*f32[B, M]"] * 3  # of each row a maximum and two sums
    assert (grids(made), len(loops(made))) == (2, 3)
    skipped = [loop for loop in loops(made) if loop.stop or loop.first]  # type: ignore[attr-defined]
    assert len(skipped) == (0 if mask == "s" else 3)


def test_loops_that_masks_bound_at_other_ends_are_not_one():
    """Of queries those behind a key, of keys those before a query: as many as there are of each,
    and everything is computed again for both."""
    dims = {"B": 2, "M": 70, "D": 4}
    func = program(
        """program f(q: f32[B, M, D], k: f32[B, M, D], v: f32[B, M, D]) {
      s = (q @ transpose(k, (0, 2, 1))) * 0.3
      return softmax(where(index("M") <= index("M")[:, none], s, -inf)) @ v }""",
        **dims,
    )
    both = saved(func)
    back = gradient(both.source, by="q,k+v", of="result", keep="+".join(("result", *both.names)))
    made, off = far(back, dims, size=16)
    assert off <= 1e-6
    ends = [(loop.stop is not None, loop.first is not None) for loop in loops(made)]  # type: ignore[attr-defined]
    assert ends == [(True, False), (False, True)]
    assert any("its mask bounds a loop elsewhere" in r.missing for r in made.remarks)


@pytest.mark.parametrize("dtype", ["f32", "f16"])
def test_the_gradients_of_a_loss_keep_one_matrix_in_the_dtype_of_its_operands(dtype: str):
    """Computed again for each 256 columns of x, its products would be so many times more, for the
    sake of writing and reading it."""
    func = program(f"""program f(x: {dtype}[T, 512], w: {dtype}[V, 512], t: i32[T]) {{
      return cross_entropy(x @ w.T, t) }}""", T=64, V=1000)  # fmt: skip
    both = saved(func)
    keep = "+".join(("result", *both.names))
    made = fuse(gradient(both.source, by="x+w", of="result", keep=keep, rounded=True))
    own = [str(p.type) for p in made.params if "." in p.hint]
    assert own == [f"*{dtype}[64, 1000]"]
    assert any("computed again for each tile" in r.missing for r in made.remarks)


@pytest.mark.parametrize("seen", ["", 'where(index("M") <= index("M")[:, none], x, 0.0)'])
def test_sums_beside_one_that_stops_are_in_its_loop(seen: str):
    """What no mask bounds is not bounded by itself, either; and one bound is that of both."""
    func = program(f"""program f(x: f32[M, M]) {{
      y = where(index("M") <= index("M")[:, none], x, 0.0)
      return sum(y, axis=1) + sum({seen or "x"} * x, axis=1) }}""")  # fmt: skip
    made, off = far(func, {"M": 40}, size=7)
    assert off <= 1e-6
    (loop,) = loops(made)
    assert (loop.stop is not None) == bool(seen)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "by"),
    [
        ("program f(x: f32[M, N], g: f32[N]) { return rms_norm(x, g) }", "x+g"),
        ("program f(x: f32[M, N], g: f32[N], b: f32[N]) { return layer_norm(x, g, b) }", "x+g+b"),
        ("program f(x: f32[M, N], t: i32[M]) { return cross_entropy(x, t) }", "x"),
        ("program f(x: f32[M, K], w: f32[N, K], b: f32[N]) { return silu(x @ w.T + b) }", "x+w+b"),
        ("program f(x: f32[M, N]) { return softmax(x) }", "x"),
    ],
)
def test_gradients_fuse_by_the_same_pass(text: str, by: str):
    func = gradient(program(text), by=by)
    made, off = far(func, {"M": 9, "N": 7, "K": 5})
    assert off <= 1e-6
    assert grids(made) >= 1
