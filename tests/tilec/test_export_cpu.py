"""Kernels as shared libraries: through their loader without tilec, TVM-FFI and C."""

# pyright: basic

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from exporting import LINEAR
from typer.testing import CliRunner

import tilec as tc
from tilec.artifacts import retyped
from tilec.cli import app
from tilec.cpu import Schedule
from tilec.export import cpu_loader
from tilec.export.cpu import exported_cpu
from tilec.export.cpu_loader import KernelError
from tilec.export.wheel import wheel
from tilec.ir.bits import aligned
from tilec.ir.errors import TileError
from tilec.lang.text import parse

QUANTISED = LINEAR.replace("w: f16", "w: int4<group=64>")
NUMBERS = """
kernel numbers(x: f32[M], s: f32, d: f64, i: i8, u: bool, y: f32[M]) {
  for m in tiles(M) { y[m] = where(u, x[m] * s + f32(d) + f32(i), x[m]) }
}
"""
SPLIT = """
program soft(x: f32[M, K], w: f32[N, K]) { return softmax(softmax(x) @ w.T) }
"""
DIMS = {"M": 6, "N": 64, "K": 256}


def made(text: str, folder: Path, known: dict[str, int], *targets: str, **more: Any) -> Any:
    (definition,) = parse(text).values()
    found = exported_cpu(retyped(definition, {}), known, targets or ("native",), **more)
    found.write(folder)
    return found


def operands() -> tuple[Any, ...]:
    rng = np.random.default_rng(5)
    x, w = (rng.integers(-3, 4, (r, 256)).astype(np.float16) for r in (6, 64))
    want = x.astype(np.float32) @ w.astype(np.float32).T
    return x, w, np.full((6, 64), np.nan, np.float32), want


def test_every_target_computes_the_same_and_the_best_is_chosen(tmp_path):
    targets = "x86-64-v3", "native", "x86-64-v2"
    found = made(LINEAR, tmp_path, DIMS, *targets, threads=2, schedule=Schedule(tiles={"n": 32}))
    assert list(found.manifest["targets"]) == ["native", "x86-64-v3", "x86-64-v2"]
    assert found.manifest["schedule"] == {"tiles": {"n": 32}}
    x, w, y, want = operands()
    for target, described in found.manifest["targets"].items():
        kernel = cpu_loader.Kernel(tmp_path, described["flags"])
        assert kernel.target == target
        y[:] = np.nan
        kernel(x, w, y)
        assert np.array_equal(y, want)
    assert cpu_loader.Kernel(tmp_path).target == "native"
    tensors = torch.from_numpy(x), torch.from_numpy(w), torch.zeros(6, 64)
    cpu_loader.Kernel(tmp_path)(*tensors)
    assert np.array_equal(tensors[2].numpy(), want)


def test_packed_weights(tmp_path):
    weight = tc.quantize(np.random.default_rng(6).standard_normal((64, 256)), tc.int4(group=64))
    found = made(QUANTISED, tmp_path, DIMS)
    arrays = found.weights({"w": weight})
    (described,) = (a for a in found.manifest["arguments"] if a["kind"] == "packed")
    assert [a.nbytes for a in arrays.values()] == [a["bytes"] for a in described["arrays"]]
    on = {n: aligned(a.nbytes) for n, a in arrays.items()}
    for n, a in on.items():
        a[:] = arrays[n]
    x, _, y, _ = operands()
    kernel = cpu_loader.Kernel(tmp_path)
    kernel(x, on, y)
    want = x.astype(np.float32) @ weight.dequantize().T
    assert np.abs(y - want).max() < 1e-5 * np.abs(want).max()
    with pytest.raises(KernelError, match=r"linear: `w` has no array w_0"):
        kernel(x, {}, y)
    with pytest.raises(KernelError, match=r"`w_0` has \d+ bytes, expected \d+"):
        kernel(x, {n: a[1:] for n, a in on.items()}, y)
    with pytest.raises(KernelError, match="`w_0` begins at an address that is no multiple of 64"):
        kernel(x, {n: a.ctypes.data + 2 for n, a in on.items()}, y)


def test_numbers(tmp_path):
    made(NUMBERS, tmp_path, {"M": 50})
    kernel = cpu_loader.Kernel(tmp_path)
    x, y = np.arange(50, dtype=np.float32), np.zeros(50, np.float32)
    kernel(x, 0.5, 2.25, -7, True, y)
    assert np.array_equal(y, x * 0.5 + 2.25 - 7)
    kernel(x, 0.5, 2.25, -7, False, y)
    assert np.array_equal(y, x)
    for i, message in ((128, "`i` is 128, which is no i8"), (1.5, "`i` is 1.5, which"),
                       ("a", "`i` is a str, expected a number")):  # fmt: skip
        with pytest.raises(KernelError, match=message):
            kernel(x, 0.5, 2.25, i, True, y)


