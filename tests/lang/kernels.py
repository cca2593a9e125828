"""Kernels in both spellings: the text of each stands beside its function."""

# A dtype is an object, and annotates a number here.
# pyright: reportInvalidTypeForm=false

import tilec as tc


@tc.fn
def squashed(v, low=-1.0):
    return tc.maximum(v, low)


@tc.kernel
def linear(x: tc.Tensor["M", "K"], w: tc.Tensor["N", "K"], y: tc.Tensor["M", "N"]):
    for m, n in tc.tiles("M", "N"):
        acc = tc.zeros((m, n), tc.f32)
        for k in tc.tiles("K"):
            acc += tc.dot(x[m, k], w[n, k].T)
        y[m, n] = acc


@tc.kernel
def softmax(x: tc.Tensor["M", "N"], y: tc.Tensor["M", "N"]):
    for m in tc.tiles("M"):
        row = x[m, :]
        e = tc.exp(row - tc.max(row, axis=1, keepdims=True))
        y[m, :] = e / tc.sum(e, axis=1, keepdims=True)


@tc.kernel
def norm(x: tc.Tensor["M", "N"], g: tc.Tensor["N"], y: tc.Tensor["M", "N"], eps: tc.f32):
    for m in tc.tiles("M"):
        row = x[m, :]
        count = tc.cast(tc.size("N"), tc.f32)
        d = row - tc.sum(row, axis=-1, keepdims=True) / count
        v = tc.sum(d * d, axis=-1, keepdims=True) / count
        y[m, :] = d * tc.rsqrt(v + eps) * g[:]


@tc.kernel
def embedding(ids: tc.Tensor["T", tc.i32], table: tc.Tensor["V", "D"], y: tc.Tensor["T", "D"]):
    for t, d in tc.tiles("T", "D", block=(2, None)):
        y[t, d] = table[ids[t], d]


@tc.kernel
def causal(x: tc.Tensor["M", "M"], y: tc.Tensor["M", "M"]):
    for i, j in tc.tiles("M", "M"):
        seen = j.index[None, :] <= i.index[:, None]
        y[i, j] = tc.where(seen, x[i, j], -1.0)


@tc.kernel
def below(x: tc.Tensor["M", "M"], y: tc.Tensor["M"]):
    for i in tc.tiles("M"):
        total = tc.zeros((i,))
        for j in tc.tiles("M", to=i.stop):
            total += tc.sum(tc.where(j.index < i.index[:, None], x[i, j], 0.0), axis=1)
        y[i] = total


@tc.kernel
def halving(x: tc.Tensor["M"], y: tc.Tensor["M"], limit: tc.f32):
    for m in tc.tiles("M"):
        v = tc.max(x[m])
        steps = 0
        while v > limit:
            v = v / 2.0
            steps += 1
        if steps >= 2:
            out = x[m] * 0.5
        else:
            out = -x[m]
        y[m] = out


@tc.kernel
def repeated(x: tc.Tensor["M"], y: tc.Tensor["M"], times: tc.i32):
    for m in tc.tiles("M"):
        v = x[m]
        for i in range(1, times):
            v += x[m] * i
        y[m] = v


@tc.kernel
def inlined(x: tc.Tensor["M"], y: tc.Tensor["M"]):
    for m in tc.tiles("M"):
        y[m] = squashed(x[m]) * 2.5 + squashed(x[m], low=0.5) ** 2


@tc.kernel
def ragged(x: tc.Tensor["B", "K"], length: tc.Tensor["B", tc.i32], y: tc.Tensor["B"]):
    for b in range(tc.size("B")):
        total = 0.0
        for k in tc.tiles("K", to=length[b]):
            total += tc.sum(x[b, k])
        y[b] = total


@tc.fn
def projected(rows, m, w, n):
    """A function with a loop of its own over a dimension of its caller's tensors."""
    total = tc.zeros((m, n), tc.f32)
    for k in tc.tiles("K", block=4):
        total += tc.dot(rows[m, k], w[n, k].T)
    return total


@tc.kernel
def twice_projected(
    x: tc.Tensor["M", "K"], w: tc.Tensor["N", "K"], v: tc.Tensor["N", "K"], y: tc.Tensor["M", "N"]
):
    for m, n in tc.tiles("M", "N"):
        y[m, n] = projected(x, m, w, n) - projected(x, m, v, n)


@tc.kernel
def bits(x: tc.Tensor["M", tc.i32], y: tc.Tensor["M", tc.i32]):
    for m in tc.tiles("M"):
        v = x[m]
        y[m] = ((v & 7) << 2 | v % 3) ^ ~(v >> 1)


