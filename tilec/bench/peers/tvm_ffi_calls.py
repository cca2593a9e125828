"""tvm-ffi's calls of a function that does nothing."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from importlib.util import find_spec
from typing import Any

from tilec.bench.case import Made, Make, Peer, Problem
from tilec.bench.problems.launched import Launched, looped


def _absent() -> str:
    return "" if find_spec("tvm_ffi") else "apache-tvm-ffi is not installed"


def _contenders(problem: Problem) -> Mapping[str, Make]:
    return {"tvm-ffi no-op": partial(_call, problem)} if isinstance(problem, Launched) else {}


def _call(of: Launched) -> Made:
    import tvm_ffi  # pyright: ignore[reportMissingTypeStubs]
    from torch import zeros

    library: Any = tvm_ffi
    nothing = library.get_global_func("testing.nop")
    given = (*(zeros(64) for _ in range(of.tensors)), *range(of.integers))
    return looped(lambda: nothing(*given))


PEER = Peer("tvm-ffi", _absent, _contenders)