def test_a_program(tmp_path):
    found = made(SPLIT, tmp_path, {"M": 30, "N": 40, "K": 50}, threads=3)
    assert [a["name"] for a in found.manifest["arguments"]] == ["x", "w", "result"]
    rng = np.random.default_rng(7)
    x, w = (rng.standard_normal((n, 50)).astype(np.float32) for n in (30, 40))
    y = np.zeros((30, 40), np.float32)
    cpu_loader.Kernel(tmp_path)(x, w, y)

    def soft(z: np.ndarray) -> np.ndarray:
        return np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)

    assert np.allclose(y, soft(soft(x.astype(float)) @ w.T.astype(float)), rtol=1e-5)


def test_what_a_loader_refuses(tmp_path):
    found = made(LINEAR, tmp_path, DIMS)
    kernel = cpu_loader.Kernel(tmp_path)
    x, w, y, _ = operands()
    for arguments, message in (
        ((x, w), r"linear takes 3 arguments \(x, w, y\), not 2"),
        ((x, w, y[:3]), r"`y` is float32\[3, 64\], expected float32\[6, 64\]"),
        ((x, w, y.astype(float)), r"`y` is float64\[6, 64\], expected"),
        ((x, np.asfortranarray(w), y), "`w` is not contiguous"),
        ((x, torch.from_numpy(w).T.contiguous().T, y), "`w` is not contiguous"),
        ((x, "w", y), r"`w` is str\[\], expected float16\[64, 256\]"),
        ((0, w, y), "`x` is null, not aligned or out of range"),
        ((x, w.ctypes.data + 1, y), "`w` is null, not aligned or out of range"),
    ):
        with pytest.raises(KernelError, match=message):
            kernel(*arguments)
    assert np.isnan(y).all()
    found.write(tmp_path)  # as it is in use
    kernel(x, w, y)
    with pytest.raises(KernelError, match="linear has no code for this processor: there is native"):
        cpu_loader.Kernel(tmp_path, ["sse2"])
    library = tmp_path / found.manifest["targets"]["native"]["file"]
    data = library.read_bytes()
    library.unlink()  # it is in this process's memory
    library.write_bytes(data + b" ")
    with pytest.raises(KernelError, match="is not what was written"):
        cpu_loader.Kernel(tmp_path)
    (tmp_path / "manifest.json").write_text('{"schema": 7, "kernel": "k"}')
    with pytest.raises(KernelError, match="schema 7, expected 1"):
        cpu_loader.Kernel(tmp_path)
    with pytest.raises(KernelError, match="this processor is not known"):
        cpu_loader.processor_flags("/nowhere")


def test_what_is_not_packed(tmp_path):
    with pytest.raises(TileError, match="numbers for all dimensions, and M has none"):
        made(LINEAR, tmp_path, {"N": 64, "K": 256})
    with pytest.raises(TileError, match="no processor is called 'sm_80'"):
        made(LINEAR, tmp_path, DIMS, "sm_80")
    with pytest.raises(TileError, match="'linear' is not NAME-VERSION"):
        wheel("linear", {})


def test_other_processors_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("tilec.export.cpu.platform", SimpleNamespace(machine=lambda: "aarch64"))
    with pytest.raises(TileError, match=r"made on x86-64 for x86-64 \(native, x86-64-v4, x86-64-v3"
                       r"\), not on aarch64") as e:  # fmt: skip
        made(LINEAR, tmp_path, DIMS)
    assert "made anywhere" in e.value.hint


