"""Norms, activations and losses of rows: what they cost is the bytes that they move."""

# The names in a program have types of the language.
# pyright: basic, reportInvalidTypeForm=false
# ruff: noqa: F821, UP037

from __future__ import annotations

import numpy as np

import tilec as tc
from tilec.bench.gpu.case import Case, Dims, Values, Way, spread
from tilec.ir.dtype import Array
from tilec.ops import losses, mlp, norm, quantised

EPS = 2.0**-17


@tc.program
def rms_fp8(x: tc.Tensor["M", "N"], gain: tc.Tensor["N"], eps: tc.f32):
    """The codes in e4m3 of x / sqrt(mean(x^2) + eps) * gain, and a scale for each row."""
    y = tc.rms_norm(x.to(tc.f32), gain, eps)
    scale = tc.max(tc.abs(y), axis=1, keepdims=True) / 448.0
    return tc.cast(y / scale, tc.e4m3, saturate=True), scale


@tc.program
def swiglu_fp8(gate: tc.Tensor["M", "N"], up: tc.Tensor["M", "N"]):
    """The codes in e4m3 of silu(gate) * up, and a scale for each row."""
    y = tc.swiglu(gate.to(tc.f32), up.to(tc.f32))
    scale = tc.max(tc.abs(y), axis=1, keepdims=True) / 448.0
    return tc.cast(y / scale, tc.e4m3, saturate=True), scale


def rms(values: Values, dims: Dims) -> dict[str, Array]:
    """x / sqrt(mean(x^2) + eps) * gain"""
    del dims
    x = values["x"]
    return {"result": x / np.sqrt((x * x).mean(1, keepdims=True) + values["eps"]) * values["gain"]}


def gated(values: Values, dims: Dims) -> dict[str, Array]:
    """silu(gate) * up"""
    del dims
    return {"result": values["gate"] / (1 + np.exp(-values["gate"])) * values["up"]}


def softmax(values: Values, dims: Dims) -> dict[str, Array]:
    """exp(x) / sum(exp(x))"""
    del dims
    e = np.exp(values["x"] - values["x"].max(1, keepdims=True))
    return {"result": e / e.sum(1, keepdims=True)}


def cross_entropy(values: Values, dims: Dims) -> dict[str, Array]:
    """-log(softmax(logits)[t, target[t]])"""
    z, at = values["logits"], values["target"].astype(np.int64)
    most = z.max(1, keepdims=True)
    return {"result": np.log(np.exp(z - most).sum(1)) + most[:, 0] - z[np.arange(dims["T"]), at]}


def targets(dims: Dims, rng: np.random.Generator) -> dict[str, Array]:
    """Classes at random."""
    return {"target": rng.integers(0, dims["V"], dims["T"]).astype(np.int32)}


def codes(meaning):
    """What stands for results as codes times a scale for each row."""

    def product(values: Values, dims: Dims) -> dict[str, Array]:
        return {"result0*result1": meaning(values, dims)["result"]}

    return product


BOTH = (Way("cuda", "threads=256"), Way("triton"))
COMPILED = ("torch compiled", "torch eager")


def row_case(number, name, kernel, types, dims, small, meaning, *, ways=BOTH, peers=COMPILED,
             near=5e-3, turn=3, numbers=None, given=None, quick=False) -> Case:  # fmt: skip
    """A case without products; operations are few, and are not counted."""
    return Case(name, number, kernel, types, dims, small, ways, meaning, 0.0, peers, near,
                turn=turn, numbers=numbers or {}, given=given, quick=quick,
                sample={d: spread(dims[d], 16) for d in ("M", "T") if d in dims})  # fmt: skip


NORM = {"x": "bf16", "gain": "bf16"}
LIGER = (*COMPILED, "liger", "triton rows")
CASES = (
    row_case(31, "rms norm 32768x8192", norm.rms, NORM, {"M": 32768, "N": 8192},
             {"M": 8}, rms, peers=LIGER, numbers={"eps": EPS}, turn=1),
    row_case(31, "rms norm int8 16384x4096", quantised.rms, NORM, {"M": 16384, "N": 4096},
             {"M": 8}, codes(rms), numbers={"eps": EPS}, near=2e-2),
    row_case(31, "rms norm fp8 16384x8192", rms_fp8, NORM, {"M": 16384, "N": 8192},
             {"M": 8}, codes(rms), numbers={"eps": EPS}, near=4e-2, quick=True),
    row_case(31, "swiglu 16384x8192", mlp.activation, {"gate": "bf16", "up": "bf16"},
             {"M": 16384, "F": 8192}, {"M": 16, "F": 512}, gated,
             peers=(*COMPILED, "liger")),
    row_case(31, "swiglu fp8 16384x8192", swiglu_fp8, {"gate": "bf16", "up": "bf16"},
             {"M": 16384, "N": 8192}, {"M": 8}, codes(gated), near=4e-2),
    row_case(32, "softmax 8192x128256", norm.softmax, {"x": "bf16"}, {"M": 8192, "N": 128256},
             {"M": 4, "N": 4104}, softmax, peers=(*COMPILED, "triton rows"), turn=1),
    row_case(32, "softmax 32768x4096", norm.softmax, {"x": "bf16"}, {"M": 32768, "N": 4096},
             {"M": 8}, softmax, peers=(*COMPILED, "triton rows")),
    row_case(32, "cross entropy 8192x128256", losses.cross_entropy,
             {"logits": "bf16", "target": "i32"}, {"T": 8192, "V": 128256},
             {"T": 4, "V": 4104}, cross_entropy, peers=(*COMPILED, "liger"), given=targets,
             turn=1),
)  # fmt: skip
