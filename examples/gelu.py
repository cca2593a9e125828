"""gelu, exact (Hendrycks, Gimpel 2016), element by element; `gelu.tile` is the same kernel."""

import tilec as tc


@tc.kernel
def gelu(x: tc.Tensor["M", "N"], y: tc.Tensor["M", "N"]):
    for m, n in tc.tiles("M", "N"):
        v = x[m, n]
        y[m, n] = 0.5 * v * (1.0 + tc.erf(v * 0.7071067811865476))
