"""mma, mma.sp, ldmatrix and stmatrix against the fragments of the ISA."""

from __future__ import annotations

import numpy as np
import pytest
from ptx import fragments
from ptx.running import kernel

from tilec import ptx
from tilec.ir.errors import TileError
from tilec.ptx import sparse
from tilec.ptx.types import TYPES

DENSE = [
    *((t, c, 16, k) for t in ("f16",) for c in ("f32", "f16") for k in (8, 16)),
    *((t, "f32", 16, k) for t, ks in (("bf16", (8, 16)), ("tf32", (4, 8))) for k in ks),
    *((t, c, 16, k) for t in ("e4m3", "e5m2") for c in ("f32", "f16") for k in (16, 32)),
    *((t, "s32", m, k) for t in ("s8", "u8") for m, k in ((8, 16), (16, 16), (16, 32))),
    *((t, "s32", m, k) for t in ("s4", "u4") for m, k in ((8, 32), (16, 32), (16, 64))),
    *(("f64", "f64", m, k) for m, k in ((8, 4), (16, 4), (16, 8), (16, 16))),
]
SPARSE = [
    ("f16", "f32", 16), ("f16", "f32", 32), ("f16", "f16", 32), ("bf16", "f32", 32),
    ("tf32", "f32", 8), ("tf32", "f32", 16), ("s8", "s32", 32), ("u8", "s32", 64),
    ("e4m3", "f32", 64), ("s4", "s32", 64), ("u4", "s32", 128),
]  # fmt: skip


def registers(text: str, *words: np.ndarray, outs: int) -> tuple[np.ndarray, ptx.Report]:
    """Run `text` on one warp: {0}, {1}, ... are its operands, {d} its results; all of a size."""
    body, names, next_, arrays = "mov.u32 %r79, %laneid;\n", [], 1, {}
    size = words[0].itemsize
    register = "%r" if size == 4 else "%fd"
    place = f"mad.wide.u32 %rd1, %r79, {size}, %rd1;\n"
    for k, w in enumerate(words):
        mine = [f"{register}{next_ + j}" for j in range(len(w))]
        next_ += len(w)
        body += f"ld.param.u64 %rd1, [a{k}]; {place}"
        body += "".join(f"ld.global.b{8 * size} {r}, [%rd1+{32 * size * j}];\n"
                        for j, r in enumerate(mine))  # fmt: skip
        names.append("{" + ", ".join(mine) + "}" if len(w) > 1 or k < 3 else mine[0])
        arrays[f"a{k}"] = np.ascontiguousarray(w)
    results = [f"{register}{next_ + j}" for j in range(outs)]
    body += text.format(*names, d="{" + ", ".join(results) + "}") + "\n"
    body += f"ld.param.u64 %rd1, [out]; {place}"
    body += "".join(f"st.global.b{8 * size} [%rd1+{32 * size * j}], {r};\n"
                    for j, r in enumerate(results))  # fmt: skip
    out = np.zeros((outs, 32), words[0].dtype)
    parameters = ", ".join(f".param .u64 {n}" for n in [*arrays, "out"])
    return out, kernel(body, parameters).run("k", 1, 32, [*arrays.values(), out])


@pytest.mark.parametrize(("t", "c", "m", "k"), DENSE)
def test_every_dense_shape(t, c, m, k):
    a, b = fragments.small(t, (m, k), 1), fragments.small(t, (k, 8), 2)
    start = fragments.small("s8", (m, 8), 3)
    order = f"{c}.{t}.{t}.{c}"
    text = f"mma.sync.aligned.m{m}n8k{k}.row.col.{order} {{d}}, {{0}}, {{1}}, {{2}};"
    want = fragments.sums(a @ b + start, c)
    got, report = registers(
        text, fragments.left(a, t), fragments.right(b, t), fragments.sums(start, c), outs=len(want)
    )
    assert report.clean, report
    np.testing.assert_array_equal(got, want)


