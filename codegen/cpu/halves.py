"""Floats of few bits by way of f16, which processors convert.

Raised bits of a number below the least normal one are no normal f32, and arithmetic on those takes
a processor a hundred cycles and more. Their conversion from f16 does not.
"""

from __future__ import annotations

from tilec.codegen.cpu.llvm import Function, V, constant

EXPONENT, MANTISSA, SIGN, BIAS = 5, 10, 15, 15  # of f16


def fits(f: Function, exponents: int, mantissa: int) -> bool:
    """Whether a processor converts f16, and floats of so many bits are such, times a power of
    two."""
    return "f16c" in f.features and exponents <= EXPONENT and mantissa <= MANTISSA


def word(f: Function, bits: V, mantissa: int, top: int | None) -> V:
    """An f16 as i16: the bits of an exponent and a mantissa where they belong, and the sign, which
    is bit `top` of an i32 and the highest that counts, if there is one.

    Bits above these are dropped where the sign is the bit next to the five of the exponent.
    """
    n, up, narrow = bits.lanes, MANTISSA - mantissa, f.convert("trunc", bits, "i16")
    moved = f.binary("shl", narrow, constant("i16", up, n)) if up else narrow
    if top is None or top + up == SIGN:
        return moved
    body = f.binary("and", moved, constant("i16", (1 << top) - 1 << up, n))
    sign = f.binary("shl", narrow, constant("i16", SIGN - top, n))
    return f.binary("or", body, f.binary("and", sign, constant("i16", -(1 << SIGN), n)))


def value(f: Function, word: V, scale: float) -> V:
    """What an f16 stands for as a float, times a power of two."""
    found = f.convert("fpext", f.convert("bitcast", word, "half"), "float")
    return found if scale == 1.0 else f.binary("fmul", found, constant("float", scale, word.lanes))
