"""Programs of any length: a chain of elementwise ops, and decoder layers one behind the other."""

# torch types what is looked up by name loosely.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tilec.bench.problems.layered import Layered
from tilec.bench.problems.layers import EPS, Layer, Weight, rms, silu, softmax, tensor
from tilec.ir.dtype import Array
from tilec.ir.errors import TileError
from tilec.lang.programs import ProgramDefinition
from tilec.lang.text import parse
from tilec.program import Program

ROWS, WIDE, INNER = 16, 64, 128  # of the layers: places, elements of one, and of the MLP
NAMES = "qkvogud"  # of a layer's weights
GIVEN = (
    "q: f32[L, C, C], k: f32[L, C, C], v: f32[L, C, C], o: f32[L, C, C], "
    "g: f32[L, F, C], u: f32[L, F, C], d: f32[L, C, F]"
)  # all layers' in one tensor each
LAYER = """  h{i} = rms_norm(x{i}, gain)
  a{i} = softmax((h{i} @ q[{i}].T) @ (h{i} @ k[{i}].T).T * 0.125) @ (h{i} @ v[{i}].T)
  y{i} = x{i} + a{i} @ o[{i}].T
  m{i} = rms_norm(y{i}, gain)
  x{j} = y{i} + swiglu(m{i} @ g[{i}].T, m{i} @ u[{i}].T) @ d[{i}].T
"""


@dataclass(frozen=True)
class Grown(Layered):
    """A program of `sizes[0]` parts, in f32: steps of a `chain`, or `layers` of a decoder."""

    @property
    def parts(self) -> int:
        """How long it is."""
        return self.sizes[0]

    def made(self) -> Layer:
        """Its arguments and functions. Raises TileError for a kind that is not known."""
        match self.layer:
            case "chain":
                return _chain(self)
            case "layers":
                return _layers(self)
            case other:
                raise TileError(f"no program is called {other!r}", hint="chain, layers")


def _program(text: str) -> Program:
    (found,) = parse(text).values()
    assert isinstance(found, ProgramDefinition)
    return Program(found)


def _chain(of: Grown) -> Layer:
    x = of.draw(ROWS, WIDE)
    steps = [f"  x{i + 1} = tanh(x{i} * 0.9) + x" for i in range(of.parts)]
    text = "\n".join(["program chain(x: f32[M, N]) {", "  x0 = x", *steps,
                      f"  return x{of.parts}", "}"])  # fmt: skip

    def theirs(torch: Any) -> Callable[[], Any]:
        given = tensor(torch, x)

        def run() -> Any:
            y = given
            for _ in range(of.parts):
                y = torch.tanh(y * 0.9) + given
            return y

        return run

    def want() -> Array:
        y = given = x.astype(np.float64)
        for _ in range(of.parts):
            y = np.tanh(y * 0.9) + given
        return y

    return Layer(_program(text), (x,), theirs, want)


def _layers(of: Grown) -> Layer:
    x, gain = of.draw(ROWS, WIDE), 1 + of.draw(WIDE, scale=0.1)
    square, up, down = (WIDE, WIDE), (INNER, WIDE), (WIDE, INNER)
    weights = of.weights(*[square, square, square, square, up, up, down] * of.parts)
    body = "".join(LAYER.format(i=i, j=i + 1) for i in range(of.parts))
    text = (f"program layers(x: f32[T, C], gain: f32[C], {GIVEN}) {{\n"
            f"  x0 = x\n{body}  return x{of.parts}\n}}")  # fmt: skip
    stacks = [np.stack([np.asarray(w.ours()) for w in weights[n :: len(NAMES)]])
              for n in range(len(NAMES))]  # fmt: skip

    def theirs(torch: Any) -> Callable[[], Any]:
        start, scale = tensor(torch, x), tensor(torch, gain)
        each = [[w.theirs(torch) for w in layer] for layer in _by_layer(weights)]

        def run() -> Any:
            y, function = start, torch.nn.functional
            for q, k, v, o, g, u, d in each:
                h = function.rms_norm(y, scale.shape, scale, EPS)
                y = y + o(torch.softmax(q(h) @ k(h).T * 0.125, -1) @ v(h))
                h = function.rms_norm(y, scale.shape, scale, EPS)
                y = y + d(function.silu(g(h)) * u(h))
            return y

        return run

    def want() -> Array:
        y = x.astype(np.float64)
        for q, k, v, o, g, u, d in _by_layer(weights):
            h = rms(y, gain)
            y = y + o.times(softmax(q.times(h) @ k.times(h).T * 0.125) @ v.times(h))
            h = rms(y, gain)
            y = y + d.times(silu(g.times(h)) * u.times(h))
        return y

    return Layer(_program(text), (x, gain, *stacks), theirs, want)


def _by_layer(weights: list[Weight]) -> Iterator[list[Weight]]:
    for at in range(0, len(weights), len(NAMES)):
        yield weights[at : at + len(NAMES)]
