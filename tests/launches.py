"""Launches of kernels with what they must give, on every back end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import emulated
import numpy as np

from tilec.compile import Kernel
from tilec.ir.dtype import Array, DType, of_numpy
from tilec.ir.format import Format
from tilec.lang.kernel import TensorSpec
from tilec.runtime.tensor import PackedTensor

Given = Array | PackedTensor | float | int


@dataclass(frozen=True, eq=False)
class Case:
    """What the parameters of a kernel are given, and what it must leave in its results.

    Results are poisoned before the launch unless given, too. `near` bounds the relative error by
    norm; 0 asks for every bit.
    """

    name: str
    kernel: Kernel
    given: Mapping[str, Given]
    want: Mapping[str, Array]
    near: float = 0.0
    numbers: Mapping[str, int] = field(default_factory=dict[str, int])  # beside those of shapes

    @property
    def types(self) -> dict[str, Format | DType]:
        """The formats of the tensors."""
        found: dict[str, Format | DType] = {}
        for name, x in self.arguments().items():
            if isinstance(x, np.ndarray | PackedTensor):
                found[name] = x.format if isinstance(x, PackedTensor) else of_numpy(x.dtype)
        return found

    @property
    def dims(self) -> dict[str, int]:
        """The numbers of the dimensions."""
        found = dict(self.numbers)
        for p in self.kernel.definition.signature.params:
            x = self.given.get(p.name, self.want.get(p.name))
            if isinstance(p.spec, TensorSpec):
                assert isinstance(x, np.ndarray | PackedTensor)
                found |= {str(d): n for d, n in zip(p.spec.dims, x.shape, strict=True)
                          if not isinstance(d, int)}  # fmt: skip
        return found

    def arguments(self) -> dict[str, Given]:
        """Fresh arguments in the order of the parameters."""
        found: dict[str, Given] = {}
        for p in self.kernel.definition.signature.params:
            x = self.given.get(p.name)
            if p.name in self.want:
                x = np.array(x) if x is not None else _poisoned(self.want[p.name])
            assert x is not None
            found[p.name] = x
        return found

    def check(self, arguments: Mapping[str, Given]) -> None:
        """Compare the results after a launch."""
        for name, want in self.want.items():
            got = np.asarray(arguments[name])
            if want.dtype.kind in "iub" or not self.near:
                assert np.array_equal(got, want), f"{self.name}: {name}"
                continue
            finite = np.isfinite(want)
            assert np.array_equal(np.isfinite(got), finite), f"{self.name}: {name}"
            right = want[finite].astype(float)
            off = np.linalg.norm(got[finite] - right)
            assert off <= self.near * np.linalg.norm(right), f"{self.name}: {name}"


def _poisoned(like: Array) -> Array:
    t = like.dtype if like.dtype != np.float64 else np.dtype(np.float32)
    return np.full(like.size * t.itemsize, 0xA5, np.uint8).view(t).reshape(like.shape)


def on_cpu(case: Case) -> None:
    """Launch compiled code."""
    arguments = case.arguments()
    case.kernel(*arguments.values())
    case.check(arguments)


def on_cuda(case: Case) -> None:
    """Run the CUDA code under emulation."""
    arguments = case.arguments()
    emulated.run(emulated.program_of(case.kernel, case.types, case.dims), arguments)
    case.check(arguments)


def on_triton(case: Case) -> None:
    """Run what Triton compiles in the interpreter of PTX."""
    import triton_ptx

    from tilec.triton import triton_source

    source = triton_source(case.kernel.definition, case.dims, case.types)
    arguments, given = case.arguments(), dict[str, Array | int]()
    for name, x in arguments.items():
        packed = isinstance(x, PackedTensor)
        given |= triton_ptx.in_memory(source, name, x) if packed else {name: np.asarray(x)}  # type: ignore[arg-type]
    report = triton_ptx.executed(source, given)
    assert report.clean, report
    case.check(arguments)


__all__ = ["Case", "on_cpu", "on_cuda", "on_triton"]
