import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilec.ir.errors import TileError
from tilec.tune.expression import parsed

KINDS = {"a": False, "b": False, "flag": False, "order": True}
COLUMNS = {
    "a": np.array([1, 2, 3, 4, 0]),
    "b": np.array([2, 2, 2.5, 0, 0]),
    "flag": np.array([True, False, True, False, True]),
    "order": np.array(["row", "row", "col", "col", "z"]),
}
ROWS = [dict(zip(COLUMNS, values, strict=True)) for values in zip(*COLUMNS.values(), strict=True)]


@pytest.mark.parametrize(
    "source",
    [
        "a <= b", "a * b - 1 >= 2 ** a / 4", "1 < a <= 3", "flag", "not flag", "flag and a > 1",
        "a == 1 or b == 2", "order == 'row'", "order != 'row' and not flag", "-a < -2",
        "order in ('row', 'z')", "a not in (1, 4)", "max(a, b) > 2", "min(a, b, 1) == 1",
        "abs(a - 3) <= 1", "(a if flag else b) == 1", "a if a > 2 else 0", "+a == 3", "a // 2 == 1",
    ],
)  # fmt: skip
def test_it_means_what_python_means(source):
    """Python is asked only here, about texts of ours."""
    said = parsed(source, KINDS).holds(COLUMNS).tolist()
    assert said == [bool(eval(source, {"min": min, "max": max, "abs": abs}, r)) for r in ROWS]


def test_functions_that_python_lacks():
    assert parsed("ceil(a / 3) + log2(a + 4)", KINDS).value(COLUMNS) == pytest.approx(
        [math.ceil(a / 3) + math.log2(a + 4) for a in COLUMNS["a"].tolist()]
    )
    assert parsed("true and not false", KINDS).holds(COLUMNS).all()


@pytest.mark.parametrize("source", ["a % b == 0", "a % b != 0", "a / b > 0", "a // b != 1"])
def test_a_comparison_with_what_is_undefined_is_false(source):
    said = parsed(source, KINDS).holds({"a": np.array([0]), "b": np.array([0])})
    assert not said[0]


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("__import__('os')", "Call"), ("a.real > 1", "Attribute"), ("c > 1", "c is no parameter"),
        ("lambda: 1", "Lambda"), ("[a for a in b]", "ListComp"), ("a[0]", "Subscript"),
        ("a & 1", "BinOp"), ("~a", "no meaning"), ("order < 'z'", "no meaning"), ("a if", "read"),
        ("order == 1", "compared with a number"), ("order", "a word"), ("order + 'a' == 1", "only"),
        ("a in b", "followed by"), ("min(a)", "takes"), ("min(a, b=1)", "Call"), ("1j", "Constant"),
        ("(a := 1)", "NamedExpr"), ("f'{a}'", "JoinedStr"), ("a is b", "no meaning"), ("", "read"),
        ("9" * 999 + " > a", "read"), ("1 " * 501, "characters"),
        ("(" * 400 + "a" + ")" * 400, "read"),
        ("a\0", "read"),
    ],
)  # fmt: skip
def test_anything_else_is_refused(source, why):
    with pytest.raises(TileError, match=why):
        parsed(source, KINDS)


@given(st.text(max_size=60))
def test_no_text_does_worse_than_an_error(source):
    try:
        said = parsed(source, KINDS).holds(COLUMNS)
    except TileError:
        return
    assert said.shape == (5,)