def test_mixed_signs_and_formats():
    a, b = fragments.small("s8", (16, 32), 1), fragments.small("u8", (32, 8), 2)
    zero = np.zeros((16, 8))
    text = "mma.sync.aligned.m16n8k32.row.col.s32.s8.u8.s32 {d}, {0}, {1}, {2};"
    got, _ = registers(text, fragments.left(a, "s8"), fragments.right(b, "u8"),
                       fragments.sums(zero, "s32"), outs=4)  # fmt: skip
    np.testing.assert_array_equal(got, fragments.sums(a @ b, "s32"))
    a, b = fragments.small("e4m3", (16, 32), 1), fragments.small("e5m2", (32, 8), 2)
    text = "mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e5m2.f32 {d}, {0}, {1}, {2};"
    got, _ = registers(text, fragments.left(a, "e4m3"), fragments.right(b, "e5m2"),
                       fragments.sums(zero, "f32"), outs=4)  # fmt: skip
    np.testing.assert_array_equal(got, fragments.sums(a @ b, "f32"))


@pytest.mark.parametrize("op", ["and", "xor"])
@pytest.mark.parametrize(("m", "k"), [(8, 128), (16, 128), (16, 256)])
def test_single_bits(op, m, k):
    a, b = fragments.small("b1", (m, k), 1), fragments.small("b1", (k, 8), 2)
    start = fragments.small("s8", (m, 8), 3)
    both = a[:, :, None].astype(int), b[None].astype(int)
    ones = (both[0] & both[1] if op == "and" else both[0] ^ both[1]).sum(axis=1)
    want = fragments.sums(ones + start, "s32")
    text = (
        f"mma.sync.aligned.m{m}n8k{k}.row.col.s32.b1.b1.s32.{op}.popc {{d}}, {{0}}, {{1}}, {{2}};"
    )
    got, _ = registers(text, fragments.left(a, "b1"), fragments.right(b, "b1"),
                       fragments.sums(start, "s32"), outs=len(want))  # fmt: skip
    np.testing.assert_array_equal(got, want)


def test_integers_wrap_or_saturate():
    a, b = np.full((16, 32), -128.0), np.full((32, 8), -128.0)
    start = np.full((16, 8), 2.0**31 - 1000)
    text = "mma.sync.aligned.m16n8k32.row.col{}.s32.s8.s8.s32 {{d}}, {{0}}, {{1}}, {{2}};"
    words = fragments.left(a, "s8"), fragments.right(b, "s8"), fragments.sums(start, "s32")
    wrapped, _ = registers(text.format(""), *words, outs=4)
    total = 2**31 - 1000 + 32 * 128 * 128
    assert (wrapped.view(np.int32) == total - 2**32).all()
    limited, _ = registers(text.format(".satfinite"), *words, outs=4)
    assert (limited.view(np.int32) == 2**31 - 1).all()


def test_the_sum_is_rounded_once():
    """2**24 and eight ones: adding them one by one in float32 would lose them all."""
    a = np.zeros((16, 8))
    a[:, :8] = 1
    b = np.ones((8, 8))
    start = np.full((16, 8), 2.0**24)
    text = "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {d}, {0}, {1}, {2};"
    got, _ = registers(text, fragments.left(a, "f16"), fragments.right(b, "f16"),
                       fragments.sums(start, "f32"), outs=4)  # fmt: skip
    assert (got.view(np.float32) == 2.0**24 + 8).all()
    start = np.full((16, 8), 2048.0)
    text = "mma.sync.aligned.m16n8k8.row.col.f16.f16.f16.f16 {d}, {0}, {1}, {2};"
    b = np.full((8, 8), 0.375)
    got, _ = registers(text, fragments.left(a, "f16"), fragments.right(b, "f16"),
                       fragments.sums(start, "f16"), outs=2)  # fmt: skip
    assert (got.view(np.float16) == 2052).all()  # 2051 lies between 2050 and 2052


