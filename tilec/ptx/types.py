"""The types that PTX instructions name, from `.u8` to `.e4m3x2` (PTX ISA, 'Types')."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tilec.ptx import formats
from tilec.ptx.formats import Format

Kind = Literal["uint", "int", "bits", "float", "pred"]


@dataclass(frozen=True)
class Type:
    """A type of an instruction: `lanes` numbers of `bits` bits each in one register."""

    name: str
    kind: Kind
    bits: int
    lanes: int = 1
    format: Format | None = None

    def __str__(self) -> str:
        return f".{self.name}"

    @property
    def width(self) -> int:
        """The bits of a register that holds it."""
        return self.bits * self.lanes

    @property
    def bytes(self) -> int:
        """The bytes that it takes in memory."""
        return self.bits * self.lanes // 8


def _float(f: Format, bits: int, *lanes: int) -> list[Type]:
    return [Type(f.name + (f"x{n}" if n > 1 else ""), "float", bits, n, f) for n in lanes]


_ALL = [
    *(Type(f"u{b}", "uint", b) for b in (8, 16, 32, 64)),
    *(Type(f"s{b}", "int", b) for b in (8, 16, 32, 64)),
    *(Type(f"b{b}", "bits", b) for b in (1, 8, 16, 32, 64, 128, 1024)),
    Type("pred", "pred", 1),
    Type("u16x2", "uint", 16, 2),
    Type("s16x2", "int", 16, 2),
    Type("s4", "int", 4),
    Type("u4", "uint", 4),
    *_float(formats.F64, 64, 1),
    *_float(formats.F32, 32, 1, 2),
    *_float(formats.F16, 16, 1, 2),
    *_float(formats.BF16, 16, 1, 2),
    *_float(formats.TF32, 32, 1),
    *_float(formats.E4M3, 8, 1, 2),
    *_float(formats.E5M2, 8, 1, 2),
    *_float(formats.E3M2, 8, 1, 2),
    *_float(formats.E2M3, 8, 1, 2),
    *_float(formats.E2M1, 4, 1, 2),
    *_float(formats.UE8M0, 8, 1, 2),
    *_float(formats.UE4M3, 8, 1),
]
TYPES: dict[str, Type] = {t.name: t for t in _ALL}


def types(names: str) -> frozenset[Type]:
    """The types of a list of names: `types("s32 u32")`."""
    return frozenset(TYPES[name] for name in names.split())


PRED = TYPES["pred"]
U32, U64, S32, B32 = TYPES["u32"], TYPES["u64"], TYPES["s32"], TYPES["b32"]
INTEGERS = types("u16 u32 u64 s16 s32 s64")
BITS = types("b16 b32 b64")
FLOATS = types("f32 f64")
HALVES = types("f16 f16x2 bf16 bf16x2")
STORED = types("b8 b16 b32 b64 u8 u16 u32 u64 s8 s16 s32 s64 f32 f64 f16 bf16 f16x2 bf16x2")
