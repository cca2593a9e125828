"""QuantizedTensor: products, rows, values, views, copies and gradients, beside dense weights."""

# What a module has under a name may be a tensor or a module.
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false, reportArgumentType=false

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import tilec as tc
from tilec.torch import QuantizedTensor
from tilec.torch.form import form_of

BY_ROW = ("int4<group=64>", "uint3<group=32, zero=int>", "int8", "nvfp4", "e4m3<channel>")
FORMATS = (*BY_ROW, "plus<lowrank<4>, int4<group=64>>", "nm<2, 4, f16>", "bitmap<f16, 4096>",
           "codebook<4, rows=1>")  # fmt: skip


def weight(
    format: str = "int4<group=64>", n: int = 96, k: int = 128
) -> tuple[QuantizedTensor, Tensor]:
    rng = np.random.default_rng(n + k)
    w = rng.standard_normal((n, k)).astype(np.float32)
    if format.startswith("bitmap"):
        w[rng.random((n, k)) > 0.3] = 0
    packed = tc.quantize(w, format)
    return QuantizedTensor.of(packed), torch.from_numpy(packed.dequantize())


def close(a: Tensor, b: Tensor, bound: float = 1e-5) -> None:
    assert a.shape == b.shape
    assert (a.double() - b.double()).norm() <= bound * b.double().norm()


