"""Kernels for the CPU whose passes have other options than the default."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tilec.compile import Kernel, engine
from tilec.cpu import Schedule, cpu_source
from tilec.gpu import Choice
from tilec.ir.dtype import DType
from tilec.ir.format import Format
from tilec.ir.packing import Layout
from tilec.ir.ranges import Sizes
from tilec.ir.remark import Remark
from tilec.passes import Step
from tilec.passes.pipeline import Option

Options = Mapping[str, dict[str, Option]]


@dataclass(frozen=True)
class Optioned(Schedule):
    """The default schedule; `options` has, by the name of a pass, what is added to its step."""

    options: Options = field(default_factory=dict[str, dict[str, Option]])

    def steps(self, dims: Sizes, threads: int, plain: Iterable[str] = (), pairs: bool = False
              ) -> tuple[Step, ...]:  # fmt: skip
        return tuple(Step(s.name, s.options | self.options.get(s.name, {}))
                     for s in super().steps(dims, threads, plain, pairs))  # fmt: skip


class Piped(Kernel):
    """A kernel of its own, by such a schedule."""

    def __init__(self, kernel: Kernel, options: Options) -> None:
        self.schedule = Optioned(options=options)
        super().__init__(kernel.definition, Choice(cpu=self.schedule))

    def compiled(
        self, types: Mapping[str, Format | DType], dims: Mapping[str, int], host: Any = None,
        layouts: Mapping[str, Layout] | None = None,
    ) -> Any:  # fmt: skip
        """The source for these formats, on this processor or another."""
        return cpu_source(self.definition, types, dims, host or engine(), layouts, self.schedule)


def said(remarks: tuple[Remark, ...]) -> list[tuple[str, str]]:
    """What remarks say and what they miss, without the operand's name and format."""
    return [(r.message.rpartition(">): ")[2], r.missing) for r in remarks]
