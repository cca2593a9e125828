"""Tensor maps of what a launch says of its boxes."""

from __future__ import annotations

import numpy as np
import pytest

from tilec.ir.errors import TileError
from tilec.ir.extent import extent
from tilec.ir.source import TensorBoxes
from tilec.runtime.tensor_map import tensor_maps

BOXES = TensorBoxes("x_boxes", "x", (extent("2*M"), 5, 24), (240, 48), (1, 4, 8), 0, 2)


def test_an_array_is_seen_as_the_elements_that_it_holds():
    x = np.random.default_rng(0).integers(0, 1 << 16, (6, 5, 24)).astype(np.uint16)
    found = tensor_maps([BOXES], {"x": x.view(np.float16), "n": 3.0}, {"M": 3})
    assert list(found) == ["x_boxes"]
    made = found["x_boxes"]
    assert np.array_equal(made.array, x)
    assert np.shares_memory(made.array, x)
    assert (made.box, made.swizzle, made.box_bytes) == ((1, 4, 8), 0, 64)


def test_rows_of_codes_are_seen_as_bytes():
    codes = np.random.default_rng(1).integers(0, 256, 6 * 32).astype(np.uint8)
    boxes = TensorBoxes("w_boxes", "w", (6, 32), (32,), (6, 32), 32, 1)
    assert np.array_equal(
        tensor_maps([boxes], {"w": codes}, {})["w_boxes"].array, codes.reshape(6, 32)
    )


def test_a_dimension_without_a_number():
    with pytest.raises(TileError, match="no number for the dimension M"):
        tensor_maps([BOXES], {"x": np.zeros((6, 5, 24), np.float16)}, {})
