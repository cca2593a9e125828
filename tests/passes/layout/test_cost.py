"""The cost of layouts: what the emulator counts, and what the pass chooses by it."""

from __future__ import annotations

import numpy as np
import pytest
from lang import kernels

import tilec as tc
from tilec.cuda import Schedule, cuda_func, cuda_program, emulate
from tilec.ir.core import Block, Builder, Func, Value
from tilec.ir.dtype import f16, f32, i8
from tilec.ir.laid import coalesced
from tilec.ir.layout.moves import exchange
from tilec.ir.layout.register import RegisterLayout, local, replicated, spatial
from tilec.ir.layout.runs import Row
from tilec.ir.ops import machine, memory
from tilec.ir.text import show
from tilec.ir.types import memory as memory_type
from tilec.lang.text import parse
from tilec.passes.layout import cost
from tilec.passes.layout.products import tiling
from tilec.passes.layout.survey import survey

FRAGMENTS = tiling((64, 64, 64), f16, 128)
assert FRAGMENTS is not None
LAYOUTS = {
    "fragments": FRAGMENTS.c,
    "operand": FRAGMENTS.a,
    "columns": spatial(2, 64).local(32, 1),
    "copies": replicated(2) * spatial(64, 1) * local(1, 64),
    "rows": local(32, 1) * spatial(2, 64),
    "small": replicated(4) * spatial(4, 8) * local(2, 1),
}


def moved(layout: RegisterLayout, t: tc.DType) -> Func:
    """A tile that is loaded, brought to a layout and stored."""
    x, y = (Value(memory_type(t, *layout.shape), name) for name in "xy")
    b = Builder()
    spans = tuple(b(memory.Whole(n)) for n in layout.shape)
    b.add(memory.Store(y, spans, b(machine.Convert(b(memory.Load(x, spans)), layout)), None))
    return Func("moved", Block((x, y), tuple(b.ops)))


@pytest.mark.parametrize("t", [f32, f16, i8], ids=str)
@pytest.mark.parametrize("name", LAYOUTS)
def test_wavefronts_are_those_that_are_counted(name, t):
    layout = LAYOUTS[name]
    values = np.arange(np.prod(layout.shape)).reshape(layout.shape).astype(t.numpy)
    given = {"x": values, "y": np.zeros_like(values)}
    (report,) = emulate(cuda_program(moved(layout, t)), given)
    assert not report.findings
    assert np.array_equal(given["y"], values)
    how = cost.conversion(coalesced(layout.shape, t.bits, 128), layout, t.bits)
    counted = (
        sum(c.wavefronts for c in report.counts),
        sum(c.ideal_wavefronts for c in report.counts),
    )
    assert (how.wavefronts, how.ideal) == counted
    assert how.wavefronts > 0


def test_rows_are_apart_by_what_has_no_conflicts():
    """Rows of fragments of 32 bits want another gap than those of 16 bits."""
    for t, gap in ((f32, 32), (f16, 16)):
        found = exchange(LAYOUTS["fragments"], coalesced((64, 64), t.bits, 128), t.bits)
        assert (found.gap, found.wavefronts) == (gap, found.ideal)


def softmax_layouts(m: int, n: int) -> str:
    definition = kernels.softmax.definition
    func = cuda_func(definition, {"M": m, "N": n}, {"x": tc.f32, "y": tc.f32})
    assert not survey(func, 128).conversions
    return show(func)


def test_a_load_that_is_reduced_lies_so_that_rows_stay_in_warps():
    """A row of 1024 would be over four warps, if each took the next 16 bytes of memory."""
    assert "local(1, 8).spatial(1, 128).local(1, 4)" not in softmax_layouts(64, 1024)
    assert "spatial(4, 1).local(1, 8).spatial(1, 32).local(1, 4)" in softmax_layouts(64, 1024)


@pytest.mark.parametrize("sizes", [(8, 4096), (64, 64), (2, 1024), (128, 128)], ids=str)
@pytest.mark.parametrize("axis", [0, 1])
def test_the_chosen_layout_costs_least(sizes, axis):
    chosen = cost.loaded(sizes, 32, 128, (axis,))
    plain = coalesced(sizes, 32, 128)

    def price(layout: RegisterLayout) -> float:
        return cost.access(layout, 32) + cost.reduction(layout, axis)

    assert price(chosen) <= price(plain)
    assert chosen.shape == sizes
    assert (chosen.threads, chosen.locals) == (plain.threads, plain.locals)


