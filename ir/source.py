"""What a back end hands to the runtime: the text of one specialised kernel and how to call it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from tilec.ir.extent import Extent
from tilec.ir.fragments import Fragments
from tilec.ir.interleaved import Interleaved
from tilec.ir.lanes import Slabs
from tilec.ir.masked import Masked
from tilec.ir.ranges import Range
from tilec.ir.remark import Remark
from tilec.ir.stream import Records

ParamKind = Literal["tensor", "packed", "scalar", "own"]
Order = Fragments | Interleaved


@dataclass(frozen=True)
class Param:
    """One 8-byte slot of the argument array, and the part of the user's call that fills it.

    `argument` counts the arguments of the user's call from 0. A tensor's slot holds the address
    of its first element; a packed tensor has a slot per component (`component` names it, `place`
    is its index in the packed handle, `records` how it lies there if not row by row); a scalar's
    slot holds its value as i64, f64 or f32 bits. A dimension is an int; a name (str) stands for one
    that is only known at the call, an expression for what is computed of such. Own memory is
    between kernels of a program: who launches makes it, and `argument` says nothing.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    kind: ParamKind
    argument: int
    component: str = ""
    place: int = 0
    records: Records | Masked | Slabs | None = None


@dataclass(frozen=True)
class TensorBoxes:
    """A tensor map that a kernel takes: what the bulk copy unit is told of a tensor in memory.

    Parameter `name` of the kernel is made of the address of its parameter `param` and of the rest
    by cuTensorMapEncodeTiled (CUDA driver API): the tensor has `shape` elements of `element` bytes;
    `pitches` are the bytes from one index of each axis but the last to the next; a copy moves
    `box` elements, and changes the places of 16 bytes in rows of `swizzle` bytes (0: of none).
    Outermost axes come first, other than in the driver's lists; the first extent may depend on
    dimensions. What a box has outside of the tensor is zeros. The address must be a multiple of 16.
    """

    name: str
    param: str
    shape: tuple[Extent, ...]
    pitches: tuple[int, ...]
    box: tuple[int, ...]
    swizzle: int
    element: int

    @property
    def row(self) -> int:
        """Bytes of a row of a box."""
        return self.box[-1] * self.element

    def named(self, name: str) -> TensorBoxes:
        """The same under another name."""
        return replace(self, name=name)

    def same(self, other: TensorBoxes) -> bool:
        """Whether both are one, whatever their names."""
        return self.named(other.name) == other


@dataclass(frozen=True)
class Descriptor:
    """A tensor descriptor that a kernel of Triton takes, `name`: of all of the parameter `param`,
    which is contiguous, in boxes of so many elements along each axis, outermost first.

    As machine code the kernel takes a tensor map, then the extents as i32, then the strides as i64.
    """

    name: str
    param: str
    box: tuple[int, ...]


@dataclass(frozen=True)
class Launch:
    """One kernel of a GPU program: blocks of threads, and bytes of shared memory of each block.

    It takes the parameters of the program, then its dimensions, then tensor maps for `boxes`, in
    order; or those, by name, that `takes` has, and `descriptors` among them. How many blocks there
    are may depend on dimensions. `stages` is how deep a compiler that does so (Triton's
    num_stages) makes the pipelines of its loops.
    """

    entry: str
    blocks: Extent
    threads: int
    shared: int
    boxes: tuple[TensorBoxes, ...] = ()
    takes: tuple[str, ...] | None = None
    stages: int = 3
    descriptors: tuple[Descriptor, ...] = ()


@dataclass(frozen=True)
class KernelSource:
    """The text of one specialised kernel.

    language "llvm": the module `text` defines `void @<entry>(ptr %args)`. `args` is an array of
    8-byte slots, one per Param in order, one as i64 for each of `ranges`, the sizes that dimensions
    may have which are only known at the call, then the address of `workspace` bytes, 64-byte
    aligned and shared by all threads of the launch. The entry may call
    `void @tilec_parallel(ptr %fn, ptr %args, i64 %chunks)`, which calls
    `void fn(ptr args, i64 chunk, i32 tid)` once for every chunk in 0..chunks-1 and returns when
    all are done, and `i32 @tilec_threads()`, which every tid is below.
    language "cuda": the `launches` are made one after the other; each kernel takes the parameters
    in order, then the program's own memory, then `dims`, the dimensions that are only known at a
    launch, as u32, then its tensor maps.
    language "triton": the module `text` defines each launch's kernel, and a function `<entry>`
    without `_kernel` that makes the launches on tensors of torch.
    Parameters with `orders` lie in memory as these say, in every language. `remarks` are what
    passes and back end could not do, and why.
    """

    language: str
    text: str
    entry: str
    params: tuple[Param, ...]
    workspace: int = 0
    remarks: tuple[Remark, ...] = ()
    launches: tuple[Launch, ...] = ()
    orders: Mapping[str, Order] = field(default_factory=dict[str, Order])
    dims: tuple[str, ...] = ()
    ranges: Mapping[str, Range] = field(default_factory=dict[str, Range])
