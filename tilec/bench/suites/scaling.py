"""What cost grows with: sizes, sparsity, threads, the length of programs, entries of the cache."""

from __future__ import annotations

from collections.abc import Iterator

from tilec.bench.case import Case, Ceiling, Problem, Suite
from tilec.bench.machine import processors
from tilec.bench.problems.attention import Attention
from tilec.bench.problems.compiled import Compiled
from tilec.bench.problems.grown import Grown
from tilec.bench.problems.kept import Kept
from tilec.bench.problems.layered import Layered
from tilec.bench.problems.linear import Linear
from tilec.bench.problems.pruned import Pruned
from tilec.bench.suites.gemv import INT4

SIDE = 4096
ROWS = (1, 2, 4, 8, 16, 64, 256, 1024)
SIDES = (512, 1024, 2048, 4096, 8192, 16384)
BATCHES = (1, 2, 4, 8, 16, 32, 64)
QUERIES, KEYS = (64, 128, 256, 512, 1024, 2048, 4096), (256, 512, 1024, 2048, 4096, 8192, 16384)
DENSITIES = (0.9, 0.7, 0.5, 0.3, 0.2, 0.1, 0.05)
MLP = (2048, 5632)  # elements of a row, and inside
STEPS, LAYERS, ENTRIES = (2, 4, 8, 16, 32, 64), (1, 2, 4, 8, 16), (10, 100, 1000, 10_000)
SMALL = (16, 64)  # rows and elements of programs whose compiling is timed


def _along(what: str, at: float, problem: Problem, ceiling: Ceiling | None = None) -> Case:
    """A point of a curve: cost against the last word of `what`."""
    axes = {"curve": what, what.split()[-1]: at}
    return Case(f"{what} {at:g}", axes, problem, ceiling)


def _sizes(quick: bool) -> list[Case]:
    return list(_few()) if quick else list(_all())


def _few() -> Iterator[Case]:
    for m in (1, 4, 16):
        yield _along("M", m, Linear(m, 512, 512, INT4))


def _all() -> Iterator[Case]:
    for m in ROWS:
        yield _along("M", m, Linear(m, SIDE, SIDE, INT4), "read" if m == 1 else "arithmetic")
    for n in SIDES:
        yield _along("N", n, Linear(1, n, SIDE, INT4), "read")
    for k in SIDES:
        yield _along("K", k, Linear(1, SIDE, k, INT4), "read")
    for b in BATCHES:
        yield _along("MLP batch", b, Layered("mlp", (b, *MLP), "bf16", "int4"))
    for n in QUERIES:
        yield _along("prefill sequence", n, Attention(n, n, True), "arithmetic")
    for n in KEYS:
        yield _along("decode sequence", n, Attention(1, n, True), "read")
    for left in DENSITIES:
        yield _along("density", left, Pruned(1, SIDE, SIDE, "bitmap<bf16>", left), "read")


def _with_threads(quick: bool) -> list[Case]:
    if quick:
        return [Case("int4 1 row", {}, Linear(1, 512, 512, INT4))]
    return [
        Case("int4 1 row", {}, Linear(1, SIDE, SIDE, INT4), "read"),
        Case("int4 64 rows", {}, Linear(64, SIDE, SIDE, INT4), "arithmetic"),
        Case("softmax", {}, Layered("softmax", (1024, SIDE), "f32")),
        Case("attention of 1024", {}, Attention(1024, 1024, True), "arithmetic"),
    ]


def counts(most: int) -> tuple[int, ...]:
    """Numbers of threads, up to twice as many as there are processors."""
    steps = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
    few = [n for n in steps if n <= 2 * most]
    return tuple(few if len(few) <= 8 else sorted({1, *few[-7:]}))


def _programs(quick: bool) -> list[Case]:
    steps, layers = ((2, 4), ()) if quick else (STEPS, LAYERS)
    found = [_along("steps", n, Compiled(Grown("chain", (n, *SMALL), "f32"), False))
             for n in steps]  # fmt: skip
    return found + [_along("layers", n, Compiled(Grown("layers", (n, *SMALL), "f32", "f32"), False))
                    for n in layers]  # fmt: skip


def _entries(quick: bool) -> list[Case]:
    return [_along("entries", n, Kept(n)) for n in ((10, 100) if quick else ENTRIES)]


SUITES = (
    Suite("scaling", "time against sizes, batch, sequence and sparsity", _sizes),
    Suite("threads", "time against the number of threads", _with_threads, counts(processors())),
    Suite("programs", "time to compile against the length of a program", _programs, (1,), rounds=3),
    Suite("entries", "time of a hit against entries of the cache", _entries, (1,)),
)
