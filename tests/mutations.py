"""Printed programs that are broken on purpose, and what emulation finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from emulated import poisoned, program_of
from lang import kernels

import tilec as tc
from tilec.cuda import Program, Schedule, emulate, in_memory
from tilec.ir.dtype import Array, DType
from tilec.ir.named import named

WRONG = "wrong"
Case = tuple[Program, dict[str, Array], Array]  # a program, its arguments, the `y` that it makes


def outcome(case: Case) -> set[str]:
    """The kinds of what the checks found, and whether the result is wrong."""
    program, given, want = case
    y = poisoned(want.shape, tc.f32)
    kinds = {f.kind for r in emulate(program, given | {"y": y}) for f in r.findings}
    return kinds | ({WRONG} if not np.array_equal(y, want) else set())


def broken(case: Case, old: str, number: int, new: str) -> Case:
    """The case with a text replaced, the `number`-th time that it occurs."""
    program, given, want = case
    parts = program.source.text.split(old)
    assert len(parts) > number + 1, f"{old!r} is there {len(parts) - 1} times"
    text = old.join(parts[: number + 1]) + new + old.join(parts[number + 1 :])
    return replace(program, source=replace(program.source, text=text)), given, want


def dense(t: DType, dims: Mapping[str, int], schedule: Schedule) -> Case:
    """x @ w.T on whole numbers."""
    program = program_of(kernels.linear, {"x": t, "w": t, "y": tc.f32}, dims, schedule)
    rng = np.random.default_rng(0)
    x, w = (rng.integers(-4, 5, (dims[d], dims["K"])).astype(t.numpy) for d in "MN")
    return program, {"x": x, "w": w}, x.astype(float) @ w.astype(float).T


def quantised(t: DType, text: str, dims: Mapping[str, int], schedule: Schedule) -> Case:
    """Every code of 4 bits beside whole numbers, with scales that are powers of two."""
    format, (n, k) = named(f"{text}<group=128>"), (dims["N"], dims["K"])
    program = program_of(kernels.linear, {"x": t, "w": format, "y": tc.f32}, dims, schedule)
    rng = np.random.default_rng(1)
    low = -8 if text == "int4" else 0
    parts = {"codes": rng.integers(low, low + 16, (n, k)),
             "scale": np.ldexp(1.0, rng.integers(-1, 2, (n, k // 128)))}  # fmt: skip
    x = rng.integers(-4, 5, (dims["M"], k)).astype(t.numpy)
    want = x.astype(float) @ format.values(parts, (n, k)).T
    return program, {"x": x} | in_memory(program, format, parts, (n, k), "w"), want
