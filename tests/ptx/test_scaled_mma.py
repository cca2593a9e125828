"""mma with block scales: every code and scale, by a lane-by-lane picture of the fragments."""

from __future__ import annotations

from itertools import product

import ml_dtypes
import numpy as np
import pytest
from ptx.test_mma import registers

from tilec import ptx
from tilec.ir.errors import TileError

NUMPY = {"e4m3": ml_dtypes.float8_e4m3fn, "e5m2": ml_dtypes.float8_e5m2,
         "e2m1": ml_dtypes.float4_e2m1fn}  # fmt: skip
FORMS = [  # kind, scale_vec, scales, depth, codes
    ("mxf8f6f4", 1, "ue8m0", 32, ("e4m3", "e5m2")),
    ("mxf4", 2, "ue8m0", 64, ("e2m1",)),
    ("mxf4nvf4", 2, "ue8m0", 64, ("e2m1",)),
    ("mxf4nvf4", 4, "ue4m3", 64, ("e2m1",)),
]


def values(codes: np.ndarray, t: str) -> np.ndarray:
    if t == "ue8m0":
        return np.ldexp(1.0, codes.astype(int) - 127)
    t = t.removeprefix("u")
    return codes.astype(np.uint8).view(NUMPY[t]).astype(np.float64)


def words(codes: np.ndarray, t: str, rows: int) -> np.ndarray:
    """Registers x lanes of a matrix [rows, depth] of codes, lane by lane."""
    bits = 4 if t == "e2m1" else 8
    n, halves = 32 // bits, rows // 8
    found = np.zeros((codes.size * bits // 1024, 32), np.uint32)
    for i, lane in product(range(len(found)), range(32)):
        row, column = lane // 4 + i % halves * 8, lane % 4 * n + i // halves * 4 * n
        for h in range(n):
            found[i, lane] |= np.uint32(int(codes[row, column + h]) << bits * h)
    return found


def scale_words(scales: np.ndarray, byte: int, thread: int, rng: np.random.Generator) -> np.ndarray:
    """Registers of scales [rows, blocks]; what is not looked at is anything."""
    found = rng.integers(0, 1 << 32, 32, np.uint32)
    rows, count = scales.shape
    for row, k in product(range(rows), range(count)):
        lane = row % 8 * 4 + (2 * thread + row // 8 if rows == 16 else thread)
        shift = np.uint32(8 * (byte + k))
        found[lane] &= ~(np.uint32(0xFF) << shift)
        found[lane] |= np.uint32(int(scales[row, k])) << shift
    return found[None]


def multiplied(form: tuple, a_type: str, b_type: str, byte: int, threads: tuple[int, int],
               seed: int) -> tuple[np.ndarray, np.ndarray, ptx.Report]:  # fmt: skip
    """d and the exact sums, of random codes: sums of few bits, so that f32 has them."""
    kind, count, scale, depth, _ = form
    rng = np.random.default_rng(seed)
    a, b = (rng.integers(0, 16 if t == "e2m1" else 256, (n, depth))
            for t, n in ((a_type, 16), (b_type, 8)))  # fmt: skip
    for codes, t in ((a, a_type), (b, b_type)):  # neither NaN nor infinity
        codes[~np.isfinite(values(codes, t))] = 0
    low, high = (120, 135) if scale == "ue8m0" else (0, 127)
    sa, sb = rng.integers(low, high, (16, count)), rng.integers(low, high, (8, count))
    c = rng.integers(-4, 5, (16, 8)).astype(np.float64)
    wide = [values(x, t) * np.repeat(values(s, scale), depth // count, 1)
            for x, t, s in ((a, a_type, sa), (b, b_type, sb))]  # fmt: skip
    want = (wide[0] @ wide[1].T + c).astype(np.float32)
    sums = np.array([[c[lane // 4 + 8 * (i // 2), 2 * (lane % 4) + i % 2] for lane in range(32)]
                     for i in range(4)], np.float32).view(np.uint32)  # fmt: skip
    text = (
        f"mma.sync.aligned.m16n8k{depth}.row.col.kind::{kind}.block_scale.scale_vec::{count}X"
        f".f32.{a_type}.{b_type}.f32.{scale} {{d}}, {{0}}, {{1}}, {{2}}, "
        f"{{3}}, {{{{{byte}, {threads[0]}}}}}, {{4}}, {{{{{byte}, {threads[1]}}}}};"
    )
    out, report = registers(
        text, words(a, a_type, 16), words(b, b_type, 8), sums,
        scale_words(sa, byte, threads[0], rng), scale_words(sb, byte, threads[1], rng), outs=4,
    )  # fmt: skip
    got = np.zeros((16, 8), np.float32)
    for i, lane in product(range(4), range(32)):
        got[lane // 4 + 8 * (i // 2), 2 * (lane % 4) + i % 2] = out.view(np.float32)[i, lane]
    return got, want, report


@pytest.mark.parametrize("form", FORMS, ids=lambda f: f"{f[0]}-{f[1]}X")
def test_every_form_and_place_of_scales(form):
    """float64 has these sums to the last bit but for e5m2's widest: they are of 53 bits at most."""
    count, codes = form[1], form[4]
    for a_type, b_type in product(codes, codes):
        for byte in range(0, 4, count):
            for seed, threads in enumerate([(0, 0), (1, 2), (0, 3), (1, 1)]):
                got, want, report = multiplied(form, a_type, b_type, byte, threads, seed)
                assert report.clean, report
                np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(("change", "reason"), [
    (("{{0, 0}}", "{{1, 0}}"), "{1, 0} selects no scales"),
    (("{{0, 0}}", "{{0, 2}}"), "{0, 2} selects no scales"),
    (("2X", "1X"), "no matrix instruction has these together"),
    (("ue8m0", "ue4m3"), "no matrix instruction has these together"),
    (("kind::mxf4.", ""), "no matrix instruction has these together"),
    (("{{0, 0}}", "{{%r1, 0}}"), "%r1 must be a number"),
])  # fmt: skip
def test_what_is_no_instruction(change: tuple[str, str], reason: str):
    text = (
        "mma.sync.aligned.m16n8k64.row.col.kind::mxf4.block_scale.scale_vec::2X"
        ".f32.e2m1.e2m1.f32.ue8m0 {d}, {0}, {1}, {2}, {3}, {{0, 0}}, {4}, {{0, 0}};"
    )
    zeros = [np.zeros((n, 32), np.uint32) for n in (4, 2, 4, 1, 1)]
    with pytest.raises(TileError, match=reason.replace("{", r"\{")):
        registers(text.replace(change[0], change[1], 1), *zeros, outs=4)
