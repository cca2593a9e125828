"""mbarrier instructions (PTX ISA, 'mbarrier'): arrivals, expected bytes and waits."""

from __future__ import annotations

import numpy as np

from tilec.ptx.formats import Array
from tilec.ptx.instructions.memory import SCOPES
from tilec.ptx.operand import Address
from tilec.ptx.registry import instruction
from tilec.ptx.step import Outcome, Step, Wait
from tilec.ptx.types import types

B64 = types("b64")
WHERE = ("shared", "shared::cta", "shared::cluster", *SCOPES)
SEMANTICS = ("acquire", "release", "relaxed")


def _optional(x: Step, n: int, default: int) -> Array:
    """An operand that may be left out."""
    if n >= len(x.i.operands):
        return np.full(x.t.count, default, np.int64)
    return x.row(n, 32).astype(np.int64)


@instruction("mbarrier.init", WHERE, types=(B64,), operands=2)
def init(x: Step) -> None:
    """An object that completes a phase after that many arrivals."""
    x.m.mbarriers.create(x.t, x.i, x.address(0, 32), x.row(1, 32))


@instruction("mbarrier.inval", WHERE, types=(B64,), operands=1)
def inval(x: Step) -> None:
    """The end of an object."""
    x.m.mbarriers.destroy(x.t, x.i, x.address(0, 32))


def _arrive(x: Step, expects: bool, drops: bool) -> None:
    first = 0 if isinstance(x.operand(0), Address) else 1
    extra = _optional(x, first + 1, 0 if expects else 1)
    counts, expected = (np.ones_like(extra), extra) if expects else (extra, np.zeros_like(extra))
    address = x.address(first, 32)
    x.m.progress += 1
    tokens = x.m.mbarriers.arrive(x.t, x.i, address, counts, expected, drops)
    if first:
        x.put(tokens)


@instruction("mbarrier.arrive", ["noComplete", *WHERE, *SEMANTICS], types=(B64,),
             operands=(1, 2, 3))  # fmt: skip
def arrive(x: Step) -> None:
    """Arrivals; the result is a token of the phase."""
    _arrive(x, expects=False, drops=False)


@instruction("mbarrier.arrive.expect_tx", [*WHERE, *SEMANTICS], types=(B64,), operands=(2, 3))
def arrive_expect(x: Step) -> None:
    """One arrival, and bytes that the phase waits for."""
    _arrive(x, expects=True, drops=False)


@instruction("mbarrier.arrive_drop", ["noComplete", *WHERE, *SEMANTICS], types=(B64,),
             operands=(1, 2, 3))  # fmt: skip
def arrive_drop(x: Step) -> None:
    """Arrivals that later phases no longer count."""
    _arrive(x, expects=False, drops=True)


@instruction("mbarrier.expect_tx", [*WHERE, *SEMANTICS], types=(B64,), operands=2)
def expect(x: Step) -> None:
    """Bytes that the phase waits for."""
    x.m.mbarriers.expect(x.t, x.i, x.address(0, 32), x.row(1, 32).astype(np.int64))


@instruction("mbarrier.complete_tx", [*WHERE, *SEMANTICS], types=(B64,), operands=2)
def complete(x: Step) -> None:
    """Bytes that came, without a copy."""
    found, which = x.m.mbarriers.find(x.t, x.i, x.address(0, 32))
    brought = x.row(1, 32).astype(np.int64)
    x.m.progress += 1
    for k, m in enumerate(found):
        x.m.mbarriers.complete(m, int(brought[which == k].sum()))


def _passed(x: Step, parity: bool) -> Array:
    phases = x.row(2, 32 if parity else 64)
    done = x.m.mbarriers.passed(x.t, x.i, x.address(1, 32), phases, parity)
    x.put(done)
    return done


@instruction("mbarrier.test_wait", ["parity", *WHERE, *SEMANTICS], types=(B64,), operands=3)
def test_wait(x: Step) -> None:
    """Whether a phase has completed."""
    _passed(x, "parity" in x.i.modifiers)


@instruction("mbarrier.try_wait", ["parity", *WHERE, *SEMANTICS], types=(B64,), operands=(3, 4))
def try_wait(x: Step) -> Outcome:
    """Whether a phase has completed. Where it has not, sleeps and then says no: a loop asks again.

    So a program that does not look at the answer goes on too early, as it may on a GPU.
    """
    if _passed(x, "parity" in x.i.modifiers).any():
        return None
    return Wait("mbarrier", int(x.address(1, 32)[0]))


@instruction("mbarrier.pending_count", types=(B64,), operands=2)
def pending_count(x: Step) -> None:
    """Tokens here hold a phase and no count: 0."""
    x.put(np.uint32(0))


@instruction("cp.async.mbarrier.arrive", ["noinc", *WHERE], types=(B64,), operands=1)
def copies_arrive(x: Step) -> None:
    """An arrival when the thread's copies have landed: they land now.

    Without `.noinc` the phase first counts one arrival more, so that the two cancel out.
    """
    x.m.copies.wait(x.t.ids, 0, uncommitted=True)
    address = x.address(0, 32)
    x.m.progress += 1
    if "noinc" in x.i.modifiers:
        ones = np.ones(x.t.count, np.int64)
        x.m.mbarriers.arrive(x.t, x.i, address, ones, np.zeros_like(ones))
    else:
        x.m.mbarriers.share(x.t, x.i, address)
