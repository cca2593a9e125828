"""GPTQ: each column's rounding error is made up for by the columns after it.

The rule is that of Frantar et al., arXiv 2210.17323; `ir.calibrated` has it.
"""

from __future__ import annotations

from typing import Any

from tilec.ir import calibrated
from tilec.ir.fit import Fit
from tilec.ir.format import Format
from tilec.quantisers.arguments import matrix, samples, scaled
from tilec.runtime.tensor import PackedTensor, packed


def gptq(weight: Any, inputs: Any, format: Format | str, search: bool = True) -> PackedTensor:
    """Weights [N, K] in a scaled format, near in inputs[samples, K] @ weight.T.

    With `search`, scales are those of least squared error among a few, and not the widest range.
    Raises TileError for numbers that are not finite, shapes that do not fit, and other formats.
    """
    x = matrix("gptq", weight)
    target = scaled("gptq", format)
    parts = calibrated.encode(target, x, samples("gptq", inputs, x), Fit(search))
    return packed(target, parts, x.shape)
