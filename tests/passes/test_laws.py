"""Laws that hold for every registered pass, on random programs."""

# Hypothesis types its health checks loosely, and some cases are given by number.
# pyright: reportArgumentType=false

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, reject, settings
from programs import Program, programs

from tilec.ir.bits import raw
from tilec.ir.core import Func, Op
from tilec.ir.dtype import Array
from tilec.ir.errors import TileError
from tilec.ir.ops import control
from tilec.ir.parse import parse
from tilec.ir.text import show
from tilec.ir.types import Memory
from tilec.ir.verify import verify
from tilec.opcard import made_by_passes, of_tensors
from tilec.passes import Step, passes
from tilec.passes.pipeline import Option

FEW = settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)

OPTIONS: dict[str, dict[str, Option]] = {  # of passes that leave out what nobody chose
    "swap-operands": {"when": "always"},
    "raster": {"width": 1},
    "split-k": {"parts": 2},
    "stream-k": {"blocks": 3},
    "persist": {"blocks": 2},
    "beside": {"kernels": 3},
    "hint-caches": {},
    "coalesce-stores": {},
}


def before(name: str, program: Program) -> Func:
    """The program as a pass may take it. Rejects what a pass has a reason to refuse."""
    if name not in ("pad", "lay-out", "stage-loads", *OPTIONS) or name == "swap-operands":
        return program.func
    sizes = step("specialise", program)
    func = Step("tile")(sizes(program.func))
    try:
        padded = passes()["pad"](func)
    except TileError as e:
        if not str(e).startswith("pad: "):
            raise
        reject()
    return func if name == "pad" else padded


def step(name: str, program: Program) -> Step:
    """The pass with options that fit the program."""
    if name == "specialise":
        return Step(name, {d: n for d, n in program.dims.items() if "." not in d})
    return Step(name, OPTIONS.get(name, {}))


def tiles(func: Func) -> dict[str, int]:
    """The tile of every loop that says one, as the interpreter takes it."""
    found: dict[str, int | None] = {}
    for op in func.walk():
        match op:
            case control.Grid():
                found |= {f"{s}.tile": t for s, t in zip(op.sizes, op.tiles, strict=True)}
            case control.For():
                found[f"{op.size}.tile"] = op.tile
            case _:
                pass
    return {size: t for size, t in found.items() if t is not None}


def recoded(program: Program, func: Func) -> dict[str, Array]:
    """The bits of the codes that a pass made whole numbers of."""
    before = {p.hint: p.type.dtype for p in program.func.params if isinstance(p.type, Memory)}
    return {p.hint: raw(before[p.hint], program.arguments[p.hint]).astype(np.int64)
            for p in func.params if isinstance(p.type, Memory) and p.hint in before
            and before[p.hint].kind == "code" and p.type.dtype.kind == "uint"}  # fmt: skip


def furnished(program: Program, func: Func) -> Program:
    """The program with memory that a pass made for the function, of what nothing computes."""
    found = program.arguments | recoded(program, func)
    for p in func.params:
        if isinstance(p.type, Memory) and p.hint not in found:
            known = tuple(int(str(d)) for d in p.type.shape)
            found[p.hint] = np.full(known, p.type.dtype.round(np.asarray(p.type.dtype.high)))
    return replace(program, arguments=found)


def assert_same(actual: dict[str, Array], expected: dict[str, Array]) -> None:
    """Equal to the bit: NaN where NaN, zeros of one sign."""
    for name, want in expected.items():
        np.testing.assert_array_equal(actual[name], want, err_msg=name)
        if want.dtype.kind == "f":
            signs = [np.signbit(a) | np.isnan(a) for a in (actual[name], want)]
            np.testing.assert_array_equal(*signs, err_msg=f"signs of {name}")


@given(program=programs())
@FEW
def test_programs_are_well_formed_and_their_text_reads_back(program: Program):
    verify(program.func)
    text = show(program.func)
    assert show(parse(text)) == text
    assert_same(program.run(parse(text)), program.run())


def test_programs_hold_every_op():
    found: set[str] = set()

    @given(program=programs())
    @FEW
    def collect(program: Program):
        found.update(op.name for op in program.func.walk())

    collect()
    others = {n for n, c in Op.registry.items() if made_by_passes(c) or of_tensors(c)}
    assert set(Op.registry) - found == others


@given(program=programs())
@FEW
def test_programs_write_their_outputs(program: Program):
    after = program.run()
    outputs = {name for name in after if name.startswith("y")}
    kept = {n for n, a in program.arguments.items() if np.array_equal(after[n], a, equal_nan=True)}
    assert len(outputs) >= 3
    assert kept >= after.keys() - outputs


@pytest.mark.parametrize("name", sorted(passes()))
@given(program=programs())
@FEW
def test_a_pass_keeps_the_meaning(name: str, program: Program):
    func = before(name, program)
    after = step(name, program)(func)
    verify(after)
    chosen = tiles(after)  # a size that was open before is what the pass chose
    want = program.run(func, **chosen)
    kept = {n: a for n, a in want.items() if n not in recoded(program, after)}
    assert_same(furnished(program, after).run(after, **chosen), kept)


@pytest.mark.parametrize("name", sorted(passes()))
@given(program=programs())
@FEW
def test_a_pass_twice_is_once_and_its_result_reads_back(name: str, program: Program):
    once = step(name, program)(before(name, program))
    assert show(step(name, program)(once)) == show(once)
    assert show(parse(show(once))) == show(once)
