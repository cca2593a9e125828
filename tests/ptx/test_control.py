"""Branches, loops, calls and barriers; threads that wait for ever."""

from __future__ import annotations

import numpy as np
import pytest
from ptx.running import HEADER, evaluate, integers, kernel

from tilec import ptx
from tilec.ir.errors import TileError

INDEX = (
    "mov.u32 %r1, %tid.x; ld.param.u64 %rd1, [out]; mad.wide.u32 %rd2, %r1, 4, %rd1;\n"
    "mov.u32 %r9, box;\n"
)
SHARED = ".shared .align 16 .b8 box[1024];\n"


def run(body: str, out: np.ndarray, block: int = 64, grid: int = 1, **options) -> ptx.Report:
    return kernel(SHARED + INDEX + body).run("k", grid, block, [out], **options)


def test_loops_of_different_lengths():
    a = integers("uint32", 300, 1) % np.uint32(200)
    text = (
        "mov.u32 %d, 0; mov.u32 %r1, 0;\nLOOP: setp.ge.u32 %q, %r1, %a; @%q bra DONE;\n"
        "add.u32 %r1, %r1, 1; and.b32 %r2, %r1, 1; setp.eq.u32 %q, %r2, 0; @%q bra LOOP;\n"
        "add.u32 %d, %d, %r1; bra.uni LOOP;\nDONE: add.u32 %d, %d, 1;"
    )
    got = evaluate(text, "uint32", a=a)
    want = [1 + sum(k for k in range(1, n + 1) if k % 2) for n in a.tolist()]
    assert got.tolist() == want


def test_branch_tables():
    a = np.arange(100, dtype=np.uint32) % 4
    text = (
        "TABLE: .branchtargets ONE, TWO, ONE, THREE;\nbrx.idx %a, TABLE;\n"
        "ONE: mov.u32 %d, 1; bra OUT;\nTWO: mov.u32 %d, 2; bra OUT;\nTHREE: mov.u32 %d, 3;\nOUT:"
    )
    assert evaluate(text, "uint32", a=a).tolist() == [1, 2, 1, 3] * 25


def test_names_and_labels_of_braces_are_their_own():
    text = (
        "mov.u32 %r1, 5; { .reg .b32 %r1; mov.u32 %r1, 9; L: add.u32 %r1, %r1, 1;\n"
        "setp.lt.u32 %q, %r1, 12; @%q bra L; mov.u32 %r2, %r1; }\n"
        "{ L: add.u32 %r1, %r1, %a; setp.lt.u32 %q, %r1, 40; @%q bra L; }\n"
        "add.u32 %d, %r1, %r2;"
    )
    assert evaluate(text, "uint32", a=np.array([10, 100], np.uint32)).tolist() == [57, 117]


CALLED = """
.func (.param .b32 result) twice(.param .b32 x, .param .b64 p)
{
.reg .b32 %r<4>; .reg .pred %p1; .reg .b64 %rd1;
ld.param.u32 %r1, [x]; ld.param.u64 %rd1, [p];
setp.gt.u32 %p1, %r1, 100; @%p1 bra BIG;
add.u32 %r2, %r1, %r1; st.param.b32 [result], %r2; ret;
BIG: ld.global.u32 %r3, [%rd1]; st.param.b32 [result], %r3; ret;
}
"""


def call(guard: str = "") -> str:
    return (
        "{ .param .b32 x0; .param .b64 x1; .param .b32 back;\n"
        "st.param.b32 [back], 1; st.param.b32 [x0], %r1; st.param.b64 [x1], %rd1;\n"
        f"{guard} call.uni (back), twice, (x0, x1); ld.param.b32 %r1, [back]; }}\n"
    )


def test_calls_are_inlined():
    out = np.zeros(128, np.uint32)
    out[0] = 77
    body = INDEX.replace("mov.u32 %r9, box;", "") + "add.u32 %r1, %r1, 1;\n" + call()
    body += "st.global.b32 [%rd2], %r1;"
    assert kernel(body, before=CALLED).run("k", 1, 128, [out]).clean
    want = 2 * (np.arange(128) + 1)
    want[100:] = 77
    np.testing.assert_array_equal(out[1:], want[1:])
    body = INDEX.replace("mov.u32 %r9, box;", "") + "setp.lt.u32 %p1, %r1, 4;\n" + call("@%p1")
    assert kernel(body + "st.global.b32 [%rd2], %r1;", before=CALLED).run("k", 1, 8, [out]).clean
    assert out[:8].tolist() == [0, 2, 4, 6, 1, 1, 1, 1]


@pytest.mark.parametrize("op", ["bar.sync 0;", "barrier.sync 3;", "barrier.sync.aligned 2, 128;",
                                "barrier.cluster.arrive; barrier.cluster.wait;"])  # fmt: skip
