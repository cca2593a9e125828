"""The CPU back end equals the interpreter on every op and dtype, here and on plain x86-64."""

from __future__ import annotations

import numpy as np
import pytest
from cases import Case
from closeness import close
from conformance import all_cases

from tilec.codegen.cpu import emit
from tilec.ir.dtype import Array
from tilec.ir.interpret import interpret
from tilec.ir.source import Param
from tilec.runtime.cache import Cache
from tilec.runtime.engine import Engine
from tilec.runtime.jit import host_machine

CASES = all_cases()


@pytest.fixture(scope="module", params=["host", "x86-64-v2"])
def engine(request: pytest.FixtureRequest) -> Engine:
    machine = host_machine() if request.param == "host" else host_machine(request.param, "")
    return Engine(Cache(None), machine)


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


@pytest.mark.parametrize("start", range(0, len(CASES), 40))
def test_equals_the_interpreter(engine: Engine, start: int) -> None:
    failed: list[str] = []
    for case in CASES[start : start + 40]:
        want = case.filled(np.full(case.shape, 77, case.out.carrier))
        interpret(case.func, {**case.inputs, "out": want}, {})
        got = run(engine, case)
        ok = close(got, want, case.out, case.ulps)
        if not ok.all():
            i = tuple(np.argwhere(~ok)[0])
            failed.append(
                f"{case.name}: {(~ok).sum()} differ, at {i}: {got[i]!r}, expected {want[i]!r}"
            )
    assert not failed, "\n".join(failed)
