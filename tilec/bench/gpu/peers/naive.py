"""Kernels as one writes them in Triton at first: a dense product, weights in codes, rows.

Triton reads a kernel's source from a file, and nothing of Triton is imported before it is needed:
so the kernels are a text here, and a module of a temporary folder when they are run.
"""

# torch and triton type what is looked up by name loosely.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false

from __future__ import annotations

import atexit
import importlib.util
import shutil
import tempfile
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

from tilec.bench.gpu.contender import Contender, theirs
from tilec.bench.gpu.held import Operands
from tilec.ir.errors import TileError

KERNELS = '''import triton
import triton.language as tl


@triton.jit
def dense(x, w, y, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
          GROUP: tl.constexpr, INTEGER: tl.constexpr):
    """y = x @ w.T: tiles in bands of GROUP rows, so that they find operands in the cache."""
    pid, wide = tl.program_id(0), tl.cdiv(N, BN)
    band = pid // (GROUP * wide) * GROUP
    high = min(tl.cdiv(M, BM) - band, GROUP)
    rows = (band + pid % (GROUP * wide) % high) * BM + tl.arange(0, BM)
    columns = pid % (GROUP * wide) // high * BN + tl.arange(0, BN)
    depth = tl.arange(0, BK)
    left = x + (rows % M)[:, None] * K + depth[None, :]
    right = w + (columns % N)[None, :] * K + depth[:, None]
    total = tl.zeros((BM, BN), tl.int32 if INTEGER else tl.float32)
    for k in range(0, K, BK):
        total = tl.dot(tl.load(left + k), tl.load(right + k), total)
    inside = (rows[:, None] < M) & (columns[None, :] < N)
    tl.store(y + rows[:, None] * N + columns[None, :], total.to(y.dtype.element_ty), mask=inside)


@triton.jit
def int4(x, w, s, y, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    """Words of eight codes, each less 8 and times the scale of its group of BK."""
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    columns = tl.program_id(1) * BN + tl.arange(0, BN)
    depth = tl.arange(0, BK)
    total = tl.zeros((BM, BN), tl.float32)
    for k in range(0, K, BK):
        q = tl.load(w + columns[None, :] * (K // 8) + ((k + depth) // 8)[:, None])
        value = (q >> (depth % 8 * 4)[:, None] & 15) - 8
        scale = tl.load(s + columns * (K // BK) + k // BK)
        a = tl.load(x + (rows % M)[:, None] * K + k + depth[None, :])
        total = tl.dot(a, value.to(tl.float16) * scale[None, :], total)
    tl.store(y + rows[:, None] * N + columns[None, :], total.to(tl.float16),
             mask=rows[:, None] < M)


@triton.jit
def softmax(x, y, N, BLOCK: tl.constexpr):
    """A row at a time: the largest and the sum in one pass, the results in another."""
    row = tl.program_id(0).to(tl.int64)
    most = tl.full((BLOCK,), -float("inf"), tl.float32)
    total = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, N, BLOCK):
        at = start + tl.arange(0, BLOCK)
        a = tl.load(x + row * N + at, mask=at < N, other=-float("inf")).to(tl.float32)
        new = tl.maximum(most, a)
        total = total * tl.exp(most - new) + tl.exp(a - new)
        most = new
    whole = tl.max(most, 0)
    least = tl.sum(total * tl.exp(most - whole), 0)
    for start in range(0, N, BLOCK):
        at = start + tl.arange(0, BLOCK)
        a = tl.load(x + row * N + at, mask=at < N, other=0.0).to(tl.float32)
        tl.store(y + row * N + at, (tl.exp(a - whole) / least).to(y.dtype.element_ty), mask=at < N)


@triton.jit
def rms_norm(x, gain, y, eps, N, BLOCK: tl.constexpr):
    """A row of a program, held in registers."""
    row, at = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK)
    a = tl.load(x + row * N + at, mask=at < N, other=0.0).to(tl.float32)
    g = tl.load(gain + at, mask=at < N, other=0.0).to(tl.float32)
    scaled = a / tl.sqrt(tl.sum(a * a, 0) / N + eps) * g
    tl.store(y + row * N + at, scaled.to(y.dtype.element_ty), mask=at < N)
'''
GROUP = 128  # codes of a scale


def kernels() -> ModuleType:
    """The kernels. Needs triton."""
    return module_of(KERNELS, "naive_kernels")


