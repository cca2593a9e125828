"""CUDA source on the CPU: builds and their cache, arguments, errors before anything runs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cuda_kernels as kernels
import ml_dtypes
import numpy as np
import pytest

from tilec.codegen.cuda.headers import host_headers
from tilec.ir.errors import TileError
from tilec.runtime.cache import Cache, default_directory
from tilec.runtime.emulate import Emulator
from tilec.runtime.host_compiler import HostCompiler, find_host_compiler
from tilec.runtime.tensor_map import TensorMap
from tilec.settings import settings

HEAD = '#include "tilec.cuh"\nusing namespace tilec;\n'
ADD = f"""{HEAD}
TILEC_KERNEL(32) add(const f16* x, f32* y, double by, f32 times, u8 small, s64 large, int n,
                     bool turned) {{
  if (thread_x() < n)
    store_global(y + thread_x(), f32_from_f16(load_global(x + thread_x())) * times + f32(by));
  if (thread_x() == 0) store_global(y + n, (turned ? -1.0f : 1.0f) * (f32(small) + f32(large)));
}}
"""
ORDER = f"""{HEAD}
TILEC_KERNEL(64) order(u32* y) {{
  store_global(y + 1 + atomic_add(y, 1u), thread_x());
}}
"""


def arguments() -> dict[str, Any]:
    return {
        "x": np.arange(8, dtype="f2"), "y": np.zeros(9, "f4"), "by": 0.5, "times": np.float32(3),
        "small": 200, "large": -(1 << 40), "n": np.int64(8), "turned": False,
    }  # fmt: skip


def launch(changes: dict[str, Any] | None = None, **options: Any) -> None:
    given = {"grid": (1,), "block": (32,), **options}
    kernels.emulator().run(ADD, "add", arguments={**arguments(), **(changes or {})}, **given)


def test_arguments_have_the_types_of_the_parameters() -> None:
    for turned in (False, True, np.False_, np.True_):
        given = arguments() | {"turned": turned}
        report = kernels.emulator().run(ADD, "add", (1,), (32,), given)
        assert report.findings == ()
        last = (np.float32(-(1 << 40)) + 200) * (-1 if turned else 1)
        assert np.array_equal(given["y"], np.append(np.arange(8) * 3 + 0.5, last).astype("f4"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": 3}, "add: argument x: int, expected an array"),
        ({"n": 2.5}, "add: argument n: float, expected an integer"),
        ({"n": 1 << 32}, "add: argument n: 4294967296 does not fit 4 bytes"),
        ({"small": 256}, "add: argument small: 256 does not fit 1 bytes"),
        ({"by": np.zeros(1)}, "add: argument by: ndarray, expected a number"),
        ({"x": np.zeros((4, 4), "f2").T}, "add: argument x: an array that is not contiguous"),
        ({"more": 1}, "add takes 8 arguments, not 9"),
    ],
)
def test_other_arguments_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TileError, match=message):
        launch(changes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grid": (0,)}, r"a grid of \(0,\), expected 1 to 3 sizes of 1 or more"),
        ({"block": (1, 1, 1, 1)}, r"a block of \(1, 1, 1, 1\), expected 1 to 3 sizes"),
        ({"block": (32, 33)}, r"a block of \(32, 33, 1\) threads, expected no more than 1024"),
        ({"shared_bytes": 233000}, "233000 bytes of shared memory, expected 0 to 232448"),
        ({"resident": 0}, "0 resident blocks, expected 1 or more"),
    ],
)
def test_other_launches_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(TileError, match=message):
        launch(**options)


def test_errors_are_at_the_lines_of_the_source() -> None:
    source = f'{HEAD}#line 7 "linear.tile"\nTILEC_KERNEL(32) k(u32* y) {{\n  y[0] = thread();\n}}\n'
    with pytest.raises(TileError, match=r"linear\.tile:8:\d+: error: .thread. was not declared"):
        kernels.emulator().run(source, "k", (1,), (32,), {"y": np.zeros(1, "u4")})


def test_an_entry_that_is_not_there_is_refused() -> None:
    with pytest.raises(TileError, match="sub"):
        kernels.emulator().load(ADD, "sub")


def test_a_machine_without_a_compiler_is_told_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(TileError, match=r"C\+\+17 compiler, and none of g\+\+, clang\+\+, c\+\+"):
        find_host_compiler(str(tmp_path))
    with pytest.raises(TileError, match="hint: install one: on Debian and Ubuntu the package g"):
        find_host_compiler(str(tmp_path))


def test_what_was_compiled_is_not_compiled_again() -> None:
    cache = Cache(default_directory(settings().environment))
    if cache.root is None:
        pytest.skip("this machine has no folder for a cache")
    kernels.emulator().load(ADD, "add")
    broken = HostCompiler("no-such-command", find_host_compiler().version)
    given = arguments()
    Emulator(host_headers(), cache, broken).run(ADD, "add", (1,), (32,), given)
    assert given["y"][1] == 3.5
    others = {**host_headers(), "types.cuh": host_headers()["types.cuh"] + "\n"}
    with pytest.raises(FileNotFoundError):
        Emulator(others, cache, broken).load(ADD, "add")
    with pytest.raises(FileNotFoundError):
        Emulator(host_headers(), cache, broken).load(ADD + "\n", "add")


def order(seed: int, **options: Any) -> list[int]:
    y = np.zeros(65, "u4")
    kernels.emulator().run(ORDER, "order", (1,), (64,), {"y": y}, seed=seed, **options)
    assert sorted(y[1:]) == list(range(64))
    return y[1:].tolist()


def test_a_seed_decides_the_order_of_threads() -> None:
    assert order(0) == list(range(64))
    assert order(1) == order(1) == order(1, check=False)
    assert len({tuple(order(seed)) for seed in range(5)}) == 5


def test_threads_of_the_host_take_turns() -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(order, range(8)))
    assert found == [order(seed) for seed in range(8)]


@pytest.mark.slow
def test_contexts_of_the_system_do_as_well() -> None:
    """What runs where the switch of contexts is not written for the processor."""
    headers = host_headers()
    headers["emulate/machine.h"] = "#define TILEC_UCONTEXT\n" + headers["emulate/machine.h"]
    emulator = Emulator(headers, Cache(default_directory(settings().environment)))
    case = kernels.gemm_async(72, 40, 56)
    report = emulator.run(
        case.source, case.entry, case.grid, case.block, case.arguments, case.shared_bytes, seed=1
    )
    assert report.findings == ()
    assert case.exact()


WIDE = np.zeros((64, 64), "f2")


@pytest.mark.parametrize(
    ("array", "box", "swizzle", "message"),
    [
        (np.float32(1).reshape(()), (), 0, "0 dimensions, expected 1 to 5"),
        (np.zeros((1,) * 6, "f4"), (1,) * 6, 0, "6 dimensions, expected 1 to 5"),
        (WIDE, (8,), 0, r"box \(8,\), expected 2 sizes"),
        (WIDE, (8, 512), 0, r"box \(8, 512\), expected sizes of 1 to 256"),
        (WIDE[:0], (8, 8), 0, "it has no elements"),
        (WIDE, (8, 8), 16, "swizzle 16, expected 0, 32, 64 or 128"),
        (WIDE.T, (8, 8), 0, "its innermost elements are not adjacent"),
        (np.zeros((4, 6), "f2"), (2, 2), 0, r"strides \(12, 2\), expected multiples of 16"),
        (WIDE, (8, 4), 0, "a box of 8 bytes in a row, expected a multiple of 16"),
        (WIDE, (8, 64), 64, "a box of 128 bytes in a row, expected no more than the swizzle's 64"),
    ],
)
def test_tensors_that_the_copy_unit_can_not_move(
    array: Any, box: tuple[int, ...], swizzle: int, message: str
) -> None:
    with pytest.raises(TileError, match=message):
        TensorMap(array, box, swizzle)


def test_a_tensor_map_is_a_view() -> None:
    array = np.arange(6 * 10 * 8, dtype="f4").reshape(6, 10, 8)
    map = TensorMap(array[1:, :5, :4], (2, 3, 4))
    assert map.box_bytes == 96
    encoded = map.encoded()
    assert len(encoded) == 128
    words = np.frombuffer(encoded[:80], "u8")
    assert words[0] == array.ctypes.data + 320
    assert words[1:].tolist() == [4, 5, 5, 1, 1, 32, 320, 1, 1]
    assert np.frombuffer(encoded[80:90], "u2").tolist() == [4, 3, 2, 1, 1]
    assert list(encoded[90:93]) == [3, 0, 4]


def test_arrays_of_small_floats_are_arguments() -> None:
    source = f"""{HEAD}
TILEC_KERNEL(32) widen(const bf16* x, f32* y) {{
  store_global(y + thread_x(), f32_from_bf16(load_global(x + thread_x())));
}}
"""
    x, y = np.linspace(-3, 3, 32).astype(ml_dtypes.bfloat16), np.zeros(32, "f4")
    report = kernels.emulator().run(source, "widen", (1,), (32,), {"x": x, "y": y})
    assert report.findings == ()
    assert np.array_equal(y, x.astype("f4"))
