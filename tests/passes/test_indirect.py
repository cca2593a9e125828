"""Rows that are found by tables, and masks of blocks, in the interpreter after `sparsify`."""

from __future__ import annotations

import numpy as np
import pytest
from sparse_kernels import CASES, QUICK

from tilec.ir.dtype import Array
from tilec.ir.interpret import interpret
from tilec.ir.ops import control
from tilec.ir.sparse import Sparse
from tilec.ir.sparse.stored import VALUES
from tilec.ir.types import Memory
from tilec.passes import parse_pipeline, run
from tilec.passes.specialise import specialise
from tilec.runtime.tensor import PackedTensor

SLOW = pytest.mark.slow


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=SLOW) for n in CASES])
def test_the_meaning_stays(name):
    case = CASES[name]
    func = specialise(case.kernel.ir(**case.types), **case.dims)
    after = run(parse_pipeline("sparsify"), func)
    held: dict[str, Array] = {}
    for n, x in case.given.items():
        if not isinstance(x, PackedTensor):
            x = np.asarray(x)
            held[n] = x.astype(np.float64) if x.dtype.kind == "f" else x
            continue
        format, parts = x.format, x.parts()
        assert isinstance(format, Sparse)
        held |= {f"{n}.{c.name}": parts[c.name] for c in format.places(x.shape)}
        held[f"{n}.{VALUES}"] = format.inner_values(parts, x.shape)
    assert held.keys() | case.want.keys() == {p.hint for p in after.params}

    arguments = case.arguments()
    wide = {n: np.asarray(arguments[n]).astype(np.float64) for n in case.want}
    interpret(after, held | wide, {})
    case.check(wide)


@pytest.mark.parametrize("name", [n for n in CASES if n.startswith("block")])
def test_attention_goes_over_the_blocks_of_its_mask(name):
    case = CASES[name]
    func = run(parse_pipeline("sparsify"), specialise(case.kernel.ir(**case.types), **case.dims))
    loops = [op for op in func.walk() if isinstance(op, control.Count | control.For)]
    assert len(loops) == 1
    assert isinstance(loops[0], control.Count)
    assert not [p for p in func.params if isinstance(p.type, Memory)
                and isinstance(p.type.format, Sparse)]  # fmt: skip
