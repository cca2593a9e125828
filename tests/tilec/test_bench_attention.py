"""The attention suite: what it times is right, and counted; no time."""

import numpy as np
import pytest

from tilec.bench import attended
from tilec.bench.attended import Point, make
from tilec.ir.errors import TileError


@pytest.mark.parametrize("name", ["tilec", "tilec kernel"])
@pytest.mark.parametrize("m", [1, 64])
def test_ours_are_checked(name: str, m: int) -> None:
    point = Point(m, 64, True, "f32")
    made = make(name, point)
    assert made.nbytes == 2 * 8 * 64 * 128 * 4
    assert made.operations == 32 * m * 64 * 128 * 4 / (1 if m == 1 else 2)
    assert (len(made.calls) > 1) == (m == 1)
    first, last = (np.array(call()) for call in (made.calls[0], made.calls[-1]))
    assert (first == last).all()


def test_a_wrong_result_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attended, "SCALE", 0.5)
    monkeypatch.setattr(attended, "WORST", {"bf16": 1e-9})
    with pytest.raises(TileError, match="is wrong"):
        make("tilec", Point(16, 16, True))


def test_the_kernel_is_causal() -> None:
    with pytest.raises(TileError, match="causal"):
        make("tilec kernel", Point(16, 16, False))
    with pytest.raises(TileError, match="no contender"):
        make("triton", Point(16, 16, False))