def test_results_may_overwrite_operands():
    a, b = fragments.small("f16", (16, 16), 1), fragments.small("f16", (16, 8), 2)
    start = fragments.small("f16", (16, 8), 3)
    words = fragments.left(a, "f16"), fragments.right(b, "f16"), fragments.sums(start, "f32")
    text = (
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{{%r8, %r7, %r10, %r9}}, {0}, {1}, {2};\n"
        "mov.b32 %r11, %r8; mov.b32 %r12, %r7; mov.b32 %r13, %r10; mov.b32 %r14, %r9;"
    )
    got, _ = registers(text, *words, outs=4)
    np.testing.assert_array_equal(got, fragments.sums(a @ b + start, "f32"))


@pytest.mark.parametrize(("t", "c", "k"), SPARSE)
@pytest.mark.parametrize("ordered", [False, True])
def test_every_sparse_shape(t, c, k, ordered):
    dense, stored, kept = fragments.compressed(t, 16, k, 5)
    b = fragments.small(t, (k, 8), 6)
    start = fragments.small("s8", (16, 8), 7)
    want = fragments.sums(dense @ b + start, c)
    lanes = {16: 4 if k == 16 else 2, 32: 4 if k == 8 else 2}.get(fragments.BITS[t])
    selectors = lanes or (2 if k * fragments.BITS[t] == 256 else 1)
    name = "mma.sp::ordered_metadata" if ordered else "mma.sp"
    for selector in range(selectors):
        text = (
            f"{name}.sync.aligned.m16n8k{k}.row.col.{c}.{t}.{t}.{c} {{d}}, {{0}}, {{1}}, {{2}}, "
            f"{{3}}, {selector:#x};"
        )
        got, report = registers(
            text, fragments.left(stored, t), fragments.right(b, t), fragments.sums(start, c),
            fragments.metadata(kept, t, selector)[None], outs=len(want),
        )  # fmt: skip
        assert not report.findings, report
        np.testing.assert_array_equal(got, want)


def test_metadata_without_a_meaning():
    _, stored, kept = fragments.compressed("f16", 16, 32, 5)
    kept[3, 2] = [1, 1]
    words = (
        fragments.left(stored, "f16"), fragments.right(np.ones((32, 8)), "f16"),
        fragments.sums(np.zeros((16, 8)), "f32"), fragments.metadata(kept, "f16", 0)[None],
    )  # fmt: skip
    text = "mma.sp.sync.aligned.m16n8k32.row.col.f32.f16.f16.f32 {d}, {0}, {1}, {2}, {3}, 0;"
    _, report = registers(text, *words, outs=4)
    (finding,) = report.findings
    assert finding.kind == "descriptor"
    assert finding.message == "the metadata 0b0101 of row 3, chunk 2 has no meaning"
    kept[3, 2] = [3, 1]
    words = (*words[:3], fragments.metadata(kept, "f16", 0)[None])
    assert registers(text, *words, outs=4)[1].clean
    ordered = text.replace("mma.sp.", "mma.sp::ordered_metadata.")
    assert registers(ordered, *words, outs=4)[1].of_kind("descriptor")


