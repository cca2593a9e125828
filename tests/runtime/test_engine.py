"""The runtime put together: from a KernelSource to results, with and without a cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tilec.ir.errors import TileError
from tilec.ir.source import KernelSource, Param
from tilec.runtime import engine as engine_module
from tilec.runtime.arguments import TensorArgument, describe
from tilec.runtime.cache import Cache
from tilec.runtime.engine import Engine
from tilec.runtime.jit import host_machine
from tilec.runtime.launch import Compiled

# y[chunk, :] += a * x[chunk, :] for rows of 4; each thread adds through its part of the workspace.
AXPY = """
declare void @tilec_parallel(ptr, ptr, i64)
declare i32 @tilec_threads()
define void @row(ptr %args, i64 %chunk, i32 %tid) {
  %y.at = getelementptr ptr, ptr %args, i64 1
  %a.at = getelementptr ptr, ptr %args, i64 2
  %workspace.at = getelementptr ptr, ptr %args, i64 3
  %x = load ptr, ptr %args
  %y = load ptr, ptr %y.at
  %a = load float, ptr %a.at
  %workspace = load ptr, ptr %workspace.at
  %part = getelementptr <16 x float>, ptr %workspace, i32 %tid
  %x.row = getelementptr <4 x float>, ptr %x, i64 %chunk
  %y.row = getelementptr <4 x float>, ptr %y, i64 %chunk
  %a.0 = insertelement <4 x float> poison, float %a, i32 0
  %a.4 = shufflevector <4 x float> %a.0, <4 x float> poison, <4 x i32> zeroinitializer
  %x.4 = load <4 x float>, ptr %x.row, align 4
  %ax = fmul <4 x float> %a.4, %x.4
  store <4 x float> %ax, ptr %part, align 64
  %y.4 = load <4 x float>, ptr %y.row, align 4
  %ax.4 = load volatile <4 x float>, ptr %part, align 64
  %sum = fadd <4 x float> %y.4, %ax.4
  store <4 x float> %sum, ptr %y.row, align 4
  ret void
}
define void @axpy(ptr %args) {
  call void @tilec_parallel(ptr @row, ptr %args, i64 ROWS)
  ret void
}
"""


def source(rows: int, threads: int) -> KernelSource:
    params = (
        Param("x", "f32", (rows, 4), "tensor", 0),
        Param("y", "f32", (rows, 4), "tensor", 1),
        Param("a", "f32", (), "scalar", 2),
    )
    return KernelSource("llvm", AXPY.replace("ROWS", str(rows)), "axpy", params, 64 * threads)


def check(engine: Engine) -> None:
    """Run the kernel for some sizes, twice each."""

    def slow_path(arguments: tuple[Any, ...]) -> Compiled:
        seen = describe(arguments[0])
        assert isinstance(seen, TensorArgument)
        return engine.load(source(seen.shape[0], engine.pool.threads))

    kernel = engine.dispatcher("axpy", slow_path)
    random = np.random.default_rng(5)
    for rows in (1, 37, 1000, 37):
        x = random.standard_normal((rows, 4), np.float32)
        y = random.standard_normal((rows, 4), np.float32)
        expected = y + np.float32(0.75) * x
        kernel.launch(x, y, 0.75)
        np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("native", [True, False])
def test_a_kernel_runs(tmp_path: Path, native: bool) -> None:
    check(Engine(Cache(tmp_path / "cache"), threads=2, native=native))


def test_a_kernel_runs_without_a_cache_on_a_lesser_cpu() -> None:
    check(Engine(Cache(None), host_machine("x86-64-v2"), threads=1))


def test_a_second_engine_compiles_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(Engine(Cache(tmp_path / "cache")))

    def compile_again(*_: object, **__: object) -> bytes:
        pytest.fail("compiled again")

    monkeypatch.setattr(engine_module, "compile_object", compile_again)
    check(Engine(Cache(tmp_path / "cache")))


def test_a_damaged_cache_heals(tmp_path: Path) -> None:
    check(Engine(Cache(tmp_path / "cache")))
    entries = sorted(tmp_path.rglob("*.tlc"))
    assert len(entries) == 5  # pool, launcher, three sizes
    before = [entry.read_bytes() for entry in entries]
    for entry, data in zip(entries, before, strict=True):
        entry.write_bytes(data[: len(data) // 2])
    check(Engine(Cache(tmp_path / "cache")))
    assert [entry.read_bytes() for entry in entries] == before


def test_without_the_native_launcher_calls_are_slower_but_right(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise TileError("an unknown object layout")

    monkeypatch.setattr(engine_module, "NativeLauncher", refuse)
    with pytest.warns(RuntimeWarning, match="called more slowly: an unknown object layout"):
        engine = Engine(Cache(None))
    check(engine)


def test_only_llvm_is_loaded() -> None:
    with pytest.raises(TileError, match="loads llvm, not cuda"):
        Engine(Cache(None), native=False).load(KernelSource("cuda", "", "k", ()))
