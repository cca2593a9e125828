"""What models are made of, as expressions of whole tensors, beside the same in torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gradients import Case, assert_differences
from torch import Tensor
from torch.nn import functional

from tilec.ir.verify import verify
from tilec.passes.gradient import gradient

ACTIVATIONS: dict[str, tuple[str, Callable[[Tensor], Tensor]]] = {
    "none": ("x", lambda x: x),
    "relu": ("maximum(x, 0.0)", functional.relu),
    "square": ("maximum(x, 0.0) ** 2", lambda x: functional.relu(x) ** 2),
    "leaky": ("where(x > 0.0, x, x * 0.1)", lambda x: functional.leaky_relu(x, 0.1)),
    "sigmoid": ("1.0 / (1.0 + exp(-x))", torch.sigmoid),
    "silu": ("x / (1.0 + exp(-x))", functional.silu),
    "gelu": ("x * 0.5 * (1.0 + erf(x * 0.7071067811865476))", functional.gelu),
    "gelu_tanh": (
        "0.5 * x * (1.0 + tanh(0.7978845608028654 * (x + 0.044715 * x ** 3)))",
        lambda x: functional.gelu(x, approximate="tanh"),
    ),
    "tanh": ("tanh(x)", torch.tanh),
    "softplus": ("log(1.0 + exp(x))", functional.softplus),
    "clamped": ("minimum(maximum(x, -0.5), 0.5)", lambda x: x.clamp(-0.5, 0.5)),
    "soft_cap": ("5.0 * tanh(x / 5.0)", lambda x: 5 * torch.tanh(x / 5)),
}  # fmt: skip

LINEAR = """
fn act(x) {{ return {} }}
kernel linear(x: f64[M, K], w: f64[N, K], b: f64[N], y: f64[M, N]) {{
  y[:, :] = act(dot(x[:, :], w[:, :].T) + b[:])
}}
"""

SOFTMAX = """
fn softmax(x) {
  e = exp(x - max(x, axis=1, keepdims=true))
  return e / sum(e, axis=1, keepdims=true)
}
"""

RMS_NORM = """
kernel rms_norm(x: f64[M, N], g: f64[N], y: f64[M, N]) {
  a = x[:, :]
  mean = sum(a * a, axis=1, keepdims=true) / cast(size(N), f64)
  y[:, :] = a * rsqrt(mean + 1e-5) * g[:]
}
"""

LAYER_NORM = """
kernel layer_norm(x: f64[M, N], g: f64[N], b: f64[N], y: f64[M, N]) {
  a = x[:, :]
  n = cast(size(N), f64)
  a = a - sum(a, axis=1, keepdims=true) / n
  spread = sum(a * a, axis=1, keepdims=true) / n
  y[:, :] = a * rsqrt(spread + 1e-5) * g[:] + b[:]
}
"""

ATTENTION = """
kernel attention(q: f64[N, D], k: f64[M, D], v: f64[M, E], y: f64[N, E]) {
  s = dot(q[:, :], k[:, :].T) * 0.5
  i = arange(N)[:, none]
  j = arange(M)[none, :]
  y[:, :] = dot(softmax(MASKED), v[:, :])
}
"""

MASKS: dict[str, tuple[str, Callable[[Any, Any], Any]]] = {
    "full": ("s", lambda i, j: i >= -1 + 0 * j),
    "causal": ("where(j <= i, s, -inf)", lambda i, j: j <= i),
    "window": ("where((j <= i) & (i - j < 3), s, -inf)", lambda i, j: (j <= i) & (i - j < 3)),
}

CROSS_ENTROPY = """
kernel cross_entropy(x: f64[M, K], w: f64[N, K], t: i32[M], y: f64[M], yl: f64[M]) {
  z = dot(x[:, :], w[:, :].T)
  m = max(z, axis=1)
  lse = m + log(sum(exp(z - m[:, none]), axis=1))
  there = arange(N)[none, :] == t[:][:, none]
  y[:] = lse - sum(where(there, z, 0.0), axis=1)
  yl[:] = lse
}
"""

SWIGLU = """
kernel mlp(x: f64[M, K], g: f64[N, K], u: f64[N, K], d: f64[K, N], y: f64[M, K]) {
  a = x[:, :]
  h = dot(a, g[:, :].T)
  y[:, :] = a + dot(h / (1.0 + exp(-h)) * dot(a, u[:, :].T), d[:, :].T)
}
"""

GQA = """
func @gqa(%q: *f64[4, N, D], %k: *f64[2, M, D], %v: *f64[2, M, D], %y: *f64[4, N, D]) {
  %n = whole {dim = N} : span[N, N]
  %d = whole {dim = D} : span[D, D]
  %m = whole {dim = M} : span[M, M]
  %h = whole {dim = 4} : span[4, 4]
  %i = iota {size = 4} : i32[4]
  %two = full {shape = [4], value = 2, dtype = i32} : i32[4]
  %g = floordiv %i, %two : i32[4]
  %a = load %q, [%h, %n, %d] : f64[4, N, D]
  %b = load %k, [%g, %m, %d] : f64[4, M, D]
  %c = load %v, [%g, %m, %d] : f64[4, M, D]
  %t = transpose %b {order = [0, 2, 1]} : f64[4, D, M]
  %z = full {shape = [4, N, M], value = 0, dtype = f64} : f64[4, N, M]
  %s = dot %a, %t, %z : f64[4, N, M]
  %x = max %s {axis = 2} : f64[4, N]
  %x1 = reshape %x {shape = [4, N, 1]} : f64[4, N, 1]
  %x2 = broadcast %x1 {shape = [4, N, M]} : f64[4, N, M]
  %s1 = sub %s, %x2 : f64[4, N, M]
  %e = exp %s1 : f64[4, N, M]
  %l = sum %e {axis = 2} : f64[4, N]
  %o = full {shape = [4, N, D], value = 0, dtype = f64} : f64[4, N, D]
  %u = dot %e, %c, %o : f64[4, N, D]
  %l1 = reshape %l {shape = [4, N, 1]} : f64[4, N, 1]
  %l2 = broadcast %l1 {shape = [4, N, D]} : f64[4, N, D]
  %r = div %u, %l2 : f64[4, N, D]
  store %y, [%h, %n, %d], %r
}
"""


LIBRARY: dict[str, tuple[str, Callable[..., Tensor]]] = {
    "sigmoid": ("sigmoid(x)", lambda x, g, b, t: torch.sigmoid(x)),
    "silu": ("silu(x)", lambda x, g, b, t: functional.silu(x)),
    "relu": ("relu(x)", lambda x, g, b, t: torch.relu(x)),
    "softplus": ("softplus(x)", lambda x, g, b, t: functional.softplus(x)),
    "gelu": ("gelu(x)", lambda x, g, b, t: functional.gelu(x)),
    "gelu_tanh": ("gelu_tanh(x)", lambda x, g, b, t: functional.gelu(x, approximate="tanh")),
    "swiglu": ("swiglu(x, x * g)", lambda x, g, b, t: functional.silu(x) * x * g),
    "soft_cap": ("soft_cap(x, 2.0)", lambda x, g, b, t: 2 * torch.tanh(x / 2)),
    "mean": ("mean(x, axis=0) * g", lambda x, g, b, t: x.mean(0) * g),
    "softmax": ("softmax(x, axis=0)", lambda x, g, b, t: torch.softmax(x, 0)),
    "log_sum_exp": ("log_sum_exp(x)", lambda x, g, b, t: torch.logsumexp(x, 1)),
    "log_softmax": ("log_softmax(x)", lambda x, g, b, t: torch.log_softmax(x, 1)),
    "rms_norm": ("rms_norm(x, g)", lambda x, g, b, t: functional.rms_norm(x, (5,), g, 1e-6)),
    "layer_norm": ("layer_norm(x, g, b)", lambda x, g, b, t: functional.layer_norm(x, (5,), g, b)),
    "cross_entropy": (
        "cross_entropy(x, t)",
        lambda x, g, b, t: functional.cross_entropy(x, t, reduction="none"),
    ),
    "einsum": ('einsum("mn,kn->mk", x, x) + sum(b)', lambda x, g, b, t: x @ x.mT + b.sum()),
}


def against_torch(c: Case, forward: Callable[..., Any]) -> None:
    """The gradients are autograd's, in doubles; 0 of what it does not reach."""
    names = c.floats()
    tensors = {n: torch.tensor(a, requires_grad=n in names) for n, a in c.inputs.items()}
    results = forward(**tensors)
    results = results if isinstance(results, tuple) else (results,)
    for want, found in zip(results, c.forward().values(), strict=True):
        np.testing.assert_allclose(found, want.detach().numpy(), rtol=1e-12, atol=1e-12)
    loss = sum(
        (r * torch.tensor(s)).sum() for r, s in zip(results, c.seeds().values(), strict=True)
    )
    assert isinstance(loss, Tensor)
    loss.backward()  # type: ignore[no-untyped-call]
    func = gradient(c.func, by="+".join(names))
    verify(func)
    for name, found in c.gradients(func).items():
        grad = tensors[name].grad
        want = np.zeros_like(found) if grad is None else grad.numpy()
        np.testing.assert_allclose(found, want, rtol=1e-10, atol=1e-12, err_msg=name)
    assert_differences(c)
