import pytest

from tilec.ir.errors import TileError
from tilec.ir.extent import Sym, ceil_div, divides, extent, linear, mentioned, names, substitute

M, K = Sym("M"), Sym("K")


def test_equal_expressions_are_equal_extents():
    assert extent("K + M") == M + K
    assert extent("2*K + 2*M") == (M + K) * 2
    assert extent("M*K/K") == M
    assert M + 1 - 1 == M
    assert M - M == 0
    assert 3 - (3 - M) == M


@pytest.mark.parametrize("text", ["7", "M", "2*K + 1", "floor(K/2)", "ceiling(M/32)"])
def test_text_is_canonical(text):
    assert str(extent(text)) == text
    assert extent(str(extent(text))) == extent(text)


def test_numbers_stay_numbers():
    assert (extent("12"), ceil_div(7, 2), (M * 6) // 3) == (12, 4, extent("2*M"))


@pytest.mark.parametrize("k", [1, 5, 32, 33])
def test_substitution_is_evaluation(k):
    assert substitute(ceil_div(K, 32), {"K": k}) == -(-k // 32)
    assert substitute(2 * K + 1, {"K": k}) == 2 * k + 1
    assert substitute(K // 2, {"K": k}) == k // 2
    assert substitute(M + K, {"K": k}) == M + k
    assert substitute(M, {"K": k}) is M


def test_divisibility_holds_for_every_value():
    assert divides(4, 12)
    assert not divides(5, 12)
    assert divides(K, K)
    assert divides(2, 2 * K + 4)
    assert not divides(2, K)
    assert not divides(2, 2 * K + 1)


def test_sums_of_multiples():
    assert linear(7) == (7, {})
    assert linear(M) == (0, {"M": 1})
    assert linear(3 - M + 2 * K - K) == (3, {"M": -1, "K": 1})
    assert [linear(e) for e in (M * K, M // 2, extent("Max(M, 4)"), extent("M/2"))] == [None] * 4


def test_names():
    assert names(extent("floor(M/2) + K")) == {"M", "K"}
    assert mentioned((1, (M, None), "nearest", 2 * K)) == {"M", "K"}


def test_what_is_no_extent():
    with pytest.raises(TileError, match="not an extent"):
        extent("M +* K")
