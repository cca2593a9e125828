"""Layers without products, held to copying or reading what they take."""

from __future__ import annotations

import math

from tilec.bench.case import Case, Ceiling, Suite
from tilec.bench.problems.layered import Layered
from tilec.bench.problems.layers import STORED

BYTES = {"bf16": 2, "f32": 4}
LAYERS = ("softmax", "rms", "layer-norm", "swiglu", "rotary", "cross-entropy")
SIZES = {"rotary": (32, 1024, 64)}  # sequences, places, half of a head


def case(problem: Layered, ceiling: Ceiling | None) -> Case:
    """A layer as a case; a copy has as many bytes as it reads and writes."""
    p = problem
    axes = {"layer": p.layer, "size": "x".join(map(str, p.sizes)), "M": p.sizes[0],
            "dtype": p.dtype, "format": p.weight or p.dtype}  # fmt: skip
    tensors = {"swiglu": 3, "rotary": 4}.get(p.layer, 2)  # rotary: rows of twice its half
    moved = tensors * math.prod(p.sizes) * BYTES[p.dtype] if ceiling == "copy" else 0
    return Case(str(p), axes, p, ceiling, moved, unit="f32" if p.dtype == "f32" else "bf16")


def _cases(quick: bool) -> list[Case]:
    if quick:
        return [case(Layered("softmax", (256, 512), "f32"), "copy")]
    found = [case(Layered(name, SIZES.get(name, (1024, 4096)), t), "copy")
             for name in LAYERS[:-1] for t in STORED]  # fmt: skip
    return found + [case(Layered("cross-entropy", (512, words), t), "read")
                    for words in (32000, 128256) for t in STORED]  # fmt: skip


SUITE = Suite("norm", "softmax, norms, SwiGLU, rotary, cross-entropy", _cases, seconds=0.2)
