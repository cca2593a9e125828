"""`y[...] += v` loses no addition: it is `accumulate` where places may coincide."""

import numpy as np
import pytest

from tilec.ir.errors import TileError
from tilec.ir.interpret import interpret
from tilec.ir.text import show
from tilec.lang.text import parse

TEXT = """
fn add(y, at, v) {{ y[at] += v }}
kernel k(x: f32[M, N], i: i32[M], u: u8[M], h: f16[M], w: i32[M], y: f32[M], z: f32[M, N]) {{
  for m, n in tiles(M, N) {{ {} }}
}}
"""
ATOMIC = [
    "y[m] += sum(x[m, n], axis=1)", "y[m] -= 1.0", "y[i[m]] += y[m]", "z[i[m], n] += x[m, n]",
    "y[0] += 1.0", "z[m, :] += 1.0", "h[m] += sum(x[m, n], axis=1)", "w[m] -= u[m]",
    "y[m] += dot(x[m, n], x[m, n].T)[:, 0]", "add(y, m, 1.0)",
    "for k in tiles(N) { z[m, k] += x[m, k] }",
]  # fmt: skip
PLAIN = ["z[m, n] += x[m, n]", "z[m, n] -= 1.0", "y[m] *= 2.0", "y[i[m]] *= 2.0",
         "for k in tiles(N) { z[m, n] += sum(x[m, k]) }", "y[m] = y[m] + 1.0"]  # fmt: skip


def ir(statement: str) -> str:
    return show(parse(TEXT.format(statement))["k"].ir())


@pytest.mark.parametrize("statement", ATOMIC)
def test_places_that_may_coincide(statement):
    text = ir(statement)
    assert "accumulate %" in text
    assert "store" not in text


@pytest.mark.parametrize("statement", PLAIN[:-2] + PLAIN[-1:])
def test_places_of_one_task_alone(statement):
    text = ir(statement)
    assert "accumulate" not in text
    assert "store %" in text


def test_outside_of_a_grid_only_index_tiles_coincide():
    text = "kernel k(i: i32[M], y: f32[M]) {{ {} }}"
    assert "accumulate" not in show(parse(text.format("y[:] += 1.0"))["k"].ir())
    assert "accumulate" in show(parse(text.format("y[i[:]] += 1.0"))["k"].ir())


@pytest.mark.parametrize("tile", [1, 2, 5])
def test_what_is_taken_away_is_of_the_memory_s_dtype(tile):
    """A u8 is no less than 0: it is taken from an i32, not negated."""
    f = parse("kernel k(u: u8[M], y: i32[N]) { for m in tiles(M) { y[:] -= sum(u[m]) } }")["k"].ir()
    y = np.array([5, -5])
    interpret(f, {"u": np.array([1, 2, 3, 4, 5]), "y": y}, {"M": 5, "N": 2, "m.tile": tile})
    assert list(y) == [-10, -20]


def test_each_addition_is_rounded_to_the_memory_s_dtype():
    text = "kernel k(x: f32[M], y: f16[N]) { for m in tiles(M) { y[:] += sum(x[m]) } }"
    f = parse(text)["k"].ir()
    x = np.array([2048.0, 1.0, 1.0, 1.0])
    y = np.zeros(1)
    interpret(f, {"x": x, "y": y}, {"M": 4, "N": 1, "m.tile": 1})
    assert y[0] == 2048
    interpret(f, {"x": x[::-1], "y": y[:]}, {"M": 4, "N": 1, "m.tile": 1})
    assert y[0] == 4096


def test_only_numbers_are_added():
    with pytest.raises(TileError, match="accumulate: expected numbers, not bool"):
        parse("kernel k(i: i32[M], y: bool[M]) { y[i[:]] += true }")["k"].ir()
