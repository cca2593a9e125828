"""Models from end to end: a decoder layer of Llama-3-8B, and a sentence encoder."""

from __future__ import annotations

from tilec.bench.case import Case, Suite
from tilec.bench.problems.models import Model

CACHE = 512  # places of keys and values
TOKENS = 128  # of a sentence


def _case(of: Model) -> Case:
    axes = {"layer": of.layer, "batch": of.sizes[0], "weight": of.weight}
    return Case(str(of), axes, of, "read" if of.tokens == 1 else "arithmetic")


def _cases(quick: bool) -> list[Case]:
    if quick:
        return [_case(Model("encoder", (1, 16), "bf16", "int8"))]
    found = [Model("decoder", (b, CACHE), "bf16", "int4") for b in (1, 16)]
    found += [Model("encoder", (b, TOKENS), "bf16", w)
              for b in (1, 32) for w in ("bf16", "int8", "int4")]  # fmt: skip
    return [_case(m) for m in found]


SUITE = Suite("models", "models from end to end, in tokens a second", _cases, seconds=0.2)
