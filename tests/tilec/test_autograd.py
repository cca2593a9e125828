"""Programs in torch's autograd: by differences in doubles, beside torch, and what is refused."""

# The names in a program have types of the language; torch's functions are untyped.
# pyright: basic, reportInvalidTypeForm=false

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from trained import CASES, Trained, integers

import tilec as tc
from tilec.ops import dense_attention, linear, norm
from tilec.program import Program

SLOW = pytest.mark.slow
QUICK = ("causal", "embedded", "linear_cross_entropy", "rms")
IN_DOUBLES = [n for n in CASES if n != "added_rms"]  # that one adds in f32
NEAR = {torch.float32: 2.0**-20, torch.float16: 2.0**-9, torch.bfloat16: 2.0**-6}  # of norms


@tc.kernel
def doubled(x: tc.Tensor["M"], y: tc.Tensor["M"]):
    for m in tc.tiles("M"):
        y[m] = x[m] + x[m]


@tc.program
def by_a_kernel(x: tc.Tensor["M"]):
    y = tc.empty("M", tc.f32)
    doubled(x, y)
    return y * 3.0


@tc.program
def least(x: tc.Tensor["M", "N"]):
    return tc.sum(x, axis=1), tc.argmax(x, axis=1)


@tc.program
def scaled(x: tc.Tensor["M"], y: tc.Tensor["M"]):
    y[...] = x * 2.0


@tc.program
def highest_so_far(x: tc.Tensor["M", "N"]):
    return tc.cummax(x, axis=1)


def fresh(case: Trained) -> Program:
    """The program with nothing compiled."""
    return Program(case.program.definition)


def close(found: torch.Tensor | None, want: torch.Tensor | None, near: float) -> None:
    assert found is not None
    assert want is not None
    assert torch.linalg.norm(found.double() - want) <= near * torch.linalg.norm(want)


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=SLOW)
                                  for n in IN_DOUBLES])  # fmt: skip
def test_differences_in_doubles(name):
    case = CASES[name]
    assert torch.autograd.gradcheck(case.program, case.arguments(), nondet_tol=1e-12)


def test_a_residual_that_is_added_in_single_precision():
    x, y, gain = (torch.randn(s, requires_grad=True) for s in ((3, 5), (3, 5), (5,)))
    ours = norm.added_rms(x, y, gain, 2.0**-7)
    a, b, g = (t.detach().double().requires_grad_() for t in (x, y, gain))
    total = a + b
    theirs = total, total * torch.rsqrt((total * total).mean(-1, keepdim=True) + 2.0**-7) * g
    seeds = [torch.randn(3, 5) for _ in ours]
    torch.autograd.backward(ours, seeds)
    torch.autograd.backward(theirs, [s.double() for s in seeds])
    for found, want in zip((x, y, gain), (a, b, g), strict=True):
        close(found.grad, want.grad, 1e-6)


def attended(q, k, v, scale: float):
    """What `causal` is."""
    seen = torch.arange(k.shape[2]) <= torch.arange(q.shape[3])[:, None] + k.shape[2] - q.shape[3]
    scores = torch.einsum("bghmd,bgnd->bghmn", q, k) * scale
    p = torch.softmax(scores.masked_fill(~seen, -math.inf), -1)
    return torch.einsum("bghmn,bgne->bghme", p, v)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16,
                                   pytest.param(torch.float16, marks=SLOW)])  # fmt: skip
def test_attention_between_other_layers(dtype):
    torch.manual_seed(1)
    x = [torch.randn(s).to(dtype) for s in ((2, 2, 3, 37, 16), (2, 2, 45, 16), (2, 2, 45, 16))]
    ours = [torch.nn.Parameter(t) for t in x]
    exact = [t.double().requires_grad_() for t in x]
    y = dense_attention.causal(ours[0] * 2, ours[1], scale=0.25, v=ours[2]) * 3
    want = attended(exact[0] * 2, exact[1], exact[2], 0.25) * 3
    close(y.detach(), want.detach(), NEAR[dtype])
    y.sum().backward()  # one gradient for all elements: not contiguous
    want.sum().backward()
    for a, b in zip(ours, exact, strict=True):
        close(a.grad, b.grad, NEAR[dtype])


