"""Conversions by shuffles: where every word comes from, and when that is the way."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from conversions import pair

from tilec.ir.dtype import Array
from tilec.ir.layout.moves import Shuffles, exchange, givers, shuffles
from tilec.ir.layout.register import RegisterLayout, local, replicated, spatial

WARP = 32


def received(source: RegisterLayout, to: RegisterLayout, how: Shuffles) -> Array:
    """The elements that threads have after the shuffles: [threads, locals]. In each shuffle all
    lanes of a warp give the same word, and select afterwards."""
    words = np.full((source.threads, -(-source.locals // how.each) * how.each), -1)
    words[:, : source.locals] = np.ravel_multi_index(source.table(), source.shape)
    words = words.reshape(source.threads, -1, how.each)
    holders, numbers = (x[:, :: how.each] for x in givers(source, to))
    warp = np.arange(to.threads) // WARP * WARP
    out = np.full((to.threads, len(how.words), how.each), -2)
    for i, among in enumerate(how.words):
        for word in among:
            wanted = numbers[:, i] // how.each == word
            out[wanted, i] = words[warp + holders[:, i] % WARP, word][wanted]
    return out.reshape(to.threads, -1)[:, : to.locals]


@pytest.mark.parametrize("bits", [8, 16, 32])
def test_every_element_arrives(bits):
    rng, found = np.random.default_rng(bits), Counter[int]()
    for _ in range(150):
        source, to = pair(rng)
        how = shuffles(source, to, bits)
        if how is None:
            continue
        found[len(how.words[0])] += 1
        want = np.ravel_multi_index(to.table(), to.shape)
        assert np.array_equal(received(source, to, how), want), (source, to)
        assert len(how.words) == -(-to.locals * bits // 32)
        assert how.clocks < exchange(source, to, bits).clocks
    assert found[1] >= 20
    assert found[2] >= 3


@pytest.mark.parametrize("words", [((0, 1), (0, 0)), ((0, 0), (0, 1)), ((0,), (1,))])
def test_a_word_that_no_lane_gives_is_missed(words):
    """The model can tell: any of the numbers left out."""
    source, to = rows(2)
    how = shuffles(source, to, 32)
    assert how is not None
    assert how.words == ((0, 1), (0, 1))
    want = np.ravel_multi_index(to.table(), to.shape)
    assert not np.array_equal(received(source, to, replace(how, words=words)), want)


def rows(n: int) -> tuple[RegisterLayout, RegisterLayout]:
    """A warp's lanes four to a row: columns apart from each other, and neighbours."""
    return spatial(4, 1).local(1, n).spatial(8, 4), spatial(4, 1).spatial(8, 4).local(1, n)


LANES = spatial(4).replicated(4).spatial(8), spatial(4).spatial(8).replicated(4)


@pytest.mark.parametrize(
    ("layouts", "bits", "count"),
    [
        (rows(2), 32, 4),
        (rows(4), 32, 16),
        (rows(8), 32, None),  # 32 shuffles of each warp cost more than shared memory
        (LANES, 32, 1),
        (LANES, 16, 1),
        (LANES, 64, None),
        (rows(2), 16, None),  # words don't stay whole
        ((local(2) * spatial(128), spatial(128) * local(2)), 32, None),  # across warps
        ((replicated(4) * spatial(32), spatial(32) * replicated(4)), 32, 1),  # a copy is near
        ((spatial(2, 8), spatial(8, 2).transpose()), 32, None),  # half a warp
        ((local(8) * replicated(128), spatial(8) * replicated(16)), 32, None),  # among 8
    ],
)
def test_what_shuffles_are_for(layouts, bits, count):
    how = shuffles(*layouts, bits)
    assert (None if how is None else how.count) == count
