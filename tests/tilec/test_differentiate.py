"""Gradients as definitions: their signatures, their formats, and what the CPU computes."""

from __future__ import annotations

from dataclasses import replace

import gradients
import numpy as np
import pytest
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


def test_a_name_that_is_none():
    with pytest.raises(TileError, match="gradient: no input is called 'z'; there are x, w, t"):
        differentiate(definition(CROSS_ENTROPY), ["y"], ["z"])
