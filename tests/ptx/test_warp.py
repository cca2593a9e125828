"""Exchange within a warp, whole warps and parts of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from ptx.running import evaluate, integers, kernel

LANES = np.arange(32, dtype=np.uint32)
WARPS = 3


def lanes() -> np.ndarray:
    return np.tile(LANES, WARPS)


def by_warp(a: np.ndarray) -> np.ndarray:
    return a.reshape(-1, 32)


def bit(lane: int) -> int:
    return 1 << lane


def word(flags: list[bool]) -> int:
    return sum(bit(k) for k, f in enumerate(flags) if f)


def shuffled(mode: str, values: list[int], b: list[int], c: int) -> list[tuple[int, bool]]:
    """The definition of the ISA, lane by lane."""
    out: list[tuple[int, bool]] = []
    clamp, segment = c & 31, c >> 8 & 31
    for lane in range(32):
        top = (lane & segment) | (clamp & ~segment & 31)
        low = lane & segment
        n = b[lane] & 31
        source, good = {
            "up": (lane - n, lane - n >= top),
            "down": (lane + n, lane + n <= top),
            "bfly": (lane ^ n, (lane ^ n) <= top),
            "idx": (low | (n & ~segment & 31), (low | (n & ~segment & 31)) <= top),
        }[mode]
        out.append((values[source if good else lane], good))
    return out


@pytest.mark.parametrize("mode", ["up", "down", "bfly", "idx"])
@pytest.mark.parametrize("width", [32, 16, 4])
def test_shuffles(mode, width):
    a = integers("uint32", 32 * WARPS, 1)
    b = np.random.default_rng(2).integers(0, 40, 32 * WARPS).astype(np.uint32)
    c = (32 - width) << 8 | (0 if mode == "up" else 31)
    text = f"shfl.sync.{mode}.b32 %d|%p, %a, %b, {c}, 0xFFFFFFFF;"
    got = evaluate(text, "uint32", a=a, b=b)
    good = evaluate(text + "selp.u32 %d, 1, 0, %p;", "uint32", a=a, b=b)
    for w in range(WARPS):
        here = slice(32 * w, 32 * w + 32)
        want = shuffled(mode, a[here].tolist(), b[here].tolist(), c)
        assert got[here].tolist() == [v for v, _ in want]
        assert good[here].tolist() == [int(g) for _, g in want]


def votes(text: str, f: Callable[[list[bool]], int], p: np.ndarray) -> None:
    got = evaluate(f"setp.ne.u32 %q, %a, 0; {text}", "uint32", a=p)
    for w, row in enumerate(by_warp(p)):
        assert set(by_warp(got)[w].tolist()) == {f([bool(v) for v in row])}


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_votes(share):
    p = (np.random.default_rng(3).random(32 * WARPS) < share).astype(np.uint32)
    votes("vote.sync.ballot.b32 %d, %q, -1;", word, p)
    flag = "selp.u32 %d, 1, 0, %p;"
    votes(f"vote.sync.all.pred %p, %q, -1; {flag}", lambda v: int(all(v)), p)
    votes(f"vote.sync.any.pred %p, %q, -1; {flag}", lambda v: int(any(v)), p)
    votes(f"vote.sync.uni.pred %p, %q, -1; {flag}", lambda v: int(len(set(v)) == 1), p)


FOLDS: dict[str, Callable[[list[int]], int]] = {
    "add": sum, "min": min, "max": max,
    "and": lambda v: int(np.bitwise_and.reduce(v)), "or": lambda v: int(np.bitwise_or.reduce(v)),
    "xor": lambda v: int(np.bitwise_xor.reduce(v)),
}  # fmt: skip


@pytest.mark.parametrize("op", FOLDS)
@pytest.mark.parametrize("t", ["u32", "s32"])
def test_reductions_of_masks(op, t):
    if op in ("and", "or", "xor"):
        t = "b32"
    kind = "int32" if t == "s32" else "uint32"
    a = integers(kind, 64)
    text = (
        "and.b32 %r1, %index, 1; setp.eq.u32 %q, %r1, 0;\n"
        f"@%q redux.sync.{op}.{t} %d, %a, 0x55555555;\n"
        f"@!%q redux.sync.{op}.{t} %d, %a, 0xAAAAAAAA;"
    )
    got = evaluate(text, kind, a=a)
    for w, row in enumerate(by_warp(a)):
        for odd in (0, 1):
            want = FOLDS[op](row[odd::2].tolist()) & 0xFFFFFFFF
            assert {int(v) & 0xFFFFFFFF for v in by_warp(got)[w][odd::2]} == {want}


def test_reductions_of_floats():
    a = np.random.default_rng(5).standard_normal(64).astype(np.float32)
    a[3] = np.nan
    got = evaluate("redux.sync.min.f32 %d, %a, -1;", "float32", a=a)
    np.testing.assert_array_equal(
        by_warp(got), np.nanmin(by_warp(a), axis=1)[:, None].repeat(32, 1)
    )
    got = evaluate("redux.sync.max.abs.NaN.f32 %d, %a, -1;", "float32", a=a)
    assert np.isnan(got[:32]).all()
    assert (got[32:] == np.abs(a[32:]).max()).all()


def test_matches():
    a = np.random.default_rng(4).integers(0, 4, 64).astype(np.uint32)
    a[32:] = 9
    got = evaluate("match.any.sync.b32 %d, %a, -1;", "uint32", a=a)
    for row, words in zip(by_warp(a), by_warp(got), strict=True):
        assert words.tolist() == [word([bool(v == u) for u in row]) for v in row]
    got = evaluate("match.all.sync.b32 %d|%p, %a, -1; selp.u32 %d, %d, 5, %p;", "uint32", a=a)
    assert set(got[:32].tolist()) == {5}
    assert set(got[32:].tolist()) == {0xFFFFFFFF}


def test_one_is_elected():
    got = evaluate("elect.sync %d|%p, -1; selp.u32 %d, 77, %d, %p;", "uint32", a=lanes())
    assert by_warp(got)[:, 0].tolist() == [77] * WARPS
    assert (by_warp(got)[:, 1:] == 0).all()
    text = "setp.ge.u32 %q, %a, 5; @%q elect.sync _|%p, 0xFFFFFFE0; @%q selp.u32 %d, 1, 0, %p;"
    got = evaluate(text, "uint32", a=lanes())
    assert (by_warp(got)[:, 5] == 1).all()
    assert by_warp(got).sum() == WARPS


def test_masks_of_lanes():
    for name, want in (
        ("eq", 1 << LANES), ("lt", (1 << LANES) - 1), ("le", (2 << LANES) - 1),
        ("ge", 0xFFFFFFFF & ~((1 << LANES) - 1)), ("gt", 0xFFFFFFFF & ~((2 << LANES) - 1)),
    ):  # fmt: skip
        got = evaluate(f"mov.u32 %d, %lanemask_{name};", "uint32", a=LANES)
        np.testing.assert_array_equal(got, np.asarray(want, np.uint64) & np.uint64(0xFFFFFFFF))


def test_a_divergent_warp_knows_who_is_active():
    text = "setp.lt.u32 %p, %a, 9; @%p activemask.b32 %d; @!%p mov.u32 %d, 1;"
    got = evaluate(text, "uint32", a=lanes())
    assert set(by_warp(got)[:, :9].ravel().tolist()) == {0x1FF}


def test_transposed_fragments():
    rng = np.random.default_rng(7)
    halves = rng.integers(0, 1 << 16, (2, 8, 8)).astype(np.uint16)
    got = evaluate("movmatrix.sync.aligned.m8n8.trans.b16 %d, %a;", "uint32",
                   a=halves.reshape(-1, 2).view(np.uint32)[:, 0])  # fmt: skip
    want = np.ascontiguousarray(halves.transpose(0, 2, 1))
    np.testing.assert_array_equal(got.view(np.uint16), want.reshape(-1))


def test_a_partial_warp_may_shuffle_among_its_threads():
    out = np.zeros(20, np.uint32)
    body = (
        "mov.u32 %r1, %tid.x; ld.param.u64 %rd1, [out]; mad.wide.u32 %rd1, %r1, 4, %rd1;\n"
        "shfl.sync.bfly.b32 %r2, %r1, 1, 31, -1; st.global.b32 [%rd1], %r2;"
    )
    assert kernel(body).run("k", 1, 20, [out]).clean
    np.testing.assert_array_equal(out, np.arange(20) ^ 1)
    votes = (
        "setp.lt.u32 %p1, %r1, 20; vote.sync.ballot.b32 %r2, %p1, -1; st.global.b32 [%rd1], %r2;\n"
        "vote.sync.all.pred %p2, %p1, -1; @!%p2 st.global.b32 [%rd1], 0;"
    )
    body = body.replace(body[body.index("shfl") :], votes)
    assert kernel(body).run("k", 1, 20, [out]).clean
    assert (out == 0xFFFFF).all()
