"""Every matrix instruction of the vocabulary: element types, depths, layouts of operands."""

from __future__ import annotations

import pytest
from cuda_products import LAYOUTS, PRODUCTS


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_of_warps_are_exact(name: str) -> None:
    assert PRODUCTS[name].run().findings == ()
    assert PRODUCTS[name].exact()


@pytest.mark.parametrize("name", LAYOUTS)
def test_products_of_warpgroups_are_exact(name: str) -> None:
    assert LAYOUTS[name].run().findings == ()
    assert LAYOUTS[name].exact()


def test_operands_outside_shared_memory_are_found() -> None:
    case = LAYOUTS["64 f16 f16 (False, False) (128, 128)"]
    assert "shared-bounds" in case.run(shared_bytes=case.shared_bytes - 16).kinds
