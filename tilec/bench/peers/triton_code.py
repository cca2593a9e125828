"""Triton without a GPU: how long it compiles what tilec prints for it, and what launches cost."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

from tilec.bench.case import Made, Make, Peer, Problem
from tilec.bench.problems.compiled import Compiled
from tilec.bench.problems.kept import Kept, as_bytes
from tilec.bench.problems.launched import FAKE, Launched, looped
from tilec.bench.triton_launcher import launcher
from tilec.ir.errors import TileError
from tilec.runtime.triton import compile_each
from tilec.settings import tell
from tilec.triton import triton_program

TARGET = "sm_90"


def _absent() -> str:
    return "" if find_spec("triton") else "triton is not installed"


def _contenders(problem: Problem) -> Mapping[str, Make]:
    match problem:
        case Compiled() if not problem.cached:
            return {f"triton {TARGET}": partial(_compile, problem)}
        case Kept():
            return {"triton cache": partial(_hit, problem)}
        case Launched() if problem.where == FAKE and problem.how == "launch":
            return {"triton kernel[grid]": partial(_launch, problem)}
        case _:
            return {}


def _compile(of: Compiled) -> Made:
    definition, types, dims = of.kernel()
    source = triton_program(definition, dims, types, None).source

    def compiled() -> None:
        compile_each(source, TARGET, fresh=True)

    return Made([compiled], None)


def _launch(of: Launched) -> Made:
    from torch import zeros

    if not of.tensors:
        raise TileError("a kernel without arguments")
    (launch,) = launcher([(of.tensors, of.integers)], Path(mkdtemp(prefix="tilec-bench-")))
    given = (*(zeros(64) for _ in range(of.tensors)), *range(2, 2 + of.integers))
    return looped(lambda: launch(*given))


def _hit(of: Kept) -> Made:
    folder = TemporaryDirectory(prefix="tilec-bench-")
    tell(TRITON_CACHE_DIR=folder.name)
    get_cache_manager: Any = import_module("triton.runtime.cache").get_cache_manager
    for i in range(of.entries):
        manager = get_cache_manager(f"{i:064x}")
        path = manager.put(of.code(i), "kernel.cubin")
        manager.put_group("kernel.json", {"kernel.cubin": path})

    def hit(i: int) -> bytes:
        found = get_cache_manager(f"{i:064x}").get_group("kernel.json")
        if found is None:
            raise TileError(f"{folder.name} has lost an entry")
        return Path(found["kernel.cubin"]).read_bytes()

    return Made([partial(hit, i) for i in of.asked], of.want, as_bytes, nbytes=of.size)


PEER = Peer("triton", _absent, _contenders)
