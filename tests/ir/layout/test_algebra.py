"""The laws of the algebra of memory layouts, on random layouts of any radices."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from layouts import SIZES, compact_layouts, composable, memory_layouts

from tilec.ir.errors import TileError
from tilec.ir.layout.algebra import (
    coalesce,
    complement,
    compose,
    left_inverse,
    logical_divide,
    logical_product,
    right_inverse,
)
from tilec.ir.layout.memory import MemoryLayout, column_major, concatenated, flat
from tilec.ir.layout.text import parse

MANY = settings(max_examples=100, deadline=None)


def of(text: str) -> MemoryLayout:
    layout = parse(text)
    assert isinstance(layout, MemoryLayout)
    return layout


@MANY
@given(memory_layouts())
def test_coalesce_keeps_the_function(layout: MemoryLayout):
    short = coalesce(layout)
    assert short.offsets().tolist() == layout.offsets().tolist()
    assert len(short.modes) <= len(layout.modes)
    assert coalesce(short) == short
    for (n, d), (_, following) in zip(short.modes, short.modes[1:], strict=False):
        assert following != n * d


@MANY
@given(memory_layouts())
def test_coalesced_layouts_are_equal_exactly_where_functions_of_an_index_are(layout):
    """The fewest modes follow from the offsets alone."""
    offsets, modes = layout.offsets(), []
    while len(offsets) > 1:
        steps = offsets[1] * np.arange(len(offsets))
        n = int(np.argmin(offsets == steps)) or len(offsets)
        modes.append((n, int(offsets[1])))
        offsets = offsets[::n]
    assert coalesce(layout) == flat(modes)


@MANY
@given(composable())
def test_composition(pair):
    a, b = pair
    both = compose(a, b)
    assert both.offsets().tolist() == a(b.offsets()).tolist()
    assert isinstance(b.shape, int) or both.extents == b.extents


@settings(max_examples=200, deadline=None)
@given(memory_layouts(), memory_layouts(strides=6))
def test_a_composition_is_right_or_refused(a: MemoryLayout, b: MemoryLayout):
    assume(b.cosize <= a.size)
    wanted = a(b.offsets()).tolist()
    try:
        both = compose(a, b)
    except TileError:
        return
    assert both.offsets().tolist() == wanted
    if isinstance(b.shape, int):
        return
    assert both.extents == b.extents
    own = np.unravel_index(np.arange(b.size), b.extents, order="F")
    assert (both(*own) == wanted).all()


@MANY
@given(composable(3))
def test_composition_is_associative(layouts):
    a, b, c = layouts
    one, other = compose(compose(a, b), c), compose(a, compose(b, c))
    assert one.offsets().tolist() == other.offsets().tolist() == a(b(c.offsets())).tolist()


def test_compositions_by_hand():
    assert compose(of("(6,2):(8,2)"), of("(4,3):(3,1)")) == of("((2,2),3):((24,2),8)")
    assert compose(of("20:2"), of("(5,4):(4,1)")) == of("(5,4):(8,2)")
    assert compose(of("(10,2):(16,4)"), of("(5,4):(1,5)")) == of("(5,(2,2)):(16,(80,4))")


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ("(4,3):(1,100)", "3:6", "steps by 6 through a mode of"),
        ("(4,3):(1,100)", "5:2", "steps by 2 through a mode of .* of size 4, and on"),
        ("(5,20):(20,1)", "5:3", "steps by 3 through a mode"),
        ("(2,2):(1,10)", "(2,2):(1,1)", "counts to 2 in a mode of .* of size 2"),
        ("8:1", "9:1", "steps by 1 through a mode of 8:1 of size 8, and on"),
        ("8:1", "2:8", "which 8:1 lacks"),
        ("8:1", "(2,2):(4,4)", "counts to 8"),
        ("8:1", "2:-1", "below 0"),
    ],
)
def test_what_has_no_composition(a, b, message):
    with pytest.raises(TileError, match=message):
        compose(of(a), of(b))


@MANY
@given(compact_layouts(gaps=True), SIZES)
def test_complement(a: MemoryLayout, extra: int):
    size = a.cosize * extra
    rest = complement(a, size)
    both = concatenated(a, rest).offsets()
    assert both.size >= size
    assert sorted(both.tolist()) == list(range(both.size))
    assert (np.diff(rest.offsets()) > 0).all()


def test_complements_by_hand():
    assert complement(of("4:1"), 24) == of("6:4")
    assert complement(of("6:4"), 24) == of("4:1")
    assert complement(of("(4,6):(1,4)"), 24) == of("1:0")
    assert complement(of("4:2"), 24) == of("(2,3):(1,8)")
    assert complement(of("(2,4):(1,6)"), 24) == of("3:2")
    for text in ("4:0", "(2,2):(1,1)", "(2,2):(1,3)", "(3,2):(2,3)"):
        with pytest.raises(TileError, match="complement"):
            complement(of(text), 24)


@MANY
@given(compact_layouts(gaps=True))
def test_left_inverse(a: MemoryLayout):
    assert left_inverse(a)(a.offsets()).tolist() == list(range(a.size))


@MANY
@given(memory_layouts())
def test_right_inverse(a: MemoryLayout):
    back = right_inverse(a)
    assert a(back.offsets()).tolist() == list(range(back.size))


@MANY
@given(compact_layouts())
def test_a_compact_layout_has_one_inverse(a: MemoryLayout):
    assert right_inverse(a).size == a.size
    assert right_inverse(a) == coalesce(left_inverse(a))
    assert right_inverse(right_inverse(a)) == coalesce(a)


@MANY
@given(st.lists(SIZES, min_size=1, max_size=3), st.lists(SIZES, min_size=1, max_size=3), st.data())
def test_logical_divide(tiles: list[int], rests: list[int], data):
    """The first mode is the tile, the second says which; together all of it once."""
    n = min(len(tiles), len(rests))
    a = column_major(tuple(t * r for t, r in zip(tiles[:n], rests[:n], strict=True)))
    if data.draw(st.booleans()):
        a = flat(zip(a.extents, data.draw(st.permutations([1, 50, 2500]))[:n], strict=True))
    places = [1, *np.cumprod(a.extents).tolist()]
    tile = flat(zip(tiles[:n], places, strict=False))
    divided = logical_divide(a, tile)
    assert divided.rank == 2
    assert divided.mode(0).offsets().tolist() == a(tile.offsets()).tolist()
    assert sorted(divided.offsets().tolist()) == sorted(a.offsets().tolist())


@MANY
@given(compact_layouts(), compact_layouts())
def test_logical_product(a: MemoryLayout, b: MemoryLayout):
    both = logical_product(a, b)
    assert both.mode(0) == a
    assert both.mode(1).offsets().tolist() == (b.offsets() * a.size).tolist()
    assert sorted(both.offsets().tolist()) == list(range(a.size * b.size))


def test_products_by_hand():
    assert logical_product(of("(2,2):(4,1)"), of("6:1")) == of("((2,2),(2,3)):((4,1),(2,8))")
    assert logical_divide(of("(4,2,3):(2,1,8)"), of("4:2")) == of("((2,2),(2,3)):((4,1),(2,8))")
