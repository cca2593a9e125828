"""Quantised tensors from the user's side: making them, calling kernels, errors, remarks."""

import gc
from typing import Any

import numpy as np
import pytest
from lang import kernels

import tilec as tc
from tilec.compile import engine
from tilec.cpu import cpu_source
from tilec.ir.packing import Plain
from tilec.ir.stream import Stream

NOT_A_FORMAT: Any = tc.f16
torch = pytest.importorskip("torch")


@tc.kernel
def scaled(w: tc.Tensor["N", "K"], y: tc.Tensor["N", "K"], by: tc.f32):
    for n, k in tc.tiles("N", "K"):
        y[n, k] = w[n, k] * by


@tc.kernel
def overwritten(w: tc.Tensor["N", "K"]):
    for n, k in tc.tiles("N", "K"):
        w[n, k] = w[n, k] * 2.0


@tc.kernel
def reversed_product(w: tc.Tensor["N", "K"], x: tc.Tensor["M", "K"], y: tc.Tensor["N", "M"]):
    for n, m in tc.tiles("N", "M"):
        acc = tc.zeros((n, m), tc.f32)
        for k in tc.tiles("K"):
            acc += tc.dot(w[n, k], x[m, k].T)
        y[n, m] = acc


def weight(n=48, k=96):
    return np.random.default_rng(0).standard_normal((n, k)).astype(np.float32)


def test_torch_in_and_out():
    """bf16 activations, a weight from torch, and a result in bf16, all through DLPack."""
    w = tc.quantize(torch.from_numpy(weight()).to(torch.bfloat16), tc.int8(group=32))
    x = torch.randn(5, 96, dtype=torch.bfloat16, generator=torch.Generator().manual_seed(1))
    y = torch.full((5, 48), float("nan"))
    kernels.linear(x, w, y)
    want = x.double() @ torch.from_numpy(w.dequantize()).double().T
    assert (y - want).norm() < 1e-6 * want.norm()
    assert np.linalg.norm(w.dequantize() - weight()) < 0.02 * np.linalg.norm(weight())


def test_what_a_packed_tensor_says():
    w = tc.quantize(weight(64, 256), tc.int4(group=64))
    assert (w.shape, str(w.format), w.layout) == ((64, 256), "int4<group=64, scale=f16>", Stream())
    assert w.nbytes == 64 * 256 // 2 + 64 * 4 * 2
    assert w.bits_per_weight == 4.25
    assert repr(w) == "PackedTensor(int4<group=64, scale=f16>[64, 256], stream, 8704 bytes)"
    plain = w.relayout(Plain())
    assert plain.nbytes == w.nbytes
    assert np.array_equal(plain.dequantize(), w.dequantize())
    with pytest.raises(tc.TileError, match="a stream holds a matrix of a scaled format"):
        tc.quantize(np.ones((2, 3, 4)), tc.int4(), layout=Stream())


def test_each_layout_has_code_of_its_own():
    """One kernel, called in turn with both layouts and with two shapes of one format."""
    x = np.random.default_rng(2).standard_normal((3, 96)).astype(np.float32)
    tensors = [tc.quantize(weight(), tc.int4(group=32)), tc.quantize(weight(50), tc.int4(group=32))]
    tensors += [t.relayout(Plain()) for t in tensors]
    for w in tensors * 2:
        y = np.full((3, w.shape[0]), np.nan, np.float32)
        kernels.linear(x, w, y)
        assert np.linalg.norm(y - x @ w.dequantize().T) < 1e-5 * np.linalg.norm(y)


