"""torch's products: dense, of codes in 4 and 8 bits, of fp8, of sparse weights."""

# torch types what is looked up by name loosely.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from tilec.bench.gpu.contender import Contender, theirs
from tilec.bench.gpu.held import Operands
from tilec.ir.errors import TileError

Epilogue = Callable[..., Any]


def _calls(o: Operands, call: Callable[..., Any], x: Any, *weights: Any) -> list[Callable[[], Any]]:
    """Calls that find their weights cold."""
    return [partial(call, x, *again) for again in o.rotated(*weights)]


def _product(o: Operands) -> None:
    if not {"x", "w"} <= o.held.keys() or len(o.held["w"].shape) != 2:
        raise TileError("it multiplies matrices")


def half(o: Operands) -> Contender:
    """x @ w.T in 16 bits by cuBLAS."""
    _product(o)
    dtype = "bfloat16" if "bf16" in o.case.types.values() else "float16"
    x, w = o.dense("x", dtype), o.dense("w", dtype)
    calls = _calls(o, o.torch.nn.functional.linear, x, w)
    size = w.numel() * 2 + x.numel() * 2 + x.shape[0] * w.shape[0] * 2
    return theirs(o, f"torch {'b' * (dtype == 'bfloat16')}f16", "y", calls, nbytes=size)


def int4(o: Operands) -> Contender:
    """`_weight_int4pack_mm` of tinygemm: codes of its own, groups of 128, in bf16."""
    _product(o)
    torch, device = o.torch, o.place.device
    n, k = o.held["w"].shape
    x = o.dense("x", "bfloat16")
    codes = torch.randint(0, 16, (n, k), dtype=torch.int32, device=device)
    packed = torch.ops.aten._convert_weight_to_int4pack(
        (codes[:, ::2] << 4 | codes[:, 1::2]).to(torch.uint8), 8
    )
    scale = (torch.rand(k // 128, n, device=device) + 0.5).bfloat16()
    both = torch.stack([scale, torch.zeros_like(scale)], 2).contiguous()
    dense = (codes - 8).to(torch.bfloat16) * scale.T.repeat_interleave(128, 1)
    want = {"y": o.part("y", x.double() @ dense.double().T)}

    def call(x: Any, w: Any, both: Any) -> Any:
        return torch.ops.aten._weight_int4pack_mm(x, w, 128, both)

    size = packed.numel() * 4 + both.numel() * 2 + 2 * x.numel() + 2 * x.shape[0] * n
    return theirs(o, "torch int4", "y", _calls(o, call, x, packed, both), want=want, nbytes=size)


def int8(o: Operands) -> Contender:
    """`_int_mm` of codes of its own and an epilogue of scales; it takes more than 16 rows."""
    _product(o)
    torch, device = o.torch, o.place.device
    (n, k), m = o.held["w"].shape, o.held["x"].shape[0]
    rows = max(m, 32)
    x, w = (torch.randint(-128, 128, (r, k), dtype=torch.int8, device=device) for r in (rows, n))
    a, b = (torch.rand(r, device=device) / 64 for r in (rows, n))

    def call(x: Any, w: Any) -> Any:
        return (torch._int_mm(x, w.t()) * a[:, None] * b).to(torch.bfloat16)[:m]

    right = ((x.double() @ w.double().T) * a[:, None] * b)[:m]
    return theirs(o, "torch int8", "y", _calls(o, call, x, w), want={"y": o.part("y", right)},
                  nbytes=float(w.numel() + x.numel() + 2 * m * n))  # fmt: skip


def fp8(o: Operands) -> Contender:
    """`_scaled_mm` of fp8 with a scale for each row of both, in bf16."""
    _product(o)
    torch, device = o.torch, o.place.device
    (n, k), m = o.held["w"].shape, o.held["x"].shape[0]
    rows = max(m, 16)
    x, w = (torch.randn(r, k, device=device).to(torch.float8_e4m3fn) for r in (rows, n))
    a, b = torch.rand(rows, 1, device=device) + 0.5, torch.rand(1, n, device=device) + 0.5

    def call(x: Any, w: Any) -> Any:
        return torch._scaled_mm(x, w.t(), a, b, out_dtype=torch.bfloat16)[:m]

    right = ((x.double() @ w.double().T) * a * b)[:m]
    return theirs(o, "torch fp8", "y", _calls(o, call, x, w), want={"y": o.part("y", right)},
                  nbytes=float(w.numel() + x.numel() + 2 * m * n))  # fmt: skip


def semi_structured(o: Operands) -> Contender:
    """`to_sparse_semi_structured`: cuSPARSELt or CUTLASS."""
    _product(o)
    x, w = o.dense("x", "bfloat16"), o.dense("w", "bfloat16")
    sparse = o.torch.sparse.to_sparse_semi_structured(w)
    calls = [partial(o.torch.nn.functional.linear, x, sparse)]
    return theirs(o, "torch 2:4", "y", calls)


def csr(o: Operands) -> Contender:
    """A weight in CSR times dense columns: cuSPARSE."""
    _product(o)
    x, w = o.dense("x", "bfloat16"), o.dense("w", "bfloat16").to_sparse_csr()
    columns = x.t().contiguous()
    return theirs(o, "torch csr", "y", [lambda: (w @ columns).t()])


def bsr(o: Operands) -> Contender:
    """A weight in blocks: torch's own kernel in Triton."""
    _product(o)
    x, w = o.dense("x", "bfloat16"), o.dense("w", "bfloat16").to_sparse_bsr((64, 64))
    return theirs(o, "torch bsr", "y", [partial(o.torch.nn.functional.linear, x, w)])


def unfused_down(o: Operands) -> Contender:
    """Codes in one kernel, the thin product in another; the codes are not compared."""
    torch = o.torch
    x, a = o.dense("x", "bfloat16"), o.dense("a", "bfloat16")
    groups = x.shape[1] // 64

    def call() -> Any:
        blocks = x.float().view(len(x), groups, 64)
        scale = blocks.abs().amax(2) / 127
        codes = (blocks / scale[..., None]).round().to(torch.int8)
        return x @ a.t(), codes, scale

    def got(found: Any) -> Any:
        return {"thin": o.part("thin", found[0])}

    want = {"thin": o.want()["thin"]}
    case = o.case
    return Contender("unfused down", [call], got, 3e-2, case.bytes, case.operations, want)


def unfused_up(o: Operands) -> Contender:
    """Dense products in bf16, added."""
    x, w, thin, b = (o.dense(n, "bfloat16") for n in ("x", "w", "thin", "b"))
    return theirs(o, "unfused up", "y", [lambda: x @ w.t() + thin @ b.t()])
