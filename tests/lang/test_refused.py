"""Wrong programs are refused alike in both spellings: one message, the carets under one text."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import tilec as tc
from tilec.ir.dtype import f32
from tilec.ir.errors import TileError
from tilec.lang.kernel import Definition
from tilec.lang.text import parse

PYTHON = """import tilec as tc
from tilec import *
class Other: pass
other = Other()
@tc.fn
def twice(a):
    return a + a
@tc.fn
def forever(a):
    return forever(a)
@tc.kernel
def k(x: tc.Tensor["M", "K"], w: tc.Tensor["N", "K"], y: tc.Tensor["M", "N"], s: tc.f32):
    for m, n in tc.tiles("M", "N"):
        {}
"""
TILE = """fn twice(a) {{ return a + a }}
fn forever(a) {{ return forever(a) }}
kernel k(x: f32[M, K], w: f32[N, K], y: f32[M, N], s: f32) {{
  for m, n in tiles(M, N) {{
    {}
  }}
}}
"""
# (Python, `.tile`, message, hint, the text under the carets in Python; `tc.` aside in `.tile`)
BOTH = [
    ("a = tc.dot(x[m, :], w[n, :])", "", "the columns of f32[m, K] are not the rows of f32[n, K]",
     "transpose the second operand with .T", "tc.dot(x[m, :], w[n, :])"),
    ("a = x[n, m]", "", "index 0 runs over N, but dimension 0 of *f32[M, K] is M",
     "in the order of the tensor's dims", "x[n, m]"),
    ("a = x[m, :] + lenght", "", "`lenght` is not defined", "", "lenght"),
    ("a = x[m, :] + w[n, :] * 2.0", "", "do not broadcast", "", "x[m, :] + w[n, :] * 2.0"),
    ("a = tc.sum(x[m, :])", "", "sum: which axis of f32[m, K]?", "axis=0", "tc.sum(x[m, :])"),
    ("a = tc.sum(x[m, :], axis=s)", "", "f32[m, K] has no axis `s`, f32", "",
     "tc.sum(x[m, :], axis=s)"),
    ("a = tc.cumsum(x[m, :])", "", "cumsum: which axis of f32[m, K]?", "axis=0",
     "tc.cumsum(x[m, :])"),
    ("a = tc.cummax(s, axis=0)", "", "cummax: f32 has no axis 0", "", "tc.cummax(s, axis=0)"),
    ("a = tc.cummin(x[m, :], 1, reverse=s)", "", "cummin: reverse is true or false, not `s`, f32",
     "", "tc.cummin(x[m, :], 1, reverse=s)"),
    ("a = tc.cumsum(x[m, :], 1, keepdims=1)", "", "`cumsum` takes (x, axis, reverse): got an", "",
     "tc.cumsum(x[m, :], 1, keepdims=1)"),
    ("y[m, :] += w[n, 0:4]", "", "index 1 of `w` is not a span", "", "w[n, 0:4]"),
    ("y[m, :] += x[m, :]", "", "accumulate: f32[m, K] and f32[m, N] do not broadcast", "",
     "y[m, :]"),
    ("a = tc.maximum(s)", "", "`maximum` takes (x, y): missing a required argument: 'y'", "",
     "tc.maximum(s)"),
    ("a = tc.sum(s, axes=1)", "", "`sum` takes (x, axis, keepdims): got an unexpected", "",
     "tc.sum(s, axes=1)"),
    ("a = twice(s, s)", "", "`twice` takes 1 arguments (a), not 2", "", "twice(s, s)"),
    ("a = x[m, :] @ w[n, :].T", "", "tiles have no operator MatMult", "dot(a, b)",
     "x[m, :] @ w[n, :].T"),
    ("a = x.T", "", "has no attribute .T; it has .dtype", "", "x.T"),
    ("a = s and s", "", "a kernel has no expression of the kind BoolOp", "use & and |", "s and s"),
    ("a = 0.0 < s < 1.0", "", "of the kind Compare", "compare two at a time", "0.0 < s < 1.0"),
    ("a = not s", "", "not: expected bools, not f32", "", "not s"),
    ("a = ~s", "", "not: expected integers or bools, not f32", "", "~s"),
    ("a = tc.full((m,), 1.5, tc.i32)", "a = full([m], 1.5, i32)",
     "1.5 is not a whole number, which i32 needs", "cast it", "tc.full((m,), 1.5, tc.i32)"),
    ("a = tc.full((m,), 300, tc.u8)", "a = full([m], 300, u8)", "300 is out of the range of u8",
     "", "tc.full((m,), 300, tc.u8)"),
    ("a = tc.zeros((0, n))", "", "a whole number from 1 or a dimension's name, not 0", "",
     "tc.zeros((0, n))"),
    ("a = tc.zeros((m, n), tc.dot)", "", "expected a dtype such as f32, not the function `dot`",
     "", "tc.zeros((m, n), tc.dot)"),
    ("a = tc.join(())", "a = join([])", "join: expected several tiles", "join([a, b]",
     "tc.join(())"),
    ("a = tc.transpose(x[m, :], 1)", "", "expected an order of axes such as (1, 0), not 1", "",
     "tc.transpose(x[m, :], 1)"),
    ("a = (s, s)[2]", "", "there is no item 2 among 2", "", "(s, s)[2]"),
    ("a = (s, s) + 1", "", "expected a tile or a number, not (`s`, f32, `s`, f32)", "", "(s, s)"),
    ("a = x[m, :][m]", "", "a tile is sliced by whole numbers", "gather", "x[m, :][m]"),
    ("a = x[m, :][0, 0, 0]", "", "too many indices", "", "x[m, :][0, 0, 0]"),
    ("a = x[m, :][5:2]", "", "5:2 is not within 0:m", "", "x[m, :][5:2]"),
    ("a = x[s, m]", "", "index 0 is f32, not a span or integers", "", "x[s, m]"),
    ("a = 1 / 0", "", "division by zero", "", "1 / 0"),
    ("a = s ** 0", "", "expected a whole number from 1 to 16", "exp(log(x)", "s ** 0"),
    ("a = s.to(tc.f16, rounding='up')", "a = s.to(f16, rounding='up')",
     "no rounding is called 'up'", "", "s.to(tc.f16, rounding='up')"),
    ("a, b = (1, 2, 3)", "", "this can't be assigned to", "", "a, b"),
    ("s[0] = 1.0", "", "only tensors are written by index", "", "s[0]"),
    ("y[m, n] = x[m, :]", "", "do not broadcast", "", "y[m, n]"),
    ("x = s", "", "`x` is a tensor", "write into it: x[...] = value", "x"),
    ("s += 1.0", "", "`s` is set before the launch grid and again inside it", "start it inside",
     None),
    ("a = tc.tiles(s)", "", "`tiles` stands only after `in` of a for loop", "", "tc.tiles(s)"),
    ("q += 1", "", "`q` is not defined", "", "q"),
    ("a = s(1)", "", "`s` can't be called in a kernel", "@tc.fn", "s(1)"),
    ("a = m.size", "", "has no attribute .size; it has .index, .start, .stop", "", "m.size"),
    ("a = x[m]", "", "`x` has 2 dimensions, but 1 indices are given", "", "x[m]"),
    ("a = x[m, n, n]", "", "`x` has 2 dimensions, but 3 indices are given", "", "x[m, n, n]"),
]  # fmt: skip
PYTHON_ONLY = [
    ("a = other", "`other` is a Other, which a kernel can't use", "numbers, dtypes", "other"),
    ("import os", "a kernel has no `import` statement", "assignments", "import os"),
    ("with s: pass", "a kernel has no `with` statement", "", "with s: pass"),
    ("a = s if s > 0 else 1.0", "of the kind IfExp", "where", "s if s > 0 else 1.0"),
    ("a = [v for v in s]", "of the kind ListComp", "write the loop out", "[v for v in s]"),
    ("a = lambda: s", "of the kind Lambda", "@tc.fn", "lambda: s"),
    ("a = tc.dott(s)", "`tc.dott` is not defined", "", "tc.dott"),
    ("é = wörd + zz", "`wörd` is not defined", "", "wörd"),
    ('for k in tc.tiles("Q"): pass', "no tensor has a dimension 'Q'; there are K, M, N", "",
     'tc.tiles("Q")'),
    ('a = tc.size("Q")', "no tensor has a dimension 'Q'; there are K, M, N", "",
     'tc.size("Q")'),
    ('a = tc.zeros((m, "Kk"))', "no tensor has a dimension 'Kk'", "did you mean 'K'?",
     'tc.zeros((m, "Kk"))'),
    ("a = print(s)", "`print` is not defined", "", "print"),
]  # fmt: skip


def from_python(statement: str, path: Path) -> Definition:
    """The kernel around a statement, from a file of its own."""
    file = path / "wrong_program.py"
    file.write_text(PYTHON.format(statement), encoding="utf-8")
    found = importlib.util.spec_from_file_location("wrong_program", file)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module.k.definition


def refused(definition: Definition) -> TileError:
    types = {name: f32 for name in "xwy"}
    with pytest.raises(TileError) as caught:
        definition.ir(types)
    return caught.value


def check(error: TileError, program: str, statement: str, message: str, hint: str, under: str):
    """The message, the hint, the line of the statement and exactly the columns of `under`."""
    assert message in error.message
    assert hint in error.hint
    assert error.loc is not None
    lines = program.splitlines()
    line = next(i for i, text in enumerate(lines, start=1) if text.strip() == statement)
    assert (error.loc.line, error.loc.text) == (line, lines[line - 1])
    column = lines[line - 1].index(under, lines[line - 1].index("=") if "= " + under in
                                   lines[line - 1] else 0)  # fmt: skip
    assert (error.loc.column, error.loc.end_column) == (column, column + len(under))


@pytest.mark.parametrize(("python", "tile", "message", "hint", "under"), BOTH)
def test_both_spellings_refuse_alike(
    python: str, tile: str, message: str, hint: str, under: str | None, tmp_path: Path
):
    tile = tile or python.replace("tc.", "")
    errors = refused(from_python(python, tmp_path)), refused(parse(TILE.format(tile))["k"])
    assert errors[0].message == errors[1].message
    if under is None:  # the fault is the loop's
        assert [e.loc and e.loc.text.strip()[:3] for e in errors] == ["for", "for"]
        return
    check(errors[0], PYTHON.format(python), python, message, hint, under)
    column = under if python.replace("tc.", "") == tile else tile.removeprefix("a = ")
    check(errors[1], TILE.format(tile), tile, message, hint, column.replace("tc.", ""))


@pytest.mark.parametrize(("python", "message", "hint", "under"), PYTHON_ONLY)
def test_python_that_is_no_kernel(python: str, message: str, hint: str, under: str, tmp_path: Path):
    error = refused(from_python(python, tmp_path))
    check(error, PYTHON.format(python), python, message, hint, under)


def test_a_function_that_calls_itself_is_refused(tmp_path: Path):
    for definition in (
        from_python("a = forever(s)", tmp_path),
        parse(TILE.format("a = forever(s)"))["k"],
    ):
        error = refused(definition)
        assert "`forever` calls itself" in error.message
        assert error.loc is not None
        assert error.loc.function == "forever"
        assert "called from" in str(error)


def test_a_variable_of_a_loop_is_unknown_behind_it():
    text = TILE.format("for k in tiles(K) { t = x[m, k] }\n    y[m, n] = sum(t, axis=1)")
    error = refused(parse(text)["k"])
    assert error.message == "`t` is not defined"
    assert "set inside a loop or branch" in error.hint


def test_text_says_how_comments_start():
    with pytest.raises(TileError, match="the character '#' means nothing here") as caught:
        parse("kernel k(x: f32[M]) {\n  # a comment\n}")
    assert caught.value.hint == "comments start with //"


def test_floor_division_in_text_is_not_taken_for_a_comment():
    with pytest.raises(TileError, match="starts a comment") as caught:
        parse("kernel k(x: i32[M]) {\n  for m in tiles(M) { a = x[m] // 2 }\n}")
    assert "floordiv(a, b)" in caught.value.hint
    assert caught.value.loc is not None
    assert (caught.value.loc.line, caught.value.loc.column) == (2, 31)


def test_a_signature_says_what_its_parameters_are():
    with pytest.raises(TileError, match="the parameter `x` has no annotation") as caught:

        @tc.kernel
        def unsaid(x):
            pass

    assert caught.value.loc is not None
    assert caught.value.loc.text.strip() == "def unsaid(x):"
    with pytest.raises(TileError, match="plain parameters"):

        @tc.kernel
        def optional(x: tc.Tensor["M"], n=3):
            pass

    with pytest.raises(TileError, match="'3x' is not a dimension"):
        tc.Tensor["3x"]


def test_a_builtin_outside_a_kernel_is_refused():
    with pytest.raises(TileError, match=r"tc\.exp is called outside a kernel"):
        tc.exp(1.0)
    with pytest.raises(AttributeError, match="no attribute 'expp'"):
        tc.expp(1.0)


BOUND = parse("kernel k(x: f32[M, K], w: f32[N, K], y: f32[M, N], s: f32, z: f32[8]) { }")["k"]


@pytest.mark.parametrize(
    ("shapes", "message", "hint"),
    [
        (((2, 3), (3, 5), (2, 5), None, (8,)), "dimension K of `w` is 5, but `x` has K = 3",
         "is `w` transposed? it is [3, 5], expected [N, K]"),
        (((2, 3), (5, 3), (2, 4), None, (8,)), "dimension N of `y` is 4, but `w` has N = 5", ""),
        (((2, 3), (5, 3, 1), (2, 5), None, (8,)), "`w` is [5, 3, 1], expected 2 dimensions", ""),
        (((2, 3), (5, 3), (2, 5), None, (9,)), "a dimension of `z` is 9, expected 8", ""),
        (((2, 3), (5, 3)), "k takes 5 arguments, not 2", ""),
    ],
)  # fmt: skip
def test_dims_are_unified_by_name(shapes: tuple, message: str, hint: str):
    with pytest.raises(TileError) as caught:
        BOUND.signature.bind(shapes)
    assert message in caught.value.message
    assert caught.value.hint == hint


@pytest.mark.parametrize(
    ("format", "message"),
    [
        ("int9", "no format is called `int9`"),
        ("int4<group=0>", "int4: a group has at least 1 element, not 0"),
        ("int4<grop=32>", "int4 has no option `grop`"),
        ("uint4<group=32, zero=maybe>", "uint4: no zero is called 'maybe'"),
        ("f16<group=32>", "`f16` takes no options"),
    ],
)
def test_formats_that_are_none(format: str, message: str):
    line = f"kernel k(x: f32[M, K], w: {format}[N, K]) {{ }}"
    with pytest.raises(TileError) as caught:
        parse(line)
    assert message in caught.value.message
    loc = caught.value.loc
    assert loc is not None
    assert loc.text[loc.column : loc.end_column] == format


def test_dims_that_fit_are_bound():
    shapes = ((2, 3), (5, 3), (2, 5), None, (8,))
    assert BOUND.signature.bind(shapes) == {"M": 2, "K": 3, "N": 5}


def test_numbers_from_around_are_seen():
    factor = 3

    @tc.kernel
    def scaled(x: tc.Tensor["M"], y: tc.Tensor["M"]):
        for m in tc.tiles("M"):
            y[m] = x[m] * factor

    x, y = np.array([1.5, -2.0, 7.0], np.float32), np.full(3, np.nan, np.float32)
    scaled(x, y)
    np.testing.assert_array_equal(y, x * 3)
