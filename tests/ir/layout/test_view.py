"""Views: legal exactly where the bits say so, by enumeration of every bit."""

import itertools

import numpy as np
import pytest
from layouts import every_register_layout

from tilec.ir.errors import TileError
from tilec.ir.layout.fragments import mma_b
from tilec.ir.layout.register import RegisterLayout, local, replicated, spatial
from tilec.ir.layout.view import check_view, view

WIDTHS = [(8, 4), (4, 8), (8, 16), (16, 8), (8, 6), (6, 8), (8, 3), (2, 8), (4, 6), (8, 8)]


def held_bits(layout: RegisterLayout, bits: int, axis: int) -> np.ndarray:
    """[threads, bits of a thread]: the line and the place in it of each bit, as one number."""
    table = list(layout.table())
    place = table[axis][..., None] * bits + np.arange(bits)
    table[axis] = np.zeros_like(table[axis])
    lines = [1 if a == axis else n for a, n in enumerate(layout.shape)]
    line = np.ravel_multi_index(table, lines)[..., None]
    return (line * layout.shape[axis] * bits + place).reshape(layout.threads, -1)


def whole(string: np.ndarray, bits: int) -> bool:
    """Whether every `bits` bits of a thread are one element of a line, in order."""
    if string.shape[1] % bits:
        return False
    fields = string.reshape(len(string), -1, bits)
    return not (fields[..., 0] % bits).any() and (np.diff(fields) == 1).all()


@pytest.mark.parametrize(("bits", "to_bits"), WIDTHS)
def test_a_view_is_found_exactly_where_elements_stay_whole(bits, to_bits):
    verdicts: set[bool] = set()
    for shape, copies in [((12,), 1), ((8,), 2), ((2, 6), 1), ((4, 2), 1), ((16,), 1)]:
        for axis in range(len(shape)):
            for layout in set(every_register_layout(shape, copies)):
                string = held_bits(layout, bits, axis)
                legal = shape[axis] * bits % to_bits == 0 and whole(string, to_bits)
                verdicts.add(legal)
                try:
                    result = view(layout, bits, to_bits, axis)
                except TileError:
                    assert not legal, (layout, axis)
                else:
                    assert legal, (layout, axis)
                    assert (held_bits(result, to_bits, axis) == string).all()
                    check_view(layout, bits, result, to_bits)
                    assert view(result, to_bits, bits, axis) == layout
    assert verdicts == ({True} if bits % to_bits == 0 else {True, False})


def test_registers_are_a_tile_exactly_where_copies_agree():
    """Every pair of small layouts: element of the result = the same bits in each of its threads."""
    sources = [*every_register_layout((4,), 2), *every_register_layout((4, 2)),
               *every_register_layout((2,), 2), local(4).replicated(4)]  # fmt: skip
    results = [*every_register_layout((4,), 2), *every_register_layout((8,)),
               *every_register_layout((8,), 2), *every_register_layout((2, 2), 4)]  # fmt: skip
    verdicts: list[bool] = []
    for (a, b), (p, q) in itertools.product(itertools.product(sources, results), [(8, 8), (8, 4)]):
        verdicts.append(_agrees(a, p, b, q))
        try:
            check_view(a, p, b, q)
        except TileError:
            assert not verdicts[-1]
        else:
            assert verdicts[-1]
    assert 0 < sum(verdicts) < len(verdicts)


def _agrees(a: RegisterLayout, p: int, b: RegisterLayout, q: int) -> bool:
    if a.threads != b.threads or a.locals * p != b.locals * q:
        return False
    numbers = np.ravel_multi_index(a.table(), a.shape)
    tags = (numbers[..., None] * p + np.arange(p)).reshape(a.threads, b.locals, q)
    values: dict[int, list[int]] = {}
    elements = np.ravel_multi_index(b.table(), b.shape)
    pairs = zip(elements.ravel(), tags.reshape(-1, q), strict=True)
    return all(values.setdefault(int(e), t.tolist()) == t.tolist() for e, t in pairs)


def test_packed_weights_are_an_operand():
    """Bytes of a thread are the int4 B operand of four k16 steps, without an instruction."""
    int4 = local(4, 1) * mma_b(16, 16)
    for n in (1, 2, 4, 8):
        packed = local(8 // n).spatial(32).local(n)
        check_view(packed, 8, int4, 4)
    check_view(local(6).spatial(32).local(1), 8, local(2, 1) * mma_b(16, 16).local(2, 1), 3)
    assert view(spatial(8, 4).local(1, 4), 8, 4) == spatial(8, 4).local(1, 8)
    assert view(local(3).spatial(32), 4, 2).shape == (192,)


@pytest.mark.parametrize(
    ("a", "b", "q", "message"),
    [
        (spatial(32), spatial(16), 8, "has 32 threads"),
        (spatial(32), spatial(32), 4, r"holds 8 bits \(1 elements of 8\), not 4 \(1 of 4\)"),
        (local(3).spatial(32), local(2).spatial(32), 16, "holds 24 bits"),
        (spatial(32), spatial(16).replicated(2), 8, "threads 0 and 1 hold the same elements"),
    ],
)
def test_what_is_no_view(a, b, q, message):
    with pytest.raises(TileError, match=message):
        check_view(a, 8, b, q)


def test_what_has_no_view():
    with pytest.raises(
        TileError, match=r"elements of 8 bits need runs of 4 of 6 bits along axis 0"
    ):
        view(spatial(32).local(2), 6, 8)


def test_copies_may_be_told_apart_but_not_made():
    check_view(spatial(16).replicated(2), 8, spatial(32), 8)
    check_view(replicated(2).spatial(16), 8, replicated(2).spatial(16).local(2), 4)
    with pytest.raises(TileError, match="has no axis 1"):
        view(spatial(32), 8, 4, 1)