@tc.kernel
def running(x: tc.Tensor["M", "N"], y: tc.Tensor["M", "N"]):
    for m in tc.tiles("M"):
        row = x[m, :]
        highest = tc.cummax(row, axis=-1, reverse=True)
        y[m, :] = tc.cumsum(row, axis=1) - highest * tc.cummin(row, 1)


@tc.kernel
def scattered(
    x: tc.Tensor["T", "D"], ids: tc.Tensor["T", tc.i32], y: tc.Tensor["V", "D"], s: tc.f32
):
    for v, d in tc.tiles("V", "D"):
        y[v, d] = s
        y[v, d] += 1
    for t, d in tc.tiles("T", "D"):
        y[ids[t], d] += x[t, d]
        y[0, d] -= tc.sum(x[t, d], axis=0)


TILE = """
fn squashed(v, low) { return maximum(v, low) }

kernel linear(x: f16[M, K], w: f16[N, K], y: f16[M, N]) {
  for m, n in tiles(M, N) {
    acc = zeros([m, n], f32)
    for k in tiles(K) { acc += dot(x[m, k], w[n, k].T) }
    y[m, n] = acc
  }
}

kernel softmax(x: f16[M, N], y: f16[M, N]) {
  for m in tiles(M) {
    row = x[m, :]
    e = exp(row - max(row, axis=1, keepdims=1))
    y[m, :] = e / sum(e, axis=1, keepdims=1)
  }
}

kernel norm(x: f32[M, N], g: f32[N], y: f32[M, N], eps: f32) {
  for m in tiles(M) {
    row = x[m, :]
    count = cast(size(N), f32)
    d = row - sum(row, axis=-1, keepdims=1) / count   // centred
    v = sum(d * d, axis=-1, keepdims=1) / count
    y[m, :] = d * rsqrt(v + eps) * g[:]
  }
}

kernel embedding(ids: i32[T], table: f16[V, D], y: f16[T, D]) {
  for t, d in tiles(T, D, block=[2, none]) { y[t, d] = table[ids[t], d] }
}

kernel causal(x: f32[M, M], y: f32[M, M]) {
  for i, j in tiles(M, M) {
    seen = j.index[none, :] <= i.index[:, none]
    y[i, j] = where(seen, x[i, j], -1.0)
  }
}

kernel below(x: f32[M, M], y: f32[M]) {
  for i in tiles(M) {
    total = zeros([i])
    for j in tiles(M, to=i.stop) {
      total += sum(where(j.index < i.index[:, none], x[i, j], 0.0), axis=1)
    }
    y[i] = total
  }
}

kernel halving(x: f32[M], y: f32[M], limit: f32) {
  for m in tiles(M) {
    v = max(x[m])
    steps = 0
    while v > limit {
      v = v / 2.0
      steps += 1
    }
    if steps >= 2 { out = x[m] * 0.5 } else { out = -x[m] }
    y[m] = out
  }
}

kernel repeated(x: f32[M], y: f32[M], times: i32) {
  for m in tiles(M) {
    v = x[m]
    for i in range(1, times) { v += x[m] * i }
    y[m] = v
  }
}

kernel running(x: f32[M, N], y: f32[M, N]) {
  for m in tiles(M) {
    row = x[m, :]
    highest = cummax(row, axis=-1, reverse=true)
    y[m, :] = cumsum(row, axis=1) - highest * cummin(row, 1)
  }
}

kernel scattered(x: f32[T, D], ids: i32[T], y: f32[V, D], s: f32) {
  for v, d in tiles(V, D) {
    y[v, d] = s
    y[v, d] += 1
  }
  for t, d in tiles(T, D) {
    y[ids[t], d] += x[t, d]
    y[0, d] -= sum(x[t, d], axis=0)
  }
}

kernel inlined(x: f32[M], y: f32[M]) {
  for m in tiles(M) {
    y[m] = squashed(x[m], -1.0) * 2.5 + squashed(x[m], low=0.5) ** 2
  }
}

kernel ragged(x: f32[B, K], length: i32[B], y: f32[B]) {
  for b in range(size(B)) {
    total = 0.0
    for k in tiles(K, to=length[b]) { total += sum(x[b, k]) }
    y[b] = total
  }
}

fn projected(rows, m, w, n) {
  total = zeros([m, n], f32)
  for k in tiles(K, block=4) { total += dot(rows[m, k], w[n, k].T) }
  return total
}

kernel twice_projected(x: f16[M, K], w: f16[N, K], v: f16[N, K], y: f32[M, N]) {
  for m, n in tiles(M, N) { y[m, n] = projected(x, m, w, n) - projected(x, m, v, n) }
}

kernel bits(x: i32[M], y: i32[M]) {
  for m in tiles(M) {
    v = x[m]
    y[m] = ((v & 7) << 2 | v % 3) ^ ~(v >> 1)
  }
}
"""
