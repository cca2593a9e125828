"""Control flow (PTX ISA, 'Control flow instructions'). Calls are inlined before anything runs."""

from __future__ import annotations

import numpy as np

from tilec.ir.errors import TileError
from tilec.ptx.operand import Address, Label
from tilec.ptx.registry import instruction
from tilec.ptx.step import Exit, Jump, Outcome, Step, Wait


def _label(x: Step, n: int) -> Label:
    o = x.operand(n)
    if not isinstance(o, Label):
        raise TileError(f"ptx: {x.i.place}: {o} is no label: {x.i.text}")
    return o


@instruction("bra", "uni", operands=1)
def bra(x: Step) -> Outcome:
    """Go to a label."""
    return Jump(_label(x, 0).targets[0])


@instruction("brx.idx", "uni", operands=2)
def brx(x: Step) -> Outcome:
    """Go to the label of a list that the index picks; an index beyond the list is a trap."""
    targets = _label(x, 1).targets
    index = x.row(0, 32)
    if (index >= len(targets)).any():
        x.m.findings.add("trap", x.i, f"an index is not below {len(targets)}")
    return Jump(np.array(targets)[np.minimum(index, len(targets) - 1)])


@instruction("ret exit", "uni", operands=0)
def exit_(x: Step) -> Outcome:
    """The thread ends."""
    for flights, what in ((x.m.copies, "cp.async"), (x.m.bulk, "bulk copies")):
        for f in flights.of(x.t.ids):
            message = f"threads end while {what} of {f.i.place} are under way"
            x.m.findings.add("exit", x.i, message, threads=[x.t.named(0)], other=f.i.place)
    for f in x.m.matrices.of(x.t.warps):
        message = f"threads end while the wgmma of {f.i.place} is under way"
        x.m.findings.add("exit", x.i, message, threads=[x.t.named(0)], other=f.i.place)
    return Exit()


@instruction("trap", operands=0)
def trap(x: Step) -> Outcome:
    """Stop the kernel."""
    x.m.findings.add("trap", x.i, f"{x.t.count} threads run into it", threads=[x.t.named(0)])
    return Wait("stop")


@instruction("brkpt", operands=0)
def brkpt(x: Step) -> None:
    """A breakpoint: nothing happens."""


@instruction("call.vprintf", "uni", operands=(0, 1))
def vprintf(x: Step) -> None:
    """printf of device code prints nothing here; it returns 0."""
    if x.i.operands and isinstance(o := x.operand(0), Address):
        rows = np.zeros((x.t.count, 4), np.uint8)
        x.m.spaces.store(x.t, x.i, "local", o.of(x.t), rows)


@instruction("call.__assertfail", "uni", operands=(0, 1))
def assertfail(x: Step) -> Outcome:
    """A failed assertion."""
    x.m.findings.add("trap", x.i, f"an assertion fails in {x.t.count} threads",
                     threads=[x.t.named(0)])  # fmt: skip
    return Wait("stop")
