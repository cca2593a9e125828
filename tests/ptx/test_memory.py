"""Loads, stores and atomics of every state space, and what is wrong with them."""

from __future__ import annotations

import numpy as np
import pytest
from ptx.running import HEADER, evaluate, floats, integers, kernel

from tilec import ptx
from tilec.ir.errors import TileError

INDEX = "mov.u32 %r1, %tid.x; ld.param.u64 %rd1, [out]; mad.wide.u32 %rd2, %r1, 4, %rd1;\n"


def run(body: str, out: np.ndarray, block: int = 32, before: str = "", **options) -> ptx.Report:
    return kernel(body, before=before).run("k", 1, block, [out], **options)


@pytest.mark.parametrize("t", ["u8", "s8", "u16", "s16", "b32", "s32", "b64", "f32", "f64"])
def test_loads_extend_to_the_register(t):
    kind = {"b": "uint", "u": "uint", "s": "int", "f": "float"}[t[0]] + t[1:]
    data = np.arange(256, dtype=np.uint8).view(kind)[:32].copy()
    wide = "uint64" if t[0] != "s" else "int64"
    out = np.zeros(32, wide)
    register = "%fd1" if t == "f64" else "%f1" if t == "f32" else "%rd3"
    if t[0] != "f":
        body = (
            f"mov.u32 %r1, %tid.x; ld.param.u64 %rd1, [out]; ld.param.u64 %rd4, [data];\n"
            f"mad.wide.u32 %rd2, %r1, 8, %rd1; mad.wide.u32 %rd4, %r1, {data.itemsize}, %rd4;\n"
            f"ld.global.{t} {register}, [%rd4]; st.global.b64 [%rd2], {register};"
        )
        module = kernel(body, ".param .u64 out, .param .u64 data")
        assert module.run("k", 1, 32, [out, data]).clean
        np.testing.assert_array_equal(out, data.astype(wide))
    else:
        got = evaluate(f"mov.{t} %d, %a;", kind, a=data.view(f"uint{t[1:]}"))
        np.testing.assert_array_equal(got.view(f"uint{t[1:]}"), data.view(f"uint{t[1:]}"))


@pytest.mark.parametrize(("t", "many"), [("b16", 2), ("b32", 2), ("b32", 4), ("b64", 2), ("b8", 4)])
def test_vectors(t, many):
    size = int(t[1:]) // 8
    data = integers("uint8", 32 * many * size).copy()
    out = np.zeros_like(data)
    prefix = "%h" if size < 4 else "%r" if size == 4 else "%rd1"
    names = ", ".join(f"{prefix}{k + 3}" for k in range(many))
    step = many * size
    body = (
        "mov.u32 %r1, %tid.x; ld.param.u64 %rd1, [out]; ld.param.u64 %rd2, [data];\n"
        f"mad.wide.u32 %rd1, %r1, {step}, %rd1; mad.wide.u32 %rd2, %r1, {step}, %rd2;\n"
        f"ld.global.nc.L1::no_allocate.v{many}.{t} {{{names}}}, [%rd2];\n"
        f"st.global.cs.v{many}.{t} [%rd1], {{{names}}};"
    )
    report = kernel(body, ".param .u64 out, .param .u64 data").run("k", 1, 32, [out, data])
    assert report.clean, report
    np.testing.assert_array_equal(out, data)


SHARED = ".shared .align 16 .b8 box[256];\n"


@pytest.mark.parametrize("generic", [False, True])
def test_shared_memory_by_its_own_and_by_generic_addresses(generic):
    out = np.zeros(32, np.uint32)
    to = "mov.u64 %rd3, box; cvta.shared.u64 %rd3, %rd3;" if generic else "mov.u32 %r2, box;"
    place = "mad.wide.u32 %rd3, %r1, 4, %rd3;" if generic else "mad.lo.u32 %r2, %r1, 4, %r2;"
    address = "%rd3" if generic else "%r2"
    space = "" if generic else ".shared"
    back = "xor.b64 %rd3, %rd3, 4;" if generic else "xor.b32 %r2, %r2, 4;"
    body = (
        f"{SHARED}{INDEX}{to}{place} mul.lo.u32 %r3, %r1, 7;\n"
        f"st{space}.b32 [{address}], %r3; bar.sync 0; {back}\n"
        f"ld{space}.b32 %r4, [{address}]; st.b32 [%rd2], %r4;"
    )
    report = run(body, out)
    assert report.clean, report
    np.testing.assert_array_equal(out, 7 * (np.arange(32) ^ 1))


