"""Kernels as folders: what is in them, and calls through their loader without tilec."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from exporting import LINEAR, QUANTISED, SCALE, loaded, made
from fake_driver import FakeDriver
from typer.testing import CliRunner

import tilec as tc
from tilec import cuda, triton
from tilec.cli import app
from tilec.export import exported, loader
from tilec.export.loader import KernelError
from tilec.gpu import Choice
from tilec.ir.bits import aligned
from tilec.ir.errors import TileError
from tilec.lang.text import parse

BACKENDS = ("cuda", "triton")
KINDS = {"cuda": cuda.Schedule, "triton": triton.Schedule}


def address(array: Any) -> int:
    return array.ctypes.data


def operands(m: int, n: int, k: int) -> tuple[Any, Any, Any, Any]:
    rng = np.random.default_rng(5)
    x, w = (rng.integers(-3, 4, (r, k)).astype(np.float16) for r in (m, n))
    return x, w, np.full((m, n), np.nan, np.float32), x.astype(np.float32) @ w.astype(np.float32).T


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_product_with_an_open_dimension(tmp_path, backend):
    fake = FakeDriver()
    choice = Choice(backend, image="ptx")
    kernel, found = loaded(LINEAR, tmp_path, fake, {"N": 48, "K": 64}, choice)
    for m in (70, 16):
        x, w, y, want = operands(m, 48, 64)
        fake.hold(x, w, y)
        kernel(*map(address, (x, w, y)), dims={"M": m}, stream=9)
        assert np.array_equal(y, want), fake.trouble
    assert [(k.stream, k.device) for k in fake.launched] == [(9, 0), (9, 0)]
    assert fake.launched[0].blocks > fake.launched[1].blocks > 0
    assert found.manifest["open"] == ["M"]
    assert fake.contexts == [1]


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_launches_and_memory_between_them(tmp_path, backend):
    fake = FakeDriver()
    choice = Choice(backend, KINDS[backend](split=2), image="ptx")
    x, w, y, want = operands(16, 32, 256)
    kernel, _ = loaded(LINEAR, tmp_path, fake, {"M": 16, "N": 32, "K": 256}, choice)
    fake.hold(x, w, y)
    for stream in (0, 0, 5):
        y[:] = np.nan
        kernel(*map(address, (x, w, y)), stream=stream, device=1)
        assert np.array_equal(y, want), fake.trouble
    assert len(fake.launched) == 6
    assert {k.device for k in fake.launched} == {1}
    assert fake.calls.count("cuMemAlloc") == 2


@pytest.mark.parametrize("backend", BACKENDS)
def test_tensor_maps(tmp_path, backend):
    fake = FakeDriver()
    tiles = {"m": 32, "n": 32, "k": 64}
    more = {"copies": "bulk"} if backend == "cuda" else {"descriptors": 1}
    choice = Choice(backend, KINDS[backend](tiles=tiles, **more), image="ptx")
    kernel, _ = loaded(LINEAR, tmp_path, fake, {"N": 48, "K": 128}, choice)
    x, w, y, want = operands(40, 48, 128)
    fake.hold(x, w, y)
    kernel(*map(address, (x, w, y)), dims={"M": 40})
    assert np.array_equal(y, want), fake.trouble
    assert fake.calls.count("cuTensorMapEncodeTiled") == 2


@pytest.mark.parametrize("backend", BACKENDS)
def test_packed_weights_from_a_file(tmp_path, backend):
    fake = FakeDriver()
    weight = tc.quantize(np.random.default_rng(6).standard_normal((64, 256)), tc.int4(group=64))
    choice = Choice(backend, image="ptx")
    kernel, found = loaded(QUANTISED, tmp_path / "f", fake, {"N": 64, "K": 256}, choice)
    found.write_weights(tmp_path / "weights.safetensors", {"w": weight})
    parts = safetensors.numpy.load_file(tmp_path / "weights.safetensors")
    (described,) = (a for a in found.manifest["arguments"] if a["kind"] == "packed")
    sizes = {f"w.{c['name']}": c["bytes"] for c in described["components"]}
    assert {n: a.nbytes for n, a in parts.items()} == sizes
    orders = {c["name"]: c["order"]["kind"] for c in described["components"]}
    kinds = ("fragments", "fragments") if backend == "cuda" else ("interleaved", "rows")
    assert orders == dict(zip(("codes", "scale"), kinds, strict=True))
    on = {n: aligned(a.nbytes) for n, a in parts.items()}
    for n, a in on.items():
        a[:] = parts[n]
    x, y = operands(16, 64, 256)[0], np.zeros((16, 64), np.float32)
    fake.hold(x, y, *on.values())
    kernel(address(x), {n: address(a) for n, a in on.items()}, address(y), dims={"M": 16})
    want = x.astype(np.float32) @ weight.dequantize().T
    assert np.abs(y - want).max() < 1e-5 * np.abs(want).max(), fake.trouble


def test_weights_that_the_kernel_does_not_take():
    found = made(QUANTISED, {"N": 48, "K": 256}, Choice("triton", image="ptx"))
    weight = tc.quantize(np.ones((48, 128)), tc.int4(group=64))
    with pytest.raises(TileError, match="no packed tensor `x`; it takes w"):
        found.weights({"x": weight})
    with pytest.raises(TileError, match=r"`w` is int4<group=64.*>\[48, 128\], expected int4"):
        found.weights({"w": weight})


@pytest.mark.parametrize("backend", BACKENDS)
def test_numbers(tmp_path, backend):
    fake = FakeDriver()
    kernel, _ = loaded(SCALE, tmp_path, fake, {}, Choice(backend, image="ptx"))
    x = np.arange(20, dtype=np.float32)
    y = np.zeros_like(x)
    fake.hold(x, y)
    for t, u in ((-3, True), (5, False)):
        kernel(address(x), 0.5, t, u, address(y), dims={"M": 20})
        assert np.array_equal(y, x * 0.5 + t if u else x), fake.trouble
    with pytest.raises(KernelError, match="scale: `t` is 128, which is no i8"):
        kernel(address(x), 0.5, 128, True, address(y), dims={"M": 20})
    with pytest.raises(KernelError, match=r"scale: `t` is 1\.5, expected an integer"):
        kernel(address(x), 0.5, 1.5, True, address(y), dims={"M": 20})
    with pytest.raises(KernelError, match="scale: `s` is a str, expected a number"):
        kernel(address(x), "0.5", 1, True, address(y), dims={"M": 20})


def test_what_can_not_be_exported(tmp_path):
    with pytest.raises(TileError, match="`w` is packed, and the dimension N is not known"):
        made(QUANTISED, {"K": 64}, Choice("triton"))
    with pytest.raises(TileError, match="linear has no open dimension `K`; it has M"):
        made(LINEAR, {"N": 48, "K": 64}, Choice("triton"), even=("K",))
    (definition,) = parse(LINEAR).values()
    with pytest.raises(TileError, match="no targets: there are sm_80"):
        exported(definition, {}, (), Choice())
    (tmp_path / "other.txt").write_text("mine")
    found = made(QUANTISED, {"N": 48, "K": 64}, Choice("triton", image="ptx"))
    with pytest.raises(TileError, match="is not empty, and no kernel was packed there"):
        found.write(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(TileError, match="can't be written"):
        found.write(tmp_path / "file" / "folder")


# The whole way: the command line, and a process that has nothing but the folder.

SERVICE = """
import json, sys
sys.path.insert(0, sys.argv[1])
for name in ("tilec", "triton", "torch", "numpy"):
    try:
        __import__(name)
    except ImportError:
        continue
    sys.exit(f"{name} is there")
