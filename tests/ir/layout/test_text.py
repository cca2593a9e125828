"""Layouts as text: what reads, and where it does not."""

import pytest

from tilec.ir.errors import TileError
from tilec.ir.layout.atoms import atoms
from tilec.ir.layout.digits import Digit
from tilec.ir.layout.fragments import matrices, mma_a, mma_c, mma_metadata
from tilec.ir.layout.memory import MemoryLayout
from tilec.ir.layout.register import RegisterLayout, local, replicated, spatial
from tilec.ir.layout.shared import SharedLayout, Swizzle
from tilec.ir.layout.text import parse


@pytest.mark.parametrize(
    ("text", "layout"),
    [
        ("spatial(8, 4).local(1,2)", spatial(8, 4).local(1, 2)),
        ("local(2, 1) * spatial(8, 4) * local(1, 2)", mma_c(16)),
        ("replicated(4)", replicated(4)),
        ("spatial(8).replicated(4).reduce(0)", replicated(32)),
        ("spatial(2, 4).transpose()", spatial(2, 4).permute(1, 0)),
        ("spatial(2, 4).permute(1, 0).reshape(8)", spatial(2, 4).transpose().reshape(8)),
        ("mma.m16n8k16.bf16.A", mma_a(16, 16, 16)),
        ("local(2, 2) * mma.m16n8k16.bf16.A.local(1, 3)", local(2, 2) * mma_a(16, 16, 16)
            .local(1, 3)),
        ("mma.sp.m16n8k64.i8.E", mma_metadata(8, 64)),
        ("ldmatrix.x4.trans", matrices(4, True)),
        ("stmatrix.x2", matrices(2)),
        ("register((6), (2:1@0), (3:2@0))",
         RegisterLayout((6,), (Digit(2, 0, 1),), (Digit(3, 0, 2),))),
        ("register((), (5), ())", replicated(5)),
        ("8:1", MemoryLayout(8, 1)),
        ("(8):(1)", MemoryLayout((8,), (1,))),
        ("(4, (2,3)) : (2,(1,-8))", MemoryLayout((4, (2, 3)), (2, (1, -8)))),
        ("shared(4, (4,8):(8,1))", SharedLayout(MemoryLayout((4, 8), (8, 1)), 4)),
        ("shared(8, 256:1, swizzle(3, 4, -3))",
         SharedLayout(MemoryLayout(256, 1), 8, Swizzle(3, 4, -3))),
    ],
)  # fmt: skip
def test_what_reads(text, layout):
    assert parse(text) == layout
    assert parse(str(layout)) == layout


def test_every_fragment_reads_back():
    layouts = {x for a in atoms().values() for x in (a.a, a.b, a.c, a.metadata) if x}
    assert len(layouts) > 60
    for layout in layouts:
        assert parse(str(layout)) == layout
        assert parse(layout.explicit) == layout


@pytest.mark.parametrize(
    ("text", "message", "column"),
    [
        ("", "expected a number, not 'the end'", 0),
        ("spatial(8", "expected ',', not 'the end'", 9),
        ("spatial(8, x)", "expected a number, not 'x'", 11),
        ("spatial(8) 3", "expected the end, not '3'", 11),
        ("spatial(8)?", "expected the end, not '?'", 10),
        ("spatial(8).turn(1)", "has no 'turn'; register layouts have spatial, local", 11),
        ("8:1.local(2)", "8:1 has no 'local'", 4),
        ("8:1 * spatial(2)", "only register layouts have products", 4),
        ("spatial(2) * 8:1", "only register layouts have products", 11),
        ("foo", "no layout is called 'foo'", 0),
        ("local(2) * mma.m16n8k16.bf17.A", "no atom is called 'mma.m16n8k16.bf17'", 11),
        ("ldmatrix.x3", "no atom is called 'ldmatrix'", 0),
        ("spatial(8).reduce(0, 1)", "reduce takes 1 number, not 2", 17),
        ("replicated()", "replicated takes 1 number, not 0", 10),
        ("shared(16, (2,2):(2,1), swizzle(3))", "swizzle takes 3 numbers, not 1", 31),
        ("spatial(8) * spatial(2, 2)", "has rank 1", 0),
        ("(8,2):1", "are not nested alike", 0),
        ("register((6), (2:1@0), (2:2@0))", "count to 4, its extent is 6", 0),
    ],
)
def test_errors_say_where(text, message, column):
    with pytest.raises(TileError) as e:
        parse(text)
    assert message in e.value.message
    assert e.value.loc is not None
    assert (e.value.loc.column, e.value.loc.text) == (column, text)