def test_as_a_module_of_tvm_ffi(tmp_path):
    tvm_ffi = pytest.importorskip("tvm_ffi")
    found = made(LINEAR, tmp_path / "linear", DIMS)
    module = tvm_ffi.load_module(str(tmp_path / "linear" / "linear.native.so"))
    x, w, y, want = map(torch.from_numpy, operands())
    module.linear(x, w, y)
    assert torch.equal(y, want)
    for arguments, message in (
        ((x, w), "linear takes 3 arguments"),
        ((x, w, 3), r"argument 3 \(`y`\) must be a contiguous tensor f32\[6, 64\] on the CPU"),
        ((x, w, y.double()), r"argument 3 \(`y`\)"),
        ((x, w.T.contiguous().T, y), r"argument 2 \(`w`\)"),
        ((x[:3], w, y), r"argument 1 \(`x`\)"),
    ):
        with pytest.raises(ValueError, match=message):
            module.linear(*arguments)
    made(NUMBERS, tmp_path / "numbers", {"M": 50})
    numbers = tvm_ffi.load_module(str(tmp_path / "numbers" / "numbers.native.so")).numbers
    x, y = torch.arange(50.0), torch.zeros(50)
    numbers(x, 0.5, 2, -7, True, y)
    assert torch.equal(y, x * 0.5 + 2 - 7)
    for i in (-129, 128, 0.5):
        with pytest.raises(ValueError, match=r"argument 4 \(`i`\) must be an integer from -128 to"):
            numbers(x, 0.5, 2, i, True, y)
    assert found.manifest["abi"]["tvm_ffi"] == "linear"


PROGRAM = """
#include "linear.h"
#include <stdio.h>
static _Float16 x[6 * 256], w[64 * 256];
static float y[6 * 64];
int main(void) {
  for (int i = 0; i < 6 * 256; i++) x[i] = (_Float16)(i % 5);
  for (int i = 0; i < 64 * 256; i++) w[i] = (_Float16)(i % 3);
  int done = tilec_linear(x, w, y), null = tilec_linear(0, w, y);
  int odd = tilec_linear(x, w, (float*)((char*)y + 2));
  printf("%d %d %d %.0f %.0f\\n", done, null, odd, y[0], y[6 * 64 - 1]);
  return 0;
}
"""


@pytest.mark.slow
def test_a_c_program(tmp_path):
    made(LINEAR, tmp_path, DIMS)
    (tmp_path / "main.c").write_text(PROGRAM)
    options = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-O1", "main.c", "linear.native.so"]
    subprocess.run(["gcc", *options, "-o", "main", f"-Wl,-rpath,{tmp_path}"], cwd=tmp_path,
                   check=True)  # fmt: skip
    said = subprocess.run(["./main"], cwd=tmp_path, check=True, capture_output=True, text=True)
    x, w = (np.arange(r * 256).reshape(r, 256) % d for r, d in ((6, 5), (64, 3)))
    want = x @ w.T
    assert said.stdout.split() == ["0", "1", "3", str(want[0, 0]), str(want[-1, -1])]


@pytest.mark.slow
def test_a_service_without_tilec(tmp_path):
    """From a wheel, in a process that has numpy only, after a fork too."""
    example = Path(__file__).parents[2] / "examples" / "linear.tile"
    more = ["--backend", "cpu", "--dims", "M=4,N=64,K=128", "--wheel", "linear_64-1.0", "--json"]
    for out in ("a", "b"):
        done = CliRunner().invoke(app, ["pack", str(example), "-o", str(tmp_path / out), *more])
        assert done.exit_code == 0, done.output
    (name,) = json.loads(done.stdout)["files"]
    assert name == "linear_64-1.0-py3-none-linux_x86_64.whl"
    data = [(tmp_path / out / name).read_bytes() for out in ("a", "b")]
    assert data[0] == data[1]
    target = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target",
               str(target), str(tmp_path / "a" / name)]  # fmt: skip
    subprocess.run(install, check=True, capture_output=True)
    script = f"""
import sys, os
sys.path.insert(0, {str(target)!r})
import numpy as np
import linear_64
kernel = linear_64.load()
def run():
    x, w, b = np.ones((4, 128), np.float16), np.ones((64, 128), np.float16), np.ones(64, np.float32)
    y = np.zeros((4, 64), np.float32)
    kernel(x, w, b, y)
    assert (y == 129).all()
run()
if os.fork() == 0:
    run()
    os._exit(0)
assert os.wait()[1] == 0
assert not [m for m in sys.modules if m.partition(".")[0] in ("tilec", "llvmlite")]
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_a_wheel_says_what_is_in_it(tmp_path):
    name, data = wheel("k_1-2.0", {"__init__.py": b"answer = 42\n", "a.bin": b"\0\1"})
    (tmp_path / name).write_bytes(data)
    with zipfile.ZipFile(tmp_path / name) as archive:
        assert archive.testzip() is None
        record = archive.read("k_1-2.0.dist-info/RECORD").decode().splitlines()
        assert len(record) == len(archive.namelist()) == 5
        assert b"Tag: py3-none-any" in archive.read("k_1-2.0.dist-info/WHEEL")
    sys.path.insert(0, str(tmp_path / name))
    try:
        assert importlib.import_module("k_1").answer == 42
    finally:
        sys.path.remove(str(tmp_path / name))