import linear
class Device:
    type, index = "cuda", 1
class Tensor:
    device = Device()
    def __init__(self, at, dtype, *shape):
        self.at, self.dtype, self.shape = at, "torch." + dtype, shape
    def data_ptr(self):
        return self.at
    def is_contiguous(self):
        return True
kernel = linear.load(sys.argv[2])
kernel(Tensor(0x1000, "float16", 70, 256), Tensor(0x2000, "float16", 128, 256),
       Tensor(0x3000, "float32", 128), Tensor(0x4000, "float32", 70, 128), stream=5)
print(json.dumps(kernel.manifest["kernel"]))
"""


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("driver") / "libcuda.so.1"
    source = Path(__file__).with_name("libcuda.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", path, source], check=True)
    return path


def packed(folder: Path, *words: str) -> dict[str, Any]:
    example = Path(__file__).parents[2] / "examples" / "linear.tile"
    done = CliRunner().invoke(app, ["pack", str(example), "--dims", "N=128,K=256", "-o",
                                    str(folder), "--json", *words])  # fmt: skip
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def serviced(folder: Path, library: Path, sm: str, sizes: str) -> list[str]:
    """What the driver was asked by a process without packages that loads a folder."""
    log = folder.parent / f"log{sm}"
    environment = {"FAKE_LOG": str(log), "FAKE_SM": sm, "FAKE_SIZES": sizes, "PATH": os.defpath}
    command = [sys.executable, "-I", "-S", "-c", SERVICE, str(folder.parent), str(library)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == '"linear"\n'
    return log.read_text().splitlines()


def arch(cubin: bytes) -> int:
    """The architecture that a cubin's header names; later versions of the ABI have it higher."""
    assert cubin[:5] == b"\x7fELF\x02"
    assert int.from_bytes(cubin[18:20], "little") == 190  # EM_CUDA
    return cubin[48] if cubin[8] < 8 else cubin[49]


