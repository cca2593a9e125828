"""Programs whose results are worked out by hand."""

import numpy as np
import pytest

from tilec.ir.errors import TileError
from tilec.ir.interpret import interpret
from tilec.ir.parse import parse


def run(text, dims=None, **arguments):
    given = {k: np.array(v) for k, v in arguments.items()}
    interpret(parse(text), given, dims or {})
    return given


def test_tiles_are_clipped_at_the_edge():
    text = """
func @k(%x: *i32[M], %y: *i32[M], %n: *i32[M]) {
  grid {dims = [M], sizes = [m], tiles = [2]} (%m: span[M, m]) {
    %a = load %x, [%m] : i32[m]
    %s = sum %a {axis = 0} : i32
    %b = broadcast %s {shape = [m]} : i32[m]
    store %y, [%m], %b
    %c = start %m : i32
    %d = broadcast %c {shape = [m]} : i32[m]
    store %n, [%m], %d
  }
}"""
    after = run(text, {"M": 5}, x=[1, 2, 3, 4, 9], y=[-7] * 5, n=[-7] * 5)
    assert after["y"].tolist() == [3, 3, 7, 7, 9]
    assert after["n"].tolist() == [0, 0, 2, 2, 4]


def test_gather_reads_zero_and_scatter_drops_outside():
    text = """
func @k(%x: *i32[3], %i: *i32[4], %y: *i32[3], %z: *i32[4]) {
  %w = whole {dim = 4} : span[4, 4]
  %at = load %i, [%w] : i32[4]
  %a = load %x, [%at] : i32[4]
  store %z, [%w], %a
  %c = coordinates %w : i32[4]
  store %y, [%at], %c
}"""
    after = run(text, x=[5, 6, 7], i=[2, -1, 3, 0], y=[-7] * 3, z=[-7] * 4)
    assert after["z"].tolist() == [7, 0, 0, 5]
    assert after["y"].tolist() == [3, -7, 0]


def test_a_sum_is_rounded_once():
    text = """
func @k(%x: *f16[3], %y: *f16[1]) {
  %w = whole {dim = 3} : span[3, 3]
  %a = load %x, [%w] : f16[3]
  %s = sum %a {axis = 0} : f16
  %b = broadcast %s {shape = [1]} : f16[1]
  %o = whole {dim = 1} : span[1, 1]
  store %y, [%o], %b
}"""
    # 2048 + 1 is 2048 in f16, but 2048 + 1 + 1 is 2050.
    assert run(text, x=[2048.0, 1.0, 1.0], y=[-7.0])["y"].tolist() == [2050.0]


LOOP = """
func @k(%x: *i32[K], %stop: i32, %y: *i32[1]) {{
  %z = full {{shape = [1], value = 0, dtype = i32}} : i32[1]
  %r = for [%z], {stop} {{dim = K, size = k, tile = 2}} (%s: span[K, k], %c: i32[1]) {{
    %a = load %x, [%s] : i32[k]
    %t = max %a {{axis = 0}} : i32
    %b = broadcast %t {{shape = [1]}} : i32[1]
    %ten = full {{shape = [1], value = 10, dtype = i32}} : i32[1]
    %d = mul %c, %ten : i32[1]
    %e = add %d, %b : i32[1]
    yield %e
  }} : i32[1]
  %w = whole {{dim = 1}} : span[1, 1]
  store %y, [%w], %r
}}"""


@pytest.mark.parametrize(
    ("stop", "n", "expected"),
    [("_", 0, 245), ("%stop", 3, 23), ("%stop", 0, 0), ("%stop", -1, 0), ("%stop", 99, 245)],
)
def test_a_loop_carries_in_order_up_to_its_stop(stop, n, expected):
    after = run(LOOP.format(stop=stop), {"K": 5}, x=[1, 2, 3, 4, 5], stop=n, y=[-7])
    assert after["y"].tolist() == [expected]


COUNT = """
func @k(%n: i32, %by: i32, %y: *i32[1]) {
  %z = full {shape = [], value = 0, dtype = i32} : i32
  %one = full {shape = [], value = 1, dtype = i32} : i32
  %r = count %one, %n, %by, [%z] (%i: i32, %c: i32) {
    %odd = full {shape = [], value = 5, dtype = i32} : i32
    %big = le %odd, %i : bool
    %d = if %big () {
      yield %c
    } () {
      %e = add %c, %i : i32
      yield %e
    } : i32
    yield %d
  } : i32
  %w = while [%r] (%a: i32) {
    %five = full {shape = [], value = 5, dtype = i32} : i32
    %again = lt %five, %a : bool
    yield %again
  } (%b: i32) {
    %s = sub %b, %one : i32
    yield %s
  } : i32
  %t = broadcast %w {shape = [1]} : i32[1]
  %o = whole {dim = 1} : span[1, 1]
  store %y, [%o], %t
}"""


@pytest.mark.parametrize(("n", "by", "expected"), [(3, 1, 3), (9, 1, 5), (1, 1, 0), (-3, -1, -2)])
def test_counted_loops_branches_and_while(n, by, expected):
    assert run(COUNT, n=n, by=by, y=[-7])["y"].tolist() == [expected]


def test_a_step_of_nothing_is_an_error():
    with pytest.raises(TileError, match="the step is 0"):
        run(COUNT, n=3, by=0, y=[-7])


def test_an_extent_without_a_number_is_an_error():
    with pytest.raises(TileError, match="extent K is not known"):
        run(LOOP.format(stop="_"), x=[1], stop=0, y=[-7])


def test_fma_rounds_once():
    """In doubles too, whether or not a double holds the product."""
    text = """
func @k(%a: *f64[3], %b: *f64[3], %c: *f64[3], %y: *f64[3]) {
  %i = whole {dim = 3} : span[3, 3]
  %p = load %a, [%i] : f64[3]
  %q = load %b, [%i] : f64[3]
  %r = load %c, [%i] : f64[3]
  %s = fma %p, %q, %r : f64[3]
  store %y, [%i], %s
}"""
    a, b = [1e300, 1e300, 1 + 2.0**-30], [1e300, 1e300, 1 - 2.0**-30]
    after = run(text, a=a, b=b, c=[-np.inf, np.inf, -1.0], y=[9.0] * 3)
    assert after["y"].tolist() == [-np.inf, np.inf, -(2.0**-60)]
