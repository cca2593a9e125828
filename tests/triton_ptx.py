"""Triton kernels in the PTX interpreter."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tilec import ptx
from tilec.ir.dtype import Array
from tilec.ir.source import KernelSource
from tilec.runtime.triton import compile_for


def executed(source: KernelSource, arguments: Mapping[str, Array], target: str = "sm_90"
             ) -> ptx.Report:  # fmt: skip
    """What the interpreter found while it ran a kernel on arrays by parameter; they are written."""
    build = compile_for(source, target)
    module = ptx.load(build["ptx"])
    (launch,) = source.launches
    scratch = np.zeros(1, np.uint8)
    given = [np.ascontiguousarray(arguments[p.name]) for p in source.params]
    report = module.run(launch.entry, int(str(launch.blocks)), launch.threads, [*given, scratch, 0],
                        shared=build.shared)  # fmt: skip
    for p, array in zip(source.params, given, strict=True):
        arguments[p.name][...] = array
    return report
