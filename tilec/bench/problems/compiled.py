"""How long a program compiles: from its source to its first result, with caches and without."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from secrets import token_hex
from typing import Any

from tilec.bench.case import OURS, Made, Make
from tilec.bench.problems.layered import WORST, Layered, bound
from tilec.ir.dtype import DType
from tilec.ir.format import Format
from tilec.lang.kernel import Definition
from tilec.program import Program
from tilec.settings import tell


@dataclass(frozen=True)
class Compiled:
    """A layer, small enough that its run hardly counts; `cached`: its code is on the disk."""

    layered: Layered
    cached: bool

    @property
    def worst(self) -> float:
        """The relative error that its result may have."""
        return WORST[self.layered.dtype]

    def kernel(self) -> tuple[Definition, dict[str, Format | DType], dict[str, int]]:
        """The layer as one kernel, the formats of its tensors and its dimensions."""
        made = self.layered.made()
        types, dims = bound(made)
        return made.program.kernel(**types).definition, types, dims

    def ours(self) -> Mapping[str, Make]:
        """A new program for each call: without a cache, of another name each time."""
        return {OURS: partial(_ours, self)}


def _ours(of: Compiled) -> Made:
    folder = tempfile.mkdtemp(prefix="tilec-bench-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    tell(TILEC_CACHE_DIR=folder)  # before the engine is made
    made = of.layered.made()
    definition = made.program.definition
    plain = definition.signature

    first = Program(definition)
    first(*made.ours)
    about = {"stages": {t.name: t.seconds for t in first.compiles()[-1].totals}}

    def compiled() -> Any:
        name = plain.name if of.cached else f"{plain.name}_{token_hex(8)}"
        return Program(replace(definition, signature=replace(plain, name=name)))(*made.ours)

    return Made([compiled], made.want, worst=of.worst, about=about)