def test_barriers_order_shared_memory(op):
    out = np.zeros(128, np.uint32)
    body = (
        "mad.lo.u32 %r2, %r1, 4, %r9; st.shared.b32 [%r2], %r1;\n" + op + "\n"
        "sub.u32 %r3, 127, %r1; mad.lo.u32 %r3, %r3, 4, %r9; ld.shared.b32 %r4, [%r3];\n"
        "st.global.b32 [%rd2], %r4;"
    )
    assert run(body, out, 128).clean
    np.testing.assert_array_equal(out, np.arange(128)[::-1])
    report = run(body.replace(op, ""), out, 128)
    assert [f.kind for f in report.findings] == ["uninitialised"] or report.of_kind("race")


def test_a_missing_barrier_is_a_race_that_names_both_sides():
    out = np.zeros(64, np.uint32)
    body = (
        "mad.lo.u32 %r2, %r1, 4, %r9; st.shared.b32 [%r2], %r1; bar.sync 0;\n"
        "xor.b32 %r3, %r1, 32; mad.lo.u32 %r3, %r3, 4, %r9; ld.shared.b32 %r4, [%r3];\n"
        "bar.sync 0;\nst.shared.b32 [%r2], %r4;\nbar.sync 0;\nst.global.b32 [%rd2], %r4;"
    )
    assert run(body, out).clean
    lines = body.split("\n")
    lines[2] = ""
    (finding,) = run("\n".join(lines), out).findings
    assert finding.kind == "race"
    assert "overwrites what thread" in finding.message
    assert finding.other is not None
    assert finding.place.line - finding.other.line == 2
    assert finding.count == 64
    lines = body.split("\n")
    lines[0] = lines[0].replace("bar.sync 0;", "")
    (finding,) = run("\n".join(lines), out).of_kind("race")
    assert "reads what thread 32 wrote" in finding.message


def test_equal_values_written_twice_are_no_race():
    out = np.zeros(64, np.uint32)
    assert run("st.shared.b32 [%r9], 7;", out).clean
    report = run("st.shared.b32 [%r9], %r1;", out)
    assert report.of_kind("race")
    twice = "setp.lt.u32 %p1, %r1, 32; @%p1 st.shared.b32 [%r9], 7; @!%p1 st.shared.b32 [%r9], {};"
    assert run(twice.format(7), out).clean
    assert run(twice.format(8), out).of_kind("race")


def test_a_write_after_reads_of_several_threads():
    """By one of the readers: it is ordered after itself, not after the others."""
    out = np.zeros(64, np.uint32)
    begin = "setp.eq.u32 %p1, %r1, 0; @%p1 st.shared.b32 [%r9], 7; bar.sync 0;\n"
    end = "ld.shared.b32 %r2, [%r9]; setp.eq.u32 %p2, %r1, {}; @%p2 st.shared.b32 [%r9], 8;"
    fellows = "setp.lt.u32 %p3, %r1, 32; @!%p3 ret;\n"
    for writer in (0, 5, 31):  # lanes of one warp
        assert run(begin + fellows + end.format(writer), out).of_kind("race")
    apart = (
        "setp.lt.u32 %p3, %r1, 1; @%p3 ld.shared.b32 %r3, [%r9]; setp.ne.u32 %p4, %r1, 32;\n"
        "@%p4 ret; ld.shared.b32 %r2, [%r9]; st.shared.b32 [%r9], 8;"
    )
    assert run(begin + apart, out).of_kind("race"), "a reader of another warp came before"
    assert run(begin + apart.replace("@%p3 ld.shared.b32 %r3, [%r9];", ""), out).clean


def test_neighbouring_halves_of_a_word_are_different_places():
    out = np.zeros(64, np.uint32)
    body = "mad.lo.u32 %r2, %r1, 2, %r9; cvt.u16.u32 %h1, %r1; st.shared.b16 [%r2], %h1;"
    assert run(body, out).clean
    overlapping = body + " setp.eq.u32 %p1, %r1, 40; @%p1 st.shared.b16 [%r9], %h1;"
    assert run(overlapping, out).of_kind("race")


def test_lanes_of_a_warp_need_a_warp_barrier():
    out = np.zeros(32, np.uint32)
    body = (
        "mad.lo.u32 %r2, %r1, 4, %r9; st.shared.b32 [%r2], %r1;\nbar.warp.sync -1;\n"
        "xor.b32 %r3, %r2, 4; ld.shared.b32 %r4, [%r3]; st.global.b32 [%rd2], %r4;"
    )
    assert run(body, out, 32).clean
    report = run(body.replace("bar.warp.sync -1;", ""), out, 32)
    assert report.of_kind("race")
    assert (out == np.arange(32) ^ 1).all()


