"""Layers that fuse, as problems: what tilec makes of each, and what its calls must move and do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from tilec.bench.case import OURS, Made, Make
from tilec.bench.problems.decoder import decoder
from tilec.bench.problems.layers import LAYERS, Layer, Sized
from tilec.compile import engine
from tilec.cpu import cpu_source
from tilec.ir.dtype import BY_NAME, DType
from tilec.ir.errors import TileError
from tilec.ir.format import Dense, Format
from tilec.lang.kernel import TensorSpec
from tilec.runtime.arguments import describe
from tilec.runtime.tensor import PackedTensor

WORST = {"f32": 2e-5, "bf16": 1e-2}  # relative errors of results


@dataclass(frozen=True)
class Layered(Sized):
    """A layer as a problem."""

    def made(self) -> Layer:
        """Its arguments and functions. Raises TileError for a layer that is not known."""
        known = {**LAYERS, "decoder": decoder}
        if self.layer not in known:
            raise TileError(f"no layer is called {self.layer!r}", hint=", ".join(known))
        return known[self.layer](self)

    @property
    def operations(self) -> float:
        """Multiplications and additions of its products, 0 where it has none."""
        s = self.sizes
        match self.layer:
            case "rms-linear":
                return 2.0 * s[0] * s[1] * s[2]
            case "linear-cross-entropy":
                return 2.0 * s[0] * s[1] * s[2]
            case "mlp":
                return 6.0 * s[0] * s[1] * s[2]
            case "encoder":  # each layer: four products, the MLP; scores and their sum
                tokens, c = s[0] * s[1], 384
                return 12.0 * tokens * (4 * c * c + 8 * c * c + 2 * s[1] * c)
            case "decoder":  # query and output, keys and values, the MLP; scores and their sum
                c, inner, kv = 4096, 14336, 1024
                return 2.0 * s[0] * (2 * c * c + 2 * c * kv + 3 * c * inner + 2 * c * s[1])
            case _:
                return 0.0

    @property
    def worst(self) -> float:
        """The relative error that results may have."""
        return WORST[self.dtype]

    def timed(self, run: Callable[[], Any], about: Mapping[str, Any], kept: int = 0) -> Made:
        """A contender that does the layer with `run`."""
        made = self.made()
        nbytes = sum(int(getattr(x, "nbytes", 0)) for x in made.ours)
        return Made([run], made.want, nbytes=nbytes, operations=self.operations,
                    worst=self.worst, kept=kept, returns=True, about=about)  # fmt: skip

    def ours(self) -> Mapping[str, Make]:
        """The program."""
        return {OURS: partial(_ours, self)}


def _ours(of: Layered) -> Made:
    made = of.made()
    about = _explained(made)
    return of.timed(lambda: made.program(*made.ours), about, about["kept"])


def _explained(found: Layer) -> dict[str, Any]:
    """Kernels, bytes moved, those that no way can do without, and the memory kept for calls."""
    types, dims = bound(found)
    told, kernel = found.program.explain(types, dims), found.program.kernel(**types)
    return {
        "kernels": len(told.kernels), "unfused_kernels": len(told.unfused),
        "moved": sum(k.bytes for k in told.kernels), "compulsory": told.compulsory,
        "kept": cpu_source(kernel.definition, types, dims, engine()).workspace,
    }  # fmt: skip


def bound(found: Layer) -> tuple[dict[str, Format | DType], dict[str, int]]:
    """The formats of a program's tensors by name, and its dimensions."""
    types: dict[str, Format | DType] = {}
    shapes: list[tuple[int, ...] | None] = []
    signature = found.program.definition.signature
    for p, x in zip(signature.params, found.ours, strict=True):
        shapes.append(None)
        if isinstance(x, PackedTensor):
            types[p.name], shapes[-1] = x.format, x.shape
        elif isinstance(p.spec, TensorSpec):
            seen: Any = describe(x)
            types[p.name], shapes[-1] = Dense(BY_NAME[seen.dtype]), tuple(seen.shape)
    return types, signature.bind(shapes)
