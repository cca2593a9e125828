"""Whole kernels that nvcc compiled (their source is beside them), as they are and with bugs in."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tilec import ptx

DATA = Path(__file__).parent / "data"
BF16 = np.dtype(ml_dtypes.bfloat16)


def text_of(name: str) -> str:
    return (DATA / f"{name}.ptx").read_text()


def operands(m: int, n: int, k: int, kind: np.dtype) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Small whole numbers, so that every sum is exact, and the product."""
    rng = np.random.default_rng(1)
    a, b = (rng.integers(-4, 5, (rows, k)).astype(kind) for rows in (m, n))
    return a, b, a.astype(np.float32) @ b.astype(np.float32).T


def gemm80(m: int, n: int, k: int, text: str = "", **options: Any) -> tuple[bool, ptx.Report]:
    """Whether the result is exact, and the report."""
    a, b, want = operands(m, n, k, np.dtype(np.float16))
    c = np.full((m, n), np.nan, np.float32)
    arguments = {"a": a, "b": b, "c": c, "m": m, "n": n, "depth": k}
    grid = (-(-n // 64), -(-m // 64))
    module = ptx.load(text or text_of("gemm_sm80"))
    report = module.run("gemm", grid, 128, arguments, shared=24576, **options)
    return np.array_equal(c, want), report


def gemm90(m: int, n: int, k: int, text: str = "") -> tuple[bool, ptx.Report]:
    a, b, want = operands(m, n, k, BF16)
    c = np.zeros((m, n), BF16)
    maps = [ptx.TensorMap(a, (64, 64), 128), ptx.TensorMap(b, (64, 64), 128),
            ptx.TensorMap(c, (64, 64))]  # fmt: skip
    module = ptx.load(text or text_of("gemm_sm90"))
    grid = (-(-n // 64), -(-m // 64))
    report = module.run("gemm", grid, 160, [*maps, k], shared=3 * 16384 + 64)
    return np.array_equal(c, want.astype(BF16)), report


@pytest.mark.parametrize("size", [(128, 128, 128), (100, 72, 88), (64, 64, 32), (1, 8, 200)])
def test_gemm_with_cp_async_and_mma(size):
    exact, report = gemm80(*size)
    assert exact
    assert report.clean, report
    passes, ideal = report.wavefronts
    assert passes == ideal, "the exchange of chunks leaves no bank conflicts"


def test_checks_can_be_left_out():
    exact, report = gemm80(64, 64, 64, check=False, statistics=False)
    assert exact
    assert report.clean
    assert report.rows == ()


@pytest.mark.parametrize("size", [(128, 64, 512), (72, 120, 200), (64, 64, 64)])
def test_gemm_with_bulk_copies_and_wgmma(size):
    exact, report = gemm90(*size)
    assert exact
    assert report.clean, report
    (store,) = {r.place.source for r in report.rows if r.text.startswith("st.shared.b32")}
    assert str(store[0]).startswith("gemm_sm90.cu:")
    passes, ideal = report.wavefronts
    assert passes == 8 * ideal, "the result goes to shared memory in rows of 128 bytes"


def small(name: str, grid: int, block: int, *arguments: Any) -> None:
    report = ptx.load(text_of("small_sm80")).run(name, grid, block, list(arguments))
    assert report.clean, report


def test_small_kernels():
    rng = np.random.default_rng(2)
    x, out = rng.integers(-9, 9, 1000).astype(np.float32), np.zeros(1, np.float32)
    small("total", 3, 128, x, out, 1000)
    assert out[0] == x.sum()

    words, back = rng.integers(0, 2**32, 64, np.uint32), np.zeros(64, np.uint32)
    small("called", 1, 64, words, back)

    def mixed(v: int, y: int) -> int:
        v = v * 2654435761 + y if v & 1 else (v >> 3 | v << 29) ^ y
        return v & 0xFFFFFFFF

    assert back.tolist() == [mixed(mixed(v, 7), v) for v in words.tolist()]

    numbers, got = rng.integers(-99, 99, 96).astype(np.int32), np.zeros(96, np.int32)
    small("chosen", 1, 96, numbers, got)

    def chosen(v: int) -> int:
        whole = abs(v) // 5 * (1 if v > 0 else -1)
        rest = abs(v) % 7 * (1 if v > 0 else -1)
        bits = (v & 0xFFFFFFFF).bit_count()
        return [v + 11, v * 3, whole, rest, -v, bits, v ^ 0x55, v ^ 0x55][v & 7]

    assert got.tolist() == [chosen(v) for v in numbers.tolist()]

    rows, ordered = rng.integers(-99, 99, (32, 11)).astype(np.int32), np.zeros((32, 11), np.int32)
    small("sorted", 1, 32, rows, ordered, 11)
    np.testing.assert_array_equal(ordered, np.sort(rows, axis=1))


def test_small_kernels_on_wide_numbers():
    rng = np.random.default_rng(3)
    d, out = rng.uniform(0.1, 99, 64), np.zeros(64)
    small("doubles", 1, 64, d, out)
    np.testing.assert_allclose(out, d / 3 + np.sqrt(d) * d - 1 / d, rtol=1e-15)
    wide, got = rng.integers(0, 2**63, 64).astype(np.uint64), np.zeros(64, np.uint64)
    small("quotients", 1, 64, wide, got)
    want = [(v // 10 + v % 1000003 + (v * v >> 64)) % 2**64 for v in wide.tolist()]
    assert got.tolist() == want
    x, weighted = rng.standard_normal(32).astype(np.float32), np.zeros(33, np.float32)
    small("weighted", 1, 32, x, weighted)
    factors = np.tile(np.array([0.5, -1, 2, 0.25], np.float32), 8)
    np.testing.assert_array_equal(weighted[:32], x * factors)
    assert weighted[32] == np.float32(3) + np.float32(0.25) * x[1]
    codes, bins = rng.integers(0, 256, 700).astype(np.uint8), np.zeros(16, np.uint32)
    small("counted", 1, 96, codes, bins, 700)
    np.testing.assert_array_equal(bins, np.bincount(codes & 15, minlength=16))


Change = Callable[[str], str]


def drop(pattern: str, which: int = -1) -> Change:
    """Remove what a pattern matches: all of it, or one match."""
    return swap(pattern, "", which)


def swap(pattern: str, by: str, which: int = -1) -> Change:
    """Replace what a pattern matches: everywhere, or at one match."""

    def change(text: str) -> str:
        matches = list(re.finditer(pattern, text))
        assert matches, pattern
        for m in reversed(matches if which < 0 else [matches[which]]):
            text = text[: m.start()] + m.expand(by) + text[m.end() :]
        return text

    return change


def moved(pattern: str, before: str) -> Change:
    """Move a match to in front of the last match of another pattern."""

    def change(text: str) -> str:
        m = re.search(pattern, text)
        assert m
        rest = text[: m.start()] + text[m.end() :]
        at = list(re.finditer(before, rest))[-1].start()
        return rest[:at] + m[0] + "\n\t" + rest[at:]

    return change


BARRIER = r"bar\.sync\s+0;"
COPY = r"cp\.async\.cg\.shared\.global \[(%r\d+)\], \[(%rd\d+)\], 16, (%r\d+);"
FIRST_MATRIX = r"(ldmatrix\.sync\.aligned\.m8n8\.x4\.shared\.b16) \{(%r\d+), (%r\d+), (%r\d+)"

# The bug, how it is put in, what finds it ("value": only the result), whether the result is right.
BUGS_80: list[tuple[str, Change, str, bool]] = [
    ("a barrier is missing", drop(BARRIER), "race", True),
    ("the next tile is fetched before the barrier",
     moved(BARRIER, r"cp\.async\.commit_group;"), "race", True),
    ("one group too few is waited for", swap("wait_group 1;", "wait_group 2;"), "in-flight", False),
    ("nothing waits", drop(r"cp\.async\.wait_group 1;"), "in-flight", False),
    ("groups are never committed", drop(r"cp\.async\.commit_group;"), "in-flight", False),
    ("the last copies are not waited for", swap("wait_group 1;", "wait_group 3;"), "exit", False),
    ("a copy is missing", drop(COPY, 1), "uninitialised", False),
    ("rows past the end are copied",
     lambda s: swap(r"selp\.b64\s+(%rd\d+), (%rd\d+), 0, %p\d+;", r"mov.b64 \1, \2;")(
         swap(r"selp\.b32\s+(%r\d+), 16, 0, %p\d+;", r"mov.u32 \1, 16;")(s)), "bounds", False),
    ("results past the end are stored", drop(r"@%p37 bra\s+\S+;"), "bounds", True),
    ("a copy goes to an odd address", swap(COPY, r"cp.async.cg.shared.global [\1+8], [\2], 16;", 0),
     "alignment", False),
    ("a tile lies outside shared memory",
     swap(COPY, r"cp.async.cg.shared.global [\1+32768], [\2], 16;", 1), "bounds", False),
    ("lanes leave before a matrix is loaded",
     swap(FIRST_MATRIX, r"@%p5 \1 {\2, \3, \4", 0), "divergence", False),
    ("two registers are exchanged", swap(FIRST_MATRIX, r"\1 {\2, \4, \3", 0), "value", False),
    ("two fragments of B are exchanged",
     swap(r"\{(%r\d+), (%r\d+)\}, \{%f", r"{\2, \1}, {%f", 3), "value", False),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change", "found", "right"), BUGS_80, ids=[b[0] for b in BUGS_80])
def test_bugs_in_a_gemm_for_sm_80(name, change, found, right):
    exact, report = gemm80(100, 72, 200, change(text_of("gemm_sm80")), limit=20_000)
    assert exact == right
    kinds = {f.kind for f in report.findings}
    assert kinds == set() if found == "value" else found in kinds, report
    if right:
        sources = [str(f.place.source[-1]) for f in report.findings]
        assert all(s.startswith("gemm_sm80.cu:") for s in sources)


FULL = r"@!done bra AGAIN;"
BUGS_90: list[tuple[str, Change, str, bool | None]] = [
    ("too few bytes are expected", swap(r"(expect_tx\S+ _, \[%r\d+\]), 16384", r"\1, 16368"),
     "deadlock", False),
    ("too many bytes are expected", swap(r"(expect_tx\S+ _, \[%r\d+\]), 16384", r"\1, 24576"),
     "deadlock", False),
    ("the consumer does not look whether a stage is full", drop(FULL, 1), "race", None),
    ("the producer does not look whether a stage is free", drop(FULL, 0), "race", None),
    ("a stage is never freed", drop(r"mbarrier\.arrive\.shared::cta\.b64 _, \[%r\d+\];"),
     "deadlock", False),
    ("a stage is freed twice",
     swap(r"(mbarrier\.arrive\.shared::cta\.b64 _, \[%r\d+\]);", r"\1; \1;"), "deadlock", None),
    ("an mbarrier counts two arrivals", swap(r"(mbarrier\.init\S+ \[%r\d+\]), 1;", r"\1, 2;", 0),
     "deadlock", False),
    ("an mbarrier is not initialised", drop(r"mbarrier\.init\S+ \[%r\d+\], 1;", 2), "barrier",
     None),
    ("threads do not wait for the mbarriers", drop(r"bar\.sync\s+0;"), "race", None),
    ("wgmma is not waited for", drop(r"wgmma\.wait_group\.sync\.aligned 0;"), "in-flight", None),
    ("wgmma has no fence", drop(r"wgmma\.fence\.sync\.aligned;"), "fence", True),
    ("the result has no proxy fence", drop(r"fence\.proxy\.async\.shared::cta;"), "proxy", True),
    ("the result is stored before it is whole", drop(r"bar\.sync 1, 128;", 1), "race", True),
    ("a barrier counts a warp that never comes", swap(r"bar\.sync 1, 128;", "bar.sync 1, 160;", 0),
     "deadlock", False),
    ("the block ends before its result is read", drop(r"cp\.async\.bulk\.wait_group\.read 0;"),
     "exit", True),
    ("a descriptor has another swizzle", swap("4611686293305360384", "9223372311732748288", 0),
     "value", False),
    ("a box begins at an odd address", swap(r"\[(%r\d+)\], \[(%rd\d+), \{", r"[\1+16], [\2, {", 0),
     "alignment", False),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change", "found", "right"), BUGS_90, ids=[b[0] for b in BUGS_90])
def test_bugs_in_a_gemm_for_sm_90(name, change, found, right):
    exact, report = gemm90(64, 128, 512, change(text_of("gemm_sm90")))
    kinds = {f.kind for f in report.findings}
    assert kinds == set() if found == "value" else found in kinds, report
    assert right is None or exact == right
