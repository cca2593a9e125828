"""Programs: both spellings give one IR, which means what numpy says; errors at the user's line."""

import importlib.util
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from lang.spelled_programs import PROGRAMS, meaning

from tilec.ir.core import Block, Builder, Func
from tilec.ir.dtype import f16, f32
from tilec.ir.errors import TileError
from tilec.ir.extent import Sym
from tilec.ir.ops import memory, reduce, shape
from tilec.ir.parameters import passed
from tilec.ir.text import show
from tilec.ir.types import Tile
from tilec.ir.verify import verify
from tilec.lang.text import parse
from tilec.program import Program

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("name", PROGRAMS)
def test_both_spellings_give_one_ir(name: str) -> None:
    case = PROGRAMS[name]
    func = case.program.ir(**case.types)
    verify(func)
    assert show(parse(case.text)[name].ir()) == show(func)


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_interpreter_says_what_numpy_says(name: str) -> None:
    case = PROGRAMS[name]
    found = meaning(case.program.ir(**case.types), case.given, case.dims)
    exact = {n: x.astype(float) if x.dtype.kind == "f" else x for n, x in case.given.items()}
    want = case.want(**exact)
    wants = want if isinstance(want, tuple) else (want,)
    names = case.into or tuple(n for n in found if n.startswith("result"))
    for n, w in zip(names, wants, strict=True):
        assert found[n].shape == w.shape
        assert np.linalg.norm(found[n] - w) <= 1e-6 * math.sqrt(w.size) * np.linalg.norm(w), n


@pytest.mark.parametrize("name", ["attention"])
def test_the_examples_are_one_program(name: str) -> None:
    text = (EXAMPLES / f"{name}.tile").read_text()
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    program: Program = getattr(module, name)
    types = {p.name: f16 for p in program.definition.signature.params if p.name != "scale"}
    assert show(parse(text)[name].ir()) == show(program.ir(**types))


KERNEL = """kernel linear(x: f32[M, K], w: f32[N, K], y: f32[M, N]) {
  for m, n in tiles(M, N) { y[m, n] = dot(x[m, :], w[n, :].T) }
}
kernel halves(x: f16[M, 2*H], a: i32, y: f16[M, H]) { for m, h in tiles(M, H) { y[m, h] = 0.0 } }
"""
REFUSED = {  # what a program says: the message, its hint, and the words that the caret is under
    "y = linear(x, w)": ("`linear` takes 3 arguments (x, w, y), not 2", "", "linear(x, w)"),
    "linear(x, w.T, y)": (
        "linear: dimension K of `w` is F, but `x` has K = C", "", "linear(x, w.T, y)"),
    "linear(x, w, exp(y))": (
        "linear writes `y`, which is given a value", 'h = empty("M", "N", f16) is a tensor to '
        "write", "linear(x, w, exp(y))"),
    "linear(x, w, empty(T, F))": (
        "empty(...) has no values", "give it a name: h = empty(...)", "linear(x, w, empty(T, F))"),
    "linear(x, w, 1.0)": ("linear: `y` is 1.0, not a tensor", "", "linear(x, w, 1.0)"),
    "linear(x, b, y)": ("linear: `w` is [F], expected [N, K]", "", "linear(x, b, y)"),
    "halves(x, 1, y)": ("halves: `x` is f32, expected f16", "", "halves(x, 1, y)"),
    "y = x @ w": (
        "dot: the columns of f32[T, C] are not the rows of f32[F, C]",
        "transpose the second operand with .T", "x @ w"),
    "y = x @ w.T + x": (
        "add: f32[T, F] and f32[T, C] do not broadcast: F is not C", "", "x @ w.T + x"),
    "y = y + t": (
        "add: f32[T, F] and f32[T] do not broadcast: F is not T",
        "T is axis 0 of f32[T, F]: add axes of 1 behind it with [..., None]", "y + t"),
    "y = x": (
        "store: f32[T, C] and f32[T, F] do not broadcast: C is not F", "", "y"),
    "x = exp(x)": (
        "`x` is a tensor that was read, and this would change it",
        "x[...] = value does that; else use another name", "x"),
    "while 1 < 2 { y = y }": (
        "a program has no `while`", "put the loop into a kernel", "while 1 < 2 { y = y }"),
    "if t[0] > 0.0 { y = y }": (
        "a program's `if` is decided when it is compiled",
        "where(condition, a, b) chooses element by element", "t[0] > 0.0"),
    "for i in range(size(T)) { y = y }": (
        "a program's range takes whole numbers that are known", "put the loop into a kernel",
        "range(size(T))"),
    "z = empty(x, F)": ("empty: `x`, *f32[T, C] is no dimension", 'empty("M", "N", f16)',
                        "empty(x, F)"),
    "z = index(Q)": ("`Q` is not defined", "", "Q"),
    'z = einsum("tc,tc", x, x)': (
        "einsum: 'tc,tc' is not letters of operands and of the result",
        'einsum("bmd,bnd->bmn", q, k)', 'einsum("tc,tc", x, x)'),
    'z = einsum("tc,fc->tg", x, w)': (
        "einsum: the result 'tg': no operand has 'g'", "", 'einsum("tc,fc->tg", x, w)'),
    'z = einsum("tt->t", x)': (
        "einsum: 'tt' for f32[T, C]: expected 2 different letters", "", 'einsum("tt->t", x)'),
    'z = einsum("tc,ct->t", x, w)': ("einsum: 'c' is C and F", "", 'einsum("tc,ct->t", x, w)'),
    "z = x[..., 0, ...]": ("an index has `...` once at most", "", "x[..., 0, ...]"),
    "z = squeeze(x)": (
        "reshape: f32[T, C] has not as many elements as ['T']", "", "squeeze(x)"),
    "z = extent(T) * 0.5": (
        "extents have +, -, * and floor division with whole numbers and extents, "
        "not Mult of T and 0.5", "size(extent) is a number", "extent(T) * 0.5"),
    "y[2:1, :] = exp(y[0:2, :])": (
        "a part of a dimension of T is between whole numbers, not 2 and 1", "", "y[2:1, :]"),
    "y[:size(T), :] = y": (
        "a part of a dimension of T is between whole numbers, not nothing and i32", "",
        "y[:size(T), :]"),
}  # fmt: skip


