from __future__ import annotations

import sys
import threading

import pytest

from tilec.ir.recursion import DEPTH, deep


def descend(steps: int) -> int:
    return 1 + descend(steps - 1) if steps else 0


def test_there_is_more_room_inside_only():
    before = sys.getrecursionlimit()
    with pytest.raises(RecursionError):
        descend(2 * before)
    with deep():
        assert descend(2 * before) == 2 * before
        assert deep()(descend)(2 * before) == 2 * before
        assert sys.getrecursionlimit() == DEPTH  # still, behind the inner one
    assert sys.getrecursionlimit() == before


def test_it_stays_while_another_thread_needs_it():
    before, inside, go, found = sys.getrecursionlimit(), threading.Event(), threading.Event(), [0]

    def work() -> None:
        with deep():
            inside.set()
            go.wait(10)
            found[0] = descend(2 * before)

    other = threading.Thread(target=work)
    other.start()
    inside.wait(10)
    with deep():
        pass
    go.set()
    other.join()
    assert found == [2 * before]
    assert sys.getrecursionlimit() == before


def test_a_failure_leaves_the_limit():
    before = sys.getrecursionlimit()
    with pytest.raises(ValueError, match="seven"), deep():
        raise ValueError("seven")
    assert sys.getrecursionlimit() == before
