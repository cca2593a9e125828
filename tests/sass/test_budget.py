"""Budgets: each part can be kept and broken, and one failure lists all that is broken."""

from __future__ import annotations

import re

import pytest
from sass.kernels import RESOURCES, listed, weighted

from tilec.ir.errors import TileError
from tilec.sass import Budget
from tilec.sass.stats import judged

KEPT = Budget(
    registers=128,
    shared=49152,
    ctas=4,
    per_mma=4,
    spills=True,
    has={"HMMA": 2, "HMMA.F32": (2, 2), "mma": (1, 3), "LDGSTS.128": 2},
    lacks=("HGMMA", "IMMA", "convert"),
    loop={"HMMA": (2, 2), "logic": (0, 1), "LDC": (0, 0)},
    widths={"ldgsts": 16, "ldg": 4},
)
BROKEN = (
    (Budget(spills=True, registers=127), "registers: 128, expected at most 127"),
    (Budget(spills=True, shared=49151), "bytes of shared memory: 49152, expected at most 49151"),
    (Budget(spills=True, ctas=5), "CTAs per multiprocessor: 4, limited by registers, "
     "expected at least 5"),
    (Budget(spills=True, per_mma=3.9), "instructions per MMA: 4, expected at most 3.9"),
    (Budget(), "spilling instructions: 1, expected at most 0"),
    (Budget(spills=True, has={"HMMA": 3}), "HMMA: 2, expected at least 3"),
    (Budget(spills=True, has={"HGMMA.RS": 1}), "HGMMA.RS: 0, expected at least 1"),
    (Budget(spills=True, has={"HMMA": (3, 4)}), "HMMA: 2, expected 3 to 4"),
    (Budget(spills=True, lacks=("HMMA",)), "HMMA: 2, expected 0"),
    (Budget(spills=True, lacks=("half",)), "half: 1, expected 0"),
    (Budget(spills=True, loop={"LDC": 1}), "LDC in the main loop: 0, expected at least 1"),
    (Budget(spills=True, widths={"ldg": 8}), "ldg in the main loop: 1 of 4 bytes, "
     "expected at least 8 each"),
)  # fmt: skip


def test_a_budget_that_is_kept():
    assert KEPT.broken(weighted()) == ()
    KEPT.check(weighted())


@pytest.mark.parametrize(("budget", "message"), BROKEN)
def test_each_part_can_be_broken(budget: Budget, message: str):
    assert budget.broken(weighted()) == (message,)


def test_one_failure_lists_all():
    budget = Budget(registers=100, has={"HGMMA": 1}, per_mma=2)
    expected = (
        "weighted for sm_90a breaks its budget:\n"
        "  registers: 128, expected at most 100\n"
        "  instructions per MMA: 4, expected at most 2\n"
        "  spilling instructions: 1, expected at most 0\n"
        "  HGMMA: 0, expected at least 1"
    )
    with pytest.raises(AssertionError, match=f"^{re.escape(expected)}$"):
        budget.check(weighted())


def test_stack_and_what_is_not_known():
    functions = {f.name: judged(f) for f in listed(RESOURCES, "sm_90a")}
    assert any(b.startswith("bytes of stack: ") for b in Budget().broken(functions["spilled"]))
    assert Budget(ctas=2, per_mma=5).broken(functions["scaled"]) == (
        "instructions per MMA: there are none, expected at most 5",
        "CTAs per multiprocessor: not known without threads, expected at least 2",
    )


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        (Budget(lacks=("QQMMA",)), "no instruction or class of instructions is called 'QQMMA'"),
        (Budget(widths={"mma": 4}), "'mma' has no width: expected one of ldg, ldgsts"),
    ],
)
def test_names_that_nothing_has(budget: Budget, message: str):
    with pytest.raises(TileError, match=message):
        budget.broken(weighted())
