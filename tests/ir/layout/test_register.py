"""Register layouts: digits, products and quotients, other shapes, equality."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import chains, every_register_layout, function, register_layouts

from tilec.ir.errors import TileError
from tilec.ir.layout.digits import Digit
from tilec.ir.layout.register import RegisterLayout, local, replicated, spatial
from tilec.ir.layout.text import parse

MANY = settings(max_examples=100, deadline=None)
MMA_C = local(2, 1).spatial(8, 4).local(1, 2)


def test_a_layout_by_hand():
    assert (MMA_C.shape, MMA_C.threads, MMA_C.locals, MMA_C.copies) == ((16, 8), 32, 4, 1)
    assert [x.tolist() for x in MMA_C.element(np.array([5, 5, 31]), np.array([0, 3, 2]))] == [
        [1, 9, 15],
        [2, 3, 6],
    ]
    threads, locals_ = MMA_C.holders(np.array([9, 0]), np.array([3, 1]))
    assert (threads.tolist(), locals_.tolist()) == ([[5], [0]], [3, 1])
    assert MMA_C.bits_per_thread(32) == 128
    assert str(MMA_C) == "local(2, 1).spatial(8, 4).local(1, 2)"
    shared = replicated(2).spatial(3).replicated(2)
    assert shared.holders(1)[0].tolist() == [2, 3, 8, 9]
    assert (shared.threads, shared.copies, shared.locals) == (12, 4, 1)


@MANY
@given(register_layouts())
def test_every_element_is_held_once_by_each_copy(layout: RegisterLayout):
    table = layout.table()
    numbers = np.ravel_multi_index(table, layout.shape)
    held, times = np.unique(numbers, return_counts=True)
    assert held.tolist() == list(range(np.prod(layout.shape)))
    assert set(times) == {layout.copies}
    threads, locals_ = layout.holders(*table)
    assert threads.shape == (layout.threads, layout.locals, layout.copies)
    assert (threads == np.arange(layout.threads)[:, None, None]).any(-1).all()
    assert (np.diff(threads, axis=-1) > 0).all()
    assert (locals_ == np.arange(layout.locals)).all()
    for c in range(layout.copies):
        assert all(
            (a == b).all()
            for a, b in zip(layout.element(threads[..., c], locals_), table, strict=True)
        )


@MANY
@given(register_layouts(2, 3), register_layouts(2, 3))
def test_product(outer: RegisterLayout, inner: RegisterLayout):
    both = outer * inner
    t, i = np.arange(both.threads)[:, None], np.arange(both.locals)
    high = outer.element(t // inner.threads, i // inner.locals)
    low = inner.element(t % inner.threads, i % inner.locals)
    for c, h, lo, n in zip(both.table(), high, low, inner.shape, strict=True):
        assert (c == h * n + lo).all()
    assert both / inner == outer
    assert both.left_divide(outer) == inner


@MANY
@given(*[register_layouts(2, 2)] * 3)
def test_products_are_associative(a: RegisterLayout, b: RegisterLayout, c: RegisterLayout):
    assert (a * b) * c == a * (b * c)
    assert local(1, 1) * a == a == a * local(1, 1)
    assert a * replicated(3) == a.replicated(3)
    assert (a * replicated(3)) / replicated(3) == a


@settings(max_examples=250, deadline=None)
@given(register_layouts(1, 4), register_layouts(1, 2), st.booleans())
def test_a_quotient_is_found_exactly_where_there_is_one(a, b, left):
    t, i = np.arange(a.threads)[:, None], np.arange(a.locals)
    exists = not (a.shape[0] % b.shape[0] or a.threads % b.threads or a.locals % b.locals)
    if exists:
        threads, locals_ = a.threads // b.threads, a.locals // b.locals
        if left:
            rest = a.table()[0] - b.element(t // threads, i // locals_)[0] * (
                a.shape[0] // b.shape[0]
            )
            exists = (rest == rest[t % threads, i % locals_]).all() and rest.min() >= 0
        else:
            rest = a.table()[0] - b.element(t % b.threads, i % b.locals)[0]
            first = rest[t // b.threads * b.threads, i // b.locals * b.locals]
            exists = (rest == first).all() and not (rest % b.shape[0]).any()
    if exists:
        quotient = a.left_divide(b) if left else a / b
        assert (b * quotient if left else quotient * b) == a
    else:
        with pytest.raises(TileError, match=r"is no .* of tiles|is no product with"):
            assert a.left_divide(b) if left else a / b


def test_no_quotient():
    for inner in (spatial(4, 8), local(2, 2), spatial(3, 1)):
        with pytest.raises(TileError, match=r"is no (layout of tiles of|product with)"):
            assert MMA_C / inner
    with pytest.raises(TileError, match=r"is no local\(1, 2\) of tiles"):
        MMA_C.left_divide(local(1, 2))
    assert MMA_C / local(1, 2) == local(2, 1).spatial(8, 4)
    assert MMA_C.left_divide(local(2, 1)) == spatial(8, 4).local(1, 2)


def test_layouts_are_equal_exactly_where_they_are_the_same_map():
    """Over every layout of these shapes, written in every way."""
    for shape, copies in [((12,), 1), ((4, 3), 1), ((2, 6), 2), ((8,), 2), ((2, 2, 2), 1)]:
        seen: dict[object, RegisterLayout] = {}
        texts: dict[str, object] = {}
        for layout in every_register_layout(shape, copies):
            key = function(layout)
            other = seen.setdefault(key, layout)
            assert layout == other
            assert hash(layout) == hash(other)
            assert texts.setdefault(str(layout), key) == key
            assert parse(str(layout)) == layout
        assert len(set(seen.values())) == len(seen) == len(texts) > 10


@MANY
@given(st.one_of(register_layouts(), chains(), chains(1), chains(3)))
def test_text_reads_back(layout: RegisterLayout):
    assert parse(str(layout)) == layout
    assert parse(layout.explicit) == layout


@MANY
@given(chains())
def test_products_of_the_constructors_are_shown_as_such(layout: RegisterLayout):
    assert "register" not in str(layout)


@MANY
@given(register_layouts(), st.integers(0, 2))
def test_reduce(layout: RegisterLayout, axis: int):
    axis %= layout.rank
    reduced = layout.reduce(axis)
    assert reduced.threads == layout.threads
    assert reduced.shape == layout.shape[:axis] + layout.shape[axis + 1 :]
    for t in range(layout.threads):
        rest = [c[t] for a, c in enumerate(layout.table()) if a != axis]
        wanted = set(zip(*(c.tolist() for c in rest), strict=True)) if rest else {()}
        own = [c[t].tolist() for c in reduced.table()]
        got = list(zip(*own, strict=True)) if own else [()]
        assert set(got) == wanted
        assert len(got) == len(wanted) == reduced.locals


@MANY
@given(register_layouts(), st.randoms())
def test_permute(layout: RegisterLayout, random):
    axes = list(range(layout.rank))
    random.shuffle(axes)
    moved = layout.permute(*axes)
    for i, axis in enumerate(axes):
        assert moved.shape[i] == layout.shape[axis]
        assert (moved.table()[i] == layout.table()[axis]).all()
    assert moved.permute(*(axes.index(a) for a in range(layout.rank))) == layout
    assert layout.transpose().table()[0].tolist() == layout.table()[-1].tolist()


EVERY = sorted({x for shape, copies in [((12,), 1), ((6, 2), 1), ((3, 4), 2), ((2, 3, 2), 1)]
                for x in every_register_layout(shape, copies)}, key=str)  # fmt: skip


@pytest.mark.parametrize("shape", [(12,), (6, 2), (2, 6), (4, 3), (3, 4), (2, 3, 2), (3, 2, 2)])
def test_reshape(shape: tuple[int, ...]):
    """The same row-major number everywhere, or an error where no digits say so."""
    verdicts: set[bool] = set()
    for layout in EVERY:
        numbers = np.ravel_multi_index(layout.table(), layout.shape)
        verdicts.add(_has_digits(np.unravel_index(numbers, shape)))
        if _has_digits(np.unravel_index(numbers, shape)):
            other = layout.reshape(*shape)
            assert (np.ravel_multi_index(other.table(), shape) == numbers).all()
            assert other.reshape(*layout.shape) == layout
        else:
            with pytest.raises(TileError, match="goes across axes"):
                layout.reshape(*shape)
    assert verdicts == ({True} if shape == (12,) else {True, False})


def _has_digits(table: tuple[np.ndarray, ...]) -> bool:
    """Whether coordinates [threads, locals] are sums of strides of some digits of both numbers."""
    whole = np.stack(table)
    if not (whole == whole[:, :, :1] + whole[:, :1, :]).all():
        return False
    return all(_strided(x) for x in (whole[:, :, 0], whole[:, 0, :]))


def _strided(x: np.ndarray) -> bool:
    """Whether x[:, n] is a sum of digits of n times strides: the fastest digit first."""
    n = x.shape[1]
    if n == 1:
        return True
    steps = x[:, 1:2] * np.arange(n)
    size = int(np.argmin((x == steps).all(0))) or n
    if n % size or np.count_nonzero(x[:, 1]) > 1:
        return False
    high = x[:, ::size]
    return (x == np.repeat(high, size, 1) + np.tile(x[:, :size], n // size)).all() and _strided(
        high
    )


def test_slice():
    """Every part of every layout, or an error where the parts are not alike."""
    verdicts: list[bool] = []
    for layout in EVERY:
        for axis, extent in enumerate(layout.shape):
            for size in (d for d in range(1, extent + 1) if extent % d == 0):
                verdicts.append(_has_equal_parts(layout.table()[axis], size))
                if verdicts[-1]:
                    for start in range(0, extent, size):
                        _check_slice(layout, axis, start, size)
                else:
                    with pytest.raises(TileError, match="has no digits that divide"):
                        layout.slice(axis, 0, size)
    assert 100 < sum(verdicts) < len(verdicts) - 100


def _check_slice(layout: RegisterLayout, axis: int, start: int, size: int) -> None:
    part, locals_ = layout.slice(axis, start, size)
    inside = layout.table()[axis] // size == start // size
    assert sorted(locals_.tolist()) == np.flatnonzero(inside.all(0)).tolist()
    for a, (c, own) in enumerate(zip(part.table(), layout.table(), strict=True)):
        assert (c + (start if a == axis else 0) == own[:, locals_]).all()


def _has_equal_parts(coordinates: np.ndarray, size: int) -> bool:
    """Whether the parts have the same threads, and the same local numbers but for their start."""
    part = coordinates // size
    if (part != part[:1]).any():
        return False
    numbers = [np.flatnonzero(part[0] == p) for p in range(part.max() + 1)]
    same = all((n - n[0]).tolist() == (numbers[0] - numbers[0][0]).tolist() for n in numbers)
    return same and all(
        (coordinates[:, n] % size == coordinates[:, numbers[0]]).all() for n in numbers
    )


def test_slice_by_hand():
    part, locals_ = local(2, 1).spatial(8, 4).local(1, 2).slice(0, 8, 8)
    assert part == spatial(8, 4).local(1, 2)
    assert locals_.tolist() == [2, 3]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: spatial(0, 2), "every size must be at least 1"),
        (lambda: RegisterLayout((4,), (), (Digit(4),)), "can't hold an element twice"),
        (lambda: RegisterLayout((4,), (Digit(4, 1, 1),), ()), "an axis that the shape lacks"),
        (lambda: RegisterLayout((4,), (Digit(2, 0, 1),), ()), "count to 2, its extent is 4"),
        (lambda: RegisterLayout((4,), (Digit(2, 0, 1),), (Digit(2, 0, 1),)), "where 2 is next"),
        (lambda: RegisterLayout((4,), (Digit(2, 0, 3),), (Digit(2, 0, 1),)), "of stride 3 where 2"),
        (lambda: spatial(2) * spatial(2, 2), "has rank 1"),
        (lambda: spatial(2) / spatial(2, 2), "has rank 1"),
        (lambda: spatial(4, 2).reduce(2), "has no axis 2"),
        (lambda: spatial(4, 2).permute(0, 0), "no order of the 2 axes"),
        (lambda: spatial(4, 2).reshape(3, 3), "has 8 elements"),
        (lambda: spatial(6).reshape(4, 2), "has 6 elements"),
        (lambda: spatial(2, 3).transpose().reshape(2, 3), "goes across axes"),
        (lambda: spatial(4).slice(0, 0, 2), "the same share of every thread"),
        (lambda: local(4).slice(0, 1, 2), "none of the equal parts"),
        (lambda: spatial(4).element(4, 0), "a thread is 0 to 3"),
        (lambda: spatial(4).element(0, 1), "a local number is 0 to 0"),
        (lambda: spatial(4).element(-1, 0), "a thread is 0 to 3"),
        (lambda: spatial(4, 2).holders(0, 2), "coordinates of axis 1 are 0 to 1"),
        (lambda: spatial(4, 2).holders(0), "has 2 coordinates, not 1"),
    ],
)
def test_errors(make, message):
    with pytest.raises(TileError, match=message):
        make()


def test_constructors_count_in_row_major_order():
    for shape in itertools.product((1, 2, 3), repeat=3):
        n = int(np.prod(shape))
        wanted = [x.tolist() for x in np.unravel_index(np.arange(n), shape)]
        assert [x.tolist() for x in spatial(*shape).element(np.arange(n), 0)] == wanted
        assert [x.tolist() for x in local(*shape).element(0, np.arange(n))] == wanted
