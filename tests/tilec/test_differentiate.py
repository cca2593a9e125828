"""Gradients as definitions: their signatures, their formats, and what the CPU computes."""

from __future__ import annotations

from dataclasses import replace

import gradients
import numpy as np
import pytest
import torch
from gradient_texts import (
    ACTIVATIONS,
    ATTENTION,
    CROSS_ENTROPY,
    LAYER_NORM,
    LINEAR,
    MASKS,
    RMS_NORM,
    SOFTMAX,
    SWIGLU,
)
from launches import Case, on_cpu

from tilec.compile import Kernel
from tilec.differentiate import differentiate
from tilec.ir.dtype import Array, DType, bf16, f16, f32, f64
from tilec.ir.errors import TileError
from tilec.ir.extent import Sym
from tilec.ir.format import Dense, Format
from tilec.ir.types import Memory
from tilec.lang.kernel import Definition, TensorSpec
from tilec.lang.text import parse

EMBEDDING = """
kernel embedding(w: bf16[V, D], i: i32[M], s: f32, y: f32[M, D]) {
  y[:, :] = cast(w[i[:], :], f32) * s
}
"""
WINDOW = MASKS["window"][0].replace("-inf", "-1e999")
PROGRAMS = {
    "linear": LINEAR.format(ACTIVATIONS["gelu"][0]),
    "rms_norm": RMS_NORM,
    "layer_norm": LAYER_NORM,
    "attention": SOFTMAX + ATTENTION.replace("MASKED", WINDOW),
    "cross_entropy": CROSS_ENTROPY,
    "swiglu": SWIGLU,
    "embedding": EMBEDDING,
}  # fmt: skip
DIMS = {"M": 37, "N": 37, "K": 24, "D": 20, "E": 12, "V": 9}


def definition(text: str) -> Definition:
    """The only kernel of a text."""
    return next(iter(parse(text).values()))


def opened(made: Definition) -> Definition:
    """The kernel with the formats of its floats left open."""
    params = tuple(
        replace(p, spec=TensorSpec(p.spec.dims))
        if isinstance(p.spec, TensorSpec) and p.spec.format == Dense(f32) else p
        for p in made.signature.params)  # fmt: skip
    return replace(made, signature=replace(made.signature, params=params))


def stored(x: Array, t: DType) -> Array:
    """Carriers as an array of a dtype."""
    return t.to_storage(x)


@pytest.mark.parametrize("name", PROGRAMS)
def test_gradients_run_on_the_cpu(name: str):
    text = PROGRAMS[name].replace("f64", "f32")
    chance = np.random.default_rng(5)
    rows = {n: chance.integers(0, DIMS["V"], DIMS["M"]) for n in "it" if f"{n}: i32[M]" in text}
    forward = gradients.case(text, DIMS, **rows)
    names = forward.floats()
    made = differentiate(definition(text), [n for n in forward.forward()], names)
    func = made.ir()
    want = {f"d_{n}": a for n, a in forward.gradients(func).items() if n in names}
    held = {**forward.inputs, **{f"d_{n}": a for n, a in forward.seeds().items()}}
    types = {p.hint: p.type.dtype for p in func.params if isinstance(p.type, Memory)}
    given = {n: stored(a, types[n]) if n in types else float(a) for n, a in held.items()}
    results = {n: stored(a, types[n]) for n, a in want.items()}
    near = 2.0**-8 if name == "embedding" else 1e-5  # what is rounded to bf16, from other sums
    on_cpu(Case(name, Kernel(made), given, results, near))


def test_the_signature():
    made = differentiate(definition(EMBEDDING), ["y"], ["w", "s"])
    found = {p.name: p.spec for p in made.signature.params}
    assert made.signature.name == "d_embedding"
    assert list(found) == ["w", "i", "s", "d_y", "d_w", "d_s"]
    assert found["d_w"] == found["w"]
    assert found["d_s"] == TensorSpec((1,), Dense(f32))
    assert [p.hint for p in made.ir().params] == [*found, "d_w.sums"]


