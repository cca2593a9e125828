"""Libraries whose kernels run on GPUs only: `tilec bench gpu` measures beside them."""

from __future__ import annotations

from collections.abc import Mapping

from tilec.bench.case import Make, Peer, Problem


def _absent() -> str:
    return "its kernels are for GPUs: tilec bench gpu"


def _contenders(problem: Problem) -> Mapping[str, Make]:
    del problem
    return {}


NAMES = ("tilelang", "helion", "gemlite", "liger-kernel", "marlin")
PEERS = tuple(Peer(name, _absent, _contenders) for name in NAMES)
