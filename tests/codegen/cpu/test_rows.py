"""Kernels of rows: what their inner loops do for a vector, and that what is left out changes no
bit."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import tilec as tc
from tilec.cpu import cpu_source
from tilec.ir.dtype import Array
from tilec.ir.format import Dense
from tilec.ops import losses, norm
from tilec.runtime.jit import assembly, host_machine

WIDE = "+avx512f,+avx512bw,+avx512vl,+avx512dq,+avx512bf16,+avx2,+fma"
VECTORS = 4  # of an inner loop


@tc.kernel
def shares(x: tc.Tensor["M", "N"], s: tc.Tensor["M"], y: tc.Tensor["M", "N"]):
    for m in tc.tiles("M"):
        y[m, :] = x[m, :] / s[m][:, None]


@tc.kernel
def rounded(x: tc.Tensor["M", "N"], y: tc.Tensor["M", "N", tc.bf16]):
    for m in tc.tiles("M"):
        y[m, :] = (x[m, :] * 1.0).to(tc.bf16)


def hard(divisors: Array) -> list[tuple[int, int]]:
    """Pairs (a, b) of 24 bits whose quotients lie as near as may be to the middle of two floats:
    a * 2**k and an odd multiple of b differ by s."""
    found: list[tuple[int, int]] = []
    for b in map(int, divisors):
        for k in (24, 25):
            for s in (1, -1, 3, -3):
                a = s * pow(1 << k, -1, b) % b
                found += [(n, b) for n in (a, a + b) if 1 << 23 <= n < 1 << 24]
    return found


def test_quotients_by_a_number_of_a_row_are_exact():
    rng = np.random.default_rng(1)
    some = rng.integers(1 << 23, 1 << 24, 30)
    divisors = np.concatenate([some, (1 << 23) + np.arange(9), (1 << 24) - np.arange(1, 10)]) | 1
    of = {int(b): [a for a, d in hard(np.array([b])) if d == b] for b in divisors}
    x = np.array([[*of[int(b)], *rng.integers(1 << 23, 1 << 24, 250 - len(of[int(b)]))]
                  for b in divisors], np.float32)  # fmt: skip
    s = np.array(divisors, np.float32) * np.float32(2.0) ** rng.integers(-40, 40, len(divisors))
    y = np.full_like(x, np.nan)
    shares(x, s.astype(np.float32), y)
    assert y.tobytes() == (x / s.astype(np.float32)[:, None]).tobytes()


def test_quotients_of_no_common_size_are_exact():
    rng = np.random.default_rng(2)
    odd = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -3e-39, 3e38, -1e-30, 2.0**-80, 2.0**-100]
    s = np.array([*odd, 1.0, 3.0, 1e-7, 1e30, 1e-38, 7e37], np.float32)
    x = (rng.standard_normal((len(s), 321)) * 2.0 ** rng.integers(-149, 127, (len(s), 321))).astype(
        np.float32
    )
    x[:, 64:75] = odd
    x[:, 128:192] = 0
    y = np.full_like(x, 7)
    shares(x, s, y)
    with np.errstate(all="ignore"):
        want = x / s[:, None]
    same = (y.view(np.int32) == want.view(np.int32)) | (np.isnan(y) & np.isnan(want))
    assert same.all(), np.argwhere(~same)[:5]


@pytest.mark.parametrize("columns", [15, 32, 64, 100, 367])
def test_floats_are_stored_as_the_nearest_bf16(columns):
    rng = np.random.default_rng(columns)
    x = rng.integers(0, 1 << 32, (64, columns), np.uint32).view(np.float32)
    x[1::2] = x.view(np.uint32)[1::2] & np.uint32(0xFFFF8000)  # as bits: in the middle of two
    x.view(np.uint32)[1::2] = rng.integers(0, 1 << 17, x[1::2].shape, np.uint32) << 15
    x[::8] = x[::8].view(np.uint32).__and__(0x807FFFFF).view(np.float32)  # below the normal ones
    y = np.full(x.shape, 7, ml_dtypes.bfloat16)
    rounded(x, y)
    with np.errstate(all="ignore"):
        want = x.astype(ml_dtypes.bfloat16)
    nan = np.isnan(x)
    assert np.isnan(y[nan].astype(np.float32)).all()
    assert np.array_equal(y.view(np.uint16)[~nan], want.view(np.uint16)[~nan])


@pytest.mark.parametrize("words", [33, 1000, 8192, 9000])
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_the_loss_reads_the_target_wherever_it_is(words, dtype):
    rng = np.random.default_rng(words)
    x = (3 * rng.standard_normal((6, words))).astype(dtype)
    x[5, :] = np.where(np.arange(words) == 2, 1, -np.inf).astype(dtype)  # others are not looked at
    target = np.array([0, words - 1, min(words - 1, 8191), -1, words // 2, 2], np.int32)
    found = losses.cross_entropy(x, target)
    wide = x.astype(np.float64)
    most = wide.max(1)
    total = np.log(np.exp(wide - most[:, None]).sum(1)) + most
    own = np.where(target < 0, 0, wide[np.arange(6), target])  # beyond the row is none
    assert np.linalg.norm(found - (total - own)) < 1e-5 * np.linalg.norm(total)


def loops(kernel: Any, types: dict[str, Any], dims: dict[str, int]) -> list[list[str]]:
    """The instructions of each inner loop of the code for a processor with AVX512 and bf16."""
    machine = host_machine("sapphirerapids", WIDE)
    host = SimpleNamespace(machine=machine, pool=SimpleNamespace(threads=2))
    source = cpu_source(kernel.kernel(**types).definition, types, dims, host)  # type: ignore[arg-type]
    lines = [line.strip() for line in assembly(source.text, machine).splitlines()]
    found: list[list[str]] = []
    start: dict[str, int] = {}
    for i, line in enumerate(lines):
        if label := re.match(r"(\.LBB\S+):", line):
            start[label[1]] = i
        if (back := re.match(r"j\w+\s+(\.LBB\S+)", line)) and back[1] in start:
            body = [x for x in lines[start[back[1]] : i + 1] if re.match(r"[a-z]", x)]
            again = any(re.match(r"j\w+\s+\.LBB", x) and x.split()[1] in start
                        and start[x.split()[1]] > start[back[1]] for x in body[:-1])  # fmt: skip
            found += [] if again else [body]
    return found


def vectors(body: list[str]) -> list[str]:
    """The instructions on whole vectors that are no moves."""
    return [x for x in body if "%zmm" in x and not x.startswith(("vmov", "vbroadcast"))]


def with_most(found: list[list[str]], name: str) -> list[str]:
    """The loop with the most instructions of a name."""
    return max(found, key=lambda body: sum(x.startswith(name) for x in body))


@pytest.mark.parametrize(("dtype", "load"), [("bf16", 2), ("f32", 0)])
def test_an_exponential_takes_few_instructions(dtype, load):
    types = {"x": Dense(getattr(tc, dtype))}
    found = loops(norm.softmax, types, {"M": 64, "N": 4096})
    body = with_most(found, "vscalefps")
    assert sum(x.startswith("vscalefps") for x in body) == VECTORS
    # less the maximum; held (2); whole (2); the rest (2); polynomial (6); scaled
    assert len(vectors(body)) <= VECTORS * (load + 1 + 2 + 2 + 2 + 6 + 1)
    assert not any(x.startswith("vrndscale") for x in body)


def test_softmax_of_bf16_divides_and_rounds_in_few_instructions():
    types = {"x": Dense(tc.bf16)}
    body = with_most(loops(norm.softmax, types, {"M": 64, "N": 4096}), "vcvtne2ps2bf16")
    assert sum(x.startswith("vcvtne2ps2bf16") for x in body) == VECTORS // 2
    # a product, two steps to the quotient; its size (2); normal; half an instruction that rounds
    assert len(vectors(body)) <= VECTORS * 6.5
    assert not any(x.startswith("vdivps") for x in body)


def test_a_norm_reads_and_rounds_in_few_instructions():
    types = {"x": Dense(tc.bf16), "gain": Dense(tc.bf16)}
    found = loops(norm.rms, types, {"M": 64, "N": 4096})
    results = with_most(found, "vcvtne2ps2bf16")
    squares = with_most([body for body in found if body is not results], "vmulps")
    assert len(vectors(squares)) <= VECTORS * 4  # a load (2), a square, a sum
    # loads of x and gain (4), two products, normal, half an instruction that rounds
    assert len(vectors(results)) <= VECTORS * 7.5


def test_differences_to_a_mean_are_not_kept():
    types: dict[str, Any] = {name: Dense(tc.f32) for name in ("x", "gain", "bias")}
    found = loops(norm.layer, types, {"M": 64, "N": 4096})
    writing = [body for body in found if any(re.match(r"vmov\w+\s+%zmm\d+, .*\(", x) for x in body)]
    assert len(writing) == 1  # the results
    assert sum(x.startswith("vsubps") for x in writing[0]) == VECTORS


def test_the_rows_behind_are_asked_for_while_exponentials_are_computed():
    found = loops(norm.softmax, {"x": Dense(tc.f32)}, {"M": 64, "N": 4096})
    asking = [body for body in found if any(x.startswith("prefetcht0") for x in body)]
    assert asking == [with_most(found, "vscalefps")]
    assert sum(x.startswith("prefetcht0") for x in asking[0]) == VECTORS
    of_bf16 = loops(norm.softmax, {"x": Dense(tc.bf16)}, {"M": 64, "N": 4096})
    body = with_most(of_bf16, "vscalefps")
    assert sum(x.startswith("prefetcht0") for x in body) == VECTORS // 2


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (5, 63), (7, 64), (33, 100), (3, 4099)])
def test_norms_of_any_size(rows, columns):
    rng = np.random.default_rng(rows)
    x = (100 + 3 * rng.standard_normal((rows, columns))).astype(np.float32)
    gain, bias = (rng.standard_normal(columns).astype(np.float32) for _ in range(2))
    wide = x.astype(np.float64)
    centred = wide - wide.mean(1, keepdims=True)
    scale = np.sqrt((centred * centred).mean(1, keepdims=True) + 1e-3)
    want = centred / scale * gain + bias
    found = np.full_like(x, np.nan)
    norm.layer(x, gain, bias, 1e-3, out=found)
    assert np.linalg.norm(found - want) < 1e-5 * np.linalg.norm(want)
    e = np.exp(wide - wide.max(1, keepdims=True))
    found[:] = np.nan
    norm.softmax(x, out=found)
    want = e / e.sum(1, keepdims=True)
    assert np.linalg.norm(found - want) < 1e-6 * np.linalg.norm(want)
