"""The layouts of matrix products: warps over the result, fragments of one instruction in each."""

from __future__ import annotations

from dataclasses import dataclass

from tilec.ir.core import Value
from tilec.ir.dtype import DType, bf16, e4m3, e5m2, f16, i8, u8
from tilec.ir.laid import Laying, by_element
from tilec.ir.layout.atoms import Atom, atoms
from tilec.ir.layout.digits import Digit
from tilec.ir.layout.register import RegisterLayout, local, replicated, spatial
from tilec.ir.ops.control import Count, For
from tilec.ir.ops.reduce import Dot
from tilec.ir.ops.shape import Transpose
from tilec.ir.ops.sparse import SparseDot

WARP = 32


@dataclass(frozen=True)
class Tiling:
    """A product of tiles by an instruction of one warp: how its operands and its result lie.

    `rows` x `columns` warps share the result; warps beyond these do the same as the first ones.
    """

    atom: Atom
    a: RegisterLayout
    b: RegisterLayout
    c: RegisterLayout
    metadata: RegisterLayout | None = None  # of a sparse first operand


def common(a: DType, b: DType) -> DType | None:
    """The dtype in which matrix units multiply operands of these dtypes exactly, if any."""
    if {a, b} <= {i8, u8}:
        return a if a == b else i8
    if a == b and a in (f16, bf16):
        return a
    if a.is_float and b.is_float and {a, b} <= {f16, e4m3, e5m2}:
        return f16
    if a.is_float and b.is_float and {a, b} <= {bf16, e4m3, e5m2}:
        return bf16
    return None


def tiling(sizes: tuple[int, int, int], t: DType, threads: int) -> Tiling | None:
    """The tiling of an m x n x k product, or None where no instruction fits."""
    return _tiling("mma", sizes, t, threads)


def sparse_tiling(sizes: tuple[int, int, int], t: DType, threads: int) -> Tiling | None:
    """The same where of the first operand two of every four columns are stored."""
    return _tiling("mma.sp", sizes, t, threads)


def _tiling(instruction: str, sizes: tuple[int, int, int], t: DType, threads: int
            ) -> Tiling | None:  # fmt: skip
    m, n, k = sizes
    fits = [x for x in atoms().values() if x.instruction == instruction and x.m == 16
            and x.a_type == str(t) and m % x.m == n % x.n == k % x.k == 0]  # fmt: skip
    if not fits or threads % WARP:
        return None
    atom = max(fits, key=lambda x: x.k)
    warps = threads // WARP
    rows, columns = _shared(warps, m // atom.m, n // atom.n)
    copies = replicated(warps // (rows * columns))
    high, wide, deep = m // atom.m // rows, n // atom.n // columns, k // atom.k
    left = copies * spatial(rows, 1) * replicated(columns)
    return Tiling(
        atom,
        left * local(high, deep) * atom.a,
        copies * replicated(rows) * spatial(1, columns) * local(deep, wide) * _b(atom),
        copies * spatial(rows, columns) * local(high, wide) * atom.c,
        left * local(high, 1) * metadata(atom, deep) if atom.sparse else None,
    )


def metadata(atom: Atom, deep: int) -> RegisterLayout:
    """The places of so many steps of a sparse operand. Those of elements of 16 bits take half of
    the lanes, of which a selector says: two steps share a word."""
    found = atom.metadata
    assert found is not None
    shared = found.copies > 1 and deep % 2 == 0
    return local(1, deep // 2) * paired(found) if shared else local(1, deep) * found


def paired(found: RegisterLayout) -> RegisterLayout:
    """A layout of metadata whose copies hold what is for the next step."""
    rows, columns = found.shape
    across = tuple(Digit(d.size, 1, columns) if d.axis is None else d for d in found.thread_digits)
    return RegisterLayout((rows, columns * found.copies), across, found.local_digits)


def turned(v: Value, laying: Laying) -> RegisterLayout | None:
    """How the threads that hold a product hold its transpose `v`; None for any other tile."""
    op = laying.made.get(v)
    if not isinstance(op, Transpose) or not _multiplied(op.a, laying):
        return None
    layout = laying.of.get(op.a)
    return None if layout is None else layout.permute(*op.order)


def _multiplied(v: Value, laying: Laying) -> bool:
    """Whether a tile is a product, comes from a loop that may add up products, or is made of such
    element by element."""
    op = laying.made.get(v)
    if op is not None and by_element(op):
        return any(_multiplied(x, laying) for x in op.operands)
    return isinstance(op, Dot | SparseDot | For | Count)


def _shared(warps: int, high: int, wide: int) -> tuple[int, int]:
    """How many warps there are along each side of the result: those that read the least."""
    ways = [(r, c) for r in range(1, warps + 1) for c in range(1, warps // r + 1)
            if high % r == wide % c == 0 and warps % (r * c) == 0]  # fmt: skip
    return min(ways, key=lambda x: (-x[0] * x[1], 2 * high // x[0] + wide // x[1]))


def _b(atom: Atom) -> RegisterLayout:
    assert atom.b is not None
    return atom.b
