"""Tensor descriptors: tiles of dense operands that the bulk copy unit of sm_90 and later brings.

It copies a box of a whole tensor to shared memory by itself, reads 0 outside of the tensor, and
takes rows that begin at multiples of 16 bytes (PTX ISA, "Tensor copies").
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tilec.codegen.triton.printer import Printer, block_of
from tilec.codegen.triton.ranges import whole_steps
from tilec.ir.core import Func, Value
from tilec.ir.ops import control, memory
from tilec.ir.source import Descriptor
from tilec.ir.types import Memory, Span, Tile

ALIGNED = 16  # bytes
RANKS, LONGEST = range(2, 6), 256  # axes of a descriptor, elements of a side of a box
DTYPES = ("f16", "bf16", "f32", "e4m3", "e5m2", "i8", "u8", "i16", "u16", "i32", "u32")


class Descriptors:
    """The loads of a function that descriptors serve, and the descriptors that they take."""

    def __init__(self, func: Func, least: Mapping[str, int], wanted: bool) -> None:
        self.boxes = dict(_boxes(func, least)) if wanted else {}
        self.spans = {v for op in self.boxes for v in op.indices if isinstance(v.type, Span)}
        self.names: dict[tuple[Value, tuple[int, ...]], str] = {}

    def load(self, p: Printer, op: memory.Load, mem: str, places: Sequence[str]) -> str:
        """The expression of such a tile; `mem` is the memory's name, `places` are where the box
        begins."""
        box = self.boxes[op]
        if (op.mem, box) not in self.names:
            self.names[op.mem, box] = p.fresh(f"{mem}_desc")
        text = f"{self.names[op.mem, box]}.load([{', '.join(places)}])"
        tile = box[-_rank(op) :]
        return text if len(tile) == len(box) else f"{text}.reshape({', '.join(map(str, tile))})"

    def taken(self, params: Mapping[Value, str]) -> tuple[Descriptor, ...]:
        """The descriptors that the kernel takes, by the names of its parameters."""
        return tuple(Descriptor(name, params[mem], box) for (mem, box), name in self.names.items())


def _rank(op: memory.Load) -> int:
    assert isinstance(op.result.type, Tile)
    return op.result.type.rank


def _boxes(func: Func, least: Mapping[str, int]
           ) -> Iterator[tuple[memory.Load, tuple[int, ...]]]:  # fmt: skip
    """The loads in loops whose tiles are boxes, with these."""
    sides = dict(_sides(func, least))
    written = {op.mem for op in func.walk() if isinstance(op, memory.Write)}
    for loop in func.walk():
        for op in loop.body.ops if isinstance(loop, control.For) else ():
            if isinstance(op, memory.Load) and op.mem not in written and _fits(op):
                box = tuple(sides.get(v, 0) if isinstance(v.type, Span) else 1 for v in op.indices)
                assert isinstance(op.mem.type, Memory)
                wide = box[-1] * op.mem.type.dtype.bits >= 8 * ALIGNED
                if all(0 < n <= LONGEST for n in box) and wide:
                    yield op, box


def _sides(func: Func, least: Mapping[str, int]) -> Iterator[tuple[Value, int]]:
    """The spans whose tiles have no padding but what is beyond the dimension, with their sizes."""
    made = {v: op for op in func.walk() for v in op.results}
    for op in func.walk():
        match op:
            case control.Grid():
                spans = zip(op.body.params, op.tiles, strict=False)
            case control.For() if whole_steps(op, made):
                spans = iter([(op.body.params[0], op.tile)])
            case memory.Nth():
                spans = iter([(op.result, op.tile)])
            case _:
                continue
        for v, tile in spans:
            assert isinstance(v.type, Span)
            size = v.type.size
            if tile and tile == (size if isinstance(size, int)
                                 else block_of(tile, least.get(str(size), 1))):  # fmt: skip
                yield v, tile


def _fits(op: memory.Load) -> bool:
    """Whether a load is of a matrix of a tensor whose rows may be boxed."""
    t = op.mem.type
    assert isinstance(t, Memory)
    spans = [isinstance(v.type, Span) for v in op.indices]
    single = all(not v.type.shape for v in op.indices if isinstance(v.type, Tile))
    ordered = spans == sorted(spans) and sum(spans) >= 2
    k = t.shape[-1]
    even = not isinstance(k, int) or k * t.dtype.bits % (8 * ALIGNED) == 0
    return len(t.shape) in RANKS and str(t.dtype) in DTYPES and single and ordered and even
