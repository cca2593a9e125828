"""Index tiles whose numbers lie close together: tables that are read by permuting registers."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from lang import kernels

import tilec as tc
from tilec.artifacts import TARGETS
from tilec.compile import Kernel, engine
from tilec.cpu import cpu_source
from tilec.ir.format import Format
from tilec.ir.named import named
from tilec.lang.text import parse
from tilec.runtime.cache import Cache
from tilec.runtime.engine import Engine
from tilec.runtime.jit import host_machine

MASKS = pytest.mark.skipif("avx512bw" not in engine().machine.features, reason="vectors with masks")


DTYPES = {np.float32: "f32", np.float16: "f16", ml_dtypes.bfloat16: "bf16", np.int32: "i32",
          np.int16: "i16", np.uint16: "u16", np.int8: "i8", np.uint8: "u8"}  # fmt: skip
LOOKED_UP = """kernel looked_up(t: KIND[T], first: i32[M], c: u8[M, N], y: KIND[M, N]) {
  for m, n in tiles(M, N) { y[m, n] = t[first[m][:, none] + cast(c[m, n] & LAST, i32)] }
}"""


@tc.kernel
def beside(t: tc.Tensor["M", "T"], c: tc.Tensor["M", "N"], y: tc.Tensor["M", "N"]):
    for m, n in tc.tiles("M", "N"):
        y[m, n] = (t[m, n.index // 20] + t[m, (n.index - 7) // 32]) * tc.cast(c[m, n], tc.f32)


@pytest.mark.parametrize("stored", DTYPES)
@pytest.mark.parametrize("bits", [1, 3, 4, 5, 6])
def test_entries_of_tables_are_exact_and_zero_where_there_are_none(bits: int, stored: type):
    rng, (m, n) = np.random.default_rng([bits]), (9, 77)
    table = rng.integers(-99, 100, 150).astype(stored)
    first = np.array([0, 1, 60, 140, 149, 150, -1, -20, 2**31 - 3], np.int32)
    codes, last = rng.integers(0, 256, (m, n)).astype(np.uint8), (1 << bits) - 1
    y = np.full((m, n), 77, stored)
    text = LOOKED_UP.replace("KIND", DTYPES[stored]).replace("LAST", str(last))
    Kernel(parse(text)["looked_up"])(table, first, codes, y)
    at = first.astype(np.int64)[:, None] + (codes & last)
    want = np.where((at >= 0) & (at < 150), table[np.clip(at, 0, 149)], np.zeros(1, stored))
    np.testing.assert_array_equal(y, want)


@pytest.mark.parametrize("n", [5, 77, 160])
def test_numbers_of_groups_that_vectors_straddle(n: int):
    rng = np.random.default_rng([n])
    table = rng.standard_normal((3, -(-n // 20))).astype(np.float16)
    codes = rng.integers(1, 200, (3, n)).astype(np.uint8)
    y = np.full((3, n), np.nan, np.float32)
    beside(table, codes, y)
    wide = np.pad(table.astype(np.float32), ((0, 0), (1, 0)))  # nothing is before the first
    first, second = (wide[:, 1 + at] for at in (np.arange(n) // 20, (np.arange(n) - 7) // 32))
    np.testing.assert_array_equal(y, (first + second).astype(np.float16) * np.float32(1) * codes)


def code(text: str, rows: int = 1) -> str:
    types: dict[str, Format | tc.DType] = {"x": tc.bf16, "w": named(text), "y": tc.f32}
    features = f"{TARGETS['x86-64-v4']},+avx512vbmi"
    host = Engine(Cache(None), host_machine("emeraldrapids", features), threads=2)
    dims = {"M": rows, "N": 128, "K": 1024}
    return cpu_source(kernels.linear.definition, types, dims, host).text


@pytest.mark.parametrize("text", ["squeezellm", "flute", "codebook<5, rows=1>"])
def test_a_table_of_few_entries_is_permuted(text: str):
    found = code(text)
    assert "masked.gather" not in found
    assert "llvm.x86.avx512.perm" in found or "llvm.x86.avx512.vpermi2var" in found
    assert "llvm.x86.avx512.pmultishift.qb.512" in found  # codes are moved to lanes at once


def test_a_table_of_many_entries_is_gathered():
    assert "masked.gather" in code("codebook<7, rows=1>")


@MASKS
def test_only_reads_of_single_elements_are_remarked():
    types = {"x": tc.bf16, "y": tc.f32}
    for text, apart in (("squeezellm", False), ("codebook<7, rows=1>", True)):
        dims = {"M": 1, "N": 128, "K": 1024}
        found = cpu_source(kernels.linear.definition, types | {"w": named(text)}, dims, engine())
        assert apart == any("element by element" in r.message for r in found.remarks)
