"""What makers of contenders set in a process of their own is set back in that of the tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def gradients() -> Iterator[None]:
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_grad_enabled(True)
