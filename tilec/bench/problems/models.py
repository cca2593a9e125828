"""Models as problems: their layers from end to end, in tokens per second and bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from tilec.bench.case import OURS, Made, Make
from tilec.bench.problems.encoder import encoder
from tilec.bench.problems.layered import Layered
from tilec.bench.problems.layers import Layer


@dataclass(frozen=True)
class Model(Layered):
    """A `decoder` layer of Llama-3-8B for (sequences, places of the cache), or the `encoder` MiniLM
    for (sentences, tokens)."""

    @property
    def tokens(self) -> int:
        """How many one call takes."""
        return self.sizes[0] * (self.sizes[1] if self.layer == "encoder" else 1)

    @property
    def worst(self) -> float:
        """Twice that of a layer: what is kept between six layers is rounded more often."""
        return (2 if self.layer == "encoder" else 1) * super().worst

    @property
    def about(self) -> Mapping[str, Any]:
        """What results say beside times."""
        return {"tokens": self.tokens}

    @property
    def dense(self) -> Model:
        """The same with weights of bf16."""
        return replace(self, weight="bf16")

    def made(self) -> Layer:
        """Its arguments and functions. Raises TileError for a layer that is not known."""
        return encoder(self) if self.layer == "encoder" else super().made()

    def timed(self, run: Callable[[], Any], about: Mapping[str, Any], kept: int = 0) -> Made:
        """A contender that runs the model with `run`."""
        return super().timed(run, {**self.about, **about}, kept)

    def ours(self) -> Mapping[str, Make]:
        """The program."""
        return {OURS: partial(_encoder, self)} if self.layer == "encoder" else super().ours()


def _encoder(of: Model) -> Made:
    made = of.made()
    return of.timed(lambda: made.program(*made.ours), {})