def test_generic_addresses_of_several_spaces_in_one_load():
    out = np.arange(32, dtype=np.uint32)
    body = (
        f"{SHARED}{INDEX} mov.u32 %r2, box; mad.lo.u32 %r2, %r1, 4, %r2; mov.u32 %r3, 1000;\n"
        "add.u32 %r3, %r3, %r1; st.shared.b32 [%r2], %r3; bar.sync 0;\n"
        "cvt.u64.u32 %rd3, %r2; cvta.shared.u64 %rd3, %rd3;\n"
        "and.b32 %r4, %r1, 1; setp.eq.u32 %p1, %r4, 0; selp.b64 %rd4, %rd3, %rd2, %p1;\n"
        "ld.b32 %r5, [%rd4]; add.u32 %r5, %r5, 5; st.b32 [%rd4], %r5; ld.shared.b32 %r6, [%r2];\n"
        "@%p1 st.global.b32 [%rd2], %r6;"
    )
    report = run(body, out)
    assert report.clean, report
    want = np.where(np.arange(32) % 2 == 0, 1005 + np.arange(32), np.arange(32) + 5)
    np.testing.assert_array_equal(out, want)


def test_local_memory_is_each_thread_s_own():
    out = np.zeros(32, np.uint32)
    body = (
        f".local .align 8 .b8 frame[16];\n{INDEX} mov.u64 %rd3, frame; cvta.local.u64 %rd4, %rd3;\n"
        "st.local.b32 [%rd3+4], %r1; ld.b32 %r2, [%rd4+4]; add.u32 %r2, %r2, 1;\n"
        "st.b32 [%rd4+4], %r2; ld.local.b32 %r3, [%rd3+4]; st.global.b32 [%rd2], %r3;"
    )
    assert run(body, out).clean
    np.testing.assert_array_equal(out, np.arange(32) + 1)
    report = run(body.replace("[%rd3+4], %r1", "[%rd3+24], %r1"), out)
    assert "uses local byte 24, and there are 16" in report.of_kind("bounds")[0].message


def test_local_addresses_wrap():
    """An address that is taken below the frame, and an offset that brings it back."""
    body = """
        .local .align 4 .b8 frame[16];
        mov.b32 %r1, frame;
        st.local.b32 [%r1+8], 1234;
        sub.s32 %r2, %r1, 12;
        ld.local.b32 %r3, [%r2+20];
        ld.param.u64 %rd1, [out];
        st.global.b32 [%rd1], %r3;
        ret;
    """
    out = np.zeros(1, np.int32)
    report = kernel(body).run("k", 1, 1, [out])
    assert report.clean, report
    assert out[0] == 1234


def test_constants_and_global_variables():
    before = (
        ".const .align 4 .b32 table[4] = {10, 20, 30, 40};\n"
        ".global .align 4 .u32 counter = 7;\n.const .align 8 .f64 half = 0d3FE0000000000000;\n"
    )
    out = np.zeros(32, np.uint32)
    body = (
        f"{INDEX} and.b32 %r2, %r1, 3; mov.u64 %rd3, table; mad.wide.u32 %rd3, %r2, 4, %rd3;\n"
        "ld.const.b32 %r3, [%rd3]; ld.global.u32 %r4, [counter]; ld.const.b32 %r5, [table+8];\n"
        "ld.const.f64 %fd1, [half]; cvt.rpi.u32.f64 %r6, %fd1;\n"
        "add.u32 %r3, %r3, %r4; add.u32 %r3, %r3, %r5; add.u32 %r3, %r3, %r6;\n"
        "st.global.b32 [%rd2], %r3;"
    )
    assert run(body, out, before=before).clean
    np.testing.assert_array_equal(out, np.array([10, 20, 30, 40])[np.arange(32) % 4] + 38)
    body = f"{INDEX} mov.u64 %rd3, table; st.global.b32 [%rd3], %r1;"
    report = run(body, out, before=before)
    assert "table is read-only" in report.of_kind("bounds")[0].message


