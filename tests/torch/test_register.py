"""Programs and kernels as operators: eager, in graphs, with gradients, and on quantised weights."""

# pyright: basic, reportInvalidTypeForm=false, reportCallIssue=false

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

import tilec as tc
from tilec.torch import QuantizedTensor, register


@tc.program
def gated(x: tc.Tensor["M", "K"], w: tc.Tensor["N", "K"], gain: tc.Tensor["N"], scale: tc.f32):
    """Two results, one of another dtype."""
    h = x @ w.T * scale
    return tc.silu(h) * gain, tc.sum(h, axis=1).to(tc.f16)


@tc.kernel
def add(x: tc.Tensor["M", "N"], y: tc.Tensor["M", "N"]):
    for m, n in tc.tiles("M", "N"):
        y[m, n] = y[m, n] + x[m, n]


@tc.program
def softmax(x: tc.Tensor["M", "N"]):
    return tc.softmax(x)


OPERATORS: dict[str, Callable[..., Any]] = {
    "gated": register(gated),
    "add": register(add, "add_to", writes=("y",)),
    "softmax": register(softmax, "softmax_rows"),
}


@pytest.fixture(autouse=True)
def fresh() -> None:
    torch._dynamo.reset()


def reference(x: Tensor, w: Tensor, gain: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    h = x @ w.T * scale
    return torch.nn.functional.silu(h) * gain, h.sum(1).half()


def given(m: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(m)
    return tuple(torch.randn(*s, generator=rng) for s in ((m, 32), (16, 32), (16,)))  # type: ignore[return-value]


def compiled(f: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(f, fullgraph=True, backend="aot_eager", dynamic=True)


def test_a_program() -> None:
    op = OPERATORS["gated"]
    for f in (op, compiled(lambda *args: op(*args))):
        for m in (5, 9):
            for a, b in zip(f(*given(m), 0.5), reference(*given(m), 0.5), strict=True):
                torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_a_program_of_a_quantised_weight() -> None:
    x, w, gain = given()
    q = QuantizedTensor.of(tc.quantize(w, "int4<group=16>"))
    wanted = reference(x, q.dequantize(), gain, 2.0)
    for f in (OPERATORS["gated"], compiled(lambda *args: OPERATORS["gated"](*args))):
        for a, b in zip(f(x, q, gain, 2.0), wanted, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
    with pytest.raises(tc.TileError, match="is transposed"):
        OPERATORS["gated"](x, q.T, gain, 2.0)


def test_gradients() -> None:
    op = OPERATORS["gated"]
    found = []
    for f in (reference, op, compiled(lambda *args: op(*args))):
        leaves = [t.requires_grad_() for t in given()]
        y, total = f(*leaves, 0.5)
        (y.square().sum() + total.float().sum()).backward()
        found.append([t.grad for t in leaves])
    for other in found[1:]:
        for a, b in zip(other, found[0], strict=True):
            torch.testing.assert_close(a, b, rtol=2e-3, atol=1e-3)


def test_gradients_of_some() -> None:
    op = compiled(lambda *args: OPERATORS["gated"](*args))
    x, w, gain = given()
    w.requires_grad_()
    op(x, w, gain, 0.5)[0].sum().backward()
    mine, w.grad = w.grad, None
    reference(x, w, gain, 0.5)[0].sum().backward()
    torch.testing.assert_close(mine, w.grad, rtol=1e-3, atol=1e-4)


def test_a_kernel_that_writes() -> None:
    def twice(x: Tensor, y: Tensor) -> Tensor:
        OPERATORS["add"](x, y)
        OPERATORS["add"](x, y)
        return y * 2

    for f in (twice, compiled(twice)):
        x, y = torch.randn(3, 7), torch.ones(3, 7)
        torch.testing.assert_close(f(x, y), 2 * (1 + 2 * x))
        torch.testing.assert_close(y, 1 + 2 * x)


def test_operators_hold_to_what_torch_asks_of_them() -> None:
    checks = ("test_schema", "test_faketensor", "test_aot_dispatch_dynamic")
    leaves = tuple(t.requires_grad_() for t in given())
    torch.library.opcheck(torch.ops.tilec.softmax_rows.default, (leaves[0], ""), test_utils=checks)
    torch.library.opcheck(torch.ops.tilec.add_to.default, (torch.ones(2, 3), torch.ones(2, 3), ""),
                          test_utils=checks)  # fmt: skip


def test_what_is_refused() -> None:
    with pytest.raises(tc.TileError, match=r"torch.ops.tilec.gated is there already"):
        register(gated)
    with pytest.raises(tc.TileError, match=r"add needs the names of the tensors that it writes, of "
                       r"x, y; not \['z'\]"):  # fmt: skip
        register(add, "other_add", writes=("z",))
    with pytest.raises(tc.TileError, match="gated takes 4 arguments, not 1"):
        OPERATORS["gated"](torch.ones(2, 2))
    wrong = register(add, "wrong_add", writes=("x",))
    with FakeTensorMode(), pytest.raises(tc.TileError, match="wrong_add writes y; it is registered "
                                         "as writing x"):  # fmt: skip
        wrong(torch.ones(2, 2), torch.ones(2, 2))
    x, w, gain = given()
    with pytest.raises(tc.TileError, match="dimension K of `w` is 16"):
        OPERATORS["gated"](x, w[:, :16].contiguous(), gain, 1.0)
