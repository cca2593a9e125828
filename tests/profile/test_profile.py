"""Profiles: what they see, and that nothing of them is left in the way of calls."""

from __future__ import annotations

import gc
import json
import threading
import time
import weakref
from pathlib import Path

import numpy as np
import pytest

import tilec as tc
from tilec.compile import Kernel
from tilec.ir.errors import TileError
from tilec.lang.text import parse
from tilec.profile import Profile, profile, report, table
from tilec.profile.recording import Timed
from tilec.profile.roofline import Ceilings

TEXT = """kernel {name}(x: f32[M, N], y: f32[M, N]) {{
  for m, n in tiles(M, N) {{ y[m, n] = x[m, n] * 2.0 + 1.0 }}
}}"""
RATES = {"f32": 1e9, "half": 2e9, "fp8": 2e9, "int8": 4e9}
HERE = Ceilings("2026-01-01T00:00:00Z", 2, ((1 << 30, 1e9),), RATES)


@pytest.fixture(autouse=True)
def ceilings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 1 GB/s and 1 G operations a second."""
    for module in (report, table):
        monkeypatch.setattr(module, "ceilings", lambda: HERE)


def kernel(name: str = "line") -> Kernel:
    return Kernel(parse(TEXT.format(name=name))[name])


def operands(m: int = 6, n: int = 10) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(0).standard_normal((m, n)).astype(np.float32)
    return x, np.full_like(x, np.nan)


def test_calls_are_counted_and_right():
    k, (x, y) = kernel(), operands()
    with tc.profile() as p:
        for _ in range(5):
            k(x, y)
    assert np.array_equal(y, x * 2 + 1)
    (row,) = p.rows()
    assert (row.kernel, row.device, row.clock) == ("line", "cpu", "host")
    assert (row.calls, row.warm, row.failed, row.nested) == (5, 4, 0, False)
    assert 0 < row.minimum <= row.median
    assert row.total >= 4 * row.minimum
    assert row.work is not None
    assert row.work.dims == {"M": 6, "N": 10}
    assert row.work.compulsory == row.work.bytes == 2 * 4 * 60
    assert row.work.operations == 2 * 60
    assert row.bound == "memory"
    assert row.share == pytest.approx(480 / 1e9 / row.median)
    assert p.start <= p.calls[0].start <= p.calls[-1].start + p.calls[-1].seconds <= p.end


def test_the_launcher_itself_is_there_again():
    k, (x, y) = kernel(), operands()
    k(x, y)
    launcher = k.__call__
    assert type(launcher).__name__ == "builtin_function_or_method"
    with profile():
        assert type(k.__call__) is Timed
        k(x, y)
    assert k.__call__ is launcher


def test_without_a_profile_nothing_stands_before_the_launcher():
    k, (x, y) = kernel(), operands()
    first = k.__call__
    with profile() as p:
        pass
    assert k.__call__ == first
    k(x, y)
    assert type(k.__call__).__name__ == "builtin_function_or_method"
    assert p.calls == []


def test_a_kernel_that_is_first_called_in_a_profile():
    k, (x, y) = kernel(), operands()
    with profile() as p:
        k(x, y)
        k(x, y)
    assert len(p.calls) == 2
    assert type(k.__call__).__name__ == "builtin_function_or_method"
    assert [c.kernel for c in p.compiles if c.kernel == "line"] == ["line"]


def test_a_kernel_that_is_made_in_a_profile():
    with profile() as p:
        k, (x, y) = kernel("later"), operands()
        k(x, y)
    assert [c.name for c in p.calls] == ["later"]
    assert not isinstance(k.__call__, Timed)


def test_a_kernel_that_lives_longer_than_a_profile_that_fails():
    k, (x, y) = kernel(), operands()

    def mine() -> None:
        with profile():
            k(x, y)
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        mine()
    assert type(k.__call__).__name__ == "builtin_function_or_method"
    with profile():
        pass


def test_one_profile_at_a_time():
    k, (x, y) = kernel(), operands()
    k(x, y)
    launcher = k.__call__
    with profile() as p:
        with pytest.raises(TileError, match="a profile is under way"), profile():
            pass
        k(x, y)
    assert len(p.calls) == 1
    assert k.__call__ is launcher


def test_a_profile_keeps_no_kernel_that_was_not_called():
    k = kernel()
    seen = weakref.ref(k)
    with profile() as p:
        del k
        gc.collect()
        assert seen() is None
    assert p.calls == []


def test_calls_that_fail_are_counted_apart():
    k, (x, y) = kernel(), operands()
    k(x, y)
    with profile() as p:
        with pytest.raises(TileError):
            k(x, y[:3])
        with pytest.raises(TileError):
            k(x, object())
        k(x, y)
    rows = p.rows()
    assert sum(r.failed for r in rows) == 2
    assert sum(r.warm for r in rows) == 1
    bad = next(r for r in rows if r.failed)
    assert (bad.median, bad.share) == (None, None)
    assert "line" in str(p)


def test_kinds_of_arguments_have_rows_of_their_own():
    k = kernel()
    with profile() as p:
        for m in (3, 5, 3):
            k(*operands(m))
    found = {r.work.dims["M"]: (r.calls, r.warm) for r in p.rows() if r.work}
    assert found == {3: (2, 1), 5: (1, 0)}


def test_threads_are_told_apart(tmp_path: Path):
    k, (x, _) = kernel(), operands()
    k(*operands())
    ready = threading.Barrier(2)

    def work() -> None:
        y = np.empty_like(x)
        ready.wait()
        for _ in range(50):
            k(x, y)

    with profile() as p:
        threads = [threading.Thread(target=work) for _ in range(2)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert len(p.calls) == 100
    assert len({c.thread for c in p.calls}) == 2
    assert [c.start for c in p.calls] == sorted(c.start for c in p.calls)
    p.trace(tmp_path / "t.json")
    found = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    assert len({e["tid"] for e in found if e["ph"] == "X"}) == 2


def test_programs_results_and_keywords():
    @tc.program
    def plus(x: tc.Tensor["M", "N"], y: tc.Tensor["M", "N"]):
        return x + y

    x, _ = operands()
    out = np.full_like(x, np.nan)
    with profile() as p:
        made = plus(x, y=x)
        assert plus(x, x, out=out) is out
    assert np.array_equal(made, 2 * x)
    assert np.array_equal(out, 2 * x)
    rows = p.rows()
    assert {r.kernel for r in rows} == {"plus"}
    assert all(r.work is not None and r.work.compulsory == 3 * 240 for r in rows)


def test_packed_weights():
    text = """kernel linear(x: f32[M, K], w: int4<group=32>[N, K], y: f32[M, N]) {
      for m, n in tiles(M, N) {
        acc = zeros(f32, [m, n])
        for k in tiles(K) { acc += dot(x[m, k], w[n, k].T) }
        y[m, n] = acc
      }
    }"""
    k = Kernel(parse(text)["linear"])
    x = np.random.default_rng(0).standard_normal((4, 64)).astype(np.float32)
    w = tc.quantize(np.random.default_rng(1).standard_normal((8, 64)), tc.int4(group=32))
    y = np.full((4, 8), np.nan, np.float32)
    with profile() as p:
        k(x, w, y)
        k(x, w, y)
    (row,) = p.rows()
    assert row.work is not None
    assert row.work.operations == 2 * 4 * 8 * 64
    weights = round(w.format.bits((8, 64)) / 8)
    assert row.work.compulsory == 4 * 4 * 64 + weights + 4 * 4 * 8
    assert row.work.types["w"] == str(w.format)
    assert not row.work.sparse


def test_sparse_weights_are_bound_by_what_is_stored():
    @tc.kernel
    def k(x: tc.Tensor["M", "K"], w: tc.Tensor["N", "K"], y: tc.Tensor["M", "N"]):
        for m, n in tc.tiles("M", "N"):
            acc = tc.zeros(tc.f32, [m, n])
            for k in tc.tiles("K"):
                acc += tc.dot(x[m, k], w[n, k].T)
            y[m, n] = acc

    values = np.random.default_rng(1).standard_normal((64, 64))
    w = tc.sparsify(values, tc.block(16, 16), density=0.25)
    x, y = np.ones((4, 64), np.float32), np.full((4, 64), np.nan, np.float32)
    with profile() as p:
        k(x, w, y)
        k(x, w, y)
    (row,) = p.rows()
    assert row.work is not None
    assert row.work.sparse
    assert row.bound == "memory"
    assert row.work.compulsory < 4 * (4 * 64 + 64 * 64 // 2 + 4 * 64)
    assert row.work.operations == 2 * 4 * 64 * 64


def test_texts_and_documents():
    k = Kernel(parse(TEXT.format(name="line"))["line"])
    k.name = "line\n\x1b[31m[bold]"
    with profile() as p:
        k(*operands())
        k(*operands())
    said = str(p)
    assert "M=6" in said
    assert "\x1b" not in said
    assert "[bold]" in said
    assert "measured 2026-01-01" in said
    document = json.loads(json.dumps(p.as_json()))
    assert document["ceilings"]["reads"] == [[1 << 30, 1e9]]
    (row,) = document["kernels"]
    assert row["work"]["operations"] == 120
    assert any(c["stages"] for c in document["compiles"])


def test_the_time_is_that_of_the_call(monkeypatch: pytest.MonkeyPatch):
    k, (x, y) = kernel(), operands()
    k(x, y)
    launcher = k.__call__

    def slow(*arguments: object) -> None:
        time.sleep(0.02)
        launcher(*arguments)

    k.__call__ = slow
    with profile() as p:
        k(x, y)
    assert 0.02 <= p.calls[0].seconds < 2
    assert k.__call__ is slow
    assert isinstance(p, Profile)
