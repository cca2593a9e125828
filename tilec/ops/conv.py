"""Convolution: of dense images and sequences by index arithmetic, and of points in space."""

# The names in a kernel have types of the language; a dtype annotates a number.
# pyright: basic, reportInvalidTypeForm=false

import tilec as tc


@tc.kernel
def sparse_conv3d(
    x: tc.Tensor["X", "Y", "Z", "C"], at: tc.Tensor["N", 3, tc.i32],
    w: tc.Tensor[27, "D", "C"], y: tc.Tensor["N", "D"],
):  # fmt: skip
    """y[n] = sum(w[9 i + 3 j + k] @ x[at[n] + (i, j, k) - 1]) for i, j, k from 0 to 2.

    `x` is `hashed`: what is stored at no point is 0. Which output points there are is in `at`.
    """
    for n, d in tc.tiles("N", "D"):
        a = at[n, 0]
        b = at[n, 1]
        c = at[n, 2]
        acc = tc.zeros((n, d))
        for o in range(27):
            i = a + o // 9 - 1
            j = b + o // 3 % 3 - 1
            k = c + o % 3 - 1
            acc += tc.dot(x[i, j, k, :], w[o, d, :].T)
        y[n, d] = acc


@tc.kernel
def conv1d(
    x: tc.Tensor["B", "L", "C"], w: tc.Tensor["S", "D", "C"], y: tc.Tensor["B", "P", "D"],
    stride: tc.i32, before: tc.i32,
):  # fmt: skip
    """y[b, p] = sum(w[s] @ x[b, p * stride + s - before]); what is outside of x is 0."""
    for b, p, d in tc.tiles("B", "P", "D", block=(1, None, None)):
        acc = tc.zeros((p, d))
        for s in range(tc.size("S")):
            at = p.index * stride + (s - before)
            for c in tc.tiles("C"):
                acc += tc.dot(x[b.start, at, c], w[s, d, c].T)
        y[b.start, p, d] = acc


@tc.kernel
def conv2d(
    x: tc.Tensor["B", "H", "W", "C"], w: tc.Tensor["R", "S", "D", "C"],
    y: tc.Tensor["B", "P", "Q", "D"], stride: tc.i32, before: tc.i32,
):  # fmt: skip
    """y[b, p, q] = sum(w[r, s] @ x[b, p * stride + r - before, q * stride + s - before]).

    What is outside of x is 0.
    """
    for b, p, q, d in tc.tiles("B", "P", "Q", "D", block=(1, 1, None, None)):
        acc = tc.zeros((q, d))
        for r in range(tc.size("R")):
            row = p.start * stride + (r - before)
            for s in range(tc.size("S")):
                at = q.index * stride + (s - before)
                for c in tc.tiles("C"):
                    acc += tc.dot(x[b.start, row, at, c], w[r, s, d, c].T)
        y[b.start, p.start, q, d] = acc


@tc.kernel
def depthwise1d(
    x: tc.Tensor["B", "L", "C"], w: tc.Tensor["S", "C"], bias: tc.Tensor["C"],
    y: tc.Tensor["B", "L", "C"],
):  # fmt: skip
    """y[b, p] = bias + sum(w[s] * x[b, p + s - S + 1]): causal, each channel by itself."""
    for b, p, c in tc.tiles("B", "L", "C", block=(1, None, None)):
        acc = tc.zeros((p, c)) + bias[c].to(tc.f32)
        for s in range(tc.size("S")):
            at = p.index + (s + 1 - tc.size("S"))
            acc += w[s, c].to(tc.f32) * x[b.start, at, c].to(tc.f32)
        y[b.start, p, c] = acc
