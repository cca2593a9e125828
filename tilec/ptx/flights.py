"""Asynchronous operations under way: cp.async by thread, bulk copies by thread, wgmma by warpgroup.

Each has groups: operations belong to the group that their issuer has open, a commit closes it, and
a wait lets all groups but the newest few be done.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tilec.ptx.formats import Array
from tilec.ptx.instruction import Instruction


@dataclass
class Flight:
    """One instruction's operations: their issuers, the group of each, and how they end.

    `land` is called with a mask of the operations that are done.
    """

    i: Instruction
    issuers: Array
    group: Array
    land: Callable[[Array], None]
    open: Array


class Flights:
    """The operations of `issuers` issuers that are not done."""

    def __init__(self, issuers: int) -> None:
        self.issued = 0
        self.committed = np.zeros(issuers, np.int64)
        self.flying: list[Flight] = []

    def issue(self, i: Instruction, issuers: Array, land: Callable[[Array], None]) -> None:
        """Operations begin, one of each issuer."""
        self.issued += 1
        group = self.committed[issuers]
        self.flying.append(Flight(i, issuers, group, land, np.ones(len(issuers), bool)))

    def commit(self, issuers: Array) -> None:
        """Close the open group of each issuer."""
        self.committed[issuers] += 1

    def wait(self, issuers: Array, newest: int, uncommitted: bool = False) -> None:
        """Let all but the `newest` committed groups of the issuers be done."""
        if not self.flying:
            return
        waiting = np.zeros(len(self.committed), bool)
        waiting[issuers] = True
        for f in self.flying:
            done = f.open & waiting[f.issuers]
            if not uncommitted:
                done &= f.group < self.committed[f.issuers] - newest
            if done.any():
                f.open &= ~done
                f.land(done)
        self.flying = [f for f in self.flying if f.open.any()]

    def of(self, issuers: Array) -> list[Flight]:
        """What of these issuers is not done."""
        return [f for f in self.flying if (f.open & np.isin(f.issuers, issuers)).any()]
