"""Parameters may be called anything, what the printed text needs for itself too."""

from __future__ import annotations

import re

import numpy as np
import pytest
from emulated import run_func

from tilec.codegen.cuda import emit
from tilec.codegen.cuda.parameters import KEYWORDS, renamed
from tilec.cuda import Schedule
from tilec.ir.core import Block, Builder, Func, Value
from tilec.ir.dtype import f16, f32, i32
from tilec.ir.format import Dense
from tilec.ir.ops import arith, control, memory, reduce, shape
from tilec.ir.ops.cast import Cast
from tilec.ir.types import Memory, Tile
from tilec.passes import parse_pipeline, run

SIDE = 16
PASSES = parse_pipeline("pad,stage-loads,lay-out{threads=32},canonicalize")


def program(a: str, b: str, s: str, out: str) -> Func:
    """out = (a @ b.T) * s, its parameters called so."""
    x, w = (Value(Memory((SIDE, SIDE), Dense(f16)), n) for n in (a, b))
    y, factor = Value(Memory((SIDE, SIDE), Dense(f32)), out), Value(Tile((), i32), s)
    build = Builder()
    whole = build(memory.Whole(SIDE))
    left, right = (build(memory.Load(m, (whole, whole))) for m in (x, w))
    zeros = build(shape.Full((SIDE, SIDE), 0.0, f32))
    product = build(reduce.Dot(left, build(shape.Transpose(right, (1, 0))), zeros))
    scale = build(shape.Broadcast(build(Cast(factor, f32)), (SIDE, SIDE)))
    build.add(memory.Store(y, (whole, whole), build(arith.Mul(product, scale))))
    grid = control.Grid((), (), (), Block((), tuple(build.ops)))
    return run(PASSES, Func("k", Block((x, w, factor, y), (grid,))))


def words() -> list[str]:
    """Every word of a text, and some of those that it might have had."""
    text = emit(program("a", "b", "s", "out"), threads=32).text
    found = set(re.findall(r"[A-Za-z_]\w*", text)) | {*KEYWORDS} | {"cast", "fill", "parameter_0"}
    return sorted(found)


@pytest.mark.parametrize("part", range(4))
def test_any_name(part):
    """Four names at a time, in the places of all parameters."""
    every = words()
    rng = np.random.default_rng(part)
    x, w = (rng.integers(-4, 5, (SIDE, SIDE)).astype(float) for _ in range(2))
    for i in range(4 * part, len(every), 16):
        names = [*every[i : i + 4], "left_", "right_", "by_", "to_"][:4]
        given = dict(zip(names, (x, w, np.array(3), np.full((SIDE, SIDE), 9.0)), strict=True))
        run_func(program(*names), given, Schedule(threads=32))
        np.testing.assert_array_equal(given[names[3]], 3 * (x @ w.T), err_msg=str(names))


def test_a_name_stays_unless_it_is_taken():
    text = '// x of w\n#line 3 "x.py"\nvoid k(f32* parameter_0) { load(parameter_0, 0x7, y.w); }'
    assert "k(f32* x) { load(x, 0x7" in renamed(text, {"parameter_0": "x"})
    assert "k(f32* w) { load(w, 0x7" in renamed(text, {"parameter_0": "w"})
    assert "k(f32* f322) { load(f322," in renamed(text, {"parameter_0": "f32"})
    assert "k(f32* int2) {" in renamed(text, {"parameter_0": "int"})
    assert "k(f32* p2) {" in renamed(text, {"parameter_0": "3"})


def test_names_stay_apart():
    text = "void k(parameter_0, parameter_1, parameter_2);"
    given = {"parameter_0": "load", "parameter_1": "load2", "parameter_2": "load"}
    assert renamed(text + "load", given) == "void k(load2, load22, load3);load"
