"""The functions that the language has in itself: `lang.python.library` reads them, nothing runs.

They compute in f32 (of f64 in f64) and give the dtype of their first argument, rounded once. An
axis is counted from the last one, -1.
"""

# The names in these functions are those of the language, also where Python has others.
# pyright: basic, reportUndefinedVariable=false, reportCallIssue=false, reportArgumentType=false
# ruff: noqa: F821


def narrow(value, x):
    """A wide value in the dtype of x."""
    return cast(value, x.dtype)


def sigmoid(x):
    """1 / (1 + exp(-x))"""
    return narrow(1.0 / (1.0 + exp(-wide(x))), x)


def silu(x):
    """x * sigmoid(x)"""
    v = wide(x)
    return narrow(v / (1.0 + exp(-v)), x)


def relu(x):
    """max(x, 0)"""
    return maximum(x, 0)


def softplus(x):
    """log(1 + exp(x)), which no x is too large for."""
    v = wide(x)
    return narrow(maximum(v, 0.0) + log(1.0 + exp(-abs(v))), x)


def gelu(x):
    """x times the part of a normal distribution that is below it."""
    v = wide(x)
    return narrow(0.5 * v * (1.0 + erf(v * 0.7071067811865476)), x)


def gelu_tanh(x):
    """gelu by tanh, the approximation of Hendrycks and Gimpel (arXiv 1606.08415)."""
    v = wide(x)
    return narrow(0.5 * v * (1.0 + tanh(0.7978845608028654 * (v + 0.044715 * v * v * v))), x)


def swiglu(gate, up):
    """One linear part times silu of another: Shazeer (arXiv 2002.05202)."""
    return narrow(silu(wide(gate)) * wide(up), gate)


def soft_cap(x, limit):
    """Scores between -limit and limit."""
    return narrow(limit * tanh(wide(x) / limit), x)


def mean(x, axis=-1, keepdims=False):
    """The mean along an axis."""
    return narrow(sum(wide(x), axis=axis, keepdims=keepdims) / size(x.shape[axis]), x)


def softmax(x, axis=-1):
    """exp(x) / sum(exp(x))"""
    v = wide(x)
    e = exp(v - max(v, axis=axis, keepdims=True))
    return narrow(e / sum(e, axis=axis, keepdims=True), x)


def top_k(x, count):
    """The largest elements of the last axis, the largest first, and where they are (i32)."""
    return top(x, count), argtop(x, count)


def log_sum_exp(x, axis=-1, keepdims=False):
    """log(sum(exp(x))), which no element is too large for."""
    v = wide(x)
    most = max(v, axis=axis, keepdims=True)
    total = most + log(sum(exp(v - most), axis=axis, keepdims=True))
    if not keepdims:
        total = squeeze(total, axis)
    return narrow(total, x)


def log_softmax(x, axis=-1):
    """x - log_sum_exp(x)"""
    v = wide(x)
    return narrow(v - log_sum_exp(v, axis, True), x)


def rms_norm(x, gain, eps=1e-6):
    """Zhang, Sennrich (2019), of the last axis."""
    v = wide(x)
    return narrow(v * rsqrt(mean(v * v, keepdims=True) + eps) * gain, x)


def layer_norm(x, gain, bias, eps=1e-5):
    """Ba, Kiros, Hinton (2016), of the last axis."""
    v = wide(x)
    centred = v - mean(v, keepdims=True)
    return narrow(centred * rsqrt(mean(centred * centred, keepdims=True) + eps) * gain + bias, x)


def cross_entropy(logits, target):
    """-log(softmax(logits)[..., target]) in f32: logits [..., V], target [...] of whole numbers."""
    v = wide(logits)
    there = index(v.shape[-1]) == target[..., None]
    return log_sum_exp(v) - sum(where(there, v, 0.0), axis=-1)


def rotary(x, cos, sin):
    """Su et al. (2021): the first half of the last axis turned with the second, by angles with
    these cosines and sines [..., H] for x [..., 2 H]."""
    half = cos.shape[-1]
    a = wide(x[..., :half])
    b = wide(x[..., half:])
    return narrow(join([a * cos - b * sin, b * cos + a * sin], axis=-1), x)
