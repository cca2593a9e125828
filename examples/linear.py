"""y = gelu(x w' + b) in both spellings: one IR, compiled for this processor, checked in float64."""

import math
from pathlib import Path

import numpy as np

import tilec as tc
from tilec.compile import Kernel
from tilec.lang.text import parse


@tc.fn
def gelu(v):
    return 0.5 * v * (1.0 + tc.erf(v * 0.7071067811865476))


@tc.kernel
def linear(
    x: tc.Tensor["M", "K"], w: tc.Tensor["N", "K"], b: tc.Tensor["N"], y: tc.Tensor["M", "N"]
):
    for m, n in tc.tiles("M", "N"):
        acc = tc.zeros((m, n), tc.f32)
        for k in tc.tiles("K"):
            acc += tc.dot(x[m, k], w[n, k].T)
        y[m, n] = gelu(acc + b[n])


def main() -> None:
    """Run both and print how far they are from float64."""
    rng = np.random.default_rng(0)
    m, n, k = 65, 130, 257
    x, w = (rng.standard_normal(s).astype(np.float16) for s in ((m, k), (n, k)))
    b = rng.standard_normal(n).astype(np.float32)
    z = x.astype(float) @ w.T.astype(float) + b
    want = 0.5 * z * (1 + np.vectorize(math.erf)(z / math.sqrt(2)))
    text = (Path(__file__).parent / "linear.tile").read_text()
    for spelling, kernel in (("Python", linear), (".tile", Kernel(parse(text)["linear"]))):
        y = np.full((m, n), np.nan, np.float32)
        kernel(x, w, b, y)
        error = float(np.linalg.norm(y - want) / np.linalg.norm(want))
        print(f"{spelling:>7}: {m}x{n}x{k}, relative error {error:.1e}")
        if not error < 1e-6:
            raise SystemExit("the result is wrong")


if __name__ == "__main__":
    main()
