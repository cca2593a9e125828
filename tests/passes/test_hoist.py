"""What is moved out of grids, what is not, and that the meaning stays."""

from __future__ import annotations

import numpy as np
import pytest

import tilec as tc
from tilec.ir.core import Func
from tilec.ir.interpret import interpret
from tilec.ir.ops import reduce
from tilec.ir.ops.control import Grid
from tilec.ops import decoder, norm
from tilec.passes import parse_pipeline, run
from tilec.passes.specialise import specialise

DENSE = {"x": tc.f32, "gain": tc.f32, "w": tc.f32}


def _fused(func: Func, then: str, **dims: int) -> Func:
    return run(parse_pipeline(f"fuse,canonicalize{then}"), specialise(func, **dims))


def _norm(then: str, **dims: int) -> Func:
    return _fused(norm.rms_linear.kernel(**DENSE).definition.ir(DENSE), then, **dims)


def test_a_norm_before_a_product_is_computed_once():
    dims = {"M": 5, "N": 200, "K": 96}
    func = _norm(",hoist,canonicalize", **dims)
    *ahead, last = (op for op in func.body.ops if isinstance(op, Grid))
    assert [op.dims for op in ahead] == [(5,), (5, 96)]
    assert not any(isinstance(op, reduce.Sum) for op in last.body.walk())
    assert [r.origin for r in func.remarks].count("hoist") == 2


@pytest.mark.parametrize("dims", [{"M": 5, "N": 200, "K": 96}, {"M": 1, "N": 65, "K": 7}])
def test_the_meaning_stays(dims: dict[str, int]):
    rng = np.random.default_rng(0)
    shapes = {"x": "MK", "gain": "K", "w": "NK"}
    given = {n: rng.standard_normal([dims[d] for d in s]) for n, s in shapes.items()}
    found = [np.full((dims["M"], dims["N"]), np.nan) for _ in range(2)]
    for then, y in zip(("", ",hoist"), found, strict=True):
        func = _norm(f"{then},tile{{threads=2}}", **dims)
        arrays = {n: DENSE[n].round(a) for n, a in given.items()} | {"result": y}
        own = {p.hint: np.zeros(p.type.shape) for p in func.params if "." in p.hint}  # type: ignore[union-attr]
        interpret(func, arrays | own | {"eps": np.array(1e-6)}, {})
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5, atol=1e-6)


def test_one_tile_of_columns_is_left_alone():
    func = _norm("", M=5, N=64, K=96)
    assert run(parse_pipeline("hoist"), func).body is func.body


def test_twice_is_once():
    func = _norm(",hoist,canonicalize", M=5, N=200, K=96)
    assert run(parse_pipeline("hoist"), func).body is func.body


def test_a_decoder_reads_no_operand_by_arithmetic():
    types = {n: tc.bf16 for n in ("x", "first", "second", "wq", "wk", "wv", "wo", "gate", "up",
                                  "down", "keys", "values")}  # fmt: skip
    types |= {"cos": tc.f32, "sin": tc.f32}
    dims = {"B": 2, "C": 128, "G": 2, "H": 2, "P": 16, "F": 96, "N": 8}
    func = _fused(decoder.step.kernel(**types).definition.ir(types), ",hoist,canonicalize", **dims)
    made = {v: op for op in func.walk() for v in op.results}
    for op in func.walk():
        if isinstance(op, reduce.Dot) and op.b in made and made[op.b].name == "transpose":
            load = made[made[op.b].operands[0]]
            assert all(v not in made or made[v].name in ("whole", "start") for v in load.operands)
