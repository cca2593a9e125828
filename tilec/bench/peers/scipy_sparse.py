"""scipy's products with sparse matrices, on one thread."""

# scipy types what is looked up by name loosely.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np

from tilec.bench.case import Made, Make, Peer, Problem
from tilec.bench.problems.pruned import WORST, Pruned
from tilec.ir.dtype import Array


def _absent() -> str:
    return "" if find_spec("scipy") else "scipy is not installed"


def _contenders(problem: Problem) -> Mapping[str, Make]:
    if not isinstance(problem, Pruned):
        return {}
    found: dict[str, Make] = {"scipy csr f32": partial(_product, problem, False)}
    if problem.side > 1:
        found["scipy bsr f32"] = partial(_product, problem, True)
    return found


def _product(of: Pruned, blocks: bool) -> Made:
    from scipy import sparse  # pyright: ignore[reportMissingTypeStubs]

    weight, x = of.weight(), of.rows()
    made: Any = sparse.csr_array(weight)
    if blocks:
        made = sparse.bsr_array(made, blocksize=(of.side, of.side))
    turned = np.ascontiguousarray(x.T)
    nbytes = made.data.nbytes + made.indices.nbytes + made.indptr.nbytes

    def call(w: Any) -> Any:
        return w @ turned

    def got(y: Any) -> Array:
        return np.asarray(y, np.float64).T

    weights = [made, *(made.copy() for _ in range(of.copies(nbytes) - 1))]
    return Made([partial(call, w) for w in weights], lambda: of.want(weight, x), got,
                nbytes=nbytes, operations=of.operations, worst=WORST)  # fmt: skip


PEER = Peer("scipy", _absent, _contenders)
