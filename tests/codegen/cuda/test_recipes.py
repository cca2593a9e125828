"""Recipes: exact on every code, their parts as the instructions of a processor, few of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from tilec.codegen.cuda.gather import tiling
from tilec.codegen.cuda.recipes import Codes, Recipe, recipe
from tilec.codegen.cuda.words import lines
from tilec.cuda import emulator
from tilec.ir import words
from tilec.ir.bits import from_raw
from tilec.ir.codes import CODES, element
from tilec.ir.dtype import BY_NAME, DType, bf16, e4m3, f16, i8, u8
from tilec.ir.fragments import WORD

UNITS = 256  # each place has every code
INTEGERS = [f"{sign}{bits}" for sign in "iu" for bits in range(1, 9)]
FLOATS = ["e4m3", "e5m2", "e2m1", "e3m0", "e2m2", "e3m1", "e3m2", "e2m3", "e3m3", "e4m2"]
TABLES = ["ternary", "iq4", "fixed8", "sm2", "sm4", "sm8", "bipolar1", "bipolar3", "bipolar8"]
# Instructions for a register of two f16.
COSTS = {"i1": 2.1, "i2": 2.2, "i3": 3.4, "i4": 2.25, "i5": 3.7, "i6": 3.7, "i7": 4.6, "i8": 2.0,
         "e4m3": 1.5, "e5m2": 1.5, "e2m1": 2.75, "e3m2": 3.7, "e2m3": 3.7, "e2m2": 3.7,
         "iq4": 4.75, "ternary": 2.2, "sm4": 2.25, "bipolar3": 3.4}  # fmt: skip


def codes_of(name: str) -> Codes:
    t = element(name)
    assert t is not None
    values = from_raw(t, np.arange(1 << t.bits)).astype(float)
    return Codes(t.bits, tuple(map(float, values)), t.exponent, t.mantissa)


def found(name: str, to: DType, folded: bool = False) -> Recipe:
    how = recipe(codes_of(name), to, folded)
    assert how is not None, f"{name} as {to}"
    return how


def kernel(hows: Sequence[Recipe]) -> str:
    """A kernel that makes of `given` what recipes do, all of one and then all of the next."""
    functions = [f"""
static __attribute__((noinline)) void recipe_{n}(u32*& given, u32*& out) {{
  for (u32 u = 0; u < {UNITS}; u++) {{
    u32 from[{how.arrangement.words}], to[{len(how.registers)}];
    for (u32 i = 0; i < {how.arrangement.words}; i++) from[i] = load_global(given++);
    {" ".join(lines(how.registers))}
    for (u32 i = 0; i < {len(how.registers)}; i++) store_global(out++, to[i]);
  }}
}}
""" for n, how in enumerate(hows)]  # fmt: skip
    calls = " ".join(f"recipe_{n}(given, out);" for n in range(len(hows)))
    head = '#include "decode.cuh"\nusing namespace tilec;\n'
    return f"{head}{''.join(functions)}TILEC_KERNEL(1) kernel(u32* given, u32* out) {{ {calls} }}\n"


def emulated(hows: Sequence[Recipe], given: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Registers that the C++ of recipes makes of units of codes[UNITS, elements]."""
    packed = [how.arrangement.pack(x).reshape(-1) for how, x in zip(hows, given, strict=True)]
    sizes = [UNITS * len(how.registers) for how in hows]
    out = np.full(sum(sizes), 0xA5A5A5A5, np.uint32)
    arguments = {"given": np.concatenate(packed), "out": out}
    assert not emulator().run(kernel(hows), "kernel", (1,), (1,), arguments, 0).findings
    return [x.reshape(UNITS, -1) for x in np.split(out, np.cumsum(sizes)[:-1])]


def elements(registers: np.ndarray, to: DType, factor: float) -> np.ndarray:
    if to.bits == 16:
        values = words.pairs(to, registers)
    else:
        values = to.from_storage(np.ascontiguousarray(registers).view(to.numpy)).astype(float)
    return values.reshape(len(registers), -1) * factor


def test_every_code_by_the_printed_code():
    """All codes at all places, others at random beside them: in f16, in bf16 and in bytes."""
    rng, found_ = np.random.default_rng(0), list[tuple[str, DType, Recipe, np.ndarray]]()
    for name in INTEGERS + FLOATS + TABLES:
        for to, folded in ((f16, False), (f16, True), (bf16, False), (i8, False), (i8, True)):
            how = recipe(codes_of(name), to, folded)
            if any(x[2] == how for x in found_):
                continue
            if how is None:
                assert to == i8, f"{name} as {to}"
                assert name == "u8" or name not in INTEGERS, f"{name} as {to}"
                continue
            count = 1 << codes_of(name).bits
            column = np.arange(UNITS) % count
            given = np.stack([rng.permuted(column) for _ in how.arrangement.places], 1)
            found_.append((name, to, how, given.astype(np.uint32)))
    assert len(found_) > 3 * len(INTEGERS)
    registers = emulated([x[2] for x in found_], [x[3] for x in found_])
    for (name, to, how, given), out in zip(found_, registers, strict=True):
        with np.errstate(invalid="ignore"):
            values = elements(out, to, how.factor)
        want = np.array(codes_of(name).values)[given]
        assert np.array_equal(values, want, equal_nan=True), f"{name} as {to}"


