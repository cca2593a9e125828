"""Formats whose elements a pass decodes, in Triton's interpreter and as machine code."""

from __future__ import annotations

import numpy as np
import pytest
from lang import kernels

import tilec as tc
from tilec.artifacts import triton_source
from tilec.ir.fit import Fit, encode
from tilec.ir.named import named
from tilec.ir.packing import Plain
from tilec.runtime.triton import compile_for, interpreted

pytest.importorskip("triton")
SHAPE = (20, 36)


def linear(text: str, data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x @ w.T in the interpreter, and in doubles, for a weight that has this format."""
    format = named(text)
    parts = encode(format, np.random.default_rng(1).standard_normal(SHAPE), Fit())
    arrays = Plain().pack(format, parts, SHAPE)
    given = {"x": data, "y": np.full((len(data), SHAPE[0]), np.nan, np.float32)}
    for c, raw in zip(format.components(SHAPE), arrays, strict=True):
        size = tuple(int(str(d)) for d in c.shape) or (1,)
        whole = c.dtype.bits >= 8
        given[f"w_{c.name}".replace(".", "_")] = raw.view(c.dtype.numpy).reshape(size) if whole \
            else raw  # fmt: skip
    types = {"x": tc.f32, "w": format, "y": tc.f32}
    dims = {"M": len(data), "N": SHAPE[0], "K": SHAPE[1]}
    source = triton_source(kernels.linear.definition, dims, types)
    got = interpreted(source, {p.name: given[p.name] for p in source.params})["y"]
    return got, data.astype(float) @ format.values(parts, SHAPE).T


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "text", ["coded<bf16>", "coded<f32>", pytest.param("coded<f16>", marks=SLOW)]
)
def test_one_hot_activations_give_coded_elements_back(text):
    got, want = linear(text, np.eye(36, dtype=np.float32)[5:30:3].copy())
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("text", [
    "planes<int3<group=16>, 2, 1>", "planes<e3m2<group=16>>", "planes<nf4<channel>>",
    pytest.param("planes<uint5<group=32, zero=int>, 4, 1>", marks=SLOW),
    pytest.param("planes<e3m4_ieee<tensor>, 8>", marks=SLOW),
    pytest.param("planes<q4_k>", marks=SLOW),
])  # fmt: skip
def test_codes_in_planes(text):
    """Also those of tables, which arithmetic decodes."""
    got, want = linear(text, np.random.default_rng(2).integers(-4, 5, (3, 36)).astype("f4"))
    assert np.linalg.norm(got - want) <= 1e-6 * np.linalg.norm(want)


def test_machine_code_without_a_gpu():
    types = {"x": tc.bf16, "w": named("fp6_llm"), "y": tc.f32}
    source = triton_source(kernels.linear.definition, {"M": 16, "N": 256, "K": 512}, types)
    assert "shl.b32" in str(compile_for(source, "sm_90")["ptx"])