@pytest.mark.parametrize("seed", [f16, f32])
def test_formats_that_are_open(seed: DType):
    source = opened(definition(LINEAR.format("x").replace("f64", "f32")))
    made = differentiate(source, ["y"], ["x", "w"])
    types: dict[str, Format | DType] = {"x": bf16, "w": f32, "b": f64, "d_y": seed, "d_x": bf16}
    func = made.ir(types)
    found = {p.hint: p.type.dtype for p in func.params if isinstance(p.type, Memory)}
    assert found == types | {"d_w": f32}
    with pytest.raises(TileError, match="d_linear: `d_x` is f16, expected bf16"):
        made.ir(types | {"d_x": f16})


def test_what_is_kept():
    made = differentiate(definition(CROSS_ENTROPY), ["y"], ["x"], keep=["yl"])
    assert [p.name for p in made.signature.params] == ["x", "w", "t", "yl", "d_y", "d_x"]


def test_inputs_apart():
    made = differentiate(definition(CROSS_ENTROPY), ["y"], ["w", "x"], apart=[["w"]])
    assert [p.name for p in made.signature.params] == ["x", "w", "t", "d_y", "d_x", "d_w"]


ATTENDS = """
program attends(q: f32[B, H, N, D], k: f32[B, H, M, D], v: f32[B, H, M, D]) {
  seen = index("M") <= index("N")[:, none]
  found = softmax(where(seen, q @ k.T * 0.25, -inf)).to(v.dtype) @ v
  return found.to(v.dtype)
}
"""
NEAR = {f32: 2.0**-20, f16: 2.0**-10, bf16: 2.0**-7}  # of norms; weights are rounded, too


@pytest.mark.parametrize("apart", [[], [["k", "v"]]])
@pytest.mark.parametrize("dtype", NEAR)
def test_attention_as_a_program(dtype: DType, apart: list[list[str]]):
    text = ATTENDS.replace("f32", str(dtype))
    made = differentiate(definition(text), ["result"], ["q", "k", "v"], apart=apart)
    names = ["q", "k", "v", "d_result", "d_q", "d_k", "d_v"]
    assert [p.name for p in made.signature.params] == names
    chance = np.random.default_rng(2)
    given = [dtype.round(chance.standard_normal((2, 3, 19, 8))) for _ in range(4)]
    q, k, v, d = (stored(a, dtype) for a in given)
    found = [stored(np.full_like(given[0], np.nan), dtype) for _ in range(3)]
    Kernel(made)(q, k, v, d, *found)
    x = [torch.tensor(a, requires_grad=True) for a in given[:3]]
    later = torch.triu(torch.ones(19, 19, dtype=torch.bool), 1)
    weights = torch.softmax((x[0] @ x[1].mT * 0.25).masked_fill(later, -np.inf), -1)
    torch.autograd.backward([weights @ x[2]], [torch.tensor(given[3])])
    for a, b in zip(found, x, strict=True):
        assert b.grad is not None
        want = b.grad.numpy()
        assert np.linalg.norm(a.astype(float) - want) < NEAR[dtype] * np.linalg.norm(want)


def test_a_program_with_open_formats():
    text = "program f(x: f32[M, K], w: f32[N, K]) { return gelu(x @ w.T) }"
    made = differentiate(opened(definition(text)), ["result"], ["w"])
    assert [p.spec for p in made.signature.params if p.name == "d_result"] == [
        TensorSpec((Sym("M"), Sym("N")))]  # fmt: skip
    func = made.ir({"x": f64, "w": bf16})
    found = {p.hint: str(p.type) for p in func.params}
    assert found == {"x": "*f64[M, K]", "w": "*bf16[N, K]", "d_result": "*f64[M, N]",
                     "d_w": "*bf16[N, K]"}  # fmt: skip
    with pytest.raises(TileError, match="`d_result` is f32, expected f64"):
        made.ir({"x": f64, "w": bf16, "d_result": f32})


def test_a_name_that_is_none():
    with pytest.raises(TileError, match="gradient: no input is called 'z'; there are x, w, t"):
        differentiate(definition(CROSS_ENTROPY), ["y"], ["z"])
