"""Kernels on the CUDA vocabulary, written by hand, with data on which their results are exact."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.sparse import _semi_structured_conversions as semi_structured

from tilec.codegen.cuda.headers import host_headers
from tilec.codegen.cuda.wgmma import Wgmma, device_wgmma
from tilec.runtime.cache import Cache, default_directory
from tilec.runtime.emulate import Emulator
from tilec.runtime.emulated_kernel import Argument
from tilec.runtime.report import Report
from tilec.runtime.tensor_map import TensorMap
from tilec.settings import settings

FOLDER = Path(__file__).parent / "codegen" / "cuda" / "emulation" / "kernels"
EVERY = ("sm_80", "sm_89", "sm_90a", "sm_100a")

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, eq=False)
class Case:
    """A launch of a kernel, and what one of its arguments must hold after it."""

    source: str
    entry: str
    grid: tuple[int, ...]
    block: tuple[int, ...]
    arguments: dict[str, Argument]
    result: Array
    expected: Array
    shared_bytes: int = 0
    targets: tuple[str, ...] = EVERY
    wgmma: tuple[Wgmma, ...] = ()
    options: dict[str, Any] = field(default_factory=dict[str, Any])

    def run(self, **options: Any) -> Report:
        """Launch it on a poisoned result."""
        self.result.view(np.uint8)[:] = 0xFF
        given = {"shared_bytes": self.shared_bytes, **self.options, **options}
        return emulator().run(
            self.source, self.entry, self.grid, self.block, self.arguments, **given
        )

    def exact(self) -> bool:
        """Whether the last run gave what was expected, bit for bit."""
        return bool(np.array_equal(self.result, self.expected))

    def changed(self, old: str, new: str) -> Case:
        """The same launch of a source with one passage changed."""
        assert self.source.count(old) == 1, f"{old!r} is there {self.source.count(old)} times"
        return replace(self, source=self.source.replace(old, new))

    def line(self, text: str) -> int:
        """The number of the only line with this text."""
        found = [i for i, line in enumerate(self.source.splitlines(), 1) if text in line]
        assert len(found) == 1, f"{text!r} is on lines {found}"
        return found[0]

    def device_source(self) -> str:
        """The source with the device bodies of its wgmma."""
        return f'#include "tilec.cuh"\n{device_wgmma(self.wgmma)}#line 1\n{self.source}'


@cache
def emulator() -> Emulator:
    """One for all tests; what it compiles stays in the user's cache."""
    return Emulator(host_headers(), Cache(default_directory(settings().environment)))


def source(name: str) -> str:
    """The text of a kernel."""
    return (FOLDER / f"{name}.cu").read_text("utf-8")


def integers(seed: int, shape: tuple[int, ...], dtype: Any, low: int = -4, high: int = 5) -> Array:
    """Small integers: sums of their products are exact in any order."""
    return np.random.default_rng(seed).integers(low, high, shape).astype(dtype)


def blank(shape: tuple[int, ...], dtype: Any) -> Array:
    """A result to be."""
    return np.empty(shape, dtype)


