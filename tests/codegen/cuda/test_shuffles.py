"""Conversions of layouts by shuffles: printed, run under emulation and compiled."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from conversions import pair
from emulated import poisoned, run

from tilec.codegen.cuda.headers import device_headers
from tilec.cuda import Program, cuda_program, emulate
from tilec.ir.core import Block, Builder, Func, Value
from tilec.ir.dtype import Array, DType, f16, f32, i8, i32, tf32
from tilec.ir.layout.register import RegisterLayout, replicated, spatial
from tilec.ir.ops import control, machine, memory
from tilec.ir.types import memory as memory_type
from tilec.passes.layout import cost
from tilec.runtime.nvrtc import compile_cuda
from tilec.sass import stats_of
from tilec.sass.budget import Budget

Pairs = list[tuple[RegisterLayout, RegisterLayout]]


def turned(pairs: Pairs, t: DType) -> Program:
    """Tiles that are loaded in one layout, brought to another and stored."""
    params, b = list[Value](), Builder()
    for i, (source, to) in enumerate(pairs):
        x, y = (Value(memory_type(t, *source.shape), f"{name}{i}") for name in "xy")
        spans = tuple(b(memory.Whole(n)) for n in source.shape)
        held = b(machine.Convert(b(memory.Load(x, spans)), source))
        b.add(memory.Store(y, spans, b(machine.Convert(held, to)), None))
        params += [x, y]
    grid = control.Grid((), (), (), Block((), tuple(b.ops)))
    return cuda_program(Func("turned", Block(tuple(params), (grid,))))


def arrays(pairs: Pairs, t: DType) -> dict[str, Array]:
    """Any bits, and memory for the results."""
    rng, given = np.random.default_rng(7), dict[str, Array]()
    for i, (source, _) in enumerate(pairs):
        values = rng.integers(-100, 100, source.shape)
        given |= {f"x{i}": values.astype(t.numpy), f"y{i}": poisoned(source.shape, t)}
    return given


def wrong(pairs: Pairs, given: dict[str, Array]) -> list[int]:
    return [i for i in range(len(pairs)) if not np.array_equal(given[f"x{i}"], given[f"y{i}"])]


@pytest.mark.parametrize("t", [f32, i32, tf32, f16, i8], ids=str)
def test_values_are_exact(t):
    """Random pairs, of which many go by shuffles, with and without choices among words."""
    rng, pairs = np.random.default_rng(t.bits), Pairs()
    while len(pairs) < 12:
        found = pair(rng)
        if cost.conversion(*found, t.bits).way == "shuffles":
            pairs.append(found)
    program, given = turned(pairs, t), arrays(pairs, t)
    run(program, given)
    assert wrong(pairs, given) == []
    assert program.source.text.count("fetched(") == len(pairs)
    assert "barrier();" not in program.source.text


def rows(n: int) -> tuple[RegisterLayout, RegisterLayout]:
    """A warp's lanes four to a row: columns apart from each other, and neighbours."""
    return spatial(4, 1).local(1, n).spatial(8, 4), spatial(4, 1).spatial(8, 4).local(1, n)


VECTOR = spatial(4).replicated(4).spatial(8), spatial(4).spatial(8).replicated(4)
ASIDE = ("STS", "LDS", "BAR")


@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
@pytest.mark.parametrize(
    ("pair", "budget"),
    [
        (VECTOR, Budget(has={"SHFL": (1, 1)}, lacks=ASIDE)),
        (rows(2), Budget(has={"SHFL": (4, 4)}, lacks=ASIDE)),
        (rows(8), Budget(has={"STS": 1, "BAR": 1}, lacks=("SHFL",))),
    ],
    ids=["vector", "narrow", "wide"],
)
def test_machine_code(pair, budget, target):
    """Few words go by shuffles, without barriers; a wide tile by shared memory."""
    build = compile_cuda(turned([pair], f32).source.text, target, headers=device_headers())
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
    assert wrong(pairs, given) == [0]


def test_copies_give_to_lanes_beside_them():
    """Each thread asks the copy in its own warp."""
    pairs = [(replicated(4) * spatial(32), spatial(32) * replicated(4)), VECTOR]
    program, given = turned(pairs, f32), arrays(pairs, f32)
    run(program, given)
    assert wrong(pairs, given) == []