def test_parameters_of_every_kind():
    text = (
        f"{HEADER}.visible .entry k(.param .u64 out, .param .f32 x, .param .s16 y,\n"
        ".param .align 8 .b8 box[24])\n{\n.reg .b64 %rd<9>; .reg .b32 %r<9>; .reg .f32 %f<9>;\n"
        "ld.param.u64 %rd1, [out]; ld.param.f32 %f1, [x]; ld.param.s16 %r1, [y];\n"
        "ld.param.v2.b32 {%r2, %r3}, [box+8]; mov.u64 %rd2, box; cvta.param.u64 %rd3, %rd2;\n"
        "ld.b32 %r4, [%rd3+16]; st.global.f32 [%rd1], %f1; st.global.b32 [%rd1+4], %r1;\n"
        "st.global.v2.b32 [%rd1+8], {%r2, %r3}; st.global.b32 [%rd1+16], %r4;\n}\n"
    )
    out = np.zeros(5, np.uint32)
    box = np.arange(6, dtype=np.uint32).tobytes()
    module = ptx.load(text)
    assert module.run("k", 1, 1, [out, 1.5, np.int16(-3), box]).clean
    assert out.tolist() == [0x3FC00000, 0xFFFFFFFD, 2, 3, 4]
    for wrong, message in (
        ([out, 1.5, 1], "3 arguments for 4 parameters"),
        ([out, 1.5, 1 << 20, box], "k has 2 bytes|y has 2 bytes"),
        ([out, 1.5, 1, box[:8]], "gives 8 bytes for box, which has 24"),
        ([out, np.float64(1), 1, box], "gives 8 bytes for x, which has 4"),
        ([out, 1.5, 2.5, box], "y is no float"),
        ([out[::2], 1.5, 1, box], "not contiguous"),
    ):
        with pytest.raises(TileError, match=message):
            module.run("k", 1, 1, wrong)


def test_two_arguments_may_be_the_same_array_but_not_overlap():
    body = (
        "ld.param.u64 %rd1, [out]; ld.param.u64 %rd2, [data]; ld.global.b32 %r1, [%rd2];\n"
        "add.u32 %r1, %r1, 1; st.global.b32 [%rd1], %r1;"
    )
    module = kernel(body, ".param .u64 out, .param .u64 data")
    a = np.array([41, 0], np.uint32)
    assert module.run("k", 1, 1, [a, a.view(np.int32)]).clean
    assert a[0] == 42
    with pytest.raises(TileError, match="shares memory with another argument"):
        module.run("k", 1, 1, [a, a[1:]])


def test_accesses_out_of_bounds_name_the_buffer():
    out = np.zeros(30, np.uint32)
    report = run(f"{INDEX} st.global.b32 [%rd2], %r1;", out)
    (finding,) = report.findings
    assert finding.kind == "bounds"
    assert (
        finding.message == "thread 30 of block 0 writes 4 bytes at out+120, and out has 120 bytes"
    )
    assert (finding.buffer, finding.count, finding.place.line) == ("out", 2, 9)
    assert finding.threads == (ptx.ThreadId(0, 30),)
    np.testing.assert_array_equal(out, np.arange(30))
    three = np.zeros(3, np.uint32)
    report = run("ld.param.u64 %rd1, [out]; ld.global.b64 %rd2, [%rd1+8];", three, 1)
    assert "reads 8 bytes at out+8, and out has 12 bytes" in report.findings[0].message
    report = run("mov.u64 %rd1, 16; ld.global.b32 %r1, [%rd1];", out)
    assert "reads 4 bytes at out-" in report.of_kind("bounds")[0].message


