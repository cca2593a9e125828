"""Both launchers: what a kernel receives, when it is specialised anew, and what is refused."""

# The tests look into unions that they have just made.
# pyright: reportAttributeAccessIssue=false, reportArgumentType=false
# pyright: reportPossiblyUnboundVariable=false

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

# Slot 0 is the address of i64 words: copy the first 6 slots there.
from launching import (
    DTYPES,
    TORCH,
    Packed,
    Recorder,
    f32_bits,
    f64_bits,
    scalar,
    tensor,
)

from tilec.ir.errors import TileError
from tilec.ir.source import Param
from tilec.runtime.arguments import describe, launch_key, read
from tilec.runtime.jit import LoadedModule
from tilec.runtime.launch import Launcher
from tilec.runtime.native import NativeLauncher


def test_a_kernel_gets_the_addresses_of_tensors(launcher: Launcher, record: LoadedModule) -> None:
    call = Recorder(launcher, record, tensor(2), tensor(1))
    array = np.arange(24, dtype=np.float32).reshape(4, 6)[1:, 2:]
    matrix = torch.arange(24.0).reshape(4, 6)[2:, 1:]
    for _ in range(2):
        seen = call(array, matrix)
        assert seen[:3] == [call.out.ctypes.data, matrix.data_ptr(), array.ctypes.data]
    assert call.compiled == 1


def test_a_parameter_and_a_memory_map_are_tensors(
    launcher: Launcher, record: LoadedModule, tmp_path: Path
) -> None:
    call = Recorder(launcher, record, tensor(1), tensor(2))
    parameter = torch.nn.Parameter(torch.ones(3, 5))
    mapped = np.memmap(tmp_path / "weights", np.int16, "w+", shape=(4, 4))
    assert call(parameter, mapped)[1:3] == [parameter.data_ptr(), mapped.ctypes.data]


def test_a_kernel_gets_the_components_of_packed_tensors(
    launcher: Launcher, record: LoadedModule
) -> None:
    def part(name: str, place: int) -> Param:
        return Param("w", "u8", (8,), "packed", 1, name, place)

    call = Recorder(launcher, record, part("scales", 1), part("codes", 0))
    packed = Packed(5, 6, [0x1000, 0x2000, 0x3000])
    assert call(packed)[1:3] == [0x2000, 0x1000]
    assert call(Packed(5, 6, [0x10, 0x20, 0x30]))[1:3] == [0x20, 0x10]
    assert call.compiled == 1
    for other in (Packed(4, 6, [1, 2, 3]), Packed(5, 7, [1, 2, 3]), Packed(5, 6, [1, 2])):
        assert call(other)[1:3] == [2, 1]
    assert call.compiled == 4


@pytest.mark.parametrize(
    ("dtype", "value", "bits"),
    [
        ("i64", -(2**63), -(2**63)),
        ("i64", 2**63 - 1, 2**63 - 1),
        ("i32", -1, -1),
        ("u32", 2**32 - 1, 2**32 - 1),
        ("i8", True, 1),
        ("bool", True, 1),
        ("f64", 0.1, f64_bits(0.1)),
        ("f64", -1.0, f64_bits(-1.0)),
        ("f64", 3, f64_bits(3.0)),
        ("f32", 0.1, f32_bits(0.1)),
        ("f32", 1e300, f32_bits(np.inf)),
        ("f32", 7, f32_bits(7.0)),
        ("i32", np.int16(-9), -9),
        ("f64", np.float32(0.5), f64_bits(0.5)),
        ("f32", ml_dtypes.bfloat16(1.5), f32_bits(1.5)),
    ],
)
def test_a_kernel_gets_the_values_of_scalars(
    launcher: Launcher, record: LoadedModule, dtype: str, value: Any, bits: int
) -> None:
    call = Recorder(launcher, record, scalar(dtype))
    assert call(value)[1] == bits
    assert call(value)[1] == bits
    assert call.compiled == 1


@pytest.mark.parametrize(
    ("dtype", "good", "bad"),
    [("i8", 127, 128), ("u8", 0, -1), ("u32", 1, 2**32), ("i64", 1, 2**63), ("bool", 1, 2)],
)
def test_an_integer_out_of_range_is_refused_first_and_later(
    launcher: Launcher, record: LoadedModule, dtype: str, good: int, bad: int
) -> None:
    call = Recorder(launcher, record, scalar(dtype))
    with pytest.raises(TileError, match=f"argument 2 is {bad}: expected"):
        call(bad)
    assert call(good)[1] == good
    with pytest.raises(TileError, match=f"argument 2 is {bad}: expected"):
        call(bad)
    assert call.out.tolist() == [-77] * 6


def test_each_specialisation_is_compiled_once(launcher: Launcher, record: LoadedModule) -> None:
    call = Recorder(launcher, record, tensor(1))
    base = np.arange(64, dtype=np.float32)
    frozen = base[:16].reshape(4, 4)
    frozen.flags.writeable = False
    square = base[:16].reshape(4, 4)
    matrix = torch.arange(64.0)[:16].reshape(4, 4)
    variants: list[Any] = [
        square,
        square.T,
        base[:16].reshape(2, 8),
        base[:16],
        base.reshape(8, 8)[:4, :4],
        square.view(np.int32),
        square.astype(">f4"),
        frozen,
        np.zeros((0, 4), np.float32),
        np.full((), 3.0, np.float32),
        matrix,
        matrix.t(),
        matrix.view(torch.int32),
        torch.zeros(0, 4),
        torch.tensor(2.0),
    ]
    for repeat in range(3):
        for count, variant in enumerate(variants, 1):
            address = variant.ctypes.data if isinstance(variant, np.ndarray) else variant.data_ptr()
            assert call(variant)[1] == address
            assert call.compiled == (count if repeat == 0 else len(variants))