@cache
def module_of(text: str, name: str) -> ModuleType:
    """A text as a module, whose file is there until the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="tilec-peer-"))
    atexit.register(shutil.rmtree, folder, True)
    file = folder / f"{name}.py"
    file.write_text(text, "utf-8")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tile(rows: int) -> int:
    """The rows of a tile of a product of so many."""
    return max(16, min(128, 1 << (rows - 1).bit_length()))


def dense(o: Operands) -> Contender:
    """The product of 16 bits."""
    dtype = "bfloat16" if o.case.types["x"] == "bf16" else "float16"
    x, w = o.dense("x", dtype), o.dense("w", dtype)
    y = o.torch.empty((len(x), len(w)), dtype=x.dtype, device=x.device)
    return theirs(o, "triton dense", "y", [_product(o, x, w, y, False)])


def _product(o: Operands, x: Any, w: Any, y: Any, integer: bool) -> Any:
    """A call of `dense`, whose steps must be whole."""
    (m, k), n = x.shape, len(w)
    rows, depth = tile(m), 128 if integer else 64
    if k % depth:
        raise TileError(f"its steps are {depth} deep, and K is {k}")
    grid = (-(-m // rows) * -(-n // 128),)

    def call() -> Any:
        kernels().dense[grid](x, w, y, m, n, k, rows, 128, depth, 8, integer,
                              num_warps=8 if rows > 64 else 4, num_stages=3)  # fmt: skip
        return y

    return call


def int8(o: Operands) -> Contender:
    """The product of codes of its own, with scales behind it in torch."""
    torch, device = o.torch, o.place.device
    (n, k), m = o.held["w"].shape, o.held["x"].shape[0]
    x, w = (torch.randint(-128, 128, (r, k), dtype=torch.int8, device=device) for r in (m, n))
    a, b = (torch.rand(r, device=device) / 64 for r in (m, n))
    sums = torch.empty((m, n), dtype=torch.int32, device=device)
    product = _product(o, x, w, sums, True)

    def call() -> Any:
        return (product() * a[:, None] * b).to(torch.bfloat16)

    right = (x.double() @ w.double().T) * a[:, None] * b
    return theirs(o, "triton int8", "y", [call], want={"y": o.part("y", right)},
                  nbytes=float(w.numel() + x.numel() + 2 * m * n))  # fmt: skip


def int4(o: Operands) -> Contender:
    """Weights in four bits, codes of its own: shifted, masked and cast."""
    torch, device = o.torch, o.place.device
    (n, k), x = o.held["w"].shape, o.dense("x", "float16")
    m, rows = len(x), min(64, tile(len(x)))
    if k % GROUP or n % 128:
        raise TileError(f"its groups are of {GROUP} and its tiles 128 wide")
    codes = torch.randint(0, 16, (n, k), dtype=torch.int32, device=device)
    shifts = torch.arange(0, 32, 4, device=device, dtype=torch.int32)
    words = (codes.view(n, -1, 8) << shifts).sum(-1).to(torch.int32)
    scale = (torch.rand(n, k // GROUP, device=device) + 0.5).half()
    y = torch.empty((m, n), dtype=torch.float16, device=device)

    def call(w: Any, s: Any) -> Any:
        grid = (-(-m // rows), n // 128)
        kernels().int4[grid](x, w, s, y, m, n, k, rows, 128, GROUP, num_warps=4, num_stages=3)
        return y

    calls = [partial(call, *again) for again in o.rotated(words, scale)]
    spread = scale.double().repeat_interleave(GROUP, 1)
    right = x.double() @ ((codes - 8).double() * spread).T
    size = 4.0 * words.numel() + 2.0 * (scale.numel() + x.numel() + m * n)
    return theirs(o, "triton int4", "y", calls, want={"y": o.part("y", right)}, nbytes=size)


def rows(o: Operands) -> Contender:
    """softmax or an RMS norm of rows."""
    name, x = o.case.name, o.dense("x", "bfloat16")
    y = o.torch.empty_like(x)
    many, n = x.shape
    if name.startswith("softmax"):

        def call() -> Any:
            kernels().softmax[(many,)](x, y, n, 4096, num_warps=8)
            return y

    elif name.startswith("rms norm"):
        gain, block = o.dense("gain", "bfloat16"), 1 << (n - 1).bit_length()

        def call() -> Any:
            kernels().rms_norm[(many,)](x, gain, y, o.case.numbers["eps"], n, block, num_warps=16)
            return y

    else:
        raise TileError("it has no such kernel")
    return theirs(o, "triton rows", "result", [call])