def test_atomics_do_not_race_with_each_other():
    out = np.zeros(64, np.uint32)
    body = (
        "setp.eq.u32 %p1, %r1, 0; @%p1 st.shared.b32 [%r9], 0; bar.sync 0;\n"
        "red.shared.add.u32 [%r9], 1;\nbar.sync 0;\nld.shared.b32 %r2, [%r9];\n"
        "st.global.b32 [%rd2], %r2;"
    )
    assert run(body, out).clean
    assert (out == 64).all()
    report = run(body.replace("1;\nbar.sync 0;\n", "1;\n"), out)
    assert report.of_kind("race")


def test_named_barriers_between_producers_and_consumers():
    out = np.zeros(64, np.uint32)
    body = (
        "setp.lt.u32 %p1, %r1, 64; @!%p1 bra MAKE;\n"
        "bar.sync 1, 128;\nmad.lo.u32 %r2, %r1, 4, %r9; ld.shared.b32 %r3, [%r2];\n"
        "st.global.b32 [%rd2], %r3; ret;\n"
        "MAKE: sub.u32 %r3, %r1, 64; mad.lo.u32 %r2, %r3, 4, %r9; st.shared.b32 [%r2], %r1;\n"
        "bar.arrive 1, 128;\nret;"
    )
    assert run(body, out, 128).clean
    np.testing.assert_array_equal(out, np.arange(64) + 64)
    report = run(body.replace("bar.arrive 1, 128;", ""), out, 128)
    (finding,) = report.findings
    assert finding.kind == "deadlock"
    assert finding.message == "64 threads wait at barrier 1, where 64 of 128 threads have arrived"
    assert not report.finished
    report = run(body.replace("bar.arrive 1, 128;", "bar.arrive 2, 128;"), out, 128)
    assert report.of_kind("deadlock")


def test_warps_may_name_different_barriers_at_one_instruction():
    out = np.zeros(128, np.uint32)
    body = (
        "mad.lo.u32 %r2, %r1, 4, %r9; st.shared.b32 [%r2], %r1;\n"
        "shr.u32 %r3, %r1, 6; add.u32 %r3, %r3, 1; bar.sync %r3, 64;\n"
        "xor.b32 %r4, %r1, 63; mad.lo.u32 %r4, %r4, 4, %r9; ld.shared.b32 %r5, [%r4];\n"
        "st.global.b32 [%rd2], %r5;"
    )
    assert run(body, out, 128).clean
    np.testing.assert_array_equal(out, np.arange(128) ^ 63)
    across = body.replace("xor.b32 %r4, %r1, 63", "xor.b32 %r4, %r1, 127")
    assert run(across, out, 128).of_kind("race")
    with pytest.raises(TileError, match="there are 16 barriers, and no 16"):
        run("bar.sync 16;", out)


def test_reductions_over_a_block():
    out = np.zeros(64, np.uint32)
    body = (
        "setp.lt.u32 %p1, %r1, 10; bar.red.popc.u32 %r2, 0, %p1;\n"
        "barrier.red.and.pred %p2, 1, %p1; bar.red.or.pred %p3, 0, %p1;\n"
        "selp.u32 %r3, 100, 0, %p2; selp.u32 %r4, 1000, 0, %p3; add.u32 %r2, %r2, %r3;\n"
        "add.u32 %r2, %r2, %r4; st.global.b32 [%rd2], %r2;"
    )
    assert run(body, out).clean
    assert (out == 1010).all()


def test_threads_that_ended_are_not_waited_for():
    out = np.zeros(128, np.uint32)
    body = "setp.ge.u32 %p1, %r1, 64; @%p1 ret; bar.sync 0; st.global.b32 [%rd2], %r1;"
    assert run(body, out, 128).clean
    np.testing.assert_array_equal(out[:64], np.arange(64))


def test_a_barrier_for_half_a_warp():
    out = np.zeros(64, np.uint32)
    body = "setp.lt.u32 %p1, %r1, 16; @%p1 bar.sync 0; bar.sync 0; st.global.b32 [%rd2], %r1;"
    report = run(body, out)
    kinds = {f.kind for f in report.findings}
    assert "divergence" in kinds
    assert "16 threads wait for other lanes" in report.of_kind("divergence")[0].message


def test_a_shuffle_that_not_all_named_lanes_execute():
    out = np.zeros(32, np.uint32)
    body = (
        "setp.lt.u32 %p1, %r1, 8; @%p1 shfl.sync.bfly.b32 %r2, %r1, 1, 31, {};\n"
        "@%p1 st.global.b32 [%rd2], %r2; bar.sync 0;"
    )
    report = run(body.format("0xFFFFFFFF"), out, 32)
    shuffle, barrier = sorted(report.findings, key=lambda f: f.place.line)
    assert {shuffle.kind, barrier.kind} == {"divergence"}
    assert shuffle.text.startswith("@%p1 shfl.sync")
    assert run(body.format("0xFF"), out, 32).clean
    ended = body.format("0xFFFFFFFF").replace("bar.sync 0;", "")
    assert run(ended, out, 32).clean  # lanes that have ended are not waited for


