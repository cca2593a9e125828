"""A case of the GPU suite as data: what is computed, in which formats and sizes, made in which way.

The numbers of cases are those of the table of benchmark cases in the design (one row each).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod

import numpy as np

from tilec import cuda, triton
from tilec.compile import Kernel, written
from tilec.gpu import Choice
from tilec.ir.dtype import Array
from tilec.ir.extent import number
from tilec.ir.format import Format
from tilec.ir.named import named
from tilec.lang.kernel import Definition, TensorSpec
from tilec.lang.programs import ProgramDefinition
from tilec.program import Program

CAPABILITY = (9, 0)  # of an H100, which the floors are for
BANDWIDTH = 3.0e12  # bytes a second that an H100 copies, 90 % of its data sheet
ARITHMETIC = {"half": 8.0e14, "byte": 1.5e15}  # operations a second that products reach there
Dims = Mapping[str, int]
Values = Mapping[str, Array]
Meaning = Callable[[Values, Dims], dict[str, Array]]


@dataclass(frozen=True)
class Way:
    """How a case is made: the back end, its schedule as text, the matrix instruction that its
    machine code must have. Where tilec can't express it, `refused` is part of what it says."""

    backend: str
    schedule: str = ""
    instruction: str = ""
    refused: str = ""

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"{self.backend} {self.schedule}".strip()

    def choice(self, image: str = "cubin") -> Choice:
        """As the compiler takes it. Raises TileError for what is no schedule."""
        parse = cuda.schedule_of if self.backend == "cuda" else triton.schedule_of
        kind = "ptx" if image == "ptx" else "cubin"
        return Choice(self.backend, parse(self.schedule), image=kind, lines=False)

    @property
    def target(self) -> str:
        """The target of CAPABILITY."""
        return Choice(self.backend).target(CAPABILITY)


@dataclass(frozen=True, eq=False)
class Case:
    """A kernel or program on operands of some formats, at full size and at one for emulation.

    `types` are formats by parameter, `small` the dims that are smaller there. `meaning` gives the
    results in doubles from the operands' values. `given` makes operands that are not random, as
    lengths are; `numbers` are scalars. Operations are of full size; `rate` says which units the
    products are for. `near` bounds the relative error by norm, `sample` is the part of each dim
    that is compared at full size, `density` the part that a sparse operand stores. Cases are run by
    `turn`, the first is the most wanted; `quick` ones are in the small selection.
    """

    name: str
    number: int
    kernel: Kernel | Program
    types: Mapping[str, str]
    dims: Dims
    small: Dims
    ways: tuple[Way, ...]
    meaning: Meaning
    operations: float
    peers: tuple[str, ...] = ()
    near: float = 2e-3
    rate: str = "half"
    turn: int = 5
    numbers: Mapping[str, float] = field(default_factory=dict[str, float])
    given: Callable[[Dims, np.random.Generator], dict[str, Array]] | None = None
    density: float = 1.0
    sample: Mapping[str, slice] = field(default_factory=dict[str, slice])
    quick: bool = False

    @property
    def reduced(self) -> dict[str, int]:
        """The dims for emulation."""
        return {**self.dims, **self.small}

    @cached_property
    def formats(self) -> dict[str, Format]:
        """The formats of operands and results that `types` names."""
        return {n: named(t) for n, t in self.types.items()}

    @cached_property
    def definition(self) -> Definition:
        """The kernel; a program is one that writes what it returns."""
        return self.defined(self.formats)

    def defined(self, formats: Mapping[str, Format]) -> Definition:
        """The kernel for other formats than those of full size, as tensors of other sizes have."""
        found = self.kernel.definition
        return found.called(formats) if isinstance(found, ProgramDefinition) else found

    def shapes(self, dims: Dims) -> Iterator[tuple[str, Format, tuple[int, ...]]]:
        """The name, format and shape of each tensor."""
        for p in self.definition.signature.params:
            if isinstance(p.spec, TensorSpec):
                format = self.formats.get(p.name) or p.spec.format
                assert format is not None, f"{self.name}: no format for {p.name}"
                yield p.name, format, tuple(number(d, dims) for d in p.spec.dims)

    @cached_property
    def results(self) -> frozenset[str]:
        """The tensors that are written."""
        return written(self.definition.ir(self.formats))

    @property
    def bytes(self) -> float:
        """What must be moved at full size: every operand read once, every result written once."""
        return sum(self.bytes_of(n) for n, _, _ in self.shapes(self.dims))

    def bytes_of(self, name: str) -> float:
        """The bytes of one tensor at full size."""
        found = {n: (f, shape) for n, f, shape in self.shapes(self.dims)}
        format, shape = found[name]
        return format.bits(shape) / 8

    @property
    def floor(self) -> float:
        """Seconds that no kernel can do without on an H100."""
        return max(self.bytes / BANDWIDTH, self.operations / ARITHMETIC[self.rate])

    @property
    def ceiling(self) -> str:
        """What bounds the floor: read, copy or arithmetic."""
        if self.operations / ARITHMETIC[self.rate] > self.bytes / BANDWIDTH:
            return "arithmetic"
        made = sum(self.bytes_of(n) for n in self.results)
        return "copy" if made > 0.2 * self.bytes else "read"

    @cached_property
    def shrunk(self) -> Case:
        """The case at its reduced size, all of which is compared."""
        return replace(self, dims=self.reduced, small={}, sample={})

    @property
    def elements(self) -> int:
        """Elements of the largest operand at full size: what its making takes time for."""
        return max(prod(shape) for _, _, shape in self.shapes(self.dims))


def spread(size: int, count: int) -> slice:
    """About so many of the places of a dim, from its first one on."""
    return slice(0, None, max(1, size // count))