def gemm_async(m: int, n: int, k: int) -> Case:
    """f16 x f16 -> f32 by cp.async, ldmatrix and mma.sync."""
    a, b, c = integers(1, (m, k), "f2"), integers(2, (k, n), "f2"), blank((m, n), "f4")
    arguments: dict[str, Argument] = {"a": a, "b": b, "c": c, "m": m, "n": n, "k": k}
    return Case(
        source("gemm_async"), "gemm", (-(-n // 64), -(-m // 64)), (128,), arguments, c,
        a.astype("f4") @ b.astype("f4"), 3 * 8192,
    )  # fmt: skip


def gemm_warpgroups(m: int, n: int, k: int) -> Case:
    """f16 x f16 -> f16 by the copy unit, mbarriers, specialised warpgroups and wgmma."""
    a, b = integers(1, (m, k), "f2", -2, 3), integers(2, (n, k), "f2", -2, 3)
    c = blank((m, n), "f2")
    arguments: dict[str, Argument] = {
        "a": TensorMap(a, (128, 64), 128), "b": TensorMap(b, (64, 64), 128),
        "c": TensorMap(c, (64, 64), 128), "k": k,
    }  # fmt: skip
    return Case(
        source("gemm_warpgroups"), "gemm", (-(-n // 64), -(-m // 128)), (384,), arguments, c,
        (a.astype("f4") @ b.astype("f4").T).astype("f2"), 4 * 24576 + 16384 + 64, ("sm_90a",),
        (Wgmma(64, "f16", "f16"),),
    )  # fmt: skip


def w4a16(n: int, k: int) -> Case:
    """f16 x 4-bit codes with group scales -> f32, decoded by lop3; 16 rows."""
    x, codes = integers(1, (16, k), "f2"), integers(2, (k, n), "u4", 0, 16)
    scales = (integers(3, (k // 128, n), "f4", 1, 9) / 8).astype("f2")
    y = blank((16, n), "f4")
    # [step, i, row in 16, tile, half, g] -> [step, tile, g, t, i, half, the four of a lane]
    tiles = codes.reshape(k // 64, 4, 16, n // 16, 2, 8)
    rows = np.array([[2 * t + i for t in range(4)] for i in (0, 1, 8, 9)])
    lanes = tiles[:, :, rows].transpose(0, 4, 6, 3, 1, 5, 2)
    shifts = np.array([[0, 16, 4, 20], [8, 24, 12, 28]], "u4")
    q = np.ascontiguousarray((lanes << shifts).sum((-1, -2), dtype="u4"))
    weights = (codes.astype("f4") - 8) * np.repeat(scales.astype("f4"), 128, 0)
    twice = scales.view("u2").astype("u4") * 0x10001
    arguments: dict[str, Argument] = {"x": x, "q": q, "scales": twice, "y": y, "n": n, "k": k}
    return Case(
        source("w4a16"), "linear", (-(-n // 64),), (128,), arguments, y,
        x.astype("f4") @ weights, 16 * k * 2,
    )  # fmt: skip


def w4_warpgroup(m: int, n: int, k: int) -> Case:
    """f16 x 4-bit codes -> f32 by wgmma with the decoded codes in registers."""
    x, codes = integers(1, (m, k), "f2"), integers(2, (n, k), "u4", 0, 16)
    y = blank((m, n), "f4")
    # [block, warp, upper 8, g, step, kk, right 8, t, e] -> [block, step, thread, kk, the eight]
    tiles = codes.reshape(n // 64, 4, 2, 8, k // 64, 4, 2, 4, 2)
    lanes = tiles.transpose(0, 4, 1, 3, 7, 5, 6, 2, 8).reshape(n // 64, k // 64, 128, 4, 8)
    q = np.ascontiguousarray((lanes << np.arange(0, 32, 4).astype("u4")).sum(-1, dtype="u4"))
    arguments: dict[str, Argument] = {
        "q": q, "x": TensorMap(x, (16, 64), 128), "y": y, "m": m, "n": n, "k": k,
    }  # fmt: skip
    return Case(
        source("w4_warpgroup"), "linear", (n // 64, -(-m // 16)), (128,), arguments, y,
        x.astype("f4") @ (codes.astype("f4") - 8).T, 2 * 2048 + 64, ("sm_90a",),
        (Wgmma(16, "f16", "f16", a_in_registers=True),),
    )  # fmt: skip


def sparse(entry: str, m: int, n: int, k: int) -> Case:
    """2:4 sparse x dense with torch's metadata: sparse_f16, sparse_bf16 or sparse_s8."""
    dtypes = {"f16": torch.float16, "bf16": torch.bfloat16, "s8": torch.int8}
    dtype = dtypes[entry.removeprefix("sparse_")]
    random = np.random.default_rng(1)
    places = np.sort(random.permuted(np.tile(np.arange(4), (m, k // 4, 1)), axis=-1)[..., :2])
    dense = np.zeros((m, k // 4, 4), "f4")
    np.put_along_axis(dense, places, random.integers(1, 9, places.shape).astype("f4"), -1)
    dense = dense.reshape(m, k)
    half, metadata = semi_structured.sparse_semi_structured_from_dense_cutlass(
        torch.tensor(dense).to(dtype)
    )
    b = integers(2, (n, k), "f4", -8, 9)
    c = blank((m, n), "i4" if entry == "sparse_s8" else "f4")
    arguments: dict[str, Argument] = {
        "a": half.contiguous().view(torch.uint8).numpy(),
        "metadata": metadata.flatten().view(torch.int32).numpy(),
        "b": torch.tensor(b).to(dtype).view(torch.uint8).numpy(),
        "c": c, "m": m, "n": n, "k": k,
    }  # fmt: skip
    rows = 16 if entry == "sparse_s8" else 32
    expected = (dense @ b.T).astype(c.dtype)
    return Case(source("sparse"), entry, (n // 8, m // rows), (32,), arguments, c, expected)


def split_k(n: int, k: int, slices: int) -> Case:
    """f32 with k split over blocks that hand a lock on."""
    a, b, c = integers(1, (64, k), "f4"), integers(2, (k, n), "f4"), blank((64, n), "f4")
    locks = np.zeros(n // 64, "u4")
    arguments: dict[str, Argument] = {"a": a, "b": b, "c": c, "locks": locks, "n": n, "k": k}
    return Case(
        source("split_k"), "gemm", (n // 64, slices), (64,), arguments, c, a @ b,
        options={"resident": n // 64 * slices},
    )  # fmt: skip
