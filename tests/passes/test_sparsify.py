"""Sparse operands in the interpreter: the same results, and loops over what is stored."""

from __future__ import annotations

import numpy as np
import pytest
from lang.kernels import linear
from sparse_formats import DENSE_VALUES, FEW, QUANTISED, TEXTS, pruned

import tilec as tc
from tilec.compile import Kernel
from tilec.ir import fit
from tilec.ir.core import Func
from tilec.ir.dtype import Array
from tilec.ir.errors import TileError
from tilec.ir.format import Dense
from tilec.ir.interpret import interpret
from tilec.ir.named import named
from tilec.ir.ops import control
from tilec.ir.sparse import Sparse
from tilec.ir.sparse.stored import VALUES
from tilec.ir.types import Memory
from tilec.lang.text import parse
from tilec.passes import parse_pipeline, run

KINDS = [t for t in TEXTS if not t.startswith("plus")]
SPARSE = [t if t in FEW else pytest.param(t, marks=pytest.mark.slow) for t in KINDS]
PLACED = [
    t if t in FEW else pytest.param(t, marks=pytest.mark.slow)
    for t in KINDS
    if not t.startswith(("csr", "coo"))
]  # elements are found by their places
SKIPPED = ("block", "vnm", "channels", "csr")
ROWS = [t for t in SPARSE if "coo" not in str(t)]


@tc.kernel
def elements(w: tc.Tensor["N", "K"], y: tc.Tensor["N", "K"]):
    for n, k in tc.tiles("N", "K"):
        y[n, k] = w[n, k].to(tc.f32)


@tc.kernel
def row_by_row(w: tc.Tensor["N", "K"], v: tc.Tensor["K"], y: tc.Tensor["N"]):
    for n in tc.tiles("N", block=1):
        total = 0.0
        for k in tc.tiles("K"):
            total += tc.sum(w[n.start, k].to(tc.f32) * v[k])
        y[n] = total


@tc.kernel
def scaled_by_column(x: tc.Tensor["M", "K"], w: tc.Tensor["N", "K"], s: tc.Tensor["K"],
                     y: tc.Tensor["M", "N"]):  # fmt: skip
    """The step also uses the numbers of columns, and a tile that is no operand."""
    for m, n in tc.tiles("M", "N"):
        acc = tc.zeros((m, n), tc.f32)
        for k in tc.tiles("K"):
            even = tc.where(k.index % 2 == 0, s[k], 2.0 * s[k])
            acc += tc.dot(x[m, k], (w[n, k].to(tc.f32) * even[None, :]).T)
        y[m, n] = acc


def data(f: Func, parts: dict[str, Array], format: Sparse, given: dict[str, Array], shape
         ) -> dict[str, Array]:  # fmt: skip
    """What parameters hold: dense ones what is given, a sparse one its components."""
    own = {f"w.{c.name}": parts[c.name] for c in format.places(shape)}
    own[f"w.{VALUES}"] = format.inner_values(parts, shape)
    return {p.hint: np.array((own | given)[p.hint], np.float64 if p.type.dtype.is_float else None)
            for p in f.params if isinstance(p.type, Memory)}  # fmt: skip


def both(kernel: Kernel, text: str, w: Array, given: dict[str, Array], dims: dict[str, int],
         **tiles: int) -> tuple[Array, Array, Func]:  # fmt: skip
    """The output before and after the pass, and the function after it."""
    format = named(text).fitted(w)
    assert isinstance(format, Sparse)
    parts = fit.encode(format, w, fit.Fit())
    types = {n: tc.f32 for n in given} | {"w": format}
    steps = parse_pipeline(f"specialise{{{' '.join(f'{n}={d}' for n, d in dims.items())}}}")
    before = run(steps, kernel.ir(**types))
    after = run(parse_pipeline("sparsify"), before)
    assert not any(isinstance(p.type, Memory) and isinstance(p.type.format, Sparse)
                   for p in after.params)  # fmt: skip
    found: list[Array] = []
    for f in (before, after):
        held = data(f, parts, format, given | {"w": format.values(parts, w.shape)}, w.shape)
        sizes = dims | {f"{n}.tile": t for n, t in tiles.items()}
        interpret(f, held, sizes)
        found.append(held["y"])
    return found[0], found[1], after


def whole(text: str) -> Array:
    """A pruned matrix of whole numbers, in whole tiles where the format wants those."""
    x = np.rint(pruned(64, 320) * 4)
    return x[:67, :301] if text.startswith(("block", "bitmap", "csr", "coo")) else x


def close(got: Array, want: Array, text: str) -> bool:
    """Equal where sums of whole numbers are exact."""
    exact = any(text in texts for texts in DENSE_VALUES.values())
    return bool(np.array_equal(got, want)) if exact else bool(np.allclose(got, want, 1e-5, 1e-4))


