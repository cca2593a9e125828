"""Words of 16 bits as tiles of floats: functions with inline PTX, printed above a kernel.

A field is masked into the mantissa of a power of two, two neighbouring words at a time, and what
the power adds is taken away again: exact, since all of it fits the mantissa (Kim et al., "Who Says
Elephants Can't Run", arXiv 2211.10017). The highest bit of a signed field is turned over first.
"""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np

from tilec.codegen.triton.printer import Printer, dtype_of
from tilec.ir.core import Value
from tilec.ir.dtype import DType, bf16, f16
from tilec.ir.errors import TileError
from tilec.ir.interleaved import WORD, Interleaved
from tilec.ir.ops.memory import Load
from tilec.ir.ops.packed import Groups, Unpack

MASKED_OR, MASKED_XOR = 0xEA, 0x6A  # lop3: a & b | c, (a & b) ^ c


@dataclass(frozen=True)
class _Float:
    """A float of 16 bits that takes fields: the mantissa's bits, and PTX's name."""

    numpy: type[np.generic]
    mantissa: int
    ptx: str

    def bits(self, x: float) -> str:
        """Two of a number, side by side."""
        one = int(np.array(x, self.numpy).view(np.uint16))
        assert float(np.array(x, self.numpy)) == x
        return f"0x{one:04x}{one:04x}"


_FLOATS = {f16: _Float(np.float16, 10, "f16x2"), bf16: _Float(ml_dtypes.bfloat16, 7, "bf16x2")}


def name(codes: DType, dtype: DType) -> str | None:
    """The function that turns words of these codes into floats, if there is one."""
    fits = codes.is_integer and WORD.bits % codes.bits == 0 and codes.bits < 8
    return f"unpack_{codes}_{dtype}" if fits and dtype in _FLOATS else None


def text(codes: DType, dtype: DType) -> str:
    """The text of that function."""
    fields = WORD.bits // codes.bits
    kind = dtype_of(dtype)
    asm = "\n".join(f"        {line}" for line in _asm(codes, _FLOATS[dtype]))
    outputs = ", ".join([kind] * fields)
    return f'''
@triton.jit
def {name(codes, dtype)}(words):
    """The {fields} {codes} of each word, lowest first."""
    return tl.inline_asm_elementwise(
        """
        {{
        .reg .b32 t, s, m;
{asm}
        }}
        """,
        "{"=r," * fields}r", [words], ({outputs}), True, 2,
    )
'''


def _asm(codes: DType, t: _Float) -> list[str]:
    """PTX from `$fields` to `$0`, `$1`, ..."""
    bits, fields = codes.bits, WORD.bits // codes.bits
    signed = codes.kind == "int"
    high = 1 << bits - 1
    span = t.mantissa // bits * bits  # the fields that one shift brings into the mantissa
    lines: list[str] = []
    source, power = f"${fields}", float(1 << t.mantissa)
    for i in range(fields):
        place = i * bits % span
        if i and not place:
            lines.append(f"shr.u32 t, ${fields}, {i * bits};")
            source = "t"
        mask = ((1 << bits) - 1 << place) * 0x10001
        turned = (high << place if signed else 0) * 0x10001
        magic = int(t.bits(power), 16) | turned
        table = MASKED_XOR if signed else MASKED_OR
        lines.append(f"lop3.b32 ${i}, {source}, 0x{mask:08x}, 0x{magic:08x}, 0x{table:x};")
        less = -(power / (1 << place) + (high if signed else 0))
        lines.append(f"mov.b32 s, {t.bits(1 / (1 << place))};")
        lines.append(f"mov.b32 m, {t.bits(less)};")
        lines.append(f"fma.rn.{t.ptx} ${i}, ${i}, s, m;")
    return lines


class Words:
    """The words of a kernel: how memory holds them, and the names of what they are unpacked to."""

    def __init__(self) -> None:
        self.orders: dict[Value, Interleaved] = {}
        self.functions: dict[str, str] = {}
        self.names: dict[tuple[Value, DType], list[str]] = {}

    def read(self, load: Load, codes: DType, groups: Groups, step: int) -> None:
        """Codes are read from the memory that a load reads, in groups of a loop's steps."""
        order = Interleaved(codes, step)
        if order.fields != groups.by or self.orders.setdefault(load.mem, order) != order:
            raise TileError(f"triton: `{load.mem.hint}` is read in two orders", load.loc)

    def unpacked(self, p: Printer, op: Unpack, dtype: DType, words: str) -> str | None:
        """The name of a field as floats; the first of a word that is asked for prints them all."""
        function = name(op.codes, dtype)
        if function is None:
            return None
        if (op.words, dtype) not in self.names:
            self.functions[function] = text(op.codes, dtype)
            found = [p.fresh(f"{words}_{i}") for i in range(WORD.bits // op.codes.bits)]
            p.line(f"{', '.join(found)} = {function}({words})")
            self.names[op.words, dtype] = found
        return self.names[op.words, dtype][op.field]
