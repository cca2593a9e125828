"""The table of atoms: every row is whole, and vector units compute what their layouts say."""

import numpy as np
import pytest

from tilec.ir.errors import TileError
from tilec.ir.layout.atoms import BITS, GPUS, Atom, atom, atoms, fragment
from tilec.ir.layout.fragments import mma_c

VECTOR = [a for a in atoms().values() if not a.instruction.startswith(("mma", "wgmma"))]


def test_rows():
    assert len([a for a in atoms().values() if a.instruction.startswith("mma")]) == 44
    assert len([a for a in atoms().values() if a.instruction == "wgmma"]) == 5 * 32 + 3 * 18
    assert len([a for a in atoms().values() if a.instruction == "wgmma.sp"]) == 5 * 32 + 2 * 18
    for name, row in atoms().items():
        assert row.name == name
        assert {row.a_type, *row.b_types, *row.c_types} <= set(BITS)
        assert set(row.native) <= set(GPUS) or row in VECTOR
        assert {x.threads for x in (row.a, row.b, row.c, row.metadata) if x} == {row.threads}
        assert (row.b is None) == ("register" not in row.b_in)
        assert row.sparse == (".sp" in name)


def test_rows_by_hand():
    row = atom("mma.m16n8k16.bf16")
    assert (row.m, row.n, row.k, row.a_type, row.c_types) == (16, 8, 16, "bf16", ("f32",))
    assert (row.first, row.native, row.threads) == ("sm_80", GPUS, 32)
    assert atom("mma.m16n8k32.e4m3").native == ("sm_89", "sm_120a")
    assert atom("mma.m16n8k64.i4").native == ("sm_80", "sm_89")
    assert atom("mma.m16n8k256.u1").native == ("sm_80", "sm_89", "sm_90a")
    assert atom("mma.xor.m16n8k256.u1").native == ("sm_80", "sm_89")
    assert atom("mma.m16n8k32.i8").b_types == ("i8", "u8")
    assert atom("wgmma.m64n256k16.f16").a_in == ("shared", "register")
    assert fragment("mma.m16n8k16.bf16.C") == mma_c(16)
    assert fragment("mma.sp.m16n8k64.i8.E").shape == (16, 32)
    assert "wgmma.m64n40k16.f16" in atoms()
    assert "wgmma.m64n40k32.i8" not in atoms()


@pytest.mark.parametrize("row", VECTOR, ids=lambda a: f"{a.name}-{a.first}")
def test_lanes_of_a_vector_multiply_what_they_hold(row: Atom):
    """Each lane adds the products of its own elements of A and B to its own of C."""
    assert row.b is not None
    rng = np.random.default_rng(row.n + row.k)
    a, b = rng.integers(-9, 9, (row.m, row.k)), rng.integers(-9, 9, (row.k, row.n))
    c = rng.integers(-9, 9, (row.m, row.n))
    lanes = c[row.c.table()][:, 0] + (a[row.a.table()] * b[row.b.table()]).sum(1)
    found = np.zeros_like(c)
    found[row.c.table()] = lanes[:, None]
    assert (found == c + a @ b).all()
    bits = {BITS[row.a_type] * row.k, BITS[row.b_types[0]] * row.k, BITS[row.c_types[0]]}
    assert len(bits) == 1, "a lane is as wide for each operand"
    assert row.n * bits.pop() in (256, 512)


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("mma.m16n8k16.bf17.A", "no atom is called 'mma.m16n8k16.bf17'", "mma.m16n8k16.bf16"),
        ("mma.m16n8k16.bf16.D", "has operands A, B, C and E", ""),
        ("mma.m16n8k16.bf16.E", "has no E in registers", ""),
        ("wgmma.m64n8k16.f16.B", "has no B in registers", ""),
        ("xyz.A", "no atom is called 'xyz'", "one is called 'mma.m16n8k16.bf16'"),
    ],
)
def test_errors(name, message, hint):
    with pytest.raises(TileError, match=message) as e:
        fragment(name)
    assert hint in e.value.hint
