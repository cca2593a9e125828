"""The CUDA back end equals the interpreter on every op and dtype, under emulation with checks on.

Cases without a grid are ops of one kernel, many at a time, so that a C++ compiler runs less often.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from cases import Case
from closeness import close
from conformance import all_cases
from emulated import run_func

from tilec.codegen.cuda import emit
from tilec.cuda import Schedule
from tilec.ir.core import Block, Func, Value, rebuild
from tilec.ir.dtype import Array
from tilec.ir.errors import TileError
from tilec.ir.interpret import interpret
from tilec.ir.ops import control
from tilec.passes import parse_pipeline, run

THREADS = Schedule().threads
PASSES = parse_pipeline(f"pad,stage-loads,lay-out{{threads={THREADS}}},canonicalize")
REFUSED = tuple(f"accumulate-{t}" for t in ("e4m3", "e5m2", "i8", "u8"))  # no atomics of a byte
CASES = [c for c in all_cases() if c.name not in REFUSED]
BATCH = 24
ULPS = 2.0  # times those of the case: its functions are computed in f32 where the CPU has double
# Every n-th batch of cases is run always, all of them with the slow tests.
STARTS = [pytest.param(i, marks=[] if i // BATCH % 12 == 0 else pytest.mark.slow)
          for i in range(0, len(CASES), BATCH)]  # fmt: skip


@dataclass(frozen=True)
class Prepared:
    case: Case
    func: Func
    prefix: str


def prepared(case: Case, number: int) -> Prepared:
    """The case with layouts, and names of its own for its parameters."""
    prefix = f"c{number}_"
    to = {p: Value(p.type, prefix + p.hint) for p in case.func.params}
    body = rebuild(case.func.body, dict(to))
    ops = body.ops
    if not any(isinstance(op, control.Grid) for op in ops):
        ops = (control.Grid((), (), (), Block((), ops)),)
    func = Func("k", Block(tuple(to.values()), ops))
    return Prepared(case, run(PASSES, func), prefix)


def merged(parts: list[Prepared]) -> Func:
    """One kernel that does what all of these do."""
    inner = [op for part in parts for grid in part.func.body.ops for op in grid.blocks[0].ops]
    params = [p for part in parts for p in part.func.params]
    return Func("k", Block(tuple(params), (control.Grid((), (), (), Block((), tuple(inner))),)))


def flat(part: Prepared) -> bool:
    """Whether a case is one grid without dimensions, and nothing before it."""
    ops = part.func.body.ops
    return len(ops) == 1 and isinstance(ops[0], control.Grid) and not ops[0].dims


@pytest.mark.parametrize("start", STARTS)
def test_equals_the_interpreter(start: int) -> None:
    batch = CASES[start : start + BATCH]
    parts = [prepared(case, number) for number, case in enumerate(batch)]
    whole = [part for part in parts if flat(part)]
    failed: list[str] = []
    for func, group in ((merged(whole), whole), *((p.func, [p]) for p in parts if not flat(p))):
        if group:
            failed += _failures(func, group)
    assert not failed, "\n".join(failed)


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    (case,) = (c for c in all_cases() if c.name == name)
    with pytest.raises(TileError, match=f"cuda: no code for sums of {name[11:]} in memory"):
        emit(prepared(case, 0).func)


def _failures(func: Func, group: list[Prepared]) -> list[str]:
    given: dict[str, Array] = {}
    for part in group:
        given |= {part.prefix + n: x.copy() for n, x in part.case.inputs.items()}
        poison = np.full(part.case.shape, 77, part.case.out.carrier)
        given[f"{part.prefix}out"] = part.case.filled(poison)
    run_func(func, given)
    failed: list[str] = []
    for part in group:
        case, got = part.case, given[f"{part.prefix}out"]
        want = case.filled(np.full(case.shape, 77, case.out.carrier))
        interpret(case.func, {**case.inputs, "out": want}, {})
        ok = close(got, want, case.out, ULPS * case.ulps)
        if not ok.all():
            i = tuple(np.argwhere(~ok)[0])
            failed.append(f"{case.name}: {(~ok).sum()} differ, at {i}: {got[i]!r}, "
                          f"expected {want[i]!r}")  # fmt: skip
    return failed
