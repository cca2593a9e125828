"""How long programs compile, with nothing in caches and with code on the disk."""

from __future__ import annotations

from tilec.bench.case import Case, Suite
from tilec.bench.problems.compiled import Compiled
from tilec.bench.problems.layered import Layered

LAYERS = (
    Layered("softmax", (64, 256), "f32"),
    Layered("cross-entropy", (64, 1024), "f32"),
    Layered("rms-linear", (16, 256, 256), "bf16", "bf16"),
    Layered("mlp", (16, 256, 512), "bf16", "bf16"),
    Layered("mlp", (16, 256, 512), "bf16", "int4"),
)


def _case(layered: Layered, cached: bool) -> Case:
    state = "cached" if cached else "cold"
    axes = {"layer": layered.layer, "format": layered.weight or layered.dtype, "cache": state}
    return Case(f"{layered} {state}", axes, Compiled(layered, cached))


def _cases(quick: bool) -> list[Case]:
    if quick:
        return [_case(LAYERS[0], True)]
    return [_case(layered, cached) for layered in LAYERS for cached in (False, True)]


SUITE = Suite("compile", "from source to the first result, cold and cached", _cases, rounds=5)
