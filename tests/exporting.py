"""Exported kernels, called through their loader in this process."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fake_driver import FakeDriver

from tilec.export import Exported, exported, loader
from tilec.export.loader import KernelError
from tilec.gpu import Choice
from tilec.lang.text import parse
from tilec.runtime.driver import FUNCTIONS

LINEAR = """
kernel linear(x: f16[M, K], w: f16[N, K], y: f32[M, N]) {
  for m, n in tiles(M, N) {
    acc = zeros(f32, [m, n])
    for k in tiles(K) { acc += dot(x[m, k], w[n, k].T) }
    y[m, n] = acc
  }
}
"""
SCALE = """
kernel scale(x: f32[M], s: f32, t: i8, u: bool, y: f32[M]) {
  for m in tiles(M) { y[m] = where(u, x[m] * s + f32(t), x[m]) }
}
"""
QUANTISED = LINEAR.replace("w: f16", "w: int4<group=64>")


class Memory(loader.Driver):
    """The loader's driver over functions in memory instead of a library."""

    def __init__(self, fake: FakeDriver) -> None:
        self._addresses = fake.driver.addresses
        self._contexts = {}

    def call(self, name: str, *arguments: Any) -> None:
        name = name.removesuffix("_v2")
        types = ["iupns".index(t) for t in FUNCTIONS[name][0]]
        kinds = [(ctypes.c_int, ctypes.c_uint, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p)[t]
                 for t in types]  # fmt: skip
        plain = (a.value if isinstance(a, ctypes.c_uint64) else a for a in arguments)
        code = ctypes.CFUNCTYPE(ctypes.c_int, *kinds)(self._addresses[name])(*plain)
        if code:
            raise KernelError(f"{name}: error {code}")


def made(text: str, known: Mapping[str, int], choice: Choice, *, targets: tuple[str, ...] = (),
         **more: Any) -> Exported:  # fmt: skip
    (definition,) = parse(text).values()
    return exported(definition, known, targets or ("sm_90",), choice, **more)


def loaded(text: str, folder: Path, fake: FakeDriver, known: Mapping[str, int], choice: Choice,
           **more: Any) -> tuple[loader.Kernel, Exported]:  # fmt: skip
    """A kernel whose code is PTX, by its loader and a driver that runs that."""
    found = made(text, known, choice, **more)
    found.write(folder)
    return loader.Kernel(folder, Memory(fake)), found