def test_large_tiles_are_stored_as_they_are():
    """Half of the shared memory is not worth the clocks that a conversion would save."""
    for side, turned in ((64, True), (128, True), (256, False)):
        found = tiling((side, side, 64), f16, 128)
        assert found is not None
        row = Row(16, side, side, True, False)
        chosen = cost.stored(found.c, 16, row)
        assert (chosen != found.c) == turned
        assert chosen in (found.c, coalesced((side, side), 16, 128))
    found = tiling((64, 64, 64), f16, 128)
    assert found is not None
    assert cost.stored(found.c, 32, Row(32, 64, 64, True, False)) == found.c


TILE = """kernel k(u: i8[M, K], y: f32[M, K]) {
  for m in tiles(M, block=(64,)) {
    y[m, :] = cast(u[m, :], f32)
  }
}
"""


@pytest.mark.parametrize(
    ("k", "size", "missing"),
    [
        (64, 16, ""),
        (60, 4, "rows of a multiple of 8 bytes; they have 60"),
        (72, 8, "rows of a multiple of 16 bytes; they have 72"),
        (16, 8, "threads that hold more than 8 neighbours of a row"),
    ],
)
def test_narrow_accesses_are_remarks_with_what_is_missing(k, size, missing):
    func = cuda_func(parse(TILE)["k"], {"M": 64, "K": k})
    said = [(r.message, r.missing) for r in func.remarks if "`u`" in r.message]
    assert said == ([(f"`u` is read {size} bytes of a thread at a time", missing)] * (size < 16))
    assert survey(func, 128).accesses[size]


@tc.kernel
def chained(q: tc.Tensor["M", "D"], k: tc.Tensor["N", "D"], v: tc.Tensor["N", "D"],
            y: tc.Tensor["M", "D"]):  # fmt: skip
    for m in tc.tiles("M"):
        p = tc.cast(tc.dot(q[m, :], k[:, :].T), tc.f16)
        y[m, :] = tc.dot(p, v[:, :])


def test_a_conversion_is_a_remark_with_its_cost():
    types = {"q": tc.f16, "k": tc.f16, "v": tc.f16, "y": tc.f32}
    func = cuda_func(
        chained.definition, {"M": 32, "N": 32, "D": 64}, types, Schedule(tiles={"m": 32})
    )
    said = next(r for r in func.remarks if "of `cast` gets to" in r.message)
    found = survey(func, 128)
    assert found.conversions["shared memory"] > 0
    how = "f16[32, 32] of `cast` gets to `dot` by shared memory: 2048 bytes there and back"
    assert said.message.startswith(how)
    assert said.loc is not None
    assert said.loc.text.strip() == "y[m, :] = tc.dot(p, v[:, :])"


def test_a_conversion_by_shuffles_is_a_remark():
    """Two words of each thread, each among two of another lane: four shuffles of each warp."""
    source, to = (spatial(4, 1).local(1, 2).spatial(8, 4), spatial(4, 1).spatial(8, 4).local(1, 2))
    how = cost.conversion(source, to, 32)
    assert (how.way, how.bytes, how.wavefronts, how.shuffles) == ("shuffles", 0, 0, 4)
    assert how.clocks < exchange(source, to, 32).clocks
    x, y = (Value(memory_type(f32, *source.shape), name) for name in "xy")
    b = Builder()
    spans = tuple(b(memory.Whole(n)) for n in source.shape)
    held = b(machine.Convert(b(memory.Load(x, spans)), source))
    b.add(memory.Store(y, spans, b(machine.Convert(held, to)), None))
    found = survey(Func("turned", Block((x, y), tuple(b.ops))), 128)
    said = [r for r in found.remarks if "gets to" in r.message]
    assert [r.message for r in said] == ["f32[32, 8] of `convert` gets to `store` by 4 shuffles of "
                                         "each warp; about 24 clocks"]  # fmt: skip
    assert not said[0].missing
    assert (found.conversions["shuffles"], found.bytes, found.clocks > how.clocks) == (1, 0, True)
