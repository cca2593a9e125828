"""Peers of the GPU suite: what each needs, and where it is made. Nothing heavy is imported here."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

from tilec.bench.gpu.contender import Contender
from tilec.bench.gpu.held import Operands
from tilec.ir.errors import TileError

Maker = Callable[[Operands], Contender]


@dataclass(frozen=True)
class Peer:
    """A contender that is not ours: the packages that it needs, the function of a module here that
    makes it, seconds that its own compiler takes, whether a path to its source must be given."""

    name: str
    needs: tuple[str, ...]
    made: str
    seconds: float = 0.0
    path: bool = False

    def absent(self, path: str = "") -> str:
        """Why it can't run here, or nothing."""
        missing = [p for p in self.needs if importlib.util.find_spec(p) is None]
        if missing:
            return f"{', '.join(missing)} is not installed"
        if self.path and not path:
            return f"needs --path {self.name}=FOLDER of its source"
        return ""

    def make(self, operands: Operands) -> Contender:
        """The contender for a case. Raises TileError where its library can't do it."""
        module, _, function = self.made.partition(":")
        maker: Maker = getattr(importlib.import_module(f"{__name__}.{module}"), function)
        try:
            return maker(operands)
        except TileError:
            raise
        except Exception as e:  # of a library that may be of any version
            raise TileError(f"{self.name}: {type(e).__name__}: {str(e)[:300]}") from e


_TORCH = ("torch",)
_TRITON = ("torch", "triton")
PEERS = {
    p.name: p
    for p in (
        Peer("torch f16", _TORCH, "torch_products:half"),
        Peer("torch bf16", _TORCH, "torch_products:half"),
        Peer("torch int4", _TORCH, "torch_products:int4"),
        Peer("torch int8", _TORCH, "torch_products:int8"),
        Peer("torch fp8", _TORCH, "torch_products:fp8"),
        Peer("torch 2:4", _TORCH, "torch_products:semi_structured"),
        Peer("torch csr", _TORCH, "torch_products:csr"),
        Peer("torch bsr", _TORCH, "torch_products:bsr"),
        Peer("unfused down", _TORCH, "torch_products:unfused_down"),
        Peer("unfused up", _TORCH, "torch_products:unfused_up"),
        Peer("torch grouped", _TORCH, "torch_experts:grouped"),
        Peer("torch scaled grouped", _TORCH, "torch_experts:scaled_grouped"),
        Peer("torch loop", _TORCH, "torch_experts:loop"),
        Peer("torch sdpa", _TORCH, "torch_attention:sdpa"),
        Peer("torch flex", _TRITON, "torch_attention:flex", 12.0),
        Peer("torch eager", _TORCH, "torch_rows:eager"),
        Peer("torch compiled", _TRITON, "torch_rows:compiled", 5.0),
        Peer("triton dense", _TRITON, "naive:dense", 3.0),
        Peer("triton int4", _TRITON, "naive:int4", 3.0),
        Peer("triton int8", _TRITON, "naive:int8", 3.0),
        Peer("triton rows", _TRITON, "naive:rows", 3.0),
        Peer("gemlite int4", ("torch", "gemlite"), "gemlite:int4", 4.0),
        Peer("gemlite int2", ("torch", "gemlite"), "gemlite:int2", 4.0),
        Peer("gemlite mxfp4", ("torch", "gemlite"), "gemlite:mxfp4", 4.0),
        Peer("torchao int4", ("torch", "torchao"), "torchao:int4", 5.0),
        Peer("torchao nf4", ("torch", "torchao"), "torchao:nf4", 5.0),
        Peer("liger", ("torch", "liger_kernel"), "liger:rows", 5.0),
        Peer("tilelang", ("torch", "tilelang"), "tilelang:dense", 10.0),
        Peer("helion", ("torch", "helion"), "helion:dense", 20.0),
        Peer("marlin", ("torch", "marlin"), "marlin:int4", 1.0, True),
        Peer("deep_gemm", ("torch", "deep_gemm"), "deep_gemm:blocks", 10.0),
    )
}  # fmt: skip
