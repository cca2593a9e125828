"""The loader of an exported kernel: what it refuses, and what it chooses."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np
import pytest
from exporting import QUANTISED, SCALE, Memory, loaded, made
from fake_driver import FakeDriver

from tilec.export import Exported, loader
from tilec.export.loader import KernelError
from tilec.gpu import Choice


class Tensor:
    """What torch's tensors have."""

    def __init__(self, at: int, shape: tuple[int, ...], dtype: str, device: int = 0,
                 type: str = "cuda", contiguous: bool = True) -> None:  # fmt: skip
        self.shape, self.dtype, self.at, self.whole = shape, f"torch.{dtype}", at, contiguous
        self.device = Device(type, device)

    def data_ptr(self) -> int:
        return self.at

    def is_contiguous(self) -> bool:
        return self.whole

    def numel(self) -> int:
        return int(np.prod(self.shape))

    def element_size(self) -> int:
        return {"float16": 2, "float32": 4, "uint8": 1}[self.dtype.removeprefix("torch.")]


class Device:
    def __init__(self, type: str, index: int) -> None:
        self.type, self.index = type, index

    def __str__(self) -> str:
        return f"{self.type}:{self.index}"


@cache
def quantised() -> Exported:
    return made(QUANTISED, {"N": 48, "K": 64}, Choice("triton", image="ptx"), even=("M",))


def good() -> dict[str, Any]:
    codes, scale = Tensor(0x100, (48 * 32,), "uint8"), Tensor(0x200, (96,), "uint8")
    return {"x": Tensor(0x300, (32, 64), "float16"), "w": {"codes": codes, "w.scale": scale},
            "y": Tensor(0x400, (32, 48), "float32")}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x": Tensor(0x300, (32, 64), "float32")}, "`x` is float32, expected float16"),
        ({"x": Tensor(0x300, (32, 32), "float16")}, r"`x` is \[32, 32\], expected \['M', 64\]"),
        ({"x": Tensor(0x300, (32,), "float16")}, r"`x` is \[32\], expected \['M', 64\]"),
        ({"x": Tensor(0x300, (16, 64), "float16")}, "M is 32 in `y`, but 16 in `x`"),
        ({"x": Tensor(0x308, (32, 64), "float16")}, "`x` begins at an address that is no mult"),
        ({"x": Tensor(0x300, (32, 64), "float16", 1)}, "`w.codes` is on GPU 0, others are on 1"),
        ({"x": Tensor(0x300, (32, 64), "float16", type="cpu")}, "`x` is on cpu:0, expected a GPU"),
        ({"x": Tensor(0x300, (32, 64), "float16", contiguous=False)}, "`x` is not contiguous"),
        ({"x": 3.5}, "`x` is a float, expected a tensor or an address"),
        ({"w": Tensor(0x300, (48, 64), "float16")}, "`w` is packed: expected a mapping of its par"),
        ({"w": {"codes": Tensor(0x100, (48 * 32,), "uint8")}}, "no part scale or w.scale"),
        ({"w": {"codes": Tensor(0x100, (48 * 16,), "uint8")}}, "`w.codes` has 768 bytes, expec"),
        ({"x": Tensor(0x300, (24, 64), "float16"), "y": Tensor(0x400, (24, 48), "float32")},
         "M is 24, and the code is for multiples of 16"),
        ({"x": 0x300, "y": 0x400}, "no number for the dimension M: give dims="),
    ],
)  # fmt: skip
def test_arguments_that_do_not_fit(changed, message):
    manifest = quantised().manifest
    assert loader.Call(manifest, list(good().values()), {}, None).dims == {
        "N": 48, "K": 64, "M": 32
    }  # fmt: skip
    with pytest.raises(KernelError, match=f"linear: .*{message}"):
        loader.Call(manifest, list((good() | changed).values()), {}, None)


def test_other_calls_that_do_not_fit():
    manifest = quantised().manifest
    with pytest.raises(KernelError, match=r"linear takes 3 arguments \(x, w, y\), not 2"):
        loader.Call(manifest, list(good().values())[:2], {}, None)
    with pytest.raises(KernelError, match="M is 32 in `x`, but 48 in dims"):
        loader.Call(manifest, list(good().values()), {"M": 48}, None)
    with pytest.raises(KernelError, match="N is 47 in dims, but 48 in the known ones"):
        loader.Call(manifest, list(good().values()), {"N": 47}, None)


def test_code_is_chosen_by_the_gpu(tmp_path):
    fake = FakeDriver(execute=False)
    targets = ("sm_80", "sm_90", "sm_120")
    kernel, found = loaded(SCALE, tmp_path / "t", fake, {}, Choice("triton", image="ptx"),
                           targets=targets)  # fmt: skip
    chosen = {(8, 0): "sm_80", (8, 9): "sm_80", (9, 0): "sm_90", (12, 0): "sm_120"}
    assert {c: kernel.target(c) for c in chosen} == chosen
    for capability in ((7, 5), (10, 0), (12, 1)):
        with pytest.raises(KernelError, match=r"no code for .*: there is sm_80, sm_90, sm_120"):
            kernel.target(capability)
    forward = {t: row["forward"] for t, row in found.manifest["targets"].items()}
    assert forward == {"sm_80": True, "sm_90": False, "sm_120": False}


def test_files_that_were_changed(tmp_path):
    fake = FakeDriver(execute=False)
    kernel, found = loaded(SCALE, tmp_path, fake, {}, Choice("cuda", image="ptx"))
    (image,) = found.manifest["targets"]["sm_90"]["images"]
    (tmp_path / image["file"]).write_bytes(b"something else")
    with pytest.raises(KernelError, match="cubin is not what was written"):
        kernel(0x100, 1.0, 1, True, 0x200, dims={"M": 16})
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps(manifest | {"schema": 2}))
    with pytest.raises(KernelError, match="the manifest has schema 2, expected 1"):
        loader.Kernel(tmp_path, Memory(fake))


def test_a_machine_without_a_driver():
    with pytest.raises(KernelError, match="no NVIDIA driver: "):
        loader.Driver("libcuda-of-nowhere.so.1")


def test_expressions_of_dimensions():
    dims = {"M": 70, "N": 48}
    for text, value in (("4*ceiling(M/64)", 8), ("floor(M/64) + N - 3", 46), (17, 17),
                        ("Max(M, 2*N)", 96), ("-Min(M, N)", -48)):  # fmt: skip
        assert loader.evaluated(text, dims) == value
    for text in ("__import__('os')", "Q + 1", "M**9", "(lambda: 1)()", "M.real", "1.5"):
        with pytest.raises(KernelError, match="no number for "):
            loader.evaluated(text, dims)