def x(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("format", FORMATS)
def test_a_weight_in_any_format(format: str) -> None:
    q, w = weight(format)
    assert q.shape == w.shape
    close(q.dequantize(), w, 0 if format in BY_ROW else 1e-7)  # a sum is rounded once more
    assert torch.equal(torch.from_numpy(q.packed().dequantize()), w)
    assert str(form_of(q.form)) == q.form
    close(functional.linear(x(5, 128), q), x(5, 128) @ w.T)
    close(x(5, 96) @ q, x(5, 96) @ w)


@pytest.mark.parametrize("format", BY_ROW)
def test_rows(format: str) -> None:
    q, w = weight(format)
    ids = torch.tensor([[0, 95], [7, 7]])
    assert torch.equal(functional.embedding(ids, q), w[ids])
    assert functional.embedding(ids[:0], q).shape == (0, 2, 128)


def test_arrays_lie_on_lines_with_one_to_read_beyond() -> None:
    form = form_of("e2m1<group=16, scale=e4m3<tensor, scale=f32>>[96, 128] stream 12800 4")
    assert form.offsets == (0, 12864)
    assert form.nbytes == 12864 + 128
    q, _ = weight("nvfp4")
    assert len(form_of(q.form).offsets) == 2
    assert q.stored.nbytes == form_of(q.form).nbytes
    assert q.stored.data_ptr() % 64 == 0


def test_products() -> None:
    q, w = weight()
    bias = x(96)
    close(functional.linear(x(2, 3, 128), q, bias), functional.linear(x(2, 3, 128), w, bias))
    close(functional.linear(x(128), q), functional.linear(x(128), w))
    close(x(2, 3, 128) @ q.T, x(2, 3, 128) @ w.T)
    close(x(2, 3, 128) @ q.t(), x(2, 3, 128) @ w.T)
    close(x(7, 96) @ q, x(7, 96) @ w)
    close(q @ x(128, 7), w @ x(128, 7))
    close(torch.addmm(bias, x(7, 128), q.transpose(0, 1)), torch.addmm(bias, x(7, 128), w.T))
    turned = x(128, 9).T  # not contiguous
    close(functional.linear(turned, q), turned @ w.T)
    assert functional.linear(torch.empty(0, 128), q).shape == (0, 96)
    half = functional.linear(x(5, 128).bfloat16(), q)
    assert half.dtype == torch.bfloat16
    close(half, x(5, 128) @ w.T, 1e-2)


def test_what_has_no_meaning_is_refused() -> None:
    q, _ = weight()
    with pytest.raises(TypeError, match=r"aten.add.Tensor has no meaning.*\.dequantize\(\)"):
        torch.add(q, q)
    with pytest.raises(tc.TileError, match=r"x is float32\[5, 96\], expected \[..., 128\]"):
        functional.linear(x(5, 96), q)
    with pytest.raises(tc.TileError, match=r"x is float32\[\], expected \[..., 128\]"):
        functional.linear(torch.tensor(1.0), q)
    with pytest.raises(
        tc.TileError, match=r"x is int64\[128\], expected .* of float32, float16 or"
    ):
        functional.linear(torch.arange(128), q)
    with pytest.raises(tc.TileError, match="dimension N of `bias` is 95"):
        functional.linear(x(5, 128), q, x(95))
    with pytest.raises(IndexError, match="ids are 0 to 96, expected 0 to 95"):
        functional.embedding(torch.tensor([0, 96]), q)
    with pytest.raises(TypeError, match="stands for floats"):
        q.to(torch.int32)
    with pytest.raises(tc.TileError, match="bf16 stores every element as itself"):
        QuantizedTensor.of(tc.quantize(x(4, 4), "bf16"))
    with pytest.raises(tc.TileError, match="is a matrix, not PackedTensor"):
        QuantizedTensor.of(tc.quantize(x(4, 4, 4), "int8"))
    with pytest.raises(tc.TileError, match="expected a form"):
        form_of("int4[3]")


def test_copies() -> None:
    q, w = weight()
    other = q.clone()
    assert other.stored.data_ptr() != q.stored.data_ptr()
    assert torch.equal(other.dequantize(), w)
    assert q.detach().stored.data_ptr() == q.stored.data_ptr()
    assert q.to(torch.bfloat16).dequantize().dtype == torch.bfloat16
    other.stored.zero_()
    other.copy_(q)
    assert torch.equal(other.dequantize(), w)
    with pytest.raises(
        TypeError, match=r"takes what is quantised alike, not torch.float32\[96, 128\]"
    ):
        other.copy_(w)
    with pytest.raises(TypeError, match="can't take"):
        other.copy_(weight("int8")[0])


def test_gradients() -> None:
    q, w = weight()
    for act in (functional.linear, lambda x, w, bias: x[:, :, :96] @ w):
        got, grads = [], []
        for v in (q, w):
            at, bias = x(2, 3, 128).requires_grad_(), x(96).requires_grad_()
            y = act(at, v, bias)
            y.square().sum().backward()
            got.append(y.detach())
            grads.append([t.grad for t in (at, bias) if t.grad is not None])
        close(*got)
        assert len(grads[0]) == len(grads[1])
        for a, b in zip(*grads, strict=True):
            close(a, b)


def test_a_gradient_of_a_gradient() -> None:
    q, w = weight()
    found = []
    for v in (q, w):
        at = x(3, 128).requires_grad_()
        (dx,) = torch.autograd.grad(functional.linear(at, v).pow(3).sum(), at, create_graph=True)
        dx.square().sum().backward()
        found.append(at.grad)
    close(*found, 1e-4)


def test_vmap() -> None:
    q, w = weight()
    at = x(4, 3, 128)
    close(torch.func.vmap(lambda x: functional.linear(x, q))(at), at @ w.T)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_results_have_the_dtype_of_x(dtype: torch.dtype) -> None:
    q, w = weight()
    for y in (functional.linear(x(5, 128).to(dtype), q, x(96)), x(5, 128).to(dtype) @ q.T + x(96)):
        close(y, x(5, 128) @ w.T + x(96), 1e-2 if dtype.itemsize == 2 else 1e-5)
    assert functional.linear(x(5, 128).to(dtype), q).dtype == dtype


def test_autocast() -> None:
    q, w = weight()
    with torch.autocast("cpu", torch.bfloat16):
        for y in (functional.linear(x(5, 128), q), x(5, 128) @ q.T):
            assert y.dtype == torch.bfloat16
            close(y, x(5, 128) @ w.T, 1e-2)
        assert functional.linear(x(5, 128).half(), q).dtype == torch.float16


def test_many_rows() -> None:
    q, w = weight()
    for m in (1, 17, 128, 300, 1200):
        close(functional.linear(x(m, 128), q), x(m, 128) @ w.T)
        close(x(m, 96) @ q, x(m, 96) @ w)
        ids = torch.arange(m) % 96
        assert torch.equal(functional.embedding(ids, q), w[ids])


def test_a_divisor_of_the_inputs() -> None:
    q, w = weight()
    scale = torch.rand(128) + 0.5
    q = QuantizedTensor(q.stored, q.form, q.dtype, scale)
    w = w / scale
    assert torch.equal(q.dequantize(), w)
    close(functional.linear(x(5, 128), q), x(5, 128) @ w.T)
    close(x(5, 96) @ q, x(5, 96) @ w)
    assert torch.equal(functional.embedding(torch.tensor([3]), q), w[[3]])
    assert torch.equal(q.clone().T.dequantize(), w.T)


def test_operators_hold_to_what_torch_asks_of_them() -> None:
    q, _ = weight()
    checks = ("test_schema", "test_faketensor", "test_aot_dispatch_dynamic")
    at, bias = x(5, 128).requires_grad_(), x(96).requires_grad_()
    ids = torch.tensor([1, 5])
    for op, args in (
        (torch.ops.tilec.linear.default, (at, q.stored, bias, q.form)),
        (torch.ops.tilec.transposed.default, (x(5, 96).requires_grad_(), q.stored, q.form)),
        (torch.ops.tilec.embedding.default, (ids, q.stored, q.form, torch.float32)),
        (torch.ops.tilec.dequantize.default, (q.stored, q.form, torch.float32)),
    ):
        torch.library.opcheck(op, args, test_utils=checks)


def test_a_parameter() -> None:
    q, w = weight()
    layer = nn.Linear(128, 96)
    layer.weight = nn.Parameter(q, requires_grad=False)
    assert isinstance(layer.weight, QuantizedTensor)
    close(layer(x(3, 128)), functional.linear(x(3, 128), w, layer.bias))
    layer.to(torch.bfloat16)
    assert layer.weight.dtype == torch.bfloat16
    assert layer(x(3, 128).bfloat16()).dtype == torch.bfloat16
