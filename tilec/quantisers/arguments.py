"""The arguments of quantisers, each checked once: weights, inputs, formats and counts."""

from __future__ import annotations

from typing import Any

import numpy as np

from tilec.ir.dtype import Array
from tilec.ir.errors import TileError
from tilec.ir.format import Format
from tilec.ir.named import named
from tilec.ir.scaled import Scaled
from tilec.runtime.tensor import doubles


def numbers(method: str, what: str, given: Any) -> Array:
    """An array, or a torch tensor of any dtype and device, as finite doubles."""
    try:
        x = doubles(given)
    except (TypeError, ValueError) as e:
        raise TileError(
            f"{method}: the {what} are {type(given).__name__}, expected an array of numbers"
        ) from e
    if not x.shape or 0 in x.shape:
        raise TileError(f"{method}: the {what} have shape {list(x.shape)}, expected elements")
    if not np.isfinite(x).all():
        raise TileError(f"{method}: the {what} have elements that are not finite")
    return x


def matrix(method: str, weight: Any) -> Array:
    """Weights [N, K] as doubles."""
    x = numbers(method, "weights", weight)
    if x.ndim != 2:
        raise TileError(f"{method}: the weights have shape {list(x.shape)}, expected [N, K]")
    return x


def samples(method: str, inputs: Any, weight: Array) -> Array:
    """Inputs [samples, K] of weights [N, K] as doubles."""
    x = numbers(method, "inputs", inputs)
    if x.ndim != 2 or x.shape[1] != weight.shape[1]:
        raise TileError(f"{method}: the inputs have shape {list(x.shape)}, expected [samples, "
                        f"{weight.shape[1]}] beside weights {list(weight.shape)}")  # fmt: skip
    return x


def scaled(method: str, format: Format | str) -> Scaled:
    """A scaled format, or the one that a text means."""
    found = named(format) if isinstance(format, str) else format
    if not isinstance(found, Scaled):
        raise TileError(
            f"{method}: expected a scaled format such as int4<group=128>, not {found!s}"
        )
    return found


def count(method: str, what: str, given: int, least: int, most: int | None = None) -> int:
    """A whole number between two bounds, both included."""
    if given < least or (most is not None and given > most):
        bounds = f"at least {least}" if most is None else f"{least} to {most}"
        raise TileError(f"{method}: {what} is {given}, expected {bounds}")
    return given


def output_root(inputs: Array) -> Array:
    """Rows [at most K, K] that every error has the same norm with as with the inputs."""
    return np.linalg.qr(inputs).R if len(inputs) > inputs.shape[1] else inputs
