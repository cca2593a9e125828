"""Triton's interpreter gives what ours does, on every op and dtype that it computes correctly.

That leaves out bfloat16 and the floats of 8 bits, on which Triton's interpreter is wrong: so what
its compiler makes of every case is executed from PTX too. All interpreted kernels run in one child
process.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cases import Case
from closeness import close
from conformance import all_cases, fifth

from tilec.codegen.triton import emit
from tilec.ir.core import Block, Func
from tilec.ir.dtype import Array
from tilec.ir.errors import TileError
from tilec.ir.interpret import interpret
from tilec.ir.ops import cast, control
from tilec.ir.source import KernelSource

pytest.importorskip("triton")
from triton_ptx import executed

WRONG_THERE = {"bf16", "e4m3", "e5m2"}
ULPS = 4.0  # of the functions that are not exact
REFUSED = (
    "become narrower floats by nearest rounding only",
    "no code for stochastic rounding",
    "no code for values of",
    "no code for casts that saturate to i64",
    "no code for products of",
    "that round once",
    "no code for sums of",
)
# A fifth of the cases is run always, all of them with the slow tests.
FIFTHS = [pytest.param(i, marks=[pytest.mark.slow] if i else []) for i in range(5)]
RUN = """
import importlib.util, pickle, sys
from pathlib import Path
import torch
found = {}
for name, text, arrays in pickle.loads(Path(sys.argv[1]).read_bytes()):
    Path(sys.argv[2]).write_text(text)
    try:
        spec = importlib.util.spec_from_file_location("kernel", sys.argv[2])
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        tensors = [torch.from_numpy(a) for a in arrays]
        module.k(*tensors)
        found[name] = tensors[-1].numpy()
    except Exception as e:
        found[name] = repr(e.__cause__ or e)
Path(sys.argv[1]).write_bytes(pickle.dumps(found))
"""


def gridded(func: Func) -> Func:
    """The function as one program, if it has no loop over tiles."""
    if any(isinstance(op, control.Grid) for op in func.body.ops):
        return func
    whole = control.Grid((), (), (), Block((), func.body.ops))
    return Func(func.name, Block(func.params, (whole,)))


def defined(case: Case) -> Case:
    """The case without what Triton leaves undefined: floats beyond an i64."""
    ops = list(case.func.walk())
    x = case.inputs.get("x0", np.zeros(1))
    wide = case.out.is_integer and case.out.bits == 64
    if wide and any(isinstance(op, cast.Cast) for op in ops) and x.dtype.kind == "f":
        case.inputs["x0"] = np.where(np.abs(x) < 2.0**62, x, 2.5)
    return case


@pytest.mark.parametrize("number", FIFTHS)
def test_equals_the_interpreter(number: int, tmp_path: Path) -> None:
    known = [c for c in all_cases() if not WRONG_THERE & set(c.name.split("-"))]
    cases = {c.name: defined(c) for c in fifth(known, number)}
    jobs: list[tuple[str, str, list[Array]]] = []
    for case in cases.values():
        types = {p.hint: p.type.dtype for p in case.func.params}  # type: ignore[union-attr]
        try:
            text = emit(gridded(case.func)).text
        except TileError as e:
            if not any(r in str(e) for r in REFUSED):
                raise
            continue
        arrays = [np.ascontiguousarray(types[n].to_storage(x)) for n, x in case.inputs.items()]
        poison = case.filled(np.full(case.shape, 0xA5, np.uint8).astype(case.out.numpy), True)
        jobs.append((case.name, text, [*arrays, poison]))
    assert len(jobs) > 600 / len(FIFTHS)
    data, kernel = tmp_path / "data", tmp_path / "kernel.py"
    data.write_bytes(pickle.dumps(jobs))
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", RUN, str(data), str(kernel)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    results = pickle.loads(data.read_bytes())
    failed = [f for name, got in results.items() if (f := difference(cases[name], got))]
    assert not failed, f"{len(failed)} differ:\n" + "\n".join(failed)


def difference(case: Case, raw: Array | str) -> str:
    """What is wrong with a result, or nothing."""
    if isinstance(raw, str):
        return f"{case.name}: {raw}"
    want = case.filled(np.full(case.shape, 77, case.out.carrier))
    interpret(case.func, {**case.inputs, "out": want}, {})
    got = case.out.from_storage(raw)
    ok = close(got, want, case.out, ULPS if case.ulps else 0.0)
    if ok.all():
        return ""
    i = tuple(np.argwhere(~ok)[0])
    return f"{case.name}: {(~ok).sum()} differ, at {i}: {got[i]!r}, expected {want[i]!r}"


BATCH = 20
LEFT_OUT = ("carried",)  # Triton 3.9 compiles without end where a loop carries what it transposes
# Where what Triton makes of a function is not the function: the operands on which it is compared.
LIMITS = {
    "exp": 1.0,  # 2 ** (x * log2(e)), off by x units
    "exp2": 120.0,
}
LEAST = 1e-30  # subnormal float32 operands and results of these are taken for 0
FLUSHED = ("exp2", "rsqrt", "erf", "ceil", "floor", "sin", "cos", "tanh", "log", "log2")


def restricted(case: Case) -> Case:
    """The case without the operands that LIMITS and FLUSHED name."""
    name, x = case.name.split("-")[0], case.inputs.get("x0")
    if x is not None and name in LIMITS:
        x = case.inputs["x0"] = np.where(np.abs(x) <= LIMITS[name], x, 0.5)
    if x is not None and name in FLUSHED:
        case.inputs["x0"] = np.where((np.abs(x) < LEAST) & (x != 0), 0.25, x)
    return case


COMPILED = [restricted(defined(c)) for c in all_cases() if not c.name.startswith(LEFT_OUT)]


def sources(start: int) -> list[tuple[int, KernelSource]]:
    """The sources of a batch, by number of the case; refusals must be known ones."""
    found: list[tuple[int, KernelSource]] = []
    for i in range(start, min(start + BATCH, len(COMPILED))):
        try:
            found.append((i, emit(gridded(COMPILED[i].func))))
        except TileError as e:
            if not any(r in str(e) for r in REFUSED):
                raise
    return found


@pytest.mark.slow
@pytest.mark.parametrize("start", range(0, len(COMPILED), BATCH))
def test_compiled_code_equals_the_interpreter(start: int) -> None:
    failed: list[str] = []
    for i, source in sources(start):
        case = COMPILED[i]
        types = {p.hint: p.type.dtype for p in case.func.params}  # type: ignore[union-attr]
        given = {n: np.ascontiguousarray(types[n].to_storage(x)) for n, x in case.inputs.items()}
        given["out"] = np.full(case.shape, 0xA5, np.uint8).astype(case.out.numpy)
        case.filled(given["out"], stored=True)
        try:
            report = executed(source, given)
        except TileError as e:
            failed.append(f"{case.name}: {str(e)[:300]}")
            continue
        want = case.filled(np.full(case.shape, 77, case.out.carrier))
        interpret(case.func, {**case.inputs, "out": want}, {})
        got = case.out.from_storage(given["out"])
        ok = close(got, want, case.out, ULPS if case.ulps else 0.0)
        if not ok.all() or not report.clean:
            at = tuple(np.argwhere(~ok)[0]) if not ok.all() else ()
            failed.append(f"{case.name}: {(~ok).sum()} differ, at {at}: {got[at]!r}, expected "
                          f"{want[at]!r}; {report}")  # fmt: skip
    assert not failed, "\n".join(failed)
