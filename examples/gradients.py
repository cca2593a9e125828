"""Attention in torch's autograd: its gradients are a program, too, and keep no matrix of scores."""

import math

import torch

import tilec as tc


@tc.program
def attention(
    q: tc.Tensor["H", "M", "D"], k: tc.Tensor["H", "N", "D"], v: tc.Tensor["H", "N", "D"]
):
    seen = tc.index("N") <= tc.index("M")[:, None]
    p = tc.softmax(tc.where(seen, q @ k.T * 0.125, -math.inf))
    return (p.to(q.dtype) @ v).to(q.dtype)


torch.manual_seed(0)
q, k, v, d = (torch.randn(4, 256, 64) for _ in range(4))
ours = [x.clone().requires_grad_() for x in (q, k, v)]
attention(*ours).backward(d)  # nothing more: results know their gradients

theirs = [x.clone().requires_grad_() for x in (q, k, v)]
x, y, z = theirs
torch.nn.functional.scaled_dot_product_attention(x, y, z, is_causal=True, scale=0.125).backward(d)

for name, a, b in zip("qkv", ours, theirs, strict=True):
    assert a.grad is not None
    assert b.grad is not None
    off = torch.linalg.norm(a.grad - b.grad) / torch.linalg.norm(b.grad)
    assert off < 1e-5
    print(f"the gradient of {name} is torch's within {off:.0e}")

plan = attention.plan((q, k, v), ("q", "k", "v"))
read = [p.name for p in plan.backward.definition.signature.params][: len(plan.takes)]
print("the gradients read", ", ".join(read))
