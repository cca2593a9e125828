"""Every part of the language in both spellings: the same IR, which means what numpy says."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from lang import kernels

from tilec.compile import Kernel
from tilec.ir.dtype import Array
from tilec.ir.interpret import interpret
from tilec.ir.text import show
from tilec.ir.types import Memory
from tilec.lang.kernel import Definition, TensorSpec
from tilec.lang.text import parse

EXAMPLES = Path(__file__).parents[2] / "examples"
TEXT = parse(kernels.TILE, "kernels.tile")
DIMS = {"M": 5, "N": 7, "K": 6, "T": 5, "V": 9, "D": 4, "B": 3}
TILES = {f"{size}.tile": n for n, size in enumerate("kmndj", start=2)}


def rng(shape: tuple[int, ...], seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(-16, 17, shape) / 4.0


def types_of(definition: Definition) -> dict:
    """The formats that a text pins, for the Python function that leaves them open."""
    specs = {p.name: p.spec for p in definition.signature.params}
    return {n: s.format for n, s in specs.items() if isinstance(s, TensorSpec) and s.format}


def ran(definition: Definition, inputs: dict[str, Array], tiles: dict[str, int]) -> Array:
    """What a kernel writes into `y`, which is poisoned before."""
    f = definition.ir(types_of(definition))
    (y,) = [p for p in f.params if p.hint == "y"]
    assert isinstance(y.type, Memory)
    shape = tuple(DIMS[str(d)] for d in y.type.shape)
    integral = y.type.dtype.is_integer
    out = np.full(shape, -(2**31) if integral else np.nan, y.type.dtype.carrier)
    interpret(f, {**inputs, "y": out}, {**DIMS, **tiles})
    return out


def softmaxed(x: Array) -> Array:
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def normed(x: Array, g: Array) -> Array:
    d = x - x.mean(1, keepdims=True)
    return d / np.sqrt((d * d).mean(1, keepdims=True) + 1e-3) * g


X, W, SQUARE, VECTOR = rng((5, 6)), rng((7, 6), 1), rng((5, 5), 2), rng((5,), 3)
WIDE, GAIN, TABLE = rng((5, 7), 4), rng((7,), 5), rng((9, 4), 6)
IDS, LENGTH = np.array([3, 0, 8, 3, 1]), np.array([4, 0, 6])
WHOLE = np.array([-9, 0, 3, 14, 100])


@dataclass(frozen=True)
class Case:
    inputs: dict[str, Array]
    expected: Array
    tolerance: float = 0.0


def ragged_sums() -> Array:
    return np.array([row[:n].sum() for row, n in zip(rng((3, 6), 7), LENGTH, strict=True)])


def scattered(x: Array, ids: Array, start: float) -> Array:
    out = np.full((9, 4), start + 1)
    np.add.at(out, ids, x)
    out[0] -= x.sum(0)
    return out


def ran_over(x: Array) -> Array:
    highest = np.maximum.accumulate(x[:, ::-1], 1)[:, ::-1]
    return x.cumsum(1) - highest * np.minimum.accumulate(x, 1)


ROWS = rng((5, 4), 10)
CASES = {
    "linear": Case({"x": X, "w": W}, X @ W.T, 1e-3),
    "softmax": Case({"x": WIDE}, softmaxed(WIDE), 2e-3),
    "norm": Case({"x": WIDE, "g": GAIN, "eps": np.array(1e-3)}, normed(WIDE, GAIN), 1e-6),
    "embedding": Case({"ids": IDS, "table": TABLE}, TABLE[IDS]),
    "below": Case({"x": SQUARE}, np.tril(SQUARE, -1).sum(1)),
    "running": Case({"x": WIDE}, ran_over(WIDE)),
    "scattered": Case({"x": ROWS, "ids": IDS, "s": np.array(2.5)}, scattered(ROWS, IDS, 2.5)),
    "causal": Case({"x": SQUARE}, np.where(np.tri(5, dtype=bool), SQUARE, -1.0)),
    "repeated": Case({"x": VECTOR, "times": np.array(4)}, VECTOR * 7),
    "inlined": Case(
        {"x": VECTOR}, np.maximum(VECTOR, -1) * 2.5 + np.maximum(VECTOR, 0.5) ** 2, 1e-6
    ),
    "ragged": Case({"x": rng((3, 6), 7), "length": LENGTH}, ragged_sums()),
    "twice_projected": Case({"x": X, "w": W, "v": rng((7, 6), 9)}, X @ (W - rng((7, 6), 9)).T),
    "bits": Case({"x": WHOLE}, ((WHOLE & 7) << 2 | WHOLE % 3) ^ ~(WHOLE >> 1)),
}


@pytest.mark.parametrize("name", TEXT)
def test_both_spellings_give_the_same_ir(name: str):
    python = getattr(kernels, name).definition
    assert show(python.ir(types_of(TEXT[name]))) == show(TEXT[name].ir())


@pytest.mark.parametrize("tiles", [{}, TILES], ids=["whole", "tiled"])
@pytest.mark.parametrize("name", CASES)
def test_a_kernel_means_what_numpy_says(name: str, tiles: dict[str, int]):
    case = CASES[name]
    out = ran(TEXT[name], case.inputs, tiles)
    error = np.linalg.norm(out - case.expected) / np.linalg.norm(case.expected)
    assert error <= case.tolerance


@pytest.mark.parametrize("name", CASES)
def test_compiled_code_means_the_same(name: str):
    case, args = CASES[name], []
    for p in TEXT[name].ir().params:
        if not isinstance(p.type, Memory):
            args.append(case.inputs[p.hint].item())
        elif p.hint == "y":
            shape = tuple(DIMS[str(d)] for d in p.type.shape)
            args.append(np.full(shape, -99, p.type.dtype.numpy))
        else:
            args.append(np.ascontiguousarray(case.inputs[p.hint]).astype(p.type.dtype.numpy))
    Kernel(TEXT[name])(*args)
    (out,) = [a for a, p in zip(args, TEXT[name].ir().params, strict=True) if p.hint == "y"]
    error = np.linalg.norm(out.astype(float) - case.expected)
    assert error <= case.tolerance * np.linalg.norm(case.expected)


@pytest.mark.parametrize(("limit", "factor"), [(3.9, -1.0), (0.6, 0.5)])
def test_while_and_if(limit: float, factor: float):
    x = np.array([1.0, -2.0, 3.0, 0.5, -1.0])
    out = ran(TEXT["halving"], {"x": x, "limit": np.array(limit)}, {})
    assert np.array_equal(out, factor * x)


def example(name: str) -> tuple[Definition, Definition]:
    """An example in both spellings."""
    source = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert source is not None
    assert source.loader is not None
    module = importlib.util.module_from_spec(source)
    source.loader.exec_module(module)
    text = parse((EXAMPLES / f"{name}.tile").read_text(), f"{name}.tile")
    return getattr(module, name).definition, text[name]


@pytest.mark.parametrize("name", ["gelu", "layernorm", "linear", "softmax"])
def test_examples_agree(name: str):
    python, text = example(name)
    assert show(python.ir(types_of(text))) == show(text.ir())


def gelu(x: Array) -> Array:
    erf: Callable[[float], float] = importlib.import_module("math").erf
    return x * 0.5 * (1 + np.vectorize(erf)(x / np.sqrt(2)))


def test_examples_mean_what_numpy_says():
    gain, bias = rng((7,), 5), rng((7,), 8)
    mean, deviation = WIDE.mean(1, keepdims=True), np.sqrt(WIDE.var(1, keepdims=True) + 1e-5)
    cases = {
        "gelu": ({"x": WIDE}, gelu(WIDE)),
        "softmax": ({"x": WIDE}, softmaxed(WIDE)),
        "layernorm": (
            {"x": WIDE, "gain": gain, "bias": bias, "eps": np.array(1e-5)},
            (WIDE - mean) / deviation * gain + bias,
        ),
    }
    for name, (inputs, expected) in cases.items():
        out = ran(example(name)[1], inputs, {"m.tile": 2})
        assert np.linalg.norm(out - expected) < 1e-6 * np.linalg.norm(expected), name
