"""torch's attention: SDPA by whichever of its kernels is fastest, and flex_attention."""

# torch types what is looked up by name loosely.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

import importlib
from typing import Any

from tilec.bench.gpu.contender import Contender, theirs
from tilec.bench.gpu.held import Operands
from tilec.ir.errors import TileError


def _heads(o: Operands) -> tuple[Any, Any, Any]:
    """q [B, heads, M, D], k and v [B, groups, N, D] in bf16, whatever the case stores."""
    q, k, v = (o.dense(n, "bfloat16") for n in ("q", "k", "v"))
    match o.case.number:
        case 25:
            return q.flatten(1, 2), k, v
        case 26:
            return q.flatten(1, 2)[:, :, None], k, v
        case 28:
            return q[None], k[None], v[None]
        case 29:
            return q[None, None], k[None, None], v[None, None]
        case _:
            raise TileError("it has no form of this attention")


def _shaped(o: Operands, y: Any) -> Any:
    """A result in the shape of the case's."""
    name = "y" if "y" in o.held else "result"
    return y.reshape(o.held[name].shape)


def sdpa(o: Operands) -> Contender:
    """`scaled_dot_product_attention`; keys that are stored in codes are in bf16 here."""
    case, torch = o.case, o.torch
    if case.number == 27:
        return _latent(o)
    q, k, v = _heads(o)
    if case.number == 25 and q.shape[2] != k.shape[2]:
        raise TileError("its causal mask is for as many queries as keys")
    name, scale = "y" if "y" in o.held else "result", case.numbers["scale"]

    def call() -> Any:
        y = torch.nn.functional.scaled_dot_product_attention(
            q, k, v, is_causal=case.number == 25, scale=scale, enable_gqa=q.shape[1] != k.shape[1]
        )
        return _shaped(o, y)

    size = 2.0 * (k.numel() + v.numel() + 2 * q.numel())
    return theirs(o, "torch sdpa", name, [call], nbytes=size)


def _latent(o: Operands) -> Contender:
    """All heads share one key and value: multi-query attention of joined parts."""
    torch = o.torch
    q, turned, c, k = (o.dense(n, "bfloat16") for n in ("q", "turned", "c", "k"))
    queries = torch.cat([q, turned], -1)[:, None]
    keys = torch.cat([c, k], -1)[:, None]
    values = c[:, None]

    def call() -> Any:
        y = torch.nn.functional.scaled_dot_product_attention(
            queries, keys, values, scale=o.case.numbers["scale"]
        )
        return y[:, 0]

    return theirs(o, "torch sdpa", "result", [call])


def flex(o: Operands) -> Contender:
    """flex_attention, compiled, with a mask by blocks where the case has one."""
    case, torch = o.case, o.torch
    flexible: Any = importlib.import_module("torch.nn.attention.flex_attention")
    q, k, v = _heads(o)
    mask: Any = None
    if case.number == 25:
        m, n = q.shape[2], k.shape[2]
        mask = flexible.create_block_mask(lambda b, h, i, j: i + n - m >= j, None, None, m, n)
    if case.number == 29:
        mask = _blocks(o, flexible)
    run = torch.compile(flexible.flex_attention)
    name = "y" if "y" in o.held else "result"

    def call() -> Any:
        y = run(q, k, v, block_mask=mask, scale=case.numbers["scale"],
                enable_gqa=q.shape[1] != k.shape[1])  # fmt: skip
        return _shaped(o, y)

    return theirs(o, "torch flex", name, [call])


def _blocks(o: Operands, flexible: Any) -> Any:
    """The blocks of the case's mask: every row of them has equally many."""
    torch, block = o.torch, o.held["mask"].block
    assert block is not None
    parts = block.parts()
    rows = o.case.dims["M"] // 64
    columns = torch.from_numpy(parts["column"].astype("int32")).reshape(1, 1, rows, -1)
    each = columns.shape[-1]
    wide = torch.zeros(1, 1, rows, o.case.dims["N"] // 64, dtype=torch.int32)
    wide[..., :each] = columns
    count = torch.full((1, 1, rows), each, dtype=torch.int32)
    device = o.place.device
    none, nowhere = torch.zeros_like(count), torch.zeros_like(wide)
    return flexible.BlockMask.from_kv_blocks(
        none.to(device), nowhere.to(device), count.to(device), wide.to(device), BLOCK_SIZE=64
    )
