"""AWQ: input channels with large activations get finer steps, by a scale folded into the inputs.

The rule is that of Lin et al., "AWQ: Activation-aware Weight Quantization", arXiv 2306.00978, with
its normalisation and its search for clipped ranges as in the authors' code.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tilec.ir import fit
from tilec.ir.dtype import Array, f32
from tilec.ir.errors import TileError
from tilec.ir.fit import Fit
from tilec.ir.format import Dense, Format
from tilec.ir.named import named
from tilec.ir.scaled import Parts, Scaled
from tilec.quantisers.arguments import count, matrix, output_root, samples
from tilec.runtime.tensor import PackedTensor, packed

LEAST = 1e-4  # of the largest channel's scale, what a channel without activations has
CLIPS = 10  # ranges tried, each a twentieth narrower


def awq(weight: Any, inputs: Any, format: Format | str, steps: int = 20, *, clip: bool = False,
        search: bool = True) -> tuple[PackedTensor, Array]:  # fmt: skip
    """Weights [N, K] times a scale of each column, and the scale [K] that inputs are divided by.

    The scale is mean(|inputs|)**alpha over inputs[samples, K], divided by sqrt(max * min) of it;
    alpha is the one of 0, 1/steps, ... 1 with the least |inputs @ W.T - (inputs / s) @ Q(W * s).T|.
    Alpha 0 is rounding to nearest, which the result is never worse than. With `search`, scales of
    least squared error are tried beside those of the whole range, which keep salient columns. With
    `clip`, the range of each block is clipped where that is nearer to the outputs.
    Raises TileError for numbers that are not finite, shapes that do not fit, formats without
    scales and, with `clip`, blocks of more than one row.
    """
    x = matrix("awq", weight)
    count("awq", "steps", steps, 0)
    given = samples("awq", inputs, x)
    target = named(format) if isinstance(format, str) else format
    if isinstance(target, Dense):
        raise TileError(f"awq: expected a format with scales, not {target}")
    if clip:
        _check_blocks(target)
    root, hows = output_root(given), (Fit(False), Fit(True))[: 1 + search]
    best, chosen, least = _searched(target, x, given, root, hows, steps)
    for how in hows if clip else ():
        clipped = _clipped(target, x * chosen, given / chosen, how)
        parts = fit.encode(target, clipped, how)
        error = _error(target, parts, x, chosen, root)
        if error < least:
            best, least = parts, error
    return packed(target, best, x.shape), chosen.astype(np.float32)


def _searched(
    format: Format, x: Array, inputs: Array, root: Array, hows: tuple[Fit, ...], steps: int
) -> tuple[Parts, Array, float]:
    """The components of least error, their scale, and that error."""
    best: Parts = {}
    activation: Array = np.abs(inputs).mean(0)
    chosen, least = _scale(activation, 0.0), np.inf
    for step in range(steps + 1):
        scale = _scale(activation, step / max(steps, 1))
        for how in hows:
            parts = fit.encode(format, x * scale, how)
            error = _error(format, parts, x, scale, root)
            if error < least:
                best, chosen, least = parts, scale, error
    return best, chosen, least


def _scale(activation: Array, alpha: float) -> Array:
    """The scale [K] of columns whose inputs have these mean magnitudes, as f32 stores it."""
    top = activation.max()
    scale = np.maximum((activation / (top or 1.0)) ** alpha, LEAST)
    return f32.round(scale / np.sqrt(scale.max() * scale.min()))


def _error(format: Format, parts: Parts, x: Array, scale: Array, root: Array) -> float:
    """The norm of the error of the outputs, of components of x * scale."""
    return float(np.linalg.norm(root @ (x - format.values(parts, x.shape) / scale).T))


def _check_blocks(format: Format) -> None:
    if not isinstance(format, Scaled) or format.block.rows != 1:
        raise TileError(f"awq: clip needs a scale for each group or channel, not {format}")


def _clipped(format: Format, x: Array, inputs: Array, how: Fit) -> Array:
    """Weights x[N, K], each block clipped where that is nearest to its part of the outputs."""
    width = format.group or x.shape[1]
    chosen, least = x.copy(), np.full((len(x), -(-x.shape[1] // width)), np.inf)
    parts = [slice(at, at + width) for at in range(0, x.shape[1], width)]
    for i in range(CLIPS):
        clipped = x.copy()
        for part in parts:
            limit = np.abs(x[:, part]).max(1, keepdims=True) * (1 - i / (2 * CLIPS))
            clipped[:, part] = x[:, part].clip(-limit, limit)
        error = format.values(fit.encode(format, clipped, how), x.shape) - x
        for g, part in enumerate(parts):
            found = np.square(error[:, part] @ inputs[:, part].T).sum(1)
            better = found < least[:, g]
            least[better, g] = found[better]
            chosen[better, part] = clipped[better, part]
    return chosen
