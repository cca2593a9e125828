"""Rows in pieces: every number of rows is covered once, in few sizes."""

import pytest
import torch

from tilec.torch.pieces import EXACT, WHOLE, by_pieces, pieces, size_of


def test_pieces_cover_the_rows() -> None:
    sizes: set[int] = set()
    for rows in range(3000):
        found = list(pieces(rows))
        assert sum(taken for _, taken, _ in found) == rows
        assert [at for at, _, _ in found] == [sum(t for _, t, _ in found[:i])
                                              for i in range(len(found))]  # fmt: skip
        assert all(size == taken for _, taken, size in found[:-1])
        sizes |= {size for _, _, size in found}
        assert all(taken <= size <= max(taken, taken * 9 // 8 + 1) for _, taken, size in found)
    assert len(sizes) == EXACT + 24 + len(WHOLE) - 1


def test_sizes_of_pieces() -> None:
    assert [size_of(n) for n in (1, 15, 16, 17, 31, 33, 100, 121, 128)] == [
        1, 15, 16, 18, 32, 36, 104, 128, 128,
    ]  # fmt: skip


@pytest.mark.parametrize("rows", [0, 3, 16, 17, 128, 129, 1300])
def test_what_is_computed(rows: int) -> None:
    x = torch.randn(rows, 5)
    calls: list[int] = []

    def run(x: torch.Tensor, y: torch.Tensor) -> None:
        calls.append(len(x))
        y.copy_(x[:, :3] * 2)

    y = by_pieces(x, lambda n: torch.full((n, 3), torch.nan), run)
    assert torch.equal(y, x[:, :3] * 2)
    assert calls == [size for _, _, size in pieces(rows)]
