"""Every named format: what is known of it (`about`), and one row times a weight that has it."""

from __future__ import annotations

from tilec.bench.case import Case, Suite
from tilec.bench.problems.stored import Stored, names

SIDE = 4096


def _cases(quick: bool) -> list[Case]:
    chosen, side = (["nvfp4"], 512) if quick else (names(), SIDE)
    return [Case(name, {"format": name, "M": 1, "N": side, "K": side}, Stored(name, side), "read")
            for name in chosen]  # fmt: skip


SUITE = Suite("formats", "every named format: size, errors, codes, and a row times it", _cases)
