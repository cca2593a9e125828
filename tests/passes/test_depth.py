"""How many k's a step of a product has."""

from __future__ import annotations

import numpy as np
import pytest

from tilec.ir.named import named
from tilec.passes.depth import step, whole_numbers

U4, U8 = "uint4<channel, scale=f16, zero=none>", "uint8<channel, scale=f16, zero=none>"
A8, A2, A1 = (f"dynamic<{t}<scale=f32>>" for t in ("int8", "int2", "bipolar1"))


@pytest.mark.parametrize(
    ("first", "second", "rows", "expected"),
    [
        ("f32", "f32", 16, 256),
        ("f32", "int4<group=128>", 16, 128),
        ("f32", "int4<group=1024>", 16, 256),
        ("f32", "int4<group=520>", 16, 130),
        ("f32", "q4_k", 16, 32),
        ("dynamic<int8<group=96, scale=f32>>", "int4<group=64>", 16, 32),
        # Groups whose scales codes are multiplied by do not bound a step of bytes ...
        (A8, "vsq", 16, 256),
        ("i8", f"int4<group=128, scale={U4}>", 16, 256),
        ("dynamic<int8<group=64, scale=f32>>", "vsq", 16, 64),
        (A8, "uint2<group=16, scale=uint4<group=8, scale=f16>>", 16, 128),
        # ... but for few rows where they are large, other operands and wider products.
        (A8, "vsq", 1, 256),
        (A8, f"int4<group=32, scale={U4}>", 1, 32),
        (A8, f"int4<group=32, scale={U4}>", 7, 256),
        ("f32", "vsq", 16, 16),
        ("u8", "vsq", 16, 16),
        (A8, f"int4<group=32, scale={U8}>", 16, 32),
        # Bits have longer steps, as long as no group ends.
        (A1, "bipolar1<channel>", 16, 4096),
        (A2, "bipolar1<channel>", 1, 4096),
        (A2, "bipolar1<group=1024>", 16, 1024),
        (A2, "int2<channel>", 16, 256),
        ("u1", "uint1<tensor>", 16, 4096),
    ],
)
def test_the_step_of_a_product(first, second, rows, expected):
    assert step(named(first), named(second), rows, 256, 2) == expected


def test_bits_take_the_step_of_bytes_where_they_are_not_multiplied():
    assert step(named(A2), named("bipolar1<channel>"), 16, 64, 0) == 64


def test_the_whole_numbers_of_operands():
    for text, numbers in (("dynamic<int2<scale=f32>>", [0, 1, -2, -1]), ("i8", [-128, 127]),
                          ("uint2<channel>", [-2, -1, 0, 1])):  # fmt: skip
        found = whole_numbers(named(text))
        assert found is not None
        assert np.array_equal(found, numbers)
    assert whole_numbers(named("f32")) is None
    assert whole_numbers(named("i16")) is None
