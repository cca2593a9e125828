"""Launches leave nothing behind: objects of Python, and memory of the process."""

# pyright: basic

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from tilec.bench.launch import idle, nothing


def resident() -> int:
    """Bytes of this process's memory that are in use (Linux, proc(5))."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def calls() -> list[Callable[[], object]]:
    """Every way to launch, on nine tensors and four integers."""
    given = (*(torch.zeros(64) for _ in range(9)), 1, 2**40, 3, 2**50)
    driver, out = nothing(), torch.zeros(64)
    kernels = [driver.dispatcher(9, 0), idle()(9, 0, 0)]
    found: list[Callable[[], object]] = []
    for k in kernels:
        bound = k.bind(*given[:9])
        found += [partial(k.launch, *given[:9]), bound, partial(bound, *given[:9])]
    program = idle()(9, 0, 1)
    whole = program.bind(*given[:9], out=out)
    found += [partial(program.launch, *given[:9]), whole,
              partial(program.launch, *given[:9], out=out)]  # fmt: skip
    return found


def grown(count: int) -> tuple[int, int]:
    """Objects and bytes that so many launches of each kind leave."""
    made = calls()

    def rounds(times: int) -> None:
        for call in made:
            for _ in range(times):
                call()

    rounds(1000)
    gc.collect()
    blocks, memory = sys.getallocatedblocks(), resident()
    rounds(count)
    gc.collect()
    return sys.getallocatedblocks() - blocks, resident() - memory


def test_a_hundred_thousand_launches():
    blocks, memory = grown(100_000 // 9)
    assert blocks < 200
    assert memory < 4 << 20


@pytest.mark.slow
def test_a_million_launches_of_each_kind():
    blocks, memory = grown(1_000_000)
    assert blocks < 200
    assert memory < 4 << 20
