"""Conversions of layouts by shuffles: printed, run under emulation and compiled."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from conversions import pair
from emulated import poisoned, run

from tilec.codegen.cuda.headers import device_headers
from tilec.codegen.cuda.tiles import storage
from tilec.cuda import Program, Schedule, cuda_program, emulate
from tilec.ir.bits import is_packed, pack_rows, unpack_rows
from tilec.ir.core import Block, Builder, Func, Value
from tilec.ir.dtype import Array, DType, boolean, f16, f32, i8, i32, integer, tf32, u8
from tilec.ir.layout.register import RegisterLayout, replicated, spatial
from tilec.ir.ops import control, machine, memory
from tilec.ir.ops.cast import Cast
from tilec.ir.types import memory as memory_type
from tilec.passes.layout import cost
from tilec.runtime.nvrtc import compile_cuda
from tilec.sass import stats_of
from tilec.sass.budget import Budget

Pairs = list[tuple[RegisterLayout, RegisterLayout]]


def turned(pairs: Pairs, t: DType, threads: int = 128) -> Program:
    """Tiles that are loaded in one layout, brought to another and stored."""
    params, b, whole = list[Value](), Builder(), u8 if is_packed(t) else t
    for i, (source, to) in enumerate(pairs):
        x = Value(memory_type(t, *source.shape), f"x{i}")
        y = Value(memory_type(whole, *source.shape), f"y{i}")
        spans = tuple(b(memory.Whole(n)) for n in source.shape)
        held = b(machine.Convert(b(memory.Load(x, spans)), source))
        moved = b(machine.Convert(held, to))
        b.add(memory.Store(y, spans, b(Cast(moved, u8)) if t != whole else moved, None))
        params += [x, y]
    grid = control.Grid((), (), (), Block((), tuple(b.ops)))
    func = Func("turned", Block(tuple(params), (grid,)))
    return cuda_program(func, Schedule(threads=threads))


def arrays(pairs: Pairs, t: DType) -> dict[str, Array]:
    """Whole numbers of up to seven bits, and memory for the results."""
    rng, given = np.random.default_rng(7), dict[str, Array]()
    for i, (source, _) in enumerate(pairs):
        values = rng.integers(0, 1 << min(t.bits, 7), source.shape)
        x = pack_rows(t, values) if is_packed(t) else values.astype(t.numpy)
        given |= {f"x{i}": x, f"y{i}": poisoned(source.shape, t)}
    return given


def wrong(pairs: Pairs, t: DType, given: dict[str, Array]) -> list[int]:
    """The pairs whose tile is another afterwards."""

    def want(i: int) -> Array:
        x = given[f"x{i}"]
        return unpack_rows(t, x, pairs[i][0].shape[-1]) if is_packed(t) else x

    return [i for i in range(len(pairs)) if not np.array_equal(want(i), given[f"y{i}"])]


@pytest.mark.parametrize("t", [f32, i32, tf32, f16, i8, boolean, integer(4, False)], ids=str)
def test_values_are_exact(t):
    """Random pairs, of which many go by shuffles, with and without choices among words."""
    rng, pairs = np.random.default_rng(t.bits), Pairs()
    while len(pairs) < 24:
        source, to = pair(rng)
        whole = source.shape[-1] * storage(t) % 8 == 0
        if whole and cost.conversion(source, to, storage(t)).way == "shuffles":
            pairs.append((source, to))
    program, given = turned(pairs, t), arrays(pairs, t)
    run(program, given)
    assert wrong(pairs, t, given) == []
    assert program.source.text.count("fetched(") == len(pairs)
    assert "barrier();" not in program.source.text


def rows(n: int) -> tuple[RegisterLayout, RegisterLayout]:
    """A warp's lanes four to a row: columns apart from each other, and neighbours."""
    return spatial(4, 1).local(1, n).spatial(8, 4), spatial(4, 1).spatial(8, 4).local(1, n)


VECTOR = spatial(4).replicated(4).spatial(8), spatial(4).spatial(8).replicated(4)
ASIDE = ("STS", "LDS", "BAR")


@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
@pytest.mark.parametrize(
    ("layouts", "budget"),
    [
        (VECTOR, Budget(has={"SHFL": (1, 1)}, lacks=ASIDE)),
        (rows(2), Budget(has={"SHFL": (4, 4)}, lacks=ASIDE)),
        (rows(8), Budget(has={"STS": 1, "BAR": 1}, lacks=("SHFL",))),
    ],
    ids=["vector", "narrow", "wide"],
)
def test_machine_code(layouts, budget, target):
    """Few words go by shuffles, without barriers; a wide tile by shared memory."""
    build = compile_cuda(turned([layouts], f32).source.text, target, headers=device_headers())
    (stats,) = stats_of(build.cubin)
    budget.check(stats)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (r"among\[i\], ", "among[i], 1 + "),  # the lane beside
        (r"\{\{0, 1\}, \{0, 1\}\}", "{{0, 0}, {0, 0}}"),  # the words of a lane
        (r", ([^,]*)\);(?=\n *\}\n)", r", 1 - (\1));"),  # which of them
    ],
    ids=["lane", "words", "choice"],
)
def test_a_wrong_lane_and_a_wrong_word_are_found(old, new):
    pairs = [rows(2)]
    program, given = turned(pairs, f32), arrays(pairs, f32)
    text, changes = re.subn(old, new, program.source.text, count=1)
    assert changes == 1
    broken = replace(program, source=replace(program.source, text=text))
    assert not [f for r in emulate(broken, given) for f in r.findings]
    assert wrong(pairs, f32, given) == [0]


def test_copies_give_to_lanes_beside_them():
    """Each thread asks a copy in its own warp; where three copies lie across warps, its own."""
    across = spatial(8).replicated(3).spatial(4), spatial(8).spatial(4).replicated(3)
    near = replicated(4) * spatial(32), spatial(32) * replicated(4)
    for pairs, threads in (([near, VECTOR], 128), ([across], 96)):
        program, given = turned(pairs, f32, threads), arrays(pairs, f32)
        run(program, given)
        assert wrong(pairs, f32, given) == []
        assert program.source.text.count("fetched(") == len(pairs)
