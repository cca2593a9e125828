"""softmax(q k' / sqrt(D)) v and its gradients, a tile of keys at a time.

Dao, "FlashAttention-2" (2023): what the backward pass needs of the softmax is one number a row.
"""

# A dtype is an object, and annotates a number here.
# pyright: reportInvalidTypeForm=false

import math

import tilec as tc


@tc.fn
def seen(s, m, n):
    """Scores of queries m and keys n; a key after the query has none."""
    return tc.where(n.index <= m.index[:, None], s, -math.inf)


@tc.kernel
def attention(
    q: tc.Tensor["H", "M", "D"], k: tc.Tensor["H", "M", "D"], v: tc.Tensor["H", "M", "D"],
    o: tc.Tensor["H", "M", "D"], lse: tc.Tensor["H", "M"], scale: tc.f32,
):  # fmt: skip
    """o = softmax(scale * q k') v, causal; lse = log(sum(exp(scale * q k')))"""
    for head, m in tc.tiles("H", "M", block=(1, None)):
        h = head.start
        qm = q[h, m, :]
        most = tc.full((m,), -math.inf)
        total = tc.zeros((m,))
        acc = tc.zeros((m, "D"))
        for n in tc.tiles("M", to=m.stop):
            s = seen(tc.dot(qm, k[h, n, :].T) * scale, m, n)
            new = tc.maximum(most, tc.max(s, axis=1))
            p = tc.exp(s - new[:, None])
            old = tc.exp(most - new)
            total = total * old + tc.sum(p, axis=1)
            acc *= old[:, None]
            acc += tc.dot(p.to(v.dtype), v[h, n, :])
            most = new
        o[h, m, :] = acc / total[:, None]
        lse[h, m] = most + tc.log(total)


@tc.kernel
def attention_dq(
    q: tc.Tensor["H", "M", "D"], k: tc.Tensor["H", "M", "D"], v: tc.Tensor["H", "M", "D"],
    o: tc.Tensor["H", "M", "D"], lse: tc.Tensor["H", "M"], do: tc.Tensor["H", "M", "D"],
    delta: tc.Tensor["H", "M"], dq: tc.Tensor["H", "M", "D"], scale: tc.f32,
):  # fmt: skip
    """delta = sum(o * do), and the gradient of q"""
    for head, m in tc.tiles("H", "M", block=(1, None)):
        h = head.start
        qm = q[h, m, :]
        dom = do[h, m, :]
        row = tc.sum(o[h, m, :].to(tc.f32) * dom, axis=1)
        delta[h, m] = row
        acc = tc.zeros((m, "D"))
        for n in tc.tiles("M", to=m.stop):
            kn = k[h, n, :]
            s = seen(tc.dot(qm, kn.T) * scale, m, n)
            p = tc.exp(s - lse[h, m][:, None])
            ds = p * (tc.dot(dom, v[h, n, :].T) - row[:, None])
            acc += tc.dot(ds.to(k.dtype), kn)
        dq[h, m, :] = acc * scale


@tc.kernel
def attention_dkv(
    q: tc.Tensor["H", "M", "D"], k: tc.Tensor["H", "M", "D"], v: tc.Tensor["H", "M", "D"],
    lse: tc.Tensor["H", "M"], do: tc.Tensor["H", "M", "D"], delta: tc.Tensor["H", "M"],
    dk: tc.Tensor["H", "M", "D"], dv: tc.Tensor["H", "M", "D"], scale: tc.f32,
):  # fmt: skip
    """The gradients of k and v, from delta of attention_dq"""
    for head, n in tc.tiles("H", "M", block=(1, None)):
        h = head.start
        kn = k[h, n, :]
        vn = v[h, n, :]
        dkn = tc.zeros((n, "D"))
        dvn = tc.zeros((n, "D"))
        for m in tc.tiles("M"):
            qm = q[h, m, :]
            dom = do[h, m, :]
            s = seen(tc.dot(qm, kn.T) * scale, m, n)
            p = tc.exp(s - lse[h, m][:, None])
            dvn += tc.dot(p.to(v.dtype).T, dom)
            ds = p * (tc.dot(dom, vn.T) - delta[h, m][:, None])
            dkn += tc.dot(ds.to(q.dtype).T, qm)
        dk[h, n, :] = dkn * scale
        dv[h, n, :] = dvn
