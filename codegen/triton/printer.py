"""What the text of a kernel is built from: lines, names, padded sizes and their masks."""

from __future__ import annotations

import keyword
from dataclasses import dataclass, field

from tilec.codegen.triton.names import statement_of
from tilec.codegen.triton.prelude import TEXTS
from tilec.ir.core import Func, Op
from tilec.ir.dtype import DType, tf32
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent, Sym, names
from tilec.ir.symbol import comment, symbol
from tilec.ir.types import Memory, Tile

DTYPES = {
    "f64": "float64", "f32": "float32", "f16": "float16", "bf16": "bfloat16",
    "e4m3": "float8e4nv", "e5m2": "float8e5", "i64": "int64", "i32": "int32", "i16": "int16",
    "i8": "int8", "u32": "uint32", "u16": "uint16", "u8": "uint8", "bool": "int1",
}  # fmt: skip
LEAST_DOT = 16  # the least extent of any side of a product
OWN = ("tl", "triton", "pid", "range", "float")  # names that the text uses itself
TAKEN = frozenset({*keyword.kwlist, *TEXTS, *OWN})


def dtype_of(t: DType) -> str:
    """The Triton type in which values of a dtype are computed; codes live in bytes. Raises an error
    for tf32 and those that are tables."""
    if t.kind == "code" or t == tf32:
        raise TileError(f"triton: no code for values of {t} yet", hint="the CPU back end has it")
    if t.is_integer and t.bits < 8:
        return "tl.int8" if t.kind == "int" else "tl.uint8"
    return f"tl.{DTYPES[str(t)]}"


def block_of(n: int, least: int = 1) -> int:
    """The power of two that holds n elements."""
    return max(least, 1 << (n - 1).bit_length())


@dataclass(frozen=True)
class Axis:
    """A padded extent: its block size as text, and the name of the mask of what is inside."""

    block: str
    mask: str = ""
    offsets: str = ""


@dataclass
class Printer:
    """The text so far, and what extents stand for."""

    lines: list[str] = field(default_factory=list[str])
    top: list[str] = field(default_factory=list[str])
    depth: int = 1
    axes: dict[str, Axis] = field(default_factory=dict[str, Axis])
    constants: dict[str, str] = field(default_factory=dict[str, str])
    large: dict[str, int] = field(default_factory=dict[str, int])  # least blocks in a product
    taken: set[str] = field(default_factory=lambda: set(TAKEN))
    bases: dict[str, str] = field(default_factory=dict[str, str])  # of names with a number
    blocks: dict[str, int] = field(default_factory=dict[str, int])  # sizes of tiles by name
    tensors: set[str] = field(default_factory=set[str])  # names of numbers that Triton computes
    movable: set[str] = field(default_factory=set[str])  # names of what may stand before a loop
    quiet: frozenset[Op] = frozenset()  # ops without a comment
    said: tuple[str, int] | None = None

    def line(self, text: str) -> None:
        """A line at the present depth, however long."""
        self.lines.append("    " * self.depth + text)

    def require(self, condition: str) -> None:
        """A fact about constants that the text depends on, for who changes them."""
        text = f"    tl.static_assert({condition})"
        if text not in self.top:
            self.top.append(text)

    def size(self, block: str) -> int:
        """The number that a block size stands for, 1 if only a launch knows it."""
        return int(block) if block.isdecimal() else self.blocks.get(block, 1)

    def at(self, op: Op) -> None:
        """The user's statement as a comment, once for all that is made from it."""
        loc = statement_of(op.loc) if op.loc is not None and op not in self.quiet else None
        if loc is not None and (loc.file, loc.line) != self.said:
            self.said = (loc.file, loc.line)
            self.line(f"# {comment(loc.text)}")

    def fresh(self, name: str) -> str:
        """The name, with a number if it is taken."""
        name = symbol(name)
        found, i = name, 2
        while found in self.taken:
            found, i = f"{name}_{i}", i + 1
            self.bases[found] = name
        self.taken.add(found)
        return found

    def axis(self, e: Extent) -> Axis:
        """The padded form of an extent of a tile."""
        key = str(e)
        if key not in self.axes:
            self.axes[key] = self._whole(e)
        return self.axes[key]

    def _whole(self, e: Extent) -> Axis:
        """An extent that no loop has cut: all of a dimension."""
        least = self.large.get(str(e), 1)
        if isinstance(e, int):
            block = str(block_of(e, least))
            return self._named(f"d{e}", block, "" if block == str(e) else f"< {e}")
        if not e.is_name:
            raise TileError(f"triton: a tile of {e} elements can't be padded to a power of two")
        name = f"BLOCK_{e}"
        self.constants[name] = f"triton.next_power_of_2({e})" if least == 1 else (
            f"max({least}, triton.next_power_of_2({e}))")  # fmt: skip
        return self._named(str(e), name, f"< {e}")

    def _named(self, name: str, block: str, inside: str) -> Axis:
        """A whole dimension: its coordinates and mask stand at the top of the kernel."""
        offsets, mask = self.fresh(f"offs_{name}"), ""
        self.top.append(f"    {offsets} = tl.arange(0, {block})")
        if inside:
            mask = self.fresh(f"mask_{name}")
            self.top.append(f"    {mask} = {offsets} {inside}")
        return Axis(block, mask, offsets)

    def shape(self, t: Tile) -> str:
        """The padded shape of a tile as a tuple."""
        blocks = [self.axis(d).block for d in t.shape]
        return f"({', '.join(blocks)}{',' if len(blocks) == 1 else ''})"

    def dims(self, func: Func) -> list[str]:
        """The dimensions that are still names, in the order of the signature."""
        found: dict[str, None] = {}
        for v in func.params:
            if isinstance(v.type, Memory):
                for d in v.type.shape:
                    found.update(dict.fromkeys(sorted(names(d)) if isinstance(d, Sym) else ()))
        return list(found)


def bare(text: str) -> str:
    """An expression without parentheses around all of it."""
    depth = 0
    for i, c in enumerate(text):
        depth += (c == "(") - (c == ")")
        if depth == 0 and i + 1 < len(text):
            return text
    return text[1:-1] if text.startswith("(") and depth == 0 else text


def spread(text: str, axes: range | tuple[int, ...], rank: int) -> str:
    """`x[:, None]`: a value whose axes stand at `axes` among `rank`."""
    if len(axes) == rank or not axes:
        return text
    return f"{text}[{', '.join(':' if i in axes else 'None' for i in range(rank))}]"