def test_barriers_at_which_different_warps_wait():
    out = np.zeros(64, np.uint32)
    body = "setp.lt.u32 %p1, %r1, 32; @%p1 bra A; bar.sync 1; ret;\nA: bar.sync 0; ret;"
    report = run(body, out)
    assert [f.kind for f in report.findings] == ["deadlock", "deadlock"]
    assert {f.place.line for f in report.findings} == {11, 12}


def test_a_lock_that_blocks_take_in_turn():
    """The block spins on global memory, as the reductions of split GEMMs do."""
    out = np.zeros(2, np.uint32)
    body = (
        "setp.ne.u32 %p1, %r1, 0; @%p1 ret; mov.u32 %r2, %nctaid.x; mov.u32 %r3, %ctaid.x;\n"
        "sub.u32 %r3, %r2, %r3; sub.u32 %r3, %r3, 1;\n"
        "SPIN: ld.acquire.gpu.global.u32 %r4, [%rd1]; setp.ne.u32 %p1, %r4, %r3; @%p1 bra SPIN;\n"
        "ld.global.u32 %r5, [%rd1+4]; mad.lo.u32 %r5, %r5, 3, %r3; st.global.b32 [%rd1+4], %r5;\n"
        "fence.acq_rel.gpu; add.u32 %r4, %r4, 1; st.release.gpu.global.b32 [%rd1], %r4;"
    )
    assert run(body, out, 32, 7, limit=20_000).clean
    total = 0
    for k in range(7):
        total = 3 * total + k
    assert out.tolist() == [7, total]


def test_a_loop_without_end_is_stopped():
    out = np.zeros(2, np.uint32)
    report = run("L: ld.volatile.global.u32 %r2, [%rd1]; bra L;", out, 32, limit=2000)
    assert not report.finished
    assert report.of_kind("limit")[0].message == "32 threads are here after 2000 steps, the limit"


def test_traps_and_assertions_stop_the_kernel():
    out = np.zeros(64, np.uint32)
    body = "setp.eq.u32 %p1, %r1, 5; @%p1 trap; bar.sync 0; st.global.b32 [%rd2], 1;"
    report = run(body, out)
    assert report.of_kind("trap")[0].threads == (ptx.ThreadId(0, 5),)
    assert not report.finished
    assert not out.any()
    text = (
        f"{HEADER}.extern .func __assertfail (.param .b64 a, .param .b64 b);\n"
        ".visible .entry k(.param .u64 out)\n{ .param .b64 a; .param .b64 b;\n"
        "call.uni __assertfail, (a, b); ret; }\n"
    )
    report = ptx.load(text).run("k", 1, 1, [out])
    assert "assertion fails" in report.of_kind("trap")[0].message


def test_blocks_run_in_waves_where_memory_is_short(monkeypatch):
    monkeypatch.setattr("tilec.ptx.launch.AT_ONCE", 1 << 16)
    out = np.zeros(64, np.uint32)
    body = (
        "mov.u32 %r2, %ctaid.x; mov.u32 %r3, %nctaid.x; mad.wide.u32 %rd2, %r2, 4, %rd1;\n"
        "setp.eq.u32 %p1, %r1, 3; @%p1 mad.lo.u32 %r2, %r2, %r3, %r2;\n"
        "@%p1 st.global.b32 [%rd2], %r2;"
    )
    report = run(body, out, 32, 64)
    assert report.clean
    np.testing.assert_array_equal(out, np.arange(64) * 65)


def test_grids_and_blocks_have_three_sides():
    out = np.zeros((3, 2, 5, 4, 2, 3), np.uint32)
    body = "mov.u32 %r2, 0;\n"
    for d, n in (("ctaid.z", 3), ("ctaid.y", 2), ("ctaid.x", 5), ("tid.z", 4), ("tid.y", 2),
                 ("tid.x", 3)):  # fmt: skip
        body += f"mov.u32 %r3, %{d}; mad.lo.u32 %r2, %r2, {n}, %r3;\n"
    body += "ld.param.u64 %rd1, [out]; mad.wide.u32 %rd1, %r2, 4, %rd1; st.global.b32 [%rd1], %r2;"
    assert kernel(body).run("k", (5, 2, 3), (3, 2, 4), [out]).clean
    np.testing.assert_array_equal(out.ravel(), np.arange(out.size))


def test_time_passes():
    a = np.zeros(4, np.uint32)
    text = "mov.u32 %r1, %clock; nanosleep.u32 100; mov.u32 %r2, %clock; sub.u32 %d, %r2, %r1;"
    assert (evaluate(text, "uint32", a=a) > 0).all()
