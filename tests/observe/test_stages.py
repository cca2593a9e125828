"""Stages of compiles: their times add up, and they belong to the compile of their context."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

import tilec as tc
from tilec.compile import COMPILES, Kernel, engine
from tilec.ir.errors import TileError
from tilec.lang.text import parse
from tilec.observe import Compile, compiling, counters, listening, reported, stage

TEXT = """kernel scaled{n}(x: f32[M], y: f32[M]) {{
  for m in tiles(M) {{ y[m] = x[m] * {n}.0 }}
}}"""


@pytest.fixture
def made() -> list[Compile]:
    return []


def kernel(n: int) -> Kernel:
    return Kernel(parse(TEXT.format(n=n))[f"scaled{n}"])


def test_own_times_are_those_outside_of_inner_stages(made):
    with compiling("k", made.append) as about:
        about["target"] = "sm_90"
        with stage("outer", "pass") as notes:
            notes["made"] = True
            time.sleep(0.002)
            with stage("inner", "compiler"):
                time.sleep(0.004)
                reported("compiler", {"a": 0.001, "b": 0.002})
    (found,) = made
    by_name = {s.name: s for s in found.stages}
    assert list(by_name) == ["a", "b", "inner", "outer"]
    outer, inner = by_name["outer"], by_name["inner"]
    assert outer.seconds >= outer.own + inner.seconds - 1e-9
    assert inner.own == pytest.approx(inner.seconds - 0.003)
    assert by_name["a"].start + 0.001 == pytest.approx(by_name["b"].start)
    assert inner.start <= by_name["a"].start
    assert outer.notes == {"made": True}
    assert sum(t.seconds for t in found.totals) == pytest.approx(found.seconds)
    assert found.totals[-1].name == "other"
    assert found.target == "sm_90"
    assert not found.cached


def test_a_stage_without_a_compile_is_nobody_s(made):
    with stage("alone", "pass"):
        reported("compiler", {"a": 1.0})
    with compiling("k", made.append):
        pass
    assert made[0].stages == ()


def test_a_compile_in_another_is_a_part_of_it(made):
    inner: list[Compile] = []
    with (
        compiling("outer", made.append), compiling("inner", inner.append) as about,
        stage("s", "pass"),
    ):  # fmt: skip
        about["dims"] = {"M": 3}
    assert not inner
    assert [(c.kernel, len(c.stages), c.dims) for c in made] == [("outer", 1, {"M": 3})]


def test_threads_do_not_share_a_compile(made):
    ready = threading.Barrier(2)

    def work(n: int) -> None:
        with compiling(f"k{n}", made.append):
            ready.wait()
            with stage(f"s{n}", "pass"):
                ready.wait()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted((c.kernel, [s.name for s in c.stages]) for c in made) == [
        ("k0", ["s0"]), ("k1", ["s1"])
    ]  # fmt: skip
    assert len({c.thread for c in made}) == 2


def test_a_compile_that_fails_is_kept_with_its_error(made):
    before = counters().failures
    with pytest.raises(TileError), compiling("k", made.append), stage("s", "pass"):
        raise TileError("no")
    assert made[0].error == "TileError: no"
    assert [s.name for s in made[0].stages] == ["s"]
    assert counters().failures == before + 1


def test_a_kernel_knows_its_compiles(tmp_path):
    k = kernel(3)
    assert k.compiles() == ()
    heard: list[Compile] = []
    with listening(heard.append):
        for size in (5, 9, 5):
            x = np.arange(size, dtype=np.float32)
            y = np.full(size, np.nan, np.float32)
            k(x, y)
            assert (y == 3 * x).all()
    first, second = k.compiles()
    assert [c for c in heard if c.kernel == "scaled3"] == [first, second]
    assert (first.dims, second.dims) == ({"M": 5}, {"M": 9})
    assert first.types == {"x": "f32", "y": "f32"}
    assert first.target == "cpu"
    kinds = {s.kind for s in first.stages}
    assert {"parse", "pass", "verify", "codegen", "cache", "load"} <= kinds
    names = {s.name for s in first.stages}
    assert {"specialise", "tile", "canonicalize"} <= names
    assert first.cached is ("LLVM" not in names)
    assert first.as_json()["stages"][0]["seconds"] >= 0


def test_the_second_process_finds_it_in_the_cache(made):
    k = kernel(4)
    x = np.ones(7, np.float32)
    k(x, np.empty_like(x))
    again = kernel(4)
    again(x, np.empty_like(x))
    (found,) = again.compiles()
    assert found.cached
    assert not [s for s in found.stages if s.name == "LLVM"]


def test_compiles_are_bounded():
    k = kernel(5)
    for size in range(1, COMPILES + 4):
        with pytest.raises(TileError, match=f"{size}"):
            k(np.ones(size, np.float32), np.ones(size + 1, np.float32))
    assert len(k.compiles()) == COMPILES
    assert f"{COMPILES + 3}" in k.compiles()[-1].error


def test_a_program_knows_its_compiles():
    @tc.program
    def twice(x: tc.Tensor["M", "N"]):
        return x + x

    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert (twice(x) == 2 * x).all()
    (found,) = twice.compiles()
    assert (found.kernel, found.dims) == ("twice", {"M": 3, "N": 4})
    assert "tile" in {s.name for s in found.stages}


def test_a_call_with_wrong_arguments_is_a_failed_compile():
    k = kernel(6)
    with pytest.raises(TileError):
        k(np.ones(3, np.float32), np.ones(4, np.float32))
    (found,) = k.compiles()
    assert found.error.startswith("TileError: ")
    assert engine() is not None


def test_ptxas_is_a_part_of_nvrtc(made):
    from tilec.runtime.nvrtc import compile_cuda, nvrtc

    if nvrtc() is None:
        pytest.skip("NVRTC is not installed")
    text = 'extern "C" __global__ void k(float* x) { x[threadIdx.x] *= 2.0f; }'
    with compiling("k", made.append):
        compile_cuda(text, "sm_80")
    ptxas, whole = made[0].stages
    assert (ptxas.name, whole.name) == ("ptxas", "nvrtc")
    assert 0 < ptxas.seconds < whole.seconds
    assert whole.own == pytest.approx(whole.seconds - ptxas.seconds)


def test_triton_says_its_stages(made):
    pytest.importorskip("triton")
    from tilec.runtime.triton import compile_each
    from tilec.triton import triton_source

    (definition,) = parse(TEXT.format(n=7)).values()
    source = triton_source(definition, {"M": 64})
    with compiling("k", made.append):
        compile_each(source, "sm_80", fresh=True)
    stages = {s.name: s for s in made[0].stages}
    assert {"import triton", "triton ast", "triton ttir", "triton llir", "ptxas"} <= set(stages)
    parts = [s.seconds for n, s in stages.items() if s.kind == "compiler" and n != "triton"]
    assert 0 < sum(parts) <= stages["triton"].seconds
