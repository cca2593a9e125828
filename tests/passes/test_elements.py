"""Codes decoded by arithmetic: every code of every type, in the interpreter."""

import numpy as np
import pytest

from tilec.ir.bits import from_raw
from tilec.ir.codes import CODES
from tilec.ir.core import Block, Builder, Func, Value
from tilec.ir.dtype import DType, e4m3, e5m2, f32, integer, u8
from tilec.ir.extent import Sym
from tilec.ir.format import Dense
from tilec.ir.interpret import interpret
from tilec.ir.ops import control, memory
from tilec.ir.types import Memory, Span
from tilec.ir.verify import verify
from tilec.passes import elements
from tilec.passes.reader import Reader

INTEGERS = [integer(bits, signed) for bits in range(1, 9) for signed in (False, True)]
TABLES = [t for name, t in CODES.items() if name != "e8m0"]


def decoding(t: DType) -> tuple[Func, int]:
    """A kernel that decodes every code of a type, and the ops that it takes for that."""
    count, size = 1 << t.bits, Sym("n")
    codes, y = (Value(Memory((count,), Dense(d)), n) for d, n in ((u8, "codes"), (f32, "y")))
    span, b = Value(Span(count, size)), Builder()
    r = Reader(b, {"codes": codes}, (span,), (size,))
    value = elements.value(t, r.here("codes"), r)
    used = sum(op.name not in ("load", "full") for op in b.ops)
    b.add(memory.Store(y, (span,), value))
    grid = control.Grid((count,), (size,), (None,), Block((span,), tuple(b.ops)))
    return Func("decode", Block((codes, y), (grid,))), used


@pytest.mark.parametrize("t", [*INTEGERS, *TABLES, e4m3, e5m2], ids=str)
def test_every_code(t):
    """Equal to the table to the bit, NaN where that has NaN."""
    func, used = decoding(t)
    verify(func)
    codes = np.arange(1 << t.bits)
    y = np.full(codes.shape, 77.0)
    interpret(func, {"codes": codes, "y": y}, {})
    want = from_raw(t, codes).astype(float)
    np.testing.assert_array_equal(y, want)
    number = ~np.isnan(want)
    np.testing.assert_array_equal(np.signbit(y)[number], np.signbit(want)[number])
    assert used <= 32, used


@pytest.mark.parametrize("name", ["e2m1", "e3m2", "e4m3_fnuz", "e3m4_ieee", "e7m0"])
def test_fields_of_floats(name):
    """One product after the bits are in place, and at most four runs of codes put right."""
    fields = elements.fields_of(CODES[name])
    assert fields is not None
    assert np.log2(fields.scale) % 1 == 0
    runs = {"e4m3_fnuz": 1, "e3m4_ieee": 4}.get(name, 0)
    assert len(fields.ranges) == runs
    assert elements.fields_of(CODES["nf4"]) is None
