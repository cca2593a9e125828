"""Compiling, loading and showing modules."""

from __future__ import annotations

import ctypes

import pytest

from tilec.ir.errors import TileError
from tilec.runtime.jit import Machine, assembly, compile_object, host_machine, load_object

AXPY = """
declare double @scale_of(i64)
define double @axpy(double %x, double %y) {
  %a = call double @scale_of(i64 3)
  %p = fmul double %a, %x
  %s = fadd double %p, %y
  ret double %s
}
"""
WIDE = """
define void @double8(ptr %p) {
  %x = load <8 x double>, ptr %p, align 8
  %y = fadd <8 x double> %x, %x
  store <8 x double> %y, ptr %p, align 8
  ret void
}
"""


def test_code_calls_imported_symbols(machine: Machine) -> None:
    scale = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_int64)(lambda n: n * 0.5)
    address = ctypes.cast(scale, ctypes.c_void_p).value or 0
    image = compile_object(AXPY, machine)
    module = load_object(image, ["axpy"], {"scale_of": address})
    axpy = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double, ctypes.c_double)(module["axpy"])
    assert axpy(4.0, 0.25) == 6.25


def test_one_object_loads_twice_with_different_imports(machine: Machine) -> None:
    image = compile_object(AXPY, machine)
    results: list[float] = []
    for factor in (2.0, 5.0):
        scale = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_int64)(lambda n, f=factor: n * f)
        address = ctypes.cast(scale, ctypes.c_void_p).value or 0
        module = load_object(image, ["axpy"], {"scale_of": address})
        axpy = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double, ctypes.c_double)(module["axpy"])
        results.append(axpy(1.0, 1.0))
    assert results == [7.0, 16.0]


def test_another_cpu_gets_code_of_its_own() -> None:
    old = host_machine("x86-64-v2")
    new = host_machine("x86-64-v4")
    assert "zmm" in assembly(WIDE.replace("{", '"prefer-vector-width"="512" {', 1), new)
    assert "zmm" not in assembly(WIDE, old)
    assert "ymm" not in assembly(WIDE, old)
    assert old.made_by != new.made_by


def test_fallback_code_runs_here() -> None:
    module = load_object(compile_object(WIDE, host_machine("x86-64-v2")), ["double8"])
    data = (ctypes.c_double * 8)(*range(1, 9))
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(module["double8"])(data)
    assert list(data) == [2.0 * i for i in range(1, 9)]


def test_bad_text_is_an_error_with_its_place(machine: Machine) -> None:
    with pytest.raises(TileError, match="LLVM does not accept the generated code"):
        compile_object("define void @f() { ret i32 1 }", machine)


def test_a_missing_symbol_is_an_error(machine: Machine) -> None:
    with pytest.raises(TileError, match=r"can't load compiled code.*axpy"):
        load_object(compile_object(AXPY, machine), ["axpy"])


def test_a_damaged_object_is_an_error(machine: Machine) -> None:
    with pytest.raises(TileError, match="can't load compiled code"):
        load_object(compile_object(AXPY, machine)[:100], ["axpy"])