def test_writes_of_read_only_arrays():
    out = np.zeros(32, np.uint32)
    out.flags.writeable = False
    report = run(f"{INDEX} st.global.b32 [%rd2], %r1;", out)
    assert "out is read-only" in report.findings[0].message


def test_misaligned_accesses():
    out = np.zeros(40, np.uint32)
    report = run(f"{INDEX} st.global.b32 [%rd2+2], %r1;", out)
    assert report.of_kind("alignment")[0].count == 32
    assert report.of_kind("alignment")[0].message.endswith("which is no multiple of 4")
    report = run(
        f"{SHARED}{INDEX} mov.u32 %r2, box; st.shared.v2.b32 [%r2+4], {{%r1, %r1}};", out, 1
    )
    assert "at shared byte 4: that is no multiple of 8" in report.findings[0].message


def test_shared_memory_out_of_bounds_and_uninitialised():
    out = np.zeros(32, np.uint32)
    body = f"{SHARED}{INDEX} mov.u32 %r2, box; ld.shared.b32 %r3, [%r2+{{}}];\n"
    body += "st.global.b32 [%rd2], %r3;"
    report = run(body.format(256), out)
    assert "at shared byte 256: a block has 256 bytes" in report.of_kind("bounds")[0].message
    report = run(body.format(8), out)
    (finding,) = report.findings
    assert finding.kind == "uninitialised"
    assert finding.address == 8
    assert (out == 0xFFFFFFFF).all()
    assert run(body.format(8), out, check=False).clean


def test_dynamic_shared_memory_follows_static():
    before = ".extern .shared .align 16 .b8 more[];\n"
    out = np.zeros(4, np.uint32)
    body = (
        ".shared .align 4 .b8 box[20];\n ld.param.u64 %rd1, [out]; mov.u32 %r1, more;\n"
        "mov.u32 %r2, box; sub.u32 %r3, %r1, %r2; st.global.b32 [%rd1], %r3;\n"
        "mov.u32 %r4, %dynamic_smem_size;\n"
        "st.global.b32 [%rd1+4], %r4; st.shared.b32 [%r1+60], %r1;"
    )
    assert run(body, out, 1, before, shared=64).clean
    assert out[:2].tolist() == [32, 64]
    assert run(body, out, 1, before, shared=60).of_kind("bounds")
    with pytest.raises(TileError, match="no block has over 232448"):
        run(body, out, 1, before, shared=240_000)


ATOMICS = {
    "add.u32": ("uint32", lambda v: v.astype(np.uint64).sum() & 0xFFFFFFFF),
    "min.s32": ("int32", np.min),
    "max.u32": ("uint32", np.max),
    "and.b32": ("uint32", np.bitwise_and.reduce),
    "or.b32": ("uint32", np.bitwise_or.reduce),
    "xor.b32": ("uint32", np.bitwise_xor.reduce),
    "add.f32": ("float32", lambda v: np.add.accumulate(v)[-1]),
    "add.u64": ("uint64", lambda v: v.sum()),
    "min.u64": ("uint64", np.min),
}


@pytest.mark.parametrize("op", ATOMICS)
@pytest.mark.parametrize("space", ["global", "shared", ""])
def test_atomics_on_one_place(op, space):
    kind, f = ATOMICS[op]
    size = np.dtype(kind).itemsize
    data = integers(kind, 64) if kind != "float32" else floats(kind, 64, 3, False) % 100
    out = np.zeros(1, kind)
    first = data[0]
    at = {"global": "%rd1", "shared": "%r2", "": "%rd1"}[space]
    value = "%f1" if kind == "float32" else "%rd5" if size == 8 else "%r5"
    begin = f"ld.global.b{8 * size} {value}, [%rd3]; setp.eq.u32 %p1, %r1, 0;"
    where = f".{space}" if space else ""
    body = (
        ".shared .align 8 .b8 cell[8];\nmov.u32 %r1, %tid.x; ld.param.u64 %rd1, [out];\n"
        f"ld.param.u64 %rd3, [data]; mad.wide.u32 %rd3, %r1, {size}, %rd3; mov.u32 %r2, cell;\n"
        f"{begin} @%p1 st{where}.b{8 * size} [{at}], {value}; bar.sync 0;\n"
        f"@!%p1 red{where}.{op} [{at}], {value}; bar.sync 0;\n"
        f"@%p1 ld{where}.b{8 * size} {value}, [{at}]; @%p1 st.global.b{8 * size} [%rd1], {value};"
    )
    report = kernel(body, ".param .u64 out, .param .u64 data").run("k", 1, 64, [out, data])
    assert report.clean, report
    want = np.array(f(data)).astype(kind)
    assert out[0] == want, first


