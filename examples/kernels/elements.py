"""Element by element: dropout, SwiGLU, rotary positions, a step of Adam."""

# A dtype is an object, and annotates a number here.
# pyright: reportInvalidTypeForm=false

import tilec as tc


@tc.kernel
def dropout(x: tc.Tensor["N"], y: tc.Tensor["N"], p: tc.f32, seed: tc.u32):
    """y = x / (1 - p) where a random number from 0 to 1 is at least p, else 0"""
    for n in tc.tiles("N"):
        kept = tc.random_bits(seed, n.index).to(tc.f32) * 2.0**-32 >= p
        y[n] = tc.where(kept, x[n] / (1.0 - p), 0.0)


@tc.kernel
def swiglu(a: tc.Tensor["M", "N"], b: tc.Tensor["M", "N"], y: tc.Tensor["M", "N"]):
    """y = a * sigmoid(a) * b (Shazeer 2020)"""
    for m, n in tc.tiles("M", "N"):
        gate = a[m, n].to(tc.f32)
        y[m, n] = gate / (1.0 + tc.exp(-gate)) * b[m, n]


@tc.kernel
def rotary(
    x: tc.Tensor["T", "H", 2, "D"], cos: tc.Tensor["T", "D"], sin: tc.Tensor["T", "D"],
    y: tc.Tensor["T", "H", 2, "D"],
):  # fmt: skip
    """The halves of each head turned by the angles of a position (Su et al. 2021)."""
    for t in tc.tiles("T", block=1):
        i = t.start
        a = x[i, :, 0, :]
        b = x[i, :, 1, :]
        y[i, :, 0, :] = a * cos[i, :] - b * sin[i, :]
        y[i, :, 1, :] = b * cos[i, :] + a * sin[i, :]


@tc.kernel
def adam(
    w: tc.Tensor["N"], grad: tc.Tensor["N"], m: tc.Tensor["N"], v: tc.Tensor["N"],
    rate: tc.f32, beta1: tc.f32, beta2: tc.f32, bias1: tc.f32, bias2: tc.f32, eps: tc.f32,
    decay: tc.f32,
):  # fmt: skip
    """A step of Adam with decoupled weight decay (Loshchilov, Hutter 2019), in place; the bias of
    step i is 1 - beta ** i"""
    for n in tc.tiles("N"):
        g = grad[n].to(tc.f32)
        first = beta1 * m[n] + (1.0 - beta1) * g
        second = beta2 * v[n] + (1.0 - beta2) * g * g
        m[n] = first
        v[n] = second
        change = first / bias1 / (tc.sqrt(second / bias2) + eps)
        w[n] = w[n] * (1.0 - rate * decay) - rate * change
