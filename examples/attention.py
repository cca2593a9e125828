"""softmax(q k') v as it is written; `attention.tile` is the same program as text.

Compiled, it is one kernel with one pass over keys and values, which keeps no score.
"""

# A dtype is an object, and annotates a number here.
# pyright: reportInvalidTypeForm=false

import math

import numpy as np

import tilec as tc


@tc.program
def attention(
    q: tc.Tensor["B", "H", "M", "D"], k: tc.Tensor["B", "H", "N", "D"],
    v: tc.Tensor["B", "H", "N", "D"], y: tc.Tensor["B", "H", "M", "D"], scale: tc.f32,
):  # fmt: skip
    seen = tc.index("N") <= tc.index("M")[:, None]
    scores = tc.where(seen, q @ k.T * scale, -math.inf)
    y[...] = tc.softmax(scores).to(v.dtype) @ v


def main() -> None:
    """Run it, and say what it became."""
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((1, 4, 256, 64)).astype(np.float32) for _ in range(3))
    y = np.empty_like(q)
    attention(q, k, v, y, 0.125)
    s = q.astype(float) @ k.astype(float).swapaxes(-1, -2) * 0.125
    e = np.where(np.tri(256, dtype=bool), np.exp(s), 0)
    want = e / e.sum(-1, keepdims=True) @ v
    error = np.linalg.norm(y - want) / np.linalg.norm(want)
    types = dict.fromkeys("qkvy", tc.f32)
    print(attention.explain(types, {"B": 1, "H": 4, "M": 256, "N": 256, "D": 64}))
    print(f"relative error {error:.1e}")
    assert error < 1e-6


if __name__ == "__main__":
    main()
