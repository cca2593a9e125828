"""Recipes: which weight gets which format, and who rounds it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from tilec import quantisers
from tilec.ir.errors import TileError
from tilec.ir.format import Format
from tilec.ir.named import named
from tilec.runtime.tensor import PackedTensor, quantize

NEAREST = "nearest"
NEED_INPUTS = ("awq", "gptq")
TAKE_INPUTS = (*NEED_INPUTS, "dgq", "kmeans", "svd_split")
METHODS: dict[str, Callable[..., Any]] = {NEAREST: quantize, **quantisers.METHODS}


@dataclass(frozen=True)
class Rounding:
    """A format, the quantiser that rounds to it, and the quantiser's options.

    `method` is `nearest`, or one of `tilec.quantisers`; awq and gptq need inputs for calibration.
    """

    format: Format | str
    method: str = NEAREST
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise TileError(f"no quantiser is called {self.method!r}; "
                            f"there are {', '.join(METHODS)}")  # fmt: skip
        if isinstance(self.format, str):
            object.__setattr__(self, "format", named(self.format))

    def __call__(self, weight: Any, inputs: Any) -> tuple[PackedTensor, Any]:
        """A weight [N, K] rounded with inputs [samples, K] or None, and what inputs are divided by
        (None: nothing). Raises TileError for a weight that the format can't hold."""
        given = {"inputs": inputs} if inputs is not None and self.method in TAKE_INPUTS else {}
        made: Any = METHODS[self.method](weight, **given, format=self.format, **self.options)
        return (made, None) if isinstance(made, PackedTensor) else made


Recipe = str | Format | Rounding
Pattern = str | re.Pattern[str]
Recipes = Recipe | Mapping[Any, Recipe | None]


@dataclass(frozen=True)
class Rules:
    """Patterns in order, and the rounding of what they match; None leaves it as it is."""

    rules: tuple[tuple[Pattern, Rounding | None], ...]

    def match(self, name: str) -> tuple[int, Rounding | None]:
        """The first rule that a name matches, by number, and its rounding; -1 for none."""
        for i, (pattern, rounding) in enumerate(self.rules):
            if _matches(pattern, name):
                return i, rounding
        return -1, None

    def check(self, names: list[str], kinds: str) -> None:
        """Raises TileError naming the patterns that match none of these layers."""
        idle = [p for p, _ in self.rules if not any(_matches(p, n) for n in names)]
        if idle:
            texts = ", ".join(repr(p if isinstance(p, str) else p.pattern) for p in idle)
            few = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
            raise TileError(f"quantize_: no layer matches {texts}",
                            hint=f"the layers ({kinds}) are {few or 'none'}")  # fmt: skip

    def need_inputs(self) -> bool:
        """Whether some rounding can't do without inputs."""
        return any(r is not None and r.method in NEED_INPUTS for _, r in self.rules)


def rules_of(recipe: Recipes) -> Rules:
    """A recipe as rules. Raises TileError for what is no format and no quantiser."""
    if isinstance(recipe, Mapping):
        return Rules(tuple((p, None if r is None else _rounding(r)) for p, r in recipe.items()))
    return Rules((("*", _rounding(recipe)),))


def _rounding(given: Recipe) -> Rounding:
    return given if isinstance(given, Rounding) else Rounding(given)


def _matches(pattern: Pattern, name: str) -> bool:
    if isinstance(pattern, str):
        return fnmatchcase(name, pattern)
    return pattern.fullmatch(name) is not None


def relative(found: np.ndarray, wanted: np.ndarray) -> float:
    """|found - wanted| / |wanted|, and 0 where both are 0."""
    size = float(np.linalg.norm(wanted))
    return float(np.linalg.norm(found - wanted)) / size if size else float(np.abs(found).max())
