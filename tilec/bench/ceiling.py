"""The machine's ceilings as contenders, measured in the rounds of those that are held to them."""

from __future__ import annotations

from functools import partial

from tilec.bench.case import Case, Made, Make, rotated
from tilec.bench.problems.launched import looped
from tilec.ir.errors import TileError
from tilec.profile import ceilings


def ceiling(case: Case) -> Make | None:
    """What makes the ceiling of a case. Raises TileError for one that there is not."""
    if case.ceiling is None:
        return None
    known: dict[str, Make] = {"read": _read, "copy": partial(_copy, case.moved),
                              "arithmetic": partial(_arithmetic, case.unit),
                              "call": _call}  # fmt: skip
    if case.ceiling not in known:
        raise TileError(f"no ceiling is called {case.ceiling!r}", hint=", ".join(known))
    return known[case.ceiling]


def _read() -> Made:
    run, nbytes = ceilings.read(rotated())
    return Made([run], None, nbytes=nbytes)


def _copy(moved: int) -> Made:
    run, nbytes = ceilings.copied(moved // 2)
    return Made([run], None, nbytes=2 * nbytes)


def _call() -> Made:
    return looped(lambda: None)


def _arithmetic(unit: str) -> Made:
    narrow = unit != "f32"
    run, operations = ceilings.of_bytes() if unit == "int8" else ceilings.arithmetic(narrow)
    return Made([run], None, operations=operations)
