"""Losses of the rows of a matrix with their gradients, in tiles of columns."""

# A dtype is an object, and annotates a number here.
# pyright: reportInvalidTypeForm=false

import math

import tilec as tc


@tc.kernel
def cross_entropy(
    x: tc.Tensor["T", "V"], target: tc.Tensor["T", tc.i32], loss: tc.Tensor["T"],
    grad: tc.Tensor["T", "V"],
):  # fmt: skip
    """loss = log(sum(exp(x))) - x[target], and d loss / d x"""
    for t in tc.tiles("T"):
        most = tc.full((t,), -math.inf)
        total = tc.zeros((t,))
        own = tc.zeros((t,))
        for v in tc.tiles("V"):
            row = x[t, v].to(tc.f32)
            new = tc.maximum(most, tc.max(row, axis=1))
            total = total * tc.exp(most - new) + tc.sum(tc.exp(row - new[:, None]), axis=1)
            own += tc.sum(tc.where(v.index == target[t][:, None], row, 0.0), axis=1)
            most = new
        scale = most + tc.log(total)
        loss[t] = scale - own
        for v in tc.tiles("V"):
            hit = (v.index == target[t][:, None]).to(tc.f32)
            grad[t, v] = tc.exp(x[t, v].to(tc.f32) - scale[:, None]) - hit


@tc.kernel
def kl_divergence(x: tc.Tensor["T", "V"], target: tc.Tensor["T", "V"], loss: tc.Tensor["T"]):
    """loss = sum(p * (log(p) - x)) for log-probabilities x and probabilities p"""
    for t in tc.tiles("T"):
        total = tc.zeros((t,))
        for v in tc.tiles("V"):
            p = target[t, v].to(tc.f32)
            total += tc.sum(p * (tc.log(tc.maximum(p, 1e-10)) - x[t, v]), axis=1)
        loss[t] = total
