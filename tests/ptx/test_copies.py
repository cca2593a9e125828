"""cp.async, mbarriers, bulk copies and tensor maps: results, and what goes wrong around them."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from ptx.running import kernel

from tilec import ptx
from tilec.ir.errors import TileError

SHARED = ".shared .align 1024 .b8 box[16384]; .shared .align 8 .b8 bar[64];\n"
BEGIN = (
    SHARED + "mov.u32 %r1, %tid.x; mov.u32 %r2, box; mov.u32 %r3, bar;\n"
    "ld.param.u64 %rd1, [data]; ld.param.u64 %rd2, [out]; setp.eq.u32 %p1, %r1, 0;\n"
)
PARAMETERS = ".param .u64 data, .param .u64 out"


def run(
    body: str, data: np.ndarray | ptx.TensorMap, out: np.ndarray, block: int = 32, **options
) -> ptx.Report:
    tensor = ".param .align 64 .b8 data[128], .param .u64 out"
    is_map = isinstance(data, ptx.TensorMap)
    begin = BEGIN
    if is_map:
        address = "mov.b64 %rd1, data; cvta.param.u64 %rd1, %rd1;"
        begin = begin.replace("ld.param.u64 %rd1, [data];", address)
    module = kernel(begin + body, tensor if is_map else PARAMETERS)
    return module.run("k", 1, block, [data, out], **options)


COPY = (
    "mad.lo.u32 %r4, %r1, {n}, %r2; mad.wide.u32 %rd3, %r1, {n}, %rd1;\n"
    "cp.async.{c}.shared.global [%r4], [%rd3], {n}{extra};\ncp.async.commit_group;\n"
    "cp.async.wait_group 0;\nbar.sync 0;\n"
)
READ = (
    "xor.b32 %r5, %r1, 1; mad.lo.u32 %r5, %r5, {n}, %r2; mad.wide.u32 %rd4, %r1, {n}, %rd2;\n"
    "ld.shared.b{b} %rd5, [%r5]; st.global.b{b} [%rd4], %rd5;"
)


@pytest.mark.parametrize("size", [4, 8])
def test_copies_by_thread(size):
    kind = f"uint{8 * size}"
    data = np.random.default_rng(1).integers(0, 2**32, 32).astype(kind)
    out = np.zeros_like(data)
    text = COPY.format(n=size, c="ca", extra="") + READ.format(n=size, b=8 * size)
    assert run(text, data, out).clean
    np.testing.assert_array_equal(out, data[np.arange(32) ^ 1])


def test_short_and_ignored_sources_are_filled_with_zeros():
    data = np.arange(1, 33, dtype=np.uint64) * 0x0101010101010101
    out = np.zeros_like(data)
    short = "and.b32 %r6, %r1, 7;\n" + COPY.format(n=8, c="ca", extra=", %r6")
    assert run(short + READ.format(n=8, b=64), data, out).clean
    source = np.arange(32) ^ 1
    want = [int(data[k]) & ((1 << 8 * (k & 7)) - 1) for k in source.tolist()]
    assert out.tolist() == want
    ignored = "setp.gt.u32 %p2, %r1, 3;\n" + COPY.format(n=8, c="ca", extra=", %p2")
    assert run(ignored + READ.format(n=8, b=64), data, out).clean
    np.testing.assert_array_equal(out, np.where(source > 3, 0, data[source]))


def test_a_short_source_may_end_at_the_end_of_its_buffer():
    data = np.arange(32, dtype=np.uint64)
    out = np.zeros_like(data)
    text = COPY.format(n=8, c="ca", extra=", %r6") + READ.format(n=8, b=64)
    last = "setp.lt.u32 %p2, %r1, 31; selp.b32 %r6, 8, 0, %p2;\n"
    assert run(last + text, data[:31].copy(), out).clean
    report = run("mov.u32 %r6, 8;\n" + text, data[:31].copy(), out)
    assert "reads 8 bytes at data+248, and data has 248 bytes" in report.findings[0].message


def test_copies_that_nothing_waited_for():
    data, out = np.arange(32, dtype=np.uint64), np.zeros(32, np.uint64)
    text = COPY.format(n=8, c="ca", extra="") + READ.format(n=8, b=64)
    report = run(text.replace("wait_group 0", "wait_group 1"), data, out)
    assert {f.kind for f in report.findings} == {"in-flight", "exit"}
    (flying,) = report.of_kind("in-flight")
    assert "reads what the copy of PTX line" in flying.message
    assert (out == 2**64 - 1).all(), "the bytes have not come"
    report = run(text.replace("cp.async.commit_group;", ""), data, out)
    assert report.of_kind("in-flight")
    assert run(text.replace("cp.async.wait_group 0;", "cp.async.wait_all;"), data, out).clean
    assert run(text.replace("bar.sync 0;", "bar.warp.sync -1;"), data, out).clean
    report = run(text.replace("bar.sync 0;", ""), data, out)
    assert report.of_kind("race")


def test_groups_land_in_order():
    data, out = np.arange(64, dtype=np.uint64), np.zeros(32, np.uint64)
    body = (
        "mad.lo.u32 %r4, %r1, 8, %r2; mad.wide.u32 %rd3, %r1, 8, %rd1;\n"
        "cp.async.ca.shared.global [%r4], [%rd3], 8; cp.async.commit_group;\n"
        "cp.async.ca.shared.global [%r4+1024], [%rd3+256], 8; cp.async.commit_group;\n"
        "cp.async.wait_group 1; ld.shared.b64 %rd5, [%r4+{at}]; cp.async.wait_group 0;\n"
        "mad.wide.u32 %rd4, %r1, 8, %rd2; st.global.b64 [%rd4], %rd5;"
    )
    assert run(body.format(at=0), data, out).clean
    np.testing.assert_array_equal(out, data[:32])
    assert run(body.format(at=1024), data, out).of_kind("in-flight")


def test_copies_may_arrive_at_an_mbarrier():
    data, out = np.arange(32, dtype=np.uint64), np.zeros(32, np.uint64)
    wait = "W: mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r3], 0; @!%p2 bra W;\n"
    body = (
        "@%p1 mbarrier.init.shared.b64 [%r3], 32; bar.sync 0;\n"
        "mad.lo.u32 %r4, %r1, 8, %r2; mad.wide.u32 %rd3, %r1, 8, %rd1;\n"
        "cp.async.ca.shared.global [%r4], [%rd3], 8;\n"
        "cp.async.mbarrier.arrive.noinc.shared.b64 [%r3];\n" + wait
    ) + READ.format(n=8, b=64)
    assert run(body, data, out).clean
    np.testing.assert_array_equal(out, data[np.arange(32) ^ 1])
    assert run(body.replace(wait, ""), data, out).of_kind("race")
    increased = body.replace(".noinc", "").replace(
        wait, "mbarrier.arrive.shared.b64 _, [%r3];\n" + wait
    )
    assert run(increased, data, out).clean


BULK = (
    "@%p1 mbarrier.init.shared::cta.b64 [%r3], 1; fence.mbarrier_init.release.cluster;\n"
    "bar.sync 0;\n@!%p1 bra WAIT;\n"
    "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r3], 512;\n"
    "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r2], [%rd1], 512, [%r3];\n"
    "WAIT: mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r3], 0; @!%p2 bra WAIT;\n"
)


def test_bulk_copies_into_shared_memory():
    data, out = np.arange(64, dtype=np.uint64), np.zeros(64, np.uint64)
    assert run(BULK + READ.format(n=8, b=64), data, out, 64).clean
    np.testing.assert_array_equal(out, data[np.arange(64) ^ 1])


def test_bulk_copies_that_are_waited_for_wrongly():
    data, out = np.arange(64, dtype=np.uint64), np.zeros(64, np.uint64)
    text = BULK + READ.format(n=8, b=64)
    for right, wrong, kinds in (
        (", 512;\ncp", ", 496;\ncp", {"deadlock", "exit"}),
        (", 512;\ncp", ", 528;\ncp", {"deadlock", "exit"}),
        ("@!%p2 bra WAIT;", "", {"in-flight", "exit", "race"}),
        ("[%r3], 0; @!", "[%r3], 1; @!", {"in-flight"}),
        ("[%r3], 1; fence", "[%r3], 2; fence", {"deadlock", "exit"}),
        ("@%p1 mbarrier.init.shared::cta.b64 [%r3], 1;", "", {"barrier"}),
        ("bar.sync 0;", "", {"race"}),
        ("[%r2], [%rd1], 512", "[%r2+8], [%rd1], 512", {"alignment"}),
        ("[%r2], [%rd1], 512", "[%r2], [%rd1+16], 512", {"bounds"}),
    ):
        assert right in text
        report = run(text.replace(right, wrong), data, out, 64)
        found = {f.kind for f in report.findings}
        assert found & kinds, (wrong, report)


def test_bulk_copies_that_are_polled_for():
    data, out = np.arange(64, dtype=np.uint64), np.zeros(64, np.uint64)
    text = BULK.replace("try_wait", "test_wait") + READ.format(n=8, b=64)
    assert run(text, data, out, 64, limit=5000).clean
    np.testing.assert_array_equal(out, data[np.arange(64) ^ 1])


def test_deadlocks_say_what_is_missing():
    data, out = np.arange(64, dtype=np.uint64), np.zeros(64, np.uint64)
    report = run(BULK.replace("], 512;", "], 528;"), data, out, 64)
    (finding,) = report.of_kind("deadlock")
    assert finding.message == (
        "64 threads wait at the mbarrier at shared byte 16384, whose phase 0 lacks 0 arrivals and "
        "16 bytes"
    )


def test_more_arrivals_than_an_mbarrier_counts():
    body = "@%p1 mbarrier.init.shared.b64 [%r3], 31; bar.sync 0;\n"
    body += "mbarrier.arrive.shared.b64 %rd5, [%r3];"
    report = run(body, np.zeros(1, np.uint64), np.zeros(1, np.uint64))
    assert "1 arrivals more than the mbarrier counts (31)" in report.of_kind("barrier")[0].message


def test_tokens_and_counts():
    out = np.zeros(32, np.uint64)
    body = (
        "@%p1 mbarrier.init.shared.b64 [%r3], 64; bar.sync 0;\n"
        "mbarrier.arrive.shared.b64 %rd5, [%r3], 2;\n"
        "W: mbarrier.test_wait.shared.b64 %p2, [%r3], %rd5; @!%p2 bra W;\n"
        "mbarrier.arrive.release.cta.shared::cta.b64 %rd6, [%r3], 2; add.u64 %rd7, %rd5, %rd6;\n"
        "mad.wide.u32 %rd4, %r1, 8, %rd2; st.global.b64 [%rd4], %rd7;"
    )
    assert run(body, np.zeros(1, np.uint64), out).clean
    assert (out == 1).all()


def test_a_ring_of_two_stages():
    """A producer warp and a consumer warp, full and empty barriers, phases that wrap."""
    data, out = np.arange(5 * 32, dtype=np.uint64), np.zeros(5 * 32, np.uint64)
    body = (
        "@!%p1 bra S; mbarrier.init.shared.b64 [%r3], 1; mbarrier.init.shared.b64 [%r3+8], 1;\n"
        "mbarrier.init.shared.b64 [%r3+16], 32; mbarrier.init.shared.b64 [%r3+24], 32;\n"
        "S: bar.sync 0; mov.u32 %r10, 0; setp.ge.u32 %p3, %r1, 32; @%p3 bra EAT;\n"
        "@!%p1 bra OUT;\n"
        "MAKE: and.b32 %r11, %r10, 1; mad.lo.u32 %r12, %r11, 8, %r3;\n"
        "mad.lo.u32 %r13, %r11, 256, %r2;\n"
        "shr.u32 %r14, %r10, 1; and.b32 %r14, %r14, 1; xor.b32 %r15, %r14, 1;\n"
        "E: mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r12+16], %r15; @!%p2 bra E;\n"
        "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r12], 256;\n"
        "mad.wide.u32 %rd3, %r10, 256, %rd1;\n"
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes "
        "[%r13], [%rd3], 256, [%r12];\n"
        "add.u32 %r10, %r10, 1; setp.lt.u32 %p4, %r10, 5; @%p4 bra MAKE; bra OUT;\n"
        "EAT: and.b32 %r11, %r10, 1; mad.lo.u32 %r12, %r11, 8, %r3;\n"
        "mad.lo.u32 %r13, %r11, 256, %r2;\n"
        "shr.u32 %r14, %r10, 1; and.b32 %r14, %r14, 1;\n"
        "F: mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r12], %r14; @!%p2 bra F;\n"
        "sub.u32 %r16, %r1, 32; mad.lo.u32 %r17, %r16, 8, %r13; ld.shared.b64 %rd5, [%r17];\n"
        "mbarrier.arrive.shared::cta.b64 _, [%r12+16];\n"
        "mad.lo.u32 %r18, %r10, 32, %r16; mad.wide.u32 %rd4, %r18, 8, %rd2;\n"
        "st.global.b64 [%rd4], %rd5; add.u32 %r10, %r10, 1;\n"
        "setp.lt.u32 %p4, %r10, 5; @%p4 bra EAT;\nOUT: ret;"
    )
    report = run(body, data, out, 64)
    assert report.clean, report
    np.testing.assert_array_equal(out, data)
    ignored = body.replace("[%r12+16], %r15; @!%p2 bra E;", "[%r12+16], %r15;")
    assert run(ignored, data, out, 64).findings
    early = body.replace("mbarrier.arrive.shared::cta.b64 _, [%r12+16];", "").replace(
        "F: mbarrier", "mbarrier.arrive.shared::cta.b64 _, [%r12+16];\nF: mbarrier"
    )
    report = run(early, data, out, 64)
    assert {f.kind for f in report.findings} & {"race", "in-flight"}, report


STORE = (
    "mad.lo.u32 %r4, %r1, 8, %r2; cvt.u64.u32 %rd5, %r1; st.shared.b64 [%r4], %rd5;\n"
    "fence.proxy.async.shared::cta;\nbar.sync 0;\n"
    "@%p1 cp.async.bulk.global.shared::cta.bulk_group [%rd2], [%r2], 256;\n"
    "cp.async.bulk.commit_group;\ncp.async.bulk.wait_group.read 0;\n"
)


def test_bulk_copies_out_of_shared_memory():
    data, out = np.zeros(32, np.uint64), np.zeros(32, np.uint64)
    assert run(STORE, data, out).clean
    np.testing.assert_array_equal(out, np.arange(32))
    for wrong, kind in (("fence.proxy.async.shared::cta;", "proxy"), ("bar.sync 0;", "race"),
                        ("cp.async.bulk.wait_group.read 0;", "exit")):  # fmt: skip
        report = run(STORE.replace(wrong, ""), data, out)
        assert report.of_kind(kind), (wrong, report)
    reused = STORE.replace(
        "cp.async.bulk.wait_group", "st.shared.b64 [%r4], 1;\ncp.async.bulk.wait_group"
    )
    assert (
        "overwrites what the asynchronous" in run(reused, data, out).of_kind("in-flight")[0].message
    )


def test_bulk_reductions():
    out = np.ones(32, np.uint64)
    place = "global.shared::cta.bulk_group"
    add = STORE.replace(f"cp.async.bulk.{place}", f"cp.reduce.async.bulk.{place}.add.u64")
    assert run(add, np.zeros(1, np.uint64), out).clean
    np.testing.assert_array_equal(out, np.arange(32) + 1)


def tensor_body(rank: int, coordinates: str, size: int) -> str:
    """Load a box, and copy the bytes of shared memory to `out`."""
    return (
        "@%p1 mbarrier.init.shared::cta.b64 [%r3], 1; bar.sync 0; @!%p1 bra WAIT;\n"
        f"mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r3], {size};\n"
        f"cp.async.bulk.tensor.{rank}d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
        f"[%r2], [%rd1, {{{coordinates}}}], [%r3];\n"
        "WAIT: mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r3], 0; @!%p2 bra WAIT;\n"
        "mov.u32 %r10, %r1;\n"
        f"L: setp.ge.u32 %p3, %r10, {size // 4}; @%p3 bra OUT; mad.lo.u32 %r11, %r10, 4, %r2;\n"
        "ld.shared.b32 %r12, [%r11]; mad.wide.u32 %rd4, %r10, 4, %rd2;\n"
        "st.global.b32 [%rd4], %r12; add.u32 %r10, %r10, 32; bra L;\nOUT: ret;"
    )


def unswizzled(raw: np.ndarray, row: int) -> np.ndarray:
    """Bytes of shared memory in the order of the box."""
    at = np.arange(raw.size)
    bits = {0: 0, 32: 1, 64: 3, 128: 7}[row]
    return raw[at ^ ((at >> 7 & bits) << 4)]


@pytest.mark.parametrize("swizzle", [0, 32, 64, 128])
@pytest.mark.parametrize(("row", "column"), [(0, 0), (4, 8), (-3, -8), (18, 40), (100, 0)])
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.uint8])
def test_boxes_of_a_matrix(swizzle, row, column, kind):
    """Also boxes that lie partly or wholly outside: those elements are zeros."""
    size = np.dtype(kind).itemsize
    tensor = (np.arange(24 * 48) % 251).reshape(24, 48).astype(kind)
    box = (8, (swizzle or 64) // size)
    out = np.zeros(box[0] * box[1] * size, np.uint8)
    data = ptx.TensorMap(tensor, box, swizzle)
    report = run(tensor_body(2, f"{column}, {row}", out.size), data, out)
    assert report.clean, report
    want = np.zeros(box, kind)
    for r in range(box[0]):
        for c in range(box[1]):
            if 0 <= row + r < 24 and 0 <= column + c < 48:
                want[r, c] = tensor[row + r, column + c]
    np.testing.assert_array_equal(unswizzled(out, swizzle).view(kind).reshape(box), want)


def test_boxes_of_other_ranks_and_fills():
    line = np.arange(100, dtype=np.float32)
    out = np.zeros(16, np.float32)
    data = ptx.TensorMap(line, (16,), nan=True)
    assert run(tensor_body(1, "92", 64), data, out).clean
    np.testing.assert_array_equal(out, [*range(92, 100), *[np.nan] * 8])
    cube = np.arange(4 * 6 * 16, dtype=np.uint16).reshape(4, 6, 16)
    out = np.zeros((2, 3, 16), np.uint16)
    assert run(tensor_body(3, "0, 2, 1", out.nbytes), ptx.TensorMap(cube, (2, 3, 16)), out).clean
    np.testing.assert_array_equal(out, cube[1:3, 2:5])


def test_boxes_are_stored():
    tensor = np.zeros((10, 16), ml_dtypes.bfloat16)
    body = (
        "mov.u32 %r5, 0x3F803F80; mad.lo.u32 %r4, %r1, 4, %r2; st.shared.b32 [%r4], %r5;\n"
        "fence.proxy.async; bar.sync 0; @!%p1 bra OUT;\n"
        "cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group [%rd1, {8, 7}], [%r2];\n"
        "cp.async.bulk.commit_group; cp.async.bulk.wait_group 0;\nOUT: ret;"
    )
    report = run(body, ptx.TensorMap(tensor, (4, 16)), np.zeros(1))
    assert report.clean, report
    want = np.zeros((10, 16))
    want[7:, 8:] = 1
    np.testing.assert_array_equal(tensor.astype(np.float64), want)
    place = "bulk.tensor.2d.global.shared::cta"
    reduced = body.replace(f"cp.async.{place}", f"cp.reduce.async.{place}.add")
    assert run(reduced, ptx.TensorMap(tensor, (4, 16)), np.zeros(1)).clean
    np.testing.assert_array_equal(tensor.astype(np.float64), 2 * want)


def test_a_map_that_the_kernel_makes_in_shared_memory():
    tensor = np.arange(24 * 32, dtype=np.float16).reshape(24, 32)
    out = np.zeros(8 * 16, np.float16)
    fields = [
        ("global_address", "b64", "%rd1"), ("rank", "b32", "1"), ("elemtype", "b32", "6"),
        ("box_dim", "b32", "0, 16"), ("box_dim", "b32", "1, 8"), ("global_dim", "b32", "0, 32"),
        ("global_dim", "b32", "1, 24"), ("global_stride", "b64", "0, 64"),
        ("element_stride", "b32", "0, 1"), ("element_stride", "b32", "1, 1"),
        ("swizzle_mode", "b32", "1"),
    ]  # fmt: skip
    make = "mad.lo.u32 %r20, %r1, 4, %r2; st.shared.b32 [%r20+8192], 0; bar.warp.sync -1;\n"
    make += "cvt.u64.u32 %rd10, %r2; add.u64 %rd10, %rd10, 8192;\n"
    make += "".join(
        f"@%p1 tensormap.replace.tile.{name}.shared::cta.b1024.{t} [%rd10], {value};\n"
        for name, t, value in fields
    )
    make += (
        "bar.warp.sync -1; add.u64 %rd11, %rd2, 1024;\n"
        "tensormap.cp_fenceproxy.global.shared::cta.tensormap::generic.release.gpu.sync.aligned "
        "[%rd11], [%rd10], 128;\nfence.proxy.tensormap::generic.acquire.gpu [%rd11], 128;\n"
    )
    body = make + tensor_body(2, "16, 4", 256).replace("[%rd1, ", "[%rd11, ")
    room = np.zeros(1152, np.uint8)
    report = run(body, tensor, room)
    assert report.clean, report
    out = unswizzled(room[:256], 32).view(np.float16).reshape(8, 16)
    np.testing.assert_array_equal(out, tensor[4:12, 16:])


def test_tensor_maps_that_no_driver_would_make():
    a = np.zeros((8, 16), np.float16)
    for make, message in (
        (lambda: ptx.TensorMap(a, (8,)), "a box of as many"),
        (lambda: ptx.TensorMap(a, (8, 16), 48), "swizzles 0, 32, 64 or 128"),
        (lambda: ptx.TensorMap(a.astype(complex), (8, 16)), "elements of complex128"),
        (lambda: ptx.TensorMap(a, (8, 300)), "are 1 to 256"),
        (lambda: ptx.TensorMap(a, (8, 4)), "inner side of the box is 8 bytes"),
        (lambda: ptx.TensorMap(a, (8, 32), 32), "of at most the swizzle of 32"),
        (lambda: ptx.TensorMap(a[:, :12].copy(), (8, 8)), "no multiple of 16 bytes"),
    ):
        with pytest.raises(TileError, match=message):
            make()
    body = tensor_body(3, "0, 0, 0", 256)
    with pytest.raises(TileError, match="the tensor map has 2 axes"):
        run(body, ptx.TensorMap(a, (8, 16)), np.zeros(64, np.uint32))
