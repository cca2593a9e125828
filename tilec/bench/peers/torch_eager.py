"""torch as it is called: its dense and sparse products, those on codes, attention, layers."""

# torch types what is looked up by name loosely.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import numpy as np

from tilec.bench.case import Made, Make, Peer, Problem, as_array
from tilec.bench.machine import processors
from tilec.bench.problems.attention import GROUPS, HEADS, SCALE, WIDTH, Attention
from tilec.bench.problems.layered import Layered
from tilec.bench.problems.layers import tensor
from tilec.bench.problems.linear import STORED, WORST, Linear
from tilec.bench.problems.models import Model
from tilec.bench.problems.pruned import Pruned
from tilec.bench.problems.routed import Routed
from tilec.ir.dtype import Array
from tilec.ir.format import Dense
from tilec.ir.named import named
from tilec.runtime.tensor import PackedTensor
from tilec.settings import settings

TYPES = {"bf16": "bfloat16", "f16": "float16", "f32": "float32"}
GROUP = 128  # weights of int4 that share a scale


def absent() -> str:
    """Why torch can't run here."""
    return "" if find_spec("torch") else "torch is not installed"


def torch_() -> Any:
    """torch with as many threads as the settings say, and nothing kept for gradients."""
    import torch

    torch.set_num_threads(settings().threads or processors())  # it may have been loaded before
    torch.set_grad_enabled(False)
    return torch


def _contenders(problem: Problem) -> Mapping[str, Make]:
    match problem:
        case Linear():
            return _linear(problem)
        case Pruned():
            return _pruned(problem)
        case Attention():
            return {"torch sdpa": partial(_attention, problem, False),
                    "torch sdpa gqa": partial(_attention, problem, True)}  # fmt: skip
        case Model():
            return models(problem, "torch eager", _layer)
        case Layered():
            return {"torch eager": partial(_layer, problem)}
        case Routed():
            return {"torch loop bf16": partial(_experts, problem, False),
                    "torch grouped bf16": partial(_experts, problem, True)}  # fmt: skip
        case _:
            return {}


def models(of: Model, name: str, layer: Callable[[Layered], Made]) -> dict[str, Make]:
    """A contender with the weights of a model, and one with weights of bf16 of the same sizes."""
    both = {f"{name} {m.weight}": m for m in (of, of.dense)}
    return {n: partial(layer, m) for n, m in both.items()}


def _layer(of: Layered) -> Made:
    return of.timed(of.made().theirs(torch_()), {})


@dataclass(frozen=True)
class Weight:
    """A weight of torch: its tensor, what it means in double, a product with it, and its bytes."""

    tensor: Any
    dense: Any
    call: Callable[[Any, Any], Any]
    nbytes: int


def _linear(of: Linear) -> Mapping[str, Make]:
    own = "f32" if of.x == "f32" else "bf16"
    found: dict[str, Make] = {f"torch {own}": partial(_product, of, own)}
    format = named(of.weight)
    if isinstance(format, Dense):
        return found
    bits = round(format.bits((of.n, of.k)) / of.n / of.k)
    if of.x == "bf16" and bits == 4:
        found["torch int4"] = partial(_product, of, "int4")
    if of.x == "bf16" and bits == 8:
        found["torch int8"] = partial(_product, of, "int8")
    if of.x not in STORED and of.m > 16:  # torch's own bound
        found["torch int8 mm"] = partial(_product, of, "int8 mm")
    return found


def _product(of: Linear, kind: str) -> Made:
    torch = torch_()
    torch.manual_seed(0)
    x = torch.from_numpy(of.rows())
    if kind == "int8 mm":
        x, w = torch.randint(-128, 128, (of.m, of.k), dtype=torch.int8), _bytes(torch, of)
    elif kind in TYPES:
        x, w = x.to(getattr(torch, TYPES[kind])), _dense(torch, of, kind)
    else:
        x, w = x.to(torch.bfloat16), _CODED[kind](torch, of)
    weights = [w.tensor, *(w.tensor.clone() for _ in range(of.copies(w.nbytes) - 1))]

    def want() -> Array:
        return np.asarray(x.double().numpy() @ w.dense.double().numpy().T)

    worst = WORST[kind if kind in WORST else "bf16"]
    return Made([partial(w.call, x, t) for t in weights], want, nbytes=w.nbytes,
                operations=of.operations, worst=worst)  # fmt: skip


def _dense(torch: Any, of: Linear, kind: str) -> Weight:
    w = torch.from_numpy(of.dense()).to(getattr(torch, TYPES[kind]))
    return Weight(w, w, torch.nn.functional.linear, w.nbytes)


def _int8(torch: Any, of: Linear) -> Weight:
    w = torch.randint(-128, 128, (of.n, of.k), dtype=torch.int8)
    scale = (torch.rand(of.n) + 0.5).to(torch.bfloat16)

    def call(x: Any, w: Any) -> Any:
        return torch.ops.aten._weight_int8pack_mm(x, w, scale)

    return Weight(w, w.double() * scale.double()[:, None], call, w.nbytes + scale.nbytes)


