"""Words in registers, as few instructions make them of others, and what these compute.

Back ends print them; recipes are tried here on every code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tilec.ir.dtype import Array, DType, bf16, e4m3, f16


@dataclass(frozen=True)
class Word:
    """One of those that are given."""

    index: int


@dataclass(frozen=True)
class Const:
    """A number."""

    bits: int


@dataclass(frozen=True)
class Call:
    """A function of FUNCTIONS."""

    name: str
    operands: tuple[Expr, ...]

    @property
    def takes(self) -> int:
        """How many instructions it is."""
        return 3 if self.name == "bf16x2_of_f16x2" else 1


Expr = Word | Const | Call


def call(name: str, *operands: Expr | int) -> Call:
    """A function of words and numbers."""
    return Call(name, tuple(Const(x) if isinstance(x, int) else x for x in operands))


def turned(x: Expr, by: int) -> Expr:
    """A word rotated to the right."""
    return call("rotated", x, by) if by else x


def masked(x: Expr, mask: int, onto: Expr | int = 0) -> Expr:
    """The bits of a word under a mask, beside those of another that has none there."""
    return call("and_or", x, mask, onto)


def halves(t: DType, op: str, *operands: Expr | float) -> Call:
    """Arithmetic on two 16-bit floats at once; numbers are rounded to their type."""
    found = [twice(t, x) if isinstance(x, float) else x for x in operands]
    return call(f"{op}_{t}x2", *found)


def twice(t: DType, x: float) -> int:
    """The bits of a number in a 16-bit float, twice in a word."""
    return int(_bits(t, np.array(x, np.float64))) * 0x10001


def calls(outputs: Sequence[Expr]) -> tuple[Call, ...]:
    """All calls that are needed, each once and after what it reads."""
    found: dict[Call, None] = {}

    def visit(x: Expr) -> None:
        if isinstance(x, Call) and x not in found:
            for operand in x.operands:
                visit(operand)
            found[x] = None

    for x in outputs:
        visit(x)
    return tuple(found)


def evaluate(outputs: Sequence[Expr], words: Array) -> Array:
    """What these are, [..., outputs], of words[..., index]."""
    known: dict[Expr, Array] = {}

    def value(x: Expr) -> Array:
        match x:
            case Word(index):
                return words[..., index]
            case Const(bits):
                return np.array(bits, np.uint32)
            case Call():
                return known[x]

    with np.errstate(all="ignore"):
        for x in calls(outputs):
            known[x] = FUNCTIONS[x.name](*map(value, x.operands))
        return np.stack([np.broadcast_to(value(x), words.shape[:-1]) for x in outputs], -1)


def pairs(t: DType, words: Array) -> Array:
    """The values of the two 16-bit floats of each word, on a last axis."""
    halves_ = np.stack([words & 0xFFFF, words >> np.uint32(16)], -1).astype(np.uint16)
    return t.from_storage(halves_.view(t.numpy))


def _bits(t: DType, x: Array) -> Array:
    return t.to_storage(t.round(x)).view(np.uint16).astype(np.uint32)


def _joined(halves_: Array) -> Array:
    return halves_[..., 0] | halves_[..., 1] << np.uint32(16)


def _arithmetic(t: DType, function: Callable[..., Array]) -> Callable[..., Array]:
    """On pairs of floats: exact in f64, but for sums of very different numbers."""

    def of(*operands: Array) -> Array:
        return _joined(_bits(t, function(*(pairs(t, np.asarray(x)) for x in operands))))

    return of


def _prmt(a: Array, b: Array, selector: Array) -> Array:
    both = [(x >> np.uint32(8 * i)) & np.uint32(0xFF) for x in (a, b) for i in range(4)]
    out = np.zeros((), np.uint32)
    for i in range(4):
        nibble = selector >> np.uint32(4 * i) & np.uint32(15)
        byte = np.choose(nibble & np.uint32(7), both)
        byte = np.where(nibble & np.uint32(8), byte // 128 * 255, byte)
        out = out | byte.astype(np.uint32) << np.uint32(8 * i)
    return out


def _e4m3(x: Array) -> Array:
    codes = np.stack([x & np.uint32(0xFF), x >> np.uint32(8) & np.uint32(0xFF)], -1)
    return _joined(_bits(f16, e4m3.from_storage(codes.astype(np.uint8).view(e4m3.numpy))))


def _upper_e4m3(x: Array) -> Array:
    return _e4m3(x >> np.uint32(16))


def _right(x: Array, by: Array) -> Array:
    return x >> by


def _left(x: Array, by: Array) -> Array:
    return x << by


def _plus(a: Array, b: Array) -> Array:
    return a + b


def _rotated(x: Array, by: Array) -> Array:
    return x >> by | x << (np.uint32(32) - by)


def _and_or(a: Array, b: Array, c: Array) -> Array:
    return a & b | c


def _and_xor(a: Array, b: Array, c: Array) -> Array:
    return a & b ^ c


def _chosen(mask: Array, a: Array, b: Array) -> Array:
    return mask & a | ~mask & b


def _sub(a: Array, b: Array) -> Array:
    return a - b


def _mul(a: Array, b: Array) -> Array:
    return a * b


def _fma(a: Array, b: Array, c: Array) -> Array:
    return a * b + c


def _bf16(x: Array) -> Array:
    return _joined(_bits(bf16, pairs(f16, x)))


FUNCTIONS: dict[str, Callable[..., Array]] = {
    "rotated": _rotated,
    "right": _right,
    "left": _left,
    "plus": _plus,
    "and_or": _and_or,
    "and_xor": _and_xor,
    "chosen": _chosen,
    "prmt": _prmt,
    "minus": _sub,
    "f16x2_of_e4m3x2": _e4m3,
    "f16x2_of_upper_e4m3x2": _upper_e4m3,
    "bf16x2_of_f16x2": _bf16,
    **{
        f"{name}_{t}x2": _arithmetic(t, function)
        for t in (f16, bf16)
        for name, function in (("sub", _sub), ("mul", _mul), ("fma", _fma))
    },
}