@pytest.mark.parametrize("t", ["f16", "s8"])
def test_metadata_of_torch_reproduces_the_matrix(t):
    """torch lays metadata out for the hardware; decoded here it gives the dense matrix back."""
    torch = pytest.importorskip("torch")
    from torch.sparse import _semi_structured_conversions as conversions

    rows, columns = 32, 128
    dense, _, _ = fragments.compressed(t, rows, columns, 9)
    dense = np.where(dense == 0, dense, np.where(dense > 0, dense, dense - 1))
    tensor = torch.tensor(dense).to(torch.float16 if t == "f16" else torch.int8)
    stored, meta = conversions.sparse_semi_structured_from_dense_cutlass(tensor)
    words = meta.flatten().view(torch.int32).numpy().view(np.uint32)
    stored = stored.numpy().astype(np.float64)
    depth = 32 if t == "f16" else 64
    out = np.zeros((rows, columns))
    for kb in range(columns // depth):
        for mb in range(rows // 16):
            if t == "f16":  # one word per row of a block of 32 rows; selector mb
                lanes, selector = words.reshape(-1, rows)[kb], mb
            else:
                lanes, selector = words.reshape(-1, 32)[kb * (rows // 16) + mb], 0
            code = sparse.codes(lanes[None], TYPES[t], depth, selector)
            here = slice(16 * mb, 16 * mb + 16)
            part = stored[here, kb * depth // 2 : (kb + 1) * depth // 2][None]
            out[here, kb * depth : (kb + 1) * depth] = sparse.spread(part, code, TYPES[t])[0]
    np.testing.assert_array_equal(out, tensor.numpy().astype(np.float64))


def test_wrong_numbers_of_registers_are_refused():
    one = np.zeros((1, 32), np.uint32)
    text = "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {d}, {0}, {1}, {2};"
    with pytest.raises(TileError, match="has 1 registers, and the shape needs 4"):
        registers(text, one, one, one, outs=4)


SHARED = ".shared .align 16 .b8 box[2048];\n"


@pytest.mark.parametrize("trans", ["", ".trans"])
@pytest.mark.parametrize("many", [1, 2, 4])
def test_matrices_to_and_from_shared_memory(trans, many):
    rng = np.random.default_rng(1)
    data = rng.integers(0, 1 << 16, (many, 8, 8)).astype(np.uint16)
    out, back = np.zeros((many, 32), np.uint32), np.zeros((many, 8, 8), np.uint16)
    names = "{" + ", ".join(f"%r{10 + k}" for k in range(many)) + "}"
    rows = 8 * many
    body = (
        f"{SHARED}mov.u32 %r1, %laneid; mov.u32 %r2, box; ld.param.u64 %rd1, [data];\n"
        f"setp.lt.u32 %p1, %r1, {rows}; mad.wide.u32 %rd2, %r1, 16, %rd1;\n"
        "mad.lo.u32 %r3, %r1, 16, %r2;\n"
        "@%p1 ld.global.v2.b64 {%rd3, %rd4}, [%rd2]; @%p1 st.shared.v2.b64 [%r3], {%rd3, %rd4};\n"
        "bar.warp.sync -1;\n"
        f"ldmatrix.sync.aligned.m8n8.x{many}{trans}.shared.b16 {names}, [%r3];\n"
        "ld.param.u64 %rd1, [out]; mad.wide.u32 %rd2, %r1, 4, %rd1;\n"
        + "".join(f"st.global.b32 [%rd2+{128 * k}], %r{10 + k};\n" for k in range(many))
        + f"stmatrix.sync.aligned.m8n8.x{many}{trans}.shared.b16 [%r3+1024], {names};\n"
        "bar.warp.sync -1; @%p1 ld.shared.v2.b64 {%rd3, %rd4}, [%r3+1024];\n"
        "ld.param.u64 %rd1, [back]; mad.wide.u32 %rd2, %r1, 16, %rd1;\n"
        "@%p1 st.global.v2.b64 [%rd2], {%rd3, %rd4};"
    )
    parameters = ".param .u64 data, .param .u64 out, .param .u64 back"
    report = kernel(body, parameters).run("k", 1, 32, [data, out, back])
    assert report.clean, report
    for j in range(many):
        for lane in range(32):
            row, column = lane // 4, 2 * (lane % 4)
            pair = [(row, column), (row, column + 1)]
            low, high = (data[j][p[::-1]] if trans else data[j][p] for p in pair)
            assert out[j, lane] == int(low) | int(high) << 16
    np.testing.assert_array_equal(back, data)


def test_matrices_need_whole_warps():
    body = f"{SHARED}mov.u32 %r1, box; ldmatrix.sync.aligned.m8n8.x1.shared.b16 {{%r2}}, [%r1];"
    report = kernel(body).run("k", 1, 20, [np.zeros(1, np.uint32)])
    assert "lanes of their warps that never come" in report.of_kind("divergence")[0].message
