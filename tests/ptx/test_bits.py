"""Logic, shifts, fields and bytes, one bit or one byte at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from ptx.running import evaluate, integers, predicate

COUNT = 1200
BITS = {"b16": "uint16", "b32": "uint32", "b64": "uint64"}
NUMBERS = {"u32": "uint32", "s32": "int32", "u64": "uint64", "s64": "int64"}


def check(text: str, out: str, f: Callable[..., int], *inputs: np.ndarray) -> None:
    got = evaluate(text, out, **dict(zip("abce", inputs, strict=False)))
    want = [f(*row) for row in zip(*(a.tolist() for a in inputs), strict=True)]
    np.testing.assert_array_equal(got, np.array(want, object).astype(out))


@pytest.mark.parametrize("t", BITS)
def test_logic(t):
    a, b = integers(BITS[t], COUNT, 1), integers(BITS[t], COUNT, 2)
    for op, want in (("and", a & b), ("or", a | b), ("xor", a ^ b)):
        np.testing.assert_array_equal(evaluate(f"{op}.{t} %d, %a, %b;", BITS[t], a=a, b=b), want)
    np.testing.assert_array_equal(evaluate(f"not.{t} %d, %a;", BITS[t], a=a), ~a)
    np.testing.assert_array_equal(evaluate(f"cnot.{t} %d, %a;", BITS[t], a=a), a == 0)


def test_logic_of_predicates():
    a, b = (np.array(v, np.uint32) for v in ([0, 0, 1, 1], [0, 1, 0, 1]))
    text = "setp.ne.u32 %p, %a, 0; setp.ne.u32 %q, %b, 0; "
    for op, want in (("and", a & b), ("or", a | b), ("xor", a ^ b)):
        got = predicate(text + f"{op}.pred %p, %p, %q;", a=a, b=b)
        np.testing.assert_array_equal(got, want != 0)
    np.testing.assert_array_equal(predicate(text + "not.pred %p, %p;", a=a, b=b), a == 0)


def test_lop3_of_every_table():
    """The eight rows of the truth table are in the lowest eight bits of 0xF0, 0xCC and 0xAA."""
    a, b, c = (integers("uint32", 256, k) for k in range(3))
    for table in range(256):
        one = evaluate(f"lop3.b32 %d, 0xF0, 0xCC, 0xAA, {table};", "uint32", a=a[:1])
        assert int(one[0]) & 0xFF == table
    for table in (0x01, 0x1B, 0x6A, 0x96, 0xCA, 0xE8, 0xEA, 0xFE):
        want = np.zeros(256, np.uint64)
        for k in range(32):
            row = (a >> k & 1) * 4 + (b >> k & 1) * 2 + (c >> k & 1)
            want |= (np.uint64(table) >> row.astype(np.uint64) & np.uint64(1)) << np.uint64(k)
        got = evaluate(f"lop3.b32 %d, %a, %b, %c, {table};", "uint32", a=a, b=b, c=c)
        np.testing.assert_array_equal(got, want)


def test_lop3_with_a_predicate():
    a, b = integers("uint32", COUNT, 1), integers("uint32", COUNT, 2) & 1
    text = "setp.ne.u32 %q, %b, 0; lop3.{}.b32 %d|%p, %a, 3, 0, 0xC0, %q;"
    np.testing.assert_array_equal(predicate(text.format("or"), a=a, b=b), ((a & 3) != 0) | (b != 0))
    np.testing.assert_array_equal(
        predicate(text.format("and"), a=a, b=b), ((a & 3) != 0) & (b != 0)
    )


@pytest.mark.parametrize("t", ["u16", "s16", *NUMBERS])
def test_shifts_beyond_the_width(t):
    kind = {"u16": "uint16", "s16": "int16"}.get(t) or NUMBERS[t]
    bits = 8 * np.dtype(kind).itemsize
    a = integers(kind, COUNT, 1)
    by = np.arange(COUNT, dtype=np.uint32) % (bits + 5)
    by[::97] = 0xFFFFFFFF

    check(f"shr.{t} %d, %a, %b;", kind, lambda x, n: x >> n, a, by)
    unsigned = f"uint{bits}"
    mask = (1 << bits) - 1
    text = f"shl.b{bits} %d, %a, %b;"
    check(text, unsigned, lambda x, n: x << min(n, 64) & mask, a.view(unsigned), by)


@pytest.mark.parametrize("mode", ["clamp", "wrap"])
def test_funnel_shifts(mode):
    a, b, by = (integers("uint32", COUNT, k) for k in range(3))
    by[::2] %= 40

    def amount(n: int) -> int:
        return n & 31 if mode == "wrap" else min(n, 32)

    def left(x: int, y: int, n: int) -> int:
        return (y << 32 | x) << amount(n) >> 32 & 0xFFFFFFFF

    def right(x: int, y: int, n: int) -> int:
        return (y << 32 | x) >> amount(n) & 0xFFFFFFFF

    check(f"shf.l.{mode}.b32 %d, %a, %b, %c;", "uint32", left, a, b, by)
    check(f"shf.r.{mode}.b32 %d, %a, %b, %c;", "uint32", right, a, b, by)


def extracted(a: int, position: int, length: int, bits: int, signed: bool) -> int:
    """The definition of the ISA, bit by bit."""
    position, length = position & 0xFF, length & 0xFF
    last = min(position + length - 1, bits - 1)
    fill = a >> last & 1 if signed and length else 0
    d = 0
    for k in range(bits):
        inside = k < length and position + k < bits
        d |= (a >> (position + k) & 1 if inside else fill) << k
    return d


@pytest.mark.parametrize("t", NUMBERS)
def test_fields_are_extracted(t):
    unsigned = NUMBERS[t].replace("int", "uint") if t[0] == "s" else NUMBERS[t]
    bits = 8 * np.dtype(unsigned).itemsize
    rng = np.random.default_rng(3)
    a = integers(unsigned, COUNT, 1)
    position, length = (rng.integers(0, bits + 6, COUNT).astype(np.uint32) for _ in range(2))
    length[::31] = 255

    def f(x: int, p: int, n: int) -> int:
        return extracted(x, p, n, bits, t[0] == "s")

    check(f"bfe.{t} %d, %a, %b, %c;", unsigned, f, a, position, length)


@pytest.mark.parametrize("t", ["b32", "b64"])
def test_fields_are_inserted(t):
    bits = int(t[1:])
    rng = np.random.default_rng(4)
    a, b = integers(BITS[t], COUNT, 1), integers(BITS[t], COUNT, 2)
    position, length = (rng.integers(0, bits + 6, COUNT).astype(np.uint32) for _ in range(2))

    def f(x: int, y: int, p: int, n: int) -> int:
        mask = ((1 << n) - 1 << p) & ((1 << bits) - 1)
        return (y & ~mask) | (x << p & mask)

    check(f"bfi.{t} %d, %a, %b, %c, %e;", BITS[t], f, a, b, position, length)


def test_masks_and_extensions():
    rng = np.random.default_rng(5)
    a = integers("uint32", COUNT, 1)
    start, many = (rng.integers(0, 40, COUNT).astype(np.uint32) for _ in range(2))

    def clamped(p: int, n: int) -> int:
        return ((1 << min(n, 32)) - 1 << p & 0xFFFFFFFF) if p < 32 else 0

    check("bmsk.clamp.b32 %d, %a, %b;", "uint32", clamped, start, many)

    def wrapped(p: int, n: int) -> int:
        return clamped(p & 31, n & 31)

    check("bmsk.wrap.b32 %d, %a, %b;", "uint32", wrapped, start, many)

    def extended(x: int, n: int) -> int:
        x &= (1 << min(n, 32)) - 1
        return x - (1 << min(n, 32)) if n and x >> min(n, 32) - 1 & 1 else x

    check("szext.clamp.s32 %d, %a, %b;", "int32", extended, a, many)
    check("szext.clamp.u32 %d, %a, %b;", "uint32", lambda x, n: x & (1 << min(n, 32)) - 1, a, many)


@pytest.mark.parametrize("t", ["b32", "b64"])
def test_counting(t):
    bits = int(t[1:])
    a = integers(BITS[t], COUNT, 1) >> (np.arange(COUNT) % bits).astype(BITS[t])
    check(f"popc.{t} %d, %a;", "uint32", lambda x: x.bit_count(), a)
    check(f"clz.{t} %d, %a;", "uint32", lambda x: bits - x.bit_length(), a)
    check(f"brev.{t} %d, %a;", BITS[t], lambda x: int(f"{x:0{bits}b}"[::-1], 2), a)


@pytest.mark.parametrize("t", NUMBERS)
def test_the_highest_bit(t):
    bits = 8 * np.dtype(NUMBERS[t]).itemsize
    a = integers(NUMBERS[t], COUNT, 1) >> (np.arange(COUNT) % bits).astype(NUMBERS[t])

    def f(x: int) -> int:
        return ((x if x >= 0 else ~x).bit_length() - 1) & 0xFFFFFFFF

    check(f"bfind.{t} %d, %a;", "uint32", f, a)

    def shift(x: int) -> int:
        return bits - 1 - f(x) if f(x) < bits else 0xFFFFFFFF

    check(f"bfind.shiftamt.{t} %d, %a;", "uint32", shift, a)


def test_the_nth_bit():
    rng = np.random.default_rng(6)
    mask = integers("uint32", COUNT, 1)
    base = rng.integers(0, 32, COUNT).astype(np.uint32)
    n = rng.integers(-6, 7, COUNT).astype(np.int32)

    def f(m: int, b: int, k: int) -> int:
        ones = [j for j in range(32) if m >> j & 1]
        if k == 0:
            return b if b in ones else 0xFFFFFFFF
        way = [j for j in ones if j >= b] if k > 0 else [j for j in ones if j <= b][::-1]
        return way[abs(k) - 1] if len(way) >= abs(k) else 0xFFFFFFFF

    check("fns.b32 %d, %a, %b, %c;", "uint32", f, mask, base, n)


def test_permutations_of_every_pick():
    """Every byte and its sign, in every place."""
    a, b = integers("uint32", 65536, 1), integers("uint32", 65536, 2)
    picks = np.arange(65536, dtype=np.uint32)

    def f(x: int, y: int, c: int) -> int:
        both = (y << 32 | x).to_bytes(8, "little")
        out = [both[c >> 4 * k & 7] for k in range(4)]
        out = [(255 if v >> 7 else 0) if c >> 4 * k & 8 else v for k, v in enumerate(out)]
        return int.from_bytes(bytes(out), "little")

    check("prmt.b32 %d, %a, %b, %c;", "uint32", f, a, b, picks)


MODES = {  # bytes of the result, highest first, for picks 0 to 3 (PTX ISA, `prmt`)
    "f4e": ["3210", "4321", "5432", "6543"],
    "b4e": ["5670", "6701", "7012", "0123"],
    "rc8": ["0000", "1111", "2222", "3333"],
    "ecl": ["3210", "3211", "3222", "3333"],
    "ecr": ["0000", "1110", "2210", "3210"],
    "rc16": ["1010", "3232", "1010", "3232"],
}


@pytest.mark.parametrize("mode", MODES)
def test_permutation_modes(mode):
    a, b = integers("uint32", 64, 1), integers("uint32", 64, 2)
    picks = np.arange(64, dtype=np.uint32)

    def f(x: int, y: int, c: int) -> int:
        both = (y << 32 | x).to_bytes(8, "little")
        return int.from_bytes(bytes(both[int(k)] for k in MODES[mode][c & 3]), "big")

    check(f"prmt.b32.{mode} %d, %a, %b, %c;", "uint32", f, a, b, picks)
