"""The CPU back end equals the interpreter on every op and dtype, here and on plain x86-64."""

from __future__ import annotations

import numpy as np
import pytest
from cases import Case
from closeness import close
from conformance import all_cases, fifth

from tilec.codegen.cpu import emit
from tilec.ir.dtype import Array
from tilec.ir.interpret import interpret
from tilec.ir.source import Param
from tilec.runtime.cache import Cache
from tilec.runtime.engine import Engine
from tilec.runtime.jit import host_machine

CASES = all_cases()
BATCH = 40
# Plain x86-64 runs two fifths of the cases always, and all of them with the slow tests.
PLAIN = [pytest.param(i, start, marks=[pytest.mark.slow] if i > 1 else [])
         for i in range(5) for start in range(0, len(fifth(CASES, i)), BATCH)]  # fmt: skip


@pytest.fixture(scope="module")
def host() -> Engine:
    return Engine(Cache(None))


@pytest.fixture(scope="module")
def plain() -> Engine:
    return Engine(Cache(None), host_machine("x86-64-v2", ""))


def run(engine: Engine, case: Case) -> Array:
    """The case's output, in its carrier, from compiled code."""
    params = tuple(
        Param(p.hint, str(p.type.dtype), p.type.shape, "tensor", i)  # type: ignore[union-attr]
        for i, p in enumerate(case.func.params)
    )
    source = emit(case.func, params, engine.machine.cpu, engine.machine.features, threads=2)
    compiled = engine.load(source)
    types = {p.hint: p.type.dtype for p in case.func.params}  # type: ignore[union-attr]
    arrays = [np.ascontiguousarray(types[n].to_storage(x)) for n, x in case.inputs.items()]
    out = np.full(np.prod(case.shape) * case.out.numpy.itemsize, 0xA5, np.uint8)
    out = case.filled(out.view(case.out.numpy).reshape(case.shape), stored=True)
    engine.dispatcher("k", lambda _: compiled).launch(*arrays, out)
    return case.out.from_storage(out)


def differences(engine: Engine, cases: list[Case]) -> list[str]:
    """What is wrong with the results of cases."""
    failed: list[str] = []
    for case in cases:
        want = case.filled(np.full(case.shape, 77, case.out.carrier))
        interpret(case.func, {**case.inputs, "out": want}, {})
        got = run(engine, case)
        ok = close(got, want, case.out, case.ulps)
        if not ok.all():
            i = tuple(np.argwhere(~ok)[0])
            failed.append(
                f"{case.name}: {(~ok).sum()} differ, at {i}: {got[i]!r}, expected {want[i]!r}"
            )
    return failed


@pytest.mark.parametrize("start", range(0, len(CASES), BATCH))
def test_equals_the_interpreter(host: Engine, start: int) -> None:
    failed = differences(host, CASES[start : start + BATCH])
    assert not failed, "\n".join(failed)


@pytest.mark.parametrize(("number", "start"), PLAIN)
def test_equals_the_interpreter_on_plain_x86(plain: Engine, number: int, start: int) -> None:
    failed = differences(plain, fifth(CASES, number)[start : start + BATCH])
    assert not failed, "\n".join(failed)