def test_atomics_give_the_old_value_in_turn():
    out = np.zeros(66, np.uint32)
    body = (
        f"{INDEX} atom.global.add.u32 %r2, [%rd1], 1; st.global.b32 [%rd2+8], %r2;\n"
        "atom.global.inc.u32 %r3, [%rd1+4], 9;"
    )
    assert run(body, out, 64).clean
    assert out[0] == 64
    assert out[1] == 64 % 10
    np.testing.assert_array_equal(out[2:], np.arange(64))


def test_exchanges_and_comparisons():
    out = np.array([5, 0, 0, 0, 0], np.uint32)
    body = (
        "ld.param.u64 %rd1, [out]; atom.global.cas.b32 %r1, [%rd1], 5, 9;\n"
        "atom.global.cas.b32 %r2, [%rd1], 5, 11; atom.global.exch.b32 %r3, [%rd1], 12;\n"
        "atom.global.dec.u32 %r4, [%rd1], 30; st.global.v2.b32 [%rd1+8], {%r1, %r2};\n"
        "st.global.b32 [%rd1+4], %r3;"
    )
    assert run(body, out, 1).clean
    assert out.tolist() == [11, 9, 5, 9, 0]


def test_packed_and_vector_atomics():
    out = np.array([1, 2, 3, 4], np.float16).view(np.uint32).copy()
    body = (
        "ld.param.u64 %rd1, [out]; mov.b32 %r1, 0x3C003C00; red.global.add.noftz.f16x2 [%rd1], %r1;"
    )
    assert run(body, out, 3).clean
    assert out.view(np.float16).tolist() == [4, 5, 3, 4]
    out = np.arange(4, dtype=np.float32)
    body = (
        "ld.param.u64 %rd1, [out]; mov.f32 %f1, 0f3F800000;\n"
        "red.global.v2.f32.add [%rd1+8], {%f1, %f1};"
    )
    assert run(body, out, 2).clean
    assert out.tolist() == [0, 1, 4, 5]


def test_sectors_and_banks_are_counted():
    out = np.zeros(32 * 8, np.uint32)
    row = run(f"{INDEX} st.global.b32 [%rd2], %r1;", out).rows[-2]
    assert (row.executed, row.sectors, row.ideal_sectors) == (1, 4, 4)
    body = f"{INDEX} mad.wide.u32 %rd2, %r1, 32, %rd1; st.global.b32 [%rd2], %r1;"
    row = run(body, out).rows[-2]
    assert (row.sectors, row.ideal_sectors) == (32, 4)
    shared = ".shared .align 16 .b8 all[4096];\n mov.u32 %r1, %tid.x; mov.u32 %r2, all;\n"
    for step, size, passes, ideal in ((4, 4, 1, 1), (8, 4, 2, 1), (128, 4, 32, 1), (0, 4, 1, 1),
                                      (16, 16, 4, 4), (32, 16, 8, 4), (8, 8, 2, 2)):  # fmt: skip
        value = {4: ".b32 [%r2], %r3", 8: ".b64 [%r2], %rd4", 16: ".v2.b64 [%r2], {%rd4, %rd4}"}
        body = f"{shared} mad.lo.u32 %r2, %r1, {step}, %r2; st.shared{value[size]};"
        row = run(body, out, check=False).rows[-2]
        assert (row.wavefronts, row.ideal_wavefronts) == (passes, ideal), (step, size)
