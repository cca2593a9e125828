"""The cases of the GPU suite, by family."""

from __future__ import annotations

from tilec.bench.gpu.case import Case
from tilec.bench.gpu.cases import attention, experts, products, rows, sparse

FAMILIES = {
    "products": products.CASES,
    "sparse": sparse.CASES,
    "experts": experts.CASES,
    "attention": attention.CASES,
    "rows": rows.CASES,
}
CASES: tuple[Case, ...] = tuple(c for family in FAMILIES.values() for c in family)
