"""Kernels for the CPU whose pipeline has other options than the default."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from tilec import compile as compiling
from tilec.compile import Kernel, cpu_source
from tilec.ir.dtype import DType
from tilec.ir.format import Format
from tilec.ir.packing import Layout
from tilec.ir.remark import Remark
from tilec.passes import Step
from tilec.passes.pipeline import Option

Options = Mapping[str, dict[str, Option]]


class Piped(Kernel):
    """A kernel of its own; `options` has, by the name of a pass, what is added to its step."""

    def __init__(self, kernel: Kernel, options: Options) -> None:
        super().__init__(kernel.definition)
        self.options, self.default = options, compiling.pipeline

    def _pipeline(self, dims: Mapping[str, int], threads: int, plain: Iterable[str] = ()
                  ) -> tuple[Step, ...]:  # fmt: skip
        return tuple(Step(s.name, s.options | self.options.get(s.name, {}))
                     for s in self.default(dims, threads, plain))  # fmt: skip

    def specialised(self, args: tuple[Any, ...]) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(compiling, "pipeline", self._pipeline)
            return super().specialised(args)

    def compiled(
        self, types: Mapping[str, Format | DType], dims: Mapping[str, int], host: Any = None,
        layouts: Mapping[str, Layout] | None = None,
    ) -> Any:  # fmt: skip
        """The source for these formats, on this processor or another."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(compiling, "pipeline", self._pipeline)
            return cpu_source(self.definition, types, dims, layouts, host)


def said(remarks: tuple[Remark, ...]) -> list[tuple[str, str]]:
    """What remarks say and what they miss, without the operand's name and format."""
    return [(r.message.rpartition(">): ")[2], r.missing) for r in remarks]