def _int4(torch: Any, of: Linear) -> Weight:
    codes = torch.randint(0, 16, (of.n, of.k), dtype=torch.int32)
    w = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes, 1)
    scale = torch.rand(of.k // GROUP, of.n) + 0.5
    parameters = torch.stack([scale, torch.zeros_like(scale)], 2).to(torch.bfloat16)

    def call(x: Any, w: Any) -> Any:
        return torch.ops.aten._weight_int4pack_mm_for_cpu(x, w, GROUP, parameters)

    spread = parameters[..., 0].double().T.repeat_interleave(GROUP, 1)
    return Weight(w, (codes - 8).double() * spread, call, w.nbytes + parameters.nbytes)


def _bytes(torch: Any, of: Linear) -> Weight:
    """Bytes times bytes, and the scales of columns."""
    w = torch.randint(-128, 128, (of.n, of.k), dtype=torch.int8)
    column = torch.rand(of.n) + 0.5

    def call(x: Any, w: Any) -> Any:
        return torch._int_mm(x, w.T) * column

    return Weight(w, w.double() * column.double()[:, None], call, w.nbytes + column.nbytes)


_CODED: dict[str, Callable[[Any, Linear], Weight]] = {"int4": _int4, "int8": _int8}


def _pruned(of: Pruned) -> Mapping[str, Make]:
    found: dict[str, Make] = {f"torch {of.dtype}": partial(_rest, of, "dense"),
                              "torch csr f32": partial(_rest, of, "csr")}  # fmt: skip
    if of.side > 1:
        found["torch bsr f32"] = partial(_rest, of, "bsr")
    return found


def _rest(of: Pruned, layout: str) -> Made:
    """A pruned product."""
    torch = torch_()
    weight, x = of.weight(), of.rows()
    w, dense = torch.from_numpy(weight), layout == "dense"
    if dense:
        w = w.to(getattr(torch, TYPES[of.dtype]))
        nbytes, given = w.nbytes, torch.from_numpy(x).to(w.dtype)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch says that CSR is in beta
            w = w.to_sparse_csr() if layout == "csr" else w.to_sparse_bsr((of.side, of.side))
        nbytes = sum(p.nbytes for p in (w.values(), w.crow_indices(), w.col_indices()))
        given = torch.from_numpy(np.ascontiguousarray(x.T))
    weights = [w, *(w.clone() for _ in range(of.copies(nbytes) - 1))]

    def call(w: Any) -> Any:
        return torch.nn.functional.linear(given, w) if dense else w @ given

    def got(y: Any) -> Array:
        return as_array(y) if dense else as_array(y).T

    return Made([partial(call, w) for w in weights], lambda: of.want(weight, x), got,
                nbytes=nbytes, operations=of.operations, worst=1e-2)  # fmt: skip


def tensors(of: Attention, grouped: bool) -> tuple[Any, list[tuple[Any, Any]], int]:
    """Queries, and keys and values to rotate over, `grouped` or repeated for every head; the bytes
    of one pair before that."""
    torch = torch_()

    def made(x: Array) -> Any:
        t = tensor(torch, x)[None]
        return t if grouped or len(x) == HEADS else t.repeat_interleave(HEADS // GROUPS, 1)

    q, k, v = of.operands()
    nbytes = k.nbytes + v.nbytes
    count = of.copies(nbytes if grouped else nbytes * HEADS // GROUPS)
    return made(q), [(made(k), made(v)) for _ in range(count)], nbytes


def attended(of: Attention, call: Callable[[Any, Any], Any], pairs: list[tuple[Any, Any]],
             nbytes: int) -> Made:  # fmt: skip
    """A contender that attends with `call`."""

    def got(y: Any) -> Array:
        return as_array(y).reshape(HEADS, of.m, WIDTH)

    return Made([partial(call, *p) for p in pairs], lambda: of.want(*of.operands()), got,
                nbytes=nbytes, operations=of.operations, worst=WORST[of.dtype])  # fmt: skip


def _attention(of: Attention, grouped: bool) -> Made:
    torch = torch_()
    q, pairs, nbytes = tensors(of, grouped)

    def call(k: Any, v: Any) -> Any:
        return torch.nn.functional.scaled_dot_product_attention(
            q, k, v, is_causal=of.causal and not of.decodes, scale=SCALE, enable_gqa=grouped
        )

    return attended(of, call, pairs, nbytes)


def _experts(of: Routed, grouped: bool) -> Made:
    torch = torch_()
    stored, routings = of.stored(), of.routings()
    meant = stored.dequantize() if isinstance(stored, PackedTensor) else stored
    w = torch.from_numpy(np.asarray(meant, np.float32)).to(torch.bfloat16)
    x = tensor(torch, of.rows())

    def whole(token: Any, ends: Any) -> Any:
        return torch.nn.functional.grouped_mm(x[token], w.transpose(1, 2), offs=ends)

    def loop(token: Any, ends: Any) -> Any:
        rows, runs = x[token], enumerate(pairwise([0, *ends.tolist()]))
        return torch.cat([torch.nn.functional.linear(rows[a:b], w[e]) for e, (a, b) in runs
                          if a < b])  # fmt: skip

    def want() -> Array:
        return of.want(as_array(w.float()), routings[0])

    planned = [(torch.from_numpy(r.token.astype(np.int64)),
                torch.from_numpy(r.start[1:].astype(np.int32))) for r in routings]  # fmt: skip
    nbytes = w.nbytes // of.experts * of.reached(routings[0])
    return Made([partial(whole if grouped else loop, *p) for p in planned], want, nbytes=nbytes,
                operations=of.operations)  # fmt: skip


PEER = Peer("torch", absent, _contenders, ("torch",))