def words(*values: int) -> list[str]:
    return [v.to_bytes(8, "little").hex() for v in values]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_service_without_tilec(tmp_path, library, backend):
    target = "sm_80" if backend == "cuda" else "sm_80,sm_90"
    files = packed(tmp_path / "linear", "--backend", backend, "--target", target)["files"]
    assert len(files) == (3 if backend == "cuda" else 4)
    sizes = "8,8,8,8,4" + ",8,8" * (backend == "triton")
    log = serviced(tmp_path / "linear", library, "89", sizes)
    name = "linear_0" if backend == "cuda" else "linear_kernel"
    assert [line for line in log if not line.startswith(("launch", "shared"))] == [
        "push 2", "module 80", f"function {name}", "pop 0"
    ]  # fmt: skip
    (launch,) = (line.split() for line in log if line.startswith("launch"))
    manifest = json.loads((tmp_path / "linear" / "manifest.json").read_text())
    (image,), (k,) = manifest["targets"]["sm_80"]["images"], manifest["launches"]
    assert launch[1:5] == ["4", str(k["threads"]), str(image["shared"]), "5"]
    scratch = words(0, 0) if backend == "triton" else []
    expected = [*words(0x1000, 0x2000, 0x3000, 0x4000), "46000000", *scratch]
    assert launch[5:] == expected


@pytest.mark.slow
def test_every_target_of_triton(tmp_path):
    files = packed(tmp_path / "linear")["files"]
    cubins = sorted(n for n in files if n.endswith(".cubin"))
    found = {n.split(".")[1]: arch((tmp_path / "linear" / n).read_bytes()) for n in cubins}
    assert found == {"sm_80": 80, "sm_89": 89, "sm_90": 90, "sm_100": 100, "sm_120": 120}


@pytest.mark.slow
def test_every_target_of_cuda(tmp_path):
    files = packed(tmp_path / "linear", "--backend", "cuda")["files"]
    cubins = sorted(n for n in files if n.endswith(".cubin"))
    found = {n.split(".")[1]: arch((tmp_path / "linear" / n).read_bytes()) for n in cubins}
    assert found == {"sm_80": 80, "sm_89": 89, "sm_90": 90, "sm_100": 100, "sm_120": 120}


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_same_source_gives_the_same_bytes(tmp_path, backend):
    """In another process, from another folder, with nothing kept."""
    example = Path(__file__).parents[2] / "examples" / "linear.tile"
    for name in ("a", "b"):
        folder = tmp_path / name / name
        folder.mkdir(parents=True)
        (folder / "linear.tile").write_text(example.read_text())
        environment = os.environ | {"TILEC_CACHE_DIR": str(folder / "tilec"),
                                    "TRITON_CACHE_DIR": str(folder / "triton")}  # fmt: skip
        command = ["pack", "linear.tile", "--backend", backend, "--dims", "N=128,K=256", "-o",
                   "out", "--target", "sm_80,sm_90"]  # fmt: skip
        start = "from tilec.cli import main; main()"
        subprocess.run([sys.executable, "-c", start, *command], cwd=folder, env=environment,
                       check=True, capture_output=True)  # fmt: skip
    files = [{p.name: p.read_bytes() for p in (tmp_path / n / n / "out").iterdir()} for n in "ab"]
    assert len(files[0]) == 4
    assert files[0] == files[1]


@pytest.mark.gpu
@pytest.mark.parametrize("backend", BACKENDS)
def test_on_a_gpu(tmp_path, backend):
    import torch

    major, minor = torch.cuda.get_device_capability()
    found = made(LINEAR, {"N": 48, "K": 64}, Choice(backend), targets=(f"sm_{major}{minor}",))
    found.write(tmp_path)
    kernel = loader.Kernel(tmp_path, loader.Driver("libcuda.so.1"))
    for m in (70, 16):
        x, w, y, want = (torch.from_numpy(a).cuda() for a in operands(m, 48, 64))
        kernel(x, w, y)
        assert torch.equal(y, want)
