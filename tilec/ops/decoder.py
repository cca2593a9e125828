"""A layer of a decoder as one program: norms, projections, a cache, attention and an MLP."""

# The names in a program have types of the language; a dtype annotates a number.
# pyright: basic, reportInvalidTypeForm=false

import math

import tilec as tc


@tc.program
def step(
    x: tc.Tensor["B", "C"], first: tc.Tensor["C"], wq: tc.Tensor["G*H*2*P", "C"],
    wk: tc.Tensor["G*2*P", "C"], wv: tc.Tensor["G*2*P", "C"], wo: tc.Tensor["C", "G*H*2*P"],
    second: tc.Tensor["C"], gate: tc.Tensor["F", "C"], up: tc.Tensor["F", "C"],
    down: tc.Tensor["C", "F"], cos: tc.Tensor["B", "P"], sin: tc.Tensor["B", "P"],
    keys: tc.Tensor["B", "G", "N", "2*P"], values: tc.Tensor["B", "G", "N", "2*P"],
    place: tc.Tensor["B", tc.i32], scale: tc.f32,
):  # fmt: skip
    """One token of each sequence: what the layer makes of x; its key and value go to `place`.

    `first` and `second` are gains of RMS norms; `cos` and `sin` are of the angles of the places.
    """
    wide = 2 * tc.extent("P")
    h = tc.rms_norm(x, first)
    q = tc.reshape((h @ wq.T).to(x.dtype), ("B", "G", "H", wide))
    k = tc.reshape((h @ wk.T).to(x.dtype), ("B", "G", wide))
    v = tc.reshape((h @ wv.T).to(x.dtype), ("B", "G", wide))
    q = tc.rotary(q, cos[:, None, None], sin[:, None, None])
    keys[tc.index("B"), :, place, :] = tc.rotary(k, cos[:, None], sin[:, None])
    values[tc.index("B"), :, place, :] = v
    seen = tc.index("N") <= place[:, None, None, None]
    p = tc.softmax(tc.where(seen, q @ keys.T * scale, -math.inf)).to(x.dtype)
    o = tc.reshape((p @ values).to(x.dtype), ("B", tc.extent("G") * tc.extent("H") * wide))
    y = x + (o @ wo.T).to(x.dtype)
    h = tc.rms_norm(y, second)
    f = tc.swiglu(h @ gate.T, h @ up.T).to(x.dtype)
    return y + (f @ down.T).to(x.dtype)
