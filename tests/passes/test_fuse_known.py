"""How fuse grows with programs: groups are built again only where something in them changed."""

from __future__ import annotations

import pytest

from tilec.bench.problems.grown import Grown
from tilec.bench.problems.layered import bound
from tilec.ir.core import Func
from tilec.ir.ops import control
from tilec.passes import fuse_known
from tilec.passes.fuse import fuse


def layers(count: int) -> Func:
    """So many layers of a decoder as a function of whole tensors."""
    made = Grown("layers", (count, 16, 64), "f32", "f32").made()
    types, _ = bound(made)
    return made.program.kernel(**types).definition.ir(types)


@pytest.mark.parametrize("count", [1, 2, 5, 12])
def test_every_layer_has_as_many_kernels(count: int):
    fused = fuse(layers(count))
    grids = [op for op in fused.body.ops if isinstance(op, control.Grid)]
    assert len(grids) == len(fused.body.ops) == 7 * count


def test_layers_are_built_as_often_as_there_are_layers(monkeypatch: pytest.MonkeyPatch):
    real, built = fuse_known.built, list[int]()

    def counted(*given):
        group = real(*given)
        built.append(len(group.nodes.known))
        return group

    monkeypatch.setattr(fuse_known, "built", counted)
    counts: list[int] = []
    for count in (4, 8, 16):
        built.clear()
        fuse(layers(count))
        counts.append(len(built))
    assert counts[2] - counts[1] == 2 * (counts[1] - counts[0])