def test_quantised_weights_have_no_gradient():
    torch.manual_seed(2)
    w = torch.randn(24, 64)
    packed = tc.quantize(w.numpy(), "int4<group=32>")
    x, a, b = (torch.randn(*s, requires_grad=True) for s in ((5, 64), (4, 64), (24, 4)))
    y = linear.low_rank(x, packed, a, b, 0.5)
    d = torch.randn_like(y)
    y.backward(d)
    exact = [t.detach().double().requires_grad_() for t in (x, a, b)]
    dense = torch.from_numpy(packed.dequantize()).double()
    (exact[0] @ dense.T + exact[0] @ exact[1].T @ exact[2].T * 0.5).backward(d.double())
    for found, want in zip((x, a, b), exact, strict=True):
        close(found.grad, want.grad, 1e-6)


def test_only_what_requires_gradients_has_one():
    case = CASES["affine"]
    x, w, bias = case.arguments(torch.float32)
    x.requires_grad_(False)
    y = case.program(x, w, bias)
    y.backward(torch.ones_like(y))
    assert x.grad is None
    close(bias.grad, torch.full((5,), 3.0).double(), 1e-7)
    close(w.grad, x.double().sum(0).expand(5, -1), 1e-6)


def test_whole_numbers_have_no_gradient():
    x = torch.randn(3, 4, requires_grad=True)
    total, place = least(x)
    assert total.requires_grad
    assert not place.requires_grad
    total.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, torch.ones(3, 4))


def test_nothing_is_recorded_unless_it_is_wanted():
    program = fresh(CASES["softmax"])
    x = torch.randn(3, 5, requires_grad=True)
    with torch.no_grad():
        assert not program(x).requires_grad
    assert not program(x.detach()).requires_grad
    assert not isinstance(program(x.detach().numpy()), torch.Tensor)
    assert program(x).requires_grad
    assert not program(x.detach()).requires_grad


def test_arrays_first_then_tensors_with_gradients():
    program = fresh(CASES["softmax"])
    x = torch.randn(3, 5, requires_grad=True)
    program(x.detach().numpy())
    assert program(x).requires_grad


def test_no_gradients_of_gradients():
    x = torch.randn(3, 5, requires_grad=True)
    (d,) = torch.autograd.grad(norm.softmax(x)[0, 0], x, create_graph=True)
    with pytest.raises(tc.TileError, match="softmax: gradients of gradients are not computed"):
        d.sum().backward()


def test_what_is_changed_before_its_gradient_is_taken():
    x = torch.randn(3, 5, requires_grad=True)
    z = x * 1
    y = norm.rms(z, torch.ones(5), 1e-3)
    z += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_what_has_no_gradient():
    x = torch.randn(4, requires_grad=True)
    with pytest.raises(tc.TileError, match=r"`x\.y` is read after a kernel") as kernel:
        by_a_kernel(x)
    assert "return y * 3.0" in str(kernel.value)
    with pytest.raises(tc.TileError, match="`cummax` has no derivative") as rows:
        highest_so_far(torch.randn(3, 4, requires_grad=True))
    assert "tc.cummax(x, axis=1)" in str(rows.value)
    with pytest.raises(tc.TileError, match="scaled writes `y`, which is given to it"):
        scaled(x, torch.empty(4))
    with pytest.raises(tc.TileError, match="results that are given by `out` have no gradients"):
        norm.softmax(torch.randn(3, 5, requires_grad=True), out=torch.empty(3, 5))


@SLOW
def test_learning():
    """A layer of a transformer learns to repeat; every step is a program forward and backward."""
    case = CASES["block"]
    x, *weights = case.arguments(torch.float32)
    with torch.no_grad():
        for w in weights:
            w /= 4
    x, want = x.detach(), torch.randn(5, 6)
    losses = []
    step = torch.optim.SGD(weights, 0.02)
    for _ in range(8):
        step.zero_grad()
        loss = (case.program(x, *weights) - want).square().mean()
        loss.backward()
        step.step()
        losses.append(loss.item())
    assert all(b < a for a, b in pairwise(losses))


def test_integers_that_index_are_taken_as_they_are():
    w, ids, gain = CASES["embedded"].arguments(torch.float32)
    assert ids.dtype == integers(0).dtype
    CASES["embedded"].program(w, ids, gain).sum().backward()
    assert w.grad is not None
    rows = w.grad.abs().sum(1)
    assert [i for i in range(5) if rows[i] == 0] == [1, 2]
