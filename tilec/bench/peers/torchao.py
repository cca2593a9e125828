"""torchao's linear layers on codes of 4 bits."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec

from tilec.bench.case import Make, Peer, Problem


def _absent() -> str:
    if find_spec("torchao") is None:
        return "torchao is not installed"
    return "its wheels have no kernels for processors (0.18: da8w4_linear_cpu is declared alone)"


def _contenders(problem: Problem) -> Mapping[str, Make]:
    del problem
    return {}


PEER = Peer("torchao", _absent, _contenders)