@pytest.mark.parametrize("tiles", [{}, {"m": 2, "n": 8, "k": 20}], ids=str)
@pytest.mark.parametrize("text", SPARSE)
def test_linear(text, tiles):
    w = whole(text)
    n, k = w.shape
    x = np.random.default_rng(1).integers(-3, 4, (3, k)).astype(float)
    given = {"x": x, "y": np.full((3, n), np.nan)}
    before, after, func = both(linear, text, w, given, {"M": 3, "N": n, "K": k}, **tiles)
    assert close(after, before, text)
    over_stored = any("over what is stored" in r.message for r in func.remarks)
    assert over_stored == text.startswith(SKIPPED)


@pytest.mark.parametrize("tiles", [{}, {"n": 6, "k": 28}], ids=str)
@pytest.mark.parametrize("text", PLACED)
def test_elements(text, tiles):
    w = whole(text)
    n, k = w.shape
    before, after, _ = both(elements, text, w, {"y": np.full(w.shape, np.nan)}, {"N": n, "K": k},
                            **tiles)  # fmt: skip
    assert np.array_equal(after, before)


@pytest.mark.parametrize("text", ROWS)
def test_row_by_row(text):
    w = whole(text)
    n, k = w.shape
    given = {"v": np.random.default_rng(1).integers(-3, 4, k).astype(float),
             "y": np.full(n, np.nan)}  # fmt: skip
    before, after, _ = both(row_by_row, text, w, given, {"N": n, "K": k}, k=40)
    assert close(after, before, text)


@pytest.mark.parametrize("text", ROWS)
def test_numbers_of_columns(text):
    w = whole(text)
    n, k = w.shape
    rng = np.random.default_rng(1)
    given = {"x": rng.integers(-3, 4, (3, k)).astype(float), "y": np.full((3, n), np.nan),
             "s": rng.integers(1, 3, k).astype(float)}  # fmt: skip
    before, after, _ = both(scaled_by_column, text, w, given, {"M": 3, "N": n, "K": k}, k=40)
    assert close(after, before, text)


@pytest.mark.parametrize("other", ["block<16, 16, f32>", "bitmap<f32>", "csr<f32>"])
def test_two_sparse_operands(other):
    """The loop goes over what is stored of one; the tiles of the other are put together."""
    x, w = np.rint(pruned(32, 128, 1) * 4), np.rint(pruned(64, 128) * 4)
    formats = {"x": named("bitmap<f32>").fitted(x), "w": named(other).fitted(w)}
    func = run(parse_pipeline("specialise{M=32 N=64 K=128}"), linear.ir(**formats, y=tc.f32))
    after = run(parse_pipeline("sparsify"), func)
    held: dict[str, Array] = {"y": np.full((32, 64), np.nan)}
    for name, dense in (("x", x), ("w", w)):
        format = formats[name]
        assert isinstance(format, Sparse)
        parts = fit.encode(format, dense, fit.Fit())
        held |= {f"{name}.{c.name}": parts[c.name] for c in format.places(dense.shape)}
        held[f"{name}.{VALUES}"] = format.inner_values(parts, dense.shape)
    interpret(after, held, {})
    assert np.array_equal(held["y"], x @ w.T)


def test_a_loop_over_blocks_makes_a_step_for_each():
    w = np.zeros((64, 64))
    w[16:32, 32:48] = w[48:, :16] = 1
    format = named("block<16, 16, f32>").fitted(w)
    types = {"x": tc.f32, "w": format, "y": tc.f32}
    func = run(parse_pipeline("specialise{M=4 N=64 K=64},sparsify"), linear.ir(**types))
    loops = [op for op in func.walk() if isinstance(op, control.Count)]
    (grid,) = (op for op in func.walk() if isinstance(op, control.Grid))
    assert len(loops) == 1
    assert grid.tiles == (None, 16)
    assert str(format) == "block<16, 16, f32, 2>"


