"""What a back end hands to the runtime: the text of one specialised kernel and how to call it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tilec.ir.fragments import Fragments
from tilec.ir.remark import Remark
from tilec.ir.stream import Records

ParamKind = Literal["tensor", "packed", "scalar"]


@dataclass(frozen=True)
class Param:
    """One 8-byte slot of the argument array, and the part of the user's call that fills it.

    `argument` counts the arguments of the user's call from 0. A tensor's slot holds the address
    of its first element; a packed tensor has a slot per component (`component` names it, `place`
    is its index in the packed handle, `records` how it lies there if in a stream); a scalar's slot
    holds its value as i64, f64 or f32 bits. A dimension is an int; a name (str) stands for one
    that is only known at the call.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    kind: ParamKind
    argument: int
    component: str = ""
    place: int = 0
    records: Records | None = None


@dataclass(frozen=True)
class Launch:
    """One kernel of a GPU program: blocks of threads, and bytes of shared memory of each block."""

    entry: str
    blocks: int
    threads: int
    shared: int


@dataclass(frozen=True)
class KernelSource:
    """The text of one specialised kernel.

    language "llvm": the module `text` defines `void @<entry>(ptr %args)`. `args` is an array of
    8-byte slots, one per Param in order, then the address of `workspace` bytes, 64-byte aligned
    and shared by all threads of the launch. The entry may call
    `void @tilec_parallel(ptr %fn, ptr %args, i64 %chunks)`, which calls
    `void fn(ptr args, i64 chunk, i32 tid)` once for every chunk in 0..chunks-1 and returns when
    all are done, and `i32 @tilec_threads()`, which every tid is below.
    language "cuda": parameters with `orders` lie in fragment order; the `launches` are made one
    after the other; each kernel takes the parameters in order, then the program's own memory.
    `remarks` are what passes and back end could not do, and why.
    """

    language: str
    text: str
    entry: str
    params: tuple[Param, ...]
    workspace: int = 0
    remarks: tuple[Remark, ...] = ()
    launches: tuple[Launch, ...] = ()
    orders: Mapping[str, Fragments] = field(default_factory=dict[str, Fragments])
