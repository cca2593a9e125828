"""torch's products of experts: grouped, of fp8, and one after the other."""

# torch types what is looked up by name loosely.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false

from __future__ import annotations

from typing import Any

from tilec.bench.gpu.contender import Contender, theirs
from tilec.bench.gpu.held import Operands


def _rows(o: Operands) -> tuple[Any, Any]:
    """The rows by expert, gathered beforehand, and where each expert's end."""
    x = o.dense("x", "bfloat16")
    experts, rows = o.case.dims["E"], o.case.dims["R"]
    ends = o.torch.arange(1, experts + 1, device=x.device, dtype=o.torch.int32) * (rows // experts)
    return x[o.held["token"].tensor.long()].contiguous(), ends


def _weights(o: Operands) -> list[Any]:
    names = ("w",) if "w" in o.held else ("gate", "up")
    return [o.dense(n, "bfloat16") for n in names]


def _joined(o: Operands, products: list[Any]) -> Any:
    """The product, or that of both of a gated layer."""
    if len(products) == 1:
        return products[0]
    return o.torch.nn.functional.silu(products[0]) * products[1]


def grouped(o: Operands) -> Contender:
    """`_grouped_mm` in bf16."""
    rows, ends = _rows(o)
    weights = [w.transpose(1, 2) for w in _weights(o)]
    size = sum(2.0 * w.numel() for w in weights) + 2.0 * rows.numel()

    def call() -> Any:
        return _joined(o, [o.torch._grouped_mm(rows, w, offs=ends) for w in weights])

    return theirs(o, "torch grouped", "y", [call], nbytes=size)


def scaled_grouped(o: Operands) -> Contender:
    """`_scaled_grouped_mm` of fp8 codes of its own, a scale for each row."""
    torch = o.torch
    rows, ends = _rows(o)
    codes = rows.to(torch.float8_e4m3fn)
    weights = _weights(o)[0].to(torch.float8_e4m3fn)
    a = torch.rand(len(rows), device=rows.device) + 0.5
    b = torch.rand(weights.shape[:2], device=rows.device) + 0.5
    each = len(rows) // len(weights)
    right = torch.stack([codes[i * each : (i + 1) * each].float() @ w.float().t()
                         for i, w in enumerate(weights)])  # fmt: skip
    right = right.flatten(0, 1) * a[:, None] * b.repeat_interleave(each, 0)

    def call() -> Any:
        return torch._scaled_grouped_mm(codes, weights.transpose(1, 2), a, b, offs=ends,
                                        out_dtype=torch.bfloat16)  # fmt: skip

    return theirs(o, "torch scaled grouped", "y", [call], want={"y": o.part("y", right)})


def loop(o: Operands) -> Contender:
    """A product for each expert, as a model is written at first."""
    rows, _ = _rows(o)
    weights = _weights(o)
    each = len(rows) // len(weights[0])

    def call() -> Any:
        parts = [_joined(o, [part @ w[e].t() for w in weights])
                 for e, part in enumerate(rows.split(each))]  # fmt: skip
        return o.torch.cat(parts)

    return theirs(o, "torch loop", "y", [call], nbytes=sum(2.0 * w.numel() for w in weights))
