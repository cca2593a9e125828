"""Layouts of packed tensors: what goes in comes out, and lies where the layout says."""

import numpy as np
import pytest
from formats import codes, random_parts, scaled
from hypothesis import given, settings
from hypothesis import strategies as st

from tilec.ir.bits import pack_rows, unpack_rows
from tilec.ir.dtype import integer
from tilec.ir.named import QUANTISED
from tilec.ir.packing import Plain
from tilec.ir.stream import Stream, planes

LAYOUTS = (Plain(), Stream())


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(sorted(QUANTISED)),
    st.sampled_from(["tensor", "channel", "group=1", "group=16", "group=33", "group=128"]),
    st.sampled_from(["none", "int", "shift"]),
    st.integers(1, 140),
    st.integers(1, 300),
    st.sampled_from(LAYOUTS),
)
def test_pack_and_unpack(name, block, zero, n, k, layout):
    format = scaled(f"{name}<{block}, zero={zero}>")
    parts = random_parts(format, (n, k))
    arrays = layout.pack(format, parts, (n, k))
    assert len(arrays) == layout.arrays(format, (n, k))
    assert all(a.ctypes.data % 64 == 0 for a in arrays)
    back = layout.unpack(format, arrays, (n, k))
    assert back.keys() == parts.keys()
    for key, value in parts.items():
        assert np.array_equal(back[key], value), key


@pytest.mark.parametrize("bits", range(1, 8))
@pytest.mark.parametrize("signed", [True, False])
def test_rows_are_little_endian(bits, signed):
    t = integer(bits, signed)
    x = codes(t, (3, 21), np.random.default_rng(bits))
    packed = pack_rows(t, x)
    assert packed.shape == (3, -(-21 * bits // 8))
    for row, data in zip(x, packed, strict=True):
        whole = int.from_bytes(data.tobytes(), "little")
        fields = [whole >> bits * i & (1 << bits) - 1 for i in range(21)]
        assert fields == [int(v) & (1 << bits) - 1 for v in row]
    assert np.array_equal(unpack_rows(t, packed, 21), x)


def test_planes_cover_every_width():
    for bits in range(1, 9):
        covered = [p.low + i for p in planes(bits) for i in range(p.bits)]
        assert covered == list(range(bits))


def test_an_int4_stream_lies_as_documented():
    """Lane i of a 64-byte line is column i; its halves are even and odd k, four codes each."""
    format = scaled("int4<group=8, scale=f16>")
    parts = random_parts(format, (64, 16))
    (stream,) = Stream().pack(format, parts, (64, 16))
    record = 8 * 64 // 2 + 64 * 2  # codes, then scales
    assert stream.nbytes == 2 * record
    for n, k in ((0, 0), (17, 3), (63, 15), (40, 9)):
        group, within = divmod(k, 8)
        half = stream[group * record :][: 8 * 32].view("<u2")[2 * n + within % 2]
        assert half >> 4 * (within // 2) & 15 == parts["codes"][n, k] & 15
        scales = stream[group * record + 256 :][:128].view(np.float16)
        assert scales[n] == parts["scale"][n, group]


def test_streams_cost_little_more_than_the_bits():
    for bits in range(1, 9):
        format = QUANTISED[f"int{bits}"](group=128)
        arrays = Stream().pack(format, random_parts(format, (128, 1024)), (128, 1024))
        assert sum(a.nbytes for a in arrays) * 8 == 128 * 1024 * (bits + 16 / 128)