def test_the_type_of_a_scalar_specialises_and_its_value_does_not(
    launcher: Launcher, record: LoadedModule
) -> None:
    call = Recorder(launcher, record, scalar("f64"))
    for value in (1.5, 2.5, -1.0, 3, 4, True):
        assert call(value)[1] == f64_bits(float(value))
    assert call.compiled == 3


def test_hundreds_of_specialisations(launcher: Launcher, record: LoadedModule) -> None:
    call = Recorder(launcher, record, tensor(1))
    arrays = [np.ones((n, 3), np.float32) for n in range(1, 301)]
    for array in [*arrays, *reversed(arrays)]:
        assert call(array)[1] == array.ctypes.data
    assert call.compiled == 300


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes_have_one_name_and_the_launchers_one_key(
    native: NativeLauncher, record: LoadedModule, dtype: str
) -> None:
    array = np.ones((3, 4), DTYPES[dtype])[:, ::2]
    matrix = torch.ones(3, 4).to(TORCH[dtype])[:, ::2]
    for argument in (array, matrix):
        seen = describe(argument)
        assert (seen.dtype, seen.shape, seen.strides) == (dtype, (3, 2), (4, 2))
        assert (seen.device, seen.writable, seen.aligned) == ("cpu", True, True)
        call = Recorder(native, record, tensor(1))
        call(argument)
        readings = [read(call.out), read(argument)]
        assert list(call.dispatcher._compiled) == [launch_key(readings)]


def test_the_launchers_form_one_key_of_many_arguments(
    native: NativeLauncher, record: LoadedModule
) -> None:
    call = Recorder(native, record)
    eight = np.ones((1, 2, 1, 2, 1, 2, 1, 2), np.int8)
    arguments = [eight, 1, 2.0, True, None, Packed(-3, 2**40, [1]), torch.ones(2, 1, 2), eight.T]
    many = arguments * 3
    call(*many)
    assert list(call.dispatcher._compiled) == [launch_key([read(a) for a in [call.out, *many]])]


class Strange(torch.Tensor):
    """A subclass may mean anything by its elements."""


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("text", "argument 2 is a builtins.str: expected a numpy array"),
        ([1, 2], "argument 2 is a builtins.list"),
        (1j, "argument 2 is a builtins.complex"),
        (np.ones((1,) * 9), "argument 2 is a tensor of 9 dimensions: expected at most 8"),
        (torch.ones((1,) * 9), "argument 2 is a tensor of 9 dimensions"),
        (torch.ones(2, device="meta"), "argument 2 is a tensor on device meta: expected one on"),
        (torch.ones(2).as_subclass(Strange), "Strange: expected a numpy array"),
        (type("Odd", (), {"tilec_handle": "x"})(), "Odd: expected a numpy array"),
        (type("Odd", (), {"tilec_handle": 0})(), "Odd: expected a numpy array"),
    ],
)
def test_an_argument_that_is_no_tensor_is_named(
    launcher: Launcher, record: LoadedModule, argument: object, message: str
) -> None:
    call = Recorder(launcher, record, tensor(1))
    for _ in range(2):
        with pytest.raises(TileError, match=message):
            call(argument)
    assert call.compiled == 0
    with pytest.raises(TileError, match="expected"):
        describe(argument)


def test_calls_of_the_wrong_form_are_refused(launcher: Launcher, record: LoadedModule) -> None:
    call = Recorder(launcher, record, tensor(1), scalar("i32", 2))
    array = np.ones(4, np.float32)
    with pytest.raises(TileError, match="t1 is argument 2, called with 1 arguments"):
        call()
    with pytest.raises(TileError, match="t1 is a tensor, called with a scalar"):
        call(3, 4)
    with pytest.raises(TileError, match="t1 is a tensor, called with a none"):
        call(None, 4)
    with pytest.raises(TileError, match="s is a scalar, called with a tensor"):
        call(array, array)
    with pytest.raises(TileError, match="s is an i32 scalar, called with a float"):
        call(array, 1.0)
    with pytest.raises(TileError, match="record called with 34 arguments: expected at most 32"):
        call(*range(33))
    with pytest.raises(TileError, match="record has no parameter `s`; it has none that has a name"):
        call.dispatcher.launch(call.out, array, s=3)


def test_an_array_that_no_kernel_can_read_is_described_as_such() -> None:
    with pytest.raises(TileError, match="dtype >f4: expected one of f64, f32"):
        describe(np.ones(3, ">f4"))
    odd = np.zeros(4, np.dtype([("a", "u1"), ("b", "f4")]))["b"]
    with pytest.raises(TileError, match=r"strides of \(5,\) bytes for elements of 4"):
        describe(odd)
