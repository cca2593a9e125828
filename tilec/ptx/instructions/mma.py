"""Matrix multiplication by warps (PTX ISA, `mma`, `mma.sp`).

Products are exact, their sum and the accumulator are added in float64, and the result is rounded
once to the accumulator's type; of f64 each product and sum is rounded. How tensor cores order and
round their sums is not specified.
"""

from __future__ import annotations

import re
from functools import lru_cache

import numpy as np

from tilec.ir.errors import TileError
from tilec.ptx import fragments, sparse
from tilec.ptx.formats import Array, decode, encode
from tilec.ptx.instructions.floating import format_of
from tilec.ptx.instructions.integer import clipped
from tilec.ptx.registry import instruction
from tilec.ptx.step import Step
from tilec.ptx.types import S32, Type, types
from tilec.ptx.values import numbers, packed

WORD, LANES = 32, 32  # bits of most registers, threads of a warp
SHAPES = [f"m{m}n8k{k}" for m in (8, 16) for k in (4, 8, 16, 32, 64, 128, 256)]
OPTIONS = ("sync", "aligned", "row", "col", "satfinite", "and", "xor", "popc", *SHAPES)
FACTORS = types("f16 bf16 tf32 e4m3 e5m2 s8 u8 s4 u4 b1 f64")
SUMS = types("f16 f32 s32 f64")
ALL = (SUMS, FACTORS, FACTORS, SUMS)


@lru_cache(maxsize=64)
def shape(modifiers: frozenset[str]) -> tuple[int, int, int]:
    """Rows, columns and depth."""
    found = next(
        (m for m in map(re.compile(r"m(\d+)n(\d+)k(\d+)").fullmatch, modifiers) if m), None
    )
    if found is None:
        raise TileError("ptx: a matrix instruction names no shape")
    return int(found[1]), int(found[2]), int(found[3])


def fits(x: Step, n: int, words: Array, count: int) -> None:
    """Raise TileError unless an operand has as many registers as its shape needs."""
    if len(words) != count:
        raise TileError(
            f"ptx: {x.i.place}: {x.operand(n)} has {len(words)} registers, and the shape needs "
            f"{count}: {x.i.text}"
        )


@instruction("mma", OPTIONS, types=ALL, operands=4, sync="matrix")
def mma(x: Step) -> None:
    """d = a b + c."""
    rows, _, depth = shape(x.i.modifiers)
    _, a_type, b_type, _ = x.i.types
    width = max(WORD, a_type.bits)
    a_words, b_words = x.rows(1, width), x.rows(2, width)
    fits(x, 1, a_words, rows * depth * a_type.bits // (width * LANES))
    fits(x, 2, b_words, 8 * depth * b_type.bits // (width * LANES))
    a = fragments.left(a_words, a_type, rows)
    b = fragments.right(b_words, b_type)
    accumulate(x, multiplied(x, a, b), rows)


@instruction("mma.sp mma.sp::ordered_metadata", OPTIONS, types=ALL, operands=6, sync="matrix")
def mma_sparse(x: Step) -> None:
    """d = a b + c, where half of every chunk of a is stored."""
    rows, _, depth = shape(x.i.modifiers)
    a_words, b_words = x.rows(1, 32), x.rows(2, 32)
    _, a_type, b_type, _ = x.i.types
    fits(x, 1, a_words, rows * depth * a_type.bits // 2048)
    fits(x, 2, b_words, 8 * depth * b_type.bits // 1024)
    stored = fragments.left(a_words, a_type, rows)
    code = sparse.codes(x.row(4, 32).reshape(-1, 32), a_type, depth, x.constant(5))
    check_metadata(x, code, a_type, x.i.name.endswith("ordered_metadata"))
    a = sparse.spread(stored, code, a_type)
    accumulate(x, multiplied(x, a, fragments.right(b_words, b_type)), rows)


def check_metadata(x: Step, code: Array, t: Type, ordered: bool) -> None:
    """Report metadata without a meaning."""
    bad = sparse.broken(code, t, ordered)
    if bad.any():
        _, row, chunk = (int(k[0]) for k in np.nonzero(bad))
        value = int(code[bad][0])
        message = f"the metadata {value:#06b} of row {row}, chunk {chunk} has no meaning"
        x.m.findings.add("descriptor", x.i, message, count=int(bad.sum()))


def multiplied(x: Step, a: Array, b: Array) -> Array:
    """a times the turned b, exact to float64; of single bits, the ones of `and` or of `xor`."""
    product = np.matmul(a, b.transpose(0, 2, 1))
    if "xor" in x.i.modifiers:
        ones = a.sum(axis=2)[:, :, None] + b.sum(axis=2)[:, None, :]
        return ones - 2 * product
    return product


def accumulate(x: Step, product: Array, rows: int) -> None:
    """d = c + product, rounded once; integers wrap unless they saturate."""
    to, c_type = x.i.types[0], x.i.types[3]
    added = fragments.numbers_of(product)
    width = max(WORD, c_type.bits)
    words = x.rows(3, width)
    fits(x, 3, words, len(added) * c_type.bits // width)
    if to is S32:
        total = words.view(np.int32).astype(np.int64) + added.astype(np.int64)
        if "satfinite" in x.i.modifiers:
            total = clipped(total, S32)
        results = total.astype(np.uint32)
    else:
        c = unpacked(words, c_type)
        results = repacked(encode(c + added, format_of(to)), to)
    outs = x.parts(0)
    fits(x, 0, np.empty(len(outs)), len(results))
    for o, d in zip(outs, results, strict=True):
        o.put(x.t, d)


def unpacked(words: Array, t: Type) -> Array:
    """Registers of accumulators as float64: numbers x threads. Halves lie in pairs."""
    if t.bits >= WORD:
        return decode(words, format_of(t)).astype(np.float64)
    pairs = np.ascontiguousarray(words).view(np.uint16).reshape(*words.shape, 2)
    return numbers(pairs, t).astype(np.float64).transpose(0, 2, 1).reshape(-1, words.shape[1])


def repacked(codes: Array, t: Type) -> Array:
    """Codes of accumulators as registers x threads."""
    if t.bits >= WORD:
        return codes
    pairs = codes.reshape(-1, 2, codes.shape[1]).transpose(0, 2, 1)
    flat = np.ascontiguousarray(pairs).reshape(-1, 2)
    return packed(flat, Type("", "bits", 16, 2)).reshape(-1, codes.shape[1])
