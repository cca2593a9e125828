"""Gradients to check: by differences in float64, and through the function that `gradient` makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tilec.ir.core import Func
from tilec.ir.dtype import Array
from tilec.ir.interpret import interpret
from tilec.ir.parse import parse as parse_ir
from tilec.ir.types import Memory
from tilec.lang.text import parse
from tilec.passes.gradient import gradient

STEP = 1e-5


@dataclass(frozen=True)
class Case:
    """A function of whole tensors, what its inputs hold (in carriers), and its dimensions."""

    func: Func
    inputs: Mapping[str, Array]
    dims: Mapping[str, int]

    def forward(self, inputs: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """What the function leaves in its results."""
        held = {n: np.array(a) for n, a in {**self.inputs, **(inputs or {})}.items()}
        for p in self.func.params:
            if p.hint not in held:
                held[p.hint] = np.zeros(self.shape(p.type))
        interpret(self.func, held, self.dims)
        return {n: a for n, a in held.items() if n not in self.inputs}

    def shape(self, t: Any) -> tuple[int, ...]:
        """The extents of a memory as numbers."""
        assert isinstance(t, Memory)
        return tuple(int(eval(str(d), dict(self.dims))) for d in t.shape)

    def seeds(self) -> dict[str, Array]:
        """Gradients of the results, at random numbers of their dtypes."""
        chance = np.random.default_rng(3)
        dtypes = {p.hint: p.type.dtype for p in self.func.params if isinstance(p.type, Memory)}
        return {n: dtypes[n].round(chance.standard_normal(a.shape))
                for n, a in self.forward().items()}  # fmt: skip

    def floats(self) -> list[str]:
        """The inputs that have gradients."""
        return [n for n, a in self.inputs.items() if a.dtype.kind == "f"]

    def gradients(self, func: Func, **more: Array) -> dict[str, Array]:
        """What a function that computes gradients stores. What it stores to is poisoned before."""
        names = {p.hint for p in func.params}
        seeds = {f"d_{n}": a for n, a in self.seeds().items() if f"d_{n}" in names}
        given = {n: np.array(a) for n, a in {**self.inputs, **seeds, **more}.items()}
        held = {p.hint: given.get(p.hint, np.full(self._extents(p.type), np.nan))
                for p in func.params}  # fmt: skip
        interpret(func, held, self.dims)
        return {n.removeprefix("d_"): a for n, a in held.items() if n not in given}

    def _extents(self, t: Any) -> tuple[int, ...]:
        return self.shape(t) if isinstance(t, Memory) else ()

    def differences(self, name: str) -> tuple[Array, Array]:
        """The gradient of an input by central differences, and by how much a smaller step differs.

        The error of the first is of the order of STEP**2 and of 2**-52 / STEP.
        """
        seeds, x = self.seeds(), np.asarray(self.inputs[name])

        def change(i: int, step: float) -> float:
            sides: list[float] = []
            for sign in (1, -1):
                moved = np.array(x)
                moved.reshape(-1)[i] += sign * step
                after = self.forward({name: moved})
                sides.append(float(sum((after[n] * s).sum() for n, s in seeds.items())))
            return (sides[0] - sides[1]) / (2 * step)

        found = np.array([change(i, STEP) for i in range(x.size)])
        other = np.array([change(i, STEP / 3) for i in range(x.size)])
        return found.reshape(x.shape), np.abs(found - other).reshape(x.shape)


def case(text: str, dims: Mapping[str, int], **given: Array) -> Case:
    """A case of a `.tile` text, or IR; inputs that are not given are random numbers.

    The parameters whose names begin with y are the results, and what a program returns.
    """
    func = parse_ir(text) if text.strip().startswith("func") else next(
        d.ir() for d in parse(text).values())  # fmt: skip
    chance = np.random.default_rng(1)
    inputs: dict[str, Array] = {}
    made = Case(func, inputs, dims)
    for p in func.params:
        if p.hint in given:
            inputs[p.hint] = given[p.hint]
        elif not p.hint.startswith(("y", "result")):
            t: Any = p.type
            extents = made.shape(t) if isinstance(t, Memory) else ()
            inputs[p.hint] = np.asarray(t.dtype.round(chance.standard_normal(extents)))
    return made


def assert_differences(c: Case, tolerance: float = 1e-6) -> None:
    """The gradients of every float input are those of differences."""
    names = c.floats()
    found = c.gradients(gradient(c.func, by="+".join(names)))
    for name in names:
        want, doubt = c.differences(name)
        size = max(1.0, float(np.abs(want).max(initial=0.0)))
        assert float(doubt.max(initial=0.0)) < tolerance * size, f"{name}: the differences differ"
        np.testing.assert_allclose(found[name].reshape(want.shape), want, rtol=tolerance,
                                   atol=tolerance * size, err_msg=name)  # fmt: skip
