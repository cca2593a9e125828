"""Interleaved words as tiles of floats: functions with inline PTX, printed above a kernel.

What is computed says ir/fields.py; here it becomes text. A register has two neighbouring words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tilec.codegen.triton.printer import Printer, dtype_of
from tilec.ir.core import Func, Value
from tilec.ir.dtype import DType
from tilec.ir.errors import TileError
from tilec.ir.fields import Decoding, decodings
from tilec.ir.interleaved import WORD, Interleaved
from tilec.ir.ops.arith import Sub
from tilec.ir.ops.cast import Cast
from tilec.ir.ops.memory import Load
from tilec.ir.ops.packed import Groups, Term, Unpack, index_of
from tilec.ir.ops.shape import Full
from tilec.ir.words import Call, Const, Expr, Word, calls

# Tables of a & b | c, (a & b) ^ c, a & b | ~a & c
LOP3 = {"and_or": 0xEA, "and_xor": 0x6A, "chosen": 0xCA}
PTX = {"right": "shr.u32", "left": "shl.b32", "prmt": "prmt.b32", "plus": "add.u32"}


@dataclass(frozen=True)
class Function:
    """What turns words of codes into floats: less a number, or a term of them."""

    codes: DType
    dtype: DType
    less: int = 0
    term: int = 0

    @property
    def name(self) -> str:
        """What it is called."""
        less = f"_less_{self.less}" if self.less else ""
        return f"unpack_{self.codes}_{self.dtype}{less}{f'_rest_{self.term}' if self.term else ''}"

    @property
    def says(self) -> str:
        """What it gives, beside codes."""
        less = f", less {self.less}" if self.less else ""
        return f"{less}, what {self.term} {self.dtype} leave of them" if self.term else less

    def way(self, oldest: int) -> Decoding | None:
        """The cheapest way that a processor has."""
        ways = decodings(self.codes, self.dtype, self.less, self.term)
        return next((d for d in ways if d.since <= oldest), None)


def text(f: Function, way: Decoding) -> str:
    """The text of that function."""
    order, kind = Interleaved(f.codes, 1), dtype_of(f.dtype)
    registers = order.words * WORD.bits // f.dtype.bits
    words = ["words"] if order.words == 1 else [f"words_{i}" for i in range(order.words)]
    of = "word" if order.words == 1 else f"{order.words} words"
    asm = "\n".join(f"        {line}" for line in ptx(way.registers))
    outputs = ", ".join([kind] * order.fields)
    return f'''
@triton.jit
def {f.name}({", ".join(words)}):
    """The {order.fields} {f.codes} of each {of}{f.says}."""
    return tl.inline_asm_elementwise(
        """
        {{
{asm}
        }}
        """,
        "{"=r," * order.fields}{",".join(["r"] * registers)}", [{", ".join(words)}],
        ({outputs}), True, {32 // f.dtype.bits},
    )
'''


def ptx(registers: Sequence[Expr]) -> Iterator[str]:
    """PTX that sets $0, $1, ... to these, of words that are the operands behind them."""
    made, names = calls(registers), dict[Expr, str]()
    results = {x: f"${i}" for i, x in enumerate(registers)}
    temporaries = [x for x in made if x not in results]
    names |= {x: f"x{i}" for i, x in enumerate(temporaries)} | results
    yield f".reg .b32 a, b, x<{max(1, len(temporaries))}>;"
    if any("_of_" in x.name for x in made):
        yield ".reg .b16 c, d;"

    def operand(x: Expr) -> str:
        match x:
            case Word(index):
                return f"${len(registers) + index}"
            case Const(bits):
                return f"0x{bits:08x}"
            case Call():
                return names[x]

    for x in made:
        yield from _lines(x, names[x], [operand(o) for o in x.operands])


def _lines(x: Call, to: str, given: list[str]) -> Iterator[str]:
    """The instructions of one call."""
    match x.name.split("_"):
        case ["and", _] | ["chosen"]:
            yield f"lop3.b32 {to}, {', '.join(given)}, 0x{LOP3[x.name]:x};"
        case ["fma", kind]:
            for i, register in ((1, "a"), (2, "b")):
                if isinstance(x.operands[i], Const):
                    yield f"mov.b32 {register}, {given[i]};"
                    given[i] = register
            yield f"fma.rn.{kind} {to}, {', '.join(given)};"
        case ["f16x2", "of", *upper, "e4m3x2"]:
            yield f"mov.b32 {{c, d}}, {given[0]};"
            yield f"cvt.rn.f16x2.e4m3x2 {to}, {'d' if upper else 'c'};"
        case ["bf16x2", "of", "f16x2"]:
            yield f"mov.b32 {{c, d}}, {given[0]};"
            yield "cvt.f32.f16 a, c;"
            yield "cvt.f32.f16 b, d;"
            yield f"cvt.rn.bf16x2.f32 {to}, b, a;"
        case _:
            yield f"{PTX[x.name]} {to}, {', '.join(given)};"


def _less(func: Func, oldest: int) -> dict[Value, int]:
    """The casts of fields that are only read to take a whole number from them."""
    made = {v: op for op in func.walk() for v in op.results}
    found = dict[Value, set[int]]()
    for op in func.walk():
        for v in (*op.operands, *(v for b in op.blocks for v in b.results)):
            cast = made.get(v)
            if isinstance(cast, Cast) and isinstance(field := made.get(cast.a), Unpack):
                by = made.get(op.b) if isinstance(op, Sub) and op.a is v else None
                whole = isinstance(by, Full) and by.value == int(by.value)
                n = int(by.value) if isinstance(by, Full) and whole else 0
                known = n and Function(field.codes, cast.dtype, n).way(oldest)
                found.setdefault(v, set()).add(n if known else 0)
    return {v: next(iter(ns)) for v, ns in found.items() if len(ns) == 1 and 0 not in ns}


class Words:
    """The words of a kernel: how memory holds them, and the names of what they are unpacked to.

    `less` are the casts of fields from which all readers take the same whole number: it is taken
    where they are unpacked.
    """

    def __init__(self, func: Func, oldest: int) -> None:
        self.oldest = oldest
        self.less = _less(func, oldest)
        self.orders: dict[Value, Interleaved] = {}
        self.functions: dict[str, str] = {}
        self.names: dict[tuple[Value, Function], list[str]] = {}

    def read(self, load: Load, codes: DType, groups: Groups, step: int) -> None:
        """Codes are read from the memory that a load reads, in groups of a loop's steps."""
        order = Interleaved(codes, step)
        if order.fields != groups.by or self.orders.setdefault(load.mem, order) != order:
            raise TileError(f"triton: `{load.mem.hint}` is read in two orders", load.loc)

    def unpacked(self, p: Printer, op: Unpack, cast: Cast | Term, words: Sequence[str]
                 ) -> str | None:  # fmt: skip
        """The name of a field as floats; the first of a unit that is asked for prints them all."""
        less = self.less.get(cast.result, 0)
        function = Function(op.codes, cast.dtype, less, index_of(cast))
        way = function.way(self.oldest)
        if way is None:
            return None
        key = (op.words[0], function)
        if key not in self.names:
            self.functions[function.name] = text(function, way)
            stem = words[0].removesuffix("_tile")
            found = [p.fresh(f"{stem}_{i}") for i in range(len(way.registers))]
            p.line(f"{', '.join(found)} = {function.name}({', '.join(words)})")
            self.names[key] = found
        return self.names[key][op.field]