@pytest.mark.parametrize("statement", REFUSED)
def test_errors_say_what_and_where(statement: str) -> None:
    message, hint, at = REFUSED[statement]
    program = f"""program p(x: f32[T, C], w: f32[F, C], b: f32[F], t: f32[T], y: f32[T, F]) {{
  {statement}
}}"""
    with pytest.raises(TileError) as found:
        parse(KERNEL + program)["p"].ir()
    e = found.value
    assert (e.message, e.hint) == (message, hint)
    assert e.loc is not None
    outer = e.loc
    while outer.caller is not None:
        outer = outer.caller
    assert outer.text[outer.column : outer.end_column] == at


def test_a_kernel_calls_no_kernel() -> None:
    text = KERNEL + "kernel k(x: f32[M, K]) { linear(x, x, x) }"
    with pytest.raises(TileError, match="`linear` can't be called in a kernel"):
        parse(text)["k"].ir()


def test_a_program_does_not_call_itself() -> None:
    text = """program a(x: f32[M]) { return b(x) }
    program b(x: f32[M]) { return a(x) }"""
    with pytest.raises(TileError, match="`a` calls itself; a program can't"):
        parse(text)["a"].ir()


def test_products_of_batches_stand_outside_of_grids() -> None:
    text = """kernel k(x: f32[B, M, K], y: f32[M, K]) {
      for m in tiles(M) { y[m, :] = sum(x[:, m, :] * 2.0, axis=0) }
    }"""
    func = parse(text)["k"].ir()
    verify(func)
    (grid,) = func.body.ops
    load = next(op for op in grid.blocks[0].ops if isinstance(op, memory.Load))
    b = Builder(list(grid.blocks[0].ops))
    turned = b(shape.Transpose(load.result, (0, 2, 1)))
    assert isinstance(turned.type, Tile)
    size = turned.type.shape[2]
    b(reduce.Dot(load.result, turned, b(shape.Full((Sym("B"), size, size), 0, f32))))
    inner = Block(grid.blocks[0].params, tuple(b.ops))
    broken = Func("k", Block(func.params, (replace(grid, body=inner),)))
    with pytest.raises(TileError, match=r"a product of batches, .* inside a block"):
        verify(broken)


def test_names_of_own_memory_are_no_components() -> None:
    text = """program p(w: int4<group=32>[N, 32], y: f32[N, 32]) {
      codes = empty(N, 32)
      codes = w
      y = codes
    }"""
    func = parse(text)["p"].ir()
    assert [p.hint for p in func.params] == ["w", "y", "w.codes1"]
    given = {p.hint: p.type for p in func.params[:2]}
    assert [passed(p, given) for p in func.params] == [True, True, False]
