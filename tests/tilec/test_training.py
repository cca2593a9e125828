"""Programs that are to be differentiated: what they save, what their gradients are made of, and
what they compute on every back end."""

from __future__ import annotations

from collections.abc import Sequence

import launches
import pytest
from trained import CASES
from trained_launches import WIDE
from trained_launches import launches as cases

from tilec.differentiate import Training, training
from tilec.ir.core import Func
from tilec.ir.dtype import DType, bf16, f16, f32, i32
from tilec.ir.errors import TileError
from tilec.ir.ops import control, reduce
from tilec.ir.types import Memory
from tilec.lang.kernel import TensorSpec
from tilec.ops import linear
from tilec.passes import Step, run

SLOW = pytest.mark.slow
LONG = {"B": 1, "G": 2, "H": 3, "M": 1024, "N": 1536, "D": 64, "E": 64}
EVEN = {**LONG, "N": 1024}


def trained(name: str, dims: dict[str, int], dtype: DType = f32) -> Training:
    """The gradients of a program by all its floats."""
    definition = CASES[name].program.definition
    types = {p.name: i32 if p.spec.format is not None else dtype
             for p in definition.signature.params if isinstance(p.spec, TensorSpec)}  # fmt: skip
    return training(definition, types, dims, [n for n, t in types.items() if t == dtype])


def fused(func: Func, dims: dict[str, int]) -> Func:
    return run((Step("specialise", dict(dims)), Step("fuse")), func)


def grids(func: Func) -> Sequence[control.Grid]:
    found = [op for op in func.body.ops if isinstance(op, control.Grid)]
    assert len(found) == len(func.body.ops)
    return found


def own(func: Func) -> list[tuple[object, ...]]:
    """The shapes of what lies in memory between kernels."""
    return [p.type.shape for p in func.params if "." in p.hint and isinstance(p.type, Memory)]


def products(grid: control.Grid) -> int:
    return len([op for op in grid.body.walk() if isinstance(op, reduce.Dot)])


@pytest.mark.parametrize("dims", [LONG, EVEN])
@pytest.mark.parametrize("name", ["full", "causal", "windowed"])
def test_attention_keeps_no_scores(name: str, dims: dict[str, int]):
    """One kernel over queries and one over keys; what is saved is a number a query."""
    made = trained(name, dims)
    assert len(made.saved) == 1
    forward, back = fused(made.forward.ir(), dims), fused(made.backward.ir(), dims)
    assert len(grids(forward)) == 1
    assert not own(forward)
    assert len(grids(back)) == 2
    assert not own(back)
    assert [products(g) for g in grids(back)] == [3, 4]
    saved = [p.type for p in back.params if p.hint in made.saved]
    heads = (1, 3, 1024) if name == "full" else (1, 2, 3, 1024)
    assert [t.shape for t in saved if isinstance(t, Memory)] == [heads]


@pytest.mark.parametrize("dims", [LONG, EVEN])
@pytest.mark.parametrize("name", ["causal", "windowed"])
def test_blocks_that_a_mask_empties_are_skipped(name: str, dims: dict[str, int]):
    """Over keys up to the query; over queries from the key on, and in a window not beyond it."""
    back = fused(trained(name, dims).backward.ir(), dims)
    inner = [[op for op in g.body.walk() if isinstance(op, control.For)][-1] for g in grids(back)]
    bounds = [(op.first is not None, op.stop is not None) for op in inner]
    assert (
        bounds == {"causal": [(False, True), (True, False)], "windowed": [(True, True)] * 2}[name]
    )


def test_inputs_whose_gradients_read_the_scores_alone():
    """A bias has a gradient that is as large as scores, latent keys are also values."""
    for name, dims in (("biased", LONG), ("latent", LONG | {"R": 64, "P": 32})):
        assert not own(fused(trained(name, dims).backward.ir(), dims))


def test_one_matrix_of_a_loss():
    """The gradient of the logits is one matrix in memory; nothing of the forward pass is."""
    dims = {"T": 512, "V": 32000, "K": 1024}
    made = trained("linear_cross_entropy", dims)
    assert made.saved
    assert not own(fused(made.forward.ir(), dims))
    assert own(fused(made.backward.ir(), dims)) == [(512, 32000)]


def test_what_gradients_do_not_read_is_no_parameter():
    made = trained("rms", {"M": 64, "N": 128})
    assert [p.name for p in made.forward.signature.params] == [
        "x", "gain", "eps", "result", "saved0"]  # fmt: skip
    assert [p.name for p in made.backward.signature.params] == [
        "x", "gain", "eps", "saved0", "d_result", "d_x", "d_gain"]  # fmt: skip
    definition = linear.affine.definition
    types = dict.fromkeys(["x", "w", "bias"], f32)
    only = training(definition, types, {"M": 3, "N": 4, "K": 5}, ["bias"])
    assert [p.name for p in only.backward.signature.params] == ["d_result", "d_bias"]
    assert only.saved == ()


def test_a_dimension_that_no_gradient_has():
    """A mean divides by a dimension that only the argument has."""
    made = trained("layer", {"M": 64, "N": 128})
    names = [p.name for p in made.backward.signature.params]
    assert names == ["x", "gain", "eps", "saved0", "saved1", "d_result", "d_x", "d_gain", "d_bias"]


def test_formats_are_those_that_it_was_made_for():
    made = trained("affine", {"M": 3, "N": 4, "K": 5}, bf16)
    assert made.backward.ir({"x": bf16}) is made.backward.ir()
    with pytest.raises(TileError, match="d_affine: `x` is f32, expected bf16"):
        made.backward.ir({"x": f32})


QUICK = ("causal", "rms")
NARROW = ("causal", "windowed", "swiglu", "embedded", "rms_linear")


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=SLOW) for n in WIDE])
def test_on_this_processor(name: str):
    for case in cases(name):
        launches.on_cpu(case)


@pytest.mark.parametrize("name", NARROW)
@pytest.mark.parametrize("dtype", [f16, bf16])
@SLOW
def test_narrow_floats(name: str, dtype: DType):
    for case in cases(name, dtype):
        launches.on_cpu(case)
        launches.on_cuda(case)


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=SLOW) for n in WIDE])
def test_cuda(name: str):
    for case in cases(name):
        launches.on_cuda(case)


@SLOW
@pytest.mark.parametrize("name", WIDE)
def test_triton(name: str):
    pytest.importorskip("triton")
    for case in cases(name):
        launches.on_triton(case)


@SLOW
@pytest.mark.parametrize("name", NARROW)
@pytest.mark.parametrize("dtype", [f16, bf16])
def test_narrow_floats_on_triton(name: str, dtype: DType):
    pytest.importorskip("triton")
    for case in cases(name, dtype):
        launches.on_triton(case)
