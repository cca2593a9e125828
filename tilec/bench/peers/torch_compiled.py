"""torch.compile: layers, attention as flex_attention, and how long it compiles."""

# torch types what is looked up by name loosely.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Mapping
from functools import partial
from typing import Any

from tilec.bench.case import Made, Make, Peer, Problem
from tilec.bench.peers.torch_eager import absent, attended, models, tensors, torch_
from tilec.bench.problems.attention import SCALE, Attention
from tilec.bench.problems.compiled import Compiled
from tilec.bench.problems.layered import Layered
from tilec.bench.problems.models import Model
from tilec.settings import settings, tell


def _absent() -> str:
    compiler = settings().environment.get("CXX") or "g++"
    found = shutil.which(compiler)
    return absent() or ("" if found else f"torch.compile needs a C++ compiler, not {compiler}")


def _contenders(problem: Problem) -> Mapping[str, Make]:
    match problem:
        case Model():
            return models(problem, "torch compiled", _layer)
        case Layered():
            return {"torch compiled": partial(_layer, problem)}
        case Attention() if problem.cache == "dense" and problem.m != 1:
            return {"torch flex": partial(_flex, problem)}
        case Compiled():
            return {"torch compiled": partial(_compile, problem)}
        case _:
            return {}


def _layer(of: Layered) -> Made:
    torch = torch_()
    return of.timed(torch.compile(of.made().theirs(torch), dynamic=False), {})


def _flex(of: Attention) -> Made:
    torch = torch_()
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    def seen(b: Any, h: Any, row: Any, column: Any) -> Any:
        del b, h
        return row + (of.n - of.m) >= column

    q, pairs, nbytes = tensors(of, True)
    mask = create_block_mask(seen, None, None, of.m, of.n, device="cpu") if of.causal else None
    attend: Any = torch.compile(flex_attention, dynamic=False)

    def call(k: Any, v: Any) -> Any:
        return attend(q, k, v, block_mask=mask, scale=SCALE, enable_gqa=True)

    return attended(of, call, pairs, nbytes)


def _compile(of: Compiled) -> Made:
    folder = tempfile.mkdtemp(prefix="tilec-bench-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    tell(TORCHINDUCTOR_CACHE_DIR=folder)
    torch = torch_()
    from torch._inductor.utils import fresh_cache

    run = of.layered.made().theirs(torch)

    def compiled() -> Any:
        torch._dynamo.reset()
        return torch.compile(run, dynamic=False)()

    def cold() -> Any:
        with fresh_cache():
            return compiled()

    want = of.layered.made().want
    worst = of.worst
    return Made([compiled if of.cached else cold], want, worst=worst)


PEER = Peer("torch.compile", _absent, _contenders, ("torch", "torch._inductor.compile_fx"))
