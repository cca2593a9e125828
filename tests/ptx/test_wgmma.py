"""wgmma: descriptors of every swizzle and both orders, every type, A in registers, waits."""

from __future__ import annotations

import numpy as np
import pytest
from ptx import fragments
from ptx.running import kernel

from tilec import ptx
from tilec.ir.errors import TileError

BOX = 32768
ROW = {0: 16, 1: 128, 2: 64, 3: 32}


def place(mode: int, turned: bool, r: int, byte: int, k: int, leading: int, stride: int) -> int:
    """The shared byte of an element, by the canonical layouts (CuTe's `make_gmma_desc`).

    `byte` is along the contiguous axis: along K, or along the rows of a transposed operand.
    """
    w = ROW[mode]
    if not turned:
        if mode == 0:
            return r // 8 * stride + r % 8 * 16 + byte // 16 * leading + byte % 16
        at = r // 8 * stride + r % 8 * w + byte
    elif mode == 0:
        return byte // 16 * stride + k // 8 * leading + k % 8 * 16 + byte % 16
    else:
        at = byte // w * leading + k // 8 * stride + k % 8 * w + byte % w
    bits = {1: 7, 2: 3, 3: 1}[mode]
    return at ^ ((at >> 7 & bits) << 4)


def image(m: np.ndarray, t: str, mode: int, turned: bool) -> tuple[np.ndarray, int]:
    """A matrix (rows x K) as bytes of shared memory, and its descriptor without the start."""
    rows, depth = m.shape
    size = fragments.BITS[t] / 8
    w = ROW[mode]
    wide = int(depth * size)
    if not turned:
        leading, stride = (128, 128 * (wide // 16)) if mode == 0 else (16, 8 * w)
    elif mode == 0:
        leading, stride = 128, 128 * (depth // 8)
    else:
        leading, stride = w * depth, 8 * w
    box = np.zeros(BOX // 2, np.uint8)
    for r in range(rows):
        for k in range(depth):
            along = r * 2 if turned else int(k * size)
            at = place(mode, turned, r, along, k, leading, stride)
            code = fragments.code(t, m[r, k])
            if t == "b1":
                box[at] |= code << k % 8
            else:
                box[at : at + int(size)] = list(code.to_bytes(int(size), "little"))
    return box, leading >> 4 << 16 | stride >> 4 << 32 | mode << 62


BODY = """.shared .align 1024 .b8 box[{size}];
mov.u32 %r1, %tid.x; mov.u32 %r2, box; ld.param.u64 %rd1, [data]; mov.u32 %r3, 0;
COPY: mad.lo.u32 %r4, %r3, 128, %r1; mad.wide.u32 %rd2, %r4, 16, %rd1; mad.lo.u32 %r5, %r4, 16, %r2;
ld.global.v2.b64 {{%rd3, %rd4}}, [%rd2]; st.shared.v2.b64 [%r5], {{%rd3, %rd4}};
add.u32 %r3, %r3, 1; setp.lt.u32 %p1, %r3, {copies}; @%p1 bra COPY;
fence.proxy.async.shared::cta; bar.sync 0;
ld.param.u64 %rd5, [a]; ld.param.u64 %rd6, [b];
cvt.u64.u32 %rd7, %r2; shr.u64 %rd7, %rd7, 4; add.u64 %rd5, %rd5, %rd7; add.u64 %rd6, %rd6, %rd7;
add.u64 %rd6, %rd6, {half};
ld.param.u64 %rd1, [out]; mad.wide.u32 %rd8, %r1, 4, %rd1;
"""


def run(
    text: str, outs: int, a: tuple[np.ndarray, int], b: tuple[np.ndarray, int],
    start: np.ndarray | None = None, extra: np.ndarray | None = None, more: str = "",
    before: str = BODY,
) -> tuple[np.ndarray, ptx.Report]:  # fmt: skip
    """Run `text` on a warpgroup: {d}, {a}, {b} are its operands, %r20... hold `extra` words."""
    data = np.concatenate([a[0], b[0]])
    names = [f"%x{k}" for k in range(outs)]
    body = before.format(size=BOX, copies=BOX // 2048, half=BOX // 32)
    body += f".reg .b32 %x<{outs}>;\n"
    body += "".join(f"ld.global.b32 {n}, [%rd8+{512 * k}];\n" for k, n in enumerate(names))
    if extra is not None:
        body += "ld.param.u64 %rd9, [extra]; mad.wide.u32 %rd9, %r1, 4, %rd9;\n"
        body += "".join(f"ld.global.b32 %r{20 + k}, [%rd9+{512 * k}];\n" for k in range(len(extra)))
    body += "wgmma.fence.sync.aligned;\n"
    body += text.format(d="{" + ", ".join(names) + "}", a="%rd5", b="%rd6") + "\n"
    body += "wgmma.commit_group.sync.aligned;\n" + (more or "wgmma.wait_group.sync.aligned 0;")
    body += "".join(f"\nst.global.b32 [%rd8+{512 * k}], {n};" for k, n in enumerate(names))
    parameters = (
        ".param .u64 data, .param .u64 a, .param .u64 b, .param .u64 out, .param .u64 extra"
    )
    out = np.zeros((outs, 128), np.uint32) if start is None else start.copy()
    words = np.zeros((1, 128), np.uint32) if extra is None else np.ascontiguousarray(extra)
    report = kernel(body, parameters).run("k", 1, 128, [data, a[1], b[1], out, words])
    return out, report


def sums(d: np.ndarray, c: str) -> np.ndarray:
    """A matrix of 64 rows as registers x threads."""
    parts = []
    for block in range(d.shape[1] // 8):
        warps = [fragments.sums(d[16 * w : 16 * w + 16, 8 * block : 8 * block + 8], c)
                 for w in range(4)]  # fmt: skip
        parts.append(np.concatenate(warps, axis=1))
    return np.concatenate(parts)


DEPTH = {"f16": 16, "bf16": 16, "tf32": 8, "e4m3": 32, "e5m2": 32, "s8": 32, "u8": 32, "b1": 256}


@pytest.mark.parametrize("mode", [0, 1, 2, 3])
@pytest.mark.parametrize(("turn_a", "turn_b"), [(False, False), (False, True), (True, False),
                                               (True, True)])  # fmt: skip
def test_descriptors(mode, turn_a, turn_b):
    a, b = fragments.small("f16", (64, 16), 1), fragments.small("f16", (64, 16), 2)
    start = fragments.small("s8", (64, 64), 3)
    text = (
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {d}, {a}, {b}, 1, 1, 1, "
        f"{int(turn_a)}, {int(turn_b)};"
    )
    got, report = run(text, 32, image(a, "f16", mode, turn_a), image(b, "f16", mode, turn_b),
                      sums(start, "f32"))  # fmt: skip
    assert report.clean, report
    np.testing.assert_array_equal(got, sums(a @ b.T + start, "f32"))


@pytest.mark.parametrize("t", DEPTH)
@pytest.mark.parametrize("n", [8, 24, 128])
def test_every_type(t, n):
    k = DEPTH[t]
    a, b = fragments.small(t, (64, k), 1), fragments.small(t, (n, k), 2)
    c = "s32" if t in ("s8", "u8", "b1") else "f32"
    signs = "" if c == "s32" else ", 1, 1" + (", 0, 0" if t in ("f16", "bf16") else "")
    op = ".and.popc" if t == "b1" else ""
    text = (
        f"wgmma.mma_async.sync.aligned.m64n{n}k{k}.{c}.{t}.{t}{op} {{d}}, {{a}}, {{b}}, 0{signs};"
    )
    junk = np.full((n // 2, 128), 0x7FC00000, np.uint32)
    got, report = run(text, n // 2, image(a, t, 1, False), image(b, t, 1, False), junk)
    assert report.clean, report
    np.testing.assert_array_equal(got, sums(a @ b.T, c))


def test_scales_and_signs():
    a, b = fragments.small("f16", (64, 16), 1), fragments.small("f16", (8, 16), 2)
    start = fragments.small("s8", (64, 8), 3)
    images = image(a, "f16", 1, False), image(b, "f16", 1, False)
    head = "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {d}, {a}, {b}, "
    for tail, want in (
        ("1, -1, 1, 0, 0;", start - a @ b.T), ("1, -1, -1, 0, 0;", start + a @ b.T),
        ("0, 1, -1, 0, 0;", -(a @ b.T)),
    ):  # fmt: skip
        got, _ = run(head + tail, 4, *images, sums(start, "f32"))
        np.testing.assert_array_equal(got.view(np.float32), sums(want, "f32").view(np.float32))
    text = "setp.ne.u32 %p2, %r2, 0; " + head + "%p2, 1, 1, 0, 0;"
    got, _ = run(text, 4, *images, sums(start, "f32"))
    np.testing.assert_array_equal(got, sums(start + a @ b.T, "f32"))


def test_half_accumulators():
    a, b = fragments.small("f16", (64, 16), 1), fragments.small("f16", (16, 16), 2)
    start = fragments.small("s8", (64, 16), 3)
    text = "wgmma.mma_async.sync.aligned.m64n16k16.f16.f16.f16 {d}, {a}, {b}, 1, 1, 1, 0, 0;"
    images = image(a, "f16", 1, False), image(b, "f16", 1, False)
    got, report = run(text, 4, *images, sums(start, "f16"))
    assert report.clean, report
    np.testing.assert_array_equal(got, sums(a @ b.T + start, "f16"))


@pytest.mark.parametrize(("t", "turned"), [("f16", 1), ("bf16", 0), ("e4m3", 0), ("s8", 0)])
def test_a_in_registers(t, turned):
    k = DEPTH[t]
    a, b = fragments.small(t, (64, k), 1), fragments.small(t, (16, k), 2)
    c = "s32" if t == "s8" else "f32"
    signs = "" if c == "s32" else ", 1, 1" + (f", {turned}" if fragments.BITS[t] == 16 else "")
    words = np.concatenate([fragments.left(a[16 * w : 16 * w + 16], t) for w in range(4)], axis=1)
    names = "{%r20, %r21, %r22, %r23}"
    text = (
        f"wgmma.mma_async.sync.aligned.m64n16k{k}.{c}.{t}.{t} {{d}}, {{{names}}}, {{b}}, 0{signs};"
    )
    none = np.zeros(BOX // 2, np.uint8), 0
    got, report = run(text, 8, none, image(b, t, 1, bool(turned)), extra=words)
    assert report.clean, report
    np.testing.assert_array_equal(got, sums(a @ b.T, c))


@pytest.mark.parametrize(("t", "k"), [("f16", 32), ("bf16", 32), ("tf32", 16), ("e4m3", 64),
                                      ("s8", 64)])  # fmt: skip
def test_sparse_a(t, k):
    dense, stored, kept = fragments.compressed(t, 64, k, 4)
    b = fragments.small(t, (16, k), 2)
    c = "s32" if t == "s8" else "f32"
    signs = "" if c == "s32" else ", 1, 1" + (", 0, 0" if fragments.BITS[t] == 16 else "")
    for selector in range(2 if fragments.BITS[t] >= 16 else 1):
        words = np.concatenate(
            [fragments.metadata(kept[16 * w : 16 * w + 16], t, selector) for w in range(4)]
        )
        text = (
            f"wgmma.mma_async.sp.sync.aligned.m64n16k{k}.{c}.{t}.{t} {{d}}, {{a}}, {{b}}, %r20, "
            f"{selector}, 0{signs};"
        )
        got, report = run(text, 8, image(stored, t, 1, False), image(b, t, 1, False),
                          extra=words[None])  # fmt: skip
        assert report.clean, report
        np.testing.assert_array_equal(got, sums(dense @ b.T, c))


GOOD = "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {d}, {a}, {b}, 0, 1, 1, 0, 0;"


def images() -> tuple[tuple[np.ndarray, int], tuple[np.ndarray, int]]:
    a, b = fragments.small("f16", (64, 16), 1), fragments.small("f16", (8, 16), 2)
    return image(a, "f16", 1, False), image(b, "f16", 1, False)


def test_results_read_before_the_wait():
    report = run(GOOD, 4, *images(), more="add.u32 %r30, %x0, 1; wgmma.wait_group.sync.aligned 0;")[
        1
    ]
    (finding,) = report.findings
    assert finding.kind == "in-flight"
    assert "a register that an asynchronous wgmma has yet to write" in finding.message
    copied = "mov.b32 %r30, %x0; wgmma.wait_group.sync.aligned 0; add.u32 %r30, %r30, 1;"
    assert run(GOOD, 4, *images(), more=copied)[1].clean
    forgotten = "mov.b32 %r30, %x0; mov.b32 %r30, 7; add.u32 %r30, %r30, 1;\n"
    assert run(GOOD, 4, *images(), more=forgotten + "wgmma.wait_group.sync.aligned 0;")[1].clean
    halves = "mov.b32 {%h1, %h2}, %x0; wgmma.wait_group.sync.aligned 0; add.u16 %h1, %h2, 1;"
    assert run(GOOD, 4, *images(), more=halves)[1].clean
    halves = "mov.b32 {%h1, %h2}, %x0; add.u16 %h1, %h2, 1; wgmma.wait_group.sync.aligned 0;"
    assert run(GOOD, 4, *images(), more=halves)[1].of_kind("in-flight")
    copied = "mov.b32 %r30, %x0; add.u32 %r30, %r30, 1; wgmma.wait_group.sync.aligned 0;"
    assert run(GOOD, 4, *images(), more=copied)[1].of_kind("in-flight")
    report = run(GOOD, 4, *images(), more="wgmma.wait_group.sync.aligned 1;")[1]
    assert {f.kind for f in report.findings} == {"in-flight", "exit"}


@pytest.mark.parametrize("text", [
    "add.u32 %x1, %x2, 0; ", "ld.global.b32 %x1, [%rd8]; ", "selp.b32 %x1, %x2, %x3, %p1; ",
    "add.u32 %r30, %x2, 0; mov.b32 %x1, %r30; ", "mov.u32 %x1, %tid.x; ",
    "add.u32 %r30, %x2, 0; mov.b32 %r31, %r30; mov.b32 %x1, %r31; ",
    "mov.b32 {{%h1, %h2}}, %x2; mov.b32 %x1, {{%h1, %h2}}; ",
])  # fmt: skip
def test_registers_written_since_the_fence(text: str):
    (finding,) = run(text + GOOD, 4, *images())[1].findings
    assert finding.kind == "fence"
    assert run(text + "wgmma.fence.sync.aligned; " + GOOD, 4, *images())[1].clean


@pytest.mark.parametrize("text", [
    "mov.b32 %x1, 0; ", "mov.b32 %x1, %x2; mov.b32 %x3, %x2; ", "mov.b32 %x1, %r20; ",
    "mov.b32 %r30, 0; mov.b32 %x1, %r30; mov.b32 %x2, %r30; ",
])  # fmt: skip
def test_copies_since_the_fence(text: str):
    """Of what was there before it; behind commit_group they need another."""
    words = np.arange(128, dtype=np.uint32)[None]
    assert run(text + GOOD, 4, *images(), extra=words)[1].clean
    group = "wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0; "
    (finding,) = run(GOOD + group + text + GOOD, 4, *images(), extra=words)[1].findings
    assert finding.kind == "fence"
    fence = "wgmma.fence.sync.aligned; "
    assert run(GOOD + group + text + fence + GOOD, 4, *images(), extra=words)[1].clean


def test_shared_bytes_overwritten_before_the_wait():
    early = "st.shared.b32 [%r2], %r1; wgmma.wait_group.sync.aligned 0;"
    report = run(GOOD, 4, *images(), more=early)[1]
    finding = report.of_kind("in-flight")[0]
    assert "overwrites what the asynchronous wgmma.mma_async of PTX line" in finding.message
    late = (
        "wgmma.wait_group.sync.aligned 0; bar.sync 0; setp.eq.u32 %p3, %r1, 0;\n"
        "@%p3 st.shared.b32 [%r2], %r1;"
    )
    assert run(GOOD, 4, *images(), more=late)[1].clean
    assert run(GOOD, 4, *images(), more=late.replace("bar.sync 0;", ""))[1].clean, "own warpgroup"


def test_generic_writes_need_a_proxy_fence():
    without = BODY.replace("fence.proxy.async.shared::cta;", "")
    report = run(GOOD, 4, *images(), before=without)[1]
    (finding,) = report.findings
    assert finding.kind == "proxy"
    behind = BODY.replace("fence.proxy.async.shared::cta; bar.sync 0;",
                          "bar.sync 0; fence.proxy.async;")  # fmt: skip
    assert run(GOOD, 4, *images(), before=behind)[1].clean


def test_a_missing_barrier_before_wgmma():
    report = run(GOOD, 4, *images(), before=BODY.replace("bar.sync 0;", ""))[1]
    assert report.of_kind("race")


def test_base_offsets_are_refused():
    a, b = images()
    with pytest.raises(TileError, match="base offsets of descriptors are not supported"):
        run(GOOD, 4, (a[0], a[1] | 1 << 49), b)


def test_descriptors_beyond_shared_memory():
    a, b = images()
    report = run(GOOD, 4, (a[0], a[1] + (BOX >> 4)), b)[1]
    assert "bytes at shared byte" in report.of_kind("bounds")[0].message