def test_a_packed_tensor_keeps_its_memory():
    y = np.empty((48, 96), np.float32)
    made = [tc.quantize(weight() + i, tc.uint3(group=32)) for i in range(8)]
    wants = [t.dequantize() for t in made]
    gc.collect()
    for t, want in zip(made, wants, strict=True):
        scaled(t, y, 1.0)
        assert np.array_equal(y, want)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda w, x, y: kernels.linear(x, w, y[:, :40].copy()),
            "dimension N of `y` is 40, but `w` has",
        ),
        (lambda w, x, y: kernels.linear(x[:, :90].copy(), w, y), "dimension K of `w` is 96, but"),
        (lambda w, x, y: kernels.linear(x, x, w), "dimension M of `y` is 48, but `x` has M = 3"),
        (lambda w, x, y: kernels.linear(x, w), "linear takes 3 arguments, not 2"),
        (lambda w, x, y: overwritten(w), "is not dense; only dense tensors are written"),
        (lambda w, x, y: scaled(x, y, w), "scaled"),
    ],
)
def test_wrong_calls(call, message):
    w = tc.quantize(weight(), tc.int4(group=32))
    x, y = np.ones((3, 96), np.float32), np.ones((3, 48), np.float32)
    with pytest.raises(tc.TileError) as e:
        call(w, x, y)
    assert message in str(e.value)
    assert (y == 1).all()


def test_read_only_arrays_are_not_written():
    x, y = np.ones((3, 96), np.float32), np.ones((3, 48), np.float32)
    w = tc.quantize(weight(), tc.int4(group=32))
    x.flags.writeable = False
    kernels.linear(x, w, y)
    before = y.copy()
    y.flags.writeable = False
    with pytest.raises(tc.TileError, match="`y` is written, but the array is read-only"):
        kernels.linear(x, w, y)
    assert np.array_equal(y, before)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (lambda: tc.quantize(weight(), NOT_A_FORMAT), "expected a format such as int4"),
        (lambda: tc.quantize(["a"], tc.int4()), "expected an array of numbers, not list"),
        (lambda: tc.quantize(np.ones((0, 4)), tc.int4()), "expected a tensor with elements"),
        (lambda: tc.quantize(3.0, tc.int4()), "expected a tensor with elements"),
        (lambda: tc.quantize(weight() * np.nan, tc.int4()), "not finite"),
        (lambda: tc.int4(group=-1), "a group has at least 1 element, not -1"),
        (
            lambda: tc.int4(scale=tc.i8),
            "a scale is f16, bf16, f32, e8m0 or a scaled format, not i8",
        ),
    ],
)
def test_bad_requests(bad, message):
    with pytest.raises(tc.TileError) as e:
        bad()
    assert message in str(e.value)


def remarks(kernel, w, types, dims):
    source = cpu_source(kernel.definition, types, dims, engine(), {"w": w.layout})
    return [(r.origin, r.message, r.missing, r.loc and r.loc.text.strip()) for r in source.remarks]


def test_remarks_say_what_was_missed_and_where():
    w = tc.quantize(weight(), tc.int4(group=24))
    types = {"x": tc.f32, "w": w.format, "y": tc.f32}
    dims = {"M": 3, "N": 48, "K": 96}
    line = "acc += tc.dot(x[m, k], w[n, k].T)"
    hoisted = "`w` (int4<group=24, scale=f16>): codes in f32, the scale on the accumulator"
    assert remarks(kernels.linear, w, types, dims) == [("lower-formats", hoisted, "", line)]
    missing = "a stream, the layout of CPU code: relayout(Stream())"
    assert remarks(kernels.linear, w.relayout(Plain()), types, dims)[1:] == [
        ("cpu", "the codes of `w.codes` are read one by one", missing, line)
    ]
    missing = "k along its rows: it is the first operand as it lies; write dot(x, w.T)"
    assert remarks(reversed_product, w, types, dims) == [
        ("lower-formats", "`w` is decoded element by element", missing,
         "acc += tc.dot(w[n, k], x[m, k].T)")
    ]  # fmt: skip
    half = types | {"x": tc.f16}
    assert "products of f16 are computed in f32" in [
        message for _, message, _, _ in remarks(kernels.linear, w, half, dims)
    ]