@pytest.mark.parametrize("name", COSTS)
def test_instructions(name):
    assert found(name, f16, True).cost <= COSTS[name]


@pytest.mark.parametrize("name", INTEGERS + FLOATS + TABLES)
def test_no_bit_is_lost_or_added(name):
    """Codes of n bits fill n words of 32 elements, or a part of that: every bit has a place."""
    how = found(name, f16)
    places = np.array(how.arrangement.places)
    assert sorted(places.reshape(-1)) == list(range(WORD * how.arrangement.words))


@pytest.mark.parametrize("name", ["i4", "e2m1", "u4"])
def test_bytes_of_floats_by_a_table(name):
    how, codes = found(name, e4m3), codes_of(name)
    given = np.random.default_rng(0).integers(0, 16, (UNITS, 8)).astype(np.uint32)
    (out,) = emulated([how], [given])
    assert np.array_equal(elements(out, e4m3, 1.0), np.array(codes.values)[given])


@pytest.mark.parametrize(("name", "to"), [("nf4", f16), ("fp4", bf16), ("e4m3_fnuz", f16),
                                          ("u8", i8), ("iq4", e4m3), ("e5m2", u8)])  # fmt: skip
def test_what_is_not_exact_has_no_recipe(name, to):
    assert recipe(codes_of(name), to, False) is None


def test_a_wrong_guess_is_not_taken():
    """Values that are a float's but for one code are not decoded as that float: of 4 bits they come
    out of tables, of 5 bits not at all."""
    right, wide = codes_of("e2m1"), codes_of("e2m2")
    values = (*right.values[:5], 2.5, *right.values[6:])
    table = recipe(Codes(4, values, 2, 1), f16, False)
    assert table is not None
    assert table.cost > found("e2m1", f16).cost
    others = (*wide.values[:5], 7.5, *wide.values[6:])
    assert recipe(Codes(5, others, 2, 2), f16, False) is None


@pytest.mark.parametrize("t", [f16, bf16], ids=str)
def test_any_floats_of_four_bits_come_out_of_tables(t):
    """`recipe` tries every code at every place."""
    values = t.round(np.random.default_rng(4).standard_normal(16))
    assert recipe(Codes(4, tuple(map(float, values))), t, False) is not None


def test_factors_are_left_to_the_scale_only_if_they_may_be():
    assert found("e2m1", f16, True).factor == 2.0**14
    assert found("e2m1", f16).factor == found("e2m1", bf16, True).factor == 1
    assert found("i4", i8, True).factor == 1 / 16


def test_tiling():
    assert tiling((12, 15), 16, 8) is not None
    assert tiling((9, 10, 11, 15), 16, 4) is None
    turns = tiling((2, 4, 6, 8), 16, 4)
    assert turns is not None
    assert {(at + turn) % 16 for at in (2, 4, 6, 8) for turn in turns} == set(range(16))


def test_e4m3_by_bits_is_e4m3():
    """What sm_80 does instead of the instruction, for all pairs of codes."""
    text = """#include "decode.cuh"
using namespace tilec;
TILEC_KERNEL(1) kernel(u32* out) {
  for (u32 x = 0; x < 65536; x++) store_global(out + x, f16x2_of_bits_of_e4m3x2(x));
}
"""
    out = np.zeros(1 << 16, np.uint32)
    assert not emulator().run(text, "kernel", (1,), (1,), {"out": out}, 0).findings
    pairs = np.arange(1 << 16, dtype=np.uint16).view(np.uint8).reshape(-1, 2)
    want = BY_NAME["e4m3"].from_storage(pairs.view(e4m3.numpy))
    assert np.array_equal(words.pairs(f16, out), want, equal_nan=True)


def test_every_small_float_has_a_recipe_or_special_values():
    """All floats of 3 to 8 bits: those that are finite are exact in both 16-bit floats."""
    for name, t in CODES.items():
        if not (t.exponent and t.bits == 1 + t.exponent + t.mantissa and t.bits > 2):
            continue
        codes = codes_of(name)
        if not np.isfinite(codes.values).all():
            continue
        for to in (f16, bf16):
            exact = np.array_equal(to.round(np.array(codes.values)), codes.values)
            assert (recipe(codes, to, False) is not None) == exact, f"{name} as {to}"
