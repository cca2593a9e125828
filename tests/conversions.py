"""Random pairs of layouts of one tile of which many elements stay in their warps."""

from __future__ import annotations

import numpy as np

from tilec.ir.layout.digits import Digit
from tilec.ir.layout.register import RegisterLayout

THREADS, LANES = 128, 5  # of four warps; binary digits of a lane


def pair(rng: np.random.Generator) -> tuple[RegisterLayout, RegisterLayout]:
    """Digits of lanes change places with each other and up to two with a thread's own, which are in
    another order in one of four pairs; one of eight has a digit that may go to another warp."""
    own, copies = int(rng.integers(5)), int(rng.integers(3))
    shape, digits = [1, 1], list[Digit]()
    for axis in rng.integers(2, size=own + 7 - copies).tolist():
        digits.append(Digit(2, axis, shape[axis]))
        shape[axis] *= 2
    digits = [digits[i] for i in rng.permutation(len(digits))]
    threads = [*digits[own:], *[Digit(2)] * copies]
    threads, locals_ = [threads[i] for i in rng.permutation(len(threads))], digits[:own]
    source = RegisterLayout(tuple(shape), tuple(threads), tuple(locals_))
    for place in (len(threads) - LANES + rng.permutation(LANES)[: rng.integers(3)]).tolist():
        if locals_ and threads[place].axis is not None:
            i = int(rng.integers(len(locals_)))
            threads[place], locals_[i] = locals_[i], threads[place]
    if rng.integers(4) == 0:
        locals_ = [locals_[i] for i in rng.permutation(own)]
    high = 2 - int(rng.integers(8) == 0)
    low = [threads[high + i] for i in rng.permutation(len(threads) - high)]
    return source, RegisterLayout(tuple(shape), (*threads[:high], *low), tuple(locals_))
