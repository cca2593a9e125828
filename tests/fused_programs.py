"""Programs for `fuse`: with sizes for a run, kernels that are made of them, and loops in these."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Written:
    """A program; how many kernels and loops become of it where no dimension is a number."""

    text: str
    dims: dict[str, int]
    kernels: int
    loops: int
    near: float = 3e-7


ATTENTION = """program f(q: f32[B, H, M, D], k: f32[B, H, N, D], v: f32[B, H, N, D]) {
  s = (q @ transpose(k, (0, 1, 3, 2))) * 0.125
  return softmax(SCORES) @ v }"""
MASKED = 's = where(index("N") <= index("M")[:, none], s, -inf)\n  '

ROWS = {
    "softmax": Written("program f(x: f32[B, M, N]) { return softmax(x) }",
                       dict(B=2, M=5, N=7), 1, 2),
    "columns": Written("program f(x: f32[M, N]) { return softmax(x, axis=0) }",
                       dict(M=5, N=7), 1, 2),
    "vector": Written("program f(x: f32[N]) { return softmax(x) }", dict(N=7), 1, 2),
    "log-sum-exp": Written("program f(x: f32[M, N]) { return log_sum_exp(x) }",
                           dict(M=5, N=7), 1, 1),
    "log-softmax": Written("program f(x: f32[M, N]) { return log_softmax(x) }",
                           dict(M=5, N=7), 1, 2),
    "rms-norm": Written("program f(x: f16[M, N], g: f32[N]) { return rms_norm(x, g) }",
                        dict(M=5, N=7), 1, 2, 5e-4),
    "layer-norm": Written("program f(x: f32[M, N], g: f32[N], b: f32[N]) { return "
                          "layer_norm(x, g, b) }", dict(M=5, N=7), 1, 2),
    "moments": Written("program f(x: f32[M, N]) { c = x - mean(x, keepdims=true)\n"
                       "return sum(c * c, axis=1) }", dict(M=5, N=7), 1, 1),
    "cross-entropy": Written("program f(x: f32[M, V], t: i32[M]) { return cross_entropy(x, t) }",
                             dict(M=5, V=7), 1, 1),
    "no logits": Written("program f(h: f32[M, D], w: f32[V, D], t: i32[M]) { return "
                         "cross_entropy(h @ w.T, t) }", dict(M=5, V=7, D=6), 1, 1),
    "mean loss": Written("program f(x: f32[M, V], t: i32[M]) { return mean(cross_entropy(x, t)) }",
                         dict(M=5, V=7), 2, 2),
    "embedding": Written("program f(t: i32[M], w: f32[V, K], g: f32[K]) { return "
                         "rms_norm(w[t, :], g) }", dict(M=5, V=6, K=4), 1, 2),
    "rotary": Written("program f(x: f32[M, 6], c: f32[M, 3], s: f32[M, 3]) { return "
                      "rotary(x, c, s) }", dict(M=5), 1, 0),
    "prefix sums": Written("program f(x: f32[M, N]) { return cumsum(x * 2.0, axis=1) }",
                           dict(M=5, N=7), 1, 0),
    "no maximum": Written("program f(x: f32[M, N]) { return sum(exp(x - mean(x, keepdims=true)), "
                          "axis=1) }", dict(M=5, N=7), 1, 2),
    "f16 sums": Written("program f(x: f16[M, N]) { return sum(x, axis=1) }", dict(M=5, N=40), 1, 1,
                        1e-3),
    "two results": Written("program f(x: f32[M, N]) { y = softmax(x)\n return (y, y * y, "
                           "log_sum_exp(x)) }", dict(M=5, N=7), 1, 2),
    "extremes": Written("program f(x: f32[M, N]) { return max(x, axis=1) - min(x, axis=1) }",
                        dict(M=5, N=7), 1, 1),
}  # fmt: skip

PRODUCTS = {
    "linear": Written("program f(x: f32[M, K], w: f32[N, K], b: f32[N], r: f32[M, N]) { return "
                      "gelu(x @ w.T + b) + r }", dict(M=5, N=7, K=9), 1, 1),
    "gram": Written("program f(x: f32[M, K]) { return x.T @ x }", dict(M=5, K=6), 1, 1),
    "norm linear": Written("program f(x: f32[M, K], g: f32[K], w: f32[N, K]) { return "
                           "rms_norm(x, g) @ w.T }", dict(M=5, N=7, K=6), 1, 1),
    "layer norm linear": Written("program f(x: f32[M, K], g: f32[K], b: f32[K], w: f32[N, K]) { "
                                 "return layer_norm(x, g, b) @ w.T }", dict(M=5, N=7, K=6), 2, 2),
    "residual norm": Written("program f(x: f32[M, K], w: f32[N, K], r: f32[M, N], g: f32[N]) {\n"
                             "h = x @ w.T + r\n return (h, rms_norm(h, g)) }",
                             dict(M=5, N=7, K=6), 2, 3),
    "siblings": Written("program f(x: f32[M, K], a: f32[N, K], b: f32[N, K], c: f32[P, K]) { "
                        "return (x @ a.T, x @ b.T, x @ c.T) }", dict(M=5, N=7, K=6, P=9), 2, 2),
    "mlp": Written("program f(x: f32[M, K], g: f32[H, K], u: f32[H, K], d: f32[K, H]) { return "
                   "x + swiglu(x @ g.T, x @ u.T) @ d.T }", dict(M=5, K=6, H=11), 2, 2),
    "quantised": Written("program f(x: f32[M, K], w: f32[N, K]) { y = silu(x @ w.T)\n"
                         "s = max(abs(y), axis=1, keepdims=true) / 127.0\n"
                         "return (cast(rint(y / s), i8, saturate=true), s) }",
                         dict(M=5, N=7, K=6), 2, 3),
    "codes by groups": Written("""program f(x: f32[M, K], w: f32[G, 8, K], b: f32[G, 8]) {
  y = silu(einsum("mk,gjk->mgj", x, w) + b)
  s = max(abs(y), axis=2, keepdims=true) / 127.0
  return (cast(rint(y / s), i8, saturate=true), s) }""", dict(M=17, G=2, K=9), 1, 1),
    "low rank": Written("program f(x: f32[M, K], w: f32[N, K], a: f32[R, K], b: f32[N, R]) { "
                        "return x @ w.T + (x @ a.T) @ b.T }", dict(M=5, N=7, K=6, R=2), 2, 3),
    "einsum": Written('program f(x: f32[B, M, K], w: f32[N, K]) { return '
                      'einsum("bmk,nk->bnm", x, w) }',
                      dict(B=2, M=5, N=7, K=6), 1, 1),
    "integers": Written("program f(x: i8[M, K], w: i8[N, K]) { return x @ w.T }",
                        dict(M=5, N=7, K=6), 1, 1, 0.0),
}  # fmt: skip

ATTENTIONS = {
    "attention": Written(ATTENTION.replace("SCORES", "s"), dict(B=2, H=3, M=5, N=7, D=4), 1, 1),
    "causal": Written(ATTENTION.replace("return", MASKED + "return").replace("SCORES", "s"),
                      dict(B=2, H=3, M=5, N=5, D=4), 1, 1),
    "capped": Written(ATTENTION.replace("SCORES", "soft_cap(s, 3.0)"),
                      dict(B=2, H=3, M=5, N=7, D=4), 1, 1),
    "window": Written("""program f(q: f32[M, D], k: f32[M, D], v: f32[M, D]) {
  i = index("M")[:, none]
  j = index("M")
  s = where((j <= i) & (j > i - 70), q @ k.T, -inf) * 0.125
  return softmax(s) @ v }""", dict(M=300, D=4), 1, 1),
    "grouped": Written("""program f(q: f32[H, M, D], k: f32[G, M, D], v: f32[G, M, D]) {
  g = floordiv(index("H"), 2)
  s = q @ transpose(k[g, :, :], (0, 2, 1))
  return softmax(s * 0.3) @ v[g, :, :] }""", dict(H=6, G=3, M=5, D=4), 1, 1),
    "bias f16": Written("""program f(
    q: f16[H, M, D], k: f16[H, N, D], v: f16[H, N, D], b: f32[H, M, N]) {
  s = (q @ transpose(k, (0, 2, 1))) * 0.3 + b
  return cast(cast(softmax(s), f16) @ v, f16) }""", dict(H=2, M=5, N=6, D=4), 1, 1, 1e-3),
    "lengths": Written("""program f(q: f32[B, M, D], k: f32[B, N, D], v: f32[B, N, D], n: i32[B]) {
  s = (q @ transpose(k, (0, 2, 1))) * 0.125
  return softmax(where(index("N") <= n[:, none, none], s, -inf)) @ v }""",
                       dict(B=2, M=5, N=7, D=4), 1, 1),
    "block": Written("""program f(
    x: f32[M, 8], wq: f32[8, 8], wk: f32[8, 8], wv: f32[8, 8], wo: f32[8, 8]) {
  q = transpose(reshape(x @ wq, ("M", 2, 4)), (1, 0, 2))
  k = transpose(reshape(x @ wk, ("M", 2, 4)), (1, 0, 2))
  v = transpose(reshape(x @ wv, ("M", 2, 4)), (1, 0, 2))
  o = softmax((q @ transpose(k, (0, 2, 1))) * 0.5) @ v
  return reshape(transpose(o, (1, 0, 2)), ("M", 8)) @ wo + x }""", dict(M=5), 3, 3),
}  # fmt: skip

LINEAR = """kernel linear(x: f32[M, K], w: f32[N, K], y: f32[M, N]) {
  for m, n in tiles(M, N) {
    acc = zeros([m, n], f32)
    for k in tiles(K) { acc += dot(x[m, k], w[n, k].T) }
    y[m, n] = acc
  }
}
"""
CALLS = {
    "around a call": Written(LINEAR + """program f(x: f32[M, K], w: f32[N, K], b: f32[N]) {
  h = empty("M", "N")
  linear(silu(x), w, h)
  return relu(h + b) }""", dict(M=5, N=7, K=9), 1, 1),
    "behind a call": Written(LINEAR + """program f(x: f32[M, K], w: f32[N, K], g: f32[N]) {
  h = empty("M", "N")
  linear(x, w, h)
  return rms_norm(h, g) }""", dict(M=5, N=7, K=9), 2, 3),
    "read by two": Written(LINEAR + """program f(x: f32[M, K], w: f32[N, K], v: f32[P, N]) {
  h = empty("M", "N")
  linear(x, w, h)
  return (h + 1.0, h @ v.T) }""", dict(M=5, N=7, K=9, P=4), 3, 2),
    "gated": Written(LINEAR + """program f(x: f32[M, K], y: f32[M, K], w: f32[N, K]) {
  h = empty("M", "N")
  linear(swiglu(x, y), w, h)
  return h }""", dict(M=5, N=7, K=9), 2, 1),
    "both sides of a call": Written(LINEAR + """program f(x: f32[M, K], w: f32[N, K]) {
  a = softmax(x)
  h = empty("M", "N")
  linear(a, w, h)
  return (h, a * 2.0) }""", dict(M=5, N=7, K=9), 3, 3),
    "written behind a call": Written(LINEAR + """program f(
    x: f32[M, K], y: f32[M, K], w: f32[N, K], z: f32[M, N]) {
  a = softmax(x)
  y = a
  linear(y, w, z)
  y[:, :] = x + 1.0
  return a * 2.0 }""", dict(M=5, N=7, K=9), 3, 5),
    "calls of calls": Written(LINEAR + """program f(x: f32[M, K], w: f32[K, K]) {
  h = empty("M", "K")
  linear(x, w, h)
  g = empty("M", "K")
  linear(silu(h), w, g)
  return g + x }""", dict(M=5, K=9), 2, 2),
}  # fmt: skip

STATEMENTS = {
    "stored and read": Written("kernel f(x: f32[M, K], w: f32[N, K], y: f32[M, N], z: f32[M]) {\n"
                               "y[:, :] = dot(x[:, :], w[:, :].T)\n"
                               "z[:] = sum(exp(y[:, :] - max(y[:, :], axis=1, keepdims=true)), "
                               "axis=1) }", dict(M=5, N=7, K=9), 2, 2),
    "in place": Written("kernel f(x: f32[M, N]) { x[:, :] = x[:, :] + 1.0 }", dict(M=5, N=7), 1, 0),
    "forwarded": Written("kernel f(x: f32[M, N], y: f32[M, N], z: f32[M]) {\n"
                         "y[:, :] = exp(x[:, :])\n z[:] = sum(y[:, :], axis=1) }",
                         dict(M=5, N=7), 1, 2),
    "around a grid": Written("kernel f(x: f32[M, N], y: f32[M, N], z: f32[M]) {\n"
                             "y[:, :] = exp(x[:, :])\n"
                             "for m in tiles(M) { y[m, :] = y[m, :] * 2.0 }\n"
                             "z[:] = sum(y[:, :], axis=1) }", dict(M=5, N=7), 3, 1),
    "gathered": Written("kernel f(x: f32[M, N], t: i32[K], y: f32[M, N], z: f32[K, N]) {\n"
                        "y[:, :] = exp(x[:, :])\n z[:, :] = y[t[:], :] + 1.0 }",
                        dict(M=5, N=7, K=3), 2, 0),
    "a part": Written("program f(x: f32[M, 4], y: f32[M, 9]) { y[:, 2:-3] = x * 2.0 }",
                      dict(M=5), 1, 0),
    "parts": Written("program f(x: f32[M, K], w: f32[4, K], v: f32[5, K], y: f32[M, 9]) {\n"
                     "y[:, :4] = x @ w.T\n y[:, 4:] = x @ v.T }", dict(M=5, K=7), 2, 2),
    "scattered": Written('kernel f(x: f32[K, N], y: f32[M, N]) { '
                         'y[arange("K"), :] = exp(x[:, :]) }',
                         dict(M=5, N=7, K=3), 1, 0),
}  # fmt: skip
PROGRAMS = ROWS | PRODUCTS | ATTENTIONS | CALLS | STATEMENTS