STEP = """kernel f(x: f32[M, K], w: FORMAT[N, K], y: f32[M, N]) {{
  for m, n in tiles(M, N) {{
    acc = zeros([m, n], f32)
    {loop} {{ {step} }}
    y[m, n] = acc
  }}
}}"""
LOOP = "for k in tiles(K)"
ALIKE = [  # steps that change nothing where w is 0
    "acc += dot(x[m, k], w[n, k].T)",
    "acc = dot(x[m, k] * 2.0, abs(w[n, k]).T) + acc",
    "acc -= dot(x[m, k], tanh(w[n, k] * 3.0).T)",
    "acc += sum(x[m, k], axis=1)[:, none] * sum(w[n, k], axis=1)[none, :]",
    "d = dot(x[m, k], w[n, k].T)\n acc = acc + d * d",
    "acc = where(acc > 1.0, acc, acc + dot(x[m, k], w[n, k].T))",
    "t = zeros([m, n], f32)\n t += dot(x[m, k], w[n, k].T)\n acc += t",
    "for i in range(2) { acc += dot(x[m, k], w[n, k].T) }",
    "acc += dot(x[m, k], where(w[n, k] > 0.0, w[n, k], 0.0).T)",
]
OTHERS = [  # and such as do, with what is said
    ("acc += dot(x[m, k], exp(w[n, k]).T)", "dot in"),
    ("acc += dot(x[m, k], (w[n, k] + 1.0).T)", "dot in"),
    ("acc += dot(x[m, k], cos(w[n, k]).T)", "dot in"),
    ("acc = maximum(acc, dot(x[m, k], w[n, k].T))", "maximum in"),
    ("acc = acc * 0.5 + dot(x[m, k], w[n, k].T)", "mul in"),
    ("acc = dot(x[m, k], w[n, k].T)", "dot in"),
    ("acc += dot(x[m, k], w[n, k].T) + 1.0", "add in"),
    ("acc = dot(x[m, k], w[n, k].T) - acc", "sub in"),
    ("acc += dot(x[m, k], (1.0 / w[n, k]).T)", "dot in"),
    ("acc += dot(x[m, k], where(w[n, k] > 0.0, w[n, k], 1.0).T)", "dot in"),
    ("acc += dot(x[m, k], w[n, k].T)\n y[m, n] = acc", "store in"),
    ("acc += dot(x[m, k], w[n, k].T)\n if k.start > 8 { acc = acc * 2.0 }", "where its tiles"),
    ("acc += dot(x[m, k], w[n, k].T) * cast(k.start + 1, f32)", "where its tiles"),
    ("i = 0\n while i < 2 { acc += 1.0\n i += 1 }\n acc += dot(x[m, k], w[n, k].T)", "while in"),
]


def remarks(step: str, loop: str = LOOP, format: str = "block<16, 16, f32, 9>") -> list[str]:
    """What the pass says about a loop with this step."""
    text = STEP.format(loop=loop, step=step).replace("FORMAT", format)
    func = run(parse_pipeline("specialise{M=4 N=64 K=64},sparsify"), parse(text)["f"].ir())
    return [f"{r.message}: {r.missing}" for r in func.remarks if r.origin == "sparsify"]


@pytest.mark.parametrize("step", ALIKE)
def test_steps_that_do_nothing_with_zeros_are_left_out(step):
    assert any("goes over what is stored" in r for r in remarks(step))


@pytest.mark.parametrize(("step", "said"), OTHERS)
def test_steps_that_do_something_with_zeros_stay(step, said):
    found = remarks(step)
    assert found
    assert all("goes over all columns" in r and said in r for r in found)


@pytest.mark.parametrize(("loop", "format", "said"), [
    ("for k in tiles(K, to=48)", "block<16, 16, f32, 9>", "a loop over all columns"),
    (LOOP, "block<16, 16, f32, 9>", "tiles of 16 rows, not 8"),
])  # fmt: skip
def test_loops_that_stay(loop, format, said):
    step = STEP.replace("tiles(M, N)", "tiles(M, N, block=[4, 8])") if "not 8" in said else STEP
    text = step.format(loop=loop, step=ALIKE[0]).replace("FORMAT", format)
    func = run(parse_pipeline("specialise{M=4 N=64 K=64},sparsify"), parse(text)["f"].ir())
    (found,) = (r for r in func.remarks if r.origin == "sparsify")
    assert said in found.missing


@pytest.mark.parametrize("step", [
    "acc += dot(x[m, k], w[n, k].T) * 2.0", "acc += dot(w[n, k], x[m, k].T).T",
    "acc += dot(x[m, k], abs(w[n, k]).T)", "acc += dot(x[m, k], w[n, k].T)\n y[m, n] = acc",
])  # fmt: skip
def test_a_list_of_elements_is_multiplied_and_nothing_else(step):
    with pytest.raises(TileError, match="`w` is a list of elements: expected y"):
        remarks(step, format="coo<f32, 9>")


def test_what_is_found_by_no_place_is_refused():
    format = named("csr<f32, 40>")
    with pytest.raises(TileError, match="`w`: elements of csr<f32, 40> are not found by their"):
        run(parse_pipeline("specialise{N=8 K=8},sparsify"), elements.ir(w=format, y=tc.f32))


def test_dense_functions_stay():
    func = linear.ir(x=tc.f32, w=Dense(tc.f32), y=tc.f32)
    assert run(parse_pipeline("sparsify"), func) is func


def test_every_format_has_texts():
    assert {t.partition("<")[0] for t in KINDS} == set(DENSE_VALUES) >= set(QUANTISED) - {"plus"}
