"""Programs that are wrong: what is said, on which line, under which column."""

from __future__ import annotations

import pytest

from tilec.ir.errors import TileError
from tilec.lang.text import parse

HEAD = (
    "kernel k(x: f32[M, K], w: f32[N, K], y: f32[M, N], i: i32[M]) {\n  for m, n in tiles(M, N) {\n"
)
# A statement of the loop's body -> the message, and the text that the carets stand under.
WRONG = {
    "a = x[m, n]": ("index 1 runs over N, but dimension 1 of *f32[M, K] is K", "x[m, n]"),
    "a = x[n, m]": ("index 0 runs over N", "x[n, m]"),
    "a = dot(x[m, :], w[n, :])": ("the columns of f32[m, K] are not the rows of f32[n, K]", "dot("),
    "a = zz + 1": ("`zz` is not defined", "zz"),
    "a = erff(x[m, :])": ("`erff` is not defined", "erff"),
    "a = x[m]": ("`x` has 2 dimensions, but 1 indices are given", "x[m]"),
    "a = x + 1.0": ("expected a tile, not the tensor `x`", "x + 1.0"),
    "a = m + 1": ("expected a tile, not span[M, m]", "m + 1"),
    "a = x[m, :] + w[n, :]": ("do not broadcast: m is not n", "x[m, :] + w[n, :]"),
    "a = i[m] / x": ("expected a tile, not the tensor `x`", "i[m] / x"),
    "a = x[m, :] & x[m, :]": ("and: expected integers, not f32[m, K]", "x[m, :] & x[m, :]"),
    "y[m, n] = x[m, :]": ("store", "y[m, n]"),
    "y[n, m] = 1.0": ("index 0 runs over N", "y[n, m]"),
    "y = 1.0": ("`y` is a tensor", "y"),
    "a = zeros([m, 0])": ("an extent is a span, a whole number from 1", "zeros"),
    "a = zeros([m, n], f33)": ("`f33` is not defined", "f33"),
    "a = full([m], 300, i8)": ("300 is out of the range of i8", "full"),
    "a = sum(x[m, :], axis=2)": ("f32[m, K] has no axis 2", "sum"),
    "a = x[m, :].foo": ("has no attribute .foo", "x[m, :].foo"),
    "a = cast(x[m, :], 3)": ("expected a dtype such as f32, not 3", "cast"),
    "for k in tiles(Q) { a = x[m, k] }": ("`Q` is not defined", "Q"),
    "for k in tiles(K, block=0) { a = x[m, k] }": ("block is 0, expected", "tiles"),
    "for a, b in tiles(K) { c = 1 }": ("1 dimensions for 2 loop variables", "tiles(K)"),
    "for a in exp(1.0) { c = 1 }": ("a loop runs over tiles(...) or range(...)", "exp"),
    "for a in range(0, 4, 0) { c = 1 }": ("the step of range is 0", "range"),
    "if x[m, :] > 0.0 { c = 1 }": ("expected a bool scalar as condition", "x[m, :] > 0.0"),
    "a = x[m, :]; for k in tiles(K) { a = x[m, k] }": (
        "`a` is f32[m, K] before the loop, but f32[m, k] after",
        "",
    ),
    "a = join([x[m, :], i[m]])": ("does not fit", "join"),
    "a = where(x[m, :], 1.0, 2.0)": ("expected a bool tile", "where"),
    "a = reshape(x[m, :], [m, 3])": ("has not as many elements", "reshape"),
    "a = transpose(x[m, :], [0, 0])": ("does not permute", "transpose"),
    "a = x[m, :] ** 2.5": ("expected a whole number from 1 to 16", "x[m, :] ** 2.5"),
    "a = bitcast(x[m, :], f16)": ("differ in width", "bitcast"),
    "a = dot(i[m], x[m, :])": ("expected two matrices", "dot"),
    "a = exp()": ("missing", "exp()"),
    "a = y[m, 1.5]": ("index 1 of `y` is 1.5", "y[m, 1.5]"),
    "return 1": ("`return` stands inside", "return 1"),
    "a = x[m, 0:4]": ("index 1 of `x` is not a span, integers or `:`", "x[m, 0:4]"),
    "a = m(1)": ("can't be called in a kernel", "m(1)"),
}


@pytest.mark.parametrize("statement", WRONG)
def test_says_what_and_where(statement: str) -> None:
    message, under = WRONG[statement]
    text = f"{HEAD}    {statement}\n  }}\n}}\n"
    with pytest.raises(TileError) as caught:
        parse(text, "wrong.tile")["k"].ir()
    error = caught.value
    assert message in error.message
    assert error.loc is not None
    assert (error.loc.file, error.loc.line) == ("wrong.tile", 3)
    assert error.loc.text[error.loc.column :].startswith(under)
    assert str(error).count("^") >= 1


@pytest.mark.parametrize(
    ("text", "message", "line", "column"),
    [
        ("kernel k(x: f33[M]) {}", "no format is called `f33`", 1, 12),
        (
            "kernel k(x: f32[M]) {\n  for m in tiles(M { x[m] = 1 }\n}",
            "expected an operator, `(`, `)`, `,`",
            2,
            19,
        ),
        ("kernel k(x: f32[M]) {\n  x[", "the text ends where an expression is expected", 2, 4),
        ("kernel k(x: f32[M]) { a = 1 $ 2 }", "the character '$' means nothing here", 1, 28),
        ("fn f(a) { return a }\nfn f(a) { return a }", "`f` is defined twice", 2, 3),
    ],
)
def test_text_that_cannot_be_read(text: str, message: str, line: int, column: int) -> None:
    with pytest.raises(TileError) as caught:
        parse(text, "wrong.tile")
    assert message in caught.value.message
    assert caught.value.loc is not None
    assert (caught.value.loc.line, caught.value.loc.column) == (line, column)


def test_an_error_in_an_inlined_function_shows_its_caller() -> None:
    text = "fn f(a) {\n  return a + zz\n}\n"
    text += "kernel k(x: f32[M]) {\n  for m in tiles(M) { x[m] = f(x[m]) }\n}"
    with pytest.raises(TileError) as caught:
        parse(text, "wrong.tile")["k"].ir()
    shown = str(caught.value)
    assert "line 2, column 14 in f" in shown
    assert "called from" in shown
    assert "line 5, column 30 in k" in shown
