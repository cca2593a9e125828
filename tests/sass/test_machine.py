"""How many CTAs fit: the answers of NVIDIA's own calculator."""

from __future__ import annotations

import pytest

from tilec.ir.errors import TileError
from tilec.sass.machine import H100, LIMITS, residency

# Capability, registers of a thread, threads of a CTA, bytes of shared memory, and the CTAs that
# cudaOccMaxActiveBlocksPerMultiprocessor of cuda_occupancy.h (CUDA 13.0) gives with all of the
# memory as shared memory. Of 20,000 random cases, in which all answers were the same, these are
# some that tell the right units and limits from wrong ones.
FITS = (
    (80, 20, 640, 47540, 3),
    (80, 21, 128, 14099, 11),
    (80, 38, 160, 0, 9),
    (80, 48, 672, 98328, 1),
    (80, 63, 64, 10902, 13),
    (80, 177, 256, 156119, 1),
    (86, 30, 192, 13597, 6),
    (86, 42, 96, 0, 13),
    (86, 42, 640, 82884, 1),
    (86, 47, 96, 0, 13),
    (86, 50, 544, 98829, 1),
    (87, 21, 512, 0, 3),
    (87, 27, 224, 116100, 1),
    (87, 33, 96, 0, 16),
    (87, 54, 992, 106809, 1),
    (87, 66, 448, 65650, 2),
    (87, 142, 32, 0, 12),
    (87, 170, 128, 0, 2),
    (87, 194, 288, 5187, 0),
    (89, 20, 32, 0, 24),
    (89, 41, 128, 9827, 9),
    (89, 43, 32, 96985, 1),
    (89, 81, 736, 0, 0),
    (89, 98, 64, 33889, 2),
    (90, 9, 576, 0, 3),
    (90, 36, 160, 15999, 9),
    (90, 67, 128, 128051, 1),
    (90, 91, 128, 185480, 1),
    (90, 102, 608, 37395, 0),
    (90, 104, 544, 91536, 0),
    (90, 190, 320, 101635, 0),
    (90, 196, 320, 95587, 0),
    (90, 225, 32, 32108, 7),
    (100, 25, 224, 0, 9),
    (100, 38, 288, 217667, 1),
    (100, 55, 224, 0, 5),
    (100, 58, 928, 141248, 1),
    (103, 12, 128, 15128, 14),
    (103, 28, 416, 26532, 4),
    (103, 39, 64, 0, 24),
    (103, 92, 32, 9731, 20),
    (103, 140, 224, 104429, 1),
    (120, 20, 288, 0, 5),
    (120, 65, 384, 97346, 1),
    (120, 67, 672, 97853, 1),
    (120, 107, 32, 2770, 16),
    (120, 195, 128, 50733, 1),
    (121, 12, 416, 32869, 3),
    (121, 15, 96, 5684, 15),
    (121, 15, 160, 6047, 9),
    (121, 30, 288, 29870, 3),
    (121, 40, 128, 89189, 1),
    (121, 65, 32, 0, 24),
    (121, 162, 320, 31064, 1),
    (121, 169, 352, 0, 0),
    (121, 187, 288, 0, 0),
)


@pytest.mark.parametrize(("number", "registers", "threads", "shared", "ctas"), FITS)
def test_residency(number: int, registers: int, threads: int, shared: int, ctas: int):
    found = residency(f"sm_{number}", registers, threads, shared)
    assert (found.ctas, found.warps) == (ctas, ctas * (threads // 32))


def test_the_drawn_cases_cover_every_target():
    assert {row[0] for row in FITS} == set(LIMITS)


def test_what_limits():
    for registers, threads, shared, ctas, limit in (
        (32, 1024, 0, 2, "warps"),
        (32, 32, 0, 32, "CTAs"),
        (255, 128, 0, 2, "registers"),
        (32, 128, 100 * 1024, 2, "shared memory"),
        (32, 128, 228 * 1024, 0, "shared memory"),  # more than a CTA can have
        (255, 1024, 0, 0, "registers"),
    ):
        found = residency("sm_90a", registers, threads, shared)
        assert (found.ctas, found.limit) == (ctas, limit)


def test_bytes_per_clock():
    assert H100.bytes_per_clock == pytest.approx(14.46, abs=0.01)


@pytest.mark.parametrize(
    ("target", "message"),
    [("gfx942", "no target of CUDA"), ("sm_70", "no limits are known of sm_70; known are sm_80")],
)
def test_bad_targets(target: str, message: str):
    with pytest.raises(TileError, match=message):
        residency(target, 32, 128, 0)
