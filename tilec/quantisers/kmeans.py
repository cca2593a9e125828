"""Codebooks by weighted k-means: what counts more is nearer to an entry.

SqueezeLLM (Kim et al., arXiv 2306.07629) weighs each element by its sensitivity, the diagonal of
the Fisher information of the loss, and gives each row a table; it solves what `ir.kmeans` does by
other means. Of a layer alone, the sensitivity of a column is the mean square of its inputs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tilec.ir.codebook import Codebook, learnt
from tilec.ir.dtype import Array
from tilec.ir.errors import TileError
from tilec.ir.fit import Fit
from tilec.ir.format import Format
from tilec.ir.named import named
from tilec.quantisers.arguments import matrix, numbers, samples
from tilec.runtime.tensor import PackedTensor, packed

LEAST = 1e-6  # of the mean sensitivity, so that what has none gets near entries too


def kmeans(weight: Any, format: Format | str = "squeezellm", inputs: Any = None,
           sensitivity: Any = None, search: bool = True) -> PackedTensor:  # fmt: skip
    """Weights [..., K] as codes of the entries, learnt from them, that are nearest.

    Squared errors count by sensitivity[..., K], which may be stretched to the weights' shape, or,
    of weights [N, K] with inputs[samples, K], by the mean square of their column's inputs. With
    `search`, k-means has several starts and the best is kept, and tables and scales are fitted to
    one another. Raises TileError for numbers that are not finite, sensitivities below 0 or 0
    everywhere, shapes that do not fit, formats without learnt tables, and both inputs and
    sensitivity.
    """
    x = numbers("kmeans", "weights", weight)
    target = named(format) if isinstance(format, str) else format
    if not isinstance(target, Codebook):
        raise TileError(f"kmeans: expected learnt tables such as codebook<4, rows=1>, not {target}")
    if inputs is not None and sensitivity is not None:
        raise TileError("kmeans: expected inputs or a sensitivity, not both")
    counted = np.ones(x.shape)
    if inputs is not None:
        moment = np.square(samples("kmeans", inputs, matrix("kmeans", weight))).mean(0)
        counted = _counted("mean squares of inputs", moment, x)
    elif sensitivity is not None:
        counted = _counted("sensitivity", numbers("kmeans", "sensitivity", sensitivity), x)
    return packed(target, learnt(target, x, counted, Fit(search)), x.shape)


def _counted(what: str, given: Array, x: Array) -> Array:
    """How much the error of each weight counts, 1 on average."""
    try:
        wide = np.broadcast_to(given, x.shape)
    except ValueError as e:
        raise TileError(f"kmeans: the {what} has shape {list(given.shape)} beside weights "
                        f"{list(x.shape)}") from e  # fmt: skip
    if wide.min() < 0 or wide.max() == 0:
        raise TileError(f"kmeans: the {what} is at least 0, and not 0 everywhere; "
                        f"it is {wide.min():.3g} to {wide.max():.3g}")  # fmt: skip
    return np.maximum(wide / wide.mean(), LEAST)
